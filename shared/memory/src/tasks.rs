//! sosw's three tables of tasks in memory: the index with its lag, the capacity, and what DynamoDB refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::item::{MAX_ITEM_BYTES, Task, item_bytes};
use jobmill_core::task::tables::FieldNames;
use jobmill_engine::ports::{PortError, PortResult};
use jobmill_engine::schedule::ports::{Created, InDoubt, MetaRow, TaskTable};

use crate::{VirtualClock, locked, refused};

/// The operation that creates tasks.
pub const CREATE: &str = "dynamodb:BatchExecuteStatement";
/// The operation that creates a task in doubt.
pub const CREATE_IN_DOUBT: &str = "dynamodb:TransactWriteItems";

/// The largest batch that DynamoDB takes.
const LARGEST_BATCH: usize = 25;

/// Which of sosw's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Where tasks are created and started.
    Tasks,
    /// Where failed tasks wait for their next attempt.
    Retry,
    /// Where finished tasks are kept.
    Closed,
}

/// A task in one of the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its attributes.
    pub task: Task,
    /// Since when it stands there.
    pub since: Duration,
}

/// A task as it was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Birth {
    /// Its attributes.
    pub task: Task,
    /// When.
    pub at: Duration,
    /// Its place among all that happened, as [`VirtualClock::stamp`] counts.
    pub stamp: u64,
}

/// The capacity of a table: so many write units a second, and what a second saves up.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    unit: Duration,
    /// When all that was taken will have been paid for.
    paid_at: Duration,
}

impl Capacity {
    /// So many write units a second, one at least.
    pub fn per_second(units: u32) -> Self {
        Self {
            unit: Duration::from_secs(1) / units.max(1),
            paid_at: Duration::ZERO,
        }
    }

    /// Takes so many units. `false`: there were none left, and none was taken.
    fn takes(&mut self, now: Duration, units: u32) -> bool {
        const SAVED: Duration = Duration::from_secs(1);
        if self.paid_at >= now + SAVED {
            return false;
        }
        self.paid_at = self.paid_at.max(now) + self.unit * units;
        true
    }
}

/// The three tables.
#[derive(Debug, Clone, Default)]
pub struct TableState {
    /// The tasks table by task id.
    pub tasks: BTreeMap<String, Item>,
    /// The retry table by task id.
    pub retry: BTreeMap<String, Item>,
    /// The closed table by task id.
    pub closed: BTreeMap<String, Item>,
    /// Meta rows in the order of their writing.
    pub meta: Vec<MetaRow>,
    /// How far the greenfield index lags behind the table.
    pub index_lag: Duration,
    /// What the table takes; none: as much as is asked of it.
    pub capacity: Option<Capacity>,
    /// Payloads that the table refuses as invalid, whoever sends them and how.
    pub invalid: BTreeSet<String>,
    /// Payloads whose partition takes no more writes before that moment.
    pub hot: BTreeMap<String, Duration>,
    /// Every task as it was created, oldest first.
    pub births: Vec<Birth>,
    /// How many inserts of a batch found an item with their id.
    pub duplicates: u64,
    /// Whether a batch overwrites what is there, as `BatchWriteItem` does.
    pub overwrites: bool,
    /// What a batch has overwritten, as it was before.
    pub overwritten: Vec<Item>,
    stamp: u64,
}

/// Units of a write: one for each begun kilobyte of the item.
fn write_units(task: &Task) -> u32 {
    u32::try_from(size(task).div_ceil(1024)).unwrap_or(u32::MAX)
}

fn size(task: &Task) -> u64 {
    item_bytes(
        &FieldNames::default(),
        &task.labourer_id,
        task.payload.len() as u64,
    )
}

impl TableState {
    /// One of the tables.
    pub fn table(&mut self, place: Place) -> &mut BTreeMap<String, Item> {
        match place {
            Place::Tasks => &mut self.tasks,
            Place::Retry => &mut self.retry,
            Place::Closed => &mut self.closed,
        }
    }

    /// Moves a task from the tasks table, as an orchestrator or a scavenger would. `false` if it is not there.
    pub fn move_task(&mut self, now: Duration, task_id: &str, to: Place) -> bool {
        let Some(item) = self.tasks.remove(task_id) else {
            return false;
        };
        self.table(to)
            .insert(task_id.to_owned(), Item { since: now, ..item });
        true
    }

    /// See [`TaskTable::newest_greenfield`].
    pub fn newest_greenfield(
        &self,
        now: Duration,
        labourer_id: &str,
        not_after: Greenfield,
    ) -> Option<Greenfield> {
        self.tasks
            .values()
            .filter(|item| item.task.labourer_id == labourer_id && item.since + self.index_lag <= now)
            .map(|item| item.task.greenfield)
            .filter(|greenfield| *greenfield <= not_after)
            .max()
    }

    /// See [`TaskTable::create`].
    pub fn create(&mut self, now: Duration, tasks: &[Task]) -> PortResult<Vec<Created>> {
        if tasks.len() > LARGEST_BATCH {
            let message = format!("a batch has at most {LARGEST_BATCH} statements");
            return Err(refused(CREATE, "ValidationException", message));
        }
        let created: Vec<Created> = tasks.iter().map(|task| self.create_one(now, task)).collect();
        if !created.is_empty() && created.iter().all(|created| *created == Created::Throttled) {
            return Err(throttled(CREATE));
        }
        Ok(created)
    }

    fn create_one(&mut self, now: Duration, task: &Task) -> Created {
        if let Some(why) = self.refusal(task) {
            return Created::Refused(why);
        }
        if !self.has_room(now, task, write_units(task)) {
            return Created::Throttled;
        }
        match self.tasks.get_mut(&task.task_id) {
            Some(there) if self.overwrites => {
                let new = Item {
                    task: task.clone(),
                    since: now,
                };
                self.overwritten.push(std::mem::replace(there, new));
                Created::Now
            }
            Some(_) => {
                self.duplicates += 1;
                Created::AlreadyThere
            }
            None => {
                self.insert(now, task);
                Created::Now
            }
        }
    }

    /// See [`TaskTable::create_in_doubt`].
    pub fn create_in_doubt(&mut self, now: Duration, task: &Task) -> PortResult<InDoubt> {
        if let Some(why) = self.refusal(task) {
            return Ok(InDoubt::Refused(why));
        }
        // Twice the put, and twice the look at each of the two other tables.
        if !self.has_room(now, task, 2 * write_units(task) + 4) {
            return Err(throttled(CREATE_IN_DOUBT));
        }
        if [&self.tasks, &self.retry, &self.closed]
            .iter()
            .any(|table| table.contains_key(&task.task_id))
        {
            return Ok(InDoubt::AlreadyThere);
        }
        self.insert(now, task);
        Ok(InDoubt::Created)
    }

    fn refusal(&self, task: &Task) -> Option<String> {
        if self.invalid.contains(&task.payload) {
            return Some("ValidationError: an attribute of the item is invalid".to_owned());
        }
        (size(task) > MAX_ITEM_BYTES).then(|| "ValidationError: the item is larger than 400 KB".to_owned())
    }

    fn has_room(&mut self, now: Duration, task: &Task, units: u32) -> bool {
        let cool = self.hot.get(&task.payload).is_none_or(|until| *until <= now);
        cool && self
            .capacity
            .as_mut()
            .is_none_or(|capacity| capacity.takes(now, units))
    }

    fn insert(&mut self, now: Duration, task: &Task) {
        self.births.push(Birth {
            task: task.clone(),
            at: now,
            stamp: self.stamp,
        });
        let item = Item {
            task: task.clone(),
            since: now,
        };
        self.tasks.insert(task.task_id.clone(), item);
    }
}

fn throttled(operation: &'static str) -> PortError {
    PortError::Throttled {
        operation,
        message: "the table takes no more for now".to_owned(),
    }
}

/// The task tables in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryTasks {
    tables: Arc<Mutex<TableState>>,
    clock: VirtualClock,
}

impl MemoryTasks {
    /// Empty tables whose clock is `clock`.
    pub fn new(clock: VirtualClock) -> Self {
        Self {
            tables: Arc::default(),
            clock,
        }
    }

    /// Looks at the tables, or changes them as an orchestrator would.
    pub fn with<T>(&self, look: impl FnOnce(&mut TableState, Duration) -> T) -> T {
        let (now, stamp) = (self.clock.now(), self.clock.stamp());
        let mut tables = locked(&self.tables);
        tables.stamp = stamp;
        look(&mut tables, now)
    }
}

impl TaskTable for MemoryTasks {
    async fn newest_greenfield(
        &self,
        labourer_id: &str,
        not_after: Greenfield,
    ) -> PortResult<Option<Greenfield>> {
        Ok(self.with(|tables, now| tables.newest_greenfield(now, labourer_id, not_after)))
    }

    async fn create(&self, tasks: &[Task]) -> PortResult<Vec<Created>> {
        self.with(|tables, now| tables.create(now, tasks))
    }

    async fn create_in_doubt(&self, task: &Task) -> PortResult<InDoubt> {
        self.with(|tables, now| tables.create_in_doubt(now, task))
    }

    async fn record_meta(&self, rows: &[MetaRow]) -> PortResult<()> {
        self.with(|tables, _| tables.meta.extend_from_slice(rows));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn task(id: u32) -> Task {
        Task {
            task_id: id.to_string(),
            labourer_id: "worker".to_owned(),
            created_at: "0".to_owned(),
            greenfield: Greenfield::from_nanos(7),
            payload: format!("{{\"id\":{id}}}"),
        }
    }

    #[test]
    fn the_index_lags_behind_the_table() {
        let clock = VirtualClock::default();
        let tasks = MemoryTasks::new(clock.clone());
        tasks.with(|tables, now| {
            tables.index_lag = 2 * SECOND;
            tables.create(now, &[task(1)]).unwrap();
        });
        let newest =
            || tasks.with(|tables, now| tables.newest_greenfield(now, "worker", Greenfield::from_nanos(9)));
        assert_eq!(newest(), None);
        clock.advance(2 * SECOND);
        assert_eq!(newest(), Some(Greenfield::from_nanos(7)));
    }

    #[test]
    fn a_table_takes_its_capacity_and_no_more() {
        let mut tables = TableState {
            capacity: Some(Capacity::per_second(10)),
            ..TableState::default()
        };
        let (mut sent, mut created) = (0, 0);
        // Every tenth of a second five tasks, for ten seconds: a hundred units and ten that were saved.
        for tenth in 0..100 {
            let batch: Vec<Task> = (sent..sent + 5).map(task).collect();
            match tables.create(SECOND * tenth / 10, &batch) {
                Ok(answers) => created += answers.iter().filter(|answer| **answer == Created::Now).count(),
                Err(error) => assert!(matches!(error, PortError::Throttled { .. }), "{error}"),
            }
            sent += 5;
        }
        assert!((100..=111).contains(&created), "{created}");
        assert_eq!(tables.tasks.len(), created);
    }

    #[test]
    fn a_table_without_room_throttles_the_request_or_what_is_left_of_it() {
        let mut tables = TableState {
            capacity: Some(Capacity::per_second(2)),
            ..TableState::default()
        };
        let batch: Vec<Task> = (0..4).map(task).collect();
        let answers = tables.create(SECOND, &batch).unwrap();
        assert_eq!(answers[..2], [Created::Now, Created::Now]);
        assert_eq!(answers[2..], [Created::Throttled, Created::Throttled]);
        for answer in [
            tables.create(SECOND, &batch).map(|_| ()),
            tables.create_in_doubt(SECOND, &batch[0]).map(|_| ()),
        ] {
            assert!(matches!(answer, Err(PortError::Throttled { .. })), "{answer:?}");
        }
        assert_eq!(tables.births.len(), 2);
    }

    #[test]
    fn what_a_table_refuses_it_refuses_either_way() {
        let mut tables = TableState::default();
        tables.invalid.insert(task(1).payload);
        let batch = [task(0), task(1)];
        let answers = tables.create(SECOND, &batch).unwrap();
        assert!(matches!(answers.as_slice(), [Created::Now, Created::Refused(_)]));
        assert!(matches!(
            tables.create_in_doubt(SECOND, &batch[1]),
            Ok(InDoubt::Refused(_))
        ));
    }
}
