"""Bucket and tables of a scheduler, as a test looks at them."""

import json
import re
from datetime import datetime, timezone
from decimal import Decimal

from emulator import Account
from waiting import until

TASK_ID = re.compile("[0-9a-f]{32}")


class Queue:
    """What a scheduler with that configuration works on."""

    def __init__(self, cloud: Account, config: dict) -> None:
        self.cloud = cloud
        self.config = config
        self.bucket = config["queue_bucket"]
        self.prefix = config.get("s3_prefix", "sosw/scheduler")
        table = config["task_config"].get("dynamo_db_config", {})
        self.tasks_table = table.get("table_name", "sosw_tasks")

    def objects(self) -> list[str]:
        """Names of all objects of the queue, without the prefix."""
        pages = self.cloud.client("s3").get_paginator("list_objects_v2")
        prefix = f"{self.prefix}/"
        keys = []
        for page in pages.paginate(Bucket=self.bucket, Prefix=prefix):
            keys += [entry["Key"].removeprefix(prefix) for entry in page.get("Contents", [])]
        return keys

    def lease_is_over(self, run_id: str) -> bool:
        """Whether nobody has renewed the lock for its lease, the margin of two seconds, and two for rounding."""
        key = f"{self.prefix}/locked_tasks_queue_{run_id}.txt"
        lock = self.cloud.client("s3").get_object(Bucket=self.bucket, Key=key)
        age = datetime.now(timezone.utc) - lock["LastModified"]
        return age.total_seconds() > json.load(lock["Body"])["lease_seconds"] + 4

    def receipt(self, run_id: str) -> dict | None:
        """The receipt of a run, as soon as it is completed."""
        key = f"{self.prefix}/done/tasks_queue_{run_id}.txt.json"
        s3 = self.cloud.client("s3")
        try:
            return json.load(s3.get_object(Bucket=self.bucket, Key=key)["Body"])
        except s3.exceptions.NoSuchKey:
            return None

    def completed(self, run_id: str) -> dict:
        """Waits until a run is completed; its receipt. Then nothing else of it is left."""
        receipt = until(f"run {run_id} is completed", lambda: self.receipt(run_id))
        names = [f"tasks_queue_{run_id}.txt", f"locked_tasks_queue_{run_id}.txt"]
        until("rows and lock are gone", lambda: not set(names) & set(self.objects()))
        return receipt

    def tasks(self) -> list[dict]:
        """All tasks in the order of the queue, in the format of sosw: the attributes, and their types."""
        pages = self.cloud.client("dynamodb").get_paginator("scan")
        tasks = []
        for page in pages.paginate(TableName=self.tasks_table):
            for item in page["Items"]:
                task = {name: value for name, typed in item.items() for value in typed.values()}
                assert item == {
                    "task_id": {"S": task["task_id"]},
                    "labourer_id": {"S": task["labourer_id"]},
                    "created_at": {"N": task["created_at"]},
                    "greenfield": {"N": task["greenfield"]},
                    "attempts": {"N": "0"},
                    "payload": {"S": task["payload"]},
                }
                assert TASK_ID.fullmatch(task["task_id"]), task
                # A greenfield in the future would mean that the task is running.
                assert Decimal(task["greenfield"]) <= Decimal(task["created_at"]) + 1, task
                tasks.append(task)
        return sorted(tasks, key=lambda task: Decimal(task["greenfield"]))

    def assert_whole(self, run_id: str, sections: list[str]) -> dict:
        """Waits until a job that isolates these sections is completed; its receipt.

        Each row is one task, in the order of the rows, and nothing but the receipt is left.
        """
        receipt = self.completed(run_id)
        assert receipt["run"] == run_id
        tasks = self.tasks()
        assert [json.loads(task["payload"])["sections"] for task in tasks] == [[name] for name in sections]
        assert len({task["task_id"] for task in tasks}) == len(sections) == receipt["rows"]
        assert self.objects() == [f"done/tasks_queue_{run_id}.txt.json"]
        return receipt
