//! What came out of a run. `docs/command.md` lists the keys of the JSON form; keys are added, never renamed.

use std::io::{self, Write};

use jobmill_core::Warning;
use jobmill_core::job::period::AsOf;
use jobmill_engine::schedule::{Outcome, Summary};
use serde::Serialize;
use serde_json::{Map, Value};

use super::prepare::PreparedRun;
use super::work::WorkReport;
use crate::figures::{count, counted, duration};
use crate::stop::Signal;
use crate::terminal::{FAINT, STRONG, printable};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RunOutcome {
    /// Every row of the job is a task.
    Completed,
    /// An earlier run of this id completed; nothing was created.
    AlreadyCompleted,
    /// The job has no rows.
    NothingToDo,
    /// The run is not completed, and its lock is released.
    HandedOff,
    /// Another invocation works on the run.
    HeldElsewhere,
    /// A signal ended it, and its lock is released.
    Interrupted,
}

/// What came out of a run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct RunReport {
    pub(super) outcome: RunOutcome,
    pub(super) run_id: String,
    pub(super) labourer_id: String,
    /// The queue file, below the prefix.
    pub(super) file_name: String,
    /// Rows of the run.
    pub(super) rows: u64,
    /// Rows that are known to be tasks, from the first on.
    pub(super) done: u64,
    /// Of these, tasks that the run created.
    pub(super) created: u64,
    /// Of these, tasks that were there before.
    pub(super) existed: u64,
    /// Of these, damaged rows that somebody asked to pass over.
    pub(super) skipped: u64,
    /// From the first request to the last answer.
    pub(super) seconds: f64,
    /// How often an invocation handed on.
    pub(super) hops: u32,
    /// Tasks that were throttled and sent again.
    pub(super) throttled: u64,
    /// What became of the tasks, if they were worked off here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) work: Option<WorkReport>,
    /// Where the tasks were written, if anywhere.
    pub(super) out: Option<String>,
    /// What may not be what was meant, in the configuration, the event and the job.
    pub(super) warnings: Vec<Warning>,
    /// Tasks that this process created, of those that the run created.
    #[serde(skip)]
    pub(super) created_here: u64,
    /// When this process planned the rows of the run, if it was this process.
    #[serde(skip)]
    pub(super) planned_here: Option<AsOf>,
    /// What interrupted it.
    #[serde(skip)]
    pub(super) signal: Option<Signal>,
}

impl RunReport {
    /// A run of which nothing is known yet.
    pub(super) fn new(run: &PreparedRun) -> Self {
        Self {
            outcome: RunOutcome::NothingToDo,
            run_id: run.run_id.clone(),
            labourer_id: run.plan.labourer_id.clone(),
            file_name: run.config.file_name(&run.run_id),
            rows: run.plan.chunks.row_count(),
            done: 0,
            created: 0,
            existed: 0,
            skipped: 0,
            seconds: 0.0,
            hops: 0,
            throttled: 0,
            work: None,
            out: None,
            warnings: [&run.config.warnings[..], &run.plan.warnings[..]].concat(),
            created_here: 0,
            planned_here: None,
            signal: None,
        }
    }

    /// Takes in how an invocation of the run ended.
    pub(super) fn take(&mut self, outcome: Outcome) {
        self.outcome = match outcome {
            Outcome::Completed(summary) => {
                self.take_summary(&summary);
                RunOutcome::Completed
            }
            Outcome::HandedOff { summary, .. } => {
                self.take_summary(&summary);
                RunOutcome::HandedOff
            }
            Outcome::AlreadyCompleted { rows, counters, .. } => {
                (self.rows, self.done, self.created) = (rows, rows, 0);
                self.skipped = counters.skipped;
                self.existed = rows.saturating_sub(counters.skipped);
                RunOutcome::AlreadyCompleted
            }
            Outcome::HeldElsewhere { .. } => RunOutcome::HeldElsewhere,
            Outcome::NothingToDo { .. } | Outcome::Swept { .. } => RunOutcome::NothingToDo,
        };
    }

    fn take_summary(&mut self, summary: &Summary) {
        self.rows = summary.rows;
        self.done = summary.done;
        self.created = summary.counters.created;
        self.existed = summary.counters.already_there;
        self.skipped = summary.counters.skipped;
        self.throttled = summary.counters.throttled;
    }

    /// Whether every row of the run is a task.
    pub(super) fn is_whole(&self) -> bool {
        matches!(
            self.outcome,
            RunOutcome::Completed | RunOutcome::AlreadyCompleted | RunOutcome::NothingToDo
        )
    }

    /// For people.
    pub(super) fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let headline = match self.outcome {
            RunOutcome::AlreadyCompleted => {
                format!("already completed: run {} created nothing more", self.run_id)
            }
            RunOutcome::NothingToDo => "nothing to do: the job has no rows".to_owned(),
            _ if self.work.is_some() => self
                .work
                .as_ref()
                .map_or_else(String::new, |work| work.headline(self.rows)),
            _ => format!(
                "{} created for {}",
                counted(self.created, "task", "tasks"),
                self.labourer_id
            ),
        };
        writeln!(out, "{STRONG}{}{STRONG:#}", printable(&headline))?;
        let mut line =
            |what: &str, value: &str| writeln!(out, "  {FAINT}{what:<10}{FAINT:#} {}", printable(value));
        line("run", &self.run_id)?;
        if self.outcome == RunOutcome::Completed {
            line("rows", &count(self.rows))?;
            if self.existed > 0 {
                line("existed", &counted(self.existed, "task", "tasks"))?;
            }
            if self.skipped > 0 {
                line("skipped", &counted(self.skipped, "row", "rows"))?;
            }
            line("time", &format!("{}{}", duration(self.seconds), self.rate()))?;
            line("hops", &self.hops.to_string())?;
            line("throttled", &counted(self.throttled, "task", "tasks"))?;
        }
        if let Some(path) = &self.out {
            line("tasks in", path)?;
        }
        if let Some(work) = &self.work {
            line("attempts", &count(work.tally.started))?;
            line("work time", &format!("{}{}", duration(work.seconds), work.rate()))?;
            for group in &work.failures {
                line("failed", &group.to_string())?;
            }
        }
        out.flush()
    }

    /// For machines.
    pub(super) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)?;
        out.flush()
    }

    /// The keys of the JSON form.
    pub(super) fn keys(&self) -> Map<String, Value> {
        // Plain fields: there is nothing that could fail.
        match serde_json::to_value(self) {
            Ok(Value::Object(keys)) => keys,
            _ => Map::new(),
        }
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate for people, rounded; the conversion saturates"
    )]
    fn rate(&self) -> String {
        if self.created_here == 0 || self.seconds <= 0.0 {
            return String::new();
        }
        format!(
            ", {} a second",
            count((self.created_here as f64 / self.seconds).round() as u64)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> RunReport {
        RunReport {
            outcome: RunOutcome::Completed,
            run_id: "nightly-1".to_owned(),
            labourer_id: "report".to_owned(),
            file_name: "tasks_queue_nightly-1.txt".to_owned(),
            rows: 1_210,
            done: 1_210,
            created: 1_200,
            existed: 9,
            skipped: 1,
            seconds: 2.4,
            hops: 0,
            throttled: 1,
            work: None,
            out: Some("tasks.jsonl".to_owned()),
            warnings: Vec::new(),
            created_here: 1_200,
            planned_here: None,
            signal: None,
        }
    }

    fn text(report: &RunReport) -> String {
        let mut out = anstream::StripStream::new(Vec::new());
        report.write_text(&mut out).unwrap();
        String::from_utf8(out.into_inner()).unwrap()
    }

    #[test]
    fn the_text_names_tasks_rate_hops_and_throttles() {
        assert_eq!(
            text(&report()),
            "1,200 tasks created for report\n  run        nightly-1\n  rows       1,210\n  existed    9 tasks\n  \
             skipped    1 row\n  time       2 s, 500 a second\n  hops       0\n  throttled  1 task\n  \
             tasks in   tasks.jsonl\n"
        );
        let again = RunReport {
            outcome: RunOutcome::AlreadyCompleted,
            created: 0,
            out: None,
            ..report()
        };
        assert_eq!(
            text(&again),
            "already completed: run nightly-1 created nothing more\n  run        nightly-1\n"
        );
    }

    #[test]
    fn the_json_has_stable_keys() {
        let mut out = Vec::new();
        report().write_json(&mut out).unwrap();
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["outcome"], "completed");
        let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "outcome",
                "run_id",
                "labourer_id",
                "file_name",
                "rows",
                "done",
                "created",
                "existed",
                "skipped",
                "seconds",
                "hops",
                "throttled",
                "out",
                "warnings"
            ]
        );
    }
}
