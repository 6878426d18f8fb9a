//! What can be watched while tasks are dispatched.

use std::time::Duration;

use jobmill_core::task::life::{LastError, Outcome};

use super::ports::Unfit;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A worker was started, or may have been.
    Started {
        /// Whose.
        labourer_id: String,
        /// The time since its claim was decided, that is since a slot was free.
        waited: Duration,
    },
    /// A task is closed.
    Closed {
        /// Which.
        task_id: String,
        /// Whose.
        labourer_id: String,
        /// How it ended.
        outcome: Outcome,
        /// How long its last attempt took, if that is known.
        duration: Option<Duration>,
        /// Why it failed.
        error: Option<LastError>,
    },
    /// An attempt failed or expired; the task waits for another.
    Parked {
        /// Which.
        task_id: String,
        /// Whose.
        labourer_id: String,
        /// Why.
        error: Option<LastError>,
    },
    /// Nothing of a labourer is started for a while.
    Suspended {
        /// Whose.
        labourer_id: String,
        /// Why, and what to do.
        why: Unfit,
    },
    /// A labourer that was suspended works again.
    Resumed {
        /// Whose.
        labourer_id: String,
    },
    /// The platform did not start a worker, for want of concurrency.
    Throttled {
        /// Whose.
        labourer_id: String,
    },
    /// Nobody knows whether an attempt was started: it ends, or expires.
    NoAnswer {
        /// Which task.
        task_id: String,
        /// Which attempt.
        attempts: u32,
        /// What went wrong.
        message: String,
    },
    /// An item can't be dispatched, or not be settled.
    Unreadable {
        /// Which.
        task_id: String,
        /// Why.
        why: String,
    },
    /// A message in the queue of outcomes is none.
    UnreadableOutcome {
        /// Why.
        why: String,
    },
    /// How the labourers of the group are doing: every 15 s, and once more when no more is claimed.
    Sampled(Vec<Sample>),
}

/// How a labourer is doing at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Which.
    pub labourer_id: String,
    /// So many of its tasks are running, those of others included as far as they are known.
    pub running: u32,
    /// How long ago its first queued task got its place; none: as far as is known nothing is queued.
    pub oldest: Option<Duration>,
    /// Tasks of it are queued, and nothing is started: why, and what to do.
    pub held_up: Option<Unfit>,
}

/// Told what happens, in order.
pub type Observer<'a> = dyn Fn(Observation) + Send + Sync + 'a;
