//! A cloud that outlives the command, and the command at work on it.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use jobmill_core::queue::lock::Lock;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::identity::TaskIds;
use jobmill_core::task::tables::Tables;
use jobmill_local::{Effect, LocalCloud, LocalCloudOptions, Rule, RuleId, Service};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::pages::{blocks, document};

pub(crate) const BUCKET: &str = "queue";
/// How many tasks the job of [`folder`] has.
pub(crate) const ROWS: usize = 3_000;

/// A folder with a configuration and a job of [`ROWS`] rows.
pub(crate) fn folder() -> TempDir {
    folder_with(json!({}))
}

/// The same, with more keys in the job.
pub(crate) fn folder_with(more: Value) -> TempDir {
    let config = json!({
        "queue_bucket": BUCKET,
        "job_schema": {"chunkable_attrs": [["customer", {}]]},
        "task_config": {"labourers": {"send": {}}},
    });
    let customers: Vec<String> = (0..ROWS).map(|at| format!("c{at}")).collect();
    let mut job = json!({"lambda_name": "send", "isolate_customers": true, "customers": customers});
    job.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("jobmill.json"), config.to_string()).unwrap();
    std::fs::write(folder.path().join("job.json"), job.to_string()).unwrap();
    folder
}

/// A cloud with that bucket and the task tables.
pub(crate) async fn cloud(bucket: &str) -> LocalCloud {
    let cloud = LocalCloud::start(LocalCloudOptions::default()).await.unwrap();
    cloud.create_bucket(bucket);
    cloud.create_task_tables(&Tables::default()).unwrap();
    cloud
}

/// Requests that create tasks, held back.
pub(crate) struct Held<'a> {
    cloud: &'a LocalCloud,
    batches: RuleId,
    transactions: RuleId,
}

/// Lets so many batches of tasks pass and holds what comes behind them, so that a run stays where it is.
pub(crate) fn hold_after(cloud: &LocalCloud, batches: u64) -> Held<'_> {
    let hold = |operation: &str| Rule::new(Service::DynamoDb, Effect::Hold).on(operation);
    Held {
        cloud,
        batches: cloud.faults().add(hold("BatchExecuteStatement").after(batches)),
        transactions: cloud.faults().add(hold("TransactWriteItems")),
    }
}

impl Held<'_> {
    /// Returns when a request is held.
    pub(crate) async fn reached(&self) {
        assert!(self.cloud.faults().wait_fired(self.batches, 1).await);
    }

    /// Lets them go on.
    pub(crate) fn release(self) {
        self.cloud.faults().remove(self.batches);
        self.cloud.faults().remove(self.transactions);
    }
}

/// `jobmill run ... --cloud aws`, at that cloud.
pub(crate) fn at_cloud(cloud: &LocalCloud, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobmill"));
    command
        .current_dir(folder)
        .args(["run", "job.json", "--cloud", "aws"])
        .args(arguments)
        .envs(cloud.environment());
    command
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
        Self {
            child,
            err,
            said: String::new(),
        }
    }

    /// Reads standard error up to a line that contains `part`, and gives that line.
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

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name: `INT`, `TERM`, `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.id().to_string())
            .status()
            .unwrap();
        assert!(sent.success());
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

/// Asserts that something was said as the documentation shows it, but for the run id and the figures.
#[track_caller]
pub(crate) fn assert_documented(block: &str, said: &str) {
    let (_, shown) = blocks(&document("command.md"))
        .into_iter()
        .find(|(words, _)| words == block)
        .unwrap();
    let plain = |text: &str| {
        let run_id = text.lines().next().and_then(|line| line.strip_prefix("run id: "));
        let text = text.replace(run_id.unwrap(), "ID");
        let figures = text.split(|letter: char| letter.is_ascii_digit() || letter == ',');
        figures
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("N")
    };
    assert_eq!(plain(said), plain(&shown));
}

/// What stands behind `To go on:`, as a command at that cloud.
pub(crate) fn command_to_go_on(said: &str, cloud: &LocalCloud, folder: &Path) -> Command {
    let line = said
        .split_once("To go on:\n\n  jobmill ")
        .unwrap_or_else(|| panic!("no way to go on is told: {said}"))
        .1
        .trim_end();
    assert!(!line.contains('\n'), "{said}");
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("exec \"$JOBMILL\" {line}"))
        .env("JOBMILL", env!("CARGO_BIN_EXE_jobmill"))
        .current_dir(folder)
        .envs(cloud.environment());
    command
}

pub(crate) fn report(output: &Output) -> Value {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("the report is JSON")
}

/// Asserts that each row of a finished run was counted once.
#[track_caller]
pub(crate) fn assert_adds_up(report: &Value) {
    let count = |key: &str| report[key].as_u64().unwrap();
    assert_eq!(
        count("created") + count("existed") + count("skipped"),
        count("rows"),
        "{report}"
    );
    assert_eq!(count("done"), count("rows"), "{report}");
}

pub(crate) fn lock(cloud: &LocalCloud, run_id: &str) -> Option<Lock> {
    let key = format!("sosw/scheduler/locked_tasks_queue_{run_id}.txt");
    let object = cloud.object(BUCKET, &key)?;
    Some(Lock::parse(&key, &object.body).unwrap())
}

/// Asserts that the tasks of a run stand, `rows` of them, each once, in the order of the queue, none in the future.
pub(crate) fn assert_whole(cloud: &LocalCloud, bucket: &str, run_id: &str, rows: usize) {
    let items = cloud.scan_table("sosw_tasks").unwrap();
    assert_eq!(items.len(), rows);
    let mut tasks: Vec<(Greenfield, &str)> = items
        .iter()
        .map(|item| {
            let greenfield = item["greenfield"]["N"].as_str().unwrap();
            (
                Greenfield::parse(greenfield).unwrap(),
                item["task_id"]["S"].as_str().unwrap(),
            )
        })
        .collect();
    tasks.sort_unstable();
    let ids = TaskIds::new(bucket, "sosw/scheduler", run_id);
    for (row, (_, id)) in tasks.iter().enumerate() {
        assert_eq!(*id, ids.at(row as u64), "row {row}");
    }
    let greenfields: BTreeSet<Greenfield> = tasks.iter().map(|(greenfield, _)| *greenfield).collect();
    assert_eq!(greenfields.len(), rows);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    assert!(*greenfields.last().unwrap() <= Greenfield::from_millis(i64::try_from(now).unwrap()));
    let left = cloud.bucket_keys(bucket, "");
    assert_eq!(
        left,
        [format!("sosw/scheduler/done/tasks_queue_{run_id}.txt.json")]
    );
}
