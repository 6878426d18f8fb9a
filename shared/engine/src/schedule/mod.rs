//! From a request to an outcome: spool, lock, gate, drain, finish or hand over.

mod adopt;
mod drain;
mod observe;
mod outcome;
pub mod ports;
mod spool;
mod sweep;

use std::time::Duration;

use bytes::Bytes;
use jobmill_core::config::Config;
use jobmill_core::job::event::{Continuation, JobRequest, Request, check_run_id};
use jobmill_core::job::period::AsOf;
use jobmill_core::job::plan::Plan;
use jobmill_core::queue::lock::{Counters, Cursor, Lock, MAX_LOCK_BYTES, NewLock};
use jobmill_core::queue::names::Keys;
use jobmill_core::queue::receipt::Receipt;
use jobmill_core::task::greenfield::{Greenfield, GreenfieldRange};
use jobmill_core::task::pacer::{MAX_LIMIT, Pacer};
use jobmill_core::task::row::payload_of;
use jobmill_core::{Error, ErrorKind, Warning};

use crate::error::{During as _, EngineError};
use crate::lease::{ATTEMPTS, Lease, Written, again, find, pause};
use crate::limits::Limits;
use crate::mutants::{self, Mutant};
use crate::ports::{Clock, Metadata, ObjectStore, PortError, PutIf, Random};
use crate::schedule::drain::lines::{Lines, Next, READ_BYTES};
use crate::schedule::drain::{Drained, End, Work, drain};
use crate::schedule::ports::{Siblings, TaskTable};
use crate::schedule::spool::{Label, Spooled, conflict, spool};

pub use observe::{Observation, Observer};
pub use outcome::{NextHolder, Outcome, Summary};

/// An EventBridge event older than this may be a repetition whose receipt has aged out.
const OLDEST_EVENT: Duration = Duration::from_secs(30 * 24 * 3600);

/// What an invocation works with. Built once; each request is one [`Engine::run`].
pub struct Engine<'a, S, T, I, H> {
    /// The bucket.
    pub store: &'a S,
    /// The tables.
    pub tasks: &'a T,
    /// How to start another invocation.
    pub siblings: &'a I,
    /// Time and chance.
    pub host: &'a H,
    /// The configuration.
    pub config: &'a Config,
    /// How much is done at once.
    pub limits: Limits,
    /// How long one request that creates tasks may take at most: none goes out when the lease has less left.
    pub request_time: Duration,
    /// Told what happens.
    pub observer: &'a Observer<'a>,
}

/// What the platform says of this invocation.
#[derive(Debug, Clone)]
pub struct Context {
    /// Its id; the run id of a job that brings none. Lambda repeats it when it retries an asynchronous event.
    pub request_id: String,
    /// When the platform ends it, by the monotonic clock of the host.
    pub deadline: Duration,
}

/// How asking for a lock ended.
enum Hold {
    /// It is ours; rows before that one may have been sent by somebody else.
    Ours(Box<Lease>, u64),
    /// Somebody else holds it.
    Elsewhere,
    /// It was there and is gone: look again from the start.
    Gone,
}

/// What this invocation brings to the work beside the lock.
struct Brought {
    /// The rows, if they are in memory.
    file: Option<Bytes>,
    /// It wrote the rows.
    spooled: bool,
    hop: u32,
    skip_line: Option<u64>,
    warnings: Vec<Warning>,
}

impl<S: ObjectStore, T: TaskTable, I: Siblings, H: Clock + Random> Engine<'_, S, T, I, H> {
    /// Does what the request asks for.
    ///
    /// # Errors
    /// `Input` if the request can't be right: nothing was written. `Port` if a service did not do what was asked:
    /// nothing is lost, a retry of the same event or the sweep goes on.
    pub async fn run(&self, request: Request, context: &Context) -> Result<Outcome, EngineError> {
        // Measured before anything else, so that planning and spooling count.
        let started = self.host.monotonic();
        match request {
            Request::Job(job) => self.job(job, context, started).await,
            Request::Continue(continuation) => self.go_on(continuation, context, started).await,
            Request::Sweep => self.sweep().await,
        }
    }

    async fn job(
        &self,
        mut request: JobRequest,
        context: &Context,
        started: Duration,
    ) -> Result<Outcome, EngineError> {
        let run = match request.run_id.take() {
            Some(run) => run,
            None => check_run_id("request id", &context.request_id)?,
        };
        tracing::Span::current().record("run_id", run.as_str());
        let wall_ms = self.host.wall_ms();
        let outside = || {
            Error::new(
                ErrorKind::InvalidEvent,
                "the clock of this machine is outside the calendar",
            )
        };
        let now = AsOf::from_millis(wall_ms).ok_or_else(outside)?;
        if let Some(AsOf::Moment(time)) = request.event_time {
            let age = wall_ms.saturating_sub(time.timestamp_millis());
            if u128::try_from(age).is_ok_and(|age| age > OLDEST_EVENT.as_millis()) {
                return Err(EngineError::Input(Error::new(
                    ErrorKind::InvalidEvent,
                    format!(
                        "`time` is {}, more than 30 days ago: the run may be completed and its receipt gone. Send the \
                         job itself, with a `run_id` and an `as_of`",
                        time.to_rfc3339()
                    ),
                )));
            }
        }
        let plan = Plan::make(self.config, request, None, now)?;
        if plan.chunks.row_count() == 0 {
            return Ok(Outcome::NothingToDo {
                reason: plan.why_empty(),
            });
        }
        let rows = plan.chunks.row_count();
        (self.observer)(Observation::Planned { rows });
        for warning in &plan.warnings {
            tracing::warn!(run_id = %run, r#type = warning.kind.name(), path = warning.path, "{warning}");
        }
        let keys = self.config.keys(self.config.file_name(&run));
        let label = Label {
            run,
            rows,
            fingerprint: plan.fingerprint.clone(),
            as_of: plan.as_of.map(AsOf::to_text),
        };
        for attempt in 0..ATTEMPTS {
            if let Some(receipt) = self.receipt(&keys).await? {
                return already_completed(&receipt, &label.run, Some(&label.fingerprint));
            }
            let file = match spool(
                self.store,
                self.host,
                &keys.rows,
                &label,
                &plan.chunks,
                self.limits.part,
            )
            .await?
            {
                Spooled::Ours(file) => {
                    (self.observer)(Observation::Spooled { rows });
                    Some(file)
                }
                Spooled::Stands => None,
                Spooled::Vanished => {
                    pause(self.host, attempt).await;
                    continue;
                }
            };
            match self
                .hold(&keys, &label, Some(&plan.labourer_id), 0, file.is_some())
                .await?
            {
                Hold::Elsewhere => {
                    return Ok(Outcome::HeldElsewhere {
                        file_name: keys.file_name,
                    });
                }
                Hold::Gone => pause(self.host, attempt).await,
                Hold::Ours(lease, in_doubt_until) => {
                    let brought = Brought {
                        spooled: file.is_some(),
                        file: file.flatten(),
                        hop: 0,
                        skip_line: None,
                        warnings: plan.warnings,
                    };
                    return self
                        .work(keys, *lease, in_doubt_until, brought, context, started)
                        .await;
                }
            }
        }
        Err(unsettled())
    }

    async fn go_on(
        &self,
        continuation: Continuation,
        context: &Context,
        started: Duration,
    ) -> Result<Outcome, EngineError> {
        let Continuation {
            file_name,
            hop,
            skip_line,
        } = continuation;
        let mut keys = self.config.keys(file_name);
        for attempt in 0..ATTEMPTS {
            let found = find(self.store, self.host, &keys.lock).await?;
            let label = match &found {
                Some(found) => Label {
                    run: found.lock.run.clone(),
                    rows: found.lock.rows,
                    fingerprint: found.lock.fingerprint.clone(),
                    as_of: found.lock.as_of.clone(),
                },
                None => {
                    let Some(head) = self
                        .store
                        .head(&keys.rows)
                        .await
                        .during("looking for the queue file")?
                    else {
                        return match self.receipt(&keys).await? {
                            Some(receipt) => already_completed(&receipt, &receipt.run, None),
                            None => Err(EngineError::Input(unknown_file(&keys))),
                        };
                    };
                    match Label::of(&head) {
                        Some(label) => label,
                        None => {
                            let run = adopt::run_id(&keys.file_name, &head.etag);
                            let own = self.config.keys(self.config.file_name(&run));
                            adopt::adopt(self.store, &keys.rows, &head, &own.rows, &run, self.limits.part)
                                .await?;
                            tracing::info!(from = %keys.file_name, to = %own.file_name, "adopted a file that sosw left");
                            keys = own;
                            continue;
                        }
                    }
                }
            };
            match self.hold(&keys, &label, None, hop, false).await? {
                Hold::Elsewhere => {
                    return Ok(Outcome::HeldElsewhere {
                        file_name: keys.file_name,
                    });
                }
                Hold::Gone => pause(self.host, attempt).await,
                Hold::Ours(lease, in_doubt_until) => {
                    let brought = Brought {
                        file: None,
                        spooled: false,
                        hop,
                        skip_line,
                        warnings: Vec::new(),
                    };
                    return self
                        .work(keys, *lease, in_doubt_until, brought, context, started)
                        .await;
                }
            }
        }
        Err(unsettled())
    }

    /// Asks for the lock of a run: creates it, or takes it over if it is free.
    async fn hold(
        &self,
        keys: &Keys,
        label: &Label,
        labourer_id: Option<&str>,
        hop: u32,
        fresh: bool,
    ) -> Result<Hold, EngineError> {
        let nonce = format!("{:032x}", self.host.random());
        // Rows that were written just now have no lock yet, but for a rare race.
        let found = if fresh {
            None
        } else {
            find(self.store, self.host, &keys.lock).await?
        };
        if found.is_none() {
            let lane = match self.lane(keys, label, labourer_id).await? {
                Some(lane) => lane,
                None => return Ok(Hold::Gone),
            };
            let new = NewLock {
                run: label.run.clone(),
                fingerprint: label.fingerprint.clone(),
                as_of: label.as_of.clone(),
                rows: label.rows,
                lane,
                lease_seconds: self.config.lease_seconds,
                hop,
                started_ms: self.host.wall_ms(),
            };
            let claimed = match mutants::is(Mutant::NoClaim) {
                true => 0,
                false => self.limits.first_window,
            };
            let lock = Lock::create(new, &nonce, claimed);
            if let Some(lease) = Lease::create(self.store, self.host, &keys.lock, lock).await? {
                return Ok(Hold::Ours(Box::new(lease), 0));
            }
        }
        let found = match found {
            Some(found) => found,
            None => match find(self.store, self.host, &keys.lock).await? {
                Some(found) => found,
                None => return Ok(Hold::Gone),
            },
        };
        if found.lock.fingerprint != label.fingerprint {
            return Err(conflict(&label.run));
        }
        if !found.lock.is_free(found.age) && !mutants::is(Mutant::LiveLeaseTaken) {
            return Ok(Hold::Elsewhere);
        }
        let in_doubt_until = found.lock.claimed;
        let next = found.lock.taken_over(&nonce, hop, self.config.lease_seconds);
        tracing::info!(run_id = %label.run, epoch = next.epoch, "taking over the lock");
        match Lease::take_over(self.store, self.host, &keys.lock, next, found.etag).await? {
            Some(lease) => {
                (self.observer)(Observation::TakenOver);
                Ok(Hold::Ours(Box::new(lease), in_doubt_until))
            }
            None => Ok(Hold::Elsewhere),
        }
    }

    /// Where the tasks of a new lock go in the queue of their labourer. `None`: the file is gone.
    async fn lane(
        &self,
        keys: &Keys,
        label: &Label,
        labourer_id: Option<&str>,
    ) -> Result<Option<GreenfieldRange>, EngineError> {
        let first;
        let labourer_id = match labourer_id {
            Some(labourer_id) => labourer_id,
            None => {
                let read = self
                    .store
                    .get_range(&keys.rows, 0, READ_BYTES)
                    .await
                    .during("reading the queue file")?;
                let Some(read) = read else { return Ok(None) };
                let Next::Line(line, _) = Lines::of(read, Cursor::default()).next() else {
                    return Err(EngineError::damaged(format!(
                        "the queue file {:?} has no rows",
                        keys.file_name
                    )));
                };
                first = payload_of(&line)?.0;
                &first
            }
        };
        let now = Greenfield::from_millis(self.host.wall_ms());
        let mut attempt = 0;
        let base = loop {
            match self.tasks.newest_greenfield(labourer_id, now).await {
                Ok(base) => break base,
                Err(error) if again(self.host, &error, attempt).await => attempt += 1,
                Err(source) => {
                    return Err(EngineError::Port {
                        step: "looking for the end of the queue",
                        source,
                    });
                }
            }
        };
        let step = Greenfield::from_nanos(i128::from(self.config.greenfield_step) * 1_000_000_000);
        Ok(Some(GreenfieldRange::behind(base, step, now, label.rows)))
    }

    async fn receipt(&self, keys: &Keys) -> Result<Option<Receipt>, EngineError> {
        let mut attempt = 0;
        loop {
            match self.store.get(&keys.receipt, MAX_LOCK_BYTES).await {
                Ok(None) => return Ok(None),
                Ok(Some(object)) => return Ok(Some(Receipt::parse(&keys.receipt, &object.body)?)),
                Err(error) if again(self.host, &error, attempt).await => attempt += 1,
                Err(source) => {
                    return Err(EngineError::Port {
                        step: "looking for the receipt",
                        source,
                    });
                }
            }
        }
    }

    /// Holds the lock: passes the gate, drains, and finishes or hands over.
    async fn work(
        &self,
        keys: Keys,
        lease: Lease,
        in_doubt_until: u64,
        brought: Brought,
        context: &Context,
        started: Duration,
    ) -> Result<Outcome, EngineError> {
        // The gate: whoever looked for the receipt before it was written, and then wrote rows and lock again, finds it
        // now and only cleans up.
        let completed = match mutants::is(Mutant::NoGate) {
            true => None,
            false => self.receipt(&keys).await?,
        };
        if let Some(receipt) = completed {
            self.clean_up(&keys, &lease).await;
            return already_completed(&receipt, &lease.lock.run, Some(&lease.lock.fingerprint));
        }
        tracing::Span::current().record("run_id", lease.lock.run.as_str());
        (self.observer)(Observation::Holding {
            run_id: &lease.lock.run,
            file_name: &keys.file_name,
            hop: brought.hop,
        });
        let lane = match lease.lock.lane() {
            Some(lane) => lane,
            None => {
                return Err(EngineError::damaged(
                    "the lock has a greenfield that is no number",
                ));
            }
        };
        let lines = match brought.file.clone() {
            Some(file) => Lines::of(file, lease.lock.cursor),
            None => Lines::at(lease.lock.cursor),
        };
        let begun_at = lease.lock.cursor;
        let work = Work {
            store: self.store,
            tasks: self.tasks,
            host: self.host,
            rows_key: &keys.rows,
            fields: &self.config.tables.fields,
            in_doubt_until,
            lane,
            skip_line: brought.skip_line,
            pacer: Pacer::new(MAX_LIMIT, self.host.monotonic()),
            meta: self.config.tables.meta.is_some(),
            stop_at: self.stop_at(context, started),
            limits: self.limits,
            request_time: self.request_time,
            observer: self.observer,
        };
        let Drained {
            mut lease,
            cursor,
            sent,
            counters,
            end,
        } = drain(work, lease, lines).await;
        let summary = |lease: &Lease| Summary {
            run_id: lease.lock.run.clone(),
            file_name: keys.file_name.clone(),
            rows: lease.lock.rows,
            done: cursor.row,
            hop: brought.hop,
            counters,
            warnings: brought.warnings.clone(),
        };
        match end {
            End::All => {
                self.finish(&keys, &lease, counters).await?;
                Ok(Outcome::Completed(summary(&lease)))
            }
            End::Lost => Ok(Outcome::HeldElsewhere {
                file_name: keys.file_name,
            }),
            End::FileGone => match self.receipt(&keys).await? {
                Some(receipt) => already_completed(&receipt, &lease.lock.run, Some(&lease.lock.fingerprint)),
                None => Err(EngineError::Input(unknown_file(&keys))),
            },
            End::TimeShort => match lease
                .release(self.store, self.host, cursor, sent, counters, None)
                .await?
            {
                Written::Lost => Ok(Outcome::HeldElsewhere {
                    file_name: keys.file_name,
                }),
                Written::Stands => {
                    let progressed = brought.spooled || cursor.row > begun_at.row;
                    let to = self.hand_over(&keys, brought.hop, progressed).await;
                    Ok(Outcome::HandedOff {
                        summary: summary(&lease),
                        to,
                    })
                }
            },
            End::Stopped(stopped) => {
                let (line, name) = (stopped.line, &keys.file_name);
                let error = EngineError::damaged(format!(
                    "line {line} of the queue file {name:?} can't become a task: {}. The rows before it are tasks, and the \
                     run waits there. Put a file in its place in which only this line is mended and send \
                     {{\"file_name\": {name:?}}}, or send {{\"file_name\": {name:?}, \"skip_line\": {line}}} to go on \
                     without it",
                    stopped.error
                ));
                lease
                    .release(self.store, self.host, cursor, sent, counters, Some(stopped))
                    .await?;
                Err(error)
            }
            End::Failed(error) => {
                // Whoever comes next need not wait for the lease to run out.
                if let Err(release) = lease
                    .release(self.store, self.host, cursor, sent, counters, None)
                    .await
                {
                    tracing::warn!(%release, "could not release the lock; it expires by itself");
                }
                Err(error)
            }
        }
    }

    /// When to stop and hand over: `shutdown_period` before the end, but never before half of the time was used.
    fn stop_at(&self, context: &Context, started: Duration) -> Duration {
        let whole = context.deadline.saturating_sub(started);
        let reserve = Duration::from_secs(u64::from(self.config.shutdown_period));
        if reserve > whole / 2 {
            tracing::warn!(
                shutdown_period = self.config.shutdown_period,
                seconds = whole.as_secs(),
                "`shutdown_period` is more than half of the time of an invocation: half is used"
            );
        }
        context.deadline.saturating_sub(reserve.min(whole / 2))
    }

    /// The last row is a task: the receipt, then away with file and lock.
    async fn finish(&self, keys: &Keys, lease: &Lease, counters: Counters) -> Result<(), EngineError> {
        if mutants::is(Mutant::DeletedEarly) {
            self.clean_up(keys, lease).await;
        }
        let completed_ms = self.host.wall_ms();
        let receipt = Receipt::of(&lease.lock, counters, completed_ms);
        let body = Bytes::from(receipt.to_json());
        let metadata = Metadata::from([("jobmill".to_owned(), "receipt".to_owned())]);
        let mut attempt = 0;
        loop {
            match self
                .store
                .put(&keys.receipt, body.clone(), &metadata, PutIf::Absent)
                .await
            {
                // It stands: ours whose answer was lost, or that of another holder who came as far.
                Ok(_) | Err(PortError::PreconditionFailed { .. }) => break,
                Err(error) if again(self.host, &error, attempt).await => attempt += 1,
                Err(source) => {
                    return Err(EngineError::Port {
                        step: "writing the receipt",
                        source,
                    });
                }
            }
        }
        let took = completed_ms.saturating_sub(lease.lock.started_ms);
        (self.observer)(Observation::Completed {
            run_time: Duration::from_millis(u64::try_from(took).unwrap_or_default()),
        });
        self.clean_up(keys, lease).await;
        Ok(())
    }

    /// Deletes rows, then lock. What fails here the sweep does again: it finds the receipt.
    async fn clean_up(&self, keys: &Keys, lease: &Lease) {
        let deleted = match self.store.delete(&keys.rows, None).await {
            Ok(()) => lease.delete(self.store).await,
            Err(error) => Err(error),
        };
        if let Err(error) = deleted {
            tracing::warn!(%error, file_name = %keys.file_name, "could not clean up after the run; the sweep will");
        }
    }

    async fn hand_over(&self, keys: &Keys, hop: u32, progressed: bool) -> NextHolder {
        if !progressed && !mutants::is(Mutant::IdleSpawn) {
            tracing::warn!(file_name = %keys.file_name, "no row became a task in this invocation: left to the sweep");
            return NextHolder::Sweep;
        }
        if hop >= self.config.max_hops {
            (self.observer)(Observation::ChainStopped);
            tracing::warn!(file_name = %keys.file_name, hop, "the chain is at `max_hops`: left to the sweep");
            return NextHolder::Sweep;
        }
        match self.spawn(&keys.file_name, hop + 1).await {
            Ok(()) => NextHolder::Sibling,
            Err(error) => {
                tracing::error!(%error, file_name = %keys.file_name, "could not start a sibling: left to the sweep");
                NextHolder::Sweep
            }
        }
    }

    pub(crate) async fn spawn(&self, file_name: &str, hop: u32) -> Result<(), PortError> {
        let payload = serde_json::json!({ "file_name": file_name, "hop": hop }).to_string();
        let mut attempt = 0;
        loop {
            match self.siblings.spawn(payload.clone()).await {
                // A second sibling is harmless: it finds the lock held.
                Err(error) if again(self.host, &error, attempt).await => attempt += 1,
                answer => {
                    if answer.is_err() {
                        (self.observer)(Observation::SpawnFailed);
                    }
                    return answer;
                }
            }
        }
    }
}

fn already_completed(
    receipt: &Receipt,
    run: &str,
    fingerprint: Option<&str>,
) -> Result<Outcome, EngineError> {
    if fingerprint.is_some_and(|fingerprint| fingerprint != receipt.fingerprint) {
        return Err(conflict(run));
    }
    Ok(Outcome::AlreadyCompleted {
        run_id: receipt.run.clone(),
        rows: receipt.rows,
    })
}

fn unknown_file(keys: &Keys) -> Error {
    Error::new(
        ErrorKind::UnknownQueueFile,
        format!(
            "`file_name` is {:?}, but neither {:?} nor its receipt {:?} is in the bucket: correct the name, or send the \
             job again",
            keys.file_name, keys.rows, keys.receipt
        ),
    )
}

fn unsettled() -> EngineError {
    let message = "queue file and lock kept changing under this invocation".to_owned();
    EngineError::Port {
        step: "asking for the lock",
        source: PortError::Unknown {
            operation: "s3",
            message,
        },
    }
}
