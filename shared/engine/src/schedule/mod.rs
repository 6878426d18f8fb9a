//! From a request to an outcome: spool, lock, gate, drain, finish or hand over.

mod acquire;
mod adopt;
mod drain;
mod finish;
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
use jobmill_core::queue::lock::MAX_LOCK_BYTES;
use jobmill_core::queue::names::Keys;
use jobmill_core::queue::receipt::Receipt;
use jobmill_core::{Error, ErrorKind, Warning};

use crate::error::{During as _, EngineError};
use crate::limits::Limits;
use crate::ports::{Clock, ObjectStore, PortError, Random};
use crate::retry::retry;
use crate::schedule::acquire::{Acquired, Source};
use crate::schedule::ports::{Siblings, TaskTable};
use crate::schedule::spool::{Label, conflict};

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

/// What an invocation brings to the work beside the lock.
struct Resume {
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
            Request::Sweep => self.sweep(context, started).await,
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
        for warning in &plan.warnings {
            tracing::warn!(run_id = %run, r#type = warning.kind.name(), path = warning.path, "{warning}");
        }
        if plan.chunks.row_count() == 0 {
            return Ok(Outcome::NothingToDo {
                reason: plan.why_empty(),
                warnings: plan.warnings,
            });
        }
        let rows = plan.chunks.row_count();
        (self.observer)(Observation::Planned { rows });
        let keys = self.config.keys(self.config.file_name(&run));
        let label = Label {
            run,
            rows,
            fingerprint: plan.fingerprint.clone(),
            as_of: plan.as_of.map(AsOf::to_text),
        };
        let source = Source::Plan {
            label: &label,
            plan: &plan,
        };
        let resume = Resume {
            file: None,
            spooled: false,
            hop: 0,
            skip_line: None,
            warnings: plan.warnings.clone(),
        };
        self.acquire_and_work(keys, source, resume, context, started)
            .await
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
            by_hand,
        } = continuation;
        let resume = Resume {
            file: None,
            spooled: false,
            hop,
            skip_line,
            warnings: Vec::new(),
        };
        let keys = self.config.keys(file_name);
        self.acquire_and_work(keys, Source::File { by_hand }, resume, context, started)
            .await
    }

    async fn acquire_and_work(
        &self,
        keys: Keys,
        source: Source<'_>,
        resume: Resume,
        context: &Context,
        started: Duration,
    ) -> Result<Outcome, EngineError> {
        match self.acquire(keys, source, resume.hop).await? {
            Acquired::Settled(outcome) => Ok(outcome),
            Acquired::Lock {
                keys,
                lease,
                in_doubt_until,
                file,
                spooled,
            } => {
                let resume = Resume {
                    file,
                    spooled,
                    ..resume
                };
                self.work(keys, *lease, in_doubt_until, resume, context, started)
                    .await
            }
        }
    }

    async fn receipt(&self, keys: &Keys) -> Result<Option<Receipt>, EngineError> {
        retry(self.host, || self.store.get(&keys.receipt, MAX_LOCK_BYTES))
            .await
            .during("looking for the receipt")?
            .map(|object| Ok(Receipt::parse(&keys.receipt, &object.body)?))
            .transpose()
    }

    /// Starts another invocation that goes on with a file.
    async fn spawn(&self, file_name: &str, hop: u32) -> Result<(), PortError> {
        let payload = serde_json::json!({ "file_name": file_name, "hop": hop }).to_string();
        // A second sibling is harmless: it finds the lock held.
        let answer = retry(self.host, || self.siblings.spawn(payload.clone())).await;
        if answer.is_err() {
            (self.observer)(Observation::SpawnFailed);
        }
        answer
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
        counters: receipt.counters,
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
