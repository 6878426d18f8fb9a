"""What all tests share: the binary under test, and one emulated account with its code."""

import os
from pathlib import Path

import pytest

from emulator import MiniStack
from stack import upload_code


@pytest.fixture(scope="session")
def bootstrap() -> Path:
    """The binary under test, without its symbols: the script `run` sees to it."""
    return Path(os.environ["JOBMILL_BOOTSTRAP"])


@pytest.fixture(scope="session")
def cloud(bootstrap):
    """The emulated account."""
    with MiniStack() as cloud:
        upload_code(cloud, bootstrap)
        yield cloud
