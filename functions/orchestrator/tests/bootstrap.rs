//! The real orchestrator under the local Lambda, over HTTP, with workers that are functions of their own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod stage;

use std::time::Duration;

use jobmill_core::queue::group::GroupLock;
use jobmill_local::{FunctionSpec, InvocationOutcome, Service};
use jobmill_tests::world::{BUCKET, FUNCTION, PREFIX};
use serde_json::{Value, json};
use stage::{PATIENCE, Stage, WORKER, worker};

const TIMEOUT: Duration = Duration::from_secs(120);

fn lock(stage: &Stage) -> GroupLock {
    let key = format!("{PREFIX}/dispatch/main.json");
    let object = stage.world.cloud.object(BUCKET, &key).unwrap();
    GroupLock::parse(&key, &object.body).unwrap()
}

/// What the workers of 24 tasks do, and how each must end: outcome, attempts, error.
fn all_kinds(stage: &Stage) {
    for task in 0..12 {
        stage.queue(&format!("well-{task}"), r#"{"answer": {"rows": 3}}"#);
    }
    for task in 0..4 {
        stage.queue(&format!("once-{task}"), r#"{"fail_until": 1}"#);
        stage.queue(&format!("always-{task}"), r#"{"fail": true}"#);
    }
    stage.queue("hangs", r#"{"hang": true}"#);
    let enough = r#"{"answer": {"jobmill": {"outcome": "failed", "retry": false, "error": "no such shop"}}}"#;
    stage.queue("no-retry", enough);
    stage.queue("no-json", "{");
    stage.queue(
        "too-large",
        &json!({ "text": "x".repeat(300_000), "more": "x".repeat(90_000) }).to_string(),
    );
}

fn assert_all_kinds(stage: &Stage) {
    let closed = stage.closed();
    let ended = |id: &str| {
        let closed = &closed[id];
        (closed.outcome.as_str(), closed.attempts, closed.error.as_str())
    };
    for task in 0..12 {
        let id = format!("well-{task}");
        assert_eq!(ended(&id), ("succeeded", 1, ""));
        assert_eq!(closed[&id].result, r#"{"rows":3}"#);
    }
    for task in 0..4 {
        assert_eq!(ended(&format!("once-{task}")).0, "succeeded");
        assert_eq!(ended(&format!("once-{task}")).1, 2);
        let (outcome, attempts, _) = ended(&format!("always-{task}"));
        assert_eq!((outcome, attempts), ("failed", 2));
    }
    assert_eq!(ended("hangs"), ("failed", 2, "Sandbox.Timedout"));
    assert_eq!((ended("no-retry").0, ended("no-retry").1), ("failed", 1));
    assert_eq!(ended("no-json"), ("failed", 1, "InvalidPayload"));
    let starts = stage.starts();
    assert!(
        starts.values().all(|count| *count == 1),
        "each attempt once: {starts:?}"
    );
    // The payload that is no JSON was never started.
    assert_eq!(
        starts.len(),
        closed.values().map(|one| one.attempts as usize).sum::<usize>() - 1
    );
}

#[tokio::test]
async fn tasks_are_closed_as_the_answers_of_their_workers_say() {
    let stage = Stage::start(json!({}), TIMEOUT).await;
    all_kinds(&stage);
    let answer = stage.world.invoke(&json!({})).await.unwrap();
    assert_eq!((stage.len("sosw_tasks"), stage.len("sosw_retry_tasks")), (0, 0));
    assert_all_kinds(&stage);
    assert_eq!(
        json!([
            answer["outcome"],
            answer["ended"],
            answer["started"],
            answer["succeeded"],
            answer["failed"],
            answer["retried"]
        ]),
        json!(["dispatched", "idle", 32, 17, 7, 9])
    );
    for (metric, count) in [
        ("TasksStarted", 32.0),
        ("TasksSucceeded", 17.0),
        ("TasksFailed", 7.0),
        ("TasksRetried", 9.0),
        ("WakeUps", 1.0),
        ("Errors", 0.0),
    ] {
        assert_eq!(stage.metric(metric), count, "{metric}");
    }
    let lock = lock(&stage);
    assert_eq!((lock.holder, lock.used.unwrap()[WORKER].tasks), (None, 0));
}

#[tokio::test]
async fn tasks_are_closed_as_the_destinations_of_their_workers_say() {
    let stage = Stage::start(json!({ "completion": "destination" }), TIMEOUT).await;
    stage.connect().await;
    all_kinds(&stage);
    stage.wake();
    stage.until_closed(24).await;
    assert_all_kinds(&stage);
    assert!(
        stage
            .invocations_of(WORKER)
            .iter()
            .all(|record| record.attempt == 1)
    );
}

#[tokio::test]
async fn an_idle_wake_up_asks_three_requests_and_is_short() {
    let stage = Stage::start(json!({}), TIMEOUT).await;
    // The sandbox is there then, with its connections.
    let answer = json!({ "outcome": "nothing_to_do" });
    assert_eq!(stage.world.invoke(&json!({})).await.unwrap(), answer);
    stage.world.cloud.reset_stats();
    assert_eq!(stage.world.invoke(&json!({})).await.unwrap(), answer);
    let stats = stage.world.cloud.stats();
    let asked: Vec<(Service, &str, u64)> = stats
        .operations
        .iter()
        .map(|((service, operation), counts)| (*service, operation.as_str(), counts.requests))
        .collect();
    assert_eq!(
        asked,
        [(Service::S3, "GetObject", 1), (Service::DynamoDb, "Query", 2)]
    );
    let last = stage.invocations_of(FUNCTION).pop().unwrap();
    let took = last.ended.unwrap().duration_since(last.started.unwrap()).unwrap();
    println!("an idle wake-up took {took:?}");
    // A machine that is busy with other tests is not what is measured here.
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(stage.world.objects().is_empty(), "no lock is left");
    assert_eq!(stage.metric("IdleWakeUps"), 2.0);
}

#[tokio::test]
async fn what_is_no_wake_up_is_refused_and_counted() {
    let stage = Stage::start(json!({}), TIMEOUT).await;
    for (event, part) in [
        (json!([]), "not an object"),
        (json!({ "lambda_name": "worker" }), "jobs go to the scheduler"),
        (
            json!({ "group": "nobody" }),
            "no labourer of the configuration is in it",
        ),
    ] {
        let (kind, sentence) = stage.world.invoke(&event).await.unwrap_err();
        assert_eq!(kind, "InvalidEvent");
        assert!(sentence.contains(part), "{sentence}");
    }
    assert_eq!((stage.metric("Errors"), stage.metric("WakeUps")), (3.0, 0.0));
}

#[tokio::test]
async fn a_time_out_that_is_too_short_for_its_labourers_is_refused_with_the_cure() {
    let stage = Stage::start(json!({ "max_duration": 100 }), TIMEOUT).await;
    let (kind, sentence) = stage.world.invoke(&json!({})).await.unwrap_err();
    assert_eq!(kind, "InvalidConfig");
    assert!(
        sentence.contains("give the function a longer time-out"),
        "{sentence}"
    );
}

#[tokio::test]
async fn a_missing_function_costs_no_attempts_and_is_found_when_it_is_there() {
    let stage = Stage::start(json!({ "arn": "later" }), TIMEOUT).await;
    for task in 0..20 {
        stage.queue(&format!("t-{task}"), "{}");
    }
    stage.wake();
    let line = stage.world.cloud.wait_log("suspended: ", PATIENCE).await.unwrap();
    assert!(
        line.text.contains("\"labourer_id\":\"worker\"") && line.text.contains("later"),
        "{}",
        line.text
    );
    // It is told every 15 s as long as it lasts.
    stage
        .until("the labourer counts as suspended", |stage| {
            stage.metric("SuspendedLabourers") >= 1.0
        })
        .await;
    for item in stage.world.cloud.scan_table("sosw_tasks").unwrap() {
        assert_eq!(item["attempts"]["N"], "0");
    }
    stage.hire(FunctionSpec::new("later", worker()).timeout(Duration::from_secs(3)));
    stage.until_closed(20).await;
    let closed = stage.closed();
    assert!(
        closed
            .values()
            .all(|one| (one.outcome.as_str(), one.attempts) == ("succeeded", 1)),
        "{closed:?}"
    );
    assert!(stage.metric("OldestQueuedSeconds") > 0.0);
}

#[tokio::test]
async fn of_two_wake_ups_at_once_one_works_and_one_ends() {
    let stage = Stage::start(
        json!({ "max_simultaneous_invocations": 4 }),
        Duration::from_secs(300),
    )
    .await;
    for task in 0..200 {
        stage.queue(&format!("t-{task}"), r#"{"sleep_ms": 20}"#);
    }
    stage.wake();
    stage.wake();
    stage.until_closed(200).await;
    assert!(stage.starts().values().all(|count| *count == 1) && stage.starts().len() == 200);
    let elsewhere = stage
        .outcomes()
        .iter()
        .filter(|one| one.contains("held_elsewhere"))
        .count();
    assert_eq!(
        (elsewhere, stage.outcomes().len()),
        (1, 2),
        "{:?}",
        stage.outcomes()
    );
    assert_eq!(lock(&stage).epoch, 1);
}

/// A holder claims until its time is short, and the next goes on where it stopped, with what it left running counted.
#[tokio::test]
async fn when_the_time_is_short_the_next_wake_up_goes_on() {
    let labourer = json!({ "max_simultaneous_invocations": 2 });
    // 3 s for the longest answer and 20 s of margin leave some seconds for claims, after those that a take-over needs.
    let stage = Stage::start(labourer, Duration::from_secs(38)).await;
    for task in 0..100 {
        stage.queue(&format!("t-{task:03}"), r#"{"sleep_ms": 400}"#);
    }
    let first = stage.world.invoke(&json!({})).await.unwrap();
    assert_eq!(
        (&first["outcome"], &first["ended"]),
        (&json!("dispatched"), &json!("time_short")),
        "{first}"
    );
    let done = stage.len("sosw_closed_tasks");
    assert!(0 < done && done < 100, "{done}");
    // Nothing is left claimed.
    for item in stage.world.cloud.scan_table("sosw_tasks").unwrap() {
        assert_eq!(item["attempts"]["N"], "0", "{item}");
    }
    let second = stage.world.invoke(&json!({})).await.unwrap();
    assert_eq!(second["outcome"], "dispatched", "{second}");
    assert_eq!(stage.len("sosw_closed_tasks") + stage.len("sosw_tasks"), 100);
    assert!(stage.len("sosw_closed_tasks") > done);
    assert!(stage.starts().values().all(|count| *count == 1));
    assert_eq!(lock(&stage).epoch, 2);
}

/// A wake-up that finds a holder which is about to end waits for it, so that no gap is left.
#[tokio::test]
async fn a_wake_up_waits_for_a_holder_that_ends_and_takes_over() {
    let stage = Stage::start(
        json!({ "max_simultaneous_invocations": 2 }),
        Duration::from_secs(50),
    )
    .await;
    for task in 0..170 {
        stage.queue(&format!("t-{task:03}"), r#"{"sleep_ms": 400}"#);
    }
    stage.wake();
    // Some 15 s later the first has less than 90 s left and goes on for some 12 s: the second waits for its release.
    stage
        .until("half of it is done", |stage| stage.len("sosw_closed_tasks") >= 75)
        .await;
    stage.wake();
    stage.world.cloud.wait_idle(PATIENCE).await.unwrap();
    let records = stage.invocations_of(FUNCTION);
    for record in &records {
        let Some(InvocationOutcome::Succeeded(payload)) = &record.outcome else {
            panic!("{record:?}");
        };
        let answer: Value = serde_json::from_slice(payload).unwrap();
        assert_eq!(answer["outcome"], "dispatched", "{answer}");
    }
    assert_eq!((records.len(), lock(&stage).epoch), (2, 2));
    assert!(stage.starts().values().all(|count| *count == 1));
}
