//! The metrics of the scheduler: names, units and meaning in one place, and what of the engine's observations they count.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jobmill_engine::schedule::{Observation, Outcome};
use jobmill_lambda::emf::{Line, Properties};
use serde_json::Map;

/// While a drain goes on, what has come together is written so often.
const EVERY: Duration = Duration::from_secs(15);

jobmill_lambda::metrics! {
    JobsPlanned, "Count", "Jobs that were understood, repeated deliveries included.";
    RowsPlanned, "Count", "Rows of those jobs.";
    RowsSpooled, "Count", "Rows written to queue files.";
    JobsCompleted, "Count", "Runs whose last row became a task.";
    RunSeconds, "Seconds", "From the first lock of a run to its receipt.";
    TasksCreated, "Count", "Tasks that a request created.";
    TasksAlreadyThere, "Count", "Tasks in doubt that turned out to be there.";
    ThrottledRequests, "Count", "Requests that the tasks table pushed back as a whole.";
    UnprocessedTasks, "Count", "Single tasks of a request that the table pushed back.";
    DrainRate, "Count/Second", "Tasks confirmed a second, since the last line of metrics of the invocation.";
    RemainingRows, "Count", "Rows of the run that are not tasks yet.";
    HandOffs, "Count", "Invocations that released their file because time was short.";
    TakeOvers, "Count", "Locks taken over, released or run out.";
    SpawnFailures, "Count", "Siblings that could not be started; the sweep goes on with their files.";
    ChainsStopped, "Count", "Chains of siblings that reached `max_hops`; the sweep goes on with their files.";
    Sweeps, "Count", "Sweeps that looked at all queue files.";
    OpenFiles, "Count", "Queue files of runs that are not completed, seen by a sweep.";
    StoppedFiles, "Count", "Runs that wait for somebody, at a damaged row or with a lock that can't be read, seen by a sweep.";
    OldestOpenFileSeconds, "Seconds", "How old the oldest open run is, seen by a sweep; 0 if there is none.";
    Errors, "Count", "Invocations that failed, also by `ErrorType`.";
}

/// The metrics of one invocation. Takes note of what the engine tells, and gives a line now and then.
pub(crate) struct Metrics<'a> {
    /// Monotonic and wall clock.
    clock: &'a (dyn Fn() -> (Duration, i64) + Sync),
    /// Where lines go.
    write: &'a (dyn Fn(&str) + Sync),
    noted: Mutex<Noted>,
}

struct Noted {
    properties: Properties,
    line: Line,
    /// When the last line was written, or the invocation began.
    written: Duration,
    /// Tasks that were confirmed since.
    confirmed: u64,
}

impl Noted {
    fn add(&mut self, metric: Metric, value: u64) {
        self.line.add(metric.definition(), value);
    }

    fn set(&mut self, metric: Metric, value: f64) {
        self.line.set(metric.definition(), value);
    }
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
            written: clock().0,
            confirmed: 0,
        };
        Self {
            clock,
            write,
            noted: Mutex::new(noted),
        }
    }

    /// Takes note of what the engine tells.
    pub(crate) fn observe(&self, observation: Observation<'_>) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        match observation {
            Observation::Planned { rows } => {
                noted.add(Metric::JobsPlanned, 1);
                noted.add(Metric::RowsPlanned, rows);
            }
            Observation::Spooled { rows } => noted.add(Metric::RowsSpooled, rows),
            Observation::Holding {
                run_id,
                file_name,
                hop,
            } => {
                noted.properties.more = Map::from_iter([
                    ("run_id".to_owned(), run_id.into()),
                    ("file_name".to_owned(), file_name.into()),
                    ("hop".to_owned(), hop.into()),
                ]);
            }
            Observation::TakenOver => noted.add(Metric::TakeOvers, 1),
            Observation::Answered {
                created,
                already_there,
                unprocessed,
                throttled,
                ..
            } => {
                noted.confirmed += created + already_there;
                noted.add(Metric::TasksCreated, created);
                noted.add(Metric::TasksAlreadyThere, already_there);
                noted.add(Metric::UnprocessedTasks, unprocessed);
                noted.add(Metric::ThrottledRequests, u64::from(throttled));
            }
            Observation::Progress { done, rows } => self.progress(&mut noted, done, rows),
            Observation::Completed { run_time } => {
                noted.add(Metric::JobsCompleted, 1);
                noted.set(Metric::RunSeconds, run_time.as_secs_f64());
            }
            Observation::SpawnFailed => noted.add(Metric::SpawnFailures, 1),
            Observation::ChainStopped => noted.add(Metric::ChainsStopped, 1),
            Observation::Swept {
                open,
                stopped,
                oldest,
            } => {
                noted.add(Metric::Sweeps, 1);
                noted.set(Metric::OpenFiles, open as f64);
                noted.set(Metric::StoppedFiles, stopped as f64);
                noted.set(Metric::OldestOpenFileSeconds, oldest.as_secs_f64());
            }
        }
    }

    fn progress(&self, noted: &mut Noted, done: u64, rows: u64) {
        let (now, wall_ms) = (self.clock)();
        let since = now.saturating_sub(noted.written).as_secs_f64();
        noted.set(Metric::RemainingRows, rows.saturating_sub(done) as f64);
        if since > 0.0 {
            noted.set(Metric::DrainRate, noted.confirmed as f64 / since);
        }
        if since >= EVERY.as_secs_f64() {
            self.write_line(noted, wall_ms, None);
            noted.written = now;
            noted.confirmed = 0;
        }
    }

    /// Writes what is left when the invocation has ended, with what its outcome tells.
    pub(crate) fn finish(&self, ended: Result<&Outcome, &str>) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        match ended {
            Ok(outcome) => {
                if matches!(outcome, Outcome::HandedOff { .. }) {
                    noted.add(Metric::HandOffs, 1);
                }
                let more = &mut noted.properties.more;
                more.insert("outcome".to_owned(), outcome.name().into());
            }
            Err(_) => noted.add(Metric::Errors, 1),
        }
        let (_, wall_ms) = (self.clock)();
        self.write_line(&mut noted, wall_ms, ended.err());
    }

    /// Writes and forgets what was noted; nothing if there is nothing.
    fn write_line(&self, noted: &mut Noted, wall_ms: i64, error_type: Option<&str>) {
        if let Some(line) = noted.line.take(&noted.properties, wall_ms, error_type) {
            (self.write)(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Runs `told` with metrics whose clock it may move; gives the lines that were written.
    fn lines(told: impl FnOnce(&Metrics<'_>, &dyn Fn(u64))) -> Vec<Value> {
        let now = Mutex::new(Duration::ZERO);
        let written = Mutex::new(Vec::new());
        let clock = || (*now.lock().unwrap(), 1_709_700_000_000);
        let write = |line: &str| written.lock().unwrap().push(serde_json::from_str(line).unwrap());
        let properties = Properties {
            function_name: "scheduler".to_owned(),
            request_id: "r-1".to_owned(),
            ..Properties::default()
        };
        let metrics = Metrics::new(properties, &clock, &write);
        told(&metrics, &|seconds| {
            *now.lock().unwrap() += Duration::from_secs(seconds)
        });
        drop(metrics);
        written.into_inner().unwrap()
    }

    fn answered(created: u64, unprocessed: u64, throttled: bool) -> Observation<'static> {
        Observation::Answered {
            labourer_id: "report",
            created,
            already_there: 0,
            unprocessed,
            throttled,
        }
    }

    #[test]
    fn a_long_drain_gives_a_line_now_and_then_and_each_task_is_counted_once() {
        let lines = lines(|metrics, pass| {
            metrics.observe(Observation::Planned { rows: 1_000 });
            metrics.observe(Observation::Spooled { rows: 1_000 });
            metrics.observe(Observation::Holding {
                run_id: "nightly",
                file_name: "tasks_queue_nightly.txt",
                hop: 2,
            });
            metrics.observe(Observation::Progress { done: 0, rows: 1_000 });
            pass(10);
            metrics.observe(answered(100, 3, false));
            metrics.observe(Observation::Progress {
                done: 100,
                rows: 1_000,
            });
            pass(10);
            metrics.observe(answered(300, 0, true));
            metrics.observe(Observation::Progress {
                done: 400,
                rows: 1_000,
            });
            pass(3);
            metrics.observe(answered(30, 0, false));
            metrics.observe(Observation::Progress {
                done: 430,
                rows: 1_000,
            });
            metrics.finish(Err("AccessDenied"));
        });
        let [first, last] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert_eq!(
            (&first["TasksCreated"], &last["TasksCreated"]),
            (&json!(400.0), &json!(30.0))
        );
        assert_eq!(
            (&first["DrainRate"], &last["DrainRate"]),
            (&json!(20.0), &json!(10.0))
        );
        assert_eq!(
            (&first["RemainingRows"], &last["RemainingRows"]),
            (&json!(600.0), &json!(570.0))
        );
        assert_eq!(
            (&first["UnprocessedTasks"], &first["ThrottledRequests"]),
            (&json!(3.0), &json!(1.0))
        );
        assert_eq!(
            (&first["JobsPlanned"], last.get("JobsPlanned")),
            (&json!(1.0), None)
        );
        for line in [first, last] {
            assert_eq!((&line["run_id"], &line["hop"]), (&json!("nightly"), &json!(2)));
            assert_eq!(
                (&line["FunctionName"], &line["request_id"]),
                (&json!("scheduler"), &json!("r-1"))
            );
        }
        assert_eq!(
            (&last["Errors"], &last["ErrorType"]),
            (&json!(1.0), &json!("AccessDenied"))
        );
    }

    #[test]
    fn a_run_of_one_task_has_a_rate_too() {
        let lines = lines(|metrics, pass| {
            pass(2);
            metrics.observe(answered(1, 0, false));
            metrics.observe(Observation::Progress { done: 1, rows: 1 });
            metrics.observe(Observation::Completed {
                run_time: Duration::from_secs(2),
            });
            metrics.finish(Err("ServiceUnavailable"));
        });
        assert_eq!(lines[0]["DrainRate"], json!(0.5));
    }

    #[test]
    fn a_sweep_tells_the_age_of_the_oldest_file_also_if_there_is_none() {
        let lines = lines(|metrics, _| {
            metrics.observe(Observation::Swept {
                open: 0,
                stopped: 0,
                oldest: Duration::ZERO,
            });
            metrics.finish(Ok(&Outcome::NothingToDo {
                reason: "quiet".to_owned(),
                warnings: Vec::new(),
            }));
        });
        assert_eq!(
            (&lines[0]["OldestOpenFileSeconds"], &lines[0]["Sweeps"]),
            (&json!(0.0), &json!(1.0))
        );
    }

    #[test]
    fn an_invocation_without_figures_writes_no_line() {
        let outcome = Outcome::HeldElsewhere {
            file_name: "f".to_owned(),
        };
        assert_eq!(
            lines(|metrics, _| metrics.finish(Ok(&outcome))),
            Vec::<Value>::new()
        );
    }

    #[test]
    fn the_document_for_operators_has_each_metric_with_its_unit_and_meaning() {
        let document = include_str!("../../../docs/operate.md");
        for metric in Metric::ALL {
            let (name, unit, meaning) = (metric.name, metric.unit, metric.meaning);
            let row = format!("| `{name}` | {unit} | {meaning} |");
            assert!(document.contains(&row), "docs/operate.md lacks the row\n{row}");
        }
    }
}
