//! A run that another invocation is at work on.

use std::time::Duration;

use serde_json::Value;

use crate::clouds::{
    BUCKET, ROWS, Running, assert_documented, assert_whole, at_cloud, cloud, command_to_go_on, folder,
    hold_after, lock, report,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_held_is_no_success_and_the_command_that_is_told_waits() {
    let (cloud, folder) = (cloud(BUCKET).await, folder());
    let held = hold_after(&cloud, 40);
    let holder = Running::start(at_cloud(&cloud, folder.path(), &["--run-id", "r-1"]));
    held.reached().await;

    let second = at_cloud(&cloud, folder.path(), &["--run-id", "r-1", "--format", "json"])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!(
        (&told["outcome"], &told["error"]["type"]),
        (&"held_elsewhere".into(), &"HeldElsewhere".into())
    );
    let said = String::from_utf8(second.stderr).unwrap();
    let again = at_cloud(&cloud, folder.path(), &["--run-id", "r-1"])
        .output()
        .unwrap();
    assert_documented("text held", &String::from_utf8(again.stderr).unwrap());
    let mut third = Running::start(command_to_go_on(&said, &cloud, folder.path()));
    third.wait_line("another invocation works on run r-1: waiting");
    held.release();
    let (status, _, said) = holder.end();
    assert!(status.success(), "{said}");
    let (status, out, said) = third.end();
    assert!(status.success(), "{said}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&told["outcome"], &told["created"], &told["existed"]),
        (&"already_completed".into(), &0.into(), &ROWS.into())
    );
    assert_whole(&cloud, BUCKET, "r-1", ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_takes_over_where_the_holder_has_died() {
    let (cloud, folder) = (cloud(BUCKET).await, folder());
    let held = hold_after(&cloud, 40);
    let holder = Running::start(at_cloud(&cloud, folder.path(), &["--run-id", "r-1"]));
    held.reached().await;
    let waits = ["--run-id", "r-1", "--wait", "--format", "json"];
    let mut waiting = Running::start(at_cloud(&cloud, folder.path(), &waits));
    waiting.wait_line("waiting");
    holder.signal("KILL");
    holder.end();
    held.release();
    cloud.advance_clock(Duration::from_secs(40));
    let (status, out, said) = waiting.end();
    assert!(status.success(), "{said}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["outcome"], "completed");
    assert_whole(&cloud, BUCKET, "r-1", ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_with_the_time_or_with_a_signal() {
    let (cloud, folder) = (cloud(BUCKET).await, folder());
    let held = hold_after(&cloud, 40);
    let holder = Running::start(at_cloud(&cloud, folder.path(), &["--run-id", "r-1"]));
    held.reached().await;

    let impatient = ["--run-id", "r-1", "--wait", "--timeout", "1"];
    let output = at_cloud(&cloud, folder.path(), &impatient).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("still works on run r-1 after 1 second of waiting"),
        "{said}"
    );

    let mut patient = Running::start(at_cloud(&cloud, folder.path(), &["--run-id", "r-1", "--wait"]));
    patient.wait_line("waiting");
    patient.signal("INT");
    let (status, _, said) = patient.end();
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(lock(&cloud, "r-1").unwrap().holder.is_some());
    assert!(
        said.contains("another invocation still works on run r-1"),
        "{said}"
    );
    command_to_go_on(&said, &cloud, folder.path());

    held.release();
    let (status, _, said) = holder.end();
    assert!(status.success(), "{said}");
    let again = at_cloud(&cloud, folder.path(), &["--run-id", "r-1", "--format", "json"]).output();
    assert_eq!(report(&again.unwrap())["outcome"], "already_completed");
}
