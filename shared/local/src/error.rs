//! What can go wrong with the cloud itself.

use std::time::Duration;

/// What can go wrong with the cloud itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// A port could not be bound, or a thread not be started.
    #[error("the local cloud could not start: {0}")]
    Io(#[from] std::io::Error),
    /// The database refused a request that came past HTTP.
    #[error("the local database refused a request: {0}")]
    DynamoDb(String),
    /// A request in DynamoDB's JSON was not well formed.
    #[error("not a request in the JSON of DynamoDB: {0}")]
    Json(#[from] serde_json::Error),
    /// The runtime of the cloud has ended.
    #[error("the local cloud has stopped")]
    Stopped,
    /// There is no such function.
    #[error("the function {0:?} is not registered")]
    NoSuchFunction(String),
    /// The function's queue is full, or all its instances are at work.
    #[error("too many invocations of {0:?} at once")]
    TooManyInvocations(String),
    /// Invocations are still on their way.
    #[error("{pending} invocations are not over after {timeout:?}")]
    NotIdle {
        /// Queued, running, or waiting to be tried again.
        pending: usize,
        /// How long was waited.
        timeout: Duration,
    },
    /// Nothing like it was printed.
    #[error("no instance printed a line with {part:?} in {timeout:?}")]
    NoSuchLog {
        /// What was looked for.
        part: String,
        /// How long was waited.
        timeout: Duration,
    },
    /// There is no such bucket.
    #[error("the bucket {0:?} does not exist")]
    NoSuchBucket(String),
}
