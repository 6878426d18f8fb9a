//! The tasks of a run are worked off in this process: the orchestrator's engine, whose workers are processes here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jobmill_aws::{Clients, DynamoTables, REQUEST_TIME, S3Store, SqsOutcomes};
use jobmill_core::config::Config;
use jobmill_core::task::labourer::{Completion, Labourer};
use jobmill_core::task::life::Outcome as TaskOutcome;
use jobmill_engine::dispatch::ports::{Unfit, Workers};
use jobmill_engine::dispatch::{Dispatcher, Observation, Outcome, Tally, WakeUp};
use jobmill_engine::ports::Clock as _;
use jobmill_local::FunctionSpec;
use serde::Serialize;

use super::prepare::PreparedRun;
use super::progress::Progress;
use crate::failed_tasks::{FailedTasks, FailureGroup, told};
use crate::failure::Failure;
use crate::figures::{count, counted};
use crate::stop::{Stop, StoppableHost};

/// A task may take so long where the labourer has no `max_duration`.
const LONGEST: Duration = Duration::from_secs(900);
/// A bootstrap may take so long to ask for its first task.
const SLOWEST_START: Duration = Duration::from_secs(60);
/// Longer than any run is watched.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// What became of the tasks of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct WorkReport {
    #[serde(flatten)]
    pub(super) tally: Tally,
    /// Tasks that are neither closed nor tried to their end.
    pub(super) left: u64,
    /// Failures of closed tasks by their error, most frequent first.
    pub(super) failures: Vec<FailureGroup>,
    /// Why nothing more was started, if that is so.
    pub(super) suspended: Option<Unfit>,
    /// From the first claim to the last answer.
    pub(super) seconds: f64,
}

impl WorkReport {
    /// In a line.
    pub(super) fn headline(&self, rows: u64) -> String {
        let mut line = format!(
            "{} of {} succeeded",
            count(self.tally.succeeded),
            counted(rows, "task", "tasks")
        );
        for (what, number) in [
            ("failed", self.tally.failed),
            ("were never heard of again", self.tally.expired),
            ("left", self.left),
        ] {
            if number > 0 {
                line += &format!(", {} {what}", count(number));
            }
        }
        line
    }

    /// `, 42 a second`.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate for people, rounded; the conversion saturates"
    )]
    pub(super) fn rate(&self) -> String {
        let rate = (self.tally.started as f64 / self.seconds.max(0.001)).round() as u64;
        match rate {
            0 => String::new(),
            rate => format!(", {} attempts a second", count(rate)),
        }
    }

    /// Whether every task succeeded.
    pub(super) fn is_success(&self) -> bool {
        self.left == 0 && self.tally.failed == 0 && self.tally.expired == 0
    }
}

/// Works the tasks of a run off, `at_once` at a time.
pub(super) async fn work(
    run: &PreparedRun,
    clients: &Clients,
    workers: &impl Workers,
    at_once: u32,
    stop: &Stop,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<WorkReport, Failure> {
    let host = StoppableHost::new(stop.clone());
    let config = for_this_run(run, at_once);
    let store = S3Store::new(clients.s3.clone(), &config.queue_bucket);
    let tables = DynamoTables::new(
        clients.dynamodb.clone(),
        config.tables.clone(),
        config.task_writes,
    );
    let seen = Seen::new(run.plan.chunks.row_count());
    let observer = |observation: Observation| {
        if !seen.note(observation, progress) {
            host.give_up();
        }
    };
    let dispatcher = Dispatcher {
        store: &store,
        tables: &tables,
        workers,
        outcomes: &SqsOutcomes::new(clients, None),
        host: &host,
        config: &config,
        request_time: REQUEST_TIME,
        observer: &observer,
    };
    let wake_up = WakeUp {
        group: jobmill_core::task::labourer::MAIN_GROUP.to_owned(),
        owner: "jobmill run".to_owned(),
        deadline: host.monotonic() + LIFETIME,
        idle: Duration::ZERO,
        waits_for_retries: true,
    };
    progress(Progress::Working { at_once });
    let begun = host.monotonic();
    let outcome = dispatcher.run(&wake_up).await?;
    let mut report = seen.report();
    report.seconds = (host.monotonic() - begun).as_secs_f64();
    if let Outcome::Dispatched(summary) = outcome {
        report.tally = summary.tally;
    }
    let closed = report.tally.succeeded + report.tally.failed + report.tally.expired;
    report.left = run.plan.chunks.row_count().saturating_sub(closed);
    Ok(report)
}

/// A Lambda bootstrap as the function of the labourer.
pub(super) fn function(run: &PreparedRun, binary: PathBuf, at_once: u32) -> FunctionSpec {
    let labourer_id = &run.plan.labourer_id;
    let configured = run.config.labourers.get(labourer_id);
    let longest = configured
        .and_then(|labourer| labourer.max_duration)
        .unwrap_or(LONGEST);
    let mut function = FunctionSpec::new(labourer_id, binary).timeout(longest);
    function.max_concurrency = at_once as usize;
    // A busy machine is no reason to fail.
    function.init_timeout = SLOWEST_START;
    function
}

/// The configuration with the one labourer that works here.
fn for_this_run(run: &PreparedRun, at_once: u32) -> Config {
    let labourer_id = &run.plan.labourer_id;
    let configured = run.config.labourers.get(labourer_id).cloned().unwrap_or_default();
    let labourer = Labourer {
        arn: Some(labourer_id.clone()),
        group: jobmill_core::task::labourer::MAIN_GROUP.to_owned(),
        completion: Some(Completion::Response),
        max_simultaneous: at_once,
        max_duration: Some(configured.max_duration.unwrap_or(LONGEST)),
        health: Vec::new(),
        paused: false,
        ..configured
    };
    Config {
        labourers: BTreeMap::from([(labourer_id.clone(), labourer)]),
        ..run.config.clone()
    }
}

/// What the engine told.
struct Seen {
    rows: u64,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    succeeded: u64,
    failed: u64,
    retried: u64,
    failures: FailedTasks,
    suspended: Option<Unfit>,
}

impl Seen {
    fn new(rows: u64) -> Self {
        Self {
            rows,
            noted: Mutex::default(),
        }
    }

    /// Takes note. Whether it is of use to go on.
    fn note(&self, observation: Observation, progress: &(dyn Fn(Progress) + Sync)) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        match observation {
            Observation::Closed {
                task_id,
                labourer_id,
                outcome,
                error,
                ..
            } => match outcome {
                TaskOutcome::Succeeded => noted.succeeded += 1,
                TaskOutcome::Failed | TaskOutcome::Expired => {
                    noted.failed += 1;
                    noted.failures.add(&task_id, &labourer_id, &told(error));
                }
            },
            Observation::Parked { .. } => noted.retried += 1,
            Observation::Suspended { why, .. } => {
                noted.suspended = Some(why);
                return false;
            }
            _ => return true,
        }
        progress(Progress::Worked {
            succeeded: noted.succeeded,
            failed: noted.failed,
            retried: noted.retried,
            rows: self.rows,
        });
        true
    }

    fn report(self) -> WorkReport {
        let noted = self.noted.into_inner().unwrap_or_else(PoisonError::into_inner);
        WorkReport {
            failures: noted.failures.groups(),
            suspended: noted.suspended,
            ..WorkReport::default()
        }
    }
}
