//! The receipt: what remains of a run in the bucket.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, shorten};
use crate::queue::lock::{Counters, Lock};

/// The only version of the document there is.
const VERSION: u32 = 1;

/// What remains of a run: written once, when its last row is a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The version of the document.
    pub version: u32,
    /// The run id.
    pub run: String,
    /// The digest of job, schema and given as-of.
    pub fingerprint: String,
    /// The as-of, for people.
    pub as_of: Option<String>,
    /// How many tasks there are.
    pub rows: u64,
    /// When the run was spooled, milliseconds since 1970.
    pub started_ms: i64,
    /// When its last row was a task, milliseconds since 1970.
    pub completed_ms: i64,
    /// How many hand-offs led to its end.
    pub hops: u32,
    /// How often its lock was taken over, and once for its creation.
    pub epochs: u64,
    /// What was done.
    pub counters: Counters,
}

impl Receipt {
    /// The receipt of a run whose rows are all tasks.
    pub fn of(lock: &Lock, counters: Counters, completed_ms: i64) -> Self {
        Self {
            version: VERSION,
            run: lock.run.clone(),
            fingerprint: lock.fingerprint.clone(),
            as_of: lock.as_of.clone(),
            rows: lock.rows,
            started_ms: lock.started_ms,
            completed_ms,
            hops: lock.hop,
            epochs: lock.epoch,
            counters,
        }
    }

    /// Reads a receipt.
    ///
    /// # Errors
    /// `DamagedQueue` if it is none, or of another version.
    pub fn parse(name: &str, body: &[u8]) -> Result<Self, Error> {
        let damaged = |why: String| {
            let sentence = format!(
                "the receipt {:?} {why}: it is left as it is; look at it",
                shorten(name)
            );
            Error::new(ErrorKind::DamagedQueue, sentence)
        };
        let receipt: Self =
            serde_json::from_slice(body).map_err(|error| damaged(format!("can't be read ({error})")))?;
        if receipt.version != VERSION {
            let why = format!(
                "is of version {}, and this jobmill reads version {VERSION}",
                receipt.version
            );
            return Err(damaged(why));
        }
        Ok(receipt)
    }

    /// As JSON, the form in which it is stored.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}
