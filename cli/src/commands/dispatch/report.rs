//! What came out. `docs/command.md` lists the keys of the JSON form; keys are added, never renamed.

use std::collections::BTreeMap;
use std::io::{self, Write};

use jobmill_engine::dispatch::Tally;
use jobmill_engine::dispatch::ports::Unfit;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::failed_tasks::FailureGroup;
use crate::figures::{count, counted, duration};
use crate::stop::Signal;
use crate::terminal::{FAINT, STRONG, one_line, printable};

/// What it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DispatchOutcome {
    /// There was nothing to do.
    NothingToDo,
    /// Tasks were dispatched.
    Dispatched,
    /// Somebody else dispatches the group.
    HeldElsewhere,
    /// A signal ended it.
    Interrupted,
}

/// What came out.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DispatchReport {
    pub(super) outcome: DispatchOutcome,
    pub(super) group: String,
    /// How many invocations held the lock.
    pub(super) invocations: u32,
    #[serde(flatten)]
    pub(super) tally: Tally,
    /// From the first request to the last answer.
    pub(super) seconds: f64,
    /// Tasks that failed for good, most frequent first.
    pub(super) failures: Vec<FailureGroup>,
    /// Labourers of which nothing was started in the end, and why.
    pub(super) suspended: BTreeMap<String, Unfit>,
    /// Who dispatches the group, if it is somebody else.
    pub(super) held_by: Option<String>,
    /// What interrupted it.
    #[serde(skip)]
    pub(super) signal: Option<Signal>,
}

impl DispatchReport {
    pub(super) fn new(group: &str) -> Self {
        Self {
            outcome: DispatchOutcome::NothingToDo,
            group: group.to_owned(),
            invocations: 0,
            tally: Tally::default(),
            seconds: 0.0,
            failures: Vec::new(),
            suspended: BTreeMap::new(),
            held_by: None,
            signal: None,
        }
    }

    /// Takes in what one invocation did.
    pub(super) fn add(&mut self, tally: &Tally) {
        self.invocations += 1;
        self.outcome = DispatchOutcome::Dispatched;
        let sum = &mut self.tally;
        for (total, more) in [
            (&mut sum.started, tally.started),
            (&mut sum.succeeded, tally.succeeded),
            (&mut sum.failed, tally.failed),
            (&mut sum.expired, tally.expired),
            (&mut sum.retried, tally.retried),
            (&mut sum.requeued, tally.requeued),
            (&mut sum.given_back, tally.given_back),
        ] {
            *total += more;
        }
    }

    /// Tasks that were closed without success.
    pub(super) const fn failed(&self) -> u64 {
        self.tally.failed + self.tally.expired
    }

    /// Tasks that were closed.
    pub(super) const fn closed(&self) -> u64 {
        self.tally.succeeded + self.failed()
    }

    /// For people.
    pub(super) fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let headline = match self.invocations {
            0 => format!("nothing to do for group {}", self.group),
            _ => format!(
                "{} succeeded, {} failed",
                counted(self.tally.succeeded, "task", "tasks"),
                count(self.failed())
            ),
        };
        writeln!(out, "{STRONG}{}{STRONG:#}", printable(&headline))?;
        let mut line =
            |what: &str, value: &str| writeln!(out, "  {FAINT}{what:<12}{FAINT:#} {}", printable(value));
        if self.invocations > 0 {
            line("group", &self.group)?;
            line("started", &counted(self.tally.started, "attempt", "attempts"))?;
            line("retried", &counted(self.tally.retried, "attempt", "attempts"))?;
            if self.tally.expired > 0 {
                line("expired", &counted(self.tally.expired, "task", "tasks"))?;
            }
            if self.tally.given_back > 0 {
                line("given back", &counted(self.tally.given_back, "task", "tasks"))?;
            }
            line("time", &format!("{}{}", duration(self.seconds), self.rate()))?;
            line("invocations", &self.invocations.to_string())?;
        }
        for group in &self.failures {
            let FailureGroup {
                labourer_id,
                kind,
                message,
                count,
                task_ids,
            } = group;
            let tasks = counted(*count, "task", "tasks");
            let some = task_ids.join(", ");
            line(
                "failed",
                &format!("{tasks} of {labourer_id}: {kind}: {message} ({some})"),
            )?;
        }
        for (labourer_id, why) in &self.suspended {
            line("suspended", &format!("{labourer_id}: {}", one_line(&why.message)))?;
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
        if self.closed() == 0 || self.seconds < 1.0 {
            return String::new();
        }
        let rate = (self.closed() as f64 / self.seconds).round() as u64;
        format!(", {} a second", count(rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_what_failed_and_who_is_suspended() {
        let mut report = DispatchReport::new("main");
        report.add(&Tally {
            started: 31,
            succeeded: 25,
            failed: 2,
            expired: 1,
            retried: 3,
            requeued: 3,
            given_back: 1,
        });
        report.seconds = 4.0;
        report.failures = vec![FailureGroup {
            labourer_id: "report".to_owned(),
            kind: "ValueError".to_owned(),
            message: "no\u{1b}[31m store".to_owned(),
            count: 2,
            task_ids: vec!["a".to_owned(), "b".to_owned()],
        }];
        report.suspended.insert(
            "send".to_owned(),
            Unfit {
                kind: "FunctionNotFound",
                message: "send can't be started:\n create it".to_owned(),
            },
        );
        let mut out = anstream::StripStream::new(Vec::new());
        report.write_text(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out.into_inner()).unwrap(),
            "25 tasks succeeded, 3 failed\n  group        main\n  started      31 attempts\n  retried      3 attempts\n  \
             expired      1 task\n  given back   1 task\n  time         4 s, 7 a second\n  invocations  1\n  \
             failed       2 tasks of report: ValueError: no\\u{1b}[31m store (a, b)\n  \
             suspended    send: send can't be started: create it\n"
        );
    }
}
