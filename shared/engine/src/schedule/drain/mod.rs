//! Draining: rows become tasks, many requests at a time, at the pace that the table allows.
//!
//! One loop owns all state; requests, reads and checkpoints are futures that it waits for. Whatever happens, no task is
//! sent that the lock does not claim, none when the lease may have run out, and none twice but by a way that can't
//! create it twice.

pub(crate) mod lines;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use jobmill_core::queue::lock::{Counters, Cursor, Stopped};
use jobmill_core::task::greenfield::GreenfieldRange;
use jobmill_core::task::identity::TaskIds;
use jobmill_core::task::item::{Task, item_bytes};
use jobmill_core::task::pacer::{Pacer, Send as MaySend};
use jobmill_core::task::row::payload_of;
use jobmill_core::task::tables::FieldNames;

use crate::error::EngineError;
use crate::lease::{Lease, Written};
use crate::limits::Limits;
use crate::mutants::{self, Mutant};
use crate::ports::{Clock, ObjectStore, PortError, PortResult, Random};
use crate::schedule::drain::lines::{Lines, Next, READ_BYTES};
use crate::schedule::observe::{Observation, Observer};
use crate::schedule::ports::{Created, InDoubt, MetaRow, TaskTable};

/// How much of the claim is used up before the next checkpoint goes out, in seconds of the present pace.
const WINDOW_SECONDS: f64 = 8.0;
/// Batches that wait for another try; beyond that no new rows are begun.
const MAX_WAITING: usize = 64;

/// What a drain needs beside its lease.
pub(crate) struct Work<'a, S, T, H> {
    pub(crate) store: &'a S,
    pub(crate) tasks: &'a T,
    pub(crate) host: &'a H,
    pub(crate) rows_key: &'a str,
    pub(crate) fields: &'a FieldNames,
    /// Rows before this one may have been sent by somebody else.
    pub(crate) in_doubt_until: u64,
    pub(crate) lane: GreenfieldRange,
    /// A line, counted from 1, that is passed over if it can't become a task.
    pub(crate) skip_line: Option<u64>,
    pub(crate) pacer: Pacer,
    pub(crate) meta: bool,
    /// When to stop, by the monotonic clock.
    pub(crate) stop_at: Duration,
    pub(crate) limits: Limits,
    /// How long a request may take: none goes out when the lease has less left.
    pub(crate) request_time: Duration,
    pub(crate) observer: &'a Observer<'a>,
}

/// How a drain ended, with everything answered that was asked.
pub(crate) struct Drained {
    pub(crate) lease: Lease,
    pub(crate) cursor: Cursor,
    /// Rows from here on were never sent, neither here nor by an earlier holder.
    pub(crate) sent: u64,
    pub(crate) counters: Counters,
    pub(crate) end: End,
}

/// Why a drain ended.
pub(crate) enum End {
    /// Every row is a task.
    All,
    /// The time is short.
    TimeShort,
    /// Somebody else has taken the lock over.
    Lost,
    /// The queue file is gone.
    FileGone,
    /// A row can't become a task.
    Stopped(Stopped),
    /// A service refused.
    Failed(EngineError),
}

/// Tasks that go out in one request.
struct Unit {
    /// The first row of the batch that they were read in.
    batch: u64,
    rows: Vec<u64>,
    tasks: Vec<Task>,
    in_doubt: bool,
}

/// A batch that is not yet wholly confirmed.
struct Open {
    byte: u64,
    unconfirmed: usize,
}

enum Answer {
    Batch(PortResult<Vec<Created>>),
    InDoubt(PortResult<InDoubt>),
}

enum Event {
    Answered {
        unit: Unit,
        sent_at: Duration,
        in_flight: usize,
        answer: Answer,
    },
    Checkpointed(Box<Lease>, Result<Written, EngineError>),
    Read(PortResult<Option<Bytes>>),
    MetaRecorded(PortResult<()>),
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type Pending<'a> = FuturesUnordered<Boxed<'a, Event>>;

struct State {
    lines: Lines,
    ids: TaskIds,
    total: u64,
    claimed: u64,
    window: u64,
    /// A batch that waits for more rows to be read.
    partial: Option<(Cursor, Unit)>,
    open: BTreeMap<u64, Open>,
    waiting: VecDeque<(Duration, Unit)>,
    counters: Counters,
    skip_line: Option<u64>,
    /// The wall clock when units were last asked for, in seconds, as tasks carry it.
    created_at: String,
    damaged: Option<Stopped>,
    end: Option<End>,
    /// Requests that may still change a table.
    in_flight: usize,
    meta_in_flight: usize,
    meta_warned: bool,
}

/// What came of asking for the next unit.
enum Ready {
    Unit(Unit),
    /// A read must come first.
    NotRead,
    /// The claim must go further first.
    NotClaimed,
    /// There is nothing more to send; perhaps something waits.
    Nothing,
}

impl State {
    fn new(lease: &Lease, lines: Lines, skip_line: Option<u64>, limits: Limits) -> Self {
        Self {
            lines,
            ids: TaskIds::of_run(&lease.lock.run),
            total: lease.lock.rows,
            claimed: match mutants::is(Mutant::NoClaim) {
                true => lease.lock.rows,
                false => lease.lock.claimed,
            },
            window: limits.first_window,
            partial: None,
            open: BTreeMap::new(),
            waiting: VecDeque::new(),
            counters: lease.lock.counters,
            skip_line,
            created_at: String::new(),
            damaged: None,
            end: None,
            in_flight: 0,
            meta_in_flight: 0,
            meta_warned: false,
        }
    }

    /// All rows before it are tasks.
    fn cursor(&self) -> Cursor {
        let unsent = self
            .partial
            .as_ref()
            .map_or_else(|| self.lines.cursor(), |(cursor, _)| *cursor);
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

    /// The first row that was not yet begun.
    fn next_row(&self) -> u64 {
        self.lines.cursor().row
    }

    fn all_confirmed(&self) -> bool {
        let open = !self.open.is_empty() && !mutants::is(Mutant::ReceiptEarly);
        !open && self.partial.is_none() && self.next_row() >= self.total
    }

    /// The next unit that may go out.
    fn next_unit<S, T, H: Clock + Random>(&mut self, work: &Work<'_, S, T, H>, now: Duration) -> Ready {
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
            let begun = self.partial.as_ref().map_or(0, |(_, unit)| unit.tasks.len());
            let in_doubt = next.row < work.in_doubt_until;
            let bounded = next.row >= self.total || self.damaged.is_some();
            if begun > 0 && (begun >= work.limits.batch || bounded || next.row >= self.claimed) {
                return self.begin();
            }
            if bounded {
                return Ready::Nothing;
            }
            if next.row >= self.claimed {
                return Ready::NotClaimed;
            }
            match self.lines.next() {
                Next::Line(line, _) => match self.task(work, next.row, &line) {
                    Ok(task) => {
                        let (_, unit) = self.partial.get_or_insert_with(|| {
                            let unit = Unit {
                                batch: next.row,
                                rows: Vec::with_capacity(work.limits.batch),
                                tasks: Vec::with_capacity(work.limits.batch),
                                in_doubt,
                            };
                            (next, unit)
                        });
                        unit.rows.push(next.row);
                        unit.tasks.push(task);
                        if in_doubt {
                            return self.begin();
                        }
                    }
                    // The cursor passes it when all rows before it are tasks.
                    Err(error) if self.skip_line == Some(next.row + 1) => {
                        tracing::warn!(line = next.row + 1, %error, "passed over, as was asked for");
                        self.counters.skipped += 1;
                    }
                    Err(error) => self.damage(next.row, error.to_string()),
                },
                Next::ReadMore => return Ready::NotRead,
                Next::End => self.damage(
                    next.row,
                    format!("the file ends here, and should have {} rows", self.total),
                ),
                Next::TooLong => self.damage(next.row, "the line has no end".to_owned()),
            }
        }
    }

    /// The partial batch becomes a unit that may go out.
    fn begin(&mut self) -> Ready {
        let Some((cursor, unit)) = self.partial.take() else {
            return Ready::Nothing;
        };
        self.open.insert(
            cursor.row,
            Open {
                byte: cursor.byte,
                unconfirmed: unit.tasks.len(),
            },
        );
        Ready::Unit(unit)
    }

    fn damage(&mut self, row: u64, error: String) {
        let stopped = Stopped { line: row + 1, error };
        if self
            .damaged
            .as_ref()
            .is_none_or(|earlier| stopped.line < earlier.line)
        {
            self.damaged = Some(stopped);
        }
    }

    fn task<S, T, H: Clock + Random>(
        &self,
        work: &Work<'_, S, T, H>,
        row: u64,
        line: &[u8],
    ) -> Result<Task, jobmill_core::Error> {
        let (labourer_id, payload) = payload_of(line)?;
        Ok(Task {
            task_id: self.ids.at(row),
            labourer_id,
            created_at: self.created_at.clone(),
            greenfield: work.lane.at(row),
            payload,
        })
    }

    fn confirm(&mut self, batch: u64, count: usize) {
        if let Some(open) = self.open.get_mut(&batch) {
            open.unconfirmed = open.unconfirmed.saturating_sub(count);
            if open.unconfirmed == 0 {
                self.open.remove(&batch);
            }
        }
    }

    /// Rows in doubt go one by one.
    fn put_in_doubt(&mut self, unit: Unit, ready: Duration) {
        for (row, task) in unit.rows.into_iter().zip(unit.tasks) {
            let unit = Unit {
                batch: unit.batch,
                rows: vec![row],
                tasks: vec![task],
                in_doubt: true,
            };
            self.waiting.push_back((ready, unit));
        }
    }

    /// Takes in what became of a request. Gives the tasks that were created now, for the meta table.
    fn answered(
        &mut self,
        unit: Unit,
        answer: Answer,
        now: Duration,
        backoff: Duration,
    ) -> (Vec<MetaRow>, Taken) {
        self.counters.requests += 1;
        let later = now + backoff;
        match answer {
            Answer::Batch(Ok(created)) if created.len() == unit.tasks.len() => {
                self.answered_each(unit, created, later)
            }
            Answer::Batch(Ok(_)) => {
                // An answer that does not fit its question is none.
                self.put_in_doubt(unit, now);
                (Vec::new(), Taken::default())
            }
            Answer::InDoubt(Ok(found)) => {
                let count = unit.tasks.len();
                self.confirm(unit.batch, count);
                let mut meta = Vec::new();
                match found {
                    InDoubt::Created => {
                        self.counters.created += count as u64;
                        meta.extend(unit.tasks.iter().map(meta_row));
                    }
                    InDoubt::AlreadyThere => self.counters.already_there += count as u64,
                }
                (
                    meta,
                    Taken {
                        taken: count,
                        pushed_back: 0,
                    },
                )
            }
            Answer::Batch(Err(error)) | Answer::InDoubt(Err(error)) => {
                let count = unit.tasks.len();
                match error {
                    PortError::Throttled { .. } => {
                        self.counters.throttled += count as u64;
                        self.waiting.push_back((later, unit));
                        return (
                            Vec::new(),
                            Taken {
                                taken: 0,
                                pushed_back: count,
                            },
                        );
                    }
                    PortError::Unknown { .. }
                    | PortError::Conflict { .. }
                    | PortError::PreconditionFailed { .. } => {
                        tracing::debug!(%error, "no definite answer: {count} tasks are in doubt");
                        match mutants::is(Mutant::UnknownSentAgain) {
                            true => self.waiting.push_back((later, unit)),
                            false => self.put_in_doubt(unit, later),
                        }
                    }
                    source @ PortError::Refused { .. } => {
                        // The rows stay open: the cursor does not pass them.
                        self.fail(EngineError::Port {
                            step: "creating tasks",
                            source,
                        });
                    }
                }
                (Vec::new(), Taken::default())
            }
        }
    }

    fn answered_each(&mut self, unit: Unit, created: Vec<Created>, later: Duration) -> (Vec<MetaRow>, Taken) {
        let mut meta = Vec::new();
        let (mut confirmed, mut pushed_back) = (0, 0);
        let unit_of = |in_doubt| Unit {
            batch: unit.batch,
            rows: Vec::new(),
            tasks: Vec::new(),
            in_doubt,
        };
        let (mut again, mut doubtful) = (unit_of(unit.in_doubt), unit_of(true));
        for ((row, task), created) in unit.rows.into_iter().zip(unit.tasks).zip(created) {
            match created {
                Created::Now => {
                    confirmed += 1;
                    self.counters.created += 1;
                    meta.push(meta_row(&task));
                }
                Created::AlreadyThere => {
                    confirmed += 1;
                    self.counters.already_there += 1;
                }
                Created::Throttled => {
                    pushed_back += 1;
                    self.counters.throttled += 1;
                    again.rows.push(row);
                    again.tasks.push(task);
                }
                Created::Unknown => {
                    doubtful.rows.push(row);
                    doubtful.tasks.push(task);
                }
                Created::Refused(why) if self.skip_line == Some(row + 1) => {
                    tracing::warn!(line = row + 1, why, "passed over, as was asked for");
                    confirmed += 1;
                    self.counters.skipped += 1;
                }
                Created::Refused(why) => self.damage(row, format!("its task was refused: {why}")),
            }
        }
        self.confirm(unit.batch, confirmed);
        if !again.tasks.is_empty() {
            self.waiting.push_back((later, again));
        }
        self.put_in_doubt(doubtful, later);
        (
            meta,
            Taken {
                taken: confirmed,
                pushed_back,
            },
        )
    }

    fn fail(&mut self, error: EngineError) {
        self.end.get_or_insert(End::Failed(error));
    }
}

fn meta_row(task: &Task) -> MetaRow {
    MetaRow {
        task_id: task.task_id.clone(),
        labourer_id: task.labourer_id.clone(),
    }
}

#[derive(Default)]
struct Taken {
    taken: usize,
    pushed_back: usize,
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

/// Turns rows into tasks until all are, or the time is short, or something is in the way.
pub(crate) async fn drain<'a, S, T, H>(mut work: Work<'a, S, T, H>, lease: Lease, lines: Lines) -> Drained
where
    S: ObjectStore,
    T: TaskTable,
    H: Clock + Random,
{
    let mut state = State::new(&lease, lines, work.skip_line, work.limits);
    let lease_time = Duration::from_secs(u64::from(lease.lock.lease_seconds));
    let mut held_since = lease.since();
    let mut lease = Some(lease);
    let mut pending: Pending<'a> = FuturesUnordered::new();
    let mut reading = false;
    let mut timer: Option<(Duration, Boxed<'a, ()>)> = None;
    let mut pace = Pace::new(work.host.monotonic(), state.cursor().row, work.limits);
    loop {
        let now = work.host.monotonic();
        if now >= work.stop_at && !state.all_confirmed() {
            state.end.get_or_insert(End::TimeShort);
        }
        let mut wake = work.stop_at;
        let mut wants_claim = false;
        if state.end.is_none() {
            let held = lease_time.saturating_sub(held_since.elapsed(work.host));
            let may_send = held > work.request_time || mutants::is(Mutant::LeaseIgnored);
            let wall_ms = work.host.wall_ms();
            state.created_at = format!("{}.{:03}", wall_ms.div_euclid(1000), wall_ms.rem_euclid(1000));
            while may_send && state.end.is_none() {
                match work.pacer.may_send(now, state.in_flight) {
                    MaySend::Now => {}
                    MaySend::At(at) => {
                        wake = wake.min(at);
                        break;
                    }
                    MaySend::AfterAnAnswer => break,
                }
                match state.next_unit(&work, now) {
                    Ready::Unit(unit) => {
                        state.in_flight += 1;
                        work.pacer.sent(write_units(&unit, work.fields));
                        pending.push(send(work.tasks, unit, now, state.in_flight));
                    }
                    Ready::NotClaimed => {
                        wants_claim = true;
                        break;
                    }
                    Ready::NotRead | Ready::Nothing => break,
                }
            }
            // After sending, which may have used up what was read.
            if !reading && let Some(at) = state.lines.wants() {
                reading = true;
                let (store, key) = (work.store, work.rows_key);
                pending.push(Box::pin(async move {
                    Event::Read(store.get_range(key, at, READ_BYTES).await)
                }));
            }
            if let Some((ready, _)) = state.waiting.iter().min_by_key(|(ready, _)| *ready) {
                // What is ready already waits for an answer or a lease, not for time.
                if *ready > now {
                    wake = wake.min(*ready);
                }
            }
            // Renewed after a third of the lease: the rest is for the write and its retries.
            let renew_at = now + (lease_time / 3).saturating_sub(held_since.elapsed(work.host));
            let unsent = state.claimed.saturating_sub(state.next_row());
            let low = state.claimed < state.total && unsent <= state.window / 2;
            if wants_claim || low || renew_at <= now {
                if let Some(mut held) = lease.take() {
                    state.window = pace.window(now, state.cursor().row, state.window, wants_claim);
                    let claimed = match mutants::is(Mutant::NoClaim) {
                        true => state.cursor().row,
                        false => (state.next_row() + state.window).min(state.total),
                    };
                    let next = held.lock.advanced(state.cursor(), claimed, state.counters);
                    let (store, host) = (work.store, work.host);
                    pending.push(Box::pin(async move {
                        let written = held.write(store, host, next).await;
                        Event::Checkpointed(Box::new(held), written)
                    }));
                }
            } else {
                wake = wake.min(renew_at);
            }
        }
        let quiet = state.in_flight == 0 && state.meta_in_flight == 0;
        if quiet && let Some(held) = lease.take() {
            let stuck = state.damaged.is_some() && state.waiting.is_empty() && state.partial.is_none();
            if state.all_confirmed() && matches!(state.end, None | Some(End::TimeShort)) {
                state.end = Some(End::All);
            } else if state.end.is_none() && stuck && !wants_claim {
                state.end = state.damaged.take().map(End::Stopped);
            }
            if let Some(end) = state.end.take() {
                return Drained {
                    lease: held,
                    cursor: state.cursor(),
                    sent: state.next_row().max(work.in_doubt_until),
                    counters: state.counters,
                    end,
                };
            }
            lease = Some(held);
        }
        // All may be confirmed after `stop_at`, with a checkpoint still under way: then there is no moment to wait for.
        let armed = timer.as_ref().is_some_and(|(at, _)| *at <= wake);
        if state.end.is_none() && wake > now && !armed {
            timer = Some((wake, Box::pin(work.host.sleep(wake.saturating_sub(now)))));
        }
        let event = match (&mut timer, pending.is_empty()) {
            (Some((_, sleep)), true) => {
                sleep.await;
                timer = None;
                continue;
            }
            (Some((_, sleep)), false) => match select(pending.next(), sleep).await {
                Either::Left((event, _)) => event,
                Either::Right(((), _)) => {
                    timer = None;
                    continue;
                }
            },
            (None, _) => pending.next().await,
        };
        match event {
            // Nothing under way, no timer and no end can't be at once: there is a timer until there is an end.
            None => {}
            Some(Event::Read(answer)) => {
                reading = false;
                match answer {
                    Ok(Some(read)) => state.lines.feed(read),
                    Ok(None) => {
                        state.end.get_or_insert(End::FileGone);
                    }
                    Err(source) => state.fail(EngineError::Port {
                        step: "reading the queue file",
                        source,
                    }),
                }
            }
            Some(Event::Checkpointed(held, written)) => {
                match written {
                    Ok(Written::Stands) => {
                        held_since = held.since();
                        if !mutants::is(Mutant::NoClaim) {
                            state.claimed = held.lock.claimed;
                        }
                    }
                    Ok(Written::Lost) => {
                        state.end.get_or_insert(End::Lost);
                    }
                    Err(error) => state.fail(error),
                }
                lease = Some(*held);
            }
            Some(Event::MetaRecorded(answer)) => {
                state.meta_in_flight -= 1;
                if let Err(error) = answer
                    && !std::mem::replace(&mut state.meta_warned, true)
                {
                    tracing::warn!(%error, "some meta rows were not written; tasks are not affected");
                }
            }
            Some(Event::Answered {
                unit,
                sent_at,
                in_flight,
                answer,
            }) => {
                state.in_flight -= 1;
                let now = work.host.monotonic();
                let units = write_units(&unit, work.fields);
                let sent = unit.tasks.len().max(1) as u64;
                // 53 random bits: a share from 0 to 1.
                let jitter = ((work.host.random() >> 75) as f64) / ((1_u64 << 53) as f64);
                let backoff = work.pacer.backoff(jitter);
                let throttled = matches!(
                    answer,
                    Answer::Batch(Err(PortError::Throttled { .. }))
                        | Answer::InDoubt(Err(PortError::Throttled { .. }))
                );
                let before = state.counters;
                let (meta, taken) = state.answered(unit, answer, now, backoff);
                let share = |count: usize| (units * count as u64).div_ceil(sent);
                work.pacer.answered(
                    now,
                    sent_at,
                    in_flight,
                    share(taken.taken),
                    share(taken.pushed_back),
                );
                if work.meta && !meta.is_empty() {
                    state.meta_in_flight += 1;
                    let tasks = work.tasks;
                    pending.push(Box::pin(async move {
                        Event::MetaRecorded(tasks.record_meta(&meta).await)
                    }));
                }
                (work.observer)(Observation::Answered {
                    created: state.counters.created - before.created,
                    already_there: state.counters.already_there - before.already_there,
                    unprocessed: if throttled { 0 } else { taken.pushed_back as u64 },
                    throttled,
                });
                (work.observer)(Observation::Progress {
                    done: state.cursor().row,
                    rows: state.total,
                });
            }
        }
    }
}

fn send<'a, T: TaskTable>(tasks: &'a T, unit: Unit, sent_at: Duration, in_flight: usize) -> Boxed<'a, Event> {
    Box::pin(async move {
        let answer = match (unit.in_doubt, unit.tasks.first()) {
            (true, Some(task)) if !mutants::is(Mutant::InDoubtByBatch) => {
                Answer::InDoubt(tasks.create_in_doubt(task).await)
            }
            _ => Answer::Batch(tasks.create(&unit.tasks).await),
        };
        Event::Answered {
            unit,
            sent_at,
            in_flight,
            answer,
        }
    })
}

/// How fast the cursor moves, for the size of the claim.
struct Pace {
    limits: Limits,
    since: Duration,
    row: u64,
}

impl Pace {
    fn new(now: Duration, row: u64, limits: Limits) -> Self {
        Self {
            limits,
            since: now,
            row,
        }
    }

    /// How far ahead the next claim should go.
    fn window(&mut self, now: Duration, row: u64, window: u64, used_up: bool) -> u64 {
        let seconds = now.saturating_sub(self.since).as_secs_f64().max(0.001);
        let rate = row.saturating_sub(self.row) as f64 / seconds;
        self.since = now;
        self.row = row;
        // At the lowest a claim of a few seconds; a claim that was used up before its checkpoint came was too small.
        let wanted = ((rate * WINDOW_SECONDS) as u64).min(window.saturating_mul(2));
        let grown = if used_up { window.saturating_mul(2) } else { 0 };
        wanted
            .max(grown)
            .clamp(self.limits.first_window, self.limits.last_window)
    }
}
