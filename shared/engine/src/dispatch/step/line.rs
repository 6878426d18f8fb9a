//! The front of a labourer's queue in memory: what may be claimed next, in order, and what waits for its value.

use std::collections::{BTreeMap, HashMap, HashSet};

use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::life::StoredTask;

use super::slots::Values;

/// So many tasks that wait for their value are kept at most: so far one busy value does not block the rest.
pub(crate) const LOOK_AHEAD: usize = 1_000;

/// A place in the queue; the id tells those apart that share one.
pub(crate) type Place = (Greenfield, String);

/// The front of a queue.
#[derive(Debug, Default)]
pub(crate) struct Line {
    ready: BTreeMap<Place, (StoredTask, Values)>,
    /// By bound and value.
    blocked: HashMap<(usize, String), BTreeMap<Place, (StoredTask, Values)>>,
    blocked_count: usize,
    known: HashSet<String>,
}

impl Line {
    /// How many may be claimed as far as their values are free.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many wait for their value.
    pub(crate) fn blocked(&self) -> usize {
        self.blocked_count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether that task is in it.
    pub(crate) fn knows(&self, task_id: &str) -> bool {
        self.known.contains(task_id)
    }

    /// The first place that is taken.
    pub(crate) fn front(&self) -> Option<Greenfield> {
        let blocked = self.blocked.values().filter_map(BTreeMap::first_key_value);
        let all = blocked.map(|(place, _)| place).chain(self.ready.keys().next());
        all.map(|(greenfield, _)| *greenfield).min()
    }

    /// Adds a task in its place.
    pub(crate) fn add(&mut self, task: StoredTask, values: Values) {
        if self.known.insert(task.task_id.clone()) {
            self.ready
                .insert((task.greenfield, task.task_id.clone()), (task, values));
        }
    }

    /// Takes the first task whose values are all free; `full` says whether a value at a bound is not.
    pub(crate) fn take(&mut self, full: impl Fn(usize, &str) -> bool) -> Option<(StoredTask, Values)> {
        loop {
            let (place, (task, values)) = self.ready.pop_first()?;
            let busy = values.iter().enumerate().find_map(|(bound, value)| {
                Some((bound, value.as_ref()?)).filter(|(_, value)| full(bound, value))
            });
            let Some((bound, value)) = busy else {
                self.known.remove(&task.task_id);
                return Some((task, values));
            };
            let key = (bound, value.clone());
            self.blocked.entry(key).or_default().insert(place, (task, values));
            self.blocked_count += 1;
        }
    }

    /// A slot of these values is free: for each of them the first task that waits for it gets its turn.
    pub(crate) fn freed(&mut self, values: &Values) {
        for (bound, value) in values.iter().enumerate() {
            let Some(value) = value else { continue };
            let key = (bound, value.clone());
            let Some(waiting) = self.blocked.get_mut(&key) else {
                continue;
            };
            if let Some((place, entry)) = waiting.pop_first() {
                self.ready.insert(place, entry);
                self.blocked_count -= 1;
            }
            if waiting.is_empty() {
                self.blocked.remove(&key);
            }
        }
    }

    /// Any value may be free.
    pub(crate) fn freed_all(&mut self) {
        for waiting in std::mem::take(&mut self.blocked).into_values() {
            self.ready.extend(waiting);
        }
        self.blocked_count = 0;
    }
}

#[cfg(test)]
mod tests {
    use jobmill_core::task::record::Record;

    use super::*;

    fn task(id: &str, greenfield: i64) -> StoredTask {
        StoredTask {
            task_id: id.to_owned(),
            greenfield: Greenfield::from_millis(greenfield),
            attempts: 0,
            record: Record::new(),
        }
    }

    #[test]
    fn a_busy_value_does_not_block_the_others() {
        let mut line = Line::default();
        for (id, place, value) in [
            ("a", 1, "roma"),
            ("b", 2, "roma"),
            ("c", 3, "milano"),
            ("d", 4, ""),
        ] {
            line.add(
                task(id, place),
                vec![Some(value.to_owned()).filter(|value| !value.is_empty())],
            );
        }
        let busy = |_: usize, value: &str| value == "roma";
        let ids: Vec<String> = std::iter::from_fn(|| line.take(busy))
            .map(|(task, _)| task.task_id)
            .collect();
        assert_eq!(
            (ids.join(""), line.ready(), line.blocked()),
            ("cd".to_owned(), 0, 2)
        );
        line.freed(&vec![Some("roma".to_owned())]);
        assert_eq!(line.take(|_, _| false).unwrap().0.task_id, "a");
        line.freed_all();
        assert_eq!(line.take(|_, _| false).unwrap().0.task_id, "b");
        assert!(line.is_empty());
    }

    #[test]
    fn a_task_is_in_it_once() {
        let mut line = Line::default();
        line.add(task("a", 1), vec![]);
        line.add(task("a", 9), vec![]);
        assert_eq!(line.ready(), 1);
        assert!(line.knows("a"));
    }
}
