//! The lock document of a run and its transitions. Pure: what is written when is the engine's business.
//!
//! A lock is changed only by compare-and-swap on its entity tag. It is never given an end of lease: how old it is, the
//! store says (`Date` minus `Last-Modified` of one answer), so that no two clocks are ever compared.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, cut, shorten};
use crate::task::greenfield::{Greenfield, GreenfieldRange};
use crate::task::identity::IdScheme;

/// A lock document larger than this is none of ours, in bytes.
pub const MAX_LOCK_BYTES: u64 = 64 << 10;

/// How much longer than its lease a lock counts as held, for clocks that disagree.
pub const LEASE_MARGIN: Duration = Duration::from_secs(2);

/// No count of a run comes near it: what is read from outside can be added to without overflow.
const MAX_NUMBER: u64 = 1 << 53;

/// No chain is that long: a lock with more hops is none of ours, and an event can't ask for one.
pub(crate) const MAX_HOP: u32 = 1_000_000;

/// The only version of the document there is.
const VERSION: u32 = 1;

/// A place in a queue file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The row, counted from 0: all rows before it are tasks.
    pub row: u64,
    /// Where that row begins, in bytes.
    pub byte: u64,
}

/// Why a run stopped at a row and waits for somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stopped {
    /// The line of the queue file, counted from 1.
    pub line: u64,
    /// What is wrong with it, at most [`MAX_STOP_TEXT`] characters.
    pub error: String,
    /// What kind of trouble it is.
    #[serde(default)]
    pub reason: StopReason,
}

/// Why a row can't become a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The row is damaged, or its task was refused.
    #[default]
    Row,
    /// A task with its id is there, and this run has not sent it.
    TaskIdTaken,
}

/// Characters of an error that a lock keeps: a service may quote a whole row.
pub const MAX_STOP_TEXT: usize = 1_000;

impl Stopped {
    /// A stop at that line, counted from 1, for a reason that is shortened to what a lock keeps.
    pub fn new(line: u64, reason: StopReason, error: &str) -> Self {
        Self {
            line,
            error: cut(error, MAX_STOP_TEXT),
            reason,
        }
    }
}

/// What all holders of a run have done together, as far as it was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// Tasks that a request created.
    pub created: u64,
    /// Tasks that were found there already.
    pub already_there: u64,
    /// Tasks that had to be sent again for want of capacity.
    pub throttled: u64,
    /// Requests that created tasks, or tried to.
    pub requests: u64,
    /// Damaged rows that somebody asked to pass over; they never became tasks.
    #[serde(default)]
    pub skipped: u64,
}

/// The lock document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    /// The run id.
    pub run: String,
    /// The digest of job, schema and given as-of.
    pub fingerprint: String,
    /// The as-of of the run, for people.
    pub as_of: Option<String>,
    /// How many rows the queue file has.
    pub rows: u64,
    first_greenfield: String,
    step: String,
    /// How the ids of its tasks are made. Runs that began before there was a choice do not say.
    #[serde(default)]
    pub ids: IdScheme,
    /// Raised by each take-over.
    pub epoch: u64,
    /// Raised by each write, so that a renewal changes the entity tag.
    pub rev: u64,
    /// The nonce of the invocation that holds it; none: released.
    pub holder: Option<String>,
    /// How long it is held after each write.
    pub lease_seconds: u32,
    /// All rows before it are tasks.
    pub cursor: Cursor,
    /// All rows from here on were never sent. It goes back only when a holder releases the lock who had every answer
    /// and knows which rows it never sent.
    pub claimed: u64,
    /// How many hand-offs led to the holder.
    pub hop: u32,
    /// Set while the run waits for somebody to look at a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// When the lock was first created, milliseconds since 1970.
    pub started_ms: i64,
    /// What was done so far.
    pub counters: Counters,
}

/// What a new lock is made from.
#[derive(Debug, Clone)]
pub struct NewLock {
    /// The run id.
    pub run: String,
    /// The digest of job, schema and given as-of.
    pub fingerprint: String,
    /// The as-of, for people.
    pub as_of: Option<String>,
    /// How many rows the queue file has.
    pub rows: u64,
    /// Where the tasks of the run stand in the queue.
    pub range: GreenfieldRange,
    /// How long the lock is held after each write.
    pub lease_seconds: u32,
    /// How many hand-offs led here.
    pub hop: u32,
    /// Now, milliseconds since 1970.
    pub started_ms: i64,
}

impl Lock {
    /// A lock that has never been held by anybody else, with rows up to `claimed` claimed.
    pub fn create(new: NewLock, holder: &str, claimed: u64) -> Self {
        Self {
            version: VERSION,
            run: new.run,
            fingerprint: new.fingerprint,
            as_of: new.as_of,
            rows: new.rows,
            first_greenfield: new.range.first.to_string(),
            step: new.range.step.to_string(),
            ids: IdScheme::Queue,
            epoch: 1,
            rev: 1,
            holder: Some(holder.to_owned()),
            lease_seconds: new.lease_seconds,
            cursor: Cursor::default(),
            claimed: claimed.min(new.rows),
            hop: new.hop,
            stopped: None,
            started_ms: new.started_ms,
            counters: Counters::default(),
        }
    }

    /// Reads a document.
    ///
    /// # Errors
    /// `DamagedQueue` if it is no lock of this make, of another version, or contradicts itself.
    pub fn parse(name: &str, body: &[u8]) -> Result<Self, Error> {
        let damaged = |why: String| {
            Error::new(
                ErrorKind::DamagedQueue,
                format!(
                    "the lock {:?} {why}: it is left as it is; look at it, and delete it if it is not needed",
                    shorten(name)
                ),
            )
        };
        /// Read first, so that a newer document is called newer and not damaged.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let version: Version = serde_json::from_slice(body)
            .map_err(|error| damaged(format!("is no lock document of jobmill ({error})")))?;
        if version.version != VERSION {
            return Err(damaged(format!(
                "is of version {}, and this jobmill reads version {VERSION}",
                version.version
            )));
        }
        let lock: Self =
            serde_json::from_slice(body).map_err(|error| damaged(format!("can't be read ({error})")))?;
        let Counters {
            created,
            already_there,
            throttled,
            requests,
            skipped,
        } = lock.counters;
        let numbers = [
            lock.epoch,
            lock.rev,
            lock.rows,
            lock.cursor.byte,
            created,
            already_there,
            throttled,
            requests,
            skipped,
        ];
        let contradiction = if numbers.iter().any(|number| *number > MAX_NUMBER) || lock.hop > MAX_HOP {
            Some("has a number beyond reason")
        } else if lock.cursor.row > lock.claimed {
            Some("has its cursor behind what is claimed")
        } else if lock.claimed > lock.rows {
            Some("claims more rows than there are")
        } else if lock.epoch == 0 || lock.rev < lock.epoch {
            Some("has an impossible epoch")
        } else if lock.greenfields().is_none() {
            Some("has a greenfield that is no number")
        } else {
            None
        };
        match contradiction {
            Some(why) => Err(damaged(why.to_owned())),
            None => Ok(lock),
        }
    }

    /// As JSON, the form in which it is stored.
    pub fn to_json(&self) -> Vec<u8> {
        // Plain fields with text keys: there is nothing that could fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Where the tasks of the run stand in the queue.
    pub fn greenfields(&self) -> Option<GreenfieldRange> {
        let first = Greenfield::parse(&self.first_greenfield)?;
        let step = Greenfield::parse(&self.step).filter(|step| *step > Greenfield::ZERO)?;
        Some(GreenfieldRange { first, step })
    }

    /// Whether somebody may take it over, given its age by the store's clock.
    pub fn is_free(&self, age: Duration) -> bool {
        self.holder.is_none() || age > Duration::from_secs(u64::from(self.lease_seconds)) + LEASE_MARGIN
    }

    /// The next holder's lock: a new epoch; what was claimed stays in doubt.
    pub fn taken_over(&self, holder: &str, hop: u32, lease_seconds: u32) -> Self {
        Self {
            epoch: self.epoch + 1,
            rev: self.rev + 1,
            holder: Some(holder.to_owned()),
            hop,
            lease_seconds,
            stopped: None,
            ..self.clone()
        }
    }

    /// A checkpoint: the cursor follows, the claim goes ahead, the lease begins anew.
    pub fn advanced(&self, cursor: Cursor, claimed: u64, counters: Counters) -> Self {
        Self {
            rev: self.rev + 1,
            cursor: self.cursor.max(cursor),
            claimed: self.claimed.max(claimed).min(self.rows),
            counters,
            ..self.clone()
        }
    }

    /// Released for whoever comes next, who has to doubt rows up to `sent`: nobody sent any from there on.
    pub fn released(&self, cursor: Cursor, sent: u64, counters: Counters, stopped: Option<Stopped>) -> Self {
        let claimed = sent.min(self.claimed).max(cursor.row);
        Self {
            holder: None,
            stopped,
            claimed,
            ..self.advanced(cursor, 0, counters)
        }
    }
}
