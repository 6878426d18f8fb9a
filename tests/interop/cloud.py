"""The cloud of the tests: MiniStack with sosw's tables and a queue bucket, and a Lambda API that records who is called.

Everything serves 127.0.0.1 at free ports, and ends with this process, however it ends.
"""

import ast
import atexit
import functools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3

ACCOUNT = "000000000000"
REGION = "us-west-2"  # sosw's SnsManager has it built in
BUCKET = "queue-bucket"
PREFIX = "sosw/scheduler"
PATIENCE = 60
"""Seconds after which something that should happen did not."""

# Key (hash, range) and indexes of each table, as in sosw's CloudFormation examples; on demand.
TABLES = {
    "sosw_tasks": {
        "key": ("task_id",),
        "index": ("sosw_tasks_greenfield", ("labourer_id", "greenfield"), "ALL"),
    },
    "sosw_closed_tasks": {
        "key": ("task_id",),
        "index": ("labourer_task_status_with_time", ("labourer_id_task_status", "closed_at"), "INCLUDE"),
    },
    "sosw_retry_tasks": {
        "key": ("labourer_id", "task_id"),
        "local_index": ("labourer_id_greenfield", ("labourer_id", "desired_launch_time"), "ALL"),
    },
    "sosw_tasks_meta": {"key": ("task_id", "created_at")},
    "config": {"key": ("env", "config_name")},
}
NUMBERS = {"greenfield", "closed_at", "desired_launch_time", "created_at"}


def function_arn(name):
    """The ARN of a function."""
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


def wait_until(condition, what, pause=0.01):
    """The first true value of `condition`, asked until it comes, each time after a pause in seconds."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(pause)
    raise AssertionError(f"{what}: not within {PATIENCE} seconds")


class Server(ThreadingHTTPServer):
    """An HTTP server at a free port, in threads of its own, whose clients may be killed."""

    daemon_threads = True

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Functions:
    """Lambda's API as far as sosw and jobmill call it: invocations are recorded, and nothing runs by itself."""

    def __init__(self):
        self._invocations = []
        functions = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                """Invoke, asynchronously."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                name = re.fullmatch(r"/2015-03-31/functions/([^/]+)/invocations", self.path)
                if not name or self.headers.get("X-Amz-Invocation-Type") != "Event":
                    return self.answer(400, {"message": f"not expected: {self.path}"})
                name = urllib.parse.unquote(name[1]).split(":")[-1]
                functions._invocations.append((name, json.loads(body)))
                return self.answer(202, None)

            def do_GET(self):
                """GetFunctionConfiguration: sosw counts retry delays from the time-out of the worker."""
                return self.answer(200, {"FunctionName": "worker", "Timeout": 60})

            def answer(self, status, value):
                body = b"" if value is None else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.endpoint = f"http://127.0.0.1:{Server(Handler).server_port}"

    def take(self, name):
        """The payloads with which that function was invoked since it was last asked, in order."""
        taken = [payload for invoked, payload in self._invocations if invoked == name]
        self._invocations[:] = [it for it in self._invocations if it[0] != name]
        return taken

    def forget(self):
        """Drops what nobody took."""
        self._invocations.clear()


class Cloud:
    """MiniStack, the resources in it, and a look at them."""

    def __init__(self):
        self.functions = Functions()
        self.endpoint = start_ministack()
        for name in [name for name in os.environ if name.startswith("AWS_")] + ["STAGE", "autotest"]:
            os.environ.pop(name, None)
        os.environ.update(
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            AWS_CONFIG_FILE=os.devnull,
            AWS_SHARED_CREDENTIALS_FILE=os.devnull,
            AWS_REGION=REGION,
            AWS_DEFAULT_REGION=REGION,
            AWS_ENDPOINT_URL=self.endpoint,
            AWS_ENDPOINT_URL_LAMBDA=self.functions.endpoint,
        )
        self.dynamodb = boto3.client("dynamodb")
        self.s3 = boto3.client("s3")
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        self.topic = boto3.client("sns").create_topic(Name="sosw_info")["TopicArn"]

    def reset(self):
        """Empty tables, an empty bucket, nobody invoked."""
        for table in self.dynamodb.list_tables()["TableNames"]:
            self.dynamodb.delete_table(TableName=table)
        for table, form in TABLES.items():
            self.dynamodb.create_table(TableName=table, BillingMode="PAY_PER_REQUEST", **table_form(form))
        for key in self.keys():
            self.s3.delete_object(Bucket=BUCKET, Key=key)
        self.functions.forget()

    def configure(self, name, value):
        """Writes a configuration into sosw's table of configurations, as sosw's `config_uploader.py` does."""
        item = {"env": "production", "config_name": name, "config_value": json.dumps(value)}
        self.dynamodb.put_item(TableName="config", Item={key: {"S": text} for key, text in item.items()})

    def items(self, table):
        """The items of a table with their types, as DynamoDB has them: `{"task_id": {"S": "..."}, ...}`."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]

    def tasks(self, table="sosw_tasks"):
        """The tasks of a table by place in the queue; the payload as an object."""
        read = {"S": str, "N": lambda text: float(text) if "." in text else int(text)}
        tasks = [
            {name: read[kind](text) for name, value in item.items() for kind, text in value.items()}
            for item in self.items(table)
        ]
        for task in tasks:
            try:
                task["payload"] = json.loads(task["payload"])
            except ValueError:  # sosw archives payloads, its own too, as Python writes them
                task["payload"] = ast.literal_eval(task["payload"])
        return sorted(tasks, key=lambda task: task["greenfield"])

    def shift(self, table, task, attribute, seconds):
        """Lets time pass for one task: moves a moment that it keeps into the past."""
        self.dynamodb.update_item(
            TableName=table,
            Key={name: {"S": task[name]} for name in TABLES[table]["key"]},
            UpdateExpression="SET #moment = #moment - :seconds",
            ExpressionAttributeNames={"#moment": attribute},
            ExpressionAttributeValues={":seconds": {"N": str(seconds)}},
        )

    def keys(self):
        """The keys of all objects in the queue bucket."""
        return [it["Key"] for it in self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def lines(self, key):
        """The lines of an object, each read as JSON."""
        text = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode()
        return [json.loads(line) for line in text.splitlines()]


@functools.cache
def shared():
    """The cloud that all tests of this process use, one after the other."""
    return Cloud()


def table_form(form):
    """A table's arguments of `create_table`."""
    arguments = {"KeySchema": key_schema(form["key"])}
    names = set(form["key"])
    for kind, argument in (("index", "GlobalSecondaryIndexes"), ("local_index", "LocalSecondaryIndexes")):
        if kind in form:
            name, key, projection = form[kind]
            projection = {"ProjectionType": projection}
            if projection["ProjectionType"] == "INCLUDE":
                projection["NonKeyAttributes"] = ["completed_at", "greenfield", "attempts"]
            arguments[argument] = [{"IndexName": name, "KeySchema": key_schema(key), "Projection": projection}]
            names.update(key)
    arguments["AttributeDefinitions"] = [
        {"AttributeName": name, "AttributeType": "N" if name in NUMBERS else "S"} for name in sorted(names)
    ]
    return arguments


def key_schema(names):
    """A hash key, and a range key if there are two names."""
    return [{"AttributeName": name, "KeyType": kind} for name, kind in zip(names, ("HASH", "RANGE"))]


def start_ministack():
    """Starts MiniStack; its endpoint."""
    # The shell leads a process group and ends it when MiniStack exits, or when its standard input closes because this
    # process is gone.
    script = '("$0" "$@"; kill -KILL 0) </dev/null & read -r _; kill -KILL 0'
    scratch = tempfile.TemporaryDirectory(prefix="jobmill-interop-")
    for _ in range(3):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        # Free a moment ago; whoever takes it first makes MiniStack exit, and another port is tried.
        process = subprocess.Popen(
            ["/bin/sh", "-c", script, str(Path(sys.executable).with_name("ministack"))],
            env={
                "PATH": os.environ["PATH"],
                "HOME": scratch.name,
                "TMPDIR": scratch.name,
                "BIND_HOST": "127.0.0.1",
                "GATEWAY_PORT": str(port),
                "IOT_MTLS_ENABLED": "0",  # else it serves MQTT at a fixed port of every address
                "SFTP_ENABLED": "0",
            },
            cwd=scratch.name,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

        def stop(process=process):
            process.stdin.close()
            process.wait()

        def answers(process=process, port=port):
            if process.poll() is not None:
                return "exited"
            with socket.socket() as client:
                return "answers" if client.connect_ex(("127.0.0.1", port)) == 0 else None

        if wait_until(answers, "MiniStack answers") == "answers":
            atexit.register(scratch.cleanup)
            atexit.register(stop)  # before the clean-up: the last registered is the first called
            return f"http://127.0.0.1:{port}"
        stop()
    raise RuntimeError("MiniStack ended before it answered, three times")
