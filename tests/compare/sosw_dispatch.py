"""Runs sosw's Orchestrator or Scavenger once, unchanged, and writes what it took to standard output, as a line of JSON.

Usage: sosw_dispatch.py orchestrator|scavenger LABOURER ARN AT_ONCE

AWS is where the environment says, as for every AWS SDK. The keys are `seconds` and `cpu` (seconds of user and system
time) of the call alone, without imports and construction. It writes no meta rows: less than what sosw does by default.
"""

import json
import logging
import sys
import time
import types
import uuid

from sosw.app import global_vars
from sosw.orchestrator import Orchestrator
from sosw.scavenger import Scavenger

logging.disable(logging.CRITICAL)  # sosw logs everything by the root logger

which, labourer, arn, at_once = sys.argv[1:]
settings = {"arn": arn, "max_simultaneous_invocations": int(at_once)}
config = {
    "task_config": {
        "labourers": {labourer: settings},
        "dynamo_db_config": {"skip_glue": True},  # there is no Glue here
    },
    "meta_handler_config": {"write_meta_to_ddb": False},
}
global_vars.lambda_context = types.SimpleNamespace(
    aws_request_id=str(uuid.uuid4()),
    function_name=f"sosw_{which}",
    get_remaining_time_in_millis=lambda: 900_000,
    invoked_function_arn=f"arn:aws:lambda:us-east-1:000000000000:function:sosw_{which}",
    log_stream_name="stream",
)
processor = {"orchestrator": Orchestrator, "scavenger": Scavenger}[which](custom_config=config)
begun, cpu_begun = time.perf_counter(), time.process_time()
processor({})
print(json.dumps({"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu_begun}))
