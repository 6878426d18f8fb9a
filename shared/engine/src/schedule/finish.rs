//! The work of whoever holds a lock: the gate, the drain, and what its end means: a receipt, a hand-over, an error.

use std::time::Duration;

use bytes::Bytes;
use jobmill_core::queue::lock::{Counters, StopReason, Stopped};
use jobmill_core::queue::names::Keys;
use jobmill_core::queue::receipt::Receipt;
use jobmill_core::task::identity::{IdScheme, TaskIds};
use jobmill_core::{Error, ErrorKind};

use super::{Context, Engine, Resume, already_completed, unknown_file};
use crate::error::{During as _, EngineError};
use crate::lease::{Lease, Written};
use crate::mutants::{self, Mutant};
use crate::ports::{Clock, Metadata, ObjectStore, PortError, PutIf, Random};
use crate::retry::retry;
use crate::schedule::drain::lines::Lines;
use crate::schedule::drain::{Drained, End, Settings, Tools, drain};
use crate::schedule::observe::Observation;
use crate::schedule::outcome::{NextHolder, Outcome, Summary};
use crate::schedule::ports::{Siblings, TaskTable};

impl<S: ObjectStore, T: TaskTable, I: Siblings, H: Clock + Random> Engine<'_, S, T, I, H> {
    /// Passes the gate, drains, and finishes or hands over.
    pub(super) async fn work(
        &self,
        keys: Keys,
        lease: Lease,
        in_doubt_until: u64,
        resume: Resume,
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
            hop: resume.hop,
        });
        let Some(range) = lease.lock.greenfields() else {
            return Err(EngineError::damaged(
                "the lock has a greenfield that is no number",
            ));
        };
        let begun_at = lease.lock.cursor;
        let lines = match resume.file.clone() {
            Some(file) => Lines::of(file, begun_at),
            None => Lines::at(begun_at),
        };
        let config = self.config;
        let scheme = match mutants::is(Mutant::IdsWithoutQueue) {
            true => IdScheme::Uuid,
            false => lease.lock.ids,
        };
        let settings = Settings {
            ids: TaskIds::of(scheme, &config.queue_bucket, &config.s3_prefix, &lease.lock.run),
            range,
            fields: config.tables.fields.clone(),
            in_doubt_until,
            skip_line: resume.skip_line,
            limits: self.limits,
            meta: config.tables.meta.is_some(),
            stop_at: self.stop_at(context, started),
            request_time: self.request_time,
        };
        let tools = Tools {
            store: self.store,
            tasks: self.tasks,
            host: self.host,
            rows_key: &keys.rows,
            observer: self.observer,
        };
        let drained = drain(tools, settings, lease, lines).await;
        let progressed = resume.spooled || drained.cursor.row > begun_at.row;
        self.conclude(&keys, drained, resume, progressed).await
    }

    /// What the end of a drain means.
    async fn conclude(
        &self,
        keys: &Keys,
        drained: Drained,
        resume: Resume,
        progressed: bool,
    ) -> Result<Outcome, EngineError> {
        let Drained {
            mut lease,
            cursor,
            sent,
            counters,
            end,
        } = drained;
        let summary = Summary {
            run_id: lease.lock.run.clone(),
            file_name: keys.file_name.clone(),
            rows: lease.lock.rows,
            done: cursor.row,
            hop: resume.hop,
            counters,
            warnings: resume.warnings,
        };
        match end {
            End::All => {
                self.finish(keys, &lease, counters).await?;
                Ok(Outcome::Completed(summary))
            }
            End::TakenOver => self.taken_over(keys, &lease).await,
            End::RanOut => Err(ran_out(keys, &lease, cursor.row)),
            End::FileGone => match self.receipt(keys).await? {
                Some(receipt) => already_completed(&receipt, &lease.lock.run, Some(&lease.lock.fingerprint)),
                None => Err(EngineError::Input(unknown_file(keys))),
            },
            End::TimeShort => match lease
                .release(self.store, self.host, cursor, sent, counters, None)
                .await?
            {
                Written::TakenOver => self.taken_over(keys, &lease).await,
                Written::RanOut => Err(ran_out(keys, &lease, cursor.row)),
                Written::Stands => {
                    let to = self.hand_over(keys, resume.hop, progressed).await;
                    Ok(Outcome::HandedOff { summary, to })
                }
            },
            End::Stopped(stopped) => {
                let error = stopped_at(keys, &stopped);
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

    /// Somebody else has the lock, or had it and has completed the run.
    async fn taken_over(&self, keys: &Keys, lease: &Lease) -> Result<Outcome, EngineError> {
        tracing::warn!(file_name = %keys.file_name, "the lock was taken over while this invocation was at work");
        match self.receipt(keys).await? {
            Some(receipt) => already_completed(&receipt, &lease.lock.run, Some(&lease.lock.fingerprint)),
            None => Ok(Outcome::HeldElsewhere {
                file_name: keys.file_name.clone(),
            }),
        }
    }

    /// When to stop and hand over: `shutdown_period` before the end, but never before half of the time was used.
    pub(super) fn stop_at(&self, context: &Context, started: Duration) -> Duration {
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
        let put = || {
            self.store
                .put(&keys.receipt, body.clone(), &metadata, PutIf::Absent)
        };
        match retry(self.host, put).await {
            // It stands: ours whose answer was lost, or that of another holder who came as far.
            Ok(_) | Err(PortError::PreconditionFailed { .. }) => {}
            Err(source) => return Err(source).during("writing the receipt"),
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
}

fn ran_out(keys: &Keys, lease: &Lease, done: u64) -> EngineError {
    EngineError::LeaseRanOut {
        file_name: keys.file_name.clone(),
        lease_seconds: lease.lock.lease_seconds,
        done,
    }
}

/// A row can't become a task: what to do about it.
pub(super) fn stopped_at(keys: &Keys, stopped: &Stopped) -> EngineError {
    let (line, name) = (stopped.line, &keys.file_name);
    let (kind, cure) = match stopped.reason {
        StopReason::TaskIdTaken => (
            ErrorKind::TaskIdTaken,
            format!(
                "Send the job again under a `run_id` of its own; or, if the tasks that are there are those of this run, \
                 send {{\"file_name\": {name:?}}} to go on with them"
            ),
        ),
        StopReason::Row => (
            ErrorKind::DamagedQueue,
            format!(
                "Put a file in its place in which only this line is mended and send {{\"file_name\": {name:?}}}, or send \
                 {{\"file_name\": {name:?}, \"skip_line\": {line}}} to go on without it"
            ),
        ),
    };
    EngineError::Input(Error::new(
        kind,
        format!(
            "line {line} of the queue file {name:?} can't become a task: {}. The rows before it are tasks, and the run \
             waits there. {cure}",
            stopped.error
        ),
    ))
}
