//! What the engine tells: counted, grouped, and said where somebody should know.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jobmill_core::task::life::Outcome;
use jobmill_engine::dispatch::Observation;

use super::progress::{Bar, Counts};
use crate::failed_tasks::{Alike, FailedTasks, FailureGroup, MOST_GROUPS, told};
use crate::terminal::one_line;

/// Warnings of one kind that are said one by one.
const MOST_WARNINGS: u64 = 20;
/// What was seen.
pub(super) struct Seen {
    bar: Bar,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    counts: Counts,
    failures: FailedTasks,
    retries: BTreeSet<Alike>,
    unreadable: u64,
    unanswered: u64,
}

impl Seen {
    pub(super) fn new(bar: Bar) -> Self {
        Self {
            bar,
            noted: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The failures, most frequent first.
    pub(super) fn failures(&self) -> Vec<FailureGroup> {
        self.lock().failures.groups()
    }

    /// Takes note.
    pub(super) fn note(&self, observation: Observation) {
        let mut noted = self.lock();
        match observation {
            Observation::Started { .. } => noted.counts.started += 1,
            Observation::Closed {
                outcome: Outcome::Succeeded,
                ..
            } => noted.counts.succeeded += 1,
            Observation::Closed {
                task_id,
                labourer_id,
                outcome: Outcome::Failed | Outcome::Expired,
                error,
                ..
            } => {
                noted.counts.failed += 1;
                let error = told(error);
                if noted.failures.add(&task_id, &labourer_id, &error) {
                    self.bar.warn(&format!(
                        "a task of {labourer_id} failed for good: {}: {} (task {task_id}); others like it are counted",
                        error.kind, error.message
                    ));
                }
            }
            Observation::Parked {
                labourer_id, error, ..
            } => {
                noted.counts.retried += 1;
                let error = told(error);
                let is_new = noted.retries.len() < MOST_GROUPS
                    && noted.retries.insert(Alike::of(&labourer_id, &error));
                if is_new {
                    self.bar.tell(&format!(
                        "an attempt of {labourer_id} failed and is made again: {}: {}",
                        error.kind, error.message
                    ));
                }
            }
            Observation::Suspended { labourer_id, why } => {
                self.bar
                    .warn(&format!("{labourer_id} is suspended: {}", one_line(&why.message)));
            }
            // The counts say it already.
            Observation::Sampled(_) => {}
            Observation::Resumed { labourer_id } => {
                self.bar.tell(&format!("{labourer_id} is no longer suspended"));
            }
            Observation::NoAnswer {
                task_id,
                attempts,
                message,
            } => {
                noted.unanswered += 1;
                if noted.unanswered <= MOST_WARNINGS {
                    self.bar.warn(&format!(
                        "nobody knows whether attempt {attempts} of task {task_id} was started: {}",
                        one_line(&message)
                    ));
                }
            }
            Observation::Unreadable { task_id, why } => {
                noted.unreadable += 1;
                if noted.unreadable <= MOST_WARNINGS {
                    self.bar.warn(&format!("task {task_id}: {}", one_line(&why)));
                }
            }
            Observation::UnreadableOutcome { why } => {
                noted.unreadable += 1;
                if noted.unreadable <= MOST_WARNINGS {
                    self.bar.warn(&format!(
                        "a message in the queue of outcomes is none: {}",
                        one_line(&why)
                    ));
                }
            }
            // They are tried again.
            Observation::Throttled { .. } => return,
        }
        self.bar.show(noted.counts);
    }
}
