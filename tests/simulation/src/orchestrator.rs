//! An orchestrator that takes tasks, moves them between the tables and archives them, as fast as it may.

use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::record::Attribute;
use jobmill_core::task::write::Table;

use super::scenario::FASTEST_MOVE;
use super::simulation::NOBODY;
use jobmill_memory::{EPOCH_MS, MemoryTasks, Rng};

/// How far in the future the greenfield of a running task lies, in seconds (as in sosw).
const IN_FLIGHT_SECONDS: i128 = 31_536_000;

/// One round: every task that it may touch is touched, or not, by chance.
pub(super) fn step(tasks: &MemoryTasks, rng: &Rng) {
    tasks.with(|tables, now| {
        if tables.tasks.is_empty() && tables.retry.is_empty() {
            return;
        }
        let wall = i128::from(EPOCH_MS) * 1_000_000 + i128::try_from(now.as_nanos()).unwrap_or(i128::MAX);
        let running = Greenfield::from_nanos(wall + IN_FLIGHT_SECONDS * 1_000_000_000);
        let mut moves = Vec::new();
        let mut starts = Vec::new();
        for item in tables.tasks.items() {
            if item.text("labourer_id") == NOBODY {
                continue;
            }
            let id = item.text("task_id").to_owned();
            if item
                .greenfield()
                .is_some_and(|greenfield| greenfield.nanos() <= wall)
            {
                if rng.once_in(2) {
                    starts.push(id);
                }
            } else if item.since + FASTEST_MOVE <= now {
                match rng.below(8) {
                    0 => moves.push((id, Table::Retry)),
                    1..=5 => moves.push((id, Table::Closed)),
                    _ => {}
                }
            }
        }
        for id in starts {
            tables.set(now, &id, &[("greenfield", Attribute::number(running))]);
        }
        for (id, table) in moves {
            tables.move_task(now, &id, table);
        }
        let again: Vec<String> = tables.retry.ids().filter(|_| rng.once_in(3)).cloned().collect();
        for id in again {
            if let Some(mut item) = tables.take(now, Table::Retry, &id) {
                let front = Attribute::number(Greenfield::from_nanos(wall));
                item.record.insert("greenfield".to_owned(), front);
                tables.put(now, Table::Tasks, item.record);
            }
        }
    });
}
