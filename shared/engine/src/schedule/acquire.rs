//! How the lock of a run is come by: rows are made to stand, then the lock is created, or taken over if it is free.

use bytes::Bytes;
use jobmill_core::job::plan::Plan;
use jobmill_core::queue::lock::{Cursor, Lock, NewLock};
use jobmill_core::queue::names::Keys;
use jobmill_core::task::greenfield::{Greenfield, GreenfieldRange};
use jobmill_core::task::row::payload_of;

use super::{Engine, already_completed, unknown_file};
use crate::error::{During as _, EngineError};
use crate::lease::{Found, Lease, find};
use crate::mutants::{self, Mutant};
use crate::ports::{Clock, ObjectStore, PortError, Random};
use crate::retry::{ATTEMPTS, pause, retry};
use crate::schedule::adopt::{self, Adopted};
use crate::schedule::drain::lines::{Lines, Next, READ_BYTES};
use crate::schedule::finish::stopped_at;
use crate::schedule::observe::Observation;
use crate::schedule::outcome::Outcome;
use crate::schedule::ports::{Siblings, TaskTable};
use crate::schedule::spool::{Label, Spooled, conflict, spool};

/// Where the rows of a run come from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// A job that was planned just now.
    Plan { label: &'a Label, plan: &'a Plan },
    /// A queue file that somebody has written; whether somebody has asked by hand to go on with it.
    File { by_hand: bool },
}

/// What asking for a lock came to.
pub(super) enum Acquired {
    /// It is ours.
    Lock {
        keys: Keys,
        lease: Box<Lease>,
        /// Rows before this one may have been sent by somebody else.
        in_doubt_until: u64,
        /// The rows, if this invocation wrote them and they are few.
        file: Option<Bytes>,
        /// This invocation wrote the rows.
        spooled: bool,
    },
    /// There is nothing to do here.
    Settled(Outcome),
}

/// The rows of a run.
enum Rows {
    /// They stand in the queue file.
    Stand {
        label: Label,
        file: Option<Bytes>,
        spooled: bool,
    },
    /// They are gone, or stand under another name now: look again.
    Changed,
    /// There is nothing to do with them.
    Settled(Outcome),
}

impl<S: ObjectStore, T: TaskTable, I: Siblings, H: Clock + Random> Engine<'_, S, T, I, H> {
    /// Asks for the lock of a run until somebody has it.
    pub(super) async fn acquire(
        &self,
        mut keys: Keys,
        source: Source<'_>,
        hop: u32,
    ) -> Result<Acquired, EngineError> {
        for attempt in 0..ATTEMPTS {
            let found = find::<Lock>(self.store, self.host, &keys.lock).await?;
            if let (Some(found), Source::Plan { label, .. }) = (&found, source)
                && found.lock.fingerprint != label.fingerprint
            {
                return Err(conflict(&label.run));
            }
            if let Some(found) = &found
                && !found.lock.is_free(found.age)
                && !mutants::is(Mutant::LiveLeaseTaken)
            {
                return Ok(held(&keys));
            }
            // Somebody must look at it first: the same event or continuation again does not pass over what stopped the
            // run.
            if let Some(found) = &found
                && !matches!(source, Source::File { by_hand: true })
                && let Some(stopped) = &found.lock.stopped
            {
                return Err(stopped_at(&keys, stopped));
            }
            let rows = match source {
                Source::Plan { label, plan } => self.spool_rows(&keys, label, plan).await?,
                Source::File { .. } => self.find_rows(&mut keys, found.as_ref()).await?,
            };
            let (label, file, spooled) = match rows {
                Rows::Stand { label, file, spooled } => (label, file, spooled),
                Rows::Settled(outcome) => return Ok(Acquired::Settled(outcome)),
                Rows::Changed => {
                    pause(self.host, attempt).await;
                    continue;
                }
            };
            let in_doubt_until = found.as_ref().map_or(0, |found| found.lock.claimed);
            let taken_over = found.is_some();
            let lease = match found {
                Some(found) => self.take_over(&keys, &label, found, hop).await?,
                None => self.create(&keys, label, source, hop).await?,
            };
            match lease {
                Some(lease) => {
                    return Ok(Acquired::Lock {
                        keys,
                        lease: Box::new(lease),
                        in_doubt_until,
                        file,
                        spooled,
                    });
                }
                None if taken_over => return Ok(held(&keys)),
                None => pause(self.host, attempt).await,
            }
        }
        Err(EngineError::Port {
            step: "asking for the lock",
            source: PortError::Unknown {
                operation: "s3",
                message: "queue file and lock kept changing under this invocation".to_owned(),
            },
        })
    }

    /// Makes the rows of a plan stand, unless the run is completed.
    async fn spool_rows(&self, keys: &Keys, label: &Label, plan: &Plan) -> Result<Rows, EngineError> {
        if let Some(receipt) = self.receipt(keys).await? {
            return already_completed(&receipt, &label.run, Some(&label.fingerprint)).map(Rows::Settled);
        }
        let part = self.limits.part;
        Ok(
            match spool(self.store, self.host, &keys.rows, label, &plan.chunks, part).await? {
                Spooled::Ours(file) => {
                    (self.observer)(Observation::Spooled { rows: label.rows });
                    Rows::Stand {
                        label: label.clone(),
                        file,
                        spooled: true,
                    }
                }
                // The rows that stand count, also if this release would make others out of the same job.
                Spooled::Stands(label) => Rows::Stand {
                    label,
                    file: None,
                    spooled: false,
                },
                Spooled::Vanished => Rows::Changed,
            },
        )
    }

    /// Finds the rows of a file; adopts it if sosw left it.
    async fn find_rows(&self, keys: &mut Keys, found: Option<&Found>) -> Result<Rows, EngineError> {
        let stand = |label: Label| Rows::Stand {
            label,
            file: None,
            spooled: false,
        };
        if let Some(found) = found {
            return Ok(stand(Label::of_lock(&found.lock)));
        }
        let head = retry(self.host, || self.store.head(&keys.rows))
            .await
            .during("looking for the queue file")?;
        let Some(head) = head else {
            return match self.receipt(keys).await? {
                Some(receipt) => already_completed(&receipt, &receipt.run, None).map(Rows::Settled),
                None => Err(EngineError::Input(unknown_file(keys))),
            };
        };
        let empty = || {
            let reason = format!("the queue file {:?} has no rows", keys.file_name);
            Rows::Settled(Outcome::NothingToDo {
                reason,
                warnings: Vec::new(),
            })
        };
        match Label::of(&head) {
            Some(label) if label.rows == 0 => {
                adopt::delete(self.store, &keys.rows, &head).await?;
                Ok(empty())
            }
            Some(label) => Ok(stand(label)),
            None => {
                let run = adopt::run_id(&keys.file_name, &head.etag);
                let own = self.config.keys(self.config.file_name(&run));
                let part = self.limits.part;
                match adopt::adopt(self.store, &keys.rows, &head, &own.rows, &run, part).await? {
                    Adopted::Empty => Ok(empty()),
                    Adopted::Copied => {
                        tracing::info!(from = %keys.file_name, to = %own.file_name, "adopted a file that sosw left");
                        *keys = own;
                        Ok(Rows::Changed)
                    }
                }
            }
        }
    }

    /// Creates the lock. `None`: somebody was faster, or the file is gone.
    async fn create(
        &self,
        keys: &Keys,
        label: Label,
        source: Source<'_>,
        hop: u32,
    ) -> Result<Option<Lease>, EngineError> {
        let labourer_id = match source {
            Source::Plan { plan, .. } => Some(plan.labourer_id.clone()),
            Source::File { .. } => match self.labourer_of(keys).await? {
                Some(labourer_id) => labourer_id,
                None => return Ok(None),
            },
        };
        let new = NewLock {
            range: self.greenfields(labourer_id.as_deref(), label.rows).await?,
            run: label.run,
            fingerprint: label.fingerprint,
            as_of: label.as_of,
            rows: label.rows,
            lease_seconds: self.config.lease_seconds,
            hop,
            started_ms: self.host.wall_ms(),
        };
        let claimed = match mutants::is(Mutant::NoClaim) {
            true => 0,
            false => self.limits.first_window,
        };
        let lock = Lock::create(new, &self.nonce(), claimed);
        Lease::create(self.store, self.host, &keys.lock, lock).await
    }

    /// Takes over a lock that is free. `None`: somebody was faster.
    async fn take_over(
        &self,
        keys: &Keys,
        label: &Label,
        found: Found,
        hop: u32,
    ) -> Result<Option<Lease>, EngineError> {
        if found.lock.rows != label.rows {
            return Err(conflict(&label.run));
        }
        let next = found
            .lock
            .taken_over(&self.nonce(), hop, self.config.lease_seconds);
        tracing::info!(run_id = %label.run, epoch = next.epoch, "taking over the lock");
        let lease = Lease::take_over(self.store, self.host, &keys.lock, next, found.etag).await?;
        if lease.is_some() {
            (self.observer)(Observation::TakenOver);
        }
        Ok(lease)
    }

    fn nonce(&self) -> String {
        format!("{:032x}", self.host.random())
    }

    /// The labourer of the first line of a file that is a row; `Some(None)` if none is at its beginning: the run stops at
    /// its first line, where somebody can look at it. `None`: the file is gone.
    async fn labourer_of(&self, keys: &Keys) -> Result<Option<Option<String>>, EngineError> {
        let read = retry(self.host, || self.store.get_range(&keys.rows, 0, READ_BYTES))
            .await
            .during("reading the queue file")?;
        let Some(read) = read else { return Ok(None) };
        let mut lines = Lines::of(read, Cursor::default());
        while let Next::Line(line, _) = lines.next() {
            if let Ok((labourer_id, _)) = payload_of(&line) {
                return Ok(Some(Some(labourer_id)));
            }
        }
        Ok(Some(None))
    }

    /// Where the tasks of a new run go in the queue of their labourer.
    async fn greenfields(
        &self,
        labourer_id: Option<&str>,
        rows: u64,
    ) -> Result<GreenfieldRange, EngineError> {
        let now = Greenfield::from_millis(self.host.wall_ms());
        let newest = match labourer_id {
            Some(labourer_id) => retry(self.host, || self.tasks.newest_greenfield(labourer_id, now))
                .await
                .during("looking for the end of the queue")?,
            None => None,
        };
        let step = Greenfield::from_nanos(i128::from(self.config.greenfield_step) * 1_000_000_000);
        Ok(GreenfieldRange::behind(newest, step, now, rows))
    }
}

fn held(keys: &Keys) -> Acquired {
    Acquired::Settled(Outcome::HeldElsewhere {
        file_name: keys.file_name.clone(),
    })
}
