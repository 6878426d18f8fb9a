"""The stack of infra/template.yaml from a rule that fires to the last closed task, with a worker in Python."""

import json
from collections import Counter
from pathlib import Path

import worker
from stack import Stack, zipped
from waiting import until

SOURCE = "my.mill"
NAMES = [f"section-{number}" for number in range(2_000)]
ATTEMPTS = 2
TIMEOUT = 2


def hire(cloud, name: str) -> str:
    """Makes the worker a function; its ARN."""
    archive = zipped(cloud.folder / f"{name}.zip", {"worker.py": Path(worker.__file__)})
    answer = cloud.client("lambda").create_function(
        FunctionName=name,
        Runtime="python3.12",
        Handler="worker.handler",
        Role=f"arn:aws:iam::000000000000:role/{name}",
        Timeout=TIMEOUT,
        Code={"ZipFile": archive.read_bytes()},
    )
    return answer["FunctionArn"]


def test_a_rule_fires_and_every_task_is_worked_off_and_closed(cloud):
    """Chunked, drained, started, retried, closed: the counts are exact, and nothing is left."""
    arn = hire(cloud, "report")
    settings = {
        "report": {
            "arn": arn,
            "max_simultaneous_invocations": 16,
            "max_attempts": ATTEMPTS,
            "retry_delay": 1,
            "suspend_after": False,
        }
    }
    stack = Stack(
        cloud,
        "mill",
        Attributes="section",
        Architecture="x86_64",
        JobEventSource=SOURCE,
        LabourerArns=arn,
        LabourerSettings=json.dumps(settings),
    )
    job = {"lambda_name": "report", "isolate_sections": True, "sections": NAMES}
    entry = {"Source": SOURCE, "DetailType": "Job", "Detail": json.dumps(job)}
    run_id = cloud.client("events").put_events(Entries=[entry])["Entries"][0]["EventId"]

    # The scheduler wakes the orchestrator up: nothing else does here, since schedules of the emulator are slow.
    assert stack.completed(run_id)["rows"] == len(NAMES)
    closed = until(
        "every task is closed",
        lambda: (items := stack.items("ClosedTable")) and len(items) == len(NAMES) and items,
        seconds=170,
        pause=1,
    )
    assert stack.items("TasksTable") == stack.items("RetryTable") == []
    assert len({item["task_id"]["S"] for item in closed}) == len(NAMES)

    def ended(item: dict) -> tuple:
        number = int(json.loads(item["payload"]["S"])["sections"][0].removeprefix("section-"))
        error = item.get("last_error", {}).get("M")
        # The type of an error is the emulator's own; the message is the worker's.
        reason = error and ("timed out" if "imed" in error["type"]["S"] else error["message"]["S"].split(":")[0])
        return worker.kind(number), item["outcome"]["S"], int(item["attempts"]["N"]), reason

    kinds = Counter(worker.kind(number) for number in range(len(NAMES)))
    assert kinds == {"well": 1_875, "always": 40, "once": 80, "hangs": 5}
    assert Counter(map(ended, closed)) == {
        ("well", "succeeded", 1, None): kinds["well"],
        ("once", "succeeded", 2, None): kinds["once"],
        ("always", "failed", ATTEMPTS, "no such section"): kinds["always"],
        ("hangs", "failed", ATTEMPTS, "timed out"): kinds["hangs"],
    }
