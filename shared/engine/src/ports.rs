//! What an invocation needs of the world: an object store, a task table, siblings, a host.
//! Each trait stands beside the code that uses it and is as small as that use; every implementation passes the
//! conformance suite in the workspace's `tests` crate.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use jobmill_core::task::{Greenfield, Task};

/// Why a request to the outside did not do what was asked. Adapters map their SDK's errors to this once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// The service said "slow down" and did nothing. Try again after a pause.
    #[error("{operation} was throttled: {message}")]
    Throttled {
        /// The operation, e.g. `dynamodb:BatchExecuteStatement`.
        operation: &'static str,
        /// What the service said.
        message: String,
    },
    /// A condition of the request did not hold (412): the object is there already, or has changed.
    #[error("{operation} lost a race: its condition does not hold")]
    PreconditionFailed {
        /// The operation.
        operation: &'static str,
    },
    /// The service gave way to a concurrent conditional request (409) and did nothing. Try again.
    #[error("{operation} met a concurrent request")]
    Conflict {
        /// The operation.
        operation: &'static str,
    },
    /// No definite answer (time-out, reset, 5xx): the request may or may not have been carried out.
    #[error("{operation} got no definite answer: {message}")]
    Unknown {
        /// The operation.
        operation: &'static str,
        /// What went wrong.
        message: String,
    },
    /// The service refused, and would refuse again: permissions, a missing table or bucket, an invalid request.
    #[error("{operation} was refused ({code}): {message}")]
    Refused {
        /// The operation.
        operation: &'static str,
        /// The service's error code, e.g. `AccessDeniedException`.
        code: String,
        /// What the service said.
        message: String,
    },
}

/// The answer of a port.
pub type PortResult<T> = Result<T, PortError>;

/// The entity tag of an object version, opaque, quotes included as the store gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ETag(pub String);

/// Under which condition a put may happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutIf {
    /// Only if no object of that key exists (`If-None-Match: *`).
    Absent,
    /// Only if the object is still that version (`If-Match`).
    Matches(ETag),
}

/// User metadata of an object: lower-case ASCII keys, ASCII values.
pub type Metadata = BTreeMap<String, String>;

/// A small object, read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its bytes.
    pub body: Bytes,
    /// Its version.
    pub etag: ETag,
    /// How long ago the store last changed it, by the store's own clock: `Date` minus `Last-Modified` of this very
    /// answer. Whole seconds, never negative.
    pub age: Duration,
}

/// What a HEAD tells of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHead {
    /// Its version.
    pub etag: ETag,
    /// Its size in bytes.
    pub size: u64,
    /// Its user metadata.
    pub metadata: Metadata,
    /// Its age, as in [`Object::age`].
    pub age: Duration,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The whole key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
}

/// The bucket that holds queue files, locks and receipts. Keys are whole keys, the configured prefix included.
///
/// Strong read-after-write consistency is assumed, as S3 gives it.
pub trait ObjectStore: Send + Sync {
    /// An upload in parts, under way.
    type Upload: Send;

    /// Reads a small object whole. `None` if it is not there. An object larger than `limit` bytes is
    /// `Refused` with code `ObjectTooLarge`, without reading it.
    fn get(&self, key: &str, limit: u64) -> impl Future<Output = PortResult<Option<Object>>> + Send;

    /// Reads up to `length` bytes from `offset`. Shorter at the end of the object, empty beyond it; `None` if the
    /// object is not there.
    fn get_range(
        &self,
        key: &str,
        offset: u64,
        length: u64,
    ) -> impl Future<Output = PortResult<Option<Bytes>>> + Send;

    /// Size, version and metadata. `None` if it is not there.
    fn head(&self, key: &str) -> impl Future<Output = PortResult<Option<ObjectHead>>> + Send;

    /// Writes an object under a condition.
    ///
    /// # Errors
    /// `PreconditionFailed` if the condition does not hold (also when `Matches` finds no object), `Conflict` on a 409.
    fn put(
        &self,
        key: &str,
        body: Bytes,
        metadata: &Metadata,
        condition: PutIf,
    ) -> impl Future<Output = PortResult<ETag>> + Send;

    /// Begins an upload in parts. Nothing is visible before [`ObjectStore::complete_upload`].
    fn begin_upload(
        &self,
        key: &str,
        metadata: &Metadata,
    ) -> impl Future<Output = PortResult<Self::Upload>> + Send;

    /// Sends the next part (at least 5 MiB, but the last).
    fn upload_part(
        &self,
        upload: &mut Self::Upload,
        body: Bytes,
    ) -> impl Future<Output = PortResult<()>> + Send;

    /// Makes the object visible, only if no object of that key exists (`If-None-Match: *`).
    ///
    /// # Errors
    /// As [`ObjectStore::put`]; after `Conflict` the upload is gone and must be begun anew.
    fn complete_upload(&self, upload: Self::Upload) -> impl Future<Output = PortResult<ETag>> + Send;

    /// Drops an upload and its parts.
    fn abort_upload(&self, upload: Self::Upload) -> impl Future<Output = PortResult<()>> + Send;

    /// Deletes an object, if given only that version of it. An object that is not there is deleted already: `Ok`.
    ///
    /// # Errors
    /// `PreconditionFailed` if it is another version.
    fn delete(&self, key: &str, only: Option<&ETag>) -> impl Future<Output = PortResult<()>> + Send;

    /// Lists keys that begin with `prefix`, in order, those after `after`. At most 1,000 a call; an empty list is the
    /// end.
    fn list(&self, prefix: &str, after: Option<&str>)
    -> impl Future<Output = PortResult<Vec<Listed>>> + Send;
}

/// What became of one task of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It was created by this request.
    Now,
    /// An item with its id was there already; it was left as it is.
    AlreadyThere,
    /// It was not created for want of capacity; send it again.
    Throttled,
    /// Nobody knows: it is in doubt and must go through [`TaskTable::create_in_doubt`].
    Unknown,
    /// It can never be created: the service says why.
    Refused(String),
}

/// What a task in doubt turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InDoubt {
    /// It stood in none of the three tables and was created now.
    Created,
    /// It stands in the tasks, retry or closed table: it was created before.
    AlreadyThere,
}

/// How many write units a second the tasks table and its greenfield index can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteCapacity {
    /// Billed by request: no figure of its own.
    OnDemand,
    /// Provisioned: the lowest write capacity among the table and the greenfield index.
    Provisioned(u64),
}

/// A meta row of sosw (`sosw_tasks_meta`): who created which task when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaRow {
    /// The task.
    pub task_id: String,
    /// The labourer of the task.
    pub labourer_id: String,
}

/// The tasks table, with the closed and the retry table beside it.
pub trait TaskTable: Send + Sync {
    /// The newest greenfield of that labourer's tasks that is not after `not_after`; `None` if there is none.
    /// Read from the greenfield index, which may lag behind the table.
    fn newest_greenfield(
        &self,
        labourer_id: &str,
        not_after: Greenfield,
    ) -> impl Future<Output = PortResult<Option<Greenfield>>> + Send;

    /// Creates up to 25 tasks in one request and answers for each, in their order. No retry inside.
    ///
    /// # Errors
    /// `Throttled`: none of them was created. `Unknown`: all of them are in doubt. `Refused`: none can be created.
    fn create(&self, tasks: &[Task]) -> impl Future<Output = PortResult<Vec<Created>>> + Send;

    /// Creates one task only if its id stands in none of the tasks, retry and closed tables, all at one moment
    /// (one `TransactWriteItems`). No retry inside. After `Unknown` it may simply be called again.
    fn create_in_doubt(&self, task: &Task) -> impl Future<Output = PortResult<InDoubt>> + Send;

    /// What the table can take.
    fn write_capacity(&self) -> impl Future<Output = PortResult<WriteCapacity>> + Send;

    /// Writes sosw's meta rows, best effort; an empty implementation is a correct one.
    fn record_meta(&self, rows: &[MetaRow]) -> impl Future<Output = PortResult<()>> + Send;
}

/// Starts another invocation of this very function.
pub trait Siblings: Send + Sync {
    /// Invokes asynchronously with `payload`, JSON text; returns when the invocation is queued.
    fn spawn(&self, payload: String) -> impl Future<Output = PortResult<()>> + Send;
}

/// The machine an invocation runs on: time and chance.
pub trait Host: Send + Sync {
    /// Wall clock: milliseconds since 1970-01-01T00:00:00Z.
    fn wall_ms(&self) -> i64;

    /// Monotonic clock: time since some fixed moment.
    fn monotonic(&self) -> Duration;

    /// Returns after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;

    /// 128 random bits.
    fn random(&self) -> u128;
}
