//! The metrics of the orchestrator: names, units and meaning in one place, and what of the engine's observations they
//! count. Labourers are told apart in the log lines, by `labourer_id`, and by a dimension.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jobmill_core::task::life::Outcome as TaskOutcome;
use jobmill_engine::dispatch::{Observation, Outcome};
use jobmill_lambda::emf::{Line, Properties};
use serde_json::Map;

/// While tasks are dispatched, what has come together is written so often.
const EVERY: Duration = Duration::from_secs(15);

jobmill_lambda::metrics! {
    TasksStarted, "Count", "Attempts whose workers were started, or may have been.";
    TasksSucceeded, "Count", "Tasks that were closed as succeeded.";
    TasksFailed, "Count", "Tasks that were closed as failed.";
    TasksExpired, "Count", "Tasks that were closed because nothing was heard of their last attempt.";
    TasksRetried, "Count", "Attempts that failed or expired, whose tasks wait for another.";
    StartLatency, "Milliseconds", "From a free slot to the start of a worker: the longest since the last line.";
    TaskSeconds, "Seconds", "How long attempts took: the longest since the last line.";
    ThrottledStarts, "Count", "Starts that the platform pushed back.";
    UnansweredStarts, "Count", "Starts without an answer: the attempt ends, or expires.";
    UnreadableTasks, "Count", "Items that can't be dispatched, or not be settled.";
    UnreadableOutcomes, "Count", "Messages in the queue of outcomes that are none.";
    SuspendedLabourers, "Count", "Labourers of which nothing is started for now.";
    HeldElsewhere, "Count", "Wake-ups that found a holder at work.";
    IdleWakeUps, "Count", "Wake-ups that found nothing to do.";
    Errors, "Count", "Invocations that failed, also by `ErrorType`.";
}

/// The metrics of one invocation. Takes note of what the engine tells, and gives a line for each labourer now and then.
pub(crate) struct Metrics<'a> {
    /// Monotonic and wall clock.
    clock: &'a (dyn Fn() -> (Duration, i64) + Sync),
    /// Where lines go.
    write: &'a (dyn Fn(&str) + Sync),
    noted: Mutex<Noted>,
}

struct Noted {
    properties: Properties,
    /// Of the whole invocation.
    line: Line,
    /// By labourer.
    lines: BTreeMap<String, Measured>,
    /// When the last lines were written, or the invocation began.
    written: Duration,
}

#[derive(Default)]
struct Measured {
    line: Line,
    longest_wait: Duration,
    longest_run: Duration,
}

impl<'a> Metrics<'a> {
    pub(crate) fn new(
        properties: Properties,
        clock: &'a (dyn Fn() -> (Duration, i64) + Sync),
        write: &'a (dyn Fn(&str) + Sync),
    ) -> Self {
        let noted = Noted {
            properties,
            line: Line::default(),
            lines: BTreeMap::new(),
            written: clock().0,
        };
        Self {
            clock,
            write,
            noted: Mutex::new(noted),
        }
    }

    /// Takes note of what the engine tells.
    pub(crate) fn observe(&self, observation: Observation) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = &mut *noted;
        let mut add = |labourer_id: String, metric: Metric| {
            let measured = noted.lines.entry(labourer_id).or_default();
            measured.line.add(metric.definition(), 1);
            noted.line.add(metric.definition(), 1);
        };
        match observation {
            Observation::Started { labourer_id, waited } => {
                add(labourer_id.clone(), Metric::TasksStarted);
                if let Some(measured) = noted.lines.get_mut(&labourer_id) {
                    measured.longest_wait = measured.longest_wait.max(waited);
                }
            }
            Observation::Closed {
                task_id,
                labourer_id,
                outcome,
                duration,
                error,
            } => {
                if let Some(error) = &error {
                    tracing::warn!(
                        task_id,
                        labourer_id,
                        error_type = error.kind,
                        "task {}: {}",
                        outcome.name(),
                        error.message
                    );
                }
                let metric = match outcome {
                    TaskOutcome::Succeeded => Metric::TasksSucceeded,
                    TaskOutcome::Failed => Metric::TasksFailed,
                    TaskOutcome::Expired => Metric::TasksExpired,
                };
                add(labourer_id.clone(), metric);
                if let (Some(measured), Some(duration)) = (noted.lines.get_mut(&labourer_id), duration) {
                    measured.longest_run = measured.longest_run.max(duration);
                }
            }
            Observation::Parked {
                task_id,
                labourer_id,
                error,
            } => {
                let (kind, message) =
                    error.map_or_else(Default::default, |error| (error.kind, error.message));
                tracing::info!(
                    task_id,
                    labourer_id,
                    error_type = kind,
                    "another attempt will be made: {message}"
                );
                add(labourer_id, Metric::TasksRetried);
            }
            Observation::Suspended { labourer_id, why } => {
                tracing::error!(labourer_id, error_type = why.kind, "suspended: {}", why.message);
                noted.line.add(Metric::SuspendedLabourers.definition(), 1);
            }
            Observation::Resumed { labourer_id } => tracing::info!(labourer_id, "no longer suspended"),
            Observation::Throttled { labourer_id } => add(labourer_id, Metric::ThrottledStarts),
            Observation::NoAnswer {
                task_id,
                attempts,
                message,
            } => {
                tracing::warn!(task_id, attempts, "a start got no answer: {message}");
                noted.line.add(Metric::UnansweredStarts.definition(), 1);
            }
            Observation::Unreadable { task_id, why } => {
                tracing::warn!(task_id, "{why}");
                noted.line.add(Metric::UnreadableTasks.definition(), 1);
            }
            Observation::UnreadableOutcome { why } => {
                tracing::warn!("a message in the queue of outcomes is none: {why}");
                noted.line.add(Metric::UnreadableOutcomes.definition(), 1);
            }
        }
        let (now, wall_ms) = (self.clock)();
        if now.saturating_sub(noted.written) >= EVERY {
            noted.written = now;
            self.write(noted, wall_ms, None);
        }
    }

    /// The last lines of the invocation.
    pub(crate) fn finish(&self, answer: Result<&Outcome, &'static str>) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let wall_ms = (self.clock)().1;
        let mut count = |metric: Metric| noted.line.add(metric.definition(), 1);
        match answer {
            Ok(Outcome::NothingToDo) => count(Metric::IdleWakeUps),
            Ok(Outcome::HeldElsewhere { .. }) => count(Metric::HeldElsewhere),
            Ok(Outcome::Dispatched(_)) => {}
            Err(_) => count(Metric::Errors),
        }
        self.write(&mut noted, wall_ms, answer.err());
    }

    fn write(&self, noted: &mut Noted, wall_ms: i64, error_type: Option<&str>) {
        for (labourer_id, mut measured) in std::mem::take(&mut noted.lines) {
            let mut set = |metric: Metric, value: f64| {
                if value > 0.0 {
                    measured.line.set(metric.definition(), value);
                }
            };
            set(
                Metric::StartLatency,
                measured.longest_wait.as_secs_f64() * 1_000.0,
            );
            set(Metric::TaskSeconds, measured.longest_run.as_secs_f64());
            let properties = Properties {
                function_name: noted.properties.function_name.clone(),
                request_id: noted.properties.request_id.clone(),
                more: Map::from_iter([("labourer_id".to_owned(), labourer_id.as_str().into())]),
            };
            if let Some(line) = measured
                .line
                .take_by(&properties, wall_ms, ("Labourer", &labourer_id))
            {
                (self.write)(&line);
            }
        }
        if let Some(line) = noted.line.take(&noted.properties, wall_ms, error_type) {
            (self.write)(&line);
        }
    }
}
