//! `jobmill labourers`, the real binary against a cloud with functions and a queue.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

mod check;
mod connect;
#[path = "../support/pages.rs"]
mod pages;

use std::process::Command;
use std::time::Duration;

use jobmill_local::{FunctionSpec, LocalCloud, LocalCloudOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::pages::{blocks, document};

const BUCKET: &str = "queue";

/// A cloud with a function of 30 s, `work`, and a queue.
struct Stage {
    cloud: LocalCloud,
    folder: TempDir,
    queue: String,
}

impl Stage {
    async fn new(labourers: Value) -> Self {
        let cloud = LocalCloud::start(LocalCloudOptions::default()).await.unwrap();
        cloud.create_bucket(BUCKET);
        let work = FunctionSpec::new("work", "/bin/false");
        cloud.register_function(work.timeout(Duration::from_secs(30)).max_concurrency(5));
        let stage = Self {
            queue: cloud.create_queue("outcomes"),
            cloud,
            folder: TempDir::new().unwrap(),
        };
        stage.configure(labourers, Some(&stage.queue));
        stage
    }

    fn configure(&self, labourers: Value, queue: Option<&str>) {
        let mut config = json!({ "queue_bucket": BUCKET, "task_config": { "labourers": labourers } });
        if let Some(queue) = queue {
            config["outcome_queue"] = json!(queue);
        }
        std::fs::write(self.folder.path().join("jobmill.json"), config.to_string()).unwrap();
    }

    /// Exit code, standard output, standard error.
    fn said(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_jobmill"))
            .current_dir(self.folder.path())
            .arg("labourers")
            .args(arguments)
            .envs(self.cloud.environment())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Exit code and JSON.
    fn json(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let (exit, out, err) = self.said(&[arguments, &["--format", "json"]].concat());
        let report = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out} {err}"));
        (exit, report)
    }

    /// The types of what is wrong with a labourer.
    fn problems(&self, name: &str) -> Vec<String> {
        let (exit, report) = self.json(&["check"]);
        let problems = report["labourers"][name]["problems"].as_array().unwrap().clone();
        assert_eq!(exit == Some(0), report["valid"] == true, "{report}");
        for problem in &problems {
            assert!(!problem["cure"].as_str().unwrap().is_empty(), "{problem}");
        }
        let kind = |problem: &Value| problem["type"].as_str().unwrap().to_owned();
        problems.iter().map(kind).collect()
    }
}

fn shown(words: &str) -> String {
    let found = blocks(&document("command.md"));
    found.into_iter().find(|(block, _)| block == words).unwrap().1
}
