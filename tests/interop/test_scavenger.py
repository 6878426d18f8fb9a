"""sosw's Scavenger archives jobmill's tasks, retries them and gives them up; jobmill finds them in every table."""

import unittest

from cloud import PREFIX
from essentials import CONFIG, SCHEDULER, fresh_cloud, orchestrate, scavenge, work
from jobmill import Invocation, invoke
from waiting import until

TIME_OUT = 15 * 60 + 5 * 60
"""Seconds after which sosw takes an invoked task for failed (`duration` and `cooldown` of a labourer)."""
RETRY_DELAY = 60
"""Seconds that the first retry waits: the time-out of the worker."""


def job(count):
    """A job of so many rows."""
    return {
        "lambda_name": "report",
        "isolate_stores": True,
        "sections": {"dairy": {"stores": [f"store-{number}" for number in range(count)]}},
    }


class Scavenging(unittest.TestCase):
    def setUp(self):
        self.cloud = fresh_cloud()

    def invoked(self):
        """Lets the orchestrator invoke what it will; the payloads."""
        orchestrate()
        return self.cloud.functions.take("report")

    def expire(self, payload):
        """As if the worker of that invocation had died, and sosw's time-out for it had passed."""
        self.cloud.shift("sosw_tasks", payload, "greenfield", TIME_OUT + 1)

    def test_completed_tasks_are_archived(self):
        event = {"job": job(3), "run_id": "r1"}
        invoke(event, CONFIG)
        created = {task["task_id"]: task for task in self.cloud.tasks()}
        first, second, third = self.invoked()
        work(first)
        work(second)
        scavenge()

        self.assertEqual([task["task_id"] for task in self.cloud.tasks()], [third["task_id"]])
        closed = {task["task_id"]: task for task in self.cloud.tasks("sosw_closed_tasks")}
        self.assertEqual(set(closed), {first["task_id"], second["task_id"]})
        for task_id, task in closed.items():
            self.assertEqual(task["labourer_id_task_status"], "report_1")
            self.assertGreater(task["completed_at"], 0)
            self.assertEqual(task["result_rows_read"], 1)
            for name in ("labourer_id", "created_at", "payload"):
                self.assertEqual(task[name], created[task_id][name], name)

        self.assertEqual(invoke(event, CONFIG)["outcome"], "already_completed")
        self.assertEqual([task["task_id"] for task in self.cloud.tasks()], [third["task_id"]])

    def test_expired_tasks_are_retried_in_front_of_the_queue(self):
        invoke({"job": job(8), "run_id": "r1"}, CONFIG)
        first, *others = self.invoked()
        self.expire(first)
        scavenge()
        [waiting] = self.cloud.tasks("sosw_retry_tasks")
        self.assertEqual(waiting["task_id"], first["task_id"])
        self.assertEqual(waiting["attempts"], 1)
        self.assertEqual(len(self.cloud.tasks()), 7)

        self.cloud.shift("sosw_retry_tasks", waiting, "desired_launch_time", RETRY_DELAY)
        scavenge()
        self.assertEqual(self.cloud.tasks("sosw_retry_tasks"), [])
        for payload in others:
            work(payload)
        again, *rest = self.invoked()
        self.assertEqual(again["attempts"], 1, "as it was before this invocation")
        same = ("task_id", "created_at", "stores", "sections", "isolate_stores")
        self.assertEqual([again[name] for name in same], [first[name] for name in same])
        self.assertEqual([payload["stores"] for payload in rest], [["store-5"], ["store-6"], ["store-7"]])

    def test_tasks_that_fail_too_often_are_given_up(self):
        invoke({"job": job(1), "run_id": "r1"}, CONFIG)
        for attempt in (1, 2, 3):
            [payload] = self.invoked()
            self.expire(payload)
            scavenge()
            if attempt < 3:
                [waiting] = self.cloud.tasks("sosw_retry_tasks")
                self.cloud.shift("sosw_retry_tasks", waiting, "desired_launch_time", RETRY_DELAY * attempt)
                scavenge()
        self.assertEqual(self.cloud.tasks(), [])
        self.assertEqual(self.cloud.tasks("sosw_retry_tasks"), [])
        [dead] = self.cloud.tasks("sosw_closed_tasks")
        self.assertEqual(dead["labourer_id_task_status"], "report_0")
        self.assertEqual((dead["task_id"], dead["attempts"]), (payload["task_id"], 3))

    def test_a_killed_run_does_not_make_tasks_again_that_sosw_has_moved(self):
        rows = 1000
        event = {"job": job(rows), "run_id": "r1"}
        config = {**SCHEDULER, "lease_seconds": 15}
        killed = Invocation(event, config)
        until("there are tasks", lambda: self.cloud.items("sosw_tasks"), pause=0.01)
        killed.kill()
        self.assertFalse(killed.answered(), "killed in the middle")
        self.assertIn(f"{PREFIX}/locked_tasks_queue_r1.txt", self.cloud.keys())

        done, lost, *_ = self.invoked()
        work(done)
        self.expire(lost)
        scavenge()
        [closed] = self.cloud.tasks("sosw_closed_tasks")
        [waiting] = self.cloud.tasks("sosw_retry_tasks")
        self.assertEqual((closed["task_id"], waiting["task_id"]), (done["task_id"], lost["task_id"]))

        # Held until the dead holder's lease has run out.
        def resumed():
            outcome = invoke(event, config)
            return outcome if outcome["outcome"] != "held_elsewhere" else None

        outcome = until("the lease runs out", resumed, pause=1)
        self.assertEqual((outcome["outcome"], outcome["rows"]), ("completed", rows))
        everywhere = [
            task
            for table in ("sosw_tasks", "sosw_retry_tasks", "sosw_closed_tasks")
            for task in self.cloud.tasks(table)
        ]
        self.assertEqual(len({task["task_id"] for task in everywhere}), rows)
        self.assertEqual(len(everywhere), rows, "no task stands in two tables")
        stores = {task["payload"]["stores"][0] for task in everywhere}
        self.assertEqual(len(stores), rows, "each row is a task")
        running = [task for task in self.cloud.tasks() if task["attempts"] == 1]
        self.assertEqual(len(running), 3, "what was dispatched stays dispatched")
