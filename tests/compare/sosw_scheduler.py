"""Runs sosw's Scheduler, unchanged, and writes what it took to standard output, as one line of JSON.

Usage: sosw_scheduler.py rows CONFIG EVENT [OUT]   makes the rows of a job, for a sink that counts, or for a file
       sosw_scheduler.py call CONFIG EVENT         the whole invocation: rows, queue file, tasks

AWS is where the environment says, as for every AWS SDK. The keys are `seconds` and `cpu` (seconds of user and system
time) of that step alone, without imports and construction, and for `rows` also `rows` and `bytes`.
"""

import json
import sys
import time
import types
import uuid

import sosw.scheduler


class Sink:
    """Stands in for the file of rows: counts them, and writes them to another file if there is one."""

    def __init__(self, file=None):
        self.file, self.rows, self.bytes = file, 0, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def write(self, line):
        self.rows += 1
        self.bytes += len(line)
        if self.file:
            self.file.write(line)


def read(path):
    with open(path) as file:
        return json.load(file)


def construct(config):
    """The Scheduler in a sandbox that has a quarter of an hour left."""
    sosw.scheduler.global_vars.lambda_context = types.SimpleNamespace(
        aws_request_id=str(uuid.uuid4()),
        function_name="scheduler",
        get_remaining_time_in_millis=lambda: 900_000,
        invoked_function_arn="arn:aws:lambda:us-east-1:000000000000:function:scheduler",
        log_stream_name="stream",
    )
    return sosw.scheduler.Scheduler(custom_config=config)


def timed(step):
    """What a step takes."""
    begun, cpu_begun = time.perf_counter(), time.process_time()
    step()
    return {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu_begun}


def rows(scheduler, event, out=None):
    """`parse_job_to_file`, whose file is a sink; before it what `__call__` does to get there."""
    sink = Sink(open(out, "w") if out else None)
    sosw.scheduler.open = lambda *_: sink

    def make():
        job = scheduler.extract_job_from_payload(event)
        scheduler.apply_job_schema(name=job.get("job_schema_name"))
        scheduler.parse_job_to_file(job)

    return {**timed(make), "rows": sink.rows, "bytes": sink.bytes}


def call(scheduler, event):
    return timed(lambda: scheduler(event))


STEPS = {"rows": rows, "call": call}
step, config, event, *out = sys.argv[1:]
result = STEPS[step](construct(read(config)), read(event), *out)
print(json.dumps(result))
