//! A lock that is held, of a run or of a group: every write of it, and how a write without an answer is settled.

use std::time::Duration;

use bytes::Bytes;
use jobmill_core::queue::group::{GroupLock, MAX_GROUP_LOCK_BYTES};
use jobmill_core::queue::lock::{Counters, Cursor, Lock, MAX_LOCK_BYTES, Stopped};

use jobmill_core::Error;

use crate::error::{During as _, EngineError};
use crate::mutants::{self, Mutant};
use crate::ports::{Clock, ETag, Metadata, ObjectStore, PortError, PutIf, Random};
use crate::retry::{ATTEMPTS, again, retry};

/// A moment on both clocks: a lease is counted by whichever says that more time has passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    wall_ms: i64,
    monotonic: Duration,
}

impl Moment {
    pub(crate) fn now(host: &(impl Clock + Random)) -> Self {
        Self {
            wall_ms: host.wall_ms(),
            monotonic: host.monotonic(),
        }
    }

    /// The time since: a sandbox that was frozen may have missed some of it on one clock.
    pub(crate) fn elapsed(self, host: &(impl Clock + Random)) -> Duration {
        let wall = u64::try_from(host.wall_ms().saturating_sub(self.wall_ms)).unwrap_or(0);
        host.monotonic()
            .saturating_sub(self.monotonic)
            .max(Duration::from_millis(wall))
    }
}

/// A document that says who holds a lock, changed only by compare-and-swap.
pub(crate) trait LockDocument: Clone + PartialEq + Send + Sync + Sized {
    /// A larger one is none of ours, in bytes.
    const MAX_BYTES: u64;

    /// What it locks, for people: `the lock of run "nightly"`.
    fn named(&self) -> String;
    fn parse(key: &str, body: &[u8]) -> Result<Self, Error>;
    fn to_json(&self) -> Vec<u8>;
    /// The nonce of its holder.
    fn holder(&self) -> Option<&str>;
    fn epoch(&self) -> u64;
    fn rev(&self) -> u64;
    fn with_rev(self, rev: u64) -> Self;
    fn lease_seconds(&self) -> u32;
}

/// Both documents have these fields, under the same names.
macro_rules! lock_document {
    ($document:ty, $max_bytes:expr, $what:literal, $name:ident) => {
        impl LockDocument for $document {
            const MAX_BYTES: u64 = $max_bytes;

            fn named(&self) -> String {
                format!(concat!("the lock of ", $what, " {:?}"), self.$name)
            }

            fn parse(key: &str, body: &[u8]) -> Result<Self, Error> {
                Self::parse(key, body)
            }

            fn to_json(&self) -> Vec<u8> {
                self.to_json()
            }

            fn holder(&self) -> Option<&str> {
                self.holder.as_deref()
            }

            fn epoch(&self) -> u64 {
                self.epoch
            }

            fn rev(&self) -> u64 {
                self.rev
            }

            fn with_rev(mut self, rev: u64) -> Self {
                self.rev = rev;
                self
            }

            fn lease_seconds(&self) -> u32 {
                self.lease_seconds
            }
        }
    };
}

lock_document!(Lock, MAX_LOCK_BYTES, "run", run);
lock_document!(GroupLock, MAX_GROUP_LOCK_BYTES, "group", group);

/// A lock that this invocation holds.
#[derive(Debug)]
pub(crate) struct Lease<D = Lock> {
    pub(crate) lock: D,
    pub(crate) key: String,
    etag: ETag,
    /// Before the request that was last granted went out.
    since: Moment,
}

/// What became of a write of the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// It stands.
    Stands,
    /// Somebody else holds the lock, or has completed the run and deleted it: stop.
    TakenOver,
    /// No answer came within the lease: somebody else may hold the lock by now. Stop.
    RanOut,
}

/// The document as it is put.
///
/// # Errors
/// `DamagedQueue` if it is larger than what is ever read again: such a lock would be lost for everybody.
fn encode<D: LockDocument>(lock: &D) -> Result<Bytes, EngineError> {
    let body = lock.to_json();
    if body.len() as u64 > D::MAX_BYTES {
        return Err(EngineError::damaged(format!(
            "{} would have {} bytes, and at most {} are read again: nothing was written",
            lock.named(),
            body.len(),
            D::MAX_BYTES
        )));
    }
    Ok(Bytes::from(body))
}

/// What stands at the key of a lock.
pub(crate) struct Found<D = Lock> {
    pub(crate) lock: D,
    pub(crate) etag: ETag,
    pub(crate) age: Duration,
}

/// Marks an object as a lock, so that it is never taken for a queue file that sosw left locked.
pub(crate) fn lock_metadata() -> Metadata {
    Metadata::from([("jobmill".to_owned(), "lock".to_owned())])
}

/// Reads the lock at `key`.
pub(crate) async fn find<D: LockDocument>(
    store: &impl ObjectStore,
    host: &(impl Clock + Random),
    key: &str,
) -> Result<Option<Found<D>>, EngineError> {
    let object = retry(host, || store.get(key, D::MAX_BYTES))
        .await
        .during("reading the lock")?;
    let Some(object) = object else { return Ok(None) };
    let lock = D::parse(key, &object.body)?;
    Ok(Some(Found {
        lock,
        etag: object.etag,
        age: object.age,
    }))
}

impl<D: LockDocument> Lease<D> {
    /// Creates the lock. `None`: one is there already, or was, and it is not ours.
    pub(crate) async fn create(
        store: &impl ObjectStore,
        host: &(impl Clock + Random),
        key: &str,
        lock: D,
    ) -> Result<Option<Self>, EngineError> {
        Self::acquire(store, host, key, lock, PutIf::Absent).await
    }

    /// Takes over a lock that is free. `None`: somebody was faster.
    pub(crate) async fn take_over(
        store: &impl ObjectStore,
        host: &(impl Clock + Random),
        key: &str,
        lock: D,
        seen: ETag,
    ) -> Result<Option<Self>, EngineError> {
        Self::acquire(store, host, key, lock, PutIf::Matches(seen)).await
    }

    async fn acquire(
        store: &impl ObjectStore,
        host: &(impl Clock + Random),
        key: &str,
        lock: D,
        condition: PutIf,
    ) -> Result<Option<Self>, EngineError> {
        let mut attempt = 0;
        // An earlier attempt may be the one that was granted: without an answer the lease counts from the first.
        let first = Moment::now(host);
        let body = encode(&lock)?;
        loop {
            let since = Moment::now(host);
            let answer = store
                .put(key, body.clone(), &lock_metadata(), condition.clone())
                .await;
            let error = match answer {
                Ok(etag) => {
                    return Ok(Some(Self {
                        lock,
                        key: key.to_owned(),
                        etag,
                        since,
                    }));
                }
                Err(source) if source.is_final() => {
                    return Err(EngineError::Port {
                        step: "writing the lock",
                        source,
                    });
                }
                Err(error) => error,
            };
            // The put, or an attempt of it whose answer was lost, may have been carried out: the document tells.
            match find::<D>(store, host, key).await? {
                Some(found) if found.lock.holder() == lock.holder() => {
                    return Ok(Some(Self {
                        lock: found.lock,
                        key: key.to_owned(),
                        etag: found.etag,
                        since: first,
                    }));
                }
                found => {
                    let unchanged = match (&condition, &found) {
                        // Refused because one was there, which is gone by now: its run may be completed.
                        (PutIf::Absent, None) => !matches!(error, PortError::PreconditionFailed { .. }),
                        (PutIf::Matches(seen), Some(found)) => *seen == found.etag,
                        _ => false,
                    };
                    if !unchanged {
                        return Ok(None);
                    }
                }
            }
            if !again(host, &error, attempt).await {
                return Err(EngineError::Port {
                    step: "writing the lock",
                    source: error,
                });
            }
            attempt += 1;
        }
    }

    /// From when on the lease counts: before the request that was last granted went out.
    pub(crate) fn since(&self) -> Moment {
        self.since
    }

    /// Whether the lease has run out by our own clock.
    fn has_run_out(&self, host: &(impl Clock + Random)) -> bool {
        self.since.elapsed(host) >= Duration::from_secs(u64::from(self.lock.lease_seconds()))
            && !mutants::is(Mutant::LeaseRevived)
            && !mutants::is(Mutant::NoEpochCheck)
    }

    /// Replaces the document by compare-and-swap.
    ///
    /// A lease that has run out is lost, even where the swap would succeed: somebody may have taken the lock over,
    /// completed the run and deleted the lock, and a late copy of the request that created it may have put back the
    /// very version that we know. Only an answer within the lease says that nobody else was there meanwhile.
    ///
    /// # Errors
    /// Only when the service can't be brought to a definite answer.
    pub(crate) async fn write(
        &mut self,
        store: &impl ObjectStore,
        host: &(impl Clock + Random),
        next: D,
    ) -> Result<Written, EngineError> {
        let mut next = next;
        let mut attempt = 0;
        // An earlier attempt may be the one that was granted: without an answer the lease counts from the first.
        let first = Moment::now(host);
        loop {
            if self.has_run_out(host) {
                return Ok(Written::RanOut);
            }
            let since = Moment::now(host);
            let condition = PutIf::Matches(self.etag.clone());
            let answer = store
                .put(&self.key, encode(&next)?, &lock_metadata(), condition)
                .await;
            let error = match answer {
                Ok(_) if self.has_run_out(host) => return Ok(Written::RanOut),
                Ok(etag) => {
                    self.etag = etag;
                    self.lock = next;
                    self.since = since;
                    return Ok(Written::Stands);
                }
                Err(source) if source.is_final() => {
                    return Err(EngineError::Port {
                        step: "writing the lock",
                        source,
                    });
                }
                Err(error) => error,
            };
            match find::<D>(store, host, &self.key).await? {
                None => return Ok(Written::TakenOver),
                Some(found) if self.has_run_out(host) => {
                    // A release of ours may stand, and we learn of it too late.
                    let ours =
                        found.lock.holder() == self.lock.holder() || self.is_written(&found.lock, &next);
                    return Ok(match ours {
                        true => Written::RanOut,
                        false => Written::TakenOver,
                    });
                }
                Some(found) if self.is_written(&found.lock, &next) => {
                    // It was carried out, or an earlier attempt of it; only the answer was lost.
                    self.etag = found.etag;
                    self.lock = found.lock;
                    self.since = first;
                    return Ok(Written::Stands);
                }
                Some(found)
                    if found.lock.epoch() == self.lock.epoch()
                        && found.lock.holder() == self.lock.holder() =>
                {
                    // Still ours, by an earlier write. A request that is still under way carries an older tag or an
                    // older rev: with a higher rev this one can't be mistaken for it.
                    self.etag = found.etag;
                    let rev = next.rev().max(found.lock.rev()) + 1;
                    next = next.with_rev(rev);
                    // Also if this write fails: the next one must not go back behind it.
                    let newest = self.lock.rev().max(found.lock.rev());
                    self.lock = self.lock.clone().with_rev(newest);
                }
                Some(found) if mutants::is(Mutant::NoEpochCheck) => self.etag = found.etag,
                Some(_) => return Ok(Written::TakenOver),
            }
            // After a 412 that was only an older tag of ours, the new one is tried at once.
            let at_once = matches!(error, PortError::PreconditionFailed { .. }) && attempt + 1 < ATTEMPTS;
            if !at_once && !again(host, &error, attempt).await {
                return Err(EngineError::Port {
                    step: "writing the lock",
                    source: error,
                });
            }
            attempt += 1;
        }
    }

    /// Whether `found` is `next` as this or an earlier attempt has written it.
    fn is_written(&self, found: &D, next: &D) -> bool {
        found.rev() > self.lock.rev() && *found == next.clone().with_rev(found.rev())
    }

    /// Deletes the lock, if it is still this very version.
    pub(crate) async fn delete(&self, store: &impl ObjectStore) -> Result<(), PortError> {
        match store.delete(&self.key, Some(&self.etag)).await {
            // Somebody took it over: they will find the receipt and clean up.
            Err(PortError::PreconditionFailed { .. }) => Ok(()),
            other => other,
        }
    }
}

impl Lease {
    /// Gives the lock of a run back; rows from `sent` on were never sent, by nobody.
    pub(crate) async fn release(
        &mut self,
        store: &impl ObjectStore,
        host: &(impl Clock + Random),
        cursor: Cursor,
        sent: u64,
        counters: Counters,
        stopped: Option<Stopped>,
    ) -> Result<Written, EngineError> {
        let mut next = self.lock.released(cursor, sent, counters, stopped);
        if mutants::is(Mutant::ClaimForgotten) || mutants::is(Mutant::NoClaim) {
            next.claimed = cursor.row;
        }
        self.write(store, host, next).await
    }
}
