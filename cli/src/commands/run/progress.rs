//! How far a run is: a bar on standard error if that is a terminal, else nothing.

use std::fmt::Write;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::figures::{count, duration};

/// What happens while a run is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// What is going on, in a few words.
    Phase(&'static str),
    /// So many rows of the run are known to be tasks.
    Tasks { done: u64, rows: u64 },
    /// Another invocation works on the run, and this one waits for it.
    Waiting,
    /// Tasks are worked off, so many at once.
    Working { at_once: u32 },
    /// So many of the tasks of the run have ended.
    Worked {
        succeeded: u64,
        failed: u64,
        retried: u64,
        rows: u64,
    },
    /// Tasks are being created, after so many invocations that handed the queue file on.
    Creating { hop: u32 },
}

/// The bar.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    bar: ProgressBar,
}

/// Never wider than the terminal, the message is cut to fit: a line that wraps can't be overwritten.
const LINE: &str = "{bar:20} {human_pos}/{human_len} tasks  {pace}{wide_msg}";

impl Bar {
    /// A bar for a run of so many tasks. Hidden where standard error is no terminal.
    pub(super) fn new(tasks: u64) -> Self {
        Self::styled(ProgressBar::new(tasks))
    }

    fn styled(bar: ProgressBar) -> Self {
        if let Ok(style) = ProgressStyle::with_template(LINE) {
            bar.set_style(style.with_key("pace", write_pace));
        }
        Self { bar }
    }

    pub(super) fn show(&self, progress: &Progress) {
        match progress {
            Progress::Phase(phase) => self.bar.set_message(*phase),
            Progress::Tasks { done, rows } => {
                let first = self.bar.position() == 0;
                self.bar.set_length(*rows);
                self.bar.set_position(*done);
                // What an earlier process did says nothing of the pace of this one.
                if first {
                    self.bar.reset_eta();
                }
            }
            Progress::Waiting => self.bar.set_message("waiting for another invocation"),
            Progress::Working { at_once } => {
                self.bar.set_position(0);
                self.bar.reset_eta();
                self.bar.set_message(format!("working, {at_once} at once"));
            }
            Progress::Worked {
                succeeded,
                failed,
                retried,
                rows,
            } => {
                self.bar.set_length(*rows);
                self.bar.set_position(succeeded + failed);
                let mut message = format!("{} succeeded", count(*succeeded));
                for (what, number) in [("failed", failed), ("tried again", retried)] {
                    if *number > 0 {
                        message += &format!(", {} {what}", count(*number));
                    }
                }
                self.bar.set_message(message);
            }
            Progress::Creating { hop: 0 } => self.bar.set_message("creating tasks"),
            Progress::Creating { hop } => self.bar.set_message(format!("creating tasks, hop {hop}")),
        }
    }

    /// Lets `tell` write to standard error without the bar in between.
    pub(super) fn aside(&self, tell: impl FnOnce()) {
        self.bar.suspend(tell);
    }

    /// Takes the bar away, so that what follows stands alone.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// `2,837/s  42 s left  `, as soon as there is a pace.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people; the conversion saturates"
)]
fn write_pace(state: &ProgressState, out: &mut dyn Write) {
    let rate = state.per_sec().round() as u64;
    if rate == 0 {
        return;
    }
    let left = state.eta().as_secs_f64();
    let pace = match left {
        1.0.. => format!("{}/s  {} left  ", count(rate), duration(left)),
        _ => format!("{}/s  ", count(rate)),
    };
    // A line without its pace is still a line.
    out.write_str(&pace).ok();
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::{ProgressDrawTarget, TermLike};

    use super::*;

    /// A terminal of 80 columns that keeps what is written to it.
    #[derive(Debug, Clone, Default)]
    struct Terminal(Arc<Mutex<String>>);

    impl Terminal {
        fn written(&self) -> String {
            self.0.lock().unwrap().clone()
        }

        fn last_line(&self) -> String {
            let written = self.written();
            let mut lines = written.lines().rev();
            lines
                .find(|line| !line.trim().is_empty())
                .unwrap_or_default()
                .trim_end()
                .to_owned()
        }
    }

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            80
        }

        fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
            assert_eq!(lines, 0, "the bar is one line");
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, line: &str) -> io::Result<()> {
            self.write_str(line)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            self.write_str("\n")
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_bar_fits_into_a_line_and_names_the_phase_and_a_whole_rate() {
        let terminal = Terminal::default();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 255);
        let bar = Bar::styled(ProgressBar::with_draw_target(Some(1_000_000), target));
        bar.show(&Progress::Phase("writing the queue file"));
        bar.show(&Progress::Creating { hop: 0 });
        let rows = 1_000_000;
        bar.show(&Progress::Tasks { done: 1, rows });
        bar.show(&Progress::Creating { hop: 12 });
        while !terminal.last_line().contains(" 999,999/") || !terminal.last_line().contains("/s  ") {
            bar.show(&Progress::Tasks { done: 999_999, rows });
        }
        for line in terminal.written().lines() {
            assert!(line.trim_end().chars().count() <= 80, "{line}");
        }
        let last = terminal.last_line();
        assert!(last.contains(" 999,999/1,000,000 tasks  "), "{last}");
        assert!(last.contains("/s  creating tasks"), "{last}");
        let rate = last.split("/s  ").next().unwrap().rsplit("  ").next().unwrap();
        assert!(
            rate.bytes().all(|byte| byte.is_ascii_digit() || byte == b','),
            "{rate}"
        );
    }
}
