//! How an invocation ended, as its caller sees it.

use jobmill_core::Warning;
use jobmill_core::queue::lock::Counters;
use serde::{Deserialize, Serialize};

/// The end of an invocation. As JSON: `{"outcome": "completed", ...}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The last row of the run is a task, and its receipt stands.
    Completed(Summary),
    /// The time was short: the released file goes on elsewhere.
    HandedOff {
        /// What was done so far.
        #[serde(flatten)]
        summary: Summary,
        /// Who goes on.
        to: NextHolder,
    },
    /// The run was completed before; nothing was done.
    AlreadyCompleted {
        /// The run id.
        run_id: String,
        /// How many rows the run has.
        rows: u64,
        /// What all invocations of the run have done together.
        #[serde(default)]
        counters: Counters,
    },
    /// Another invocation is at work on the same run; nothing was done.
    HeldElsewhere {
        /// The name of the queue file.
        file_name: String,
    },
    /// There was nothing to do: a job without rows, or a sweep that found nothing.
    NothingToDo {
        /// Why.
        reason: String,
        /// What somebody should know of the job.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<Warning>,
    },
    /// A sweep found queue files that nobody works on, and started a sibling for each.
    Swept {
        /// The names of the files.
        files: Vec<String>,
        /// Files that wait for somebody: they stopped at a damaged row, or their lock can't be read.
        stopped: Vec<String>,
        /// Files that could not be looked at; the next sweep tries again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unreadable: Vec<String>,
        /// Siblings that could not be started; the next sweep tries again.
        failed: Vec<String>,
    },
}

/// Who goes on with a released file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextHolder {
    /// A sibling that was started.
    Sibling,
    /// The next sweep.
    Sweep,
}

/// A run, as far as this invocation knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The run id.
    pub run_id: String,
    /// The name of the queue file.
    pub file_name: String,
    /// How many tasks the run has in the end.
    pub rows: u64,
    /// How many of them stand, from the first on.
    pub done: u64,
    /// How many hand-offs led here.
    pub hop: u32,
    /// What all invocations of the run have done together.
    pub counters: Counters,
    /// What somebody should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

impl Outcome {
    /// The name of the outcome as it stands in its JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Completed(_) => "completed",
            Self::HandedOff { .. } => "handed_off",
            Self::AlreadyCompleted { .. } => "already_completed",
            Self::HeldElsewhere { .. } => "held_elsewhere",
            Self::NothingToDo { .. } => "nothing_to_do",
            Self::Swept { .. } => "swept",
        }
    }
}
