"""jobmill's tasks are sosw's tasks: the same attributes, dispatched in the same way."""

import datetime
import time
import unittest

from essentials import CONFIG, fresh_cloud, labourers, orchestrate, schedule, task_manager, work
from jobmill import invoke
from waiting import until


def job(stores, **more):
    """A job of one row for each store."""
    return {"lambda_name": "report", "isolate_stores": True, "sections": {"dairy": {"stores": stores}}, **more}


def types(item):
    """The type of each attribute."""
    return {name: kind for name, value in item.items() for kind in value}


class Tasks(unittest.TestCase):
    def setUp(self):
        self.cloud = fresh_cloud()

    def test_a_task_has_the_attributes_that_sosw_gives_it(self):
        payload = {"isolate_stores": True, "sections": ["dairy"], "stores": ["milano"]}
        sosw = task_manager()
        sosw.create_task(labourer=sosw.get_labourer("report"), **payload)
        [by_sosw] = self.cloud.tasks()
        invoke(job(["milano"]), CONFIG)
        first, by_jobmill = self.cloud.tasks()
        self.assertEqual(first, by_sosw, "the task that was there stays as it is")

        items = self.cloud.items("sosw_tasks")
        self.assertEqual(types(items[0]), types(items[1]))
        for name in ("labourer_id", "attempts", "payload"):
            self.assertEqual(by_jobmill[name], by_sosw[name], name)
        self.assertEqual(by_jobmill["greenfield"], by_sosw["greenfield"] + 1000, "the next place in the queue")
        self.assertRegex(by_jobmill["task_id"], "^[0-9a-f]{32}$")
        self.assertRegex(by_sosw["task_id"], "^[0-9a-f]{32}$")
        self.assertAlmostEqual(float(by_jobmill["created_at"]), float(by_sosw["created_at"]), delta=60)

    def test_sosws_scheduler_makes_the_same_tasks_of_a_job(self):
        event = {
            "lambda_name": "arn:aws:lambda:us-west-2:000000000000:function:report",
            "period": "last_2_days",
            "isolate_days": True,
            "isolate_sections": True,
            "currency": "EUR",
            "sections": {
                "dairy": {"isolate_stores": True, "stores": ["milano", "torino"], "shelf": 7},
                "wine": {"stores": ["roma", "bari"]},
            },
        }
        schedule({"job": event})
        by_sosw, meta_of_sosw = self.cloud.tasks(), self.cloud.items("sosw_tasks_meta")
        self.assertEqual(len(by_sosw), 2 * 3)

        self.cloud = fresh_cloud()
        # sosw counts from the clock. The last of its days stands in its tasks: this is right at midnight too.
        last_day = datetime.date.fromisoformat(by_sosw[-1]["payload"]["date_list"][0])
        next_day = str(last_day + datetime.timedelta(days=1))
        invoke({"job": event, "run_id": "r1", "as_of": next_day}, CONFIG)
        by_jobmill, meta_of_jobmill = self.cloud.tasks(), self.cloud.items("sosw_tasks_meta")
        for name in ("payload", "labourer_id", "attempts", "greenfield"):
            self.assertEqual([task[name] for task in by_jobmill], [task[name] for task in by_sosw], name)

        self.assertEqual(len(meta_of_jobmill), len(meta_of_sosw))
        for row in meta_of_jobmill:
            row["labourer"] = row.pop("labourer_id")  # as all of sosw but its Scheduler calls it
            self.assertEqual(types(row), types(meta_of_sosw[0]))
            for name in ("action", "author", "labourer", "log_stream_name"):
                self.assertEqual(row[name], meta_of_sosw[0][name], name)

    def test_the_orchestrator_invokes_them_in_the_order_of_the_rows(self):
        stores = [f"store-{number}" for number in range(12)]
        invoke({"job": job(stores, currency="EUR"), "run_id": "r1"}, CONFIG)
        created = {task["task_id"]: task for task in self.cloud.tasks()}

        invoked = []
        for expected in (stores[0:5], stores[5:10], stores[10:12]):  # max_simultaneous_invocations is 5
            before = time.time()
            orchestrate()
            payloads = self.cloud.functions.take("report")
            self.assertEqual([payload["stores"] for payload in payloads], [[store] for store in expected])
            orchestrate()
            self.assertEqual(self.cloud.functions.take("report"), [], "as many as may be are running")

            tasks = {task["task_id"]: task for task in self.cloud.tasks()}
            for payload in payloads:
                task = tasks[payload["task_id"]]
                self.assertGreaterEqual(task["greenfield"], int(before) + 31_557_600, "marked as running")
                self.assertEqual(task["attempts"], 1)
                work(payload)
            invoked += payloads

        for payload in invoked:
            task = created[payload["task_id"]]
            expected = {
                **task["payload"],
                **{name: task[name] for name in ("task_id", "labourer_id", "created_at", "greenfield", "attempts")},
            }
            self.assertEqual(payload, expected)
            self.assertEqual(payload["currency"], "EUR")
            self.assertEqual(payload["sections"], ["dairy"])
        self.assertEqual(len(invoked), len(created))

    def test_tasks_of_both_stand_in_one_queue(self):
        sosw = task_manager()
        report = sosw.get_labourer("report")
        invoke(job(["first", "second"]), CONFIG)
        sosw.create_task(labourer=report, stores=["third"])
        invoke(job(["fourth"]), CONFIG)
        sosw.create_task(labourer=report, stores=["fifth"])
        orchestrate()
        invoked = [payload["stores"][0] for payload in self.cloud.functions.take("report")]
        self.assertEqual(invoked, ["first", "second", "third", "fourth", "fifth"])

    def test_a_queue_near_now_gets_fractions_and_sosw_takes_them(self):
        sosw = task_manager()
        report = sosw.get_labourer("report")
        sosw.create_task(labourer=report, strict=False, stores=["before"], greenfield=int(time.time()) - 10)
        stores = [f"store-{number}" for number in range(40)]
        invoke(job(stores), CONFIG)
        now = time.time()
        greenfields = [task["greenfield"] for task in self.cloud.tasks()]
        self.assertEqual(len(set(greenfields)), 41)
        self.assertLess(greenfields[-1], now, "no task is born in the future, where a greenfield means running")
        self.assertTrue(any(place % 1 for place in greenfields), "whole seconds were not enough")

        until("the second after the last task", lambda: int(time.time()) > greenfields[-1])
        self.cloud.configure("sosw_orchestrator_config", labourers(max_simultaneous_invocations=50))
        orchestrate()
        invoked = [payload["stores"][0] for payload in self.cloud.functions.take("report")]
        self.assertEqual(invoked, ["before", *stores])
