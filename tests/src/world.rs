//! A local cloud with bucket, tables and the real bootstrap as a function, and the audit of what stands there.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a world that can't be made or read is a failed test"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jobmill_core::task::greenfield::Greenfield;

use jobmill_core::task::identity::TaskIds;
use jobmill_core::task::tables::Tables;
use jobmill_local::{FunctionSpec, InvocationOutcome, InvocationRecord, LocalCloud, LocalCloudOptions};
use serde_json::{Value, json};

/// The bucket of queue files.
pub const BUCKET: &str = "jobmill-queue";
/// The prefix in it.
pub const PREFIX: &str = "sosw/scheduler";
/// The name of the function.
pub const FUNCTION: &str = "jobmill";

/// A task as it stands in the tasks table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTask {
    /// Its id.
    pub task_id: String,
    /// Its place in the queue.
    pub greenfield: Greenfield,
    /// Its payload.
    pub payload: Value,
}

/// Everything that an invocation can see.
#[derive(Debug)]
pub struct World {
    /// The cloud.
    pub cloud: LocalCloud,
}

/// A configuration with the labourer `worker`, the schema section, store, product, and `more` laid over it.
#[must_use]
pub fn config(more: Value) -> Value {
    let mut config = json!({
        "queue_bucket": BUCKET,
        "task_config": { "labourers": { "worker": { "arn": "arn:aws:lambda:us-east-1:000000000000:function:worker" } } },
        "job_schema_variants": { "default": { "chunkable_attrs": [["section", {}], ["store", {}], ["product", {}]] } },
    });
    if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
        config.extend(more);
    }
    config
}

/// A job of `rows` sections, each on its own.
#[must_use]
pub fn flat_job(rows: usize) -> Value {
    let sections: Vec<String> = (0..rows).map(|row| format!("section-{row}")).collect();
    json!({ "lambda_name": "worker", "isolate_sections": true, "note": "flat", "sections": sections })
}

impl World {
    /// A cloud with bucket and tables, and `bootstrap` as a function with that configuration and time-out.
    pub async fn start(bootstrap: &Path, config: &Value, timeout: Duration) -> Self {
        let cloud = LocalCloud::start(LocalCloudOptions::default())
            .await
            .expect("the cloud starts");
        cloud.create_bucket(BUCKET);
        cloud
            .create_task_tables(&Tables::default())
            .expect("the tables are created");
        let world = Self { cloud };
        world.register(FUNCTION, bootstrap, &config.to_string(), timeout);
        world
    }

    /// Registers `bootstrap` as another function; `source` is its `JOBMILL_CONFIG`.
    pub fn register(&self, name: &str, bootstrap: &Path, source: &str, timeout: Duration) {
        self.cloud.register_function(
            FunctionSpec::new(name, bootstrap)
                .env("JOBMILL_CONFIG", source)
                .timeout(timeout)
                .retry_delays([]),
        );
    }

    /// Invokes the function and waits for its answer: the outcome, or type and sentence of the error.
    pub async fn invoke(&self, event: &Value) -> Result<Value, (String, String)> {
        let answer = self
            .cloud
            .invoke(FUNCTION, event.to_string())
            .await
            .expect("the function answers");
        let payload: Value = serde_json::from_slice(&answer.payload).unwrap_or(Value::Null);
        if answer.function_error.is_none() {
            return Ok(payload);
        }
        let text = |key: &str| {
            payload
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Err((text("errorType"), text("errorMessage")))
    }

    /// The invocations so far, oldest first, each with its outcome.
    pub fn outcomes(&self) -> Vec<String> {
        let name = |record: &InvocationRecord| match &record.outcome {
            Some(InvocationOutcome::Succeeded(payload)) => {
                let payload: Value = serde_json::from_slice(payload).unwrap_or(Value::Null);
                payload
                    .get("outcome")
                    .and_then(Value::as_str)
                    .unwrap_or("?")
                    .to_owned()
            }
            other => format!("{other:?}"),
        };
        self.cloud.invocations().iter().map(name).collect()
    }

    /// The tasks, in the order of the queue.
    pub fn tasks(&self) -> Vec<StoredTask> {
        let items = self.cloud.scan_table("sosw_tasks").expect("the table is there");
        let mut tasks: Vec<StoredTask> = items
            .iter()
            .map(|item| {
                let field = |name: &str, kind: &str| {
                    item.get(name)
                        .and_then(|value| value.get(kind))
                        .and_then(Value::as_str)
                        .expect("the field is there")
                };
                assert_eq!(field("attempts", "N"), "0");
                assert_eq!(field("labourer_id", "S"), "worker");
                StoredTask {
                    task_id: field("task_id", "S").to_owned(),
                    greenfield: Greenfield::parse(field("greenfield", "N")).expect("a number"),
                    payload: serde_json::from_str(field("payload", "S")).expect("the payload is JSON"),
                }
            })
            .collect();
        tasks.sort_by_key(|task| task.greenfield);
        tasks
    }

    /// Objects below the prefix, without it.
    pub fn objects(&self) -> Vec<String> {
        let prefix = format!("{PREFIX}/");
        let keys = self.cloud.bucket_keys(BUCKET, &prefix);
        keys.iter()
            .filter_map(|key| key.strip_prefix(&prefix))
            .map(str::to_owned)
            .collect()
    }

    /// Asserts that a run is whole: its tasks as [`World::assert_tasks`] says, and of the run only the receipt is left in
    /// the bucket. Gives the tasks.
    pub fn assert_whole(&self, run_id: &str, rows: usize) -> Vec<StoredTask> {
        let tasks = self.assert_tasks(run_id, rows);
        assert_eq!(
            self.objects(),
            [format!("done/tasks_queue_{run_id}.txt.json")],
            "only the receipt is left"
        );
        tasks
    }

    /// Asserts that there are `rows` tasks, each with the id of its row, in the order of the rows, none in the future.
    /// Gives the tasks.
    pub fn assert_tasks(&self, run_id: &str, rows: usize) -> Vec<StoredTask> {
        let tasks = self.tasks();
        assert_eq!(tasks.len(), rows, "a task for each row");
        let ids = TaskIds::new(BUCKET, PREFIX, run_id);
        for (row, task) in tasks.iter().enumerate() {
            assert_eq!(
                task.task_id,
                ids.at(row as u64),
                "the id of row {row}, in the order of the queue"
            );
        }
        let greenfields: BTreeSet<Greenfield> = tasks.iter().map(|task| task.greenfield).collect();
        assert_eq!(greenfields.len(), rows, "a greenfield for each row");
        #[allow(
            clippy::disallowed_methods,
            reason = "the audit asks whether a task lies in the future"
        )]
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970");
        let now = Greenfield::from_millis(i64::try_from(now.as_millis()).expect("a date"));
        assert!(
            greenfields.last().is_none_or(|last| *last <= now),
            "no task is born in the future"
        );
        tasks
    }
}
