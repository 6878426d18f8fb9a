"""MiniStack, an emulator of AWS: a process of its own, at a free port of 127.0.0.1, that ends with its starter."""

import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from waiting import until

ATTEMPTS = 3
"""So many ports are tried."""

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
    """An emulated account, with a folder for whatever belongs to it. A context: it runs while it is entered."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="jobmill-ministack-")
        self.folder = Path(self._folder.name)
        self.endpoint = ""

    def __enter__(self) -> "MiniStack":
        try:
            for _ in range(ATTEMPTS):
                self._start()
                # The port was free a moment ago; whoever takes it first makes MiniStack exit.
                if until("MiniStack answers", self._state, seconds=60) == "answers":
                    return self
                end(self._process)
            raise RuntimeError(f"MiniStack ended before it answered, {ATTEMPTS} times")
        except BaseException:
            print(self.log(), file=sys.stderr)
            self.__exit__()
            raise

    def __exit__(self, *_) -> None:
        end(self._process)
        self._folder.cleanup()

    def _start(self) -> None:
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        with (self.folder / "ministack.log").open("wb") as log:
            self._process = guarded(
                [Path(sys.executable).with_name("ministack")],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env={
                    "PATH": "/usr/bin:/bin",
                    "HOME": str(self.folder),
                    "TMPDIR": str(self.folder),
                    "BIND_HOST": "127.0.0.1",
                    "GATEWAY_PORT": str(port),
                    "IOT_MTLS_ENABLED": "0",  # else it serves MQTT at a fixed port of every address
                    "SFTP_ENABLED": "0",
                    "AWS_ENDPOINT_URL": self.endpoint,  # it hands this to the functions it runs
                    "LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.1",  # a minute at AWS
                },
            )

    def _state(self) -> str:
        """Whether it answers or has ended; empty while neither is so."""
        if self._process.poll() is not None:
            return "ended"
        try:
            with urllib.request.urlopen(f"{self.endpoint}/_ministack/health", timeout=5):
                return "answers"
        except urllib.error.URLError:
            return ""

    def log(self) -> str:
        """What it has printed."""
        return (self.folder / "ministack.log").read_text(errors="replace")
