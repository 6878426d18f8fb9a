//! Whole invocations on the ports in memory: what becomes of a run when one object, one row, one service or another
//! deployment is in the way.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jobmill_core::config::Config;
use jobmill_core::job::event;
use jobmill_core::queue::lock::Lock;
use jobmill_core::task::identity::TaskIds;
use jobmill_engine::ports::{
    Clock as _, ETag, Metadata, Object, ObjectHead, ObjectStore, PortError, PortResult, PutIf,
};
use jobmill_engine::schedule::{Context, Engine, Observation, Outcome};
use jobmill_engine::{EngineError, Limits};
use jobmill_memory::{MemorySiblings, MemoryStore, MemoryTasks, VirtualClock, VirtualHost};
use serde_json::{Value, json};

/// The bucket with an object that nobody may touch, or whose puts never come to an answer.
struct Troubled {
    bucket: MemoryStore,
    host: VirtualHost,
    /// Reads of keys with this in them are refused.
    forbidden: &'static str,
    /// Puts of keys with this in them hang, but for the first so many.
    hanging: &'static str,
    put_first: u64,
    puts: AtomicU64,
    /// The next put of a lock is refused, as if somebody else's were there; it is gone when somebody looks.
    overtaken: AtomicBool,
}

impl Troubled {
    fn check(&self, operation: &'static str, key: &str) -> PortResult<()> {
        if !self.forbidden.is_empty() && key.contains(self.forbidden) {
            return Err(PortError::Refused {
                operation,
                code: "AccessDenied".to_owned(),
                message: "not for you".to_owned(),
            });
        }
        Ok(())
    }
}

impl ObjectStore for Troubled {
    type Upload = <MemoryStore as ObjectStore>::Upload;

    async fn get(&self, key: &str, limit: u64) -> PortResult<Option<Object>> {
        self.check("s3:GetObject", key)?;
        self.bucket.get(key, limit).await
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> PortResult<Option<Bytes>> {
        self.check("s3:GetObject", key)?;
        self.bucket.get_range(key, offset, length).await
    }

    async fn head(&self, key: &str) -> PortResult<Option<ObjectHead>> {
        self.check("s3:HeadObject", key)?;
        self.bucket.head(key).await
    }

    async fn put(&self, key: &str, body: Bytes, metadata: &Metadata, condition: PutIf) -> PortResult<ETag> {
        if key.contains("locked_") && self.overtaken.swap(false, Ordering::Relaxed) {
            return Err(PortError::PreconditionFailed {
                operation: "s3:PutObject",
            });
        }
        if !self.hanging.is_empty()
            && key.contains(self.hanging)
            && self.puts.fetch_add(1, Ordering::Relaxed) >= self.put_first
        {
            self.host.sleep(Duration::from_secs(12)).await;
            return Err(PortError::Unknown {
                operation: "s3:PutObject",
                message: "timed out".to_owned(),
            });
        }
        self.bucket.put(key, body, metadata, condition).await
    }

    async fn begin_upload(&self, key: &str, metadata: &Metadata) -> PortResult<Self::Upload> {
        self.bucket.begin_upload(key, metadata).await
    }

    async fn upload_part(&self, upload: &mut Self::Upload, body: Bytes) -> PortResult<()> {
        self.bucket.upload_part(upload, body).await
    }

    async fn complete_upload(&self, upload: Self::Upload) -> PortResult<ETag> {
        self.bucket.complete_upload(upload).await
    }

    async fn abort_upload(&self, upload: Self::Upload) -> PortResult<()> {
        self.bucket.abort_upload(upload).await
    }

    async fn delete(&self, key: &str, only: Option<&ETag>) -> PortResult<()> {
        self.bucket.delete(key, only).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> PortResult<Vec<String>> {
        self.bucket.list(prefix, after).await
    }
}

/// Bucket, tables and time.
struct Stage {
    clock: VirtualClock,
    store: Troubled,
    tasks: MemoryTasks,
    siblings: MemorySiblings,
}

fn config(prefix: &str) -> Config {
    Config::read(&json!({
        "queue_bucket": "queue",
        "s3_prefix": prefix,
        "job_schema": { "chunkable_attrs": [["section", {}]] },
        "task_config": { "labourers": { "worker": {} } },
    }))
    .unwrap()
}

fn job(sections: usize, run_id: &str) -> Value {
    let sections: Vec<String> = (0..sections).map(|section| format!("s{section}")).collect();
    let job = json!({ "lambda_name": "worker", "isolate_sections": true, "sections": sections });
    json!({ "job": job, "run_id": run_id })
}

impl Stage {
    fn new() -> Self {
        let clock = VirtualClock::default();
        Self {
            store: Troubled {
                bucket: MemoryStore::new(clock.clone()),
                host: VirtualHost::new(clock.clone(), 1),
                forbidden: "",
                hanging: "",
                put_first: 0,
                puts: AtomicU64::new(0),
                overtaken: AtomicBool::new(false),
            },
            tasks: MemoryTasks::new(clock.clone()),
            siblings: MemorySiblings::default(),
            clock,
        }
    }

    fn put(&self, key: &str, body: &str, metadata: &[(&str, &str)]) {
        let metadata = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let body = Bytes::from(body.to_owned());
        self.store
            .bucket
            .with(|bucket, now| bucket.put(now, key, body, &metadata, &PutIf::Absent))
            .unwrap();
    }

    fn keys(&self) -> Vec<String> {
        self.store.bucket.with(|bucket, _| bucket.list("", None))
    }

    fn invoke(&self, prefix: &str, event: Value) -> Result<Outcome, EngineError> {
        let config = config(prefix);
        let host = VirtualHost::new(self.clock.clone(), 7);
        let engine = Engine {
            store: &self.store,
            tasks: &self.tasks,
            siblings: &self.siblings,
            host: &host,
            config: &config,
            limits: Limits::default(),
            request_time: Duration::from_secs(5),
            observer: &|_: Observation<'_>| {},
        };
        let context = Context {
            request_id: "request".to_owned(),
            deadline: self.clock.now() + Duration::from_secs(900),
        };
        self.clock
            .run(async { engine.run(event::read(event)?, &context).await })
            .unwrap()
    }

    fn count(&self, prefix: &str, run_id: &str) -> usize {
        let ids = TaskIds::new("queue", prefix, run_id);
        self.tasks
            .with(|tables, _| tables.tasks.ids().filter(|id| ids.row_of(id).is_some()).count())
    }
}

const LABEL: [(&str, &str); 4] = [
    ("jobmill", "rows"),
    ("run", "r"),
    ("rows", "1"),
    ("fingerprint", "0"),
];

/// Files that wait, beside one object that is in the way.
fn swept(stage: &Stage) -> (Vec<String>, Vec<String>, Vec<String>) {
    for name in ["tasks_queue_a.txt", "tasks_queue_b.txt", "tasks_queue_z.txt"] {
        stage.put(&format!("p/{name}"), "{\"labourer_id\":\"worker\"}\n", &LABEL);
    }
    stage.clock.advance(Duration::from_secs(3600));
    match stage.invoke("p", json!({ "sweep": true })).unwrap() {
        Outcome::Swept {
            mut files,
            stopped,
            unreadable,
            ..
        } => {
            files.sort();
            (files, stopped, unreadable)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sweep_goes_on_past_an_object_that_is_larger_than_any_lock() {
    let stage = Stage::new();
    stage.put(
        "p/locked_m.txt",
        &"{\"labourer_id\":\"worker\"}\n".repeat(4_000),
        &[],
    );
    let (files, stopped, unreadable) = swept(&stage);
    assert_eq!(
        files,
        ["tasks_queue_a.txt", "tasks_queue_b.txt", "tasks_queue_z.txt"]
    );
    assert!(
        stopped.is_empty() && unreadable.is_empty(),
        "it is sosw's: {stopped:?} {unreadable:?}"
    );
}

#[test]
fn a_sweep_goes_on_past_objects_that_it_may_not_read() {
    let mut stage = Stage::new();
    stage.store.forbidden = "secret";
    stage.put("p/locked_secret.txt", "{}", &[]);
    stage.put("p/tasks_queue_secret2.txt", "{}", &[]);
    let (files, stopped, mut unreadable) = swept(&stage);
    unreadable.sort();
    assert_eq!(
        files,
        ["tasks_queue_a.txt", "tasks_queue_b.txt", "tasks_queue_z.txt"]
    );
    assert_eq!(
        (stopped.len(), unreadable),
        (
            0,
            vec!["secret.txt".to_owned(), "tasks_queue_secret2.txt".to_owned()]
        )
    );
}

#[test]
fn deployments_that_share_tables_and_a_run_id_have_all_their_tasks() {
    let stage = Stage::new();
    for prefix in ["p", "q"] {
        let outcome = stage.invoke(prefix, job(60, "2024-03-06")).unwrap();
        let Outcome::Completed(summary) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(
            (summary.counters.created, summary.counters.already_there),
            (60, 0)
        );
    }
    assert_eq!(
        (stage.count("p", "2024-03-06"), stage.count("q", "2024-03-06")),
        (60, 60)
    );
}

#[test]
fn a_lock_that_came_and_went_is_looked_for_again() {
    let stage = Stage::new();
    stage.store.overtaken.store(true, Ordering::Relaxed);
    let outcome = stage.invoke("p", job(3, "r")).unwrap();
    assert!(matches!(outcome, Outcome::Completed(_)), "{outcome:?}");
    assert_eq!(stage.count("p", "r"), 3);
}

#[test]
fn a_run_whose_receipt_is_gone_does_not_pass_for_a_new_one() {
    let stage = Stage::new();
    stage.invoke("p", job(60, "r")).unwrap();
    stage
        .store
        .bucket
        .with(|bucket, _| bucket.delete("p/done/tasks_queue_r.txt.json", None))
        .unwrap();
    for _ in 0..2 {
        let error = stage.invoke("p", job(60, "r")).unwrap_err();
        assert_eq!(error.error_type(), "TaskIdTaken", "{error}");
        stage.clock.advance(Duration::from_secs(60));
    }
    // Whoever knows that they are the tasks of this run says so.
    let outcome = loop {
        match stage.invoke("p", json!({ "file_name": "tasks_queue_r.txt" })) {
            Err(error) => assert_eq!(error.error_type(), "TaskIdTaken"),
            Ok(outcome) => break outcome,
        }
    };
    assert!(matches!(outcome, Outcome::Completed(_)), "{outcome:?}");
    assert_eq!(stage.count("p", "r"), 60);
}

#[test]
fn a_lease_that_ran_out_is_no_success() {
    let mut stage = Stage::new();
    // The lock is created, and no later write of it is ever answered.
    (stage.store.hanging, stage.store.put_first) = ("locked_", 1);
    let error = stage.invoke("p", job(200_000, "r")).unwrap_err();
    assert_eq!(error.error_type(), "LeaseRanOut", "{error}");
    // The same event goes on there.
    stage.store.hanging = "";
    stage.clock.advance(Duration::from_secs(60));
    let outcome = stage.invoke("p", job(200_000, "r")).unwrap();
    assert!(matches!(outcome, Outcome::Completed(_)), "{outcome:?}");
    assert_eq!(stage.count("p", "r"), 200_000);
}

#[test]
fn a_row_that_the_table_refuses_is_passed_over_on_request() {
    let stage = Stage::new();
    let row = |row: usize, pad: usize| {
        format!(
            "{{\"row\":{row},\"pad\":\"{}\",\"labourer_id\":\"worker\"}}\n",
            "x".repeat(pad)
        )
    };
    let file: String = (0..40)
        .map(|at| row(at, if at == 30 { 500_000 } else { 0 }))
        .collect();
    stage.put("p/left.txt", &file, &[]);
    let error = stage.invoke("p", json!({ "file_name": "left.txt" })).unwrap_err();
    assert_eq!(error.error_type(), "DamagedQueue", "{error}");
    assert!(error.to_string().contains("line 31 "), "{error}");
    let name = stage
        .keys()
        .into_iter()
        .find_map(|key| Some(key.strip_prefix("p/locked_")?.to_owned()))
        .unwrap();
    // It was sent, so that it goes by transaction now; it is that row's trouble all the same.
    let again = stage.invoke("p", json!({ "file_name": name })).unwrap_err();
    assert_eq!(again, error);
    let swept = stage.invoke("p", json!({ "sweep": true })).unwrap();
    assert!(
        matches!(&swept, Outcome::Swept { files, stopped, .. } if files.is_empty() && *stopped == [name.clone()]),
        "{swept:?}"
    );
    let outcome = stage
        .invoke("p", json!({ "file_name": name, "skip_line": 31 }))
        .unwrap();
    let Outcome::Completed(summary) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(summary.counters.skipped, 1);
    assert_eq!(stage.tasks.with(|tables, _| tables.tasks.len()), 39);
}

#[test]
fn an_empty_file_of_sosw_is_nothing_to_do() {
    for body in ["", "\n", " \n\n"] {
        let stage = Stage::new();
        stage.put("p/tasks_queue_empty.txt", body, &[]);
        let outcome = stage
            .invoke("p", json!({ "file_name": "tasks_queue_empty.txt" }))
            .unwrap();
        assert!(matches!(outcome, Outcome::NothingToDo { .. }), "{outcome:?}");
        assert!(stage.keys().is_empty(), "{:?}", stage.keys());
    }
    // As an earlier release left it: adopted, without a row.
    let stage = Stage::new();
    let label = [
        ("jobmill", "rows"),
        ("run", "sosw-1"),
        ("rows", "0"),
        ("fingerprint", "0"),
    ];
    stage.put("p/tasks_queue_sosw-1.txt", "", &label);
    let outcome = stage
        .invoke("p", json!({ "file_name": "tasks_queue_sosw-1.txt" }))
        .unwrap();
    assert!(matches!(outcome, Outcome::NothingToDo { .. }), "{outcome:?}");
    assert!(stage.keys().is_empty());
}

/// Another release may make other rows out of the same job: those that stand count.
#[test]
fn rows_that_stand_are_not_counted_by_another_plan() {
    let stage = Stage::new();
    let event::Request::Job(request) = event::read(job(3, "r")).unwrap() else {
        unreachable!()
    };
    let now = jobmill_core::job::period::AsOf::from_millis(jobmill_memory::EPOCH_MS).unwrap();
    let plan = jobmill_core::job::plan::Plan::make(&config("p"), request, None, now).unwrap();
    let row = "{\"labourer_id\":\"worker\"}\n";
    let label = [
        ("jobmill", "rows"),
        ("run", "r"),
        ("rows", "5"),
        ("fingerprint", plan.fingerprint.as_str()),
    ];
    stage.put("p/tasks_queue_r.txt", &row.repeat(5), &label);
    let outcome = stage.invoke("p", job(3, "r")).unwrap();
    assert!(
        matches!(&outcome, Outcome::Completed(summary) if summary.rows == 5),
        "{outcome:?}"
    );
    assert_eq!(stage.count("p", "r"), 5);
}

#[test]
fn a_run_that_began_before_ids_said_their_queue_keeps_its_ids() {
    let stage = Stage::new();
    let lock = json!({
        "version": 1, "run": "r", "fingerprint": "0", "as_of": null, "rows": 2, "first_greenfield": "1000",
        "step": "1", "epoch": 1, "rev": 1, "holder": null, "lease_seconds": 30, "cursor": { "row": 0, "byte": 0 },
        "claimed": 1, "hop": 0, "started_ms": 0,
        "counters": { "created": 0, "already_there": 0, "throttled": 0, "requests": 0 },
    });
    let lock = Lock::parse("x", lock.to_string().as_bytes()).unwrap();
    let ids = TaskIds::of(lock.ids, "queue", "p", "r");
    stage.put(
        "p/tasks_queue_r.txt",
        &"{\"labourer_id\":\"worker\"}\n".repeat(2),
        &LABEL,
    );
    stage.put(
        "p/locked_tasks_queue_r.txt",
        &String::from_utf8(lock.to_json()).unwrap(),
        &[("jobmill", "lock")],
    );
    stage
        .invoke("p", json!({ "file_name": "tasks_queue_r.txt" }))
        .unwrap();
    let there: Vec<String> = stage
        .tasks
        .with(|tables, _| tables.tasks.ids().cloned().collect());
    assert!(
        there.len() == 2 && there.contains(&ids.at(0)) && there.contains(&ids.at(1)),
        "{there:?}"
    );
}

/// Two sections, each on its own, and a flag that means nothing.
fn odd_job(more: &[(&str, Value)]) -> Value {
    let mut event = json!({ "run_id": "odd", "job": {
        "lambda_name": "worker", "isolate_sections": true, "isolate_planets": true, "sections": ["a", "b"],
    } });
    for (key, value) in more {
        event[key] = value.clone();
    }
    event
}

#[test]
fn warnings_are_in_the_outcome() {
    let stage = Stage::new();
    let outcome = serde_json::to_value(stage.invoke("p", odd_job(&[])).unwrap()).unwrap();
    assert_eq!(outcome["outcome"], "completed");
    assert_eq!(
        outcome["warnings"],
        json!([{
            "type": "unknown_flag", "document": "job", "path": "$.isolate_planets",
            "message": "`isolate_planets` looks like a flag, but schema `default` has no such attribute: it is payload",
        }])
    );
    let mut nothing = odd_job(&[]);
    nothing["job"]["sections"] = json!([]);
    let outcome = serde_json::to_value(stage.invoke("p", nothing).unwrap()).unwrap();
    assert_eq!(outcome["outcome"], "nothing_to_do");
    assert_eq!(outcome["warnings"][0]["type"], "unknown_flag");
}

#[test]
fn a_job_that_strict_refuses_is_refused_at_each_delivery_and_writes_nothing() {
    let stage = Stage::new();
    let refused = || match stage.invoke("p", odd_job(&[("strict", json!(true))])) {
        Err(EngineError::Input(error)) => error,
        other => panic!("{other:?}"),
    };
    let first = refused();
    assert_eq!(first.kind.name(), "InvalidJob");
    assert_eq!(refused(), first);
    assert_eq!((stage.keys(), stage.count("p", "odd")), (Vec::new(), 0));
}

#[test]
fn whether_warnings_are_refused_is_no_part_of_a_run() {
    let stage = Stage::new();
    assert!(matches!(
        stage.invoke("p", odd_job(&[])).unwrap(),
        Outcome::Completed(_)
    ));
    let again = stage.invoke("p", odd_job(&[("strict", json!(false))])).unwrap();
    assert!(
        matches!(again, Outcome::AlreadyCompleted { rows: 2, .. }),
        "{again:?}"
    );
    // The wish is heard before anything is looked up; what stands is left as it is.
    let before = stage.keys();
    assert!(stage.invoke("p", odd_job(&[("strict", json!(true))])).is_err());
    assert_eq!((stage.keys(), stage.count("p", "odd")), (before, 2));
}
