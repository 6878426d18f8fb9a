//! An orchestrator that takes tasks, moves them between the tables and archives them, as fast as it may.

use jobmill_core::task::greenfield::Greenfield;

use super::scenario::FASTEST_MOVE;
use super::simulation::NOBODY;
use jobmill_memory::{EPOCH_MS, MemoryTasks, Place, Rng};

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
        for (id, item) in &mut tables.tasks {
            if item.task.labourer_id == NOBODY {
                continue;
            }
            if item.task.greenfield.nanos() <= wall {
                if rng.once_in(2) {
                    item.task.greenfield = running;
                }
            } else if item.since + FASTEST_MOVE <= now {
                match rng.below(8) {
                    0 => moves.push((id.clone(), Place::Retry)),
                    1..=5 => moves.push((id.clone(), Place::Closed)),
                    _ => {}
                }
            }
        }
        for (id, place) in moves {
            tables.move_task(now, &id, place);
        }
        let again: Vec<String> = tables.retry.keys().filter(|_| rng.once_in(3)).cloned().collect();
        for id in again {
            if let Some(mut item) = tables.retry.remove(&id) {
                item.since = now;
                item.task.greenfield = Greenfield::from_nanos(wall);
                tables.tasks.insert(id, item);
            }
        }
    });
}
