"""What all tests share: the binaries under test, and one emulated account with their code."""

import os
from pathlib import Path

import pytest

from emulator import Account
from stack import upload_code


@pytest.fixture(scope="session")
def bootstrap() -> Path:
    """The binary under test, which the script `run` has stripped of its symbols."""
    return Path(os.environ["JOBMILL_BOOTSTRAP"])


@pytest.fixture(scope="session")
def cloud(bootstrap):
    """The emulated account."""
    with Account() as cloud:
        orchestrator = Path(os.environ["JOBMILL_ORCHESTRATOR"])
        upload_code(cloud, {"Scheduler": bootstrap, "Orchestrator": orchestrator})
        yield cloud
