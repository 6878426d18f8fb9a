//! Buckets and objects in memory. Bodies are shared, so nothing large is copied under the lock.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::{Bound, Range};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::Metadata;

use super::disk::Disk;

/// Bodies up to this size are kept as one piece; larger ones stay in the pieces in which they arrived.
const COALESCE_LIMIT: usize = 1 << 20;

/// A body in pieces, with the offset at which each piece ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    pieces: Vec<Bytes>,
    ends: Vec<u64>,
}

impl Content {
    pub(crate) fn new(pieces: Vec<Bytes>) -> Self {
        let total: usize = pieces.iter().map(Bytes::len).sum();
        if pieces.len() > 1 && total <= COALESCE_LIMIT {
            let mut whole = BytesMut::with_capacity(total);
            for piece in &pieces {
                whole.extend_from_slice(piece);
            }
            return Self::from_pieces(std::iter::once(whole.freeze()));
        }
        Self::from_pieces(pieces)
    }

    fn from_pieces(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let mut content = Self::default();
        let mut end = 0;
        for piece in pieces {
            if !piece.is_empty() {
                end += piece.len() as u64;
                content.pieces.push(piece);
                content.ends.push(end);
            }
        }
        content
    }

    /// The bodies of `parts`, one behind the other, without copying them.
    pub(crate) fn concat<'a>(parts: impl IntoIterator<Item = &'a Content>) -> Self {
        Self::from_pieces(parts.into_iter().flat_map(|part| part.pieces.iter().cloned()))
    }

    pub(crate) fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The pieces that cover `range`, cut to it; the bytes themselves are shared.
    pub(crate) fn slice(&self, range: Range<u64>) -> Vec<Bytes> {
        let first = self.ends.partition_point(|end| *end <= range.start);
        let mut slices = Vec::new();
        for (piece, end) in self.pieces.iter().zip(&self.ends).skip(first) {
            let start = end - piece.len() as u64;
            if start >= range.end {
                break;
            }
            let from = range.start.saturating_sub(start) as usize;
            let to = (range.end.min(*end) - start) as usize;
            slices.push(piece.slice(from..to));
        }
        slices
    }

    /// The whole body as one piece; copies if it is kept in several.
    pub(crate) fn to_bytes(&self) -> Bytes {
        match self.pieces.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => {
                let mut whole = BytesMut::with_capacity(self.len() as usize);
                for piece in many {
                    whole.extend_from_slice(piece);
                }
                whole.freeze()
            }
        }
    }

    pub(crate) fn md5(&self) -> Digest {
        let mut md5 = Md5::new();
        for piece in &self.pieces {
            md5.update(piece);
        }
        md5.finalize()
    }
}

/// An MD5.
pub(crate) type Digest = [u8; 16];

#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) content: Content,
    /// Without quotation marks: the MD5 of a plain put, `md5-of-md5s-N` of a multipart upload.
    pub(crate) etag: String,
    pub(crate) last_modified: SystemTime,
    pub(crate) metadata: Metadata,
}

#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) content: Content,
    pub(crate) md5: Digest,
}

#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) key: String,
    pub(crate) metadata: Metadata,
    pub(crate) parts: BTreeMap<i32, Arc<Part>>,
}

#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// Ordered by key, byte by byte, as ListObjectsV2 answers.
    objects: BTreeMap<String, Arc<Object>>,
    /// By upload id.
    pub(crate) uploads: HashMap<String, Upload>,
    /// Where objects are kept beside, and under which name of a bucket.
    disk: Option<(Disk, String)>,
}

impl Bucket {
    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// Puts an object, over what was there.
    pub(crate) fn insert(&mut self, key: String, object: Object) -> io::Result<()> {
        if let Some((disk, bucket)) = &self.disk {
            disk.write(bucket, &key, &object)?;
        }
        self.objects.insert(key, Arc::new(object));
        Ok(())
    }

    /// Deletes an object; one that is not there is deleted already.
    pub(crate) fn remove(&mut self, key: &str) -> io::Result<()> {
        if let Some((disk, bucket)) = &self.disk {
            disk.delete(bucket, key)?;
        }
        self.objects.remove(key);
        Ok(())
    }

    /// The objects whose key begins with `prefix` and comes behind `after`.
    pub(crate) fn list(&self, prefix: &str, after: &str) -> impl Iterator<Item = (&String, &Arc<Object>)> {
        let from = if after < prefix {
            Bound::Included(prefix)
        } else {
            Bound::Excluded(after)
        };
        self.objects
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }
}

/// All buckets. One mutex over the whole map makes every conditional write atomic.
#[derive(Debug, Default)]
pub(crate) struct Store {
    buckets: Mutex<BTreeMap<String, Bucket>>,
    disk: Option<Disk>,
}

impl Store {
    /// With the objects that are kept in a folder, and keeping all there.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let disk = Disk::open(folder)?;
        let objects = disk.read()?;
        let store = Self {
            disk: Some(disk),
            ..Self::default()
        };
        for (bucket, key, object) in objects {
            store.create_bucket(&bucket);
            if let Some(bucket) = store.lock().get_mut(&bucket) {
                bucket.objects.insert(key, Arc::new(object));
            }
        }
        Ok(store)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a bucket; one that exists is left as it is.
    pub(crate) fn create_bucket(&self, name: &str) {
        self.lock().entry(name.to_owned()).or_insert_with(|| Bucket {
            disk: self.disk.clone().map(|disk| (disk, name.to_owned())),
            ..Bucket::default()
        });
    }

    /// Puts a plain object; `None` if there is no such bucket.
    pub(crate) fn put(
        &self,
        bucket: &str,
        key: &str,
        body: Bytes,
        now: SystemTime,
    ) -> Option<io::Result<()>> {
        let content = Content::new(vec![body]);
        let object = Object {
            etag: hex(&content.md5()),
            content,
            last_modified: now,
            metadata: Metadata::new(),
        };
        Some(self.lock().get_mut(bucket)?.insert(key.to_owned(), object))
    }

    pub(crate) fn object(&self, bucket: &str, key: &str) -> Option<Arc<Object>> {
        self.lock().get(bucket)?.get(key).cloned()
    }
}

/// The hexadecimal digits of a digest.
pub(crate) fn hex(digest: &Digest) -> String {
    format!("{:032x}", u128::from_be_bytes(*digest))
}
