//! How far it is: a line on standard error if that is a terminal, else nothing.

use std::fmt::Write;
use std::io::Write as _;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::figures::count;
use crate::terminal::{FAINT, WARNING, printable};

/// Never wider than the terminal, the message is cut to fit: a line that wraps can't be overwritten.
const LINE: &str = "{pace}{wide_msg}";

/// What is known of the tasks at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) started: u64,
    pub(super) succeeded: u64,
    /// Closed without success.
    pub(super) failed: u64,
    /// Attempts that failed, whose tasks wait for another.
    pub(super) retried: u64,
}

impl Counts {
    /// Attempts that have ended.
    pub(super) const fn ended(self) -> u64 {
        self.succeeded + self.failed + self.retried
    }

    fn line(self) -> String {
        format!(
            "{} running  {} started  {} succeeded  {} failed",
            // What an earlier invocation of somebody else started ends here, too.
            count(self.started.saturating_sub(self.ended())),
            count(self.started),
            count(self.succeeded),
            count(self.failed)
        )
    }
}

/// The line. Clones are the same line.
#[derive(Debug, Clone)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// Hidden where standard error is no terminal.
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template(LINE) {
            bar.set_style(style.with_key("pace", write_pace));
        }
        Self(bar)
    }

    pub(super) fn phase(&self, phase: &'static str) {
        self.0.set_message(phase);
    }

    pub(super) fn show(&self, counts: Counts) {
        self.0.set_message(counts.line());
        self.0.set_position(counts.ended());
    }

    /// A note. Where nobody reads it, nothing is lost.
    pub(super) fn tell(&self, text: &str) {
        self.0.suspend(|| {
            writeln!(anstream::stderr().lock(), "{FAINT}{}{FAINT:#}", printable(text)).ok();
        });
    }

    /// A warning.
    pub(super) fn warn(&self, text: &str) {
        self.0.suspend(|| {
            writeln!(
                anstream::stderr().lock(),
                "{WARNING}warning{WARNING:#}: {}",
                printable(text)
            )
            .ok();
        });
    }

    /// Takes the line away, so that what follows stands alone.
    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// `45/s  `, as soon as there is a pace.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people; the conversion saturates"
)]
fn write_pace(state: &ProgressState, out: &mut dyn Write) {
    let rate = state.per_sec().round() as u64;
    if rate > 0 {
        // A line without its pace is still a line.
        write!(out, "{}/s  ", count(rate)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_what_was_started_and_has_not_ended() {
        let counts = Counts {
            started: 1_210,
            succeeded: 1_100,
            failed: 3,
            retried: 7,
        };
        assert_eq!(
            counts.line(),
            "100 running  1,210 started  1,100 succeeded  3 failed"
        );
        let taken_over = Counts {
            succeeded: 2,
            ..Counts::default()
        };
        assert_eq!(taken_over.line(), "0 running  0 started  2 succeeded  0 failed");
    }
}
