"""MiniStack, an emulator of AWS: a process of its own, at a free port of 127.0.0.1, that ends with its starter."""

import os
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config

from waiting import until

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION}

# The shell leads a process group. It ends the group when the command exits, or when its own standard input closes,
# however that comes about.
GUARD = '("$0" "$@"; kill -KILL 0) </dev/null & read -r _; kill -KILL 0'


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def guarded(command: list, **options) -> subprocess.Popen:
    """Starts a command that dies with this process, and with it whatever it started in its group."""
    return subprocess.Popen(
        ["/bin/sh", "-c", GUARD, *map(str, command)], stdin=subprocess.PIPE, start_new_session=True, **options
    )


def end(process: subprocess.Popen) -> None:
    """Ends what `guarded` started."""
    process.stdin.close()
    process.wait()


class MiniStack:
    """An emulated account. A context: the emulator runs while it is entered."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="jobmill-e2e-")
        self.folder = Path(self._folder.name)
        self.endpoint = f"http://127.0.0.1:{free_port()}"
        self.environment = CREDENTIALS | {"AWS_ENDPOINT_URL": self.endpoint}

    def __enter__(self) -> "MiniStack":
        with (self.folder / "ministack.log").open("wb") as log:
            self._process = guarded(
                [Path(sys.executable).parent / "ministack"],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env={
                    "PATH": "/usr/bin:/bin",
                    "HOME": str(self.folder),
                    "TMPDIR": str(self.folder),
                    "BIND_HOST": "127.0.0.1",
                    "GATEWAY_PORT": self.endpoint.rpartition(":")[2],
                    "IOT_MTLS_ENABLED": "0",  # else it serves MQTT at a fixed port of every address
                    "SFTP_ENABLED": "0",
                    "AWS_ENDPOINT_URL": self.endpoint,  # it hands this to the functions it runs
                    "LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.1",  # a minute at AWS
                },
            )
        try:
            until("MiniStack answers", self._answers, seconds=60)
        except BaseException:
            print(self.log(), file=sys.stderr)
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        end(self._process)
        self._folder.cleanup()

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError("MiniStack ended before it answered")
        try:
            with urllib.request.urlopen(f"{self.endpoint}/_ministack/health", timeout=5):
                return True
        except urllib.error.URLError:
            return False

    def log(self) -> str:
        """What it has printed."""
        return (self.folder / "ministack.log").read_text(errors="replace")

    def client(self, service: str):
        """A client of boto3. Nothing is repeated: an emulator on this machine loses no answers."""
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 1}, read_timeout=120),
        )
