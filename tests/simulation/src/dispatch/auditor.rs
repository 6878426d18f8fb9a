//! What must be true of the history of the tables and of all starts, whatever went wrong: the promises of docs/dispatch.md.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::life::GREENFIELD_DELTA;
use jobmill_core::task::record::{Record, number_of, text_of};
use jobmill_core::task::write::Table;
use jobmill_memory::{EPOCH_MS, TableChange};

use super::recorded::Ask;
use super::scenario::DispatchScenario;
use crate::Violation;

/// Where a task is, as the history goes on.
#[derive(Default)]
struct Whereabouts {
    queued_or_running: Option<Record>,
    waiting: bool,
    /// Since that stamp, with that outcome.
    closed: Option<(u64, String)>,
}

/// Everything that must not have happened.
pub(super) fn audit(
    scenario: &DispatchScenario,
    born: &BTreeSet<String>,
    changes: &[TableChange],
    asks: &[Ask],
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut tasks: HashMap<&str, Whereabouts> = HashMap::new();
    let mut caps_said = BTreeSet::new();
    let mut at = 0;
    while let Some(first) = changes.get(at) {
        let together = changes
            .iter()
            .skip(at)
            .take_while(|change| change.stamp == first.stamp)
            .count();
        let group = changes.get(at..at + together).unwrap_or_default();
        at += together.max(1);
        for change in group {
            let task = tasks.entry(&change.task_id).or_default();
            match change.table {
                Table::Tasks => {
                    // A ghost is no task: what a late mark of a worker has left.
                    let is_task = |record: &&Record| record.contains_key("labourer_id");
                    let after = change.after.as_ref().filter(is_task).cloned();
                    let moved = after.is_some() && after != task.queued_or_running;
                    if let (Some((_, outcome)), true) = (&task.closed, moved) {
                        violations.push(Violation::outcome(format!(
                            "task {} came back to the tasks table after it was closed as {outcome}",
                            change.task_id
                        )));
                    }
                    task.queued_or_running = after;
                }
                Table::Retry => task.waiting = change.after.is_some(),
                Table::Closed => {
                    let outcome = change
                        .after
                        .as_ref()
                        .map(|record| text_of(record, "outcome").unwrap_or("nothing").to_owned());
                    match (&task.closed, outcome) {
                        (None, Some(outcome)) => task.closed = Some((change.stamp, outcome)),
                        (Some((_, before)), after) => violations.push(Violation::outcome(format!(
                            "task {} was closed as {before}, and then that was changed to {after:?}",
                            change.task_id
                        ))),
                        (None, None) => {}
                    }
                }
            }
        }
        for change in group {
            let lost = tasks.get(change.task_id.as_str()).is_some_and(|task| {
                task.queued_or_running.is_none() && !task.waiting && task.closed.is_none()
            });
            if lost && born.contains(&change.task_id) {
                violations.push(Violation::outcome(format!(
                    "task {} was in none of the tables at {:?}",
                    change.task_id, change.at
                )));
            }
        }
        if scenario.caps_hold {
            let now = i128::from(EPOCH_MS) * 1_000_000 + first.at.as_nanos() as i128;
            let found = caps(scenario, &tasks, now, &mut caps_said);
            violations.extend(
                found
                    .into_iter()
                    .map(|what| Violation::outcome(format!("{what}, at {:?}", first.at))),
            );
        }
    }
    for id in born {
        let task = tasks.get(id.as_str());
        if task.is_none_or(|task| task.closed.is_none()) {
            violations.push(Violation::outcome(format!("task {id} was never closed")));
        } else if task.is_some_and(|task| task.queued_or_running.is_some() || task.waiting) {
            violations.push(Violation::outcome(format!(
                "task {id} is closed and in another table as well"
            )));
        }
    }
    starts(&tasks, asks, &mut violations);
    attempts(scenario, changes, &mut violations);
    violations
}

/// Never more claimed tasks of a labourer, or of a store, than may be.
fn caps(
    scenario: &DispatchScenario,
    tasks: &HashMap<&str, Whereabouts>,
    now: i128,
    said: &mut BTreeSet<String>,
) -> Vec<String> {
    let mut found = Vec::new();
    let running = Greenfield::from_nanos(now + i128::from(GREENFIELD_DELTA) * 500_000_000);
    let mut counts: BTreeMap<(String, String), u32> = BTreeMap::new();
    for record in tasks.values().filter_map(|task| task.queued_or_running.as_ref()) {
        // One that its worker is done with takes no slot.
        let is_over = record.contains_key("completed_at");
        if is_over || number_of(record, "greenfield").is_none_or(|greenfield| greenfield < running) {
            continue;
        }
        let labourer = text_of(record, "labourer_id").unwrap_or_default().to_owned();
        let payload = text_of(record, "payload").unwrap_or_default();
        let payload: serde_json::Value = serde_json::from_str(payload).unwrap_or_default();
        let store = payload.get("store").map(ToString::to_string).unwrap_or_default();
        *counts.entry((labourer.clone(), String::new())).or_default() += 1;
        if !store.is_empty() {
            *counts.entry((labourer, store)).or_default() += 1;
        }
    }
    for ((labourer, store), count) in counts {
        let crew = scenario.crews.iter().find(|crew| crew.name == labourer);
        let max = crew.and_then(|crew| match store.is_empty() {
            true => Some(crew.max),
            false => crew.max_of_a_store,
        });
        if max.is_some_and(|max| count > max) && said.insert(format!("{labourer}{store}")) {
            found.push(format!(
                "{count} tasks of {labourer} {store} are claimed at once, and {max:?} may be"
            ));
        }
    }
    found
}

/// The same attempt is never asked for twice but where the first time surely came to nothing, and nothing is asked for
/// that is closed.
fn starts(tasks: &HashMap<&str, Whereabouts>, asks: &[Ask], violations: &mut Vec<Violation>) {
    let mut started: HashMap<(&str, u64), &Ask> = HashMap::new();
    for ask in asks.iter().filter(|ask| !ask.came_to_nothing) {
        if let Some(before) = started.insert((&ask.task_id, ask.attempts), ask) {
            violations.push(Violation::outcome(format!(
                "attempt {} of task {} was started by #{} and by #{}",
                ask.attempts, ask.task_id, before.invocation, ask.invocation
            )));
        }
        let closed = tasks
            .get(ask.task_id.as_str())
            .and_then(|task| task.closed.as_ref());
        if let Some((stamp, outcome)) = closed
            && ask.stamp > *stamp
        {
            violations.push(Violation::outcome(format!(
                "task {} was started by #{} though it was closed as {outcome}",
                ask.task_id, ask.invocation
            )));
        }
    }
}

/// No task is tried more often than it may be.
fn attempts(scenario: &DispatchScenario, changes: &[TableChange], violations: &mut Vec<Violation>) {
    for change in changes.iter().filter(|change| change.table == Table::Tasks) {
        let Some(record) = &change.after else { continue };
        let labourer = text_of(record, "labourer_id").unwrap_or_default();
        let Some(crew) = scenario.crews.iter().find(|crew| crew.name == labourer) else {
            continue;
        };
        let count = |name| number_of(record, name).map_or(0, |number| number.nanos() / 1_000_000_000);
        let tried = count("attempts") - count("attempts_base");
        if tried > i128::from(crew.max_attempts) {
            violations.push(Violation::outcome(format!(
                "task {} is tried for the {tried}th time, and {} are allowed",
                change.task_id, crew.max_attempts
            )));
        }
    }
}
