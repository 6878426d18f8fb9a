"""sosw's own Lambdas, as they are: each call is a cold start in this process, configured by sosw's table `config`."""

import json
import logging
import os
import uuid
from types import SimpleNamespace

from cloud import BUCKET, function_arn, shared

shared()  # sets the environment that sosw's modules read when they are imported

from sosw.app import LambdaGlobals, get_lambda_handler  # noqa: E402
from sosw.managers.task import TaskManager  # noqa: E402
from sosw.orchestrator import Orchestrator  # noqa: E402
from sosw.scavenger import Scavenger  # noqa: E402
from sosw.scheduler import Scheduler  # noqa: E402
from sosw.worker import Worker  # noqa: E402
from sosw.worker_assistant import WorkerAssistant  # noqa: E402

logging.disable(logging.CRITICAL)  # sosw logs everything by the root logger


class Report(Worker):
    """A worker as users write them: does its work, then tells sosw."""

    def __call__(self, event):
        self.result["rows_read"] = len(event["stores"])
        super().__call__(event)


def context_of(name, request_id=None, milliseconds=lambda: 900_000):
    """What Lambda hands to a handler beside the event."""
    return SimpleNamespace(
        function_name=name,
        aws_request_id=request_id or str(uuid.uuid4()),
        log_stream_name="log-stream",
        invoked_function_arn=function_arn(name),
        get_remaining_time_in_millis=milliseconds,
    )


def call(essential, name, event, context=None):
    """Runs a handler made as sosw's examples make it."""
    os.environ["AWS_LAMBDA_FUNCTION_NAME"] = name
    sandbox = LambdaGlobals()
    sandbox.processor = None  # sosw keeps it for the next invocation, and a cold start has none
    # A copy of the event: sosw changes it.
    return get_lambda_handler(essential, sandbox)(json.loads(json.dumps(event)), context or context_of(name))


def orchestrate():
    """One run of the orchestrator, which its schedule starts each minute."""
    call(Orchestrator, "sosw_orchestrator", {})


def scavenge():
    """One run of the scavenger, which its schedule starts each minute."""
    call(Scavenger, "sosw_scavenger", {})


def schedule(event, context=None):
    """sosw's Scheduler, which jobmill succeeds."""
    call(Scheduler, "sosw_scheduler", event, context)


def work(payload):
    """A worker does a task, and sosw's assistant marks it as completed."""
    call(Report, "report", payload)
    for order in shared().functions.take("sosw_worker_assistant"):
        call(WorkerAssistant, "sosw_worker_assistant", order)


def task_manager():
    """sosw's TaskManager, as the orchestrator has it."""
    os.environ["AWS_LAMBDA_FUNCTION_NAME"] = "sosw_orchestrator"
    return TaskManager(custom_config=labourers()["task_config"])


def labourers(max_simultaneous_invocations=5):
    """The part of a configuration that sosw's Lambdas share."""
    settings = {
        "arn": function_arn("report"),
        "max_simultaneous_invocations": max_simultaneous_invocations,
    }
    return {"task_config": {"labourers": {"report": settings}}}


SCHEDULER = {
    "queue_bucket": BUCKET,
    **labourers(),
    "job_schema": {"chunkable_attrs": [["section", {}], ["store", {}]]},
    "job_schema_variants": {"default": {"chunkable_attrs": [["section", {}], ["store", {}]]}},
    "meta_handler_config": {"write_meta_to_ddb": True},
}
CONFIG = "dynamodb://config/production/sosw_scheduler_config"
"""jobmill's `JOBMILL_CONFIG`: the very item that sosw's Scheduler reads."""


def fresh_cloud():
    """An empty cloud with the configurations of sosw's Lambdas in it."""
    cloud = shared()
    cloud.reset()
    cloud.configure("sosw_scheduler_config", SCHEDULER)
    for name in ("sosw_orchestrator_config", "sosw_scavenger_config"):
        cloud.configure(name, {**labourers(), "sns_config": {"recipient": cloud.topic, "subject": "sosw"}})
    return cloud
