//! What an invocation tells of itself while it is at work: for a progress bar, for metrics. Nothing is decided by it.

use std::time::Duration;

/// Told what happens, as it happens. Called often: it should only take note.
pub type Observer<'a> = dyn Fn(Observation<'_>) + Sync + 'a;

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation<'a> {
    /// A job was understood: it has so many rows.
    Planned {
        /// Rows of the job.
        rows: u64,
    },
    /// This invocation wrote the rows of a job to its queue file.
    Spooled {
        /// Rows of the job.
        rows: u64,
    },
    /// The lock of a run is held: what follows is about that run.
    Holding {
        /// The run id.
        run_id: &'a str,
        /// The name of its queue file.
        file_name: &'a str,
        /// How many hand-offs led here.
        hop: u32,
    },
    /// The lock of another invocation was taken over, released or run out.
    TakenOver,
    /// A request that creates tasks was answered.
    Answered {
        /// Whose tasks: the labourer of the first of them.
        labourer_id: &'a str,
        /// Tasks that it created.
        created: u64,
        /// Tasks that were there before.
        already_there: u64,
        /// Tasks of it that were pushed back one by one.
        unprocessed: u64,
        /// The request was pushed back as a whole.
        throttled: bool,
    },
    /// So many rows of the run are tasks, from the first on.
    Progress {
        /// Rows before the cursor.
        done: u64,
        /// Rows of the run.
        rows: u64,
    },
    /// The last row is a task and the receipt stands.
    Completed {
        /// From the first lock of the run to its receipt, by the wall clock.
        run_time: Duration,
    },
    /// A sibling could not be started.
    SpawnFailed,
    /// The chain of siblings is at `max_hops`; the file was left to the sweep.
    ChainStopped,
    /// The sweep has looked at the queue files.
    Swept {
        /// Files of runs that are neither completed nor wait for somebody.
        open: u64,
        /// Runs that wait for somebody: at a damaged row, or with a lock that can't be read.
        stopped: u64,
        /// How old the oldest open one is; zero if there is none.
        oldest: Duration,
    },
}
