"""A proxy in front of the emulator's DynamoDB, which throttles what is more than so many tasks a second.

The emulator is as fast as the machine. With this a job takes as long on every machine.
"""

import contextlib
import http.client
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

THROTTLED = {
    "__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException",
    "message": "Rate of requests exceeds the allowed throughput.",
}


class _Bucket:
    """A token bucket: a token a task, so many a second, at most those of a quarter of a second."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._tokens = self._most = per_second / 4
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def take(self, tokens: int) -> bool:
        """Takes tokens, all or none."""
        with self._lock:
            now = time.monotonic()
            gained = (now - self._at) * self._per_second
            self._tokens = min(self._most, self._tokens + gained)
            self._at = now
            if enough := self._tokens >= tokens:
                self._tokens -= tokens
            return enough


@contextlib.contextmanager
def throttled(endpoint: str, tasks_per_second: float):
    """Serves DynamoDB of `endpoint` on 127.0.0.1 while the context lasts; yields where."""
    bucket = _Bucket(tasks_per_second)
    upstream = urlsplit(endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        """Passes a request on, or throttles it."""

        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            """Serves a connection, whose other end may be killed at any time."""
            with contextlib.suppress(ConnectionError):
                super().handle()

        def do_POST(self) -> None:
            """All requests to DynamoDB are posts."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["X-Amz-Target"].endswith(".BatchExecuteStatement"):
                if not bucket.take(len(json.loads(body)["Statements"])):
                    self._answer(400, json.dumps(THROTTLED).encode())
                    return
            connection = http.client.HTTPConnection(upstream, timeout=30)
            with contextlib.closing(connection):
                connection.request("POST", self.path, body, dict(self.headers))
                answer = connection.getresponse()
                self._answer(answer.status, answer.read())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_) -> None:
            """Logs nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
