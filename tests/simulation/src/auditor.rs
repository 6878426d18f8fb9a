//! What must be true of the history of buckets and tables, whatever went wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use jobmill_core::queue::lock::{Counters, Lock};
use jobmill_core::queue::names::LOCK_PREFIX;
use jobmill_core::queue::receipt::Receipt;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_engine::schedule::{Outcome, Summary};
use jobmill_memory::{Birth, Change, EPOCH_MS};

use super::expected::ExpectedRun;
use super::faults::Sending;
use super::simulation::{Ended, Kind, Simulation};

/// So many requests of one invocation may fail within [`STORM_WINDOW`]: more is a storm.
const MOST_FAILURES: usize = 200;
const STORM_WINDOW: Duration = Duration::from_secs(10);

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
    /// The user: tasks, answers or what is left in the bucket are wrong.
    Outcome,
    /// Nobody yet: an invariant of the protocol does not hold.
    Protocol,
}

impl Violation {
    pub(super) fn outcome(what: String) -> Self {
        Self {
            weight: Weight::Outcome,
            what,
        }
    }

    fn protocol(what: String) -> Self {
        Self {
            weight: Weight::Protocol,
            what,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.weight, self.what)
    }
}

/// Reads the whole history.
pub(super) fn audit(simulation: &Simulation<'_>) -> Vec<Violation> {
    let mut audit = Audit {
        simulation,
        births: simulation.tasks.with(|tables, _| tables.births.clone()),
        sendings: simulation.network.sendings(),
        violations: simulation.violations.clone(),
    };
    if let Some(stranded) = &simulation.stranded {
        audit.outcome(stranded.clone());
    }
    audit.resets();
    audit.strangers();
    for (number, run) in simulation.runs.iter().enumerate() {
        audit.run(run, number);
    }
    audit.foreign();
    audit.invocations();
    audit.storms();
    audit.violations
}

/// Looks at what an invocation has answered, at that very moment.
pub(super) fn answered(
    simulation: &Simulation<'_>,
    deployment: usize,
    invocation: u64,
    outcome: &Outcome,
) -> Vec<Violation> {
    let (run_id, rows, done) = match outcome {
        Outcome::Completed(Summary {
            run_id, rows, done, ..
        }) => (run_id, Some(*rows), *done),
        Outcome::AlreadyCompleted { run_id, rows, .. } => (run_id, Some(*rows), *rows),
        Outcome::HandedOff {
            summary: Summary { run_id, done, .. },
            ..
        } => (run_id, None, *done),
        Outcome::HeldElsewhere { file_name } => {
            return held_elsewhere(simulation, deployment, invocation, file_name);
        }
        _ => return Vec::new(),
    };
    let asked_for = |run: &&ExpectedRun| run.deployment == deployment && run.run_id == *run_id;
    let (Some(run), Some(place)) = (
        simulation.runs.iter().find(asked_for),
        simulation.deployments.get(deployment),
    ) else {
        let what = format!("#{invocation} answered for {run_id}, which nobody has asked for");
        return vec![Violation::outcome(what)];
    };
    let mut violations = Vec::new();
    if let Some(rows) = rows {
        let receipt = place
            .store
            .body(&run.keys.receipt)
            .and_then(|body| Receipt::parse(&run.keys.receipt, &body).ok());
        let right = |receipt: &Receipt| receipt.run == *run_id && receipt.rows == rows;
        if !receipt.as_ref().is_some_and(right) || rows != run.count || done != rows {
            let what =
                format!("{run_id}: #{invocation} answered {outcome:?}, and the receipt was {receipt:?}");
            violations.push(Violation::outcome(what));
        }
    }
    let born: BTreeSet<String> = simulation.tasks.with(|tables, _| {
        let births = tables.births.iter();
        births.map(|birth| birth.task.payload.clone()).collect()
    });
    let missing = run
        .rows
        .iter()
        .filter(|(payload, expected)| expected.row < done && !born.contains(*payload))
        .count();
    if missing > 0 {
        let what =
            format!("{run_id}: #{invocation} answered {outcome:?}, and {missing} tasks were not there");
        violations.push(Violation::outcome(what));
    }
    violations
}

/// Who answers that somebody else holds the lock was not the last to write it; or the run is completed meanwhile.
fn held_elsewhere(
    simulation: &Simulation<'_>,
    deployment: usize,
    invocation: u64,
    file_name: &str,
) -> Vec<Violation> {
    let named = |run: &&ExpectedRun| run.deployment == deployment && run.keys.file_name == file_name;
    let (Some(run), Some(place)) = (
        simulation.runs.iter().find(named),
        simulation.deployments.get(deployment),
    ) else {
        return Vec::new();
    };
    let completed = place.store.body(&run.keys.receipt).is_some();
    let last = place.store.with(|bucket, _| {
        let changes = bucket.history().iter().rev();
        changes
            .map(|change| (&change.key, change.actor))
            .find(|(key, _)| **key == run.keys.lock)
            .map(|(_, actor)| actor)
    });
    if completed || last.is_some_and(|actor| actor != invocation) {
        return Vec::new();
    }
    let what = format!(
        "{}: #{invocation} answered that somebody else holds the lock, and nobody does",
        run.run_id
    );
    vec![Violation::outcome(what)]
}

/// How many requests of one invocation failed within [`STORM_WINDOW`] at most.
pub(super) fn most_failures(failures: &[(u64, Duration)]) -> usize {
    let mut by_invocation: BTreeMap<u64, Vec<Duration>> = BTreeMap::new();
    for (invocation, at) in failures {
        by_invocation.entry(*invocation).or_default().push(*at);
    }
    let within = |times: &Vec<Duration>, first: usize, at: &Duration| {
        let until = *at + STORM_WINDOW;
        times.partition_point(|time| *time < until) - first
    };
    by_invocation
        .values()
        .flat_map(|times| {
            times
                .iter()
                .enumerate()
                .map(|(first, at)| within(times, first, at))
        })
        .max()
        .unwrap_or_default()
}

/// A version of a lock; none: it was deleted.
struct Version {
    stamp: u64,
    at: Duration,
    actor: u64,
    lock: Option<Lock>,
}

struct Audit<'a> {
    simulation: &'a Simulation<'a>,
    births: Vec<Birth>,
    sendings: Vec<Sending>,
    violations: Vec<Violation>,
}

/// The version of a lock that counts at a moment.
fn current(versions: &[Version], stamp: u64) -> Option<(&Version, &Lock)> {
    let before = versions.partition_point(|version| version.stamp < stamp);
    let version = versions.get(before.checked_sub(1)?)?;
    Some((version, version.lock.as_ref()?))
}

impl Audit<'_> {
    fn outcome(&mut self, what: String) {
        self.violations.push(Violation::outcome(what));
    }

    fn protocol(&mut self, what: String) {
        self.violations.push(Violation::protocol(what));
    }

    /// No task that somebody else had touched was overwritten.
    fn resets(&mut self) {
        let overwritten = self.simulation.tasks.with(|tables, _| tables.overwritten.clone());
        for item in overwritten {
            let born = self
                .births
                .iter()
                .find(|birth| birth.task.task_id == item.text("task_id"));
            if born.is_none_or(|born| Some(born.task.greenfield) != item.greenfield()) {
                let id = item.text("task_id");
                self.outcome(format!("task {id} was touched, and then reset"));
            }
        }
    }

    /// No task belongs to no row, and no id to two rows.
    fn strangers(&mut self) {
        let runs = &self.simulation.runs;
        let known = |birth: &&Birth| runs.iter().any(|run| run.rows.contains_key(&birth.task.payload));
        let strangers = self.births.iter().filter(|birth| !known(birth)).count();
        let mut rows: HashMap<&String, &String> = HashMap::new();
        let shared = self
            .births
            .iter()
            .filter(|birth| {
                let first = rows.entry(&birth.task.task_id).or_insert(&birth.task.payload);
                **first != birth.task.payload
            })
            .count();
        if strangers > 0 {
            self.outcome(format!("{strangers} tasks belong to no row"));
        }
        if shared > 0 {
            self.outcome(format!("{shared} tasks have the id of another row"));
        }
    }

    /// The changes of an object of a run, oldest first.
    fn changes(&self, run: &ExpectedRun, key: &str) -> Vec<Change> {
        let Some(deployment) = self.simulation.deployments.get(run.deployment) else {
            return Vec::new();
        };
        deployment.store.with(|bucket, _| {
            let history = bucket.history().iter();
            history.filter(|change| change.key == key).cloned().collect()
        })
    }

    fn run(&mut self, run: &ExpectedRun, number: usize) {
        let run_id = &run.run_id;
        let (rows, receipts) = (
            self.changes(run, &run.keys.rows),
            self.changes(run, &run.keys.receipt),
        );
        let completed_at = receipts.first().map(|change| change.stamp);
        let versions = self.locks(run, completed_at);
        let born = self.born(run, &versions);
        self.sent(run, &versions);
        self.confirmed(run, &versions, &born);
        let all = (born.len() == run.rows.len()).then(|| born.values().max().copied().unwrap_or_default());
        match receipts.as_slice() {
            [
                Change {
                    body: Some(body),
                    stamp,
                    ..
                },
            ] => match Receipt::parse(run_id, body) {
                Ok(receipt)
                    if receipt.run == *run_id
                        && receipt.rows == run.count
                        && adds_up(receipt.counters, run.count) =>
                {
                    if all.is_none_or(|all| all > *stamp) {
                        self.protocol(format!("{run_id}: the receipt stood before its last task"));
                    }
                    let passed_over = run.wrong.len() as u64;
                    let counted = receipt.counters.skipped;
                    if counted != passed_over {
                        let what = format!(
                            "{run_id}: {counted} rows were passed over by the receipt, and {passed_over} are no tasks"
                        );
                        self.protocol(what);
                    }
                }
                other => self.outcome(format!("{run_id}: the receipt is not right: {other:?}")),
            },
            others => self.outcome(format!(
                "{run_id}: the receipt was written {} times",
                others.len()
            )),
        }
        // Actor 0 is nobody of ours: somebody who mends a line.
        let ours = rows.iter().filter(|change| change.actor != 0);
        let written: BTreeSet<_> = ours.filter_map(|change| change.body.as_ref()).collect();
        if written.len() > 1 {
            self.protocol(format!("{run_id}: its rows were changed"));
        }
        let deleted = rows
            .iter()
            .filter(|change| change.body.is_none())
            .map(|change| change.stamp);
        let unlocked = versions.iter().filter(|version| version.lock.is_none());
        let early = deleted
            .chain(unlocked.map(|version| version.stamp))
            .any(|stamp| completed_at.is_none_or(|at| at > stamp));
        if early {
            self.protocol(format!(
                "{run_id}: rows or lock were deleted before the receipt stood"
            ));
        }
        if let Some(deployment) = self.simulation.deployments.get(run.deployment) {
            let keys = deployment.store.keys();
            for key in [&run.keys.rows, &run.keys.lock] {
                if keys.contains(key) {
                    self.outcome(format!("{run_id}: {key} is left"));
                }
            }
        }
        for row in &run.wrong {
            if !self.simulation.passed_over.contains(&(number, *row)) {
                self.outcome(format!(
                    "{run_id}: row {row} was passed over, and nobody had asked for it"
                ));
            }
        }
        self.asked_again(run, number);
    }

    /// A run that is completed says so.
    fn asked_again(&mut self, run: &ExpectedRun, number: usize) {
        let again: Vec<&Ended> = self
            .simulation
            .ended
            .iter()
            .filter(|ended| ended.kind == Kind::Again(number))
            .collect();
        let right = |ended: &&Ended| match &ended.answer {
            Some(Ok(Outcome::AlreadyCompleted { rows, .. })) => *rows == run.count,
            Some(Ok(_)) => false,
            _ => true,
        };
        let answered = again.iter().any(|ended| matches!(ended.answer, Some(Ok(_))));
        if !answered || !again.iter().all(right) {
            let answers: Vec<_> = again.iter().map(|ended| &ended.answer).collect();
            let what = format!("{}: asked for once more it answered {answers:?}", run.run_id);
            self.outcome(what);
        }
    }

    /// Every version of the lock, and that each followed from the one before.
    fn locks(&mut self, run: &ExpectedRun, completed_at: Option<u64>) -> Vec<Version> {
        let run_id = &run.run_id;
        let limits = self.simulation.scenario.limits;
        let mut versions: Vec<Version> = Vec::new();
        for change in self.changes(run, &run.keys.lock) {
            let version = |lock| Version {
                stamp: change.stamp,
                at: change.at,
                actor: change.actor,
                lock,
            };
            let Some(body) = &change.body else {
                versions.push(version(None));
                continue;
            };
            let lock = match Lock::parse(&change.key, body) {
                Ok(lock) => lock,
                Err(error) => {
                    self.protocol(format!("{run_id}: {error}"));
                    continue;
                }
            };
            if !adds_up(lock.counters, lock.cursor.row) {
                self.protocol(format!(
                    "{run_id}: the counters of {lock:?} do not add up to its cursor"
                ));
            }
            if let Some(last) = versions.last().and_then(|version| version.lock.as_ref()) {
                let forward = lock.epoch >= last.epoch
                    && lock.rev > last.rev
                    && lock.cursor >= last.cursor
                    && (lock.claimed >= last.claimed || lock.holder.is_none())
                    && lock.greenfields() == last.greenfields();
                // Once the receipt stands no lock leads to a task any more: a late release may then meet a late copy
                // of the request that created the lock.
                let completed = completed_at.is_some_and(|at| at < change.stamp);
                let forward = forward
                    && (lock.claimed >= last.claimed
                        || completed
                        || !self.was_sent(run, lock.claimed, change.stamp));
                let owned = lock.epoch > last.epoch || lock.holder.is_none() || lock.holder == last.holder;
                if !forward || !owned {
                    self.protocol(format!("{run_id}: the lock went from {last:?} to {lock:?}"));
                }
            }
            let ahead = lock.claimed.saturating_sub(lock.cursor.row);
            if ahead > limits.last_window.max(limits.first_window) + limits.batch as u64 {
                self.protocol(format!("{run_id}: the claim is {ahead} rows ahead of the cursor"));
            }
            versions.push(version(Some(lock)));
        }
        versions
    }

    /// Whether a row from that one on was sent before that moment.
    fn was_sent(&self, run: &ExpectedRun, from: u64, stamp: u64) -> bool {
        self.sendings
            .iter()
            .take_while(|sending| sending.stamp < stamp)
            .flat_map(|sending| &sending.payloads)
            .any(|payload| run.rows.get(payload).is_some_and(|expected| expected.row >= from))
    }

    /// When each row first became a task, by row: that each did so once, as it should, and that the lock claimed it.
    fn born(&mut self, run: &ExpectedRun, versions: &[Version]) -> BTreeMap<u64, u64> {
        let run_id = &run.run_id;
        let scenario = self.simulation.scenario;
        let range = versions
            .iter()
            .find_map(|version| version.lock.as_ref()?.greenfields());
        let mut born: BTreeMap<u64, (u64, String)> = BTreeMap::new();
        for birth in self.births.clone() {
            let task = &birth.task;
            let Some(expected) = run.rows.get(&task.payload) else {
                continue;
            };
            let row = expected.row;
            match born.get(&row) {
                Some((_, id)) if *id != task.task_id => {
                    self.outcome(format!(
                        "{run_id}: the task of row {row} was created under two ids"
                    ));
                }
                Some(_) if !scenario.unbounded => {
                    self.outcome(format!("{run_id}: the task of row {row} was created once more"));
                }
                Some(_) => {}
                None => {
                    born.insert(row, (birth.stamp, task.task_id.clone()));
                    if current(versions, birth.stamp).is_none_or(|(_, lock)| lock.claimed <= row) {
                        self.protocol(format!(
                            "{run_id}: row {row} became a task that the lock did not claim"
                        ));
                    }
                }
            }
            if task.labourer_id != expected.labourer_id {
                self.outcome(format!("{run_id}: row {row} became {task:?}"));
            }
            if range.is_none_or(|range| range.at(row) != task.greenfield) {
                self.outcome(format!(
                    "{run_id}: row {row} has the greenfield {}",
                    task.greenfield
                ));
            }
            let wall_ms = EPOCH_MS + (birth.at + scenario.rates.skew).as_millis() as i64;
            if task.greenfield > Greenfield::from_millis(wall_ms) {
                self.outcome(format!("{run_id}: the task of row {row} was born in the future"));
            }
        }
        if born.len() != run.rows.len() {
            let what = format!("{run_id}: {} of {} rows are tasks", born.len(), run.rows.len());
            self.outcome(what);
        }
        let lost = self.simulation.tasks.with(|tables, _| {
            born.values()
                .filter(|(_, id)| tables.places_of(id).len() != 1)
                .count()
        });
        if lost > 0 && !scenario.unbounded {
            self.outcome(format!(
                "{run_id}: {lost} tasks do not stand in exactly one table"
            ));
        }
        born.into_iter().map(|(row, (stamp, _))| (row, stamp)).collect()
    }

    /// No row was sent that the lock did not claim, nor by anybody but who wrote the lock last.
    fn sent(&mut self, run: &ExpectedRun, versions: &[Version]) {
        let run_id = &run.run_id;
        let mut found = BTreeSet::new();
        for sending in &self.sendings {
            let rows = sending
                .payloads
                .iter()
                .filter_map(|payload| run.rows.get(payload));
            let Some(last) = rows.map(|expected| expected.row).max() else {
                continue;
            };
            let by = sending.invocation;
            match current(versions, sending.stamp) {
                Some((version, lock)) if version.actor == by && lock.claimed > last => {}
                Some((version, _)) if version.actor != by => {
                    found.insert(format!(
                        "{run_id}: #{by} sent tasks while #{} held the lock",
                        version.actor
                    ));
                }
                Some(_) => {
                    found.insert(format!("{run_id}: #{by} sent row {last} before it was claimed"));
                }
                None => {
                    found.insert(format!("{run_id}: #{by} sent tasks without a lock"));
                }
            }
        }
        for what in found {
            self.protocol(what);
        }
    }

    /// What a lock says is done is done, and what it stopped at can't be.
    fn confirmed(&mut self, run: &ExpectedRun, versions: &[Version], born: &BTreeMap<u64, u64>) {
        let run_id = &run.run_id;
        let rows: BTreeSet<u64> = run.rows.values().map(|expected| expected.row).collect();
        let missing = |before: u64, stamp: u64| {
            let done = |row: &&u64| born.get(row).is_none_or(|birth| *birth > stamp);
            rows.range(..before).find(done).copied()
        };
        let mut found = Vec::new();
        for version in versions {
            let Some(lock) = &version.lock else { continue };
            let at = version.at;
            if let Some(row) = missing(lock.cursor.row, version.stamp) {
                found.push(format!(
                    "{run_id}: at {at:?} the cursor passed row {row}, which was no task"
                ));
            }
            if let Some(stopped) = &lock.stopped {
                let row = stopped.line.saturating_sub(1);
                if lock.cursor.row > row {
                    found.push(format!(
                        "{run_id}: it stopped at row {row} with a cursor at {:?}",
                        lock.cursor
                    ));
                }
                if !run.was_wrong.contains(&row) {
                    found.push(format!(
                        "{run_id}: it stopped at row {row}, which is right: {}",
                        stopped.error
                    ));
                }
                if let Some(missing) = missing(row, version.stamp) {
                    found.push(format!(
                        "{run_id}: it stopped at row {row} when row {missing} was no task"
                    ));
                }
            }
        }
        for what in found {
            self.protocol(what);
        }
    }

    /// What others put there stands as they put it.
    fn foreign(&mut self) {
        for ((number, key), body) in &self.simulation.foreign {
            let Some(deployment) = self.simulation.deployments.get(*number) else {
                continue;
            };
            let changes = deployment.store.with(|bucket, _| {
                let history = bucket.history().iter();
                history.filter(|change| change.key == *key).count()
            });
            if changes != 1 || deployment.store.body(key) != *body {
                self.outcome(format!("{key}, which is none of ours, was changed"));
            }
        }
    }

    /// None started a sibling without need, and none ended with a request under way.
    fn invocations(&mut self) {
        let mut buckets: BTreeMap<&str, Vec<Change>> = BTreeMap::new();
        for deployment in &self.simulation.deployments {
            buckets
                .entry(&deployment.config.queue_bucket)
                .or_insert_with(|| deployment.store.with(|bucket, _| bucket.history().to_vec()));
        }
        let changes: Vec<Change> = buckets.into_values().flatten().collect();
        for ended in &self.simulation.ended {
            let invocation = ended.invocation;
            if ended.answer.is_some() && ended.unanswered > 0 {
                self.protocol(format!(
                    "#{invocation} ended with {} requests under way",
                    ended.unanswered
                ));
            }
            if ended.kind == Kind::Sweep || !self.simulation.spawners.contains(&invocation) {
                continue;
            }
            let own: Vec<&Change> = changes
                .iter()
                .filter(|change| change.actor == invocation)
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
                self.protocol(format!(
                    "#{invocation} started a sibling without having done anything"
                ));
            }
        }
    }

    /// Who is told no does not ask again and again.
    fn storms(&mut self) {
        let most = most_failures(&self.simulation.network.failures());
        if most > MOST_FAILURES {
            self.outcome(format!(
                "{most} requests of one invocation failed within {} seconds",
                STORM_WINDOW.as_secs()
            ));
        }
    }
}

/// Whether each of so many rows was counted once, whoever created its task.
fn adds_up(counters: Counters, rows: u64) -> bool {
    counters.created + counters.already_there + counters.skipped == rows
}
