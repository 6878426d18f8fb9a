//! Performs what a step decides: one loop that waits for requests, workers, the lease and the clock.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::{Either, FutureExt as _, select};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use jobmill_core::queue::group::GroupLock;
use jobmill_core::task::record::Record;
use jobmill_core::task::write::{Page, Range};

use crate::dispatch::observe::Observer;
use crate::dispatch::ports::{Asked, News, Outcomes, Tables, Transacted, Unfit, Updated, Workers};
use crate::dispatch::step::{Action, Dispatch, End, Now, Purpose, Requeued, Step, Then};
use crate::error::EngineError;
use crate::lease::{Lease, Written};
use crate::ports::{Clock, ObjectStore, PortResult, Random};

/// What it works with.
pub(super) struct Tools<'a, S, T, W, O, H> {
    pub(super) store: &'a S,
    pub(super) tables: &'a T,
    pub(super) workers: &'a W,
    pub(super) outcomes: &'a O,
    pub(super) host: &'a H,
    pub(super) observer: &'a Observer<'a>,
}

impl<S, T, W, O, H> Clone for Tools<'_, S, T, W, O, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S, T, W, O, H> Copy for Tools<'_, S, T, W, O, H> {}

enum Event {
    Read(usize, Range, PortResult<Page>),
    Checked(String, PortResult<Option<Record>>),
    Updated(Vec<(String, Purpose)>, PortResult<Vec<Updated>>),
    Asked(String, Asked),
    Settled(Vec<String>, PortResult<Transacted>),
    Requeued(usize, Vec<Requeued>, PortResult<Transacted>),
    Fit(usize, PortResult<Result<Duration, Unfit>>),
    Measured(usize, usize, PortResult<Vec<f64>>),
    Received(PortResult<Vec<News>>),
    Acknowledged(PortResult<()>),
    Renewed(Box<Lease<GroupLock>>, Result<Written, EngineError>),
    Released(Box<Lease<GroupLock>>, Result<Written, EngineError>),
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Dispatches until it is over.
pub(super) async fn perform<'a, S, T, W, O, H>(
    tools: Tools<'a, S, T, W, O, H>,
    mut dispatch: Dispatch,
    lease: Lease<GroupLock>,
) -> (Dispatch, End)
where
    S: ObjectStore,
    T: Tables,
    W: Workers,
    O: Outcomes,
    H: Clock + Random,
{
    let host = tools.host;
    let mut held_since = lease.since();
    // Away while a write of it is under way.
    let mut lease = Some(Box::new(lease));
    let mut pending: FuturesUnordered<Boxed<'a, Event>> = FuturesUnordered::new();
    let mut timer: Option<(Duration, Boxed<'a, ()>)> = None;
    loop {
        let now = Now {
            at: host.monotonic(),
            wall_ms: host.wall_ms(),
            held_for: held_since.elapsed(host),
            should_stop: host.should_stop(),
        };
        let Step { actions, then } = dispatch.step(now);
        for observation in dispatch.observed() {
            (tools.observer)(observation);
        }
        for action in actions {
            if let Some(event) = begin(tools, action, &mut lease) {
                pending.push(event);
            }
        }
        let until = match then {
            Then::End(end) => return (dispatch, end),
            Then::Wait(until) => until,
        };
        // An earlier one does no harm.
        if timer.as_ref().is_none_or(|(at, _)| *at > until) {
            timer = Some((until, Box::pin(host.sleep(until.saturating_sub(now.at)))));
        }
        let event = match &mut timer {
            Some((_, sleep)) if !pending.is_empty() => match select(pending.next(), sleep).await {
                Either::Left((event, _)) => event,
                Either::Right(((), _)) => None,
            },
            Some((_, sleep)) => {
                sleep.await;
                None
            }
            None => pending.next().await,
        };
        let Some(event) = event else {
            timer = None;
            continue;
        };
        let mut next = Some(event);
        while let Some(event) = next {
            let now = Now {
                at: host.monotonic(),
                wall_ms: host.wall_ms(),
                ..now
            };
            match event {
                Event::Read(desk, range, answer) => dispatch.read_answered(desk, &range, answer, now),
                Event::Checked(task_id, answer) => dispatch.checked(&task_id, answer, now),
                Event::Updated(what, answer) => dispatch.updated(what, answer, now),
                Event::Asked(task_id, answer) => dispatch.asked(&task_id, answer, now),
                Event::Settled(what, answer) => dispatch.settled(what, answer, now),
                Event::Requeued(desk, what, answer) => dispatch.requeued(desk, what, answer, now),
                Event::Fit(desk, answer) => dispatch.fit(desk, answer, now),
                Event::Measured(desk, metric, answer) => dispatch.measured(desk, metric, answer),
                Event::Received(answer) => dispatch.received(answer, now),
                Event::Acknowledged(answer) => dispatch.acknowledged(&answer, now),
                Event::Renewed(held, written) => {
                    if matches!(written, Ok(Written::Stands)) {
                        held_since = held.since();
                    }
                    lease = Some(held);
                    dispatch.renewed(written);
                }
                Event::Released(held, written) => {
                    lease = Some(held);
                    dispatch.released(written);
                }
            }
            // What came meanwhile is dealt with together, so that what follows goes out together.
            next = pending.next().now_or_never().flatten();
        }
    }
}

/// Begins a request.
fn begin<'a, S, T, W, O, H>(
    tools: Tools<'a, S, T, W, O, H>,
    action: Action,
    lease: &mut Option<Box<Lease<GroupLock>>>,
) -> Option<Boxed<'a, Event>>
where
    S: ObjectStore,
    T: Tables,
    W: Workers,
    O: Outcomes,
    H: Clock + Random,
{
    let Tools {
        store,
        tables,
        workers,
        outcomes,
        host,
        ..
    } = tools;
    Some(match action {
        Action::Read(desk, range) => Box::pin(async move {
            let answer = tables.read(&range).await;
            Event::Read(desk, range, answer)
        }),
        Action::Check(task_id) => Box::pin(async move {
            let answer = tables.task(&task_id).await;
            Event::Checked(task_id, answer)
        }),
        Action::Update(what, updates) => {
            Box::pin(async move { Event::Updated(what, tables.update(&updates).await) })
        }
        Action::Ask {
            task_id,
            function,
            payload,
            asking,
        } => Box::pin(async move {
            let answer = workers.ask(&function, payload, asking).await;
            Event::Asked(task_id, answer)
        }),
        Action::Settle(what, writes) => {
            Box::pin(async move { Event::Settled(what, tables.transact(&writes).await) })
        }
        Action::Requeue(desk, what, writes) => {
            Box::pin(async move { Event::Requeued(desk, what, tables.transact(&writes).await) })
        }
        Action::Fit(desk, function) => {
            Box::pin(async move { Event::Fit(desk, workers.longest_run(&function).await) })
        }
        Action::Measure(desk, metric, source) => {
            Box::pin(async move { Event::Measured(desk, metric, workers.datapoints(&source).await) })
        }
        Action::Receive => Box::pin(async move { Event::Received(outcomes.receive().await) }),
        Action::Acknowledge(handles) => {
            Box::pin(async move { Event::Acknowledged(outcomes.acknowledge(&handles).await) })
        }
        Action::Renew(claims_for) => {
            let mut held = lease.take()?;
            Box::pin(async move {
                let next = held.lock.renewed(claims_for);
                let written = held.write(store, host, next).await;
                Event::Renewed(held, written)
            })
        }
        Action::Release(used) => {
            let mut held = lease.take()?;
            Box::pin(async move {
                let next = held.lock.released(used);
                let written = held.write(store, host, next).await;
                Event::Released(held, written)
            })
        }
    })
}
