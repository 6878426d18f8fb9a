"""What is compared, and where it runs: sosw's Scheduler, jobmill, and moto as the AWS of both. For Linux."""

import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import boto3

from runtime_api import RuntimeApi
from tables import TABLES

HERE = Path(__file__).resolve().parent
# A server has answered by then; importing Python modules takes seconds on a busy machine.
PATIENCE = 60
# A step of either side has ended by then.
LONG = 3600

KEYS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_DEFAULT_REGION": "us-east-1"}
SCHEMA = {"chunkable_attrs": [["section", {}], ["store", {}], ["product", {}]]}
# One for both. The last two keys are jobmill's: sosw knows no bound, and moto has no PartiQL that `insert` could use.
CONFIG = {
    "queue_bucket": "queue",
    "job_schema": SCHEMA,
    "job_schema_variants": {"default": SCHEMA},
    "task_config": {"labourers": {"report": {}}},
    "meta_handler_config": {"write_meta_to_ddb": False},
    "max_tasks_per_job": 100_000_000,
    "task_writes": "overwrite",
}


@contextlib.contextmanager
def one_core():
    """Processes that are started in this context run on one core, the last."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def cpu_seconds(pid):
    """CPU time of a running process, by its clock (see clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def _end_with_parent():
    """Asks the kernel to kill this process when the one that started it ends, however that comes about."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class Moto:
    """A moto server at 127.0.0.1, in a process of its own, between `with` and its end."""

    def __init__(self, folder):
        self.log = folder / "moto.log"

    def __enter__(self):
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [Path(sys.prefix) / "bin/moto_server", "--host", "127.0.0.1", "--port", "0"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,
            )
        try:
            self.endpoint = self._wait_for_endpoint()
        except BaseException:
            self.__exit__()
            raise
        session = boto3.Session(*KEYS.values(), region_name=KEYS["AWS_DEFAULT_REGION"])
        self.s3 = session.client("s3", endpoint_url=self.endpoint)
        self.dynamodb = session.client("dynamodb", endpoint_url=self.endpoint)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def _wait_for_endpoint(self):
        """Waits until moto has logged which free port it took."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", self.log.read_text()):
                return found[1]
            time.sleep(0.05)
        raise RuntimeError(f"moto does not answer: {self.log.read_text()}")

    def reset(self):
        """Leaves an empty bucket and sosw's tables, on demand and empty."""
        urllib.request.urlopen(f"{self.endpoint}/moto-api/reset", data=b"").close()
        self.s3.create_bucket(Bucket=CONFIG["queue_bucket"])
        for definition in TABLES.values():
            self.dynamodb.create_table(**definition)

    def payloads(self):
        """The payloads of the tasks, in the order of their queue."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName="sosw_tasks")
        tasks = [task for page in pages for task in page["Items"]]
        tasks.sort(key=lambda task: int(task["greenfield"]["N"]))
        return [task["payload"]["S"] for task in tasks]


class Side:
    """What both have: a folder for their files, an environment, and a stopwatch."""

    def __init__(self, folder, endpoint):
        self.folder = folder
        self.config = folder / "config.json"
        self.config.write_text(json.dumps(CONFIG))
        # Nothing else of the caller's environment counts. "Today" is that of the machine for sosw, of UTC for jobmill.
        self.environment = {
            **KEYS,
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_LAMBDA_FUNCTION_NAME": "scheduler",
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "TZ": "UTC",
        }

    def _measure(self, *command, stdout):
        """Runs a command to its end; what it took, as measure.py has it."""
        measured, errors = self.folder / "measured.json", self.folder / "stderr.txt"
        measured.unlink(missing_ok=True)
        with open(errors, "w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", HERE / "measure.py", measured, *command],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                process_group=0,
            )
        try:
            process.wait(LONG)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        result = json.loads(measured.read_text())
        if result["status"] != 0:
            raise RuntimeError(f"{command} failed: {errors.read_text()}")
        return result

    def _measure_json(self, *command):
        """The same for a program that measures itself: what it prints replaces our figures, but for the peak."""
        output = self.folder / "stdout.txt"
        with open(output, "w") as stdout:
            result = self._measure(*command, stdout=stdout)
        return {**result, **json.loads(output.read_text())}


class Sosw(Side):
    """sosw's Scheduler, in sosw_scheduler.py."""

    def rows(self, event, out=None):
        """Makes the rows of a job in process, without imports and I/O, or into a file."""
        return self._run("rows", event, *([out] if out else []))

    def call(self, event):
        """A whole invocation of a Scheduler that is constructed."""
        return self._run("call", event)

    def _run(self, step, event, *out):
        return self._measure_json(sys.executable, HERE / "sosw_scheduler.py", step, self.config, event, *out)


class Jobmill(Side):
    """jobmill's binaries."""

    def __init__(self, folder, endpoint, command, bootstrap, in_process):
        super().__init__(folder, endpoint)
        self.command, self.bootstrap, self.in_process = command, bootstrap, in_process

    def rows(self, event):
        """`jobmill plan --format rows` to /dev/null, from process start to exit."""
        return self._measure(*self._plan(event), stdout=subprocess.DEVNULL)

    def rows_in_process(self, event):
        """The same as sosw's `rows`, by a program that answers in the same way."""
        return self._measure_json(self.in_process, self.config, event)

    @contextlib.contextmanager
    def lines(self, event):
        """The rows of a job, as text."""
        process = subprocess.Popen(self._plan(event), env=self.environment, stdout=subprocess.PIPE, text=True)
        try:
            yield process.stdout
        finally:
            process.stdout.close()
            if process.wait() != 0:
                raise RuntimeError(f"{self._plan(event)} failed with {process.returncode}")

    def call(self, event):
        """One invocation of the bootstrap in a new sandbox, from handing the event out to having the answer."""
        log = self.folder / "stderr.txt"
        with RuntimeApi() as api, open(log, "w") as stderr:
            process = subprocess.Popen(
                [self.bootstrap],
                env={
                    **self.environment,
                    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
                    "AWS_LAMBDA_FUNCTION_VERSION": "1",
                    "AWS_LAMBDA_LOG_GROUP_NAME": "group",
                    "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
                    "AWS_LAMBDA_RUNTIME_API": api.address,
                    "JOBMILL_CONFIG": f"file:{self.config}",
                },
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
            )
            try:
                api.wait_for_runtime(process, PATIENCE)
                begun = cpu_seconds(process.pid)
                answer, seconds = api.invoke(json.loads(event.read_text()), process, LONG)
                cpu = cpu_seconds(process.pid) - begun
            except RuntimeError as error:
                raise RuntimeError(f"{self.bootstrap}: {error}: {log.read_text()}") from error
            finally:
                process.kill()
                process.wait()
        if answer["outcome"] != "completed":
            raise RuntimeError(f"{self.bootstrap} answered {answer}")
        return {"seconds": seconds, "cpu": cpu}

    def _plan(self, event):
        return self.command, "plan", "--config", self.config, "--format", "rows", event
