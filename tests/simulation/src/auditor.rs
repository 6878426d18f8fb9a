//! What must be true of the history of bucket and tables, whatever went wrong.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use jobmill_core::job::event::{self, Request};
use jobmill_core::job::period::AsOf;
use jobmill_core::job::plan::Plan;
use jobmill_core::queue::lock::Lock;
use jobmill_core::queue::names::LOCK_PREFIX;
use jobmill_core::queue::receipt::Receipt;
use jobmill_core::task::greenfield::{Greenfield, GreenfieldRange};
use jobmill_core::task::identity::TaskIds;
use jobmill_core::task::row::payload_of;
use jobmill_engine::schedule::Outcome;

use super::scenario::JobSpec;
use super::world::{Ended, Kind, PREFIX, World};
use jobmill_memory::{Change, EPOCH_MS, Item};

/// Something that must not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Whom it hurts.
    pub weight: Weight,
    /// What happened.
    pub what: String,
}

/// Whom a violation hurts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The user: tasks or what is left in the bucket are wrong.
    Outcome,
    /// Nobody yet: an invariant of the protocol does not hold.
    Protocol,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.weight, self.what)
    }
}

struct Audit<'a> {
    world: &'a World<'a>,
    changes: Vec<Change>,
    births: Vec<Item>,
    violations: Vec<Violation>,
}

/// Reads the history.
pub(super) fn audit(world: &World<'_>) -> Vec<Violation> {
    let mut audit = Audit {
        world,
        changes: world.store.with(|bucket, _| bucket.history().to_vec()),
        births: world.tasks.with(|tables, _| tables.births.clone()),
        violations: Vec::new(),
    };
    audit.resets();
    if let Some(stranded) = &world.stranded {
        audit.outcome(stranded.clone());
    }
    let mut known = HashMap::new();
    for (number, job) in world.scenario.jobs.iter().enumerate() {
        let run = Run::of(world, job);
        known.extend(run.rows.keys().cloned().map(|id| (id, number)));
        audit.run(&run, number);
    }
    let strangers = audit
        .births
        .iter()
        .filter(|birth| !known.contains_key(&birth.task.task_id))
        .count();
    if strangers > 0 {
        audit.outcome(format!("{strangers} tasks belong to no row"));
    }
    audit.invocations();
    audit.violations
}

/// A run as it should be.
struct Run<'a> {
    job: &'a JobSpec,
    /// By task id: the row, its labourer, its payload.
    rows: BTreeMap<String, (u64, String, String)>,
    count: u64,
    rows_key: String,
    lock_key: String,
    receipt_key: String,
}

impl<'a> Run<'a> {
    fn of(world: &World<'_>, job: &'a JobSpec) -> Self {
        let name = world.config.file_name(&job.run_id);
        let plan = match (event::read(job.event()), AsOf::from_millis(EPOCH_MS)) {
            (Ok(Request::Job(request)), Some(now)) => Plan::make(&world.config, request, None, now),
            _ => unreachable!("the event of the simulation is a job"),
        };
        let Ok(plan) = plan else {
            unreachable!("the job of the simulation is right")
        };
        let ids = TaskIds::new(&world.config.queue_bucket, &world.config.s3_prefix, &job.run_id);
        let mut rows = BTreeMap::new();
        let mut lines = plan.chunks.rows();
        let mut count = 0;
        while let Some(line) = lines.next_row() {
            let (labourer, payload) = payload_of(line).unwrap_or_default();
            rows.insert(ids.at(count), (count, labourer, payload));
            count += 1;
        }
        Self {
            job,
            rows,
            count,
            rows_key: format!("{PREFIX}/{name}"),
            lock_key: format!("{PREFIX}/{LOCK_PREFIX}{name}"),
            receipt_key: format!("{PREFIX}/done/{name}.json"),
        }
    }
}

impl Audit<'_> {
    fn outcome(&mut self, what: String) {
        self.violations.push(Violation {
            weight: Weight::Outcome,
            what,
        });
    }

    fn protocol(&mut self, what: String) {
        self.violations.push(Violation {
            weight: Weight::Protocol,
            what,
        });
    }

    /// No task that somebody else had touched was overwritten.
    fn resets(&mut self) {
        let overwritten = self.world.tasks.with(|tables, _| tables.overwritten.clone());
        for item in overwritten {
            let born = self
                .births
                .iter()
                .find(|birth| birth.task.task_id == item.task.task_id);
            if born.is_none_or(|born| born.task.greenfield != item.task.greenfield) {
                self.outcome(format!("task {} was touched, and then reset", item.task.task_id));
            }
        }
    }

    fn run(&mut self, run: &Run<'_>, number: usize) {
        let run_id = &run.job.run_id;
        let locks = self.locks(run);
        let lane = locks.first().and_then(|(_, lock)| lock.greenfields());
        let born = self.born(run, lane, &locks);
        let all = (born.len() as u64 == run.count).then(|| born.values().max().copied().unwrap_or_default());
        let changes = |key: &str| -> Vec<Change> {
            self.changes
                .iter()
                .filter(|change| change.key == key)
                .cloned()
                .collect()
        };
        let receipts = changes(&run.receipt_key);
        let stands_at = receipts.first().map(|change| change.at);
        let (rows, lock) = (changes(&run.rows_key), changes(&run.lock_key));
        match receipts.as_slice() {
            [
                Change {
                    body: Some(body), at, ..
                },
            ] => match Receipt::parse(run_id, body) {
                Ok(receipt) if receipt.run == *run_id && receipt.rows == run.count => {
                    if all.is_none_or(|all| all > *at) {
                        self.protocol(format!("{run_id}: the receipt stood before its last task"));
                    }
                }
                other => self.outcome(format!("{run_id}: the receipt is not right: {other:?}")),
            },
            others => self.outcome(format!(
                "{run_id}: the receipt was written {} times",
                others.len()
            )),
        }
        for change in rows.iter().chain(&lock).filter(|change| change.body.is_none()) {
            if stands_at.is_none_or(|at| at > change.at) {
                self.protocol(format!(
                    "{run_id}: {} was deleted before the receipt stood",
                    change.key
                ));
            }
        }
        let keys = self.world.store.keys();
        for key in [&run.rows_key, &run.lock_key] {
            if keys.contains(key) {
                self.outcome(format!("{run_id}: {key} is left"));
            }
        }
        let again: Vec<&Ended> = self
            .world
            .ended
            .iter()
            .filter(|ended| ended.kind == Kind::Again(number))
            .collect();
        let right = |ended: &&Ended| matches!(&ended.answer, Some(Ok(Outcome::AlreadyCompleted { rows, .. })) if *rows == run.count);
        let answered: Vec<&&Ended> = again
            .iter()
            .filter(|ended| matches!(ended.answer, Some(Ok(_))))
            .collect();
        if answered.is_empty() || !answered.into_iter().all(right) {
            let answers: Vec<_> = again.iter().map(|ended| &ended.answer).collect();
            let what = format!("{run_id}: delivered once more it answered {answers:?}");
            self.outcome(what);
        }
    }

    /// The tasks of a run, and when each was born.
    fn born(
        &mut self,
        run: &Run<'_>,
        lane: Option<GreenfieldRange>,
        locks: &[(Duration, Lock)],
    ) -> BTreeMap<String, Duration> {
        let run_id = &run.job.run_id;
        let mut born = BTreeMap::new();
        for birth in self.births.clone() {
            let task = &birth.task;
            let Some((row, labourer, payload)) = run.rows.get(&task.task_id) else {
                continue;
            };
            if !born.contains_key(&task.task_id) {
                born.insert(task.task_id.clone(), birth.since);
            } else if !self.world.scenario.unbounded {
                self.outcome(format!("{run_id}: the task of row {row} was created once more"));
            }
            if task.labourer_id != *labourer || task.payload != *payload {
                self.outcome(format!("{run_id}: row {row} became {task:?}"));
            }
            if lane.is_none_or(|lane| lane.at(*row) != task.greenfield) {
                self.outcome(format!(
                    "{run_id}: row {row} has the greenfield {}",
                    task.greenfield
                ));
            }
            let wall_ms = EPOCH_MS + (birth.since + self.world.scenario.climate.skew).as_millis() as i64;
            if task.greenfield > Greenfield::from_millis(wall_ms) {
                self.outcome(format!("{run_id}: the task of row {row} was born in the future"));
            }
            let claimed = |(at, lock): &(Duration, Lock)| *at <= birth.since && lock.claimed > *row;
            if !locks.iter().any(claimed) {
                self.protocol(format!("{run_id}: row {row} was sent before it was claimed"));
            }
        }
        if born.len() as u64 != run.count {
            let what = format!("{run_id}: {} of {} rows are tasks", born.len(), run.count);
            self.outcome(what);
        }
        let lost = self.world.tasks.with(|tables, _| {
            let tables = [&tables.tasks, &tables.retry, &tables.closed];
            let places = |id: &String| tables.iter().filter(|table| table.contains_key(id)).count();
            born.keys().filter(|id| places(id) != 1).count()
        });
        if lost > 0 && !self.world.scenario.unbounded {
            self.outcome(format!(
                "{run_id}: {lost} tasks do not stand in exactly one table"
            ));
        }
        for (at, lock) in locks {
            for (id, (row, ..)) in &run.rows {
                if *row < lock.cursor.row && born.get(id).is_none_or(|birth| birth > at) {
                    let what = format!("{run_id}: the cursor passed row {row} before it was a task");
                    self.violations.push(Violation {
                        weight: Weight::Protocol,
                        what,
                    });
                }
            }
        }
        born
    }

    /// Every version of the lock, and that each followed from the one before.
    fn locks(&mut self, run: &Run<'_>) -> Vec<(Duration, Lock)> {
        let run_id = &run.job.run_id;
        let mut locks: Vec<(Duration, Lock)> = Vec::new();
        let mut last: Option<Lock> = None;
        for change in self
            .changes
            .clone()
            .iter()
            .filter(|change| change.key == run.lock_key)
        {
            let Some(body) = &change.body else {
                last = None;
                continue;
            };
            let lock = match Lock::parse(&change.key, body) {
                Ok(lock) => lock,
                Err(error) => {
                    self.protocol(format!("{run_id}: {error}"));
                    continue;
                }
            };
            if let Some(last) = &last {
                let forward = lock.epoch >= last.epoch
                    && lock.rev > last.rev
                    && lock.cursor >= last.cursor
                    && (lock.claimed >= last.claimed || lock.holder.is_none())
                    && lock.greenfields() == last.greenfields();
                let sent = |row: u64| {
                    self.births.iter().any(|birth| {
                        birth.since <= change.at
                            && run
                                .rows
                                .get(&birth.task.task_id)
                                .is_some_and(|(at, ..)| *at >= row)
                    })
                };
                // Once the receipt stands no lock leads to a task any more: a late release may then meet a late copy
                // of the request that created the lock.
                let completed = self
                    .changes
                    .iter()
                    .any(|other| other.key == run.receipt_key && other.at <= change.at);
                let forward = forward && (lock.claimed >= last.claimed || completed || !sent(lock.claimed));
                let owned = lock.epoch > last.epoch || lock.holder.is_none() || lock.holder == last.holder;
                if !forward || !owned {
                    self.protocol(format!("{run_id}: the lock went from {last:?} to {lock:?}"));
                }
            }
            last = Some(lock.clone());
            locks.push((change.at, lock));
        }
        locks
    }

    /// None started a sibling without need, and none ended with a request under way.
    fn invocations(&mut self) {
        for ended in &self.world.ended {
            if ended.answer.is_some() && ended.unanswered > 0 {
                let what = format!(
                    "#{} ended with {} requests under way",
                    ended.invocation, ended.unanswered
                );
                self.violations.push(Violation {
                    weight: Weight::Protocol,
                    what,
                });
            }
            if ended.kind == Kind::Sweep || !self.world.spawns.iter().any(|(by, _)| *by == ended.invocation) {
                continue;
            }
            let own: Vec<&Change> = self
                .changes
                .iter()
                .filter(|change| change.actor == ended.invocation)
                .collect();
            let spooled = own
                .iter()
                .any(|change| !change.key.contains(LOCK_PREFIX) && change.body.is_some());
            let cursors: Vec<u64> = own
                .iter()
                .filter(|change| change.key.contains(LOCK_PREFIX))
                .filter_map(|change| Lock::parse(&change.key, change.body.as_ref()?).ok())
                .map(|lock| lock.cursor.row)
                .collect();
            if !spooled && cursors.first() >= cursors.iter().max() {
                let what = format!(
                    "#{} started a sibling without having done anything",
                    ended.invocation
                );
                self.violations.push(Violation {
                    weight: Weight::Protocol,
                    what,
                });
            }
        }
    }
}
