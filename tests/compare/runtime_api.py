"""The Runtime API of AWS Lambda for one sandbox: events go in one at a time, answers come out.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import contextlib
import http.server
import json
import queue
import sys
import threading
import time
import uuid

SANDBOX_SECONDS = 900
ARN = "arn:aws:lambda:us-east-1:000000000000:function:scheduler"


class RuntimeApi(http.server.ThreadingHTTPServer):
    """Serves 127.0.0.1 at a free port, in threads of this process, between `with` and its end."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests, self.events, self.answers = queue.Queue(), queue.Queue(), queue.Queue()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        # The sandbox is killed when it has answered.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def address(self):
        """What belongs into AWS_LAMBDA_RUNTIME_API."""
        return f"127.0.0.1:{self.server_port}"

    def wait_for_runtime(self, process, timeout):
        """Waits until the runtime asks for an event."""
        _take(self.requests, process, timeout)

    def invoke(self, event, process, timeout):
        """One event: its answer, and the seconds from handing the one out to having the other."""
        self.events.put(json.dumps(event).encode())
        kind, answer, seconds = _take(self.answers, process, timeout)
        if kind != "response":
            raise RuntimeError(f"the function answered with an error: {answer}")
        return answer, seconds


def _take(items, process, timeout):
    """The next item; an error if the process ends before it comes."""
    deadline = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(queue.Empty):
            return items.get(timeout=0.1)
    raise RuntimeError("the runtime has ended" if process.poll() is not None else f"no answer within {timeout} s")


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    begun = 0.0  # when the last event was handed out; the requests may come by different connections

    def do_GET(self):
        """`invocation/next`: waits for an event."""
        self.server.requests.put(self.path)
        event = self.server.events.get()
        type(self).begun = time.perf_counter()
        self._send(
            200,
            event,
            {
                "Lambda-Runtime-Aws-Request-Id": str(uuid.uuid4()),
                "Lambda-Runtime-Deadline-Ms": str(int((time.time() + SANDBOX_SECONDS) * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": ARN,
            },
        )

    def do_POST(self):
        """`invocation/ID/response`, `invocation/ID/error`, `init/error`."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        seconds = time.perf_counter() - self.begun
        self._send(202, b"{}", {})
        self.server.answers.put((self.path.rsplit("/", 1)[-1], json.loads(body), seconds))

    def _send(self, status, body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
