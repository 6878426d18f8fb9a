//! Invocations of the orchestrator in this process, as the platform would start them: another one each minute, which ends at
//! once while its predecessor has time, and takes over where that gives the lock back.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use jobmill_aws::{Clients, DynamoTables, REQUEST_TIME, S3Store, SqsOutcomes};
use jobmill_engine::EngineError;
use jobmill_engine::dispatch::{Dispatcher, Ended, Observation, Outcome, WakeUp};
use jobmill_engine::ports::Clock as _;

use super::here::Workforce;
use super::progress::Bar;
use super::report::{DispatchOutcome, DispatchReport};
use super::seen::Seen;
use super::{Task, Until};
use crate::failure::Failure;
use crate::stop::{Stop, StoppableHost};
use crate::terminal::one_line;

/// While an invocation is at work another one is started so often.
const TICK: Duration = Duration::from_secs(60);
/// One at work, one that settles what it started before, one that comes and sees.
const MOST_INVOCATIONS: usize = 3;
/// An invocation of the function that finds nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(20);
/// Indexes lag: what is not seen for so long is not there.
const UNTIL_SURE: Duration = Duration::from_secs(2);
/// Where there was nothing to do, or somebody else holds the lock, it is looked again after so long.
const PAUSE: Duration = Duration::from_secs(5);

/// Dispatches until it is over.
pub(super) async fn dispatch(
    task: &Task,
    clients: &Clients,
    workforce: &Workforce,
    stop: &Stop,
    seen: &Seen,
    bar: &Bar,
) -> Result<DispatchReport, Failure> {
    let config = &task.config;
    let host = StoppableHost::new(stop.clone());
    let store = S3Store::new(clients.s3.clone(), &config.queue_bucket);
    let tables = DynamoTables::new(
        clients.dynamodb.clone(),
        config.tables.clone(),
        config.task_writes,
    );
    // What is done here is answered here.
    let queue = config.outcome_queue.clone().filter(|_| task.here.is_none());
    let outcomes = SqsOutcomes::new(clients, queue);
    let observer = |observation: Observation| seen.note(observation);
    let dispatcher = Dispatcher {
        store: &store,
        tables: &tables,
        workers: workforce,
        outcomes: &outcomes,
        host: &host,
        config,
        request_time: REQUEST_TIME,
        observer: &observer,
    };
    let owner = owner();
    let wake_up = || WakeUp {
        group: task.group.clone(),
        owner: owner.clone(),
        deadline: host.monotonic() + task.timeout,
        idle: if task.until == Until::Idle {
            UNTIL_SURE
        } else {
            IDLE
        },
        waits_for_retries: task.until == Until::Idle,
    };
    let begun = host.monotonic();
    let mut turns = Turns::new(task, &owner);
    let mut running: FuturesUnordered<Invocation<'_>> = FuturesUnordered::new();
    bar.phase("looking for tasks");
    let mut is_due = true;
    loop {
        if is_due && stop.signal().is_none() {
            let wake_up = wake_up();
            let dispatcher = &dispatcher;
            running.push(Box::pin(async move { dispatcher.run(&wake_up).await }));
        }
        if running.is_empty() {
            break;
        }
        let may_start = task.until != Until::Once
            && !turns.is_over
            && stop.signal().is_none()
            && running.len() < MOST_INVOCATIONS;
        let tick = async {
            match may_start {
                true => host.sleep(TICK).await,
                false => std::future::pending().await,
            }
        };
        match select(running.next(), pin!(tick)).await {
            Either::Left((Some(ended), _)) => {
                let pause = turns.take(ended, bar)?;
                is_due = !turns.is_over && running.is_empty();
                if is_due {
                    host.sleep(pause).await;
                }
            }
            Either::Left((None, _)) => break,
            Either::Right(((), _)) => is_due = true,
        }
    }
    let mut report = turns.report;
    report.signal = stop.signal().filter(|_| !turns.came_to_its_end);
    if report.signal.is_some() {
        report.outcome = DispatchOutcome::Interrupted;
    }
    report.seconds = (host.monotonic() - begun).as_secs_f64();
    report.failures = seen.failures();
    Ok(report)
}

type Invocation<'a> = Pin<Box<dyn Future<Output = Result<Outcome, EngineError>> + Send + 'a>>;

/// What the invocations so far have come to.
struct Turns<'a> {
    task: &'a Task,
    /// Who this process is in locks.
    owner: &'a str,
    report: DispatchReport,
    /// No further one is started.
    is_over: bool,
    /// Since there was nothing to do.
    came_to_its_end: bool,
    /// One has come to an outcome.
    has_begun: bool,
    /// The last one found nothing to do.
    saw_nothing: bool,
}

impl<'a> Turns<'a> {
    fn new(task: &'a Task, owner: &'a str) -> Self {
        Self {
            task,
            owner,
            report: DispatchReport::new(&task.group),
            is_over: false,
            came_to_its_end: false,
            has_begun: false,
            saw_nothing: false,
        }
    }

    /// Takes in how one ended. Returns how long to wait before the next.
    fn take(&mut self, ended: Result<Outcome, EngineError>, bar: &Bar) -> Result<Duration, Failure> {
        let outcome = match ended {
            Ok(outcome) => outcome,
            Err(error) if self.outlives(&error) => {
                bar.warn(&format!(
                    "{}: this goes on in {} s",
                    one_line(&error.to_string()),
                    PAUSE.as_secs()
                ));
                return Ok(PAUSE);
            }
            Err(error) => return Err(Failure::from(error)),
        };
        self.has_begun = true;
        let until = self.task.until;
        let saw_nothing = std::mem::replace(&mut self.saw_nothing, outcome == Outcome::NothingToDo);
        Ok(match outcome {
            Outcome::HeldElsewhere { owner } if owner == self.owner => PAUSE,
            Outcome::HeldElsewhere { owner } if self.task.wait || self.report.invocations > 0 => {
                if self.report.held_by.as_ref() != Some(&owner) {
                    bar.tell(&format!("{owner} dispatches group {}: waiting", self.task.group));
                    self.report.held_by = Some(owner);
                }
                bar.phase("waiting");
                PAUSE
            }
            Outcome::HeldElsewhere { owner } => {
                self.report.outcome = DispatchOutcome::HeldElsewhere;
                self.report.held_by = Some(owner);
                self.is_over = true;
                PAUSE
            }
            Outcome::NothingToDo => {
                let is_enough = until == Until::Once || (until == Until::Idle && saw_nothing);
                self.ends_if(is_enough);
                bar.phase("nothing to do");
                if until == Until::Idle { UNTIL_SURE } else { PAUSE }
            }
            Outcome::Dispatched(summary) => {
                self.report.add(&summary.tally);
                self.report.held_by = None;
                self.report.suspended = summary.suspended;
                self.ends_if(until != Until::Stopped && summary.ended == Ended::Idle);
                self.is_over |= until == Until::Once;
                match summary.ended {
                    Ended::TimeShort => Duration::ZERO,
                    Ended::Idle | Ended::LockLost => PAUSE,
                }
            }
        })
    }

    /// Whether to go on in spite of an error: what has worked before may work again.
    fn outlives(&self, error: &EngineError) -> bool {
        self.task.until == Until::Stopped && self.has_begun && !matches!(error, EngineError::Input(_))
    }

    fn ends_if(&mut self, is_enough: bool) {
        self.is_over |= is_enough;
        self.came_to_its_end |= is_enough;
    }
}

/// Who this is, for whoever finds the lock held.
fn owner() -> String {
    let process = std::process::id();
    #[cfg(unix)]
    {
        let machine = rustix::system::uname();
        let name = machine.nodename().to_string_lossy().into_owned();
        format!("jobmill dispatch, process {process} on {name}")
    }
    #[cfg(not(unix))]
    format!("jobmill dispatch, process {process}")
}
