//! A cloud with queued tasks, and the command at work on it.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};

use jobmill_core::queue::group::GroupLock;
use jobmill_core::task::tables::Tables;
use jobmill_local::{LocalCloud, LocalCloudOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

const BUCKET: &str = "queue";

/// A cloud, a folder with a configuration of the labourer `report`, and the commands in it.
pub(crate) struct Stage {
    pub(crate) cloud: LocalCloud,
    folder: TempDir,
}

impl Stage {
    /// With these settings of the labourer.
    pub(crate) async fn new(labourer: Value) -> Self {
        let cloud = LocalCloud::start(LocalCloudOptions::default()).await.unwrap();
        cloud.create_bucket(BUCKET);
        cloud.create_task_tables(&Tables::default()).unwrap();
        let folder = TempDir::new().unwrap();
        let config =
            json!({ "queue_bucket": BUCKET, "task_config": { "labourers": { "report": labourer } } });
        std::fs::write(folder.path().join("jobmill.json"), config.to_string()).unwrap();
        Self { cloud, folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program that waits until somebody opens the gate, then gives its payload back.
    pub(crate) fn gated(&self) -> &'static str {
        let gate = self.path("gate");
        assert!(Command::new("mkfifo").arg(gate).status().unwrap().success());
        "sh -c 'echo started >&2; cat gate; cat'"
    }

    /// Lets one program go on that waits at the gate.
    pub(crate) fn open_gate(&self) {
        std::fs::write(self.path("gate"), "").unwrap();
    }

    /// Queues tasks whose payloads say their numbers.
    pub(crate) fn queue(&self, count: usize) {
        for id in 0..count {
            let task = json!({
                "task_id": { "S": format!("{id:032}") },
                "labourer_id": { "S": "report" },
                "created_at": { "N": "1709701000" },
                "greenfield": { "N": (1_000_000 + id).to_string() },
                "attempts": { "N": "0" },
                "payload": { "S": json!({ "n": id }).to_string() },
            });
            self.cloud.put_item("sosw_tasks", task).unwrap();
        }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jobmill"));
        command
            .current_dir(self.folder.path())
            .arg("dispatch")
            .args(arguments)
            .envs(self.cloud.environment());
        command
    }

    /// Exit code, standard output, standard error.
    pub(crate) fn said(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Exit code and JSON.
    pub(crate) fn report(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let (exit, out, err) = self.said(&[arguments, &["--format", "json"]].concat());
        let report = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out} {err}"));
        (exit, report)
    }

    /// How many items a table has.
    pub(crate) fn items(&self, table: &str) -> usize {
        self.cloud.scan_table(table).unwrap().len()
    }

    pub(crate) fn lock(&self) -> Option<GroupLock> {
        let key = "sosw/scheduler/dispatch/main.json";
        let object = self.cloud.object(BUCKET, key)?;
        Some(GroupLock::parse(key, &object.body).unwrap())
    }
}

/// A command at work.
pub(crate) struct Running {
    child: Child,
    err: Lines<BufReader<ChildStderr>>,
    said: String,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = String::new();
        Self { child, err, said }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Reads standard error up to a line that contains `part`, and gives that line.
    #[track_caller]
    pub(crate) fn wait_line(&mut self, part: &str) -> String {
        for line in self.err.by_ref() {
            let line = line.unwrap();
            self.said += &format!("{line}\n");
            if line.contains(part) {
                return line;
            }
        }
        panic!("{part:?} was not said, but {:?}", self.said);
    }

    /// Sends a signal by its name: `INT`, `TERM`, `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        let sent = kill.arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end: status, standard output, and all of standard error.
    pub(crate) fn end(mut self) -> (ExitStatus, String, String) {
        for line in self.err {
            self.said += &format!("{}\n", line.unwrap());
        }
        let Output { status, stdout, .. } = self.child.wait_with_output().unwrap();
        (status, String::from_utf8(stdout).unwrap(), self.said)
    }
}
