"""What sosw's Scheduler has spooled and left, jobmill finishes: each remaining row becomes a task once."""

import multiprocessing
import os
import signal
import unittest
import uuid

from cloud import BUCKET, PREFIX
from essentials import CONFIG, SCHEDULER, context_of, fresh_cloud, schedule
from jobmill import Failed, invoke
from waiting import until

ROWS = 120
JOB = {
    "lambda_name": "report",
    "isolate_stores": True,
    "currency": "EUR",
    "sections": {"dairy": {"stores": [f"store-{number}" for number in range(ROWS)]}},
}


class Adoption(unittest.TestCase):
    def setUp(self):
        self.cloud = fresh_cloud()
        self.request_id = str(uuid.uuid4())
        self.name = f"tasks_queue_{self.request_id}.txt"
        self.addCleanup(self.forget_local_file)

    def forget_local_file(self):
        """sosw keeps the rows in /tmp too."""
        for name in (f"/tmp/{self.name}", f"/tmp/in_prog__tmp_{self.name}"):
            if os.path.exists(name):
                os.remove(name)

    def leave(self):
        """sosw's Scheduler makes one batch of tasks and stops, because its time is short; the number of tasks."""
        self.cloud.configure("sosw_scheduler_config", {**SCHEDULER, "siblings_config": {"auto_spawning": True}})
        time_left = iter([900_000, 900_000, 30_000])
        left = {"now": 900_000}

        def milliseconds():
            left["now"] = next(time_left, left["now"])
            return left["now"]

        schedule(JOB, context_of("sosw_scheduler", self.request_id, milliseconds))
        return len(self.cloud.tasks())

    def assert_whole(self):
        """Each row is one task, in the order of the rows, with the same payload."""
        tasks = self.cloud.tasks()
        self.assertEqual([task["payload"]["stores"] for task in tasks], [[f"store-{it}"] for it in range(ROWS)])
        greenfields = [task["greenfield"] for task in tasks]
        self.assertEqual(len(set(greenfields)), ROWS, "a place in the queue for each")
        for task in tasks:
            del task["payload"]["stores"]
            self.assertEqual(task["payload"], {"isolate_stores": True, "currency": "EUR", "sections": ["dairy"]})
            self.assertEqual((task["labourer_id"], task["attempts"]), ("report", 0))

    def test_a_file_that_sosw_handed_over_is_finished(self):
        done = self.leave()
        self.assertTrue(0 < done < ROWS, f"{done} tasks")
        [continuation] = self.cloud.functions.take("sosw_scheduler")
        self.assertEqual(continuation, {"file_name": f"/tmp/{self.name}"})
        with self.assertRaisesRegex(AssertionError, "lambda_name"):
            schedule(continuation)  # why it was left
        continuation = {"file_name": self.name}

        key = f"{PREFIX}/{self.name}"
        self.assertEqual(self.cloud.keys(), [key])
        self.assertEqual(len(self.cloud.lines(key)), ROWS - done)
        self.assertEqual(invoke({"sweep": True}, CONFIG)["outcome"], "nothing_to_do")
        self.assertEqual(self.cloud.keys(), [key], "a sweep leaves sosw's files alone")

        outcome = invoke(continuation, CONFIG)
        self.assertEqual((outcome["outcome"], outcome["rows"]), ("completed", ROWS - done))
        self.assertTrue(outcome["run_id"].startswith("sosw-"), outcome)
        self.assert_whole()
        self.assertEqual(self.cloud.keys(), [f"{PREFIX}/done/{outcome['file_name']}.json"], "only the receipt")

        self.assertEqual(invoke({"file_name": outcome["file_name"]}, CONFIG)["outcome"], "already_completed")
        with self.assertRaises(Failed) as again:
            invoke(continuation, CONFIG)
        self.assertEqual(again.exception.kind, "UnknownQueueFile")
        self.assert_whole()

    def test_a_file_that_is_put_back_is_the_same_run(self):
        self.leave()
        key = f"{PREFIX}/{self.name}"
        rows = self.cloud.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        first = invoke({"file_name": self.name}, CONFIG)
        self.cloud.s3.put_object(Bucket=BUCKET, Key=key, Body=rows)
        again = invoke({"file_name": self.name}, CONFIG)
        self.assertEqual((again["outcome"], again["run_id"]), ("already_completed", first["run_id"]))
        self.assert_whole()

    def test_a_locked_file_of_a_killed_scheduler_is_cut_and_finished(self):
        sosw = multiprocessing.get_context("fork").Process(
            target=schedule, args=(JOB, context_of("sosw_scheduler", self.request_id)), daemon=True
        )
        sosw.start()
        until("sosw makes tasks", lambda: len(self.cloud.items("sosw_tasks")) >= 3, pause=0.01)
        os.kill(sosw.pid, signal.SIGKILL)
        sosw.join()
        tasks = self.cloud.tasks()
        self.assertTrue(3 <= len(tasks) < ROWS, f"killed in the middle: {len(tasks)} tasks")

        locked = f"{PREFIX}/locked_{self.name}"
        self.assertEqual(self.cloud.keys(), [locked])
        self.assertEqual(len(self.cloud.lines(locked)), ROWS, "also the rows that are tasks")
        with self.assertRaises(Failed) as refused:
            invoke({"file_name": self.name}, CONFIG)
        self.assertEqual(refused.exception.kind, "DamagedQueue")
        self.assertEqual(self.cloud.keys(), [locked], "what is no lock of jobmill's stays as it is")

        # As docs/migrate-from-sosw.md says: without the rows that are tasks, under the plain name.
        done = [task["payload"] for task in tasks]
        text = self.cloud.s3.get_object(Bucket=BUCKET, Key=locked)["Body"].read().decode()
        rest = text.splitlines(keepends=True)[len(done) :]
        self.cloud.s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{self.name}", Body="".join(rest))
        self.cloud.s3.delete_object(Bucket=BUCKET, Key=locked)
        self.assertEqual(invoke({"file_name": self.name}, CONFIG)["outcome"], "completed")
        self.assert_whole()
