//! The object store: bucket and objects.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use super::PortResult;

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

/// The code of [`PortError::Refused`](super::PortError::Refused) for an object larger than a read allows.
pub const OBJECT_TOO_LARGE: &str = "ObjectTooLarge";

/// What a HEAD tells of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHead {
    /// Its version.
    pub etag: ETag,
    /// Its user metadata.
    pub metadata: Metadata,
    /// Its age, as in [`Object::age`].
    pub age: Duration,
}

/// The bucket that holds queue files, locks and receipts. Keys are whole keys, the configured prefix included.
///
/// Strong read-after-write consistency is assumed, as S3 gives it.
pub trait ObjectStore: Send + Sync {
    /// An upload in parts, under way.
    type Upload: Send;

    /// Reads a small object whole. `None` if it is not there. An object larger than `limit` bytes is
    /// `Refused` with code [`OBJECT_TOO_LARGE`], without reading it.
    fn get(&self, key: &str, limit: u64) -> impl Future<Output = PortResult<Option<Object>>> + Send;

    /// Reads up to `length` bytes from `offset`. Shorter at the end of the object, empty beyond it; `None` if the
    /// object is not there.
    fn get_range(
        &self,
        key: &str,
        offset: u64,
        length: u64,
    ) -> impl Future<Output = PortResult<Option<Bytes>>> + Send;

    /// Version, metadata and age. `None` if it is not there.
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
    -> impl Future<Output = PortResult<Vec<String>>> + Send;
}
