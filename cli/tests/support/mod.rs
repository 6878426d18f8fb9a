//! The real binary, and folders to run it in.

pub(crate) mod pages;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// What a process said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) exit: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn rows(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The type of the error, which must be the only thing that is said.
    #[track_caller]
    pub(crate) fn error(&self) -> &str {
        assert_eq!((self.exit, self.out.as_str()), (2, ""), "{self:?}");
        let rest = self
            .err
            .lines()
            .find_map(|line| line.strip_prefix("error["))
            .unwrap_or_else(|| panic!("{self:?}"));
        rest.split_once("]: ").unwrap().0
    }
}

pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobmill"));
    command
        .current_dir(folder)
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE");
    command
}

pub(crate) fn jobmill_with(folder: &Path, arguments: &[&str], input: &str) -> Said {
    let mut child = command(folder)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // A command that fails early may not read it.
        scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
        child.wait_with_output().unwrap()
    });
    Said {
        exit: output.status.code().expect("no signal"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn jobmill(folder: &Path, arguments: &[&str]) -> Said {
    jobmill_with(folder, arguments, "")
}

/// What a shell prints for a command line, with `jobmill` in its path.
pub(crate) fn shell(folder: &Path, line: &str) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_jobmill"));
    let path = [binary.parent().unwrap().to_str().unwrap(), env!("PATH")].join(":");
    let output = Command::new("sh")
        .current_dir(folder)
        .env("PATH", path)
        .arg("-c")
        .arg(format!("{line} 2>&1"))
        .output()
        .unwrap();
    assert_eq!(output.stderr, b"");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn jobs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/jobs")
}

/// A folder with a configuration and a job.
pub(crate) fn folder(config: &Value, job: &Value) -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("jobmill.json"), config.to_string()).unwrap();
    std::fs::write(folder.path().join("job.json"), job.to_string()).unwrap();
    folder
}

pub(crate) fn config() -> Value {
    json!({
        "queue_bucket": "b",
        "job_schema": {"chunkable_attrs": [["section", {}], ["store", {}]]},
        "task_config": {"labourers": {"report": {}}},
    })
}

pub(crate) fn plan_of(config: &Value, job: &Value) -> Said {
    jobmill(
        folder(config, job).path(),
        &["plan", "job.json", "--as-of", "2024-03-06", "--format", "rows"],
    )
}
