//! `--worker`: the tasks of a run are worked off by processes of this machine.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A folder with a job of so many sections, each on its own, and a worker, a shell script.
fn folder(sections: usize, worker: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let sections: Vec<String> = (0..sections).map(|number| format!("\"s{number}\"")).collect();
    write(
        "jobmill.json",
        r#"{"queue_bucket": "my-queue-bucket", "job_schema": {"chunkable_attrs": [["section", {}]]},
            "task_config": {"labourers": {"report": {"retry_delay": 1, "max_attempts": 2}}}}"#,
    );
    write(
        "job.json",
        &format!(
            r#"{{"lambda_name": "report", "isolate_sections": true, "sections": [{}]}}"#,
            sections.join(",")
        ),
    );
    write("worker.sh", worker);
    folder
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_jobmill"))
        .current_dir(folder)
        .args(["run", "job.json", "--worker", "sh worker.sh"])
        .args(arguments)
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn every_task_is_worked_off_once_with_its_payload() {
    let folder = folder(
        12,
        "cat >> seen.jsonl; echo >> seen.jsonl; echo \"$JOBMILL_TASK_ID $JOBMILL_ATTEMPT\" >> ids",
    );
    let output = run(folder.path(), &["--at-once", "1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.starts_with("12 of 12 tasks succeeded\n"), "{text}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "quiet when piped");
    let seen = fs::read_to_string(folder.path().join("seen.jsonl")).unwrap();
    let sections: Vec<String> = seen
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["sections"][0]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let expected: Vec<String> = (0..12).map(|number| format!("s{number}")).collect();
    assert_eq!(sections, expected, "one at a time, in the order of the queue");
    let ids = fs::read_to_string(folder.path().join("ids")).unwrap();
    assert!(
        ids.lines().all(|line| line.len() == 34 && line.ends_with(" 1")),
        "{ids}"
    );
}

#[test]
fn what_fails_is_tried_again_and_told_by_its_error_and_the_exit_code() {
    let worker = "read -r task; case $task in *s3*) echo 'no such store' >&2; exit 7;; \
                  *s1*) test $JOBMILL_ATTEMPT = 2;; esac";
    let folder = folder(8, worker);
    let output = run(folder.path(), &["--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let told = json(&output);
    assert_eq!(told["error"]["type"], "TasksFailed", "{told}");
    let work = &told["work"];
    assert_eq!(
        (
            &work["succeeded"],
            &work["failed"],
            &work["retried"],
            &work["started"]
        ),
        (&7.into(), &1.into(), &2.into(), &10.into()),
        "{told}"
    );
    let failure = &work["failures"][0];
    assert_eq!(
        (&failure["count"], &failure["message"]),
        (&1.into(), &"no such store".into()),
        "{told}"
    );
    let text = run(folder.path(), &[]);
    let (out, err) = (
        String::from_utf8(text.stdout).unwrap(),
        String::from_utf8(text.stderr).unwrap(),
    );
    assert!(
        out.starts_with("7 of 8 tasks succeeded, 1 failed\n") && out.contains("no such store"),
        "{out}"
    );
    assert!(
        err.starts_with("error[TasksFailed]: 7 of 8 tasks succeeded, 1 failed"),
        "{err}"
    );
}

#[test]
fn a_worker_that_can_not_be_started_ends_the_run_at_once_and_costs_nothing() {
    let folder = folder(50, "");
    let output = Command::new(env!("CARGO_BIN_EXE_jobmill"))
        .current_dir(folder.path())
        .args([
            "run",
            "job.json",
            "--worker",
            "no-such-command --flag",
            "--format",
            "json",
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = json(&output);
    assert_eq!(told["error"]["type"], "CommandNotFound", "{told}");
    assert_eq!(
        (&told["work"]["started"], &told["work"]["left"]),
        (&0.into(), &50.into()),
        "{told}"
    );
}

/// A Lambda bootstrap: the Runtime API in a few lines of Python.
const BOOTSTRAP: &str = r#"#!/usr/bin/env python3
import json, os, urllib.request as web
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    with web.urlopen(api + "next") as event:
        task, request = json.load(event), event.headers["Lambda-Runtime-Aws-Request-Id"]
    good = task["sections"] != ["s2"]
    answer = {"section": task["sections"][0]} if good else {"errorType": "NoSuchStore", "errorMessage": "s2 is closed"}
    web.urlopen(api + request + ("/response" if good else "/error"), json.dumps(answer).encode()).read()
"#;

#[cfg(unix)]
#[test]
fn a_lambda_bootstrap_works_the_tasks_off_as_a_function() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder(5, "");
    let bootstrap = folder.path().join("bootstrap");
    fs::write(&bootstrap, BOOTSTRAP).unwrap();
    fs::set_permissions(&bootstrap, fs::Permissions::from_mode(0o755)).unwrap();
    let run = |worker: &str| {
        Command::new(env!("CARGO_BIN_EXE_jobmill"))
            .current_dir(folder.path())
            .args([
                "run",
                "job.json",
                "--worker",
                worker,
                "--at-once",
                "2",
                "--format",
                "json",
            ])
            .output()
            .unwrap()
    };
    let told = json(&run("./bootstrap"));
    let work = &told["work"];
    assert_eq!(
        (&work["succeeded"], &work["failed"]),
        (&4.into(), &1.into()),
        "{told}"
    );
    assert_eq!(work["failures"][0]["type"], "NoSuchStore", "{told}");
    let missing = run("elsewhere/bootstrap");
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("elsewhere/bootstrap"));
}

#[test]
fn a_worker_that_only_fails_is_not_asked_for_every_task() {
    let folder = folder(400, "exit 1");
    let begun = Instant::now();
    let output = run(folder.path(), &["--at-once", "8", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let told = json(&output);
    assert_eq!(told["error"]["type"], "TooManyFailures", "{told}");
    assert!(told["work"]["started"].as_u64().unwrap() < 200, "{told}");
    assert!(begun.elapsed() < Duration::from_secs(120));
}

#[test]
fn a_worker_needs_the_local_cloud_and_a_command() {
    let folder = folder(1, "");
    for (arguments, why) in [
        (&["--cloud", "aws"][..], "jobmill dispatch --worker"),
        (&["--at-once", "0"], "at-once"),
    ] {
        let output = run(folder.path(), arguments);
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(err.contains(why), "{err}");
    }
}

#[cfg(unix)]
#[test]
fn a_signal_lets_what_is_under_way_end_and_says_what_is_left() {
    let folder = folder(40, "echo x >> begun; sleep 0.2; echo x >> ended");
    let mut child = Command::new(env!("CARGO_BIN_EXE_jobmill"))
        .current_dir(folder.path())
        .args([
            "run",
            "job.json",
            "--worker",
            "sh worker.sh",
            "--at-once",
            "2",
            "--format",
            "json",
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines =
        |name: &str| fs::read_to_string(folder.path().join(name)).map_or(0, |text| text.lines().count());
    let patience = Instant::now();
    while lines("begun") < 3 {
        assert!(patience.elapsed() < Duration::from_secs(60), "it never began");
        std::thread::yield_now();
    }
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(lines("begun"), lines("ended"), "nothing is cut off");
    assert!(lines("begun") < 40);
}

/// The first configuration, job and worker of the README, as somebody types them in.
#[test]
fn the_first_steps_of_the_readme_work() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let (_, steps) = readme.split_once("\n## A job of your own").unwrap();
    let block = |fence: &str, nth: usize| {
        let text = steps.split(&format!("```{fence}\n")).nth(nth + 1).unwrap();
        text.split("```").next().unwrap().to_owned()
    };
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("jobmill.json", &block("json", 0));
    write("job.json", &block("json", 1));
    write("worker.py", &block("python", 0));
    let output = Command::new(env!("CARGO_BIN_EXE_jobmill"))
        .current_dir(folder.path())
        .args(["run", "job.json", "--worker", "python3 worker.py"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("28 of 28 tasks succeeded\n"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success());
}
