//! An orchestrator that takes tasks, moves them between the tables and archives them, as fast as it may.

use jobmill_core::task::Greenfield;

use super::scenario::FASTEST_MOVE;
use crate::memory::{Dice, EPOCH_MS, Item, MemoryTasks, Place};

/// How far in the future the greenfield of a running task lies, in seconds (as in sosw).
const IN_FLIGHT_SECONDS: i128 = 31_536_000;

/// One round: every task that it may touch is touched, or not, by chance.
pub(super) fn step(tasks: &MemoryTasks, dice: &Dice) {
    tasks.with(|tables, now| {
        let wall = i128::from(EPOCH_MS) * 1_000_000 + now.as_nanos() as i128;
        let running = Greenfield::from_nanos(wall + IN_FLIGHT_SECONDS * 1_000_000_000);
        let ids: Vec<(String, Item)> = tables
            .tasks
            .iter()
            .map(|(id, item)| (id.clone(), item.clone()))
            .collect();
        for (id, item) in ids {
            if item.task.greenfield.nanos() <= wall {
                if dice.once_in(2) {
                    tables.start_task(&id, running);
                }
            } else if item.since + FASTEST_MOVE <= now {
                match dice.below(8) {
                    0 => _ = tables.move_task(now, &id, Place::Retry),
                    1..=5 => _ = tables.move_task(now, &id, Place::Closed),
                    _ => {}
                }
            }
        }
        let waiting: Vec<String> = tables.retry.keys().cloned().collect();
        for id in waiting {
            if dice.once_in(3)
                && let Some(mut item) = tables.retry.remove(&id)
            {
                item.since = now;
                item.task.greenfield = Greenfield::from_nanos(wall);
                tables.tasks.insert(id, item);
            }
        }
    });
}
