//! The metrics of the orchestrator: names, units and meaning in one place, and what of the engine's observations they
//! count. Labourers are told apart in the log lines, by `labourer_id`, and by a dimension.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jobmill_core::task::life::Outcome as TaskOutcome;
use jobmill_engine::dispatch::ports::Unfit;
use jobmill_engine::dispatch::{Observation, Outcome, Sample};
use jobmill_lambda::emf::{Line, Properties};
use serde_json::Map;

/// While tasks are dispatched, what has come together is written so often.
const EVERY: Duration = Duration::from_secs(15);

jobmill_lambda::metrics! {
    WakeUps, "Count", "Wake-ups that did their part: they dispatched, found nothing to do, or found a holder at work.";
    IdleWakeUps, "Count", "Those of them that found nothing to do.";
    HeldElsewhere, "Count", "Those of them that found a holder at work.";
    TasksStarted, "Count", "Attempts whose workers were started, or may have been.";
    TasksSucceeded, "Count", "Tasks that were closed as succeeded.";
    TasksFailed, "Count", "Tasks that were closed as failed.";
    TasksExpired, "Count", "Tasks that were closed because nothing was heard of their last attempt.";
    TasksRetried, "Count", "Attempts that failed or expired, whose tasks wait for another.";
    TasksRunning, "Count", "Tasks that are running, every 15 seconds; 0 when a holder with nothing left to do ends.";
    OldestQueuedSeconds, "Seconds", "How long ago the first queued task got its place; 0 if there is none.";
    SuspendedLabourers, "Count", "Labourers with queued tasks of which none is started; the log says why.";
    StartLatency, "Milliseconds", "From a free slot to the start of a worker: the longest since the last line.";
    TaskSeconds, "Seconds", "How long attempts took: the longest since the last line.";
    ThrottledStarts, "Count", "Starts that the platform pushed back.";
    UnansweredStarts, "Count", "Starts without an answer: the attempt ends, or expires.";
    UnreadableTasks, "Count", "Items that can't be dispatched, or not be settled.";
    UnreadableOutcomes, "Count", "Messages in the queue of outcomes that are none.";
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
    /// Labourers whose running tasks were told.
    told: BTreeSet<String>,
    /// Of which labourers the log says why nothing of them is started, and the reason.
    held_up: BTreeMap<String, &'static str>,
    /// When the last lines were written, or the invocation began.
    written: Duration,
}

impl Noted {
    /// The log says once why nothing of a labourer is started.
    fn say_held_up(&mut self, labourer_id: &str, why: &Unfit) {
        if self.held_up.insert(labourer_id.to_owned(), why.kind) != Some(why.kind) {
            tracing::error!(labourer_id, error_type = why.kind, "suspended: {}", why.message);
        }
    }

    fn sampled(&mut self, samples: Vec<Sample>) {
        let (mut running, mut oldest, mut suspended) = (0.0, 0.0, 0.0);
        for sample in samples {
            let waits = sample.oldest.unwrap_or_default().as_secs_f64();
            let of_it = f64::from(sample.running);
            running += of_it;
            oldest = f64::max(oldest, waits);
            let is_new = !self.lines.contains_key(&sample.labourer_id);
            // Those that are out of use send nothing: each number by labourer is a metric that is paid for.
            if of_it > 0.0 || waits > 0.0 || !is_new || self.told.contains(&sample.labourer_id) {
                self.told.insert(sample.labourer_id.clone());
                let line = &mut self.lines.entry(sample.labourer_id.clone()).or_default().line;
                line.set(Metric::TasksRunning.definition(), of_it);
                line.set(Metric::OldestQueuedSeconds.definition(), waits);
            }
            if let Some(why) = &sample.held_up {
                suspended += 1.0;
                self.say_held_up(&sample.labourer_id, why);
            }
        }
        self.line.set(Metric::TasksRunning.definition(), running);
        self.line.set(Metric::OldestQueuedSeconds.definition(), oldest);
        self.line.set(Metric::SuspendedLabourers.definition(), suspended);
    }
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
            told: BTreeSet::new(),
            held_up: BTreeMap::new(),
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
            Observation::Suspended { labourer_id, why } => noted.say_held_up(&labourer_id, &why),
            Observation::Resumed { labourer_id } => {
                noted.held_up.remove(&labourer_id);
                tracing::info!(labourer_id, "no longer suspended");
            }
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
            Observation::Sampled(samples) => noted.sampled(samples),
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
        count(match answer {
            Ok(_) => Metric::WakeUps,
            Err(_) => Metric::Errors,
        });
        match answer {
            Ok(Outcome::NothingToDo) => count(Metric::IdleWakeUps),
            Ok(Outcome::HeldElsewhere { .. }) => count(Metric::HeldElsewhere),
            Ok(Outcome::Dispatched(_)) | Err(_) => {}
        }
        self.write(&mut noted, wall_ms, answer.err());
    }

    fn write(&self, noted: &mut Noted, wall_ms: i64, error_type: Option<&str>) {
        let (mut longest_wait, mut longest_run) = (Duration::ZERO, Duration::ZERO);
        for (labourer_id, mut measured) in std::mem::take(&mut noted.lines) {
            longest_wait = longest_wait.max(measured.longest_wait);
            longest_run = longest_run.max(measured.longest_run);
            set_longest(&mut measured.line, measured.longest_wait, measured.longest_run);
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
        set_longest(&mut noted.line, longest_wait, longest_run);
        if let Some(line) = noted.line.take(&noted.properties, wall_ms, error_type) {
            (self.write)(&line);
        }
    }
}

fn set_longest(line: &mut Line, wait: Duration, run: Duration) {
    for (metric, value) in [
        (Metric::StartLatency, wait.as_secs_f64() * 1_000.0),
        (Metric::TaskSeconds, run.as_secs_f64()),
    ] {
        if value > 0.0 {
            line.set(metric.definition(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use jobmill_core::task::life::LastError;
    use serde_json::{Value, json};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Runs `told` with metrics whose clock it may move; gives the lines that were written.
    fn lines(told: impl FnOnce(&Metrics<'_>, &dyn Fn(Duration))) -> Vec<Value> {
        let now = Mutex::new(Duration::ZERO);
        let written = Mutex::new(Vec::new());
        let clock = || (*now.lock().unwrap(), 1_709_700_000_000);
        let write = |line: &str| written.lock().unwrap().push(serde_json::from_str(line).unwrap());
        let properties = Properties {
            function_name: "orchestrator".to_owned(),
            request_id: "r-1".to_owned(),
            ..Properties::default()
        };
        let metrics = Metrics::new(properties, &clock, &write);
        told(&metrics, &|time| *now.lock().unwrap() += time);
        drop(metrics);
        written.into_inner().unwrap()
    }

    fn started(labourer_id: &str, waited: u64) -> Observation {
        Observation::Started {
            labourer_id: labourer_id.to_owned(),
            waited: Duration::from_millis(waited),
        }
    }

    fn closed(labourer_id: &str, outcome: TaskOutcome) -> Observation {
        let error = (outcome != TaskOutcome::Succeeded).then(|| LastError {
            kind: "KeyError".to_owned(),
            message: "no such shop".to_owned(),
        });
        Observation::Closed {
            task_id: "t".to_owned(),
            labourer_id: labourer_id.to_owned(),
            outcome,
            duration: Some(3 * SECOND),
            error,
        }
    }

    fn sample(labourer_id: &str, running: u32, oldest: Option<u64>, held_up: Option<&'static str>) -> Sample {
        Sample {
            labourer_id: labourer_id.to_owned(),
            running,
            oldest: oldest.map(Duration::from_secs),
            held_up: held_up.map(|kind| Unfit {
                kind,
                message: "mend it".to_owned(),
            }),
        }
    }

    fn of<'a>(lines: &'a [Value], labourer: Option<&str>) -> &'a Value {
        let labourer = labourer.map_or(Value::Null, Value::from);
        let mut fitting = lines.iter().filter(|line| line["Labourer"] == labourer);
        let line = fitting.next().unwrap();
        assert!(fitting.next().is_none(), "{lines:?}");
        line
    }

    #[test]
    fn what_happens_is_counted_by_labourer_and_in_all() {
        let lines = lines(|metrics, _| {
            metrics.observe(started("report", 7));
            metrics.observe(started("report", 12));
            metrics.observe(started("resize", 3));
            metrics.observe(closed("report", TaskOutcome::Succeeded));
            metrics.observe(closed("report", TaskOutcome::Failed));
            metrics.observe(closed("resize", TaskOutcome::Expired));
            metrics.finish(Ok(&Outcome::NothingToDo));
        });
        let (report, all) = (of(&lines, Some("report")), of(&lines, None));
        assert_eq!(
            json!([
                report["TasksStarted"],
                report["TasksSucceeded"],
                report["TasksFailed"],
                report["StartLatency"]
            ]),
            json!([2.0, 1.0, 1.0, 12.0])
        );
        assert_eq!(report["TaskSeconds"], json!(3.0));
        assert_eq!(
            json!([
                all["TasksStarted"],
                all["TasksSucceeded"],
                all["TasksFailed"],
                all["TasksExpired"],
                all["StartLatency"]
            ]),
            json!([3.0, 1.0, 1.0, 1.0, 12.0])
        );
        assert_eq!(json!([all["WakeUps"], all["IdleWakeUps"]]), json!([1.0, 1.0]));
    }

    #[test]
    fn a_sample_is_a_measure_and_idle_labourers_cost_no_metric() {
        let lines = lines(|metrics, pass| {
            metrics.observe(Observation::Sampled(vec![
                sample("report", 4, Some(90), Some("FunctionNotFound")),
                sample("resize", 2, None, None),
                sample("unused", 0, None, None),
            ]));
            pass(EVERY);
            metrics.observe(Observation::Sampled(vec![
                sample("report", 0, None, None),
                sample("resize", 0, None, None),
                sample("unused", 0, None, None),
            ]));
            pass(EVERY);
            metrics.observe(started("resize", 1));
        });
        // What was measured last before a line is written stands in it.
        let all: Vec<&Value> = lines.iter().filter(|line| line["Labourer"].is_null()).collect();
        assert_eq!(all.len(), 2, "{lines:?}");
        assert_eq!(
            json!([
                all[0]["TasksRunning"],
                all[0]["OldestQueuedSeconds"],
                all[0]["SuspendedLabourers"]
            ]),
            json!([0.0, 0.0, 0.0])
        );
        assert!(lines.iter().all(|line| line["Labourer"] != "unused"), "{lines:?}");
        assert!(
            lines
                .iter()
                .any(|line| line["Labourer"] == "report" && line["TasksRunning"] == json!(0.0))
        );
    }

    #[test]
    fn a_labourer_that_is_held_up_counts_with_the_age_of_its_queue() {
        let lines = lines(|metrics, _| {
            metrics.observe(Observation::Sampled(vec![
                sample("report", 4, Some(90), Some("FunctionNotFound")),
                sample("resize", 2, Some(30), None),
            ]));
            metrics.finish(Err("ServiceUnavailable"));
        });
        let all = of(&lines, None);
        assert_eq!(
            json!([
                all["TasksRunning"],
                all["OldestQueuedSeconds"],
                all["SuspendedLabourers"],
                all["Errors"]
            ]),
            json!([6.0, 90.0, 1.0, 1.0])
        );
        assert_eq!(all["ErrorType"], "ServiceUnavailable");
        assert!(all.get("WakeUps").is_none(), "a failed one is no sign of life");
        assert_eq!(of(&lines, Some("resize"))["OldestQueuedSeconds"], json!(30.0));
    }

    #[test]
    fn the_runbook_has_every_metric_with_its_unit_and_meaning() {
        let runbook = include_str!("../../../docs/operate.md");
        for metric in Metric::ALL {
            let row = format!("| `{}` | {} | {} |", metric.name, metric.unit, metric.meaning);
            assert!(runbook.contains(&row), "docs/operate.md lacks {row}");
        }
    }
}
