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
    /// So many requests were throttled until now.
    Throttled { requests: u64 },
}

/// The bar.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    hop: u32,
    throttled: u64,
}

impl Bar {
    /// A bar for a run of so many tasks. Hidden where standard error is no terminal.
    pub(crate) fn new(tasks: u64) -> Self {
        let bar = ProgressBar::new(tasks);
        let template = "{bar:30} {human_pos}/{human_len} tasks  {per_sec}  {eta} left  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self {
            bar,
            hop: 0,
            throttled: 0,
        }
    }

    pub(crate) fn show(&mut self, progress: &Progress) {
        match progress {
            Progress::Phase(phase) => self.bar.set_message(*phase),
            Progress::Tasks { done } => self.bar.set_position(*done),
            Progress::Hop { hop } => {
                self.hop = *hop;
                self.tell();
            }
            Progress::Throttled { requests } => {
                self.throttled = *requests;
                self.tell();
            }
        }
    }

    fn tell(&self) {
        let hop = (self.hop > 0).then(|| format!("hop {}", self.hop));
        let throttled = (self.throttled > 0).then(|| format!("{} throttled", self.throttled));
        let parts: Vec<String> = hop.into_iter().chain(throttled).collect();
        self.bar.set_message(parts.join(", "));
    }

    /// Takes the bar away, so that the summary stands alone.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
