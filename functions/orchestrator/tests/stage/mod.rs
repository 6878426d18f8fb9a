//! A deployment in the local cloud: the real orchestrator, and workers that do what their tasks say.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    reason = "each test file uses a part; tests and workers live by the real clock"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use jobmill_aws::{ClientOptions, Clients};
use jobmill_local::{FunctionSpec, InvocationRecord};
use jobmill_tests::world::{FUNCTION, World, config};
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::{Value, json};
use tokio::time::Instant;

pub(crate) const ORCHESTRATOR: &str = env!("CARGO_BIN_EXE_orchestrator");
/// Only a hang takes longer, also on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);
/// The labourer, and the name of its function.
pub(crate) const WORKER: &str = "worker";

/// The worker: `{"fail_until": 1}` fails at the attempts before that one, `{"fail": true}` at all of them, `{"hang": true}`
/// never answers, `{"sleep_ms": 5}` takes its time; `answer` is what it returns.
async fn work(event: LambdaEvent<Value>) -> Result<Value, lambda_runtime::Error> {
    let told = event.payload;
    let attempts = told["attempts"].as_u64().ok_or("no `attempts`")?;
    if told["hang"] == true {
        std::future::pending::<()>().await;
    }
    if let Some(time) = told["sleep_ms"].as_u64() {
        // It is the work.
        tokio::time::sleep(Duration::from_millis(time)).await;
    }
    if told["fail"] == true || told["fail_until"].as_u64().is_some_and(|until| attempts < until) {
        return Err(format!("as told at attempt {attempts}").into());
    }
    Ok(told["answer"].clone())
}

/// The program of the worker is this test's own: a script runs it with this test as the only one.
#[test]
#[ignore = "the local cloud runs it as a function"]
fn serves() {
    let is_a_function = std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some();
    if is_a_function {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(lambda_runtime::run(service_fn(work))).unwrap();
    }
}

/// The bootstrap of the worker.
pub(crate) fn worker() -> &'static Path {
    static SCRIPT: OnceLock<PathBuf> = OnceLock::new();
    SCRIPT.get_or_init(|| {
        use std::os::unix::fs::PermissionsExt as _;

        let program = std::env::current_exe().unwrap();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let name = program.file_name().unwrap().to_str().unwrap().to_owned();
        let script = folder.join(format!("{name}.sh"));
        // Another process may be doing the same: a whole file takes the place of a whole file.
        let fresh = folder.join(format!("{name}.{}", std::process::id()));
        let text = format!(
            "#!/bin/sh\nexec '{}' --exact stage::serves --ignored --nocapture\n",
            program.display()
        );
        std::fs::write(&fresh, text).unwrap();
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&fresh, &script).unwrap();
        script
    })
}

/// A world with the orchestrator, and a worker that may take `longest`.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) queue: String,
}

/// How a closed task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) outcome: String,
    pub(crate) attempts: u64,
    pub(crate) error: String,
    pub(crate) result: String,
}

impl Stage {
    /// `labourer` is laid over a labourer whose tasks may take 3 s; `timeout` is the orchestrator's.
    pub(crate) async fn start(labourer: Value, timeout: Duration) -> Self {
        let script = worker();
        let mut of_it = json!({
            "arn": WORKER, "max_duration": 3, "max_simultaneous_invocations": 8, "max_attempts": 2, "retry_delay": 1,
            "retry_backoff": 1,
        });
        of_it
            .as_object_mut()
            .unwrap()
            .extend(labourer.as_object().unwrap().clone());
        // The URL of a queue says the port of its cloud: it is known once that runs.
        let world = World::start(Path::new(ORCHESTRATOR), &json!({}), timeout).await;
        let queue = world.cloud.create_queue("outcomes");
        let config = config(json!({
            "outcome_queue": queue, "task_config": { "labourers": { WORKER: of_it } },
        }));
        world.register(FUNCTION, Path::new(ORCHESTRATOR), &config.to_string(), timeout);
        let stage = Self { world, queue };
        stage.hire(FunctionSpec::new(WORKER, script).timeout(Duration::from_secs(3)));
        stage
    }

    /// Makes a worker's function known, as `jobmill labourers connect` leaves it: no retries of the platform.
    pub(crate) fn hire(&self, function: FunctionSpec) {
        let function = function
            .max_concurrency(32)
            .retry_delays([])
            .max_event_age(Duration::from_secs(60));
        self.world.cloud.register_function(function);
    }

    /// Its outcomes go to the queue.
    pub(crate) async fn connect(&self) {
        use aws_sdk_lambda::types::{DestinationConfig, OnFailure, OnSuccess};

        let arn = self.world.cloud.queue_arn("outcomes");
        let destinations = DestinationConfig::builder()
            .on_success(OnSuccess::builder().destination(&arn).build())
            .on_failure(OnFailure::builder().destination(&arn).build())
            .build();
        let clients = Clients::at_endpoint(self.world.cloud.endpoint(), ClientOptions::default());
        clients
            .lambda
            .put_function_event_invoke_config()
            .function_name(WORKER)
            .destination_config(destinations)
            .maximum_retry_attempts(0)
            .send()
            .await
            .unwrap();
    }

    /// Queues a task for the worker.
    pub(crate) fn queue(&self, task_id: &str, payload: &str) {
        let place = 1_700_000_000 + self.len("sosw_tasks");
        let item = json!({
            "task_id": { "S": task_id }, "labourer_id": { "S": WORKER }, "created_at": { "N": "1700000000" },
            "greenfield": { "N": place.to_string() }, "attempts": { "N": "0" }, "payload": { "S": payload },
        });
        self.world.cloud.put_item("sosw_tasks", item).unwrap();
    }

    pub(crate) fn wake(&self) {
        self.world.cloud.invoke_event(FUNCTION, "{}").unwrap();
    }

    pub(crate) fn len(&self, table: &str) -> usize {
        self.world.cloud.scan_table(table).unwrap().len()
    }

    /// How closed tasks ended, by id.
    pub(crate) fn closed(&self) -> BTreeMap<String, Closed> {
        let items = self.world.cloud.scan_table("sosw_closed_tasks").unwrap();
        let closed = |item: &Value| {
            let text = |name: &str| item[name]["S"].as_str().unwrap_or_default().to_owned();
            let status = item["labourer_id_task_status"]["S"].as_str().unwrap();
            let outcome = text("outcome");
            assert_eq!(
                status,
                format!("{WORKER}_{}", u8::from(outcome == "succeeded")),
                "as sosw has it"
            );
            let closed = Closed {
                outcome,
                attempts: item["attempts"]["N"].as_str().unwrap().parse().unwrap(),
                error: item["last_error"]["M"]["type"]["S"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                result: text("result"),
            };
            (text("task_id"), closed)
        };
        items.iter().map(closed).collect()
    }

    /// Looks until it holds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(
                began.elapsed() < PATIENCE,
                "{what}: {} queued or running, {} waiting, {} closed; {:?}; {:#?}",
                self.len("sosw_tasks"),
                self.len("sosw_retry_tasks"),
                self.len("sosw_closed_tasks"),
                self.outcomes(),
                self.world.cloud.logs().iter().rev().take(5).collect::<Vec<_>>()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn until_closed(&self, count: usize) {
        self.until("all are closed", |stage| stage.len("sosw_closed_tasks") == count)
            .await;
        // In one transaction with the closing.
        assert_eq!((self.len("sosw_tasks"), self.len("sosw_retry_tasks")), (0, 0));
    }

    pub(crate) fn invocations_of(&self, function: &str) -> Vec<InvocationRecord> {
        let mut records = self.world.cloud.invocations();
        records.retain(|record| record.function == function);
        records
    }

    /// How the orchestrator's invocations have ended so far.
    pub(crate) fn outcomes(&self) -> Vec<String> {
        let records = self.invocations_of(FUNCTION);
        records
            .iter()
            .map(|record| format!("{:?}", record.outcome))
            .collect()
    }

    /// How often each attempt was started, by task and attempts before it.
    pub(crate) fn starts(&self) -> BTreeMap<(String, u64), usize> {
        let mut starts = BTreeMap::new();
        for record in self.invocations_of(WORKER) {
            let told: Value = serde_json::from_slice(&record.payload).unwrap();
            let task_id = told["task_id"].as_str().unwrap().to_owned();
            *starts
                .entry((task_id, told["attempts"].as_u64().unwrap()))
                .or_default() += 1;
        }
        starts
    }

    /// The lines of metrics of all labourers together, added up.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let lines = self.world.cloud.logs();
        let parsed = lines
            .iter()
            .filter(|line| line.function == FUNCTION)
            .filter_map(|line| serde_json::from_str::<Value>(&line.text).ok());
        parsed
            .filter(|line| line["Labourer"].is_null() && line["_aws"].is_object())
            .filter_map(|line| line[name].as_f64())
            .sum()
    }
}
