//! Tasks that failed, those that failed alike together.

use std::collections::BTreeMap;
use std::fmt;

use jobmill_core::task::life::LastError;
use serde::Serialize;

use crate::figures::count;
use crate::terminal::{cut, one_line};

/// Groups of failures: what is beyond is one group.
pub(crate) const MOST_GROUPS: usize = 20;
/// Tasks that a group names.
const MOST_EXAMPLES: usize = 3;
/// Failures with messages that begin alike are alike: what follows often names the task.
const ALIKE: usize = 40;
/// So much of a message is shown.
const LONGEST_MESSAGE: usize = 300;

/// Tasks that failed for good, alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FailureGroup {
    pub(crate) labourer_id: String,
    /// The type of the error; `Others` for what is beyond the groups.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The message of the first one.
    pub(crate) message: String,
    pub(crate) count: u64,
    /// Some of them.
    pub(crate) task_ids: Vec<String>,
}

impl fmt::Display for FailureGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", count(self.count), self.kind)?;
        if !self.message.is_empty() {
            write!(f, ": {}", cut(&self.message, 100))?;
        }
        match self.task_ids.first() {
            Some(id) => write!(f, " (task {id}{})", if self.count > 1 { ", ..." } else { "" }),
            None => Ok(()),
        }
    }
}

/// What failures have in common that are alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Alike {
    labourer_id: String,
    kind: String,
    begins: String,
}

impl Alike {
    pub(crate) fn of(labourer_id: &str, error: &LastError) -> Self {
        let letters = error.message.chars();
        let begins = letters.take_while(|letter| !letter.is_ascii_digit());
        Self {
            labourer_id: labourer_id.to_owned(),
            kind: error.kind.clone(),
            begins: begins.take(ALIKE).collect(),
        }
    }
}

/// Tasks that failed for good.
#[derive(Debug, Default)]
pub(crate) struct FailedTasks(BTreeMap<Alike, FailureGroup>);

impl FailedTasks {
    /// Those that failed alike together, most frequent first.
    pub(crate) fn groups(&self) -> Vec<FailureGroup> {
        let mut groups: Vec<FailureGroup> = self.0.values().cloned().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        groups
    }

    /// Counts a failure. Whether it is the first of its group.
    pub(crate) fn add(&mut self, task_id: &str, labourer_id: &str, error: &LastError) -> bool {
        let mut alike = Alike::of(labourer_id, error);
        if self.0.len() >= MOST_GROUPS && !self.0.contains_key(&alike) {
            alike = Alike {
                labourer_id: String::new(),
                kind: "Others".to_owned(),
                begins: String::new(),
            };
        }
        let group = self.0.entry(alike.clone()).or_insert_with(|| FailureGroup {
            labourer_id: labourer_id.to_owned(),
            kind: alike.kind,
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

/// An error in one line of bounded length.
pub(crate) fn told(error: Option<LastError>) -> LastError {
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

    fn failed(noted: &mut FailedTasks, id: usize, kind: &str, message: &str) -> bool {
        let error = LastError {
            kind: kind.to_owned(),
            message: message.to_owned(),
        };
        noted.add(&format!("t{id}"), "report", &told(Some(error)))
    }

    #[test]
    fn failures_that_begin_alike_are_one_group() {
        let mut noted = FailedTasks::default();
        for id in 0..5 {
            let is_first = failed(&mut noted, id, "ValueError", &format!("no such store: {id}"));
            assert_eq!(is_first, id == 0);
        }
        assert!(failed(&mut noted, 9, "KeyError", "'x'"));
        let groups = noted.groups();
        assert_eq!(groups.len(), 2);
        assert_eq!(
            (groups[0].kind.as_str(), groups[0].count, groups[0].task_ids.len()),
            ("ValueError", 5, MOST_EXAMPLES)
        );
        assert_eq!(groups[0].message, "no such store: 0");
    }

    #[test]
    fn there_are_never_more_groups_than_somebody_reads() {
        let mut noted = FailedTasks::default();
        for id in 0..1_000 {
            failed(&mut noted, id, &format!("Error{id}"), "because");
        }
        let groups = noted.groups();
        assert_eq!(groups.len(), MOST_GROUPS + 1);
        assert_eq!(groups.iter().map(|group| group.count).sum::<u64>(), 1_000);
        assert_eq!((groups[0].kind.as_str(), groups[0].count), ("Others", 980));
    }
}
