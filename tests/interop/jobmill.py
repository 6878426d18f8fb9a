"""jobmill's Lambdas: the real binaries, each under a Runtime API of one invocation."""

import json
import os
import subprocess
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler

from cloud import Server, function_arn

SCHEDULER = ("sosw_scheduler", "JOBMILL_BOOTSTRAP")
ORCHESTRATOR = ("jobmill_orchestrator", "JOBMILL_ORCHESTRATOR")
"""A function's name, and the variable that says where its binary is."""
PATIENCE = 60
"""Seconds after which an answer that should have come did not."""


class Failed(Exception):
    """The invocation ended with an error; `kind` is its `errorType`."""

    def __init__(self, kind, message):
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class Invocation:
    """One cold start with one event."""

    def __init__(self, event, config, function=SCHEDULER, seconds=900):
        """`config` is a value of `JOBMILL_CONFIG`, or the configuration itself; `seconds` is the time that it has."""
        self._name, binary = function
        self._seconds = seconds
        self._answer = None
        self._answered = threading.Event()
        self._killed = threading.Event()
        self._server = self._serve(json.dumps(event).encode())
        self._process = subprocess.Popen(
            [os.environ[binary]],
            env={
                **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
                "AWS_LAMBDA_FUNCTION_NAME": self._name,
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_LAMBDA_LOG_GROUP_NAME": "log-group",
                "AWS_LAMBDA_LOG_STREAM_NAME": "log-stream",
                "JOBMILL_CONFIG": config if isinstance(config, str) else json.dumps(config),
            },
            stdout=subprocess.DEVNULL,
        )

    def _serve(self, event):
        """The Runtime API: the first request gets the event, the next one no answer, as in a frozen sandbox."""
        invocation, asked = self, threading.Lock()
        request_id = str(uuid.uuid4())

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if not asked.acquire(blocking=False):
                    invocation._killed.wait()
                    self.close_connection = True
                    return
                self.send_response(200)
                self.send_header("Lambda-Runtime-Aws-Request-Id", request_id)
                deadline = str(int((time.time() + invocation._seconds) * 1000))
                self.send_header("Lambda-Runtime-Deadline-Ms", deadline)
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", function_arn(invocation._name))
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(event)))
                self.end_headers()
                self.wfile.write(event)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                invocation._answer = (self.path.rsplit("/", 1)[1], body)
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()
                invocation._answered.set()

            def log_message(self, *_):
                pass

        return Server(Handler)

    def outcome(self):
        """Waits for the end; the outcome.

        :raises Failed: if the invocation ended with an error.
        """
        try:
            if not self._answered.wait(PATIENCE):
                raise AssertionError(f"no answer within {PATIENCE} seconds (exit: {self._process.poll()})")
        finally:
            self.kill()
        kind, body = self._answer
        if kind == "error":
            raise Failed(body["errorType"], body["errorMessage"])
        return body

    def answered(self):
        """Whether it has ended by itself."""
        return self._answered.is_set()

    def kill(self):
        """Ends it at once, as Lambda does at the time-out."""
        self._process.kill()
        self._process.wait()
        self._killed.set()
        self._server.shutdown()
        self._server.server_close()


def invoke(event, config):
    """Sends an event to a cold start, and waits for the outcome."""
    return Invocation(event, config).outcome()
