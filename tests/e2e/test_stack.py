"""The stack of infra/template.yaml at work: the real binary, started by rules, schedules and siblings."""

import json
from datetime import date, datetime, timedelta

from ministack import free_port
from stack import Stack
from throttle import throttled
from waiting import until

SOURCE = "my.shop"
# A job that takes some seconds: so many rows, so many tasks a second.
NAMES = [f"section-{row}" for row in range(1_500)]
RATE = 250
SECTIONS = {"dairy": {"stores": ["milano", "torino"]}, "wine": None}


def deploy(cloud, name: str, **parameters: str) -> Stack:
    """A stack whose jobs can be split by sections and stores."""
    return Stack(cloud, name, Attributes="section,store", Architecture="x86_64", **parameters)


def expected_payloads(*dates: date) -> list[dict]:
    """What workers get of a job with SECTIONS that isolates days and stores, in the order of the queue."""
    payloads = []
    for day in dates:
        common = {"date_list": [str(day)], "isolate_stores": True, "currency": "EUR"}
        payloads.append(common | {"sections": ["dairy"], "stores": ["milano"]})
        payloads.append(common | {"sections": ["dairy"], "stores": ["torino"]})
        payloads.append(common | {"sections": ["wine"]})
    return payloads


def job(period: str) -> dict:
    """The job of `expected_payloads`."""
    return {
        "lambda_name": "report",
        "period": period,
        "isolate_days": True,
        "isolate_stores": True,
        "currency": "EUR",
        "sections": SECTIONS,
    }


def flat_job() -> dict:
    """A job with a row for each name."""
    return {"lambda_name": "report", "isolate_sections": True, "sections": NAMES}


def test_a_rule_starts_a_job_and_a_repeated_delivery_is_harmless(cloud):
    """An event becomes the tasks of its job, once each, though it comes twice at once and again when all is done."""
    stack = deploy(cloud, "rule", JobEventSource=SOURCE)
    events = cloud.client("events")
    rule = stack.resources["JobRule"]
    target = events.list_targets_by_rule(Rule=rule)["Targets"][0]
    # EventBridge delivers at least once. Here it does so twice: two targets get the same event.
    events.put_targets(Rule=rule, Targets=[target | {"Id": "again"}])
    entry = {"Source": SOURCE, "DetailType": "Job", "Detail": json.dumps(job("last_2_days"))}
    run_id = events.put_events(Entries=[entry])["Entries"][0]["EventId"]

    receipt = stack.completed(run_id)
    until("both deliveries are answered", lambda: len(stack.outcomes(run_id)) == 2)
    others = sorted(stack.outcomes(run_id))
    others.remove("completed")
    assert others in (["already_completed"], ["held_elsewhere"])
    tasks = stack.tasks()
    today = date.fromisoformat(receipt["as_of"][:10])
    days = [today - timedelta(2), today - timedelta(1)]
    assert [json.loads(task["payload"]) for task in tasks] == expected_payloads(*days)
    assert {task["labourer_id"] for task in tasks} == {"report"}
    assert len({task["task_id"] for task in tasks}) == len(tasks)

    event = {
        "id": run_id,
        "source": SOURCE,
        "detail-type": "Job",
        "time": receipt["as_of"],
        "detail": job("last_2_days"),
    }
    assert stack.invoke(event)["outcome"] == "already_completed"
    assert stack.tasks() == tasks


def test_a_schedule_starts_a_job_under_its_run_id_and_time(cloud):
    """The schedule's input names run and as-of: "yesterday" is the schedule's, and a second attempt does nothing."""
    stack = deploy(cloud, "schedule", ScheduledJob=json.dumps(job("yesterday")), ScheduleName="daily")
    inputs = []

    def fill(text: str) -> str:
        """Fills in what EventBridge Scheduler fills in, and MiniStack does not; keeps the input."""
        text = text.replace("<aws.scheduler.scheduled-time>", "2024-03-01T02:00:00Z")
        assert "<aws." not in text
        inputs.append(json.loads(text))
        return text

    stack.fire("JobSchedule", fill)
    run_id = inputs[0]["run_id"]
    assert run_id == "daily-2024-03-01T02:00:00Z", "each attempt of EventBridge Scheduler says the same"
    receipt = stack.completed(run_id)
    as_of = datetime.fromisoformat("2024-03-01T02:00:00Z")
    assert datetime.fromisoformat(receipt["as_of"]) == as_of
    tasks = stack.tasks()
    assert [json.loads(task["payload"]) for task in tasks] == expected_payloads(date(2024, 2, 29))

    stack.fire("JobSchedule", fill)
    until("the second attempt is answered", lambda: len(stack.outcomes(run_id)) == 2)
    assert stack.outcomes(run_id) == ["completed", "already_completed"]
    assert stack.tasks() == tasks


def test_a_short_time_out_makes_a_chain_of_siblings(cloud):
    """A job that is too long for one invocation is handed on, and every task is there once."""
    stack = deploy(cloud, "chain", Timeout="6")
    with throttled(cloud.endpoint, RATE) as dynamodb:
        with stack.reconfigured(AWS_ENDPOINT_URL_DYNAMODB=dynamodb):
            stack.send({"run_id": "long", "job": flat_job()})
            receipt = stack.assert_whole("long", NAMES)
    assert receipt["hops"] > 0
    outcomes = stack.outcomes("long")
    assert outcomes == ["handed_off"] * receipt["hops"] + ["completed"]


def test_a_lost_sibling_is_swept_up(cloud):
    """A hand-off that nobody answers leaves a released file, and the stack's sweep takes it up."""
    stack = deploy(cloud, "lost")
    nobody = f"http://127.0.0.1:{free_port()}"
    with throttled(cloud.endpoint, RATE) as dynamodb:
        variables = {"AWS_ENDPOINT_URL_DYNAMODB": dynamodb, "AWS_ENDPOINT_URL_LAMBDA": nobody}
        with stack.reconfigured(timeout=8, **variables):
            answer = stack.invoke({"run_id": "lost", "job": flat_job()})
    assert (answer["outcome"], answer["to"]) == ("handed_off", "sweep")
    assert 0 < answer["done"] == len(stack.tasks()) < len(NAMES)

    stack.fire("Sweep")
    stack.assert_whole("lost", NAMES)


def test_a_killed_sandbox_is_swept_up(cloud):
    """A sandbox that dies at work leaves a lock; when its lease has run out, the stack's sweep takes the file up."""
    stack = deploy(cloud, "killed")
    with throttled(cloud.endpoint, RATE) as dynamodb:
        variables = {"AWS_ENDPOINT_URL_DYNAMODB": dynamodb}
        with stack.reconfigured(config={"lease_seconds": 15}, **variables):
            stack.send({"run_id": "killed", "job": flat_job()})
            until("the first tasks are there", stack.tasks)
            assert stack.kill_sandboxes() == 1
            # Lambda sends the event again at once, and the lock is held.
            until("the retry is answered", lambda: stack.outcomes("killed"))
            assert stack.outcomes("killed") == ["held_elsewhere"]
            assert 0 < len(stack.tasks()) < len(NAMES)

    until("the lease has run out", lambda: stack.lease_is_over("killed"))
    stack.fire("Sweep")
    stack.assert_whole("killed", NAMES)


def test_a_job_that_cannot_be_right_ends_in_the_failure_queue(cloud):
    """It is tried as often as the template says, and writes nothing."""
    stack = deploy(cloud, "broken")
    event = {"run_id": "broken", "job": job("yesterday") | {"isolate_stores": "perhaps"}}
    stack.send(event)
    sqs = cloud.client("sqs")
    queue = stack.resources["FailureQueue"]
    messages = until(
        "the event is in the failure queue",
        lambda: sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages"),
    )
    body = json.loads(messages[0]["Body"])
    assert body["requestPayload"] == event
    assert body["requestContext"]["condition"] == "RetriesExhausted"
    assert body["responsePayload"]["errorType"] == "InvalidJob"
    attempts = [line for line in stack.log_lines("error_type") if line["error_type"] == "InvalidJob"]
    assert len(attempts) == 1 + stack.invoke_config["MaximumRetryAttempts"] == 3
    assert stack.tasks() == []
    assert stack.objects() == []
