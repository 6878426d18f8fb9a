//! The decisions of a drain, without I/O and without a clock: what goes out next, what an answer means, when the claim
//! must go further, when it is over. Whoever performs them says what time it is and what came back.
//!
//! Whatever happens, no task is sent that the lock does not claim, none when the lease may have run out, and none twice
//! but by a way that can't create it twice.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use jobmill_core::queue::lock::{Counters, Cursor, Lock, StopReason, Stopped};
use jobmill_core::task::greenfield::GreenfieldRange;
use jobmill_core::task::identity::TaskIds;
use jobmill_core::task::item::{Task, item_bytes};
use jobmill_core::task::pacer::{MAX_LIMIT, Pacer, Send as MaySend};
use jobmill_core::task::row::payload_of;
use jobmill_core::task::tables::FieldNames;

use super::lines::{Lines, Next};
use crate::error::EngineError;
use crate::lease::Written;
use crate::limits::Limits;
use crate::mutants::{self, Mutant};
use crate::ports::{PortError, PortResult};
use crate::schedule::ports::{Created, InDoubt, MetaRow};

/// How much of the claim is used up before the next checkpoint goes out, in seconds of the present pace.
const WINDOW_SECONDS: f64 = 8.0;
/// Batches that wait for another try; beyond that no new rows are begun.
const MAX_WAITING: usize = 64;
/// Meta rows in one request, requests of them under way, and rows that wait for one at most. They are notes for people:
/// what does not fit is left out, and said.
const META_BATCH: usize = 25;
const META_IN_FLIGHT: usize = 4;
const META_WAITING: usize = 10_000;
/// How long a run that is otherwise done waits for its last meta rows.
const META_PATIENCE: Duration = Duration::from_secs(5);

/// What does not change in a drain.
pub(crate) struct Settings {
    pub(crate) ids: TaskIds,
    pub(crate) range: GreenfieldRange,
    pub(crate) fields: FieldNames,
    /// Rows before this one may have been sent by somebody else.
    pub(crate) in_doubt_until: u64,
    /// A line, counted from 1, that is passed over if it can't become a task.
    pub(crate) skip_line: Option<u64>,
    pub(crate) limits: Limits,
    /// Whether meta rows are written.
    pub(crate) meta: bool,
    /// When to stop, by the monotonic clock.
    pub(crate) stop_at: Duration,
    /// How long a request may take: none goes out when the lease has less left.
    pub(crate) request_time: Duration,
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

/// Tasks that go out in one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// The first row of the batch that they were read in.
    batch: u64,
    rows: Vec<u64>,
    pub(crate) tasks: Vec<Task>,
    /// Somebody may have sent them before: they go by transaction, one by one.
    pub(crate) in_doubt: bool,
    /// They were never sent before.
    first: bool,
}

/// What became of a request that creates tasks.
pub(crate) enum Answer {
    Batch(PortResult<Vec<Created>>),
    InDoubt(PortResult<InDoubt>),
}

/// What was known when a request went out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) at: Duration,
    /// Requests under way with it.
    pub(crate) in_flight: usize,
}

/// What is to be done now.
#[derive(Debug)]
pub(crate) enum Action {
    /// Create these tasks.
    Send(Unit, Sent),
    /// Read the queue file from there on.
    Read(u64),
    /// Write the lock: the cursor follows, the claim goes ahead, the lease begins anew.
    Checkpoint {
        cursor: Cursor,
        claimed: u64,
        counters: Counters,
    },
    /// Write meta rows.
    RecordMeta(Vec<MetaRow>),
}

/// What comes after the actions of a step.
#[derive(Debug)]
pub(crate) enum Then {
    /// Wait for an answer, and no longer than until then if there is something to do at that moment.
    Wait(Option<Duration>),
    /// It is over: nothing is under way that could change a table, and the lock is at hand.
    End(End),
}

/// Why a drain ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Every row is a task.
    All,
    /// The time is short.
    TimeShort,
    /// Somebody else has the lock.
    TakenOver,
    /// The lease ran out.
    RanOut,
    /// The queue file is gone.
    FileGone,
    /// A row can't become a task.
    Stopped(Stopped),
    /// A service refused.
    Failed(EngineError),
}

/// What an answer changed, for whoever watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Effect {
    pub(crate) created: u64,
    pub(crate) already_there: u64,
    /// Tasks that were pushed back one by one.
    pub(crate) pushed_back: u64,
    /// The request was pushed back as a whole.
    pub(crate) throttled: bool,
}

/// A batch that the cursor has not passed: some of its rows, or of rows before it, are not confirmed.
struct Open {
    byte: u64,
    unconfirmed: u64,
    counted: Counted,
}

/// What became of confirmed rows.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    created: u64,
    already_there: u64,
    skipped: u64,
}

impl Counted {
    const fn rows(self) -> u64 {
        self.created + self.already_there + self.skipped
    }

    fn add(&mut self, other: Self) {
        self.created += other.created;
        self.already_there += other.already_there;
        self.skipped += other.skipped;
    }
}

/// What came of asking for the next unit.
enum Ready {
    Unit(Unit),
    /// The claim must go further first.
    NotClaimed,
    /// There is nothing to send before something is read or answered, or time has passed.
    Nothing,
}

/// A drain under way.
pub(crate) struct Drain {
    settings: Settings,
    lines: Lines,
    total: u64,
    lease: Duration,
    claimed: u64,
    window: u64,
    pace: Pace,
    pacer: Pacer,
    /// A batch that waits for more rows to be read, where it begins, and its bytes.
    partial: Option<(Cursor, Unit, u64)>,
    open: BTreeMap<u64, Open>,
    waiting: VecDeque<(Duration, Unit)>,
    counters: Counters,
    /// The wall clock of the step, in seconds, as tasks carry it.
    created_at: String,
    damaged: Option<Stopped>,
    /// A line that is no row: the cursor stays before it.
    stops_at: Option<Cursor>,
    end: Option<End>,
    /// Requests that may still change a table.
    in_flight: usize,
    reading: bool,
    checkpointing: bool,
    meta: Meta,
}

impl Drain {
    /// A drain of the rows that `lines` hands out, under `lock`.
    pub(crate) fn new(settings: Settings, lock: &Lock, lines: Lines, now: Duration) -> Self {
        Self {
            pace: Pace {
                since: now,
                row: lines.cursor().row,
            },
            pacer: Pacer::new(MAX_LIMIT, now),
            lines,
            total: lock.rows,
            lease: Duration::from_secs(u64::from(lock.lease_seconds)),
            claimed: match mutants::is(Mutant::NoClaim) {
                true => lock.rows,
                false => lock.claimed,
            },
            window: settings.limits.first_window,
            partial: None,
            open: BTreeMap::new(),
            waiting: VecDeque::new(),
            counters: lock.counters,
            created_at: String::new(),
            damaged: None,
            stops_at: None,
            end: None,
            in_flight: 0,
            reading: false,
            checkpointing: false,
            meta: Meta::default(),
            settings,
        }
    }

    /// All rows before it are tasks.
    pub(crate) fn cursor(&self) -> Cursor {
        let unsent = self.unsent();
        match self.open.first_key_value() {
            Some(_) if mutants::is(Mutant::CursorEarly) => unsent,
            Some((row, open)) => Cursor {
                row: *row,
                byte: open.byte,
            }
            .min(unsent),
            None => unsent,
        }
    }

    /// Rows from here on were never sent, neither here nor by an earlier holder.
    pub(crate) fn sent(&self) -> u64 {
        self.next_row().max(self.settings.in_doubt_until)
    }

    /// What all holders have done for the rows before the cursor: whoever goes on there counts the others again.
    pub(crate) fn counters(&self) -> Counters {
        let mut ahead = Counted::default();
        self.open.values().for_each(|open| ahead.add(open.counted));
        Counters {
            created: self.counters.created.saturating_sub(ahead.created),
            already_there: self.counters.already_there.saturating_sub(ahead.already_there),
            skipped: self.counters.skipped.saturating_sub(ahead.skipped),
            ..self.counters
        }
    }

    /// How many rows the run has.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The first row that is in no request yet, or that can't be in any.
    fn unsent(&self) -> Cursor {
        let stops_at = self.stops_at.filter(|_| !mutants::is(Mutant::StopPassed));
        self.partial
            .as_ref()
            .map(|(cursor, ..)| *cursor)
            .or(stops_at)
            .unwrap_or_else(|| self.lines.cursor())
    }

    /// The first row that was not yet begun.
    fn next_row(&self) -> u64 {
        self.lines.cursor().row
    }

    fn all_confirmed(&self) -> bool {
        let open = !self.open.is_empty() && !mutants::is(Mutant::ReceiptEarly);
        let stopped = self.damaged.is_some() && !mutants::is(Mutant::StopPassed);
        !open && !stopped && self.partial.is_none() && self.next_row() >= self.total
    }

    /// What to do at this moment, and how long to wait then.
    pub(crate) fn step(&mut self, now: Now) -> Step {
        let mut actions = Vec::new();
        let time_is_short = now.at >= self.settings.stop_at || now.should_stop;
        if time_is_short && !self.all_confirmed() {
            self.end.get_or_insert(End::TimeShort);
        }
        let mut wake = self.settings.stop_at;
        let mut wants_claim = false;
        if self.end.is_none() {
            wants_claim = self.send(now, &mut actions, &mut wake);
            // After sending, which may have used up what was read.
            if !self.reading
                && let Some(at) = self.lines.wants()
            {
                self.reading = true;
                actions.push(Action::Read(at));
            }
            // What is ready already waits for an answer or a lease, not for time.
            let ready = self.waiting.iter().map(|(ready, _)| *ready).min();
            wake = wake.min(ready.filter(|ready| *ready > now.at).unwrap_or(wake));
            self.checkpoint(now, wants_claim, &mut actions, &mut wake);
            actions.extend(self.meta.next().map(Action::RecordMeta));
        }
        if self.in_flight == 0 && !self.checkpointing {
            if self.all_confirmed() && matches!(self.end, None | Some(End::TimeShort)) {
                match self.meta.wait_until(now.at, self.settings.stop_at) {
                    Some(until) => wake = wake.min(until),
                    None => self.end = Some(End::All),
                }
            } else if self.end.is_none() && !wants_claim && self.waiting.is_empty() && self.partial.is_none()
            {
                self.end = self.damaged.take().map(End::Stopped);
            }
            if let Some(end) = self.end.take() {
                self.meta.give_up();
                return Step {
                    actions,
                    then: Then::End(end),
                };
            }
        }
        // All may be confirmed after `stop_at`, with a checkpoint still under way: then there is no moment to wait for.
        let until = (self.end.is_none() && wake > now.at).then_some(wake);
        Step {
            actions,
            then: Then::Wait(until),
        }
    }

    /// Sends what may go out. Whether it stopped for want of a claim.
    fn send(&mut self, now: Now, actions: &mut Vec<Action>, wake: &mut Duration) -> bool {
        let left = self.lease.saturating_sub(now.held_for);
        if left <= self.settings.request_time && !mutants::is(Mutant::LeaseIgnored) {
            return false;
        }
        self.created_at = format!(
            "{}.{:03}",
            now.wall_ms.div_euclid(1000),
            now.wall_ms.rem_euclid(1000)
        );
        loop {
            match self.pacer.may_send(now.at, self.in_flight) {
                MaySend::Now => {}
                MaySend::At(at) => {
                    *wake = at.min(*wake);
                    return false;
                }
                MaySend::AfterAnAnswer => return false,
            }
            match self.next_unit(now.at) {
                Ready::Unit(unit) => {
                    self.in_flight += 1;
                    self.pacer.sent(write_units(&unit, &self.settings.fields));
                    let sent = Sent {
                        at: now.at,
                        in_flight: self.in_flight,
                    };
                    actions.push(Action::Send(unit, sent));
                }
                Ready::NotClaimed => return true,
                Ready::Nothing => return false,
            }
        }
    }

    /// The next unit that may go out.
    fn next_unit(&mut self, now: Duration) -> Ready {
        if let Some(at) = self.waiting.iter().position(|(ready, _)| *ready <= now)
            && let Some((_, unit)) = self.waiting.remove(at)
        {
            return Ready::Unit(unit);
        }
        if self.waiting.len() >= MAX_WAITING {
            return Ready::Nothing;
        }
        loop {
            let next = self.lines.cursor();
            let bounded = next.row >= self.total || self.damaged.is_some();
            let limits = self.settings.limits;
            let full =
                |unit: &Unit, bytes: u64| unit.tasks.len() >= limits.batch || bytes >= limits.batch_bytes;
            if self.partial.as_ref().is_some_and(|(_, unit, bytes)| {
                unit.in_doubt || full(unit, *bytes) || bounded || next.row >= self.claimed
            }) {
                return self.begin();
            }
            if bounded {
                return Ready::Nothing;
            }
            if next.row >= self.claimed {
                return Ready::NotClaimed;
            }
            match self.lines.next() {
                Next::Line(line, _) => match self.task(next.row, &line) {
                    Ok(task) => self.add(next, task),
                    // The cursor passes it when all rows before it are tasks.
                    Err(error) if self.settings.skip_line == Some(next.row + 1) => {
                        tracing::warn!(line = next.row + 1, %error, "passed over, as was asked for");
                        self.pass_over(next);
                    }
                    Err(error) => {
                        self.stops_at = Some(next);
                        self.damage(next.row, StopReason::Row, &error.to_string());
                    }
                },
                Next::ReadMore => return Ready::Nothing,
                Next::End => {
                    let why = format!("the file ends here, and should have {} rows", self.total);
                    self.damage(next.row, StopReason::Row, &why);
                }
                Next::TooLong => self.damage(next.row, StopReason::Row, "the line has no end"),
            }
        }
    }

    /// Puts a task into the batch that is being filled.
    fn add(&mut self, at: Cursor, task: Task) {
        let size = item_bytes(
            &self.settings.fields,
            &task.labourer_id,
            task.payload.len() as u64,
        );
        let in_doubt = at.row < self.settings.in_doubt_until;
        let capacity = self.settings.limits.batch;
        let (_, unit, bytes) = self.partial.get_or_insert_with(|| {
            let unit = Unit {
                batch: at.row,
                rows: Vec::with_capacity(capacity),
                tasks: Vec::with_capacity(capacity),
                in_doubt,
                first: true,
            };
            (at, unit, 0)
        });
        unit.rows.push(at.row);
        unit.tasks.push(task);
        *bytes += size;
    }

    /// The partial batch becomes a unit that may go out.
    fn begin(&mut self) -> Ready {
        let Some((cursor, unit, _)) = self.partial.take() else {
            return Ready::Nothing;
        };
        self.open.insert(
            cursor.row,
            Open {
                byte: cursor.byte,
                unconfirmed: unit.tasks.len() as u64,
                counted: Counted::default(),
            },
        );
        Ready::Unit(unit)
    }

    fn task(&self, row: u64, line: &[u8]) -> Result<Task, jobmill_core::Error> {
        let (labourer_id, payload) = payload_of(line)?;
        Ok(Task {
            task_id: self.settings.ids.at(row),
            labourer_id,
            created_at: self.created_at.clone(),
            greenfield: self.settings.range.at(row),
            payload,
        })
    }

    /// Sends the lock on its way, if the claim must go further or the lease is a third over.
    fn checkpoint(&mut self, now: Now, wants_claim: bool, actions: &mut Vec<Action>, wake: &mut Duration) {
        // Renewed after a third of the lease: the rest is for the write and its retries.
        let renew_at = now.at + (self.lease / 3).saturating_sub(now.held_for);
        let cursor = self.cursor();
        let unsent = self.claimed.saturating_sub(self.next_row());
        let low = self.claimed < self.total && unsent <= self.window / 2;
        // A row that lags behind holds the claim back: after a crash each claimed row costs a transaction.
        let farthest = match mutants::is(Mutant::ClaimUnbounded) {
            true => self.total,
            false => cursor
                .row
                .saturating_add(self.settings.limits.last_window)
                .min(self.total),
        };
        let may_grow = farthest > self.claimed || mutants::is(Mutant::NoClaim);
        if renew_at > now.at && !((wants_claim || low) && may_grow) {
            *wake = renew_at.min(*wake);
            return;
        }
        if self.checkpointing {
            return;
        }
        self.checkpointing = true;
        self.window = self
            .pace
            .window(now.at, cursor.row, self.window, wants_claim, self.settings.limits);
        let claimed = match mutants::is(Mutant::NoClaim) {
            true => cursor.row,
            false => (self.next_row() + self.window).min(farthest),
        };
        actions.push(Action::Checkpoint {
            cursor,
            claimed,
            counters: self.counters(),
        });
    }

    /// A checkpoint was answered; `claimed` is what the lock says then.
    pub(crate) fn checkpointed(&mut self, written: Result<Written, EngineError>, claimed: u64) {
        self.checkpointing = false;
        match written {
            Ok(Written::Stands) if mutants::is(Mutant::NoClaim) => {}
            Ok(Written::Stands) => self.claimed = claimed,
            Ok(Written::TakenOver) => {
                self.end.get_or_insert(End::TakenOver);
            }
            Ok(Written::RanOut) => {
                self.end.get_or_insert(End::RanOut);
            }
            Err(error) => self.fail(error),
        }
    }

    /// A read was answered.
    pub(crate) fn read(&mut self, answer: PortResult<Option<Bytes>>) {
        self.reading = false;
        match answer {
            Ok(Some(read)) => self.lines.feed(read),
            Ok(None) => {
                self.end.get_or_insert(End::FileGone);
            }
            Err(source) => self.fail(EngineError::Port {
                step: "reading the queue file",
                source,
            }),
        }
    }

    /// Meta rows were written, or not.
    pub(crate) fn meta_recorded(&mut self, answer: PortResult<()>) {
        self.meta.answered(answer);
    }

    /// Takes in what became of a request; `jitter` is from 0 to 1.
    pub(crate) fn answered(
        &mut self,
        unit: Unit,
        sent: Sent,
        answer: Answer,
        now: Duration,
        jitter: f64,
    ) -> Effect {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.counters.requests += 1;
        let before = self.counters;
        let (units, count) = (
            write_units(&unit, &self.settings.fields),
            unit.tasks.len().max(1) as u64,
        );
        let throttled = matches!(
            answer,
            Answer::Batch(Err(PortError::Throttled { .. }))
                | Answer::InDoubt(Err(PortError::Throttled { .. }))
        );
        let mut back = Vec::new();
        let (mut counted, mut pushed_back, mut unknown) = (Counted::default(), 0_u64, false);
        let batch = unit.batch;
        match outcomes(&unit, answer) {
            Ok(outcomes) => {
                for ((row, task), outcome) in unit.rows.into_iter().zip(unit.tasks).zip(outcomes) {
                    match outcome {
                        Created::Now => {
                            counted.created += 1;
                            if self.settings.meta {
                                self.meta.add(&task);
                            }
                        }
                        Created::AlreadyThere
                            if unit.first && !unit.in_doubt && !mutants::is(Mutant::TakenForOurs) =>
                        {
                            let why = format!(
                                "its task {} is there already, though it was never sent: another deployment made it, or \
                                 this run was completed so long ago that its receipt is gone",
                                task.task_id
                            );
                            self.damage(row, StopReason::TaskIdTaken, &why);
                        }
                        Created::AlreadyThere => {
                            counted.already_there += 1;
                        }
                        Created::Throttled => {
                            pushed_back += 1;
                            self.counters.throttled += 1;
                            back.push((row, task, unit.in_doubt));
                        }
                        Created::Unknown => {
                            unknown = true;
                            back.push((row, task, !mutants::is(Mutant::UnknownSentAgain)));
                        }
                        Created::Refused(why) if self.settings.skip_line == Some(row + 1) => {
                            tracing::warn!(line = row + 1, why, "passed over, as was asked for");
                            counted.skipped += 1;
                        }
                        Created::Refused(why) => {
                            let why = format!("its task was refused: {why}");
                            self.damage(row, StopReason::Row, &why);
                        }
                    }
                }
            }
            // The rows stay open: the cursor does not pass them.
            Err(source) => self.fail(EngineError::Port {
                step: "creating tasks",
                source,
            }),
        }
        self.confirm(batch, counted);
        // Units of the request, by the share of its tasks.
        let share = |tasks: u64| (units * tasks).div_ceil(count);
        if unknown && !mutants::is(Mutant::UnknownAtOnce) {
            self.pacer.unanswered(now, sent.at, jitter);
        }
        self.pacer.answered(
            now,
            sent.at,
            sent.in_flight,
            share(counted.rows()),
            share(pushed_back),
        );
        self.send_again(batch, back, now + self.pacer.backoff(jitter));
        Effect {
            created: self.counters.created - before.created,
            already_there: self.counters.already_there - before.already_there,
            pushed_back: if throttled { 0 } else { pushed_back },
            throttled,
        }
    }

    /// Tasks that come again: those in doubt one by one, the others together.
    fn send_again(&mut self, batch: u64, back: Vec<(u64, Task, bool)>, ready: Duration) {
        let unit = |in_doubt| Unit {
            batch,
            rows: Vec::new(),
            tasks: Vec::new(),
            in_doubt,
            first: false,
        };
        let mut together = unit(false);
        for (row, task, in_doubt) in back {
            let mut alone = unit(true);
            let place = if in_doubt { &mut alone } else { &mut together };
            place.rows.push(row);
            place.tasks.push(task);
            if in_doubt {
                self.waiting.push_back((ready, alone));
            }
        }
        if !together.tasks.is_empty() {
            self.waiting.push_back((ready, together));
        }
    }

    fn confirm(&mut self, batch: u64, counted: Counted) {
        if let Some(open) = self.open.get_mut(&batch) {
            open.unconfirmed = open.unconfirmed.saturating_sub(counted.rows());
            open.counted.add(counted);
        }
        self.count(counted);
    }

    /// A row that never becomes a task.
    fn pass_over(&mut self, at: Cursor) {
        let counted = Counted {
            skipped: 1,
            ..Counted::default()
        };
        self.open.insert(
            at.row,
            Open {
                byte: at.byte,
                unconfirmed: 0,
                counted,
            },
        );
        self.count(counted);
    }

    /// Counts confirmed rows. The cursor passes batches that are wholly confirmed, up to the first that is not.
    fn count(&mut self, counted: Counted) {
        self.counters.created += counted.created;
        self.counters.already_there += counted.already_there;
        self.counters.skipped += counted.skipped;
        let unsent = self.unsent().row;
        while let Some(first) = self.open.first_entry()
            && first.get().unconfirmed == 0
            && *first.key() < unsent
        {
            first.remove();
        }
    }

    /// A row can't become a task: no further rows are begun, and the first such row is where the run stops.
    fn damage(&mut self, row: u64, reason: StopReason, error: &str) {
        let line = row + 1;
        if self.damaged.as_ref().is_none_or(|earlier| line < earlier.line) {
            self.damaged = Some(Stopped::new(line, reason, error));
        }
    }

    fn fail(&mut self, error: EngineError) {
        self.end.get_or_insert(End::Failed(error));
    }
}

/// What a step comes to.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) actions: Vec<Action>,
    pub(crate) then: Then,
}

/// What an answer says of each task of its unit.
///
/// # Errors
/// The service refused the request as a whole, or something around the program is wrong.
fn outcomes(unit: &Unit, answer: Answer) -> Result<Vec<Created>, PortError> {
    let all = |outcome: Created| Ok(vec![outcome; unit.tasks.len()]);
    match answer {
        Answer::Batch(Ok(created)) if created.len() == unit.tasks.len() => Ok(created),
        // An answer that does not fit its question is none.
        Answer::Batch(Ok(_)) => all(Created::Unknown),
        Answer::InDoubt(Ok(InDoubt::Created)) => all(Created::Now),
        Answer::InDoubt(Ok(InDoubt::AlreadyThere)) => all(Created::AlreadyThere),
        Answer::InDoubt(Ok(InDoubt::Refused(message))) if mutants::is(Mutant::RefusedInDoubtFails) => {
            Err(PortError::Refused {
                operation: "dynamodb:TransactWriteItems",
                code: "ValidationError".to_owned(),
                message,
            })
        }
        Answer::InDoubt(Ok(InDoubt::Refused(why))) => all(Created::Refused(why)),
        Answer::Batch(Err(error)) | Answer::InDoubt(Err(error)) => match error {
            PortError::Throttled { .. } => all(Created::Throttled),
            PortError::Unknown { .. } | PortError::Conflict { .. } | PortError::PreconditionFailed { .. } => {
                tracing::debug!(%error, "no definite answer: {} tasks are in doubt", unit.tasks.len());
                all(Created::Unknown)
            }
            source @ (PortError::Refused { .. } | PortError::Environment { .. }) => Err(source),
        },
    }
}

/// The write units of a request: one for each begun kilobyte of each item, twice that within a transaction.
fn write_units(unit: &Unit, fields: &FieldNames) -> u64 {
    let items: u64 = unit
        .tasks
        .iter()
        .map(|task| item_bytes(fields, &task.labourer_id, task.payload.len() as u64).div_ceil(1024))
        .sum();
    if unit.in_doubt { items * 2 } else { items }
}

/// Meta rows on their way to the table.
#[derive(Default)]
struct Meta {
    waiting: Vec<MetaRow>,
    in_flight: usize,
    left_out: u64,
    warned: bool,
    /// Since when only meta rows are waited for.
    patience: Option<Duration>,
}

impl Meta {
    fn add(&mut self, task: &Task) {
        if self.waiting.len() >= META_WAITING {
            self.left_out += 1;
            return;
        }
        self.waiting.push(MetaRow {
            task_id: task.task_id.clone(),
            labourer_id: task.labourer_id.clone(),
        });
    }

    /// The rows of the next request.
    fn next(&mut self) -> Option<Vec<MetaRow>> {
        if self.in_flight >= META_IN_FLIGHT || self.waiting.is_empty() {
            return None;
        }
        self.in_flight += 1;
        let count = self.waiting.len().min(META_BATCH);
        Some(self.waiting.drain(..count).collect())
    }

    fn answered(&mut self, answer: PortResult<()>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Err(error) = answer
            && !std::mem::replace(&mut self.warned, true)
        {
            tracing::warn!(%error, "some meta rows were not written; tasks are not affected");
        }
    }

    /// Until when a run that is otherwise done waits for them; none: no longer.
    fn wait_until(&mut self, now: Duration, stop_at: Duration) -> Option<Duration> {
        if self.in_flight == 0 && self.waiting.is_empty() {
            return None;
        }
        let until = *self.patience.get_or_insert(now + META_PATIENCE);
        Some(until.min(stop_at)).filter(|until| *until > now)
    }

    fn give_up(&mut self) {
        let left_out = self.left_out + self.waiting.len() as u64;
        if left_out > 0 {
            tracing::warn!(
                rows = left_out,
                "the meta table took too long: some meta rows were not written"
            );
        }
    }
}

/// How fast the cursor moves, for the size of the claim.
struct Pace {
    since: Duration,
    row: u64,
}

impl Pace {
    /// How far ahead the next claim should go.
    fn window(&mut self, now: Duration, row: u64, window: u64, used_up: bool, limits: Limits) -> u64 {
        let seconds = now.saturating_sub(self.since).as_secs_f64().max(0.001);
        let rate = row.saturating_sub(self.row) as f64 / seconds;
        *self = Self { since: now, row };
        // At the lowest a claim of a few seconds; a claim that was used up before its checkpoint came was too small.
        let wanted = ((rate * WINDOW_SECONDS) as u64).min(window.saturating_mul(2));
        let grown = if used_up { window.saturating_mul(2) } else { 0 };
        wanted.max(grown).clamp(limits.first_window, limits.last_window)
    }
}

#[cfg(test)]
mod tests;
