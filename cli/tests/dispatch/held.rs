//! A group that somebody else dispatches.

use jobmill_local::Service;
use serde_json::{Value, json};

use crate::stage::{Running, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_second_is_told_who_is_first_and_can_wait_for_the_group() {
    let stage = Stage::new(json!({})).await;
    stage.queue(2);
    let worker = stage.gated();
    let mut first = Running::start(stage.command(&["--worker", worker, "--at-once", "1"]));
    first.wait_line("started");
    let named = format!("jobmill dispatch, process {} on ", first.id());

    let (exit, report) = stage.report(&["--until-idle", "--worker", worker]);
    assert_eq!((exit, &report["outcome"]), (Some(1), &json!("held_elsewhere")));
    assert_eq!(report["error"]["type"], "HeldElsewhere");
    assert!(
        report["held_by"].as_str().unwrap().starts_with(&named),
        "{report}"
    );
    let (exit, out, err) = stage.said(&["--once", "--worker", worker]);
    assert_eq!((exit, out.as_str()), (Some(1), ""));
    assert!(err.contains(&named) && err.contains("With --wait"), "{err}");

    let patient = ["--until-idle", "--wait", "--worker", "cat", "--format", "json"];
    let mut patient = Running::start(stage.command(&patient));
    patient.wait_line("dispatches group main: waiting");
    first.signal("TERM");
    first.wait_line("what is under way is waited for");
    stage.open_gate();
    let (status, out, said) = first.end();
    assert_eq!(
        status.code(),
        Some(0),
        "the end of a service is no failure: {said}"
    );
    assert!(out.starts_with("1 task succeeded, 0 failed\n"), "{out}");
    let (status, out, said) = patient.end();
    assert!(status.success(), "{said}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["succeeded"], 1, "{report}");
    assert_eq!(stage.items("sosw_closed_tasks"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_holder_that_ends_can_be_interrupted() {
    let stage = Stage::new(json!({"max_duration": 30})).await;
    stage.queue(1);
    let worker = stage.gated();
    // So little is left to it that whoever comes waits for the release.
    let mut first = Running::start(stage.command(&["--worker", worker, "--timeout", "120"]));
    first.wait_line("started");
    stage.cloud.reset_stats();
    let second = Running::start(stage.command(&["--once", "--worker", worker, "--timeout", "120"]));
    let looks = || stage.cloud.stats().requests(Service::S3, "GetObject");
    while looks() < 3 {
        tokio::task::yield_now().await;
    }
    second.signal("INT");
    let (status, _, said) = second.end();
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(
        stage.lock().unwrap().holder.is_some(),
        "the first one has it still"
    );
    stage.open_gate();
    first.signal("INT");
    assert!(first.end().0.success());
}
