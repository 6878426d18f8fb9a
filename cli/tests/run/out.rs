//! `--out`: all tasks of the run in the order of its queue, or no file.

use std::fs;
use std::path::Path;
use std::process::Command;

use jobmill_core::task::identity::TaskIds;
use serde_json::{Value, json};

use crate::clouds::{
    BUCKET, ROWS, Running, assert_adds_up, at_cloud, cloud, folder, folder_with, hold_after, report,
};

/// Asserts that a file holds each task of a run, in order.
#[track_caller]
fn assert_all_tasks(text: &str, run_id: &str, rows: usize) {
    let ids = TaskIds::new(BUCKET, "sosw/scheduler", run_id);
    assert_eq!(text.lines().count(), rows);
    assert!(text.ends_with('\n'));
    for (row, line) in text.lines().enumerate() {
        let task: Value = serde_json::from_str(line).unwrap();
        assert_eq!(task["task_id"], ids.at(row as u64));
        assert_eq!(task["labourer_id"], "send");
        let payload: Value = serde_json::from_str(task["payload"].as_str().unwrap()).unwrap();
        assert_eq!(payload["customers"], json!([format!("c{row}")]));
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_leaves_the_file_and_a_resume_or_a_repetition_writes_all_of_it() {
    let (cloud, folder) = (cloud(BUCKET).await, folder());
    let out = folder.path().join("tasks.jsonl");
    fs::write(&out, "what was there\n").unwrap();
    let arguments = ["--run-id", "r-1", "--out", "tasks.jsonl", "--format", "json"];
    let held = hold_after(&cloud, 40);
    let mut running = Running::start(at_cloud(&cloud, folder.path(), &arguments));
    held.reached().await;
    running.signal("INT");
    running.wait_line("SIGINT: waiting");
    held.release();
    let (status, stdout, said) = running.end();
    assert_eq!(status.code(), Some(130));
    assert!(
        said.contains("tasks.jsonl was not written: the run is not done"),
        "{said}"
    );
    assert_eq!(
        serde_json::from_str::<Value>(&stdout).unwrap()["out"],
        Value::Null
    );
    assert_eq!(fs::read_to_string(&out).unwrap(), "what was there\n");
    assert_eq!(names(folder.path()), ["job.json", "jobmill.json", "tasks.jsonl"]);

    let resumed = report(&at_cloud(&cloud, folder.path(), &arguments).output().unwrap());
    assert_eq!(
        (&resumed["outcome"], &resumed["out"]),
        (&"completed".into(), &"tasks.jsonl".into())
    );
    let first = fs::read_to_string(&out).unwrap();
    assert_all_tasks(&first, "r-1", ROWS);

    fs::remove_file(&out).unwrap();
    let repeated = report(&at_cloud(&cloud, folder.path(), &arguments).output().unwrap());
    assert_eq!(repeated["outcome"], "already_completed");
    assert_eq!(fs::read_to_string(&out).unwrap(), first, "byte for byte");
    assert_eq!(names(folder.path()), ["job.json", "jobmill.json", "tasks.jsonl"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_of_another_day_are_not_guessed() {
    let cloud = cloud(BUCKET).await;
    let folder = folder_with(json!({"period": "yesterday"}));
    let arguments = ["--run-id", "r-1", "--out", "tasks.jsonl", "--format", "json"];
    let done = report(&at_cloud(&cloud, folder.path(), &arguments).output().unwrap());
    assert_eq!(done["out"], "tasks.jsonl", "the rows are those of this process");
    let text = fs::read_to_string(folder.path().join("tasks.jsonl")).unwrap();
    assert_all_tasks(&text, "r-1", ROWS);
    fs::remove_file(folder.path().join("tasks.jsonl")).unwrap();

    let again = at_cloud(&cloud, folder.path(), &arguments).output().unwrap();
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(report(&again)["out"], Value::Null);
    assert!(
        said.contains("warning: tasks.jsonl was not written: the run began earlier"),
        "{said}"
    );
    assert!(!folder.path().join("tasks.jsonl").exists());

    let dated = [&arguments[..], &["--as-of", "2024-03-06"]].concat();
    let dated: Vec<&str> = dated
        .iter()
        .map(|word| if *word == "r-1" { "r-2" } else { word })
        .collect();
    let first = report(&at_cloud(&cloud, folder.path(), &dated).output().unwrap());
    let again = report(&at_cloud(&cloud, folder.path(), &dated).output().unwrap());
    assert_eq!(
        [&first["out"], &again["out"], &again["outcome"]],
        ["tasks.jsonl", "tasks.jsonl", "already_completed"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_never_became_tasks_are_in_no_file() {
    let (cloud, folder) = (cloud(BUCKET).await, folder());
    let arguments = ["--run-id", "r-1", "--out", "tasks.jsonl", "--format", "json"];
    report(&at_cloud(&cloud, folder.path(), &arguments).output().unwrap());
    fs::remove_file(folder.path().join("tasks.jsonl")).unwrap();
    // As if somebody had asked to pass over a row of the run.
    let key = "sosw/scheduler/done/tasks_queue_r-1.txt.json";
    let mut receipt: Value = serde_json::from_slice(&cloud.object(BUCKET, key).unwrap().body).unwrap();
    receipt["counters"]["skipped"] = json!(1);
    receipt["counters"]["created"] = json!(ROWS - 1);
    cloud.put_object(BUCKET, key, receipt.to_string()).unwrap();
    let again = at_cloud(&cloud, folder.path(), &arguments).output().unwrap();
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    let told = report(&again);
    assert_adds_up(&told);
    assert_eq!((&told["skipped"], &told["out"]), (&json!(1), &Value::Null));
    assert!(
        said.contains("tasks.jsonl was not written: rows of the run were passed over (1)"),
        "{said}"
    );
    assert!(!folder.path().join("tasks.jsonl").exists());
}

fn local(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_jobmill"))
        .current_dir(folder)
        .args(["run", "job.json", "--run-id", "r-1"])
        .args(arguments)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn standard_output_gets_the_tasks_and_standard_error_the_report() {
    let folder = folder();
    let (code, out, said) = local(folder.path(), &["--out", "-"]);
    assert_eq!(code, Some(0), "{said}");
    assert_all_tasks(&out, "r-1", ROWS);
    assert!(said.starts_with("3,000 tasks created for send\n"), "{said}");
    let (code, out, said) = local(folder.path(), &["--out", "-", "--format", "json"]);
    assert_eq!(code, Some(2));
    assert!(out.contains("\"Usage\""), "{out}");
    assert!(said.contains("both want standard output"), "{said}");
}

#[test]
fn the_reader_of_the_tasks_may_have_enough() {
    let folder = folder();
    let output = Command::new("sh")
        .current_dir(folder.path())
        .env("JOBMILL", env!("CARGO_BIN_EXE_jobmill"))
        .arg("-c")
        .arg("\"$JOBMILL\" run job.json --out - | head -n 1")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[cfg(unix)]
#[test]
fn a_link_stays_a_link_and_a_device_a_device() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let folder = folder();
    fs::create_dir(folder.path().join("real")).unwrap();
    fs::write(folder.path().join("real/tasks.jsonl"), "").unwrap();
    symlink("real/tasks.jsonl", folder.path().join("link.jsonl")).unwrap();
    let (code, _, said) = local(folder.path(), &["--out", "link.jsonl"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert!(folder.path().join("link.jsonl").is_symlink());
    let written = folder.path().join("real/tasks.jsonl");
    assert_all_tasks(&fs::read_to_string(&written).unwrap(), "r-1", ROWS);
    fs::write(folder.path().join("other"), "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(
        mode(&written),
        mode(&folder.path().join("other")),
        "as any new file"
    );
    let (code, _, said) = local(folder.path(), &["--out", "/dev/null"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
}
