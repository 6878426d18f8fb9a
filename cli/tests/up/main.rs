//! `jobmill up`, the real binary: functions, ticks, what is kept.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

#[path = "../support/pages.rs"]
mod pages;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::pages::{blocks, document};

/// A folder with a configuration, and a job of four tasks.
fn folder(labourer: &Value) -> TempDir {
    let folder = TempDir::new().unwrap();
    let config = json!({
        "queue_bucket": "queue",
        "job_schema": {"chunkable_attrs": [["customer", {}]]},
        "task_config": {"labourers": {"report": labourer}},
    });
    let job = json!({"lambda_name": "report", "isolate_customers": true, "customers": ["a", "b", "c", "d"]});
    std::fs::write(folder.path().join("jobmill.json"), config.to_string()).unwrap();
    std::fs::write(folder.path().join("job.json"), job.to_string()).unwrap();
    folder
}

/// The command while it is up.
struct Up {
    child: Child,
    told: Value,
}

impl Up {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_jobmill"))
            .current_dir(folder)
            .args(["up", "--port", "0", "--format", "json"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut text = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            text += &line;
            if line == "}" {
                break;
            }
        }
        Self {
            child,
            told: serde_json::from_str(&text).unwrap(),
        }
    }

    /// A command in the environment that it told.
    fn jobmill(&self, folder: &Path, arguments: &[&str]) -> Value {
        let variables = self.told["environment"].as_object().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_jobmill"))
            .current_dir(folder)
            .args(arguments)
            .args([
                "--config",
                self.told["config"].as_str().unwrap(),
                "--format",
                "json",
            ])
            .envs(
                variables
                    .iter()
                    .map(|(name, value)| (name, value.as_str().unwrap())),
            )
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn end(mut self, signal: &str) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([&format!("-{signal}"), &id])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap().code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.child.kill().ok();
    }
}

/// Waits until a condition holds, at most a minute.
fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} in vain");
        std::thread::yield_now();
    }
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[test]
fn a_job_is_worked_off_and_what_is_kept_is_there_at_the_next_start() {
    for completion in ["response", "destination"] {
        let labourer =
            json!({"completion": completion, "max_duration": 20, "max_simultaneous_invocations": 2});
        let folder = folder(&labourer);
        let here = folder.path();
        if completion == "destination" {
            // It needs a queue to be right, and gets the one of the cloud.
            let path = here.join("jobmill.json");
            let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            config["outcome_queue"] = json!("https://sqs.eu-west-1.amazonaws.com/123456789012/outcomes");
            std::fs::write(&path, config.to_string()).unwrap();
        }
        let done = here.join("done");
        let worker = format!("report=sh -c 'cat >> {0}; echo >> {0}'", done.display());
        let up = Up::start(here, &["--worker", &worker]);
        assert_eq!(
            up.told["functions"],
            json!(["scheduler", "orchestrator", "report"])
        );
        if completion == "destination" {
            up.jobmill(here, &["labourers", "connect", "report", "--yes"]);
        }
        assert_eq!(up.jobmill(here, &["labourers", "check"])["valid"], true);
        let run = ["run", "job.json", "--cloud", "aws", "--run-id", "r-1"];
        assert_eq!(up.jobmill(here, &run)["created"], 4);
        until("worked off", || lines(&done) == 4);
        let idle = ["dispatch", "--until-idle", "--wait"];
        up.jobmill(here, &idle);
        assert_eq!(up.end("TERM"), Some(0));

        let up = Up::start(here, &["--worker", &worker]);
        assert_eq!(up.jobmill(here, &run)["outcome"], "already_completed");
        assert_eq!(up.jobmill(here, &idle)["succeeded"], 0, "nothing is left to do");
        assert_eq!(lines(&done), 4);
        assert_eq!(up.end("INT"), Some(0));
    }
}

#[test]
fn a_worker_does_not_outlive_the_cloud() {
    let folder = folder(&json!({}));
    let here = folder.path();
    let mark = here.join("pid");
    let worker = format!("report=sh -c 'echo $$ >> {}; exec sleep 600'", mark.display());
    for signal in ["TERM", "KILL"] {
        let up = Up::start(here, &["--worker", &worker]);
        up.jobmill(here, &["run", "job.json", "--cloud", "aws", "--run-id", signal]);
        let before = lines(&mark);
        until("started", || lines(&mark) > before);
        let text = std::fs::read_to_string(&mark).unwrap();
        let process = text.lines().last().unwrap().to_owned();
        up.end(signal);
        until("ended", || !Path::new(&format!("/proc/{process}")).exists());
        // For the next one nothing is running.
        std::fs::remove_dir_all(here.join(".jobmill")).unwrap();
    }
}

#[test]
fn it_prints_what_the_documentation_shows() {
    let folder = folder(&json!({}));
    let mut child = Command::new(env!("CARGO_BIN_EXE_jobmill"))
        .current_dir(folder.path())
        .args(["up", "--port", "0", "--worker", "report=cat"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains("JOBMILL_CONFIG") {
        assert!(out.read_line(&mut said).unwrap() > 0, "{said}");
    }
    let home = folder.path().canonicalize().unwrap();
    let port = said.split_once("127.0.0.1:").unwrap().1;
    let port = port.split_once('\n').unwrap().0.to_owned();
    let said = said
        .replace(home.to_str().unwrap(), "/home/me/work")
        .replace(&port, "4600");
    let found = blocks(&document("command.md"));
    let shown = found.into_iter().find(|(words, _)| words == "text up").unwrap().1;
    assert_eq!(said, shown);

    // The same folder is not for two.
    let second = Command::new(env!("CARGO_BIN_EXE_jobmill"))
        .current_dir(folder.path())
        .args(["up", "--port", "0", "--format", "json"])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&second.stdout).unwrap();
    assert!(
        told["error"]["message"]
            .as_str()
            .unwrap()
            .contains("another `jobmill up`"),
        "{told}"
    );
    // Nor is the port.
    let third = Command::new(env!("CARGO_BIN_EXE_jobmill"))
        .current_dir(folder.path())
        .args(["up", "--port", &port, "--data", "other"])
        .output()
        .unwrap();
    let said = String::from_utf8(third.stderr).unwrap();
    assert_eq!(third.status.code(), Some(1));
    assert!(
        said.contains("LocalCloudFailed") && said.contains("--port"),
        "{said}"
    );
    let kill = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!((child.wait().unwrap().code(), rest.as_str()), (Some(0), ""));
}

#[test]
fn arguments_that_can_not_be_right_are_refused() {
    let folder = folder(&json!({}));
    for (worker, kind, part) in [
        ("report", "Usage", "write the labourer and its command"),
        ("report='", "Usage", "quotation mark"),
        ("reprot=cat", "UnknownLabourer", "report"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_jobmill"))
            .current_dir(folder.path())
            .args(["up", "--worker", worker, "--format", "json"])
            .output()
            .unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (output.status.code(), &told["error"]["type"]),
            (Some(2), &json!(kind))
        );
        assert!(
            told["error"]["message"].as_str().unwrap().contains(part),
            "{told}"
        );
    }
    assert!(!folder.path().join(".jobmill").exists(), "nothing was written");
}
