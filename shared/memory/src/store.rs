//! The object store in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jobmill_engine::ports::{
    ETag, Metadata, OBJECT_TOO_LARGE, Object, ObjectHead, ObjectStore, PortError, PortResult, PutIf,
};

use crate::{VirtualClock, locked, refused};

/// Least size of every part of an upload but the last, as at S3.
const LEAST_PART: usize = 5 * 1024 * 1024;
const PAGE: usize = 1000;

/// The objects of a bucket. As at S3, the ETag is a digest of the content: the same bytes, the same ETag.
#[derive(Debug, Clone, Default)]
pub struct Bucket {
    objects: BTreeMap<String, Version>,
    history: Vec<Change>,
    /// Takes parts of any size, unlike S3: for tests of small files in many parts.
    pub any_part: bool,
    /// Keys that may be listed and not read, as where a policy of the bucket denies it.
    pub denied: BTreeSet<String>,
    visit: Visit,
}

/// Who is looking at the bucket, and when.
#[derive(Debug, Clone, Copy, Default)]
struct Visit {
    at: Duration,
    stamp: u64,
    actor: u64,
}

/// A change of an object.
#[derive(Debug, Clone)]
pub struct Change {
    /// When.
    pub at: Duration,
    /// Its place among all that happened, as [`VirtualClock::stamp`] counts.
    pub stamp: u64,
    /// By whom, as [`MemoryStore::seen_by`] said.
    pub actor: u64,
    /// The key.
    pub key: String,
    /// What was put; none: it was deleted.
    pub body: Option<Bytes>,
}

#[derive(Debug, Clone)]
struct Version {
    body: Bytes,
    etag: ETag,
    metadata: Metadata,
    modified: Duration,
}

/// An upload in parts to a [`MemoryStore`].
#[derive(Debug, Clone)]
pub struct MemoryUpload {
    key: String,
    metadata: Metadata,
    parts: Vec<Bytes>,
}

impl Bucket {
    /// Every change so far, oldest first.
    pub fn history(&self) -> &[Change] {
        &self.history
    }

    fn record(&mut self, key: &str, body: Option<Bytes>) {
        let Visit { at, stamp, actor } = self.visit;
        self.history.push(Change {
            at,
            stamp,
            actor,
            key: key.to_owned(),
            body,
        });
    }

    fn check_access(&self, operation: &'static str, key: &str) -> PortResult<()> {
        match self.denied.contains(key) {
            true => Err(refused(
                operation,
                "AccessDenied",
                format!("{key} may not be read"),
            )),
            false => Ok(()),
        }
    }

    /// See [`ObjectStore::get`].
    pub fn get(&self, now: Duration, key: &str, limit: u64) -> PortResult<Option<Object>> {
        self.check_access("s3:GetObject", key)?;
        let Some(version) = self.objects.get(key) else {
            return Ok(None);
        };
        if version.body.len() as u64 > limit {
            let message = format!("{key} has more than {limit} bytes");
            return Err(refused("s3:GetObject", OBJECT_TOO_LARGE, message));
        }
        Ok(Some(Object {
            body: version.body.clone(),
            etag: version.etag.clone(),
            age: version.age(now),
        }))
    }

    /// See [`ObjectStore::get_range`].
    pub fn get_range(&self, key: &str, offset: u64, length: u64) -> PortResult<Option<Bytes>> {
        self.check_access("s3:GetObject", key)?;
        let cut = |version: &Version| {
            let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(version.body.len());
            let (from, to) = (place(offset), place(offset.saturating_add(length)));
            version.body.slice(from..to)
        };
        Ok(self.objects.get(key).map(cut))
    }

    /// See [`ObjectStore::head`].
    pub fn head(&self, now: Duration, key: &str) -> PortResult<Option<ObjectHead>> {
        self.check_access("s3:HeadObject", key)?;
        Ok(self.objects.get(key).map(|version| ObjectHead {
            etag: version.etag.clone(),
            metadata: version.metadata.clone(),
            age: version.age(now),
        }))
    }

    /// See [`ObjectStore::put`].
    pub fn put(
        &mut self,
        now: Duration,
        key: &str,
        body: Bytes,
        metadata: &Metadata,
        condition: &PutIf,
    ) -> PortResult<ETag> {
        let there = self.objects.get(key).map(|version| &version.etag);
        let holds = match condition {
            PutIf::Absent => there.is_none(),
            PutIf::Matches(etag) => there == Some(etag),
        };
        if !holds {
            return Err(PortError::PreconditionFailed {
                operation: "s3:PutObject",
            });
        }
        let etag = digest(&body);
        self.record(key, Some(body.clone()));
        let version = Version {
            body,
            etag: etag.clone(),
            metadata: metadata.clone(),
            modified: whole_seconds(now),
        };
        self.objects.insert(key.to_owned(), version);
        Ok(etag)
    }

    /// See [`ObjectStore::complete_upload`].
    pub fn complete(&mut self, now: Duration, upload: MemoryUpload) -> PortResult<ETag> {
        const OPERATION: &str = "s3:CompleteMultipartUpload";
        let Some((_, others)) = upload.parts.split_last() else {
            return Err(refused(OPERATION, "MalformedXML", "an upload needs a part"));
        };
        if !self.any_part && others.iter().any(|part| part.len() < LEAST_PART) {
            return Err(refused(
                OPERATION,
                "EntityTooSmall",
                "only the last part may be smaller than 5 MiB",
            ));
        }
        let body = Bytes::from(upload.parts.concat());
        self.put(now, &upload.key, body, &upload.metadata, &PutIf::Absent)
            .map_err(|error| match error {
                PortError::PreconditionFailed { .. } => {
                    PortError::PreconditionFailed { operation: OPERATION }
                }
                error => error,
            })
    }

    /// See [`ObjectStore::delete`].
    pub fn delete(&mut self, key: &str, only: Option<&ETag>) -> PortResult<()> {
        let there = self.objects.get(key).map(|version| &version.etag);
        if there.is_some() && only.is_some() && there != only {
            return Err(PortError::PreconditionFailed {
                operation: "s3:DeleteObject",
            });
        }
        if self.objects.remove(key).is_some() {
            self.record(key, None);
        }
        Ok(())
    }

    /// See [`ObjectStore::list`].
    pub fn list(&self, prefix: &str, after: Option<&str>) -> Vec<String> {
        let from = after.filter(|after| *after > prefix).unwrap_or(prefix);
        self.objects
            .range(from.to_owned()..)
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(PAGE)
            .map(|(key, _)| key.clone())
            .collect()
    }
}

impl Version {
    fn age(&self, now: Duration) -> Duration {
        whole_seconds(now).saturating_sub(self.modified)
    }
}

/// The headers that an age is made of count whole seconds.
fn whole_seconds(moment: Duration) -> Duration {
    Duration::from_secs(moment.as_secs())
}

fn digest(body: &[u8]) -> ETag {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    ETag(format!("\"{:016x}\"", hasher.finish()))
}

/// A bucket in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    bucket: Arc<Mutex<Bucket>>,
    clock: VirtualClock,
    actor: u64,
}

impl MemoryStore {
    /// An empty bucket whose clock is `clock`.
    pub fn new(clock: VirtualClock) -> Self {
        Self {
            bucket: Arc::default(),
            clock,
            actor: 0,
        }
    }

    /// The same bucket, as seen by somebody else.
    pub fn seen_by(&self, actor: u64) -> Self {
        Self {
            actor,
            ..self.clone()
        }
    }

    /// Looks at the bucket, or changes it behind everyone's back.
    pub fn with<T>(&self, look: impl FnOnce(&mut Bucket, Duration) -> T) -> T {
        let visit = Visit {
            at: self.clock.now(),
            stamp: self.clock.stamp(),
            actor: self.actor,
        };
        let mut bucket = locked(&self.bucket);
        bucket.visit = visit;
        look(&mut bucket, visit.at)
    }

    /// All keys, in order.
    pub fn keys(&self) -> Vec<String> {
        self.with(|bucket, _| bucket.objects.keys().cloned().collect())
    }

    /// The body of an object.
    pub fn body(&self, key: &str) -> Option<Bytes> {
        self.with(|bucket, _| bucket.objects.get(key).map(|version| version.body.clone()))
    }
}

impl MemoryUpload {
    /// An upload without parts.
    pub fn new(key: &str, metadata: &Metadata) -> Self {
        Self {
            key: key.to_owned(),
            metadata: metadata.clone(),
            parts: Vec::new(),
        }
    }

    /// Adds the next part.
    pub fn push(&mut self, part: Bytes) {
        self.parts.push(part);
    }
}

impl ObjectStore for MemoryStore {
    type Upload = MemoryUpload;

    async fn get(&self, key: &str, limit: u64) -> PortResult<Option<Object>> {
        self.with(|bucket, now| bucket.get(now, key, limit))
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> PortResult<Option<Bytes>> {
        self.with(|bucket, _| bucket.get_range(key, offset, length))
    }

    async fn head(&self, key: &str) -> PortResult<Option<ObjectHead>> {
        self.with(|bucket, now| bucket.head(now, key))
    }

    async fn put(&self, key: &str, body: Bytes, metadata: &Metadata, condition: PutIf) -> PortResult<ETag> {
        self.with(|bucket, now| bucket.put(now, key, body, metadata, &condition))
    }

    async fn begin_upload(&self, key: &str, metadata: &Metadata) -> PortResult<MemoryUpload> {
        Ok(MemoryUpload::new(key, metadata))
    }

    async fn upload_part(&self, upload: &mut MemoryUpload, body: Bytes) -> PortResult<()> {
        upload.push(body);
        Ok(())
    }

    async fn complete_upload(&self, upload: MemoryUpload) -> PortResult<ETag> {
        self.with(|bucket, now| bucket.complete(now, upload))
    }

    async fn abort_upload(&self, _upload: MemoryUpload) -> PortResult<()> {
        Ok(())
    }

    async fn delete(&self, key: &str, only: Option<&ETag>) -> PortResult<()> {
        self.with(|bucket, _| bucket.delete(key, only))
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> PortResult<Vec<String>> {
        Ok(self.with(|bucket, _| bucket.list(prefix, after)))
    }
}
