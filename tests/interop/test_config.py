"""Configurations of sosw, as jobmill's `JOBMILL_CONFIG`, read from sosw's own table."""

import unittest

from cloud import BUCKET, function_arn
from essentials import CONFIG, Scheduler, TaskManager, fresh_cloud, orchestrate, schedule
from jobmill import Failed, invoke
from tables import TABLES

JOB = {
    "lambda_name": "report",
    "isolate_topics": True,
    "isolate_words": True,
    "topics": {"cars": {"words": ["mazda", "toyota"]}, "food": {"words": ["cooking"]}},
}
SPLIT = [
    {"isolate_topics": True, "isolate_words": True, "topics": ["cars"], "words": ["mazda"]},
    {"isolate_topics": True, "isolate_words": True, "topics": ["cars"], "words": ["toyota"]},
    {"isolate_topics": True, "isolate_words": True, "topics": ["food"], "words": ["cooking"]},
]

# The form of `examples/essentials/.config/sosw_scheduler_config.json` in sosw's repository.
EXAMPLE = {
    "dynamo_db_config": {"table_name": "sosw_tasks"},
    "job_schema": {"chunkable_attrs": [["topic", {}], ["word", {}]]},
    "queue_bucket": BUCKET,
    "task_config": {"labourers": {"report": {"arn": function_arn("report")}}},
}
# The form of the configuration in sosw's documentation of its Scheduler, whose schema is empty.
TASKS_TABLE = {
    "row_mapper": {
        "task_id": "S",
        "labourer_id": "S",
        "greenfield": "N",
        "attempts": "N",
        "closed_at": "N",
        "completed_at": "N",
        "desired_launch_time": "N",
        "arn": "S",
        "payload": "S",
    },
    "required_fields": ["task_id", "labourer_id", "created_at", "greenfield"],
    "table_name": "sosw_tasks",
    "index_greenfield": "sosw_tasks_greenfield",
    "field_names": {"task_id": "task_id", "labourer_id": "labourer_id", "greenfield": "greenfield"},
}
DOCUMENTED = {
    "queue_bucket": BUCKET,
    "task_config": {
        "dynamo_db_config": TASKS_TABLE,
        "sosw_closed_tasks_table": "sosw_closed_tasks",
        "sosw_retry_tasks_table": "sosw_retry_tasks",
        "sosw_retry_tasks_greenfield_index": "labourer_id_greenfield",
        "ecology_config": {},
        "labourers": {"report": {"arn": function_arn("report"), "max_simultaneous_invocations": 10}},
    },
    "job_schema": {},
    "job_schema_variants": {"default": {"chunkable_attrs": [["topic", {}], ["word", {}]]}},
}


class Configurations(unittest.TestCase):
    def setUp(self):
        self.cloud = fresh_cloud()

    def configure(self, config):
        """The configuration of sosw's Scheduler, which is jobmill's."""
        self.cloud.configure("sosw_scheduler_config", config)

    def payloads(self, table="sosw_tasks"):
        return [task["payload"] for task in self.cloud.tasks(table)]

    def test_the_example_of_sosws_repository(self):
        self.configure(EXAMPLE)
        self.assertEqual(invoke(JOB, CONFIG)["outcome"], "completed")
        self.assertEqual(self.payloads(), SPLIT)
        orchestrate()
        self.assertEqual(len(self.cloud.functions.take("report")), 3)

    def test_sosw_itself_fails_on_that_example(self):
        self.configure(EXAMPLE)
        with self.assertRaises(IndexError):
            schedule(JOB)  # its built-in empty variant `default` counts more than `job_schema`

    def test_the_configuration_of_sosws_documentation(self):
        self.configure(DOCUMENTED)
        self.assertEqual(invoke(JOB, CONFIG)["outcome"], "completed")
        self.assertEqual(self.payloads(), SPLIT)
        with self.assertRaises(KeyError):
            schedule(JOB)  # sosw fails on the empty `job_schema`

    def test_all_defaults_of_sosw_load(self):
        self.configure(
            {
                **Scheduler.DEFAULT_CONFIG,
                "queue_bucket": BUCKET,
                "job_schema_variants": DOCUMENTED["job_schema_variants"],
                "task_config": {**TaskManager.DEFAULT_CONFIG, "labourers": {"report": {}}},
            }
        )
        self.assertEqual(invoke(JOB, CONFIG)["outcome"], "completed")
        self.assertEqual(self.payloads(), SPLIT)

    def test_a_table_named_at_the_top_alone_is_refused(self):
        self.cloud.dynamodb.create_table(**TABLES["sosw_tasks"] | {"TableName": "other_tasks"})
        schema = {"chunkable_attrs": [["topic", {}], ["word", {}]]}
        at_the_top = {
            **EXAMPLE,
            "dynamo_db_config": {"table_name": "other_tasks"},
            "job_schema_variants": {"default": schema},
        }
        self.configure(at_the_top)
        schedule(JOB)
        self.assertEqual(self.payloads("other_tasks"), SPLIT)
        with self.assertRaises(Failed) as refused:
            invoke(JOB, CONFIG)
        self.assertIn('`dynamo_db_config.table_name` is "other_tasks"', str(refused.exception))
        self.assertEqual(self.payloads("sosw_tasks"), [], "nothing is written where sosw would not look")

    def test_meta_rows_are_for_those_who_ask(self):
        variants = {"job_schema_variants": {"default": EXAMPLE["job_schema"]}}
        self.configure({**EXAMPLE, **variants})
        schedule(JOB)
        self.assertEqual(len(self.cloud.items("sosw_tasks_meta")), 3, "sosw writes them where it finds the table")
        invoke(JOB, CONFIG)
        self.assertEqual(len(self.cloud.items("sosw_tasks_meta")), 3)
        self.configure({**EXAMPLE, **variants, "meta_handler_config": {"write_meta_to_ddb": True}})
        invoke(JOB, CONFIG)
        self.assertEqual(len(self.cloud.items("sosw_tasks_meta")), 6)

    def test_labourers_outside_task_config_are_refused(self):
        self.configure({**EXAMPLE, "labourers": {"report": {}}})
        with self.assertRaises(Failed) as refused:
            invoke(JOB, CONFIG)
        self.assertEqual(refused.exception.kind, "InvalidConfig")
        self.assertIn("`labourers`", str(refused.exception))

    def test_the_shared_configuration_of_sosws_lambdas_is_not_read(self):
        self.cloud.configure("sosw_essential_config", {"task_config": EXAMPLE["task_config"]})
        schema = EXAMPLE["job_schema"]
        self.configure({"queue_bucket": BUCKET, "job_schema": schema, "job_schema_variants": {"default": schema}})
        schedule(JOB)
        self.assertEqual(self.payloads(), SPLIT)
        with self.assertRaises(Failed) as refused:
            invoke(JOB, CONFIG)
        self.assertEqual(refused.exception.kind, "UnknownLabourer")
