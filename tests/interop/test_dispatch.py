"""sosw's Orchestrator and Scavenger, and jobmill's orchestrator, take turns at the same tasks, whose workers are sosw's."""

import collections
import time
import unittest

from cloud import BUCKET, function_arn
from essentials import CONFIG, fresh_cloud, labourers, orchestrate, scavenge, work
from jobmill import ORCHESTRATOR, Invocation, invoke

TASKS = 120
AT_ONCE = 30
TIME_OUT = 15 * 60 + 5 * 60
"""Seconds after which sosw takes an invoked task for failed; jobmill does so earlier."""
TURN = 31
"""Seconds that an invocation of jobmill's orchestrator has: of these it claims in the first eleven."""
LATER = 3600
"""Seconds after which every retry is due."""

JOBMILL = {
    "queue_bucket": BUCKET,
    "lease_seconds": 15,
    "task_config": {
        "labourers": {
            "report": {
                "arn": function_arn("report"),
                "max_simultaneous_invocations": AT_ONCE,
                # What jobmill has to know beyond what sosw knows: sosw's workers mark their tasks themselves.
                "completion": "report",
            }
        }
    },
}


class Dispatching(unittest.TestCase):
    def setUp(self):
        self.cloud = fresh_cloud()
        for name in ("sosw_orchestrator_config", "sosw_scavenger_config"):
            sns = {"recipient": self.cloud.topic, "subject": "sosw"}
            self.cloud.configure(name, {**labourers(AT_ONCE), "sns_config": sns})
        self.starts = collections.defaultdict(list)
        """By task: the attempts with which its worker was started."""
        self.started_by = collections.Counter()
        self.doomed = set()
        """Tasks whose workers die each time."""
        self.lost = []
        """Payloads of workers that died."""

    def workers(self, who, most=None):
        """Lets the workers that were started do their tasks, `most` of them at most; every ninth dies."""
        done = 0
        payloads = self.cloud.functions.take("report")
        for payload in payloads:
            number = len(self.starts)
            starts = self.starts[payload["task_id"]]
            starts.append(payload["attempts"])
            self.started_by[who] += 1
            if not starts[1:] and number % 50 == 7:
                self.doomed.add(payload["task_id"])
            dies = payload["task_id"] in self.doomed or (not starts[1:] and number % 9 == 4)
            if dies or (most is not None and done >= most):
                self.lost.append(payload)
                continue
            work(payload)
            done += 1
        return done

    def time_passes(self):
        """As if the time-outs of all workers that died, and the delays of all retries, had passed."""
        running = {task["task_id"] for task in self.cloud.tasks() if "completed_at" not in task}
        for payload in self.lost:
            if payload["task_id"] in running:
                self.cloud.shift("sosw_tasks", payload, "greenfield", TIME_OUT + 1)
        self.lost.clear()
        for waiting in self.cloud.tasks("sosw_retry_tasks"):
            self.cloud.shift("sosw_retry_tasks", waiting, "desired_launch_time", LATER)

    def turn_of_sosw(self, rounds, most=None):
        for _ in range(rounds):
            scavenge()
            orchestrate()
            self.check()
            self.workers("sosw", most)

    def turn_of_jobmill(self, most=None):
        turn = Invocation({}, JOBMILL, ORCHESTRATOR, TURN)
        done = 0
        while not turn.answered():
            done += self.workers("jobmill", None if most is None else max(most - done, 0))
        outcome = turn.outcome()
        self.workers("jobmill", 0)
        self.check()
        return outcome

    def check(self):
        """At every moment each task is there, and no more run than may."""
        tasks, waiting, closed = (
            self.cloud.tasks(table) for table in ("sosw_tasks", "sosw_retry_tasks", "sosw_closed_tasks")
        )
        ids = [task["task_id"] for task in (*tasks, *waiting, *closed)]
        self.assertEqual(set(ids), set(self.created))
        self.assertEqual(len(ids), TASKS, "each task stands in one table")
        running = [task for task in tasks if task["greenfield"] > time.time() and "completed_at" not in task]
        self.assertLessEqual(len(running), AT_ONCE)

    def test_they_take_turns(self):
        stores = [f"store-{number}" for number in range(TASKS)]
        sections = {"dairy": {"stores": stores}}
        invoke({"job": {"lambda_name": "report", "isolate_stores": True, "sections": sections}}, CONFIG)
        self.created = {task["task_id"]: task for task in self.cloud.tasks()}
        self.assertEqual(len(self.created), TASKS)

        self.turn_of_sosw(rounds=2, most=25)  # it leaves tasks marked, running and dead
        self.time_passes()
        outcome = self.turn_of_jobmill(most=50)
        self.assertGreater(outcome["succeeded"], 20, outcome)
        self.assertGreater(outcome["retried"], 0, "what sosw has started and lost")
        self.time_passes()
        self.turn_of_sosw(rounds=2, most=25)
        self.time_passes()
        outcome = self.turn_of_jobmill(most=30)
        self.assertGreater(outcome["requeued"], 0, "what sosw's scavenger has put into the retry table")
        for _ in range(20):
            self.time_passes()
            self.turn_of_sosw(rounds=1)
            if not self.cloud.items("sosw_tasks") and not self.cloud.items("sosw_retry_tasks"):
                break

        self.assertEqual(self.cloud.items("sosw_tasks"), [], "nothing is left, no ghost either")
        self.assertEqual(self.cloud.items("sosw_retry_tasks"), [])
        closed = {task["task_id"]: task for task in self.cloud.tasks("sosw_closed_tasks")}
        self.assertEqual(set(closed), set(self.created))
        for task_id, task in closed.items():
            died = task_id in self.doomed
            self.assertEqual(task["labourer_id_task_status"], "report_0" if died else "report_1")
            self.assertEqual("completed_at" in task, not died)
            self.assertEqual(task["payload"], self.created[task_id]["payload"])
            self.assertEqual(task["created_at"], self.created[task_id]["created_at"])
            starts = self.starts[task_id]
            self.assertEqual(starts, list(range(len(starts))), "one start an attempt")
            self.assertEqual(task["attempts"], len(starts), "an attempt for each start")
            self.assertLessEqual(len(starts), 3)
            if not died:
                self.assertEqual(task["result_rows_read"], 1)
        self.assertGreater(len(self.doomed), 2)
        self.assertGreater(self.started_by["sosw"], 50)
        self.assertGreater(self.started_by["jobmill"], 40)
