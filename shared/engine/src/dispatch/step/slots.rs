//! How many tasks of a labourer are running, and how many for each value that its `concurrency` bounds.
//!
//! Its own tasks a holder knows. What others have left running it learns from what they wrote down when they released
//! the lock, and once the index has had the time to show their last claims, from the index.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jobmill_core::queue::group::Used;

/// The values of a task that `concurrency` bounds, in its order; none: the task has no such value.
pub(crate) type Values = Vec<Option<String>>;

/// What others have left running.
#[derive(Debug)]
pub(crate) enum Foreign {
    /// Nobody knows before that moment: what was claimed last may not be in the index.
    Unknown {
        /// When a look at the index shows all.
        until: Duration,
    },
    /// By their own count, until a look at the index that begins after that moment.
    Counted {
        /// What they wrote down.
        used: Used,
        /// When a look at the index shows all.
        until: Duration,
    },
    /// By the index: the values of each, by task id.
    Seen(HashMap<String, Values>),
}

/// The slots of a labourer.
#[derive(Debug)]
pub(crate) struct Slots {
    own: u32,
    own_values: Vec<HashMap<String, u32>>,
    foreign: Foreign,
    foreign_values: Vec<HashMap<String, u32>>,
}

impl Slots {
    /// So many bounds by value, and what is known of others.
    pub(crate) fn new(bounds: usize, foreign: Foreign) -> Self {
        let mut slots = Self {
            own: 0,
            own_values: vec![HashMap::new(); bounds],
            foreign_values: Vec::new(),
            foreign: Foreign::Unknown {
                until: Duration::ZERO,
            },
        };
        slots.learn(foreign);
        slots
    }

    /// When a look at the index shows all that others have left running; none: it was looked at.
    pub(crate) fn unseen_until(&self) -> Option<Duration> {
        match self.foreign {
            Foreign::Unknown { until } | Foreign::Counted { until, .. } => Some(until),
            Foreign::Seen(_) => None,
        }
    }

    /// How many of others are known to be running.
    pub(crate) fn foreign(&self) -> u32 {
        match &self.foreign {
            Foreign::Unknown { .. } => 0,
            Foreign::Counted { used, .. } => used.tasks,
            Foreign::Seen(tasks) => u32::try_from(tasks.len()).unwrap_or(u32::MAX),
        }
    }

    /// How many of its own.
    pub(crate) fn own(&self) -> u32 {
        self.own
    }

    /// How many more may run if so many may at once; none as long as nobody knows.
    pub(crate) fn free(&self, allowed: u32) -> u32 {
        match self.foreign {
            Foreign::Unknown { .. } => 0,
            _ => allowed.saturating_sub(self.own).saturating_sub(self.foreign()),
        }
    }

    /// How many run with that value at that bound.
    pub(crate) fn with_value(&self, bound: usize, value: &str) -> u32 {
        let of = |values: &[HashMap<String, u32>]| values.get(bound)?.get(value).copied();
        of(&self.own_values).unwrap_or(0) + of(&self.foreign_values).unwrap_or(0)
    }

    /// Takes a slot.
    pub(crate) fn take(&mut self, values: &Values) {
        self.own += 1;
        count(&mut self.own_values, values);
    }

    /// Gives one back.
    pub(crate) fn give_back(&mut self, values: &Values) {
        self.own = self.own.saturating_sub(1);
        uncount(&mut self.own_values, values);
    }

    /// What others have left running is known anew.
    pub(crate) fn learn(&mut self, foreign: Foreign) {
        let mut by_value = vec![HashMap::new(); self.own_values.len()];
        match &foreign {
            Foreign::Unknown { .. } => {}
            Foreign::Counted { used, .. } => {
                for (bound, counts) in by_value.iter_mut().zip(&used.keys) {
                    bound.extend(counts.iter().map(|(value, count)| (value.clone(), *count)));
                }
            }
            Foreign::Seen(tasks) => tasks.values().for_each(|values| count(&mut by_value, values)),
        }
        self.foreign = foreign;
        self.foreign_values = by_value;
    }

    /// Somebody else's task is settled.
    pub(crate) fn forget(&mut self, task_id: &str) {
        if let Foreign::Seen(tasks) = &mut self.foreign
            && let Some(values) = tasks.remove(task_id)
        {
            uncount(&mut self.foreign_values, &values);
        }
    }

    /// All that runs, for whoever comes next; none as long as nobody knows.
    pub(crate) fn used(&self) -> Option<Used> {
        if matches!(self.foreign, Foreign::Unknown { .. }) {
            return None;
        }
        let keys = self.own_values.iter().enumerate().map(|(bound, own)| {
            let mut counts: BTreeMap<String, u32> = own.clone().into_iter().collect();
            for (value, count) in self.foreign_values.get(bound).into_iter().flatten() {
                *counts.entry(value.clone()).or_default() += count;
            }
            counts
        });
        Some(Used {
            tasks: self.own.saturating_add(self.foreign()),
            keys: keys.collect(),
            starts_left: None,
        })
    }
}

fn count(bounds: &mut [HashMap<String, u32>], values: &Values) {
    for (bound, value) in bounds.iter_mut().zip(values) {
        if let Some(value) = value {
            *bound.entry(value.clone()).or_default() += 1;
        }
    }
}

fn uncount(bounds: &mut [HashMap<String, u32>], values: &Values) {
    for (bound, value) in bounds.iter_mut().zip(values) {
        if let Some(value) = value
            && let Some(count) = bound.get_mut(value)
        {
            *count -= 1;
            if *count == 0 {
                bound.remove(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn values(value: &str) -> Values {
        vec![Some(value.to_owned())]
    }

    #[test]
    fn nothing_is_free_as_long_as_nobody_knows_what_runs() {
        let mut slots = Slots::new(0, Foreign::Unknown { until: SECOND });
        assert_eq!(slots.free(5), 0);
        assert_eq!(slots.used(), None);
        slots.learn(Foreign::Seen(HashMap::new()));
        assert_eq!(slots.free(5), 5);
    }

    #[test]
    fn own_and_foreign_tasks_count_together() {
        let used = Used {
            tasks: 2,
            keys: vec![BTreeMap::from([("roma".to_owned(), 2)])],
            starts_left: None,
        };
        let mut slots = Slots::new(1, Foreign::Counted { used, until: SECOND });
        slots.take(&values("roma"));
        slots.take(&vec![None]);
        assert_eq!((slots.free(5), slots.with_value(0, "roma")), (1, 3));
        assert_eq!(
            slots.used().unwrap().keys,
            [BTreeMap::from([("roma".to_owned(), 3)])]
        );
        slots.learn(Foreign::Seen(HashMap::from([(
            "other".to_owned(),
            values("roma"),
        )])));
        assert_eq!((slots.free(5), slots.with_value(0, "roma")), (2, 2));
        slots.forget("other");
        slots.give_back(&values("roma"));
        assert_eq!((slots.free(5), slots.with_value(0, "roma")), (4, 0));
    }
}
