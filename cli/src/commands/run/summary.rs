//! What came out of a run. `docs/command.md` lists the keys of the JSON form; keys are added, never renamed.

use std::io::{self, Write};

use serde::Serialize;

use crate::figures::{count, counted, duration};
use crate::terminal::{FAINT, STRONG, printable};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Every row of the job is a task.
    Completed,
    /// An earlier run of this id completed; nothing was created.
    AlreadyCompleted,
    /// The job has no rows.
    NothingToDo,
    /// A sibling goes on with the queue file, in a cloud that outlives this process.
    HandedOff,
    /// Somebody else works on the queue file.
    HeldElsewhere,
}

/// What came out of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) outcome: Outcome,
    pub(crate) run_id: String,
    pub(crate) labourer_id: String,
    /// The queue file, below the prefix.
    pub(crate) file_name: String,
    /// Rows of the job.
    pub(crate) rows: u64,
    /// Tasks that this run created.
    pub(crate) created: u64,
    /// Tasks that were there before.
    pub(crate) existed: u64,
    /// From the first request to the last answer.
    pub(crate) seconds: f64,
    /// How often an invocation handed on.
    pub(crate) hops: u32,
    /// Tasks that were throttled and sent again.
    pub(crate) throttled: u64,
    /// Where the created tasks were written, if anywhere.
    pub(crate) out: Option<String>,
}

impl Summary {
    /// For people.
    pub(crate) fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let tasks = counted(self.created, "task", "tasks");
        let headline = match self.outcome {
            Outcome::Completed => format!("{tasks} created for {}", self.labourer_id),
            Outcome::AlreadyCompleted => {
                format!("already completed: run {} created nothing more", self.run_id)
            }
            Outcome::NothingToDo => "nothing to do: the job has no rows".to_owned(),
            Outcome::HandedOff => format!(
                "{tasks} created so far; a sibling goes on with {}",
                self.file_name
            ),
            Outcome::HeldElsewhere => format!("somebody else works on {}: nothing was done", self.file_name),
        };
        writeln!(out, "{STRONG}{}{STRONG:#}", printable(&headline))?;
        let mut line =
            |what: &str, value: &str| writeln!(out, "  {FAINT}{what:<10}{FAINT:#} {}", printable(value));
        line("run", &self.run_id)?;
        if matches!(self.outcome, Outcome::Completed | Outcome::HandedOff) {
            line("rows", &count(self.rows))?;
            if self.existed > 0 {
                line("existed", &counted(self.existed, "task", "tasks"))?;
            }
            line("time", &format!("{}{}", duration(self.seconds), self.rate()))?;
            line("hops", &self.hops.to_string())?;
            line("throttled", &counted(self.throttled, "task", "tasks"))?;
        }
        if let Some(path) = &self.out {
            line("tasks in", path)?;
        }
        out.flush()
    }

    /// For machines.
    pub(crate) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)?;
        out.flush()
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate for people, rounded; the conversion saturates"
    )]
    fn rate(&self) -> String {
        if self.created == 0 || self.seconds <= 0.0 {
            return String::new();
        }
        format!(
            ", {} a second",
            count((self.created as f64 / self.seconds).round() as u64)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            outcome: Outcome::Completed,
            run_id: "nightly-1".to_owned(),
            labourer_id: "report".to_owned(),
            file_name: "tasks_queue_nightly-1.txt".to_owned(),
            rows: 1_200,
            created: 1_200,
            existed: 0,
            seconds: 2.4,
            hops: 0,
            throttled: 1,
            out: Some("tasks.jsonl".to_owned()),
        }
    }

    fn text(summary: &Summary) -> String {
        let mut out = anstream::StripStream::new(Vec::new());
        summary.write_text(&mut out).unwrap();
        String::from_utf8(out.into_inner()).unwrap()
    }

    #[test]
    fn the_text_names_tasks_rate_hops_and_throttles() {
        assert_eq!(
            text(&summary()),
            "1,200 tasks created for report\n  run        nightly-1\n  rows       1,200\n  time       2 s, 500 a second\n  \
             hops       0\n  throttled  1 task\n  tasks in   tasks.jsonl\n"
        );
        let again = Summary {
            outcome: Outcome::AlreadyCompleted,
            created: 0,
            out: None,
            ..summary()
        };
        assert_eq!(
            text(&again),
            "already completed: run nightly-1 created nothing more\n  run        nightly-1\n"
        );
    }

    #[test]
    fn the_json_has_stable_keys() {
        let mut out = Vec::new();
        summary().write_json(&mut out).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
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
                "created",
                "existed",
                "seconds",
                "hops",
                "throttled",
                "out"
            ]
        );
    }
}
