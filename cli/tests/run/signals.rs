//! SIGINT and SIGTERM: the lock is given back, and the command that goes on is told.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jobmill_local::{Effect, LocalCloud, Rule, Service};
use serde_json::Value;
use tempfile::TempDir;

use crate::clouds::{
    BUCKET, ROWS, Running, assert_adds_up, assert_documented, assert_whole, at_cloud, cloud,
    command_to_go_on, folder, folder_with, hold_after, lock, report,
};

/// Starts a run, sends it a signal while tasks are under way, and lets these be answered.
async fn interrupted(cloud: &LocalCloud, folder: &Path, signal: &str) -> (Option<i32>, String, String) {
    let held = hold_after(cloud, 40);
    let mut running = Running::start(at_cloud(cloud, folder, &["--format", "json"]));
    held.reached().await;
    running.signal(signal);
    running.wait_line(&format!("SIG{signal}: waiting for the answers under way"));
    held.release();
    let (status, out, said) = running.end();
    (status.code(), out, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_gives_the_lock_back_and_the_command_that_is_told_goes_on() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let cloud = cloud(BUCKET).await;
        // Its dates are those of today: on another day the same run is meant.
        let folder = folder_with(serde_json::json!({"period": "yesterday"}));
        let (exit, out, said) = interrupted(&cloud, folder.path(), signal).await;
        assert_eq!(exit, Some(code), "{said}");
        let told: Value = serde_json::from_str(&out).unwrap();
        let run_id = told["run_id"].as_str().unwrap();
        assert_eq!(said.lines().next().unwrap(), format!("run id: {run_id}"));
        assert_eq!(told["outcome"], "interrupted");
        assert_eq!(told["error"]["type"], "Interrupted");
        let done = told["done"].as_u64().unwrap();
        assert!((1_000..ROWS as u64).contains(&done), "{told}");
        let released = lock(&cloud, run_id).unwrap();
        assert_eq!((&released.holder, released.cursor.row), (&None, done));
        assert!(
            released.claimed < 2_500,
            "the claim goes back to what was sent: {released:?}"
        );

        let mut command = command_to_go_on(&said, &cloud, folder.path());
        assert!(said.contains("--as-of "), "{said}");
        let finished = report(&command.output().unwrap());
        assert_eq!(
            (&finished["outcome"], &finished["run_id"]),
            (&"completed".into(), &run_id.into())
        );
        assert_eq!(
            told["continue_with"].as_str(),
            said.trim_end().lines().last().map(str::trim_start)
        );
        assert_adds_up(&finished);
        assert_whole(&cloud, BUCKET, run_id, ROWS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_says_what_the_documentation_shows() {
    let (cloud, folder) = (cloud(BUCKET).await, folder());
    let held = hold_after(&cloud, 40);
    let mut running = Running::start(at_cloud(&cloud, folder.path(), &[]));
    held.reached().await;
    running.signal("INT");
    running.wait_line("SIGINT");
    held.release();
    let (status, out, said) = running.end();
    assert_eq!((status.code(), out.as_str()), (Some(130), ""));
    assert_documented("text interrupted", &said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once_and_the_run_goes_on_when_its_lease_is_over() {
    let (cloud, folder) = (cloud(BUCKET).await, folder());
    let held = hold_after(&cloud, 40);
    let mut running = Running::start(at_cloud(&cloud, folder.path(), &["--run-id", "r-1"]));
    held.reached().await;
    running.signal("INT");
    running.wait_line("a second signal ends this process at once");
    running.signal("TERM");
    let (status, out, said) = running.end();
    assert_eq!((status.code(), out.as_str()), (Some(143), ""));
    assert!(
        lock(&cloud, "r-1").unwrap().holder.is_some(),
        "nobody gave it back"
    );
    held.release();

    let output = command_to_go_on(&said, &cloud, folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "the lease has not run out");
    cloud.advance_clock(Duration::from_secs(40));
    let mut command = command_to_go_on(&said, &cloud, folder.path());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("  existed    "), "{text}");
    assert_whole(&cloud, BUCKET, "r-1", ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_before_the_end_of_the_last_answer_is_no_failure() {
    let (cloud, folder) = (cloud(BUCKET).await, folder());
    let batches = (ROWS as u64).div_ceil(25);
    let held = hold_after(&cloud, batches - 1);
    let mut running = Running::start(at_cloud(&cloud, folder.path(), &["--run-id", "r-1"]));
    held.reached().await;
    running.signal("TERM");
    running.wait_line("SIGTERM: waiting");
    held.release();
    let (status, _, said) = running.end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert_whole(&cloud, BUCKET, "r-1", ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_add_up_after_a_holder_died_with_rows_ahead_of_its_cursor() {
    let (cloud, folder) = (cloud(BUCKET).await, folder());
    // The third batch hangs, and others go past it.
    let rule = Rule::new(Service::DynamoDb, Effect::Hold);
    let held = cloud
        .faults()
        .add(rule.on("BatchExecuteStatement").after(2).times(1));
    let running = Running::start(at_cloud(&cloud, folder.path(), &["--run-id", "r-1"]));
    // A checkpoint goes out when half of the first claim is used up.
    while lock(&cloud, "r-1").is_none_or(|lock| lock.rev < 2) {
        tokio::task::yield_now().await;
    }
    running.signal("KILL");
    running.end();
    cloud.faults().remove(held);
    let left = lock(&cloud, "r-1").unwrap();
    assert!(left.cursor.row < ROWS as u64, "{left:?}");
    cloud.advance_clock(Duration::from_secs(40));
    let mut again = at_cloud(&cloud, folder.path(), &["--run-id", "r-1", "--format", "json"]);
    let finished = report(&again.output().unwrap());
    assert_eq!(finished["outcome"], "completed");
    assert!(finished["existed"].as_u64().unwrap() > 0, "{finished}");
    assert_adds_up(&finished);
    assert_whole(&cloud, BUCKET, "r-1", ROWS);
}

#[cfg(target_os = "linux")]
#[test]
fn in_the_local_cloud_a_signal_leaves_nothing_and_says_so() {
    let folder = TempDir::new().unwrap();
    let wide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/jobs/wide/job.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobmill"));
    command
        .current_dir(folder.path())
        .arg("run")
        .arg(wide)
        .args(["--out", "tasks.jsonl"]);
    let running = Running::start(command);
    // The kernel tells whether a process catches SIGINT: the second lowest bit of a mask in hexadecimal.
    let catches = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap();
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))
            .unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() & 0b10 != 0
    };
    while !catches() {
        std::thread::yield_now();
    }
    running.signal("INT");
    let (status, out, said) = running.end();
    assert_eq!((status.code(), out.as_str()), (Some(130), ""), "{said}");
    assert!(said.contains("error[Interrupted]: ended by SIGINT: "), "{said}");
    assert!(!said.contains("To go on"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
