//! How much is done at once: fixed by what the services take, smaller in tests so that little rows go a long way.

use jobmill_core::job::estimate::BYTES_PER_PART;

/// How much is done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Tasks a request. DynamoDB takes 25 statements in a `BatchExecuteStatement`.
    pub batch: usize,
    /// Bytes of items after which a request is closed, however few tasks it has: what a service takes well within the
    /// time of a request.
    pub batch_bytes: u64,
    /// The claim goes so far ahead of what is sent at least, in rows: a hundred requests for each checkpoint.
    pub first_window: u64,
    /// The claim goes so far ahead of the cursor at most, in rows: after a crash each of these costs a transaction.
    pub last_window: u64,
    /// A queue file up to this size is one put and is drained from memory; a larger one goes up in parts of this size;
    /// bytes. S3 takes parts of 5 MiB and more, 10,000 of them.
    pub part: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch: 25,
            batch_bytes: 1 << 20,
            first_window: 2_500,
            last_window: 100_000,
            part: BYTES_PER_PART as usize,
        }
    }
}
