//! From a queued task to a closed one: claim, start, settle, expire, retry.

mod observe;
mod outcome;
mod perform;
pub mod ports;
mod step;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join;
use futures_util::stream::{self, StreamExt as _};
use jobmill_core::config::Config;
use jobmill_core::queue::group::{GroupLock, UsedSlots, Wake};
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::labourer::{Completion, LONGEST_RESPONSE, Labourer};
use jobmill_core::task::life::Marks;
use jobmill_core::task::record::{Record, number_of};
use jobmill_core::task::write::{Index, Range};
use jobmill_core::{Error, ErrorKind};

use crate::dispatch::perform::{Tools, perform};
use crate::dispatch::ports::{Outcomes, Tables, Workers};
use crate::dispatch::step::{Dispatch, End, Foreign, INDEX_LAG, Settings};
use crate::error::{During as _, EngineError};
use crate::lease::{Found, Lease, find};
use crate::mutants::{self, Mutant};
use crate::ports::{Clock, ObjectStore, Random};
use crate::retry::retry;

pub use observe::{Observation, Observer, Sample};
pub use outcome::{Ended, Outcome, Summary};
pub use step::Tally;

/// Before the end of an invocation so much time is kept for what is under way, beside the answers of workers: a start may
/// be tried for 10 s after its claim.
const MARGIN: Duration = Duration::from_secs(20);
/// So many labourers are looked at side by side before the lock is taken.
const LOOKS_AT_ONCE: usize = 16;
/// How often is looked whether a holder that ends has released the lock.
const RELEASE_PAUSE: Duration = Duration::from_secs(1);

/// What an invocation works with. Built once; each wake-up is one [`Dispatcher::run`].
pub struct Dispatcher<'a, S, T, W, O, H> {
    /// The bucket, for the lock.
    pub store: &'a S,
    /// The tables.
    pub tables: &'a T,
    /// The workers' functions.
    pub workers: &'a W,
    /// The queue of outcomes.
    pub outcomes: &'a O,
    /// Time and chance.
    pub host: &'a H,
    /// The configuration.
    pub config: &'a Config,
    /// How long one request to the tables may take at most: no claim goes out when the lease has less left.
    pub request_time: Duration,
    /// Told what happens.
    pub observer: &'a Observer<'a>,
}

/// What an invocation is asked for.
#[derive(Debug, Clone)]
pub struct WakeUp {
    /// The group of labourers.
    pub group: String,
    /// Who asks, for people: the request id.
    pub owner: String,
    /// When the platform ends it, by the monotonic clock of the host.
    pub deadline: Duration,
    /// With nothing to do for so long it ends.
    pub idle: Duration,
    /// Whether tasks that wait for another attempt are something to do, however long they wait.
    pub waits_for_retries: bool,
}

impl<S: ObjectStore, T: Tables, W: Workers, O: Outcomes, H: Clock + Random> Dispatcher<'_, S, T, W, O, H> {
    /// Dispatches the tasks of a group until there is nothing to do or the time is short.
    ///
    /// # Errors
    /// `Input` if the group has no labourers, the time is too short or the lock is damaged; `Port` if a service did not do
    /// what was asked. Nothing is lost: the next wake-up goes on.
    pub async fn run(&self, wake_up: &WakeUp) -> Result<Outcome, EngineError> {
        let labourers = self.labourers(&wake_up.group)?;
        let key = self.config.group_key(&wake_up.group);
        let claims_until = self.claims_until(&labourers, wake_up)?;
        let found = find::<GroupLock>(self.store, self.host, &key).await?;
        if let Some(found) = &found
            && found.lock.on_wake_up(found.age) == Wake::Leave
        {
            return Ok(held_elsewhere(found));
        }
        let used_by_others = found.as_ref().is_some_and(|found| {
            found.lock.holder.is_some()
                || found
                    .lock
                    .used
                    .as_ref()
                    .is_none_or(|used| used.values().any(|used| used.tasks > 0))
        });
        if !used_by_others && !self.anything_to_do(&labourers, wake_up.waits_for_retries).await? {
            return Ok(Outcome::NothingToDo);
        }
        let Some((lease, before)) = self.acquire(&key, wake_up, claims_until, found).await? else {
            let found = find::<GroupLock>(self.store, self.host, &key).await?;
            return Ok(found.as_ref().map_or(Outcome::NothingToDo, held_elsewhere));
        };
        let now = self.host.monotonic();
        let labourers = labourers
            .into_iter()
            .map(|(id, labourer)| {
                let foreign = before.of(&id, now);
                (id, labourer, foreign)
            })
            .collect();
        let settings = Settings {
            names: self.config.tables.fields.clone(),
            delta: self.config.greenfield_delta,
            step: self.config.greenfield_step,
            coefficients: self.config.coefficients,
            lease: Duration::from_secs(lease.lock.lease_seconds.into()),
            request_time: self.request_time,
            claims_until,
            deadline: wake_up.deadline,
            idle: wake_up.idle,
            waits_for_retries: wake_up.waits_for_retries,
            has_outcomes: self.outcomes.is_there(),
        };
        // The lower half of 128 random bits.
        let seed = self.host.random() as u64;
        let dispatch = Dispatch::new(settings, labourers, before.released(), now, seed);
        let tools = Tools {
            store: self.store,
            tables: self.tables,
            workers: self.workers,
            outcomes: self.outcomes,
            host: self.host,
            observer: self.observer,
        };
        let (dispatch, end) = perform(tools, dispatch, lease).await;
        let ended = match end {
            End::Idle => Ended::Idle,
            End::TimeShort => Ended::TimeShort,
            End::LockLost => Ended::LockLost,
            End::Failed(error) => return Err(error),
        };
        Ok(Outcome::Dispatched(Summary {
            ended,
            tally: dispatch.tally(),
            suspended: dispatch.suspended(),
        }))
    }

    fn labourers(&self, group: &str) -> Result<BTreeMap<String, Labourer>, EngineError> {
        let of_group = |(_, labourer): &(&String, &Labourer)| labourer.group == group;
        let labourers: BTreeMap<String, Labourer> = self
            .config
            .labourers
            .iter()
            .filter(of_group)
            .map(|(id, labourer)| (id.clone(), labourer.clone()))
            .collect();
        if labourers.is_empty() {
            return Err(EngineError::Input(Error::new(
                ErrorKind::InvalidEvent,
                format!(
                    "`group` is {group:?}, and no labourer of the configuration is in it: correct the name, or set `group` of a labourer"
                ),
            )));
        }
        Ok(labourers)
    }

    /// Until when claims may go out: what is waited for ends before the invocation does.
    fn claims_until(
        &self,
        labourers: &BTreeMap<String, Labourer>,
        wake_up: &WakeUp,
    ) -> Result<Duration, EngineError> {
        let waits = labourers.values().filter_map(|labourer| {
            let longest = labourer.max_duration.unwrap_or(LONGEST_RESPONSE);
            let is_waited_for = labourer.completion_for(longest) == Some(Completion::Response);
            is_waited_for.then_some(longest)
        });
        let longest = waits.max().unwrap_or_default();
        let left = wake_up.deadline.saturating_sub(self.host.monotonic());
        let needed = longest + MARGIN;
        if left <= needed {
            return Err(EngineError::Input(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "the answers of workers may take {} s, and this invocation has {} s: give the function a longer \
                     time-out, or the labourers a shorter `max_duration` or another `completion`",
                    longest.as_secs(),
                    left.as_secs()
                ),
            )));
        }
        Ok(wake_up.deadline.saturating_sub(needed))
    }

    /// Whether anything is queued, running or due. Needs no lock.
    async fn anything_to_do(
        &self,
        labourers: &BTreeMap<String, Labourer>,
        waits_for_retries: bool,
    ) -> Result<bool, EngineError> {
        let wall_ms = self.host.wall_ms();
        let marks = Marks::at(wall_ms, self.config.greenfield_delta);
        let due = match waits_for_retries {
            true => Greenfield::LAST,
            false => Greenfield::from_millis(wall_ms),
        };
        let mut looks = Vec::with_capacity(labourers.len());
        for (id, labourer) in labourers {
            looks.push(self.has_something(id, labourer, marks, due));
        }
        let mut looks = stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE);
        while let Some(found) = looks.next().await {
            if found? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether anything of a labourer is queued, running or due.
    async fn has_something(
        &self,
        id: &str,
        labourer: &Labourer,
        marks: Marks,
        due: Greenfield,
    ) -> Result<bool, EngineError> {
        let waiting = self.first(Index::Waiting, id, Greenfield::FIRST, due);
        let (is_in_queue, waiting) = join(self.is_in_queue(id, labourer, marks), waiting).await;
        Ok(is_in_queue? || waiting?.is_some())
    }

    /// Whether anything of a labourer is queued and due, or running.
    async fn is_in_queue(&self, id: &str, labourer: &Labourer, marks: Marks) -> Result<bool, EngineError> {
        let names = &self.config.tables.fields;
        let first = self.first(Index::Queue, id, Greenfield::FIRST, Greenfield::LAST);
        let first = first.await?;
        // A mark of a worker that came late is something to do also where nothing may be started.
        let is_completed = first
            .as_ref()
            .is_some_and(|record| record.contains_key(&names.completed_at));
        let first = first.and_then(|record| number_of(&record, &names.greenfield));
        Ok(match first {
            None => false,
            Some(_) if is_completed => true,
            Some(first) if first >= marks.first_running() => true,
            Some(first) if first <= marks.last_queued() && !labourer.is_held() => true,
            // Put there for a time to come, or held: what runs stands behind it.
            Some(_) => {
                let running = self.first(Index::Queue, id, marks.first_running(), Greenfield::LAST);
                running.await?.is_some()
            }
        })
    }

    /// The first item of a part of an index.
    async fn first(
        &self,
        index: Index,
        labourer_id: &str,
        from: Greenfield,
        to: Greenfield,
    ) -> Result<Option<Record>, EngineError> {
        let range = Range {
            index,
            labourer_id: labourer_id.to_owned(),
            from,
            to,
            limit: 1,
            after: None,
        };
        let page = retry(self.host, || self.tables.read(&range)).await;
        Ok(page.during("looking for tasks")?.records.into_iter().next())
    }

    /// Asks for the lock until it is ours, or somebody has it who goes on.
    async fn acquire(
        &self,
        key: &str,
        wake_up: &WakeUp,
        claims_until: Duration,
        mut found: Option<Found<GroupLock>>,
    ) -> Result<Option<(Lease<GroupLock>, Before)>, EngineError> {
        let holder = format!("{:032x}", self.host.random());
        let owner = wake_up.owner.as_str();
        let lease_seconds = self.config.lease_seconds;
        loop {
            let claims_for = claims_until.saturating_sub(self.host.monotonic());
            if claims_for < INDEX_LAG || self.host.should_stop() {
                return Ok(None);
            }
            let won = match found {
                None => {
                    let lock = GroupLock::create(&wake_up.group, &holder, owner, lease_seconds, claims_for);
                    let lease = Lease::create(self.store, self.host, key, lock).await?;
                    lease.map(|lease| (lease, Before::Nobody))
                }
                Some(Found { lock, etag, age }) => match lock.on_wake_up(age) {
                    Wake::Leave => return Ok(None),
                    Wake::Wait => {
                        self.host.sleep(RELEASE_PAUSE).await;
                        None
                    }
                    Wake::TakeOver => {
                        let before = match (&lock.holder, &lock.used) {
                            (None, Some(used)) => Before::Counted(used.clone(), age),
                            _ => Before::Unknown,
                        };
                        let next = lock.taken_over(&holder, owner, lease_seconds, claims_for);
                        let lease = Lease::take_over(self.store, self.host, key, next, etag).await?;
                        lease.map(|lease| (lease, before))
                    }
                },
            };
            if won.is_some() {
                return Ok(won);
            }
            found = find::<GroupLock>(self.store, self.host, key).await?;
        }
    }
}

/// What the one before has left behind.
enum Before {
    /// There was nobody.
    Nobody,
    /// A graceful release, with what was running, so long ago.
    Counted(UsedSlots, Duration),
    /// Its lease ran out, or it could not tell.
    Unknown,
}

impl Before {
    /// How long ago it was written down what was running.
    const fn released(&self) -> Duration {
        match self {
            Self::Counted(_, ago) => *ago,
            Self::Nobody | Self::Unknown => Duration::ZERO,
        }
    }

    /// What is known of a labourer.
    fn of(&self, id: &str, now: Duration) -> Foreign {
        if mutants::is(Mutant::TakenOverBlindly) {
            return Foreign::Seen(std::collections::HashMap::new());
        }
        match self {
            Self::Nobody => Foreign::Unknown { until: now },
            Self::Counted(used, _) => Foreign::Counted {
                used: used.get(id).cloned().unwrap_or_default(),
                until: now + INDEX_LAG,
            },
            Self::Unknown => Foreign::Unknown {
                until: now + INDEX_LAG,
            },
        }
    }
}

fn held_elsewhere(found: &Found<GroupLock>) -> Outcome {
    Outcome::HeldElsewhere {
        owner: found.lock.owner.clone(),
    }
}
