//! The folders of `examples/`: each job becomes as many tasks, and the rows and payloads, as its page says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jobmill_core::config::Config;
use jobmill_core::job::event::{self, Request};
use jobmill_core::job::period::AsOf;
use jobmill_core::job::plan::Plan;
use jobmill_core::json::Document;
use jobmill_core::task::outcome::{Ending, of_answer};
use jobmill_core::task::row::payload_of;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// Plans the job of an example as its page does, and compares.
fn holds(name: &str, tasks: u64, count: &str) {
    let read = |file: &str| std::fs::read_to_string(folder().join(name).join(file)).unwrap();
    let page = read("README.md");
    let config = Config::parse(&read("jobmill.json")).unwrap();
    let Request::Job(request) = event::read(Document::parse(read("job.json")).unwrap()).unwrap() else {
        panic!("{name}: not a job");
    };
    let as_of = page.split("--as-of ").nth(1).map(|rest| {
        let date = rest.split_whitespace().next().unwrap();
        AsOf::parse(date).unwrap()
    });
    assert_ne!(as_of.is_some(), request.as_of.is_some(), "{name}: one as-of");
    let plan = Plan::make(&config, request, as_of, AsOf::from_millis(0).unwrap()).unwrap();

    assert_eq!(plan.chunks.row_count(), tasks, "{name}");
    assert_eq!(plan.chunks.rows().count() as u64, tasks, "{name}");
    assert!(page.contains(&format!("**{count} tasks")), "{name}: {count}");
    assert!(config.warnings.is_empty(), "{name}: {:?}", config.warnings);
    assert!(plan.warnings.is_empty(), "{name}: {:?}", plan.warnings);

    let block = |language: &str| {
        let begin = format!("```{language}\n");
        let rest = page.split_once(&begin).expect(language).1;
        rest.split_once("```").unwrap().0.to_owned()
    };
    let shown = block("jsonl");
    assert!(!shown.is_empty(), "{name}");
    for (shown, row) in shown.lines().zip(plan.chunks.rows()) {
        assert_eq!(shown.as_bytes(), row, "{name}");
    }
    let first = plan.chunks.rows().next().unwrap();
    assert_eq!(block("json").trim_end(), payload_of(&first).unwrap().1, "{name}");
}

#[test]
fn each_example_is_what_its_page_says() {
    let examples = [
        ("nightly-reports", 8, "8"),
        ("backfill", 1825, "1,825"),
        ("billing", 7, "7"),
        ("one-a-day", 14, "14"),
    ];
    for (name, tasks, count) in examples {
        holds(name, tasks, count);
    }
    let mut known: BTreeSet<String> = examples.map(|(name, ..)| name.to_owned()).into();
    known.insert("workers".to_owned());
    let there: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(known, there);
}

/// Runs a worker as a program, with a task on standard input: its exit code and what it printed.
fn work(program: &str, file: &str, task: &str) -> (bool, String) {
    let mut worker = Command::new(program)
        .arg(folder().join("workers").join(file))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    worker.stdin.take().unwrap().write_all(task.as_bytes()).unwrap();
    let output = worker.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn each_worker_does_a_task_and_says_when_it_can_not() {
    for (program, file) in [("python3", "python/worker.py"), ("node", "node/worker.js")] {
        let (done, said) = work(
            program,
            file,
            r#"{"task_id": "t", "attempts": 2, "stores": ["a", "b"]}"#,
        );
        assert!(done, "{file}");
        let ending = of_answer(said.as_bytes(), false);
        let Ending::Succeeded {
            result: Some(result), ..
        } = ending
        else {
            panic!("{file}: {ending:?}");
        };
        let result: serde_json::Value = serde_json::from_str(&result).unwrap();
        assert_eq!(result, serde_json::json!({"stores": 2, "attempt": 3}), "{file}");
        let (done, _) = work(program, file, r#"{"task_id": "t", "attempts": 0}"#);
        assert!(!done, "{file} fails without stores");
    }
}
