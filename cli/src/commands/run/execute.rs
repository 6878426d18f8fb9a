//! The steps of a run, in this process: the engine on the ports of a cloud, one invocation after another.
//!
//! Where the scheduler Lambda starts a sibling, the loop here goes on itself with the same request that the sibling
//! would have got; where it leaves a file to the sweep, the loop is the sweep.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use jobmill_aws::{Clients, DynamoTasks, MetaContext, REQUEST_TIME, S3Store};
use jobmill_core::job::event::{Continuation, JobRequest, Request};
use jobmill_core::job::period::AsOf;
use jobmill_core::warning::Warnings;
use jobmill_engine::Limits;
use jobmill_engine::ports::{Clock as _, PortResult};
use jobmill_engine::schedule::ports::Siblings;
use jobmill_engine::schedule::{Context, Engine, Observation};

use super::prepare::PreparedRun;
use super::progress::Progress;
use super::report::{RunOutcome, RunReport};
use crate::failure::Failure;
use crate::stop::{Stop, StoppableHost};

/// Invocations in a row that may end without a new task before the run is given up for now.
const IDLE_INVOCATIONS: u32 = 3;

/// The first pause before a lock of somebody else is looked at again; it grows by half each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Runs the job until nothing is left to do, or something is in the way, and tells `progress` how far it is.
pub(super) async fn execute(
    run: &PreparedRun,
    clients: &Clients,
    stop: &Stop,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<RunReport, Failure> {
    let config = &run.config;
    let host = StoppableHost::new(stop.clone());
    let store = S3Store::new(clients.s3.clone(), &config.queue_bucket);
    let tasks = DynamoTasks::new(
        clients.dynamodb.clone(),
        config.tables.clone(),
        config.task_writes,
    )
    .with_meta(MetaContext {
        author: "jobmill".to_owned(),
        invocation_id: run.run_id.clone(),
        log_stream_name: "command line".to_owned(),
    });
    let seen = Seen::default();
    let observer = |observation: Observation<'_>| seen.note(observation, host.wall_ms(), progress);
    let engine = Engine {
        store: &store,
        tasks: &tasks,
        siblings: &NextTurn,
        host: &host,
        config,
        limits: Limits::default(),
        request_time: REQUEST_TIME,
        observer: &observer,
    };
    let mut request = Request::Job(JobRequest {
        job: run.job.clone(),
        run_id: Some(run.run_id.clone()),
        as_of: run.plan.as_of,
        event_time: None,
        strict: run.strict,
        warnings: Warnings::default(),
    });
    let continuation = || {
        // The chain is not bounded here: its hops cost nothing, and this process is watched.
        Request::Continue(Continuation {
            file_name: config.file_name(&run.run_id),
            hop: 0,
            skip_line: None,
            by_hand: false,
        })
    };
    let timeout = Duration::from_secs(u64::from(run.timeout));
    let begun = host.monotonic();
    let mut report = RunReport::new(run);
    let (mut idle, mut wait) = (0, None);
    progress(Progress::Phase("planning"));
    loop {
        let context = Context {
            request_id: run.run_id.clone(),
            deadline: host.monotonic() + timeout,
        };
        let before = report.done;
        let outcome = engine.run(request, &context).await?;
        report.take(outcome);
        match report.outcome {
            RunOutcome::HandedOff if stop.signal().is_some() => break,
            RunOutcome::HandedOff => {
                idle = if report.done > before { 0 } else { idle + 1 };
                if idle >= IDLE_INVOCATIONS {
                    break;
                }
                report.hops += 1;
                seen.hops.store(report.hops, Ordering::Relaxed);
            }
            RunOutcome::HeldElsewhere => {
                if !run.wait {
                    break;
                }
                let now = host.monotonic();
                let wait = wait.get_or_insert_with(|| {
                    progress(Progress::Waiting);
                    Wait::until(now + timeout)
                });
                let Some(pause) = wait.pause(now) else { break };
                host.sleep(pause).await;
                if stop.signal().is_some() {
                    break;
                }
            }
            _ => break,
        }
        request = continuation();
    }
    report.signal = stop.signal().filter(|_| !report.is_whole());
    if report.signal.is_some() && report.outcome == RunOutcome::HandedOff {
        report.outcome = RunOutcome::Interrupted;
    }
    report.seconds = (host.monotonic() - begun).as_secs_f64();
    report.created_here = seen.created.load(Ordering::Relaxed);
    report.planned_here = seen.planned_here();
    Ok(report)
}

/// The sibling is the next turn of the loop.
struct NextTurn;

impl Siblings for NextTurn {
    async fn spawn(&self, _payload: String) -> PortResult<()> {
        Ok(())
    }
}

/// Waiting for another invocation to let go of a run.
struct Wait {
    until: Duration,
    pause: Duration,
}

impl Wait {
    fn until(until: Duration) -> Self {
        Self {
            until,
            pause: FIRST_PAUSE,
        }
    }

    /// How long to wait before the next look; nothing when the time is up.
    fn pause(&mut self, now: Duration) -> Option<Duration> {
        let left = self.until.checked_sub(now).filter(|left| !left.is_zero())?;
        let pause = self.pause.min(left);
        self.pause = (self.pause * 3 / 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}

/// What the engine told of its work.
#[derive(Default)]
struct Seen {
    /// How often an invocation has handed on.
    hops: AtomicU32,
    /// Tasks that this process created.
    created: AtomicU64,
    /// When this process planned the job last, in milliseconds since 1970.
    planned_ms: AtomicI64,
    /// This process wrote the rows.
    spooled: AtomicBool,
}

impl Seen {
    /// When this process planned the rows of the run, if it was this process.
    fn planned_here(&self) -> Option<AsOf> {
        let spooled = self.spooled.load(Ordering::Relaxed);
        AsOf::from_millis(self.planned_ms.load(Ordering::Relaxed)).filter(|_| spooled)
    }

    fn note(&self, observation: Observation<'_>, now_ms: i64, progress: &(dyn Fn(Progress) + Sync)) {
        match observation {
            Observation::Planned { .. } => {
                self.planned_ms.store(now_ms, Ordering::Relaxed);
                progress(Progress::Phase("writing the queue file"));
            }
            Observation::Spooled { .. } => {
                self.spooled.store(true, Ordering::Relaxed);
                progress(Progress::Phase("asking for the lock"));
            }
            Observation::Holding { .. } => progress(Progress::Creating {
                hop: self.hops.load(Ordering::Relaxed),
            }),
            Observation::Answered { created, .. } => {
                self.created.fetch_add(created, Ordering::Relaxed);
            }
            Observation::Progress { done, rows } => progress(Progress::Tasks { done, rows }),
            Observation::Completed { .. } => progress(Progress::Phase("cleaning up")),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_with_the_time() {
        let mut wait = Wait::until(Duration::from_secs(100));
        let mut now = Duration::ZERO;
        let mut pauses = Vec::new();
        while let Some(pause) = wait.pause(now) {
            now += pause;
            pauses.push(pause);
        }
        assert_eq!(pauses[..3], [500, 750, 1125].map(Duration::from_millis));
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE));
        assert_eq!(now, Duration::from_secs(100));
    }
}
