//! Draining: rows become tasks, many requests at a time, at the pace that the table allows.
//!
//! [`step`] decides; here is what performs it: one loop that waits for requests, reads, checkpoints and the clock.

pub(crate) mod lines;
mod step;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use jobmill_core::queue::lock::{Counters, Cursor};

use crate::error::EngineError;
use crate::lease::{Lease, Written};
use crate::mutants::{self, Mutant};
use crate::ports::{Clock, ObjectStore, PortResult, Random};
use crate::schedule::drain::lines::{Lines, READ_BYTES};
use crate::schedule::drain::step::{Action, Answer, Drain, Now, Sent, Then, Unit};
use crate::schedule::observe::{Observation, Observer};
use crate::schedule::ports::TaskTable;

pub(crate) use step::{End, Settings};

/// What a drain works with.
pub(crate) struct Tools<'a, S, T, H> {
    pub(crate) store: &'a S,
    pub(crate) tasks: &'a T,
    pub(crate) host: &'a H,
    pub(crate) rows_key: &'a str,
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

enum Event {
    Answered(Unit, Sent, Answer),
    Checkpointed(Box<Lease>, Result<Written, EngineError>),
    Read(PortResult<Option<Bytes>>),
    MetaRecorded(PortResult<()>),
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Turns rows into tasks until all are, or the time is short, or something is in the way.
pub(crate) async fn drain<'a, S, T, H>(
    tools: Tools<'a, S, T, H>,
    settings: Settings,
    lease: Lease,
    lines: Lines,
) -> Drained
where
    S: ObjectStore,
    T: TaskTable,
    H: Clock + Random,
{
    let Tools {
        store, tasks, host, ..
    } = tools;
    let mut drain = Drain::new(settings, &lease.lock, lines, host.monotonic());
    let mut held_since = lease.since();
    // Away while a checkpoint is under way.
    let mut lease = Some(lease);
    let mut pending: FuturesUnordered<Boxed<'a, Event>> = FuturesUnordered::new();
    let mut timer: Option<(Duration, Boxed<'a, ()>)> = None;
    loop {
        let now = Now {
            at: host.monotonic(),
            wall_ms: host.wall_ms(),
            held_for: held_since.elapsed(host),
            should_stop: host.should_stop(),
        };
        let step = drain.step(now);
        for action in step.actions {
            pending.push(match action {
                Action::Send(unit, sent) => Box::pin(send(tasks, unit, sent)),
                Action::Read(at) => {
                    Box::pin(
                        async move { Event::Read(store.get_range(tools.rows_key, at, READ_BYTES).await) },
                    )
                }
                Action::Checkpoint {
                    cursor,
                    claimed,
                    counters,
                } => {
                    let Some(mut held) = lease.take() else { continue };
                    Box::pin(async move {
                        let next = held.lock.advanced(cursor, claimed, counters);
                        let written = held.write(store, host, next).await;
                        Event::Checkpointed(Box::new(held), written)
                    })
                }
                Action::RecordMeta(rows) => {
                    Box::pin(async move { Event::MetaRecorded(tasks.record_meta(&rows).await) })
                }
            });
        }
        match (step.then, lease.take()) {
            (Then::End(end), Some(lease)) => {
                return Drained {
                    lease,
                    cursor: drain.cursor(),
                    sent: drain.sent(),
                    counters: drain.counters(),
                    end,
                };
            }
            // A drain ends only with the lock at hand.
            (Then::End(_), None) => {}
            (Then::Wait(until), held) => {
                lease = held;
                let armed = timer.as_ref().map(|(at, _)| *at);
                if let Some(until) = until.filter(|until| armed.is_none_or(|at| at > *until)) {
                    timer = Some((until, Box::pin(host.sleep(until.saturating_sub(now.at)))));
                }
            }
        }
        let event = match (&mut timer, pending.is_empty()) {
            (Some((_, sleep)), true) => {
                sleep.await;
                None
            }
            (Some((_, sleep)), false) => match select(pending.next(), sleep).await {
                Either::Left((event, _)) => event,
                Either::Right(((), _)) => None,
            },
            (None, _) => match pending.next().await {
                // Nothing under way, no timer and no end can't be at once: there is a timer until there is an end.
                None => continue,
                event => event,
            },
        };
        match event {
            None => timer = None,
            Some(Event::Read(answer)) => drain.read(answer),
            Some(Event::Checkpointed(held, written)) => {
                if matches!(written, Ok(Written::Stands)) {
                    held_since = held.since();
                }
                drain.checkpointed(written, held.lock.claimed);
                lease = Some(*held);
            }
            Some(Event::MetaRecorded(answer)) => drain.meta_recorded(answer),
            Some(Event::Answered(unit, sent, answer)) => {
                // 53 random bits: a share from 0 to 1.
                let jitter = ((host.random() >> 75) as f64) / ((1_u64 << 53) as f64);
                let labourer_id = unit.tasks.first().map(|task| task.labourer_id.clone());
                let effect = drain.answered(unit, sent, answer, host.monotonic(), jitter);
                (tools.observer)(Observation::Answered {
                    labourer_id: labourer_id.as_deref().unwrap_or_default(),
                    created: effect.created,
                    already_there: effect.already_there,
                    unprocessed: effect.pushed_back,
                    throttled: effect.throttled,
                });
                (tools.observer)(Observation::Progress {
                    done: drain.cursor().row,
                    rows: drain.total(),
                });
            }
        }
    }
}

async fn send<T: TaskTable>(tasks: &T, unit: Unit, sent: Sent) -> Event {
    let answer = match (unit.in_doubt, unit.tasks.first()) {
        (true, Some(task)) if !mutants::is(Mutant::InDoubtByBatch) => {
            Answer::InDoubt(tasks.create_in_doubt(task).await)
        }
        _ => Answer::Batch(tasks.create(&unit.tasks).await),
    };
    Event::Answered(unit, sent, answer)
}
