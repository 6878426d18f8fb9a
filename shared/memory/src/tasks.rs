//! The task tables in memory as the scheduler sees them: it creates tasks, and looks for the end of a queue.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::item::Task;
use jobmill_core::task::record::record_of;
use jobmill_core::task::tables::FieldNames;
use jobmill_core::task::write::Table;
use jobmill_engine::ports::PortResult;
use jobmill_engine::schedule::ports::{Created, InDoubt, MetaRow, TaskTable};

use crate::tables::{TableState, normal, tasks_key, throttled, write_units};
use crate::{Birth, VirtualClock, locked, refused};

/// The operation that creates tasks.
pub const CREATE: &str = "dynamodb:BatchExecuteStatement";
/// The operation that creates a task in doubt.
pub const CREATE_IN_DOUBT: &str = "dynamodb:TransactWriteItems";

/// The largest batch that DynamoDB takes.
const LARGEST_BATCH: usize = 25;

impl TableState {
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
        let record = record_of(&FieldNames::default(), task);
        if let Some(why) = self.refusal(Table::Tasks, &record) {
            return Created::Refused(why);
        }
        if !self.has_room(now, &[&task.payload], write_units(&record)) {
            return Created::Throttled;
        }
        match self.tasks.get(&task.task_id) {
            Some(there) if self.overwrites => {
                self.overwritten.push(there.clone());
                self.write(now, Table::Tasks, tasks_key(&task.task_id), Some(normal(record)));
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
        let record = record_of(&FieldNames::default(), task);
        if let Some(why) = self.refusal(Table::Tasks, &record) {
            return Ok(InDoubt::Refused(why));
        }
        // Twice the put, and twice the look at each of the two other tables.
        if !self.has_room(now, &[&task.payload], 2 * write_units(&record) + 4) {
            return Err(throttled(CREATE_IN_DOUBT));
        }
        if !self.places_of(&task.task_id).is_empty() {
            return Ok(InDoubt::AlreadyThere);
        }
        self.insert(now, task);
        Ok(InDoubt::Created)
    }

    fn insert(&mut self, now: Duration, task: &Task) {
        self.births.push(Birth {
            task: task.clone(),
            at: now,
            stamp: self.stamp,
        });
        let record = normal(record_of(&FieldNames::default(), task));
        self.write(now, Table::Tasks, tasks_key(&task.task_id), Some(record));
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
    use jobmill_engine::ports::PortError;

    use super::*;
    use crate::Capacity;

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
