//! The lock document of a group of labourers, whose tasks one invocation at a time dispatches, and its transitions.
//!
//! As with the lock of a run, nothing in it is a moment: how old the document is, the store says, so that no two clocks
//! are ever compared.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, shorten};
use crate::queue::lock::LEASE_MARGIN;

/// A document larger than this is none of ours, in bytes.
pub const MAX_GROUP_LOCK_BYTES: u64 = 1 << 20;

/// The only version of the document there is.
const VERSION: u32 = 1;

/// No count comes near it: what is read from outside can be added to without overflow.
const MAX_NUMBER: u64 = 1 << 53;

/// The lock document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupLock {
    version: u32,
    /// The group.
    pub group: String,
    /// Raised by each take-over.
    pub epoch: u64,
    /// Raised by each write, so that a renewal changes the entity tag.
    pub rev: u64,
    /// The nonce of the invocation that holds it; none: released.
    pub holder: Option<String>,
    /// Who that is or was, for people.
    pub owner: String,
    /// How long it is held after each write, in seconds.
    pub lease_seconds: u32,
    /// How long after this write its holder means to go on with claims, in seconds.
    pub claims_for: u32,
    /// What a holder that has released it left behind; none: it is held, or its holder could not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<UsedSlots>,
}

/// By labourer, what is running.
pub type UsedSlots = BTreeMap<String, Used>;

/// What is running of a labourer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Used {
    /// So many tasks.
    pub tasks: u32,
    /// By each bound of its `concurrency`, in their order, and by value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<BTreeMap<String, u32>>,
    /// What is left of its `rate`, in thousandths of a start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_left: Option<u64>,
}

/// What a wake-up does that finds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Take it over: it is free.
    TakeOver,
    /// End: its holder goes on for long enough.
    Leave,
    /// Look again: its holder is about to end.
    Wait,
}

/// A holder with more than this left needs nobody behind it.
const ENOUGH: Duration = Duration::from_secs(90);

impl GroupLock {
    /// A lock that nobody has ever held.
    pub fn create(group: &str, holder: &str, owner: &str, lease_seconds: u32, claims_for: Duration) -> Self {
        Self {
            version: VERSION,
            group: group.to_owned(),
            epoch: 1,
            rev: 1,
            holder: Some(holder.to_owned()),
            owner: owner.to_owned(),
            lease_seconds,
            claims_for: whole_seconds(claims_for),
            used: None,
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
                    "the lock {:?} {why}: nothing is dispatched while it is there; look at it, and delete it when nothing \
                     dispatches this group",
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
        if lock.epoch == 0 || lock.rev < lock.epoch || lock.rev > MAX_NUMBER {
            return Err(damaged("has an impossible epoch".to_owned()));
        }
        Ok(lock)
    }

    /// As JSON, the form in which it is stored.
    pub fn to_json(&self) -> Vec<u8> {
        // Plain fields with text keys: there is nothing that could fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What a wake-up is to do, given the document's age by the store's clock.
    pub fn on_wake_up(&self, age: Duration) -> Wake {
        if self.is_free(age) {
            return Wake::TakeOver;
        }
        match Duration::from_secs(self.claims_for.into()).saturating_sub(age) > ENOUGH {
            true => Wake::Leave,
            false => Wake::Wait,
        }
    }

    /// Whether somebody may take it over, given its age by the store's clock.
    pub fn is_free(&self, age: Duration) -> bool {
        self.holder.is_none() || age > Duration::from_secs(u64::from(self.lease_seconds)) + LEASE_MARGIN
    }

    /// The next holder's lock: a new epoch.
    pub fn taken_over(&self, holder: &str, owner: &str, lease_seconds: u32, claims_for: Duration) -> Self {
        Self {
            epoch: self.epoch + 1,
            rev: self.rev + 1,
            holder: Some(holder.to_owned()),
            owner: owner.to_owned(),
            lease_seconds,
            claims_for: whole_seconds(claims_for),
            used: None,
            ..self.clone()
        }
    }

    /// The lease begins anew.
    pub fn renewed(&self, claims_for: Duration) -> Self {
        Self {
            rev: self.rev + 1,
            claims_for: whole_seconds(claims_for),
            ..self.clone()
        }
    }

    /// Released for whoever comes next, with what is running by the holder's count; none: it could not tell.
    pub fn released(&self, used: Option<UsedSlots>) -> Self {
        let released = Self {
            rev: self.rev + 1,
            holder: None,
            claims_for: 0,
            used,
            ..self.clone()
        };
        match released.to_json().len() as u64 > MAX_GROUP_LOCK_BYTES {
            // So many different values that the next holder had better count for itself.
            true => Self {
                used: None,
                ..released
            },
            false => released,
        }
    }
}

fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn held() -> GroupLock {
        GroupLock::create("main", "nonce", "request", 30, 600 * SECOND)
    }

    #[test]
    fn a_wake_up_leaves_a_holder_alone_that_has_time_and_waits_for_one_that_ends() {
        assert_eq!(held().on_wake_up(SECOND), Wake::Leave);
        let ending = held().renewed(60 * SECOND);
        assert_eq!(ending.on_wake_up(SECOND), Wake::Wait);
        assert_eq!(
            ending.on_wake_up(32 * SECOND),
            Wake::Wait,
            "clocks disagree a little"
        );
        assert_eq!(ending.on_wake_up(33 * SECOND), Wake::TakeOver);
        assert_eq!(held().released(None).on_wake_up(Duration::ZERO), Wake::TakeOver);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let used = UsedSlots::from([(
            "report".to_owned(),
            Used {
                tasks: 3,
                keys: vec![BTreeMap::from([("roma".to_owned(), 2)])],
                starts_left: Some(500),
            },
        )]);
        for lock in [
            held(),
            held().renewed(SECOND),
            held().released(Some(used)),
            held()
                .released(None)
                .taken_over("other", "someone", 15, 9 * SECOND),
        ] {
            assert_eq!(GroupLock::parse("k", &lock.to_json()), Ok(lock));
        }
    }

    #[test]
    fn what_is_no_lock_is_refused_by_name() {
        for (body, why) in [
            (&b"null"[..], "no lock document"),
            (b"{\"version\":2}", "version 2"),
            (b"{\"version\":1}", "can't be read"),
        ] {
            let error = GroupLock::parse("dispatch/main.json", body).unwrap_err();
            assert!(
                error.sentence.contains(why) && error.sentence.contains("dispatch/main.json"),
                "{error}"
            );
        }
        let mut lock = held();
        lock.epoch = 0;
        assert!(GroupLock::parse("k", &lock.to_json()).is_err());
    }

    #[test]
    fn a_release_that_would_be_too_large_counts_nothing() {
        let keys = (0..60_000)
            .map(|value| (format!("a value of some length, {value}"), 1))
            .collect();
        let used = UsedSlots::from([(
            "report".to_owned(),
            Used {
                tasks: 60_000,
                keys: vec![keys],
                starts_left: None,
            },
        )]);
        assert_eq!(held().released(Some(used)).used, None);
    }
}
