//! What an invocation that dispatches came to.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ports::Unfit;
use super::step::Tally;

/// What an invocation came to. As JSON: `{"outcome": "dispatched", ...}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// No labourer of the group had anything queued or due: the lock was not asked for.
    NothingToDo,
    /// Somebody else dispatches the group and has time enough.
    HeldElsewhere {
        /// Who, for people.
        owner: String,
    },
    /// It dispatched.
    Dispatched(Summary),
}

impl Outcome {
    /// The name as it stands in answers and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NothingToDo => "nothing_to_do",
            Self::HeldElsewhere { .. } => "held_elsewhere",
            Self::Dispatched(_) => "dispatched",
        }
    }
}

/// What was dispatched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Why it ended.
    pub ended: Ended,
    /// What was done.
    #[serde(flatten)]
    pub tally: Tally,
    /// Labourers of which nothing is started for now, and why.
    pub suspended: BTreeMap<String, Unfit>,
}

/// Why an invocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// There was nothing to do for a while.
    Idle,
    /// The time was short.
    TimeShort,
    /// Somebody else has taken the lock over, or its lease ran out.
    LockLost,
}
