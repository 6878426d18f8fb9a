//! How far a run is: a bar on standard error if that is a terminal, else nothing.

use indicatif::{ProgressBar, ProgressStyle};

/// What happens while a run is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The cloud is being made ready, or the queue file written: what is going on, in a few words.
    Phase(&'static str),
    /// So many tasks are known to exist.
    Tasks { done: u64 },
    /// An invocation handed the queue file on to the next: the hop that begins.
    Hop { hop: u32 },
}

/// The bar.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// A bar for a run of so many tasks. Hidden where standard error is no terminal.
    pub(crate) fn new(tasks: u64) -> Self {
        let bar = ProgressBar::new(tasks);
        let template = "{bar:30} {human_pos}/{human_len} tasks  {per_sec}  {eta} left  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar }
    }

    pub(crate) fn show(&mut self, progress: &Progress) {
        match progress {
            Progress::Phase(phase) => self.bar.set_message(*phase),
            Progress::Tasks { done } => self.bar.set_position(*done),
            Progress::Hop { hop } => self.bar.set_message(format!("hop {hop}")),
        }
    }

    /// Takes the bar away, so that the summary stands alone.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
