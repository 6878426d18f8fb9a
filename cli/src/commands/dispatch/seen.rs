//! What the engine tells: counted, grouped, and said where somebody should know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jobmill_core::task::life::{LastError, Outcome};
use jobmill_engine::dispatch::Observation;
use serde::Serialize;

use super::progress::{Bar, Counts};
use crate::terminal::{cut, one_line};

/// Groups of failures: what is beyond is one group.
const MOST_GROUPS: usize = 20;
/// Tasks that a group names.
const MOST_EXAMPLES: usize = 3;
/// Warnings of one kind that are said one by one.
const MOST_WARNINGS: u64 = 20;
/// Failures with messages that begin alike are alike: what follows often names the task.
const ALIKE: usize = 40;
/// So much of a message is shown.
const LONGEST_MESSAGE: usize = 300;

/// Tasks that failed for good, alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct FailureGroup {
    pub(super) labourer_id: String,
    /// The type of the error; `Others` for what is beyond the groups.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// The message of the first one.
    pub(super) message: String,
    pub(super) count: u64,
    /// Some of them.
    pub(super) task_ids: Vec<String>,
}

/// What was seen.
pub(super) struct Seen {
    bar: Bar,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    counts: Counts,
    groups: BTreeMap<(String, String, String), FailureGroup>,
    retries: BTreeSet<(String, String, String)>,
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
        self.lock().failures()
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
                if noted.group(&task_id, &labourer_id, &error) {
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
                let is_new =
                    noted.retries.len() < MOST_GROUPS && noted.retries.insert(key(&labourer_id, &error));
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

impl Noted {
    fn failures(&self) -> Vec<FailureGroup> {
        let mut groups: Vec<FailureGroup> = self.groups.values().cloned().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        groups
    }

    /// Counts a failure. Whether it is the first of its group.
    fn group(&mut self, task_id: &str, labourer_id: &str, error: &LastError) -> bool {
        let mut key = key(labourer_id, error);
        if self.groups.len() >= MOST_GROUPS && !self.groups.contains_key(&key) {
            key = (String::new(), "Others".to_owned(), String::new());
        }
        let group = self.groups.entry(key.clone()).or_insert_with(|| FailureGroup {
            labourer_id: labourer_id.to_owned(),
            kind: key.1,
            message: error.message.clone(),
            count: 0,
            task_ids: Vec::new(),
        });
        group.count += 1;
        if group.task_ids.len() < MOST_EXAMPLES {
            group.task_ids.push(task_id.to_owned());
        }
        group.count == 1
    }
}

fn key(labourer_id: &str, error: &LastError) -> (String, String, String) {
    let alike = error
        .message
        .chars()
        .take_while(|letter| !letter.is_ascii_digit());
    (
        labourer_id.to_owned(),
        error.kind.clone(),
        alike.take(ALIKE).collect(),
    )
}

/// An error in one line of bounded length.
fn told(error: Option<LastError>) -> LastError {
    let error = error.unwrap_or(LastError {
        kind: "Unknown".to_owned(),
        message: String::new(),
    });
    LastError {
        kind: cut(&error.kind, LONGEST_MESSAGE).into_owned(),
        message: cut(&one_line(&error.message), LONGEST_MESSAGE).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(noted: &mut Noted, id: usize, kind: &str, message: &str) -> bool {
        let error = LastError {
            kind: kind.to_owned(),
            message: message.to_owned(),
        };
        noted.group(&format!("t{id}"), "report", &told(Some(error)))
    }

    #[test]
    fn failures_that_begin_alike_are_one_group() {
        let mut noted = Noted::default();
        for id in 0..5 {
            let is_first = failed(&mut noted, id, "ValueError", &format!("no such store: {id}"));
            assert_eq!(is_first, id == 0);
        }
        assert!(failed(&mut noted, 9, "KeyError", "'x'"));
        let groups = noted.failures();
        assert_eq!(groups.len(), 2);
        assert_eq!(
            (groups[0].kind.as_str(), groups[0].count, groups[0].task_ids.len()),
            ("ValueError", 5, MOST_EXAMPLES)
        );
        assert_eq!(groups[0].message, "no such store: 0");
    }

    #[test]
    fn there_are_never_more_groups_than_somebody_reads() {
        let mut noted = Noted::default();
        for id in 0..1_000 {
            failed(&mut noted, id, &format!("Error{id}"), "because");
        }
        let groups = noted.failures();
        assert_eq!(groups.len(), MOST_GROUPS + 1);
        assert_eq!(groups.iter().map(|group| group.count).sum::<u64>(), 1_000);
        assert_eq!((groups[0].kind.as_str(), groups[0].count), ("Others", 980));
    }
}
