//! The decisions of dispatching, without I/O and without a clock: what is claimed and started next, what an answer means,
//! how a task ends, when it is over. Whoever performs them says what time it is and what came back.
//!
//! Whatever happens, no claim goes out when the lease may run out before it lands, no attempt is started twice, and
//! nothing is moved but on condition of the very number that its claim wrote.

mod answers;
mod desk;
mod endings;
mod line;
mod requests;
mod slots;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use jobmill_core::queue::group::UsedSlots;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::health::Coefficients;
use jobmill_core::task::labourer::{Labourer, MetricSource};
use jobmill_core::task::life::{Closing, LastError, Marks, StoredTask, Waiting};
use jobmill_core::task::outcome;
use jobmill_core::task::record::Record;
use jobmill_core::task::tables::FieldNames;
use jobmill_core::task::write::{MOST_WRITES, Range, Update, Write};
use serde::Serialize;

use crate::dispatch::observe::Observation;
use crate::dispatch::ports::{Asking, Unfit};
use crate::error::EngineError;

use desk::{Backoff, Desk, START_PATIENCE};
pub(crate) use slots::Foreign;
use slots::Values;

/// So many tasks whose answer is waited for, all labourers together: a Lambda instance has 1,024 file descriptors.
pub(crate) const MOST_WAITED_FOR: usize = 900;
/// Requests of a kind under way. While so many are, what comes next is gathered.
const UPDATES_IN_FLIGHT: usize = 8;
const SETTLES_IN_FLIGHT: usize = 8;
/// Tasks in one transaction, and bytes of them.
const TASKS_A_SETTLE: usize = 50;
const BYTES_A_SETTLE: usize = 2 << 20;
/// Bytes of queued tasks that are kept in memory; beyond that a queue is only read when none of it is left.
const MOST_BYTES_READY: usize = 64 << 20;
/// Waiting tasks that are put back in one transaction: three writes each.
const REQUEUED_AT_ONCE: usize = MOST_WRITES / 3;
/// Waiting tasks that are read at once.
const RETRY_PAGE: u32 = 100;
/// Running tasks that are read at once.
const SURVEY_PAGE: u32 = 1_000;
/// How often is looked for tasks that others have left running, or that workers mark themselves; and for all others.
const BUSY_SURVEY: Duration = Duration::from_secs(2);
const CALM_SURVEY: Duration = Duration::from_secs(30);
/// How often the retry table is looked at.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// A waiting task that could not be put back is left alone for so long.
const POSTPONED: Duration = Duration::from_secs(30);
/// What was claimed or settled lately is remembered for so long: an index may still show it.
const REMEMBERED: Duration = Duration::from_secs(30);
/// The index shows every claim after so long.
pub(crate) const INDEX_LAG: Duration = Duration::from_secs(10);
/// What is waited after a request to the tables that was pushed back.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// What is waited at most before the queue of outcomes is asked again that did not answer.
const LONGEST_DEAFNESS: Duration = Duration::from_secs(60);
/// A lease with less left than a request may take and this is not used for claims.
const LEASE_MARGIN: Duration = Duration::from_secs(1);
/// How often is told how the labourers are doing.
const SAMPLE_PAUSE: Duration = Duration::from_secs(15);
/// The last moments of an invocation, in which nothing is waited for any more.
const LAST_MOMENTS: Duration = Duration::from_secs(2);

/// What does not change while an invocation dispatches.
pub(crate) struct Settings {
    pub(crate) names: FieldNames,
    /// Seconds that a claim puts a task ahead.
    pub(crate) delta: u64,
    /// What share of its slots a labourer gets by its health.
    pub(crate) coefficients: Coefficients,
    /// Where a queue begins.
    pub(crate) step: u64,
    /// How long the lease is.
    pub(crate) lease: Duration,
    /// How long a request may take: no claim goes out when the lease has less left.
    pub(crate) request_time: Duration,
    /// No claims from then on, by the monotonic clock.
    pub(crate) claims_until: Duration,
    /// When the invocation has to be over.
    pub(crate) deadline: Duration,
    /// With nothing to do for so long it is over.
    pub(crate) idle: Duration,
    /// Tasks that wait for another attempt are something to do, however long they wait.
    pub(crate) waits_for_retries: bool,
    /// Whether there is a queue of outcomes.
    pub(crate) has_outcomes: bool,
}

/// The moment of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// By the monotonic clock.
    pub(crate) at: Duration,
    /// By the wall clock, milliseconds since 1970.
    pub(crate) wall_ms: i64,
    /// How long the lease has been held since it was last granted.
    pub(crate) held_for: Duration,
    /// Somebody wants the machine back: time is short.
    pub(crate) should_stop: bool,
}

/// What an update is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Claim,
    GiveBack,
}

/// What is to be done now.
#[derive(Debug)]
pub(crate) enum Action {
    /// Read a part of an index for a labourer.
    Read(usize, Range),
    /// Read a task as it is.
    Check(String),
    /// Carry out these updates, of these tasks.
    Update(Vec<(String, Purpose)>, Vec<Update>),
    /// Start the worker of this task.
    Ask {
        task_id: String,
        function: String,
        payload: String,
        asking: Asking,
    },
    /// Carry out this transaction, which settles these tasks.
    Settle(Vec<String>, Vec<Write>),
    /// Carry out this transaction, which puts these waiting tasks of a labourer back.
    Requeue(usize, Vec<Requeued>, Vec<Write>),
    /// Ask how long the function of a labourer may run.
    Fit(usize, String),
    /// Read a metric of a labourer.
    Measure(usize, usize, MetricSource),
    /// Wait for outcomes.
    Receive,
    /// These outcomes are done with.
    Acknowledge(Vec<String>),
    /// The lease begins anew.
    Renew(Duration),
    /// Give the lock back.
    Release(Option<UsedSlots>),
}

/// A waiting task that is put back into the queue, or taken away because it is closed.
#[derive(Debug, Clone)]
pub(crate) struct Requeued {
    pub(crate) waiting: Waiting,
    /// As it stands in the queue then; none: it is only taken away.
    pub(crate) queued: Option<Record>,
}

/// What comes after the actions of a step.
#[derive(Debug)]
pub(crate) enum Then {
    /// Wait for an answer, and no longer than until then.
    Wait(Duration),
    /// It is over.
    End(End),
}

/// Why it is over.
#[derive(Debug)]
pub(crate) enum End {
    /// There was nothing to do for a while.
    Idle,
    /// The time is short.
    TimeShort,
    /// Somebody else has the lock, or the lease ran out.
    LockLost,
    /// A service refused: nothing more was claimed, and what was under way was settled as far as it could be.
    Failed(EngineError),
}

/// What to do, and what then.
pub(crate) struct Step {
    pub(crate) actions: Vec<Action>,
    pub(crate) then: Then,
}

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its claim is to go out, or is under way.
    Claiming,
    /// Nobody knows whether its claim was carried out: it is being read.
    Checking,
    /// It is ours, and its worker is to be asked.
    Starting,
    /// Its worker is being asked.
    Asking,
    /// It is to be given back, or that is under way.
    Returning,
    /// It was handed to the platform, or nobody knows: its outcome will come, or it expires.
    Away,
    /// How it ends is known.
    Settling,
    /// It could not be settled: it is being read.
    Rereading,
}

/// How a task goes on.
#[derive(Debug, Clone)]
enum Verdict {
    Close(Closing),
    Park {
        due_ms: i64,
        error: Option<LastError>,
    },
    /// The closed table has it.
    Discard,
}

/// A task in hand.
struct Held {
    desk: usize,
    task: StoredTask,
    values: Values,
    /// Its claim, until it goes out for the first time.
    claim: Option<Update>,
    stage: Stage,
    /// Whether it takes a slot of ours.
    counted: bool,
    /// When its claim was decided.
    since: Duration,
    /// When its worker was asked.
    asked_at: Option<Duration>,
    /// It counts among those whose answer is waited for.
    waited_for: bool,
    /// An update of it went without an answer: it may have been carried out, or may be yet.
    in_doubt: bool,
    /// It is settled by itself, since it was refused in company.
    alone: bool,
    /// It was handed to the platform, which never started it: its attempt stays counted when it is given back.
    never_started: bool,
    /// It may only be settled with less, since the whole is too large.
    bare: bool,
    verdict: Option<Verdict>,
    /// Outcomes that are acknowledged once it is settled.
    handles: Vec<String>,
    timer: Option<(Duration, u64)>,
}

/// What was claimed or settled lately.
struct Recent {
    /// Its attempts after the claim.
    attempts: u32,
    ticket: Greenfield,
    until: Duration,
}

/// Where the lock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is ours, and claims go out.
    Claiming,
    /// No more claims; once all are answered it is released.
    Stopping,
    /// Its release is under way.
    Releasing,
    /// It is given back or lost: what is under way is settled.
    Released,
}

/// Counts of what an invocation has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// Attempts whose workers were started, or may have been.
    pub started: u64,
    /// Tasks closed as succeeded.
    pub succeeded: u64,
    /// Tasks closed as failed.
    pub failed: u64,
    /// Tasks closed as expired.
    pub expired: u64,
    /// Attempts that failed or expired, whose tasks wait for another.
    pub retried: u64,
    /// Tasks put back into the queue after their wait.
    pub requeued: u64,
    /// Claimed tasks that were given back unstarted.
    pub given_back: u64,
}

/// Dispatching under way.
pub(crate) struct Dispatch {
    settings: Settings,
    desks: Vec<Desk>,
    tasks: HashMap<String, Held>,
    recent: HashMap<String, Recent>,
    recent_order: VecDeque<(Duration, String)>,
    /// Labourers for whom there may be something to do.
    dirty: VecDeque<usize>,
    is_dirty: Vec<bool>,
    /// When there is for the others, soonest first, and for each.
    wakes: BTreeSet<(Duration, usize)>,
    wakes_at: Vec<Option<Duration>>,
    timers: BTreeMap<(Duration, u64), String>,
    next_timer: u64,
    updates: VecDeque<(String, Purpose)>,
    updates_in_flight: usize,
    to_check: VecDeque<String>,
    to_ask: VecDeque<String>,
    to_settle: VecDeque<String>,
    settles_in_flight: usize,
    checks_in_flight: usize,
    to_acknowledge: Vec<String>,
    acknowledging: bool,
    receiving: bool,
    /// Outcomes of tasks that are not in our hands, which are being read.
    news: HashMap<String, (outcome::News, String)>,
    renewing: bool,
    /// What follows from an answer.
    pending: Vec<Action>,
    tables: Backoff,
    outcomes: Backoff,
    waited_for: usize,
    phase: Phase,
    end: Option<End>,
    idle_since: Option<Duration>,
    chance: u64,
    bytes_ready: usize,
    unreadable: HashSet<String>,
    observed: Vec<Observation>,
    /// When is told again how the labourers are doing; none: no more.
    next_sample: Option<Duration>,
    tally: Tally,
}

impl Dispatch {
    /// The labourers of a group, each with what is known of others' tasks, which was written down `released` ago; `seed`
    /// is chance.
    pub(crate) fn new(
        settings: Settings,
        labourers: Vec<(String, Labourer, Foreign)>,
        released: Duration,
        now: Duration,
        seed: u64,
    ) -> Self {
        let desks: Vec<Desk> = labourers
            .into_iter()
            .map(|(id, labourer, foreign)| {
                let mut desk = Desk::new(id, labourer, foreign, released, now);
                desk.health.judge(settings.coefficients);
                desk
            })
            .collect();
        Self {
            dirty: (0..desks.len()).collect(),
            is_dirty: vec![true; desks.len()],
            wakes: BTreeSet::new(),
            wakes_at: vec![None; desks.len()],
            desks,
            tasks: HashMap::new(),
            recent: HashMap::new(),
            recent_order: VecDeque::new(),
            timers: BTreeMap::new(),
            next_timer: 0,
            updates: VecDeque::new(),
            updates_in_flight: 0,
            to_check: VecDeque::new(),
            to_ask: VecDeque::new(),
            to_settle: VecDeque::new(),
            settles_in_flight: 0,
            checks_in_flight: 0,
            to_acknowledge: Vec::new(),
            acknowledging: false,
            receiving: false,
            news: HashMap::new(),
            renewing: false,
            pending: Vec::new(),
            tables: Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF),
            outcomes: Backoff::new(FIRST_BACKOFF, LONGEST_DEAFNESS),
            waited_for: 0,
            phase: Phase::Claiming,
            end: None,
            idle_since: None,
            chance: seed,
            bytes_ready: 0,
            unreadable: HashSet::new(),
            observed: Vec::new(),
            next_sample: Some(now + SAMPLE_PAUSE),
            tally: Tally::default(),
            settings,
        }
    }

    /// What was done so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Labourers of which nothing is started for now, and why.
    pub(crate) fn suspended(&self) -> BTreeMap<String, Unfit> {
        let why = |desk: &Desk| Some((desk.id.clone(), desk.suspension.clone()?.why));
        self.desks.iter().filter_map(why).collect()
    }

    /// What happened since the last call, for whoever watches.
    pub(crate) fn observed(&mut self) -> Vec<Observation> {
        std::mem::take(&mut self.observed)
    }

    fn observe(&mut self, observation: Observation) {
        self.observed.push(observation);
    }

    /// Tells how the labourers are doing, now and then. The tables are looked at every few seconds, so that nothing has to
    /// wake up for it.
    fn sample(&mut self, now: Now) {
        let goes_on = self.phase == Phase::Claiming;
        if self.next_sample.is_none_or(|next| goes_on && now.at < next) {
            return;
        }
        self.next_sample = goes_on.then_some(now.at + SAMPLE_PAUSE);
        let marks = self.marks(now);
        let samples = self.desks.iter().map(|desk| desk.sample(marks)).collect();
        self.observe(Observation::Sampled(samples));
    }

    fn marks(&self, now: Now) -> Marks {
        Marks::at(now.wall_ms, self.settings.delta)
    }

    /// 64 bits of chance (SplitMix64).
    fn random(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.chance;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn touch(&mut self, desk: usize) {
        if let Some(dirty) = self.is_dirty.get_mut(desk)
            && !std::mem::replace(dirty, true)
        {
            self.dirty.push_back(desk);
        }
    }

    fn set_timer(&mut self, task_id: &str, at: Duration) {
        let Some(held) = self.tasks.get_mut(task_id) else {
            return;
        };
        if let Some(old) = held.timer.take() {
            self.timers.remove(&old);
        }
        let key = (at, self.next_timer);
        self.next_timer += 1;
        held.timer = Some(key);
        self.timers.insert(key, task_id.to_owned());
    }

    fn drop_timer(&mut self, task_id: &str) {
        if let Some(held) = self.tasks.get_mut(task_id)
            && let Some(old) = held.timer.take()
        {
            self.timers.remove(&old);
        }
    }

    /// Whether a claim that goes out now lands within the lease.
    fn lease_is_good(&self, now: Now) -> bool {
        let needed = self.settings.request_time + LEASE_MARGIN;
        now.held_for + needed < self.settings.lease
    }

    /// What to do at this moment, and how long to wait then.
    pub(crate) fn step(&mut self, now: Now) -> Step {
        let mut actions = std::mem::take(&mut self.pending);
        let time_is_short = now.at >= self.settings.claims_until || now.should_stop;
        if time_is_short && self.phase == Phase::Claiming {
            self.phase = Phase::Stopping;
            self.end.get_or_insert(End::TimeShort);
        }
        self.fire_timers(now);
        self.forget(now);
        if self.phase == Phase::Claiming {
            self.tend(now, &mut actions);
        }
        self.send_updates(now, &mut actions);
        self.check(&mut actions);
        self.ask(now, &mut actions);
        self.settle(now, &mut actions);
        self.listen(now, &mut actions);
        self.keep_the_lock(now, &mut actions);
        self.sample(now);
        let then = self.then(now, actions.is_empty());
        Step { actions, then }
    }

    fn fire_timers(&mut self, now: Now) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now.at {
                break;
            }
            let task_id = entry.remove();
            let Some(held) = self.tasks.get_mut(&task_id) else {
                continue;
            };
            held.timer = None;
            match held.stage {
                Stage::Starting => self.to_ask.push_back(task_id),
                Stage::Away => self.expire(&task_id, now),
                _ => {}
            }
        }
        while let Some((at, desk)) = self.wakes.first().copied().filter(|(at, _)| *at <= now.at) {
            self.wakes.remove(&(at, desk));
            if let Some(wakes_at) = self.wakes_at.get_mut(desk) {
                *wakes_at = None;
            }
            self.touch(desk);
        }
    }

    fn note_wake(&mut self, desk: usize, now: Duration) {
        let next = self.desks.get(desk).and_then(|desk| desk.wakes_at(now));
        let Some(noted) = self.wakes_at.get_mut(desk) else {
            return;
        };
        if *noted == next {
            return;
        }
        if let Some(old) = std::mem::replace(noted, next) {
            self.wakes.remove(&(old, desk));
        }
        self.wakes.extend(next.map(|at| (at, desk)));
    }

    fn forget(&mut self, now: Now) {
        while let Some((until, _)) = self.recent_order.front() {
            if *until > now.at {
                break;
            }
            if let Some((until, task_id)) = self.recent_order.pop_front()
                && self
                    .recent
                    .get(&task_id)
                    .is_some_and(|recent| recent.until <= until)
            {
                self.recent.remove(&task_id);
            }
        }
    }

    fn remember(&mut self, task_id: &str, attempts: u32, ticket: Greenfield, now: Duration) {
        let until = now + REMEMBERED;
        self.recent.insert(
            task_id.to_owned(),
            Recent {
                attempts,
                ticket,
                until,
            },
        );
        self.recent_order.push_back((until, task_id.to_owned()));
    }

    /// Renews the lease in time, and gives the lock back when nothing of ours needs it.
    fn keep_the_lock(&mut self, now: Now, actions: &mut Vec<Action>) {
        let unanswered = |held: &Held| {
            matches!(
                held.stage,
                Stage::Claiming | Stage::Checking | Stage::Starting | Stage::Returning
            )
        };
        match self.phase {
            Phase::Claiming | Phase::Stopping
                if !self.renewing && now.held_for * 3 >= self.settings.lease =>
            {
                self.renewing = true;
                actions.push(Action::Renew(self.settings.claims_until.saturating_sub(now.at)));
            }
            Phase::Stopping if !self.renewing => {
                let answered = !self.tasks.values().any(unanswered) && self.updates_in_flight == 0;
                if answered {
                    self.phase = Phase::Releasing;
                    actions.push(Action::Release(self.used(now.at)));
                }
            }
            _ => {}
        }
    }

    /// What runs, by labourer; none: of one nobody knows, or a service has refused to tell what became of a claim.
    fn used(&mut self, now: Duration) -> Option<UsedSlots> {
        if matches!(self.end, Some(End::Failed(_))) {
            return None;
        }
        self.desks
            .iter_mut()
            .map(|desk| Some((desk.id.clone(), desk.used(now)?)))
            .collect()
    }

    fn then(&mut self, now: Now, nothing_to_do: bool) -> Then {
        if self.phase == Phase::Claiming && nothing_to_do {
            self.note_idleness(now);
        }
        let in_hand = |held: &Held| !matches!(held.stage, Stage::Away);
        let is_over = self.phase == Phase::Released
            && self.settles_in_flight == 0
            && (now.at + LAST_MOMENTS >= self.settings.deadline || !self.tasks.values().any(in_hand));
        if is_over && let Some(end) = self.end.take() {
            return Then::End(end);
        }
        let mut wake = match self.phase {
            Phase::Claiming => self.settings.claims_until,
            _ => self.settings.deadline.saturating_sub(LAST_MOMENTS),
        };
        if matches!(self.phase, Phase::Claiming | Phase::Stopping) && !self.renewing {
            wake = wake.min(now.at + (self.settings.lease / 3).saturating_sub(now.held_for));
        }
        let timer = self.timers.keys().next().map(|(at, _)| *at);
        let tables = self.tables.until(now.at);
        let outcomes = self.outcomes.until(now.at);
        let idle = self.idle_since.map(|since| since + self.settings.idle);
        let desks = self.wakes.first().map(|(at, _)| *at);
        let desks = desks.filter(|_| self.phase == Phase::Claiming);
        for at in [timer, tables, outcomes, idle, desks].into_iter().flatten() {
            wake = wake.min(at);
        }
        Then::Wait(wake.max(now.at + Duration::from_millis(1)))
    }

    fn note_idleness(&mut self, now: Now) {
        let until_ms = now.wall_ms + i64::try_from(self.settings.idle.as_millis()).unwrap_or(i64::MAX);
        let waits = self.settings.waits_for_retries;
        let idle = self.tasks.is_empty()
            && self.updates_in_flight == 0
            && self.desks.iter().all(|desk| desk.is_idle(waits, until_ms));
        if !idle {
            self.idle_since = None;
            return;
        }
        let since = *self.idle_since.get_or_insert(now.at);
        if now.at.saturating_sub(since) >= self.settings.idle {
            self.phase = Phase::Stopping;
            self.end.get_or_insert(End::Idle);
        }
    }
}

/// About how many bytes a task takes.
fn bytes_of(record: &Record) -> usize {
    use jobmill_core::task::record::Attribute;
    let of = |value: &Attribute| match value {
        Attribute::S(text) | Attribute::N(text) => text.len(),
        _ => 64,
    };
    record
        .iter()
        .map(|(name, value)| name.len() + of(value) + 64)
        .sum()
}
