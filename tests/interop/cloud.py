"""The cloud of the tests: MiniStack with sosw's tables and a queue bucket, and a Lambda API that records who is called.

Everything serves 127.0.0.1 at free ports, and ends with this process, however it ends.
"""

import ast
import atexit
import functools
import json
import os
import re
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3

from ministack import MiniStack
from tables import CONFIG_TABLE, TABLES, key_names

ACCOUNT = "000000000000"
REGION = "us-west-2"  # sosw's SnsManager has it built in
BUCKET = "queue-bucket"
PREFIX = "sosw/scheduler"


def function_arn(name):
    """The ARN of a function."""
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


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
        self._lock = threading.Lock()  # an invocation may come while others are taken
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
                with functions._lock:
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
        with self._lock:
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
        self.endpoint = started_ministack().endpoint
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
        for definition in (*TABLES.values(), CONFIG_TABLE):
            self.dynamodb.create_table(**definition)
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
        """The tasks of a table by place in the queue; the payload as an object, `last_error` with its types."""
        read = {"S": str, "N": lambda text: float(text) if "." in text else int(text), "M": dict}
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
            Key={name: {"S": task[name]} for name in key_names(table)},
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


def started_ministack():
    """MiniStack, which ends with this process."""
    ministack = MiniStack()
    ministack.__enter__()
    atexit.register(ministack.__exit__)
    return ministack
