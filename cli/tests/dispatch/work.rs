//! What becomes of tasks.

use serde_json::json;

use crate::pages::{blocks, document};
use crate::stage::{Running, Stage};

/// Fails for the task 3, each time.
const FAILS_FOR_3: &str = r#"sh -c 'grep -v "\"n\":3[,}]" || { echo no such store: 3 >&2; exit 4; }'"#;

#[tokio::test(flavor = "multi_thread")]
async fn until_idle_works_everything_off_and_a_task_that_fails_is_told() {
    let stage = Stage::new(json!({"max_attempts": 2, "retry_delay": 1})).await;
    stage.queue(6);
    let arguments = ["--until-idle", "--worker", FAILS_FOR_3, "--at-once", "2"];
    let (exit, report) = stage.report(&arguments);
    assert_eq!(exit, Some(1), "{report}");
    assert_eq!(report["error"]["type"], "TasksFailed");
    assert_eq!(
        (&report["outcome"], &report["group"], &report["suspended"]),
        (&json!("dispatched"), &json!("main"), &json!({}))
    );
    let count = |key: &str| report[key].as_u64().unwrap();
    assert_eq!(
        ["started", "succeeded", "failed", "retried", "requeued"].map(count),
        [7, 5, 1, 1, 1],
        "{report}"
    );
    assert_eq!(
        report["failures"],
        json!([{
            "labourer_id": "report", "type": "ExitCode 4", "message": "no such store: 3", "count": 1,
            "task_ids": [format!("{:032}", 3)],
        }])
    );
    let tables = ["sosw_tasks", "sosw_retry_tasks", "sosw_closed_tasks"];
    assert_eq!(tables.map(|table| stage.items(table)), [0, 0, 6]);
    assert_eq!(stage.lock().unwrap().holder, None, "the lock is given back");

    let (exit, report) = stage.report(&arguments);
    assert_eq!((exit, &report["outcome"]), (Some(0), &json!("nothing_to_do")));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_the_documentation_shows() {
    let stage = Stage::new(json!({"max_attempts": 2, "retry_delay": 1})).await;
    stage.queue(6);
    let (exit, out, err) = stage.said(&["--until-idle", "--worker", FAILS_FOR_3]);
    assert_eq!(exit, Some(1));
    let (_, shown) = blocks(&document("command.md"))
        .into_iter()
        .find(|(words, _)| words == "text dispatched")
        .unwrap();
    let without_time = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("  time "));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    // What workers say comes in between, by the line.
    let err: String = err
        .lines()
        .filter(|line| !line.starts_with("no such store"))
        .map(|line| format!("{line}\n"))
        .collect();
    let (notes, error) = err.split_at(err.find("error[").unwrap());
    assert_eq!(without_time(&[notes, &out, error].concat()), without_time(&shown));
}

#[tokio::test(flavor = "multi_thread")]
async fn once_is_one_invocation_and_does_not_wait_for_what_waits() {
    let stage = Stage::new(json!({"max_attempts": 2, "retry_delay": 600})).await;
    let (exit, out, err) = stage.said(&["--once"]);
    assert_eq!(
        (exit, out.as_str(), err.as_str()),
        (Some(0), "nothing to do for group main\n", "")
    );
    stage.queue(4);
    let (exit, report) = stage.report(&["--once", "--worker", FAILS_FOR_3]);
    assert_eq!(exit, Some(0), "a task that waits is no failure: {report}");
    assert_eq!(
        (&report["invocations"], &report["succeeded"], &report["retried"]),
        (&json!(1), &json!(3), &json!(1))
    );
    assert_eq!(stage.items("sosw_retry_tasks"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_labourer_that_is_missing_is_told_with_the_cure_and_costs_no_attempt() {
    let stage = Stage::new(json!({"arn": "arn:aws:lambda:us-east-1:000000000000:function:report"})).await;
    stage.queue(2);
    let mut running = Running::start(stage.command(&["--until-idle", "--format", "json"]));
    let said = running.wait_line("suspended");
    assert!(
        said.starts_with("warning: report is suspended: ") && said.contains("create the function"),
        "{said}"
    );
    running.signal("TERM");
    let (status, out, said) = running.end();
    assert_eq!(status.code(), Some(143), "{said}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["suspended"]["report"]["type"], "FunctionNotFound");
    assert_eq!((&report["started"], stage.items("sosw_tasks")), (&json!(0), 2));
    for task in stage.cloud.scan_table("sosw_tasks").unwrap() {
        assert_eq!(task["attempts"], json!({"N": "0"}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_can_not_be_right_are_refused() {
    let stage = Stage::new(json!({})).await;
    for (arguments, kind, part) in [
        (&["--group", "../x"][..], "Usage", "write at most 100"),
        (&["--once", "--until-idle"], "Usage", "cannot be used with"),
        (&["--at-once", "2"], "Usage", "--worker"),
        (&["--worker", "'"], "Usage", "quotation mark"),
        (
            &["--group", "nightly"],
            "InvalidEvent",
            "no labourer of the configuration is in it",
        ),
        (&["--config", "other.json"], "UnreadableFile", "other.json"),
    ] {
        let (exit, out, err) = stage.said(arguments);
        assert_eq!((exit, out.as_str()), (Some(2), ""), "{err}");
        assert!(
            err.contains(&format!("error[{kind}]")) && err.contains(part),
            "{err}"
        );
    }
    std::fs::remove_file(stage.path("jobmill.json")).unwrap();
    let (exit, report) = stage.report(&["--once"]);
    assert_eq!((exit, &report["error"]["type"]), (Some(2), &json!("NoConfig")));
}
