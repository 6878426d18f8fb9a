//! Spooling: the rows of a plan go to the queue file, once.

use bytes::Bytes;
use jobmill_core::job::chunk::{Chunks, Rows};
use jobmill_core::queue::lock::Lock;
use jobmill_core::{Error, ErrorKind};

use crate::error::{During as _, EngineError};
use crate::ports::{Clock, Metadata, ObjectHead, ObjectStore, PortError, PutIf, Random};
use crate::retry::{again, retry};

/// S3 takes 10,000 parts.
const MAX_PARTS: u64 = 10_000;

/// What identifies the rows of a run, kept beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) run: String,
    pub(crate) rows: u64,
    pub(crate) fingerprint: String,
    pub(crate) as_of: Option<String>,
}

impl Label {
    pub(crate) fn to_metadata(&self) -> Metadata {
        let mut metadata = Metadata::from([
            ("jobmill".to_owned(), "rows".to_owned()),
            ("run".to_owned(), self.run.clone()),
            ("rows".to_owned(), self.rows.to_string()),
            ("fingerprint".to_owned(), self.fingerprint.clone()),
        ]);
        metadata.extend(
            self.as_of
                .as_ref()
                .map(|as_of| ("as-of".to_owned(), as_of.clone())),
        );
        metadata
    }

    /// The label of the file that a lock is about.
    pub(crate) fn of_lock(lock: &Lock) -> Self {
        Self {
            run: lock.run.clone(),
            rows: lock.rows,
            fingerprint: lock.fingerprint.clone(),
            as_of: lock.as_of.clone(),
        }
    }

    /// The label of a queue file; `None` if it has none, because it is not of our making.
    pub(crate) fn of(head: &ObjectHead) -> Option<Self> {
        let metadata = &head.metadata;
        if metadata.get("jobmill").map(String::as_str) != Some("rows") {
            return None;
        }
        Some(Self {
            run: metadata.get("run")?.clone(),
            rows: metadata.get("rows")?.parse().ok()?,
            fingerprint: metadata.get("fingerprint")?.clone(),
            as_of: metadata.get("as-of").cloned(),
        })
    }
}

/// What spooling came to.
pub(crate) enum Spooled {
    /// The file stands; its rows, if this invocation wrote them and they are few.
    Ours(Option<Bytes>),
    /// The file stood already, by the same job, with rows as it says.
    Stands(Label),
    /// The put was refused but there is no file: it was completed and deleted meanwhile, or the answer was wrong.
    Vanished,
}

/// Writes the rows of `chunks` under `key`, unless they stand there: up to `part` bytes at once, more in parts of so many.
///
/// # Errors
/// `RunIdConflict` if the rows of another job stand there; a port's error.
pub(crate) async fn spool(
    store: &impl ObjectStore,
    host: &(impl Clock + Random),
    key: &str,
    label: &Label,
    chunks: &Chunks,
    part: usize,
) -> Result<Spooled, EngineError> {
    let metadata = label.to_metadata();
    let small = chunks.byte_count() <= part as u64;
    let mut attempt = 0;
    loop {
        let answer = if small {
            let file = fill(
                &mut chunks.rows(),
                usize::try_from(chunks.byte_count()).unwrap_or(part),
            );
            store
                .put(key, file.clone(), &metadata, PutIf::Absent)
                .await
                .map(|_| Some(file))
        } else {
            upload(store, key, &metadata, chunks, part).await.map(|()| None)
        };
        let error = match answer {
            Ok(file) => return Ok(Spooled::Ours(file)),
            Err(source) if source.is_final() => {
                return Err(EngineError::Port {
                    step: "writing the queue file",
                    source,
                });
            }
            Err(error) => error,
        };
        if let Some(head) = retry(host, || store.head(key))
            .await
            .during("looking for the queue file")?
        {
            return match Label::of(&head) {
                Some(found) if found.fingerprint == label.fingerprint => Ok(Spooled::Stands(found)),
                _ => Err(conflict(&label.run)),
            };
        }
        if matches!(error, PortError::PreconditionFailed { .. }) {
            return Ok(Spooled::Vanished);
        }
        if !again(host, &error, attempt).await {
            return Err(EngineError::Port {
                step: "writing the queue file",
                source: error,
            });
        }
        attempt += 1;
    }
}

/// The run id was used for another job.
pub(crate) fn conflict(run: &str) -> EngineError {
    EngineError::Input(Error::new(
        ErrorKind::RunIdConflict,
        format!(
            "`run_id` is {run:?}, which was used before for another job, schema or as-of: give this one a run id of \
             its own"
        ),
    ))
}

/// The next rows, at least `size` bytes of them or all that are left, a line feed behind each.
fn fill(rows: &mut Rows<'_>, size: usize) -> Bytes {
    let mut part = Vec::with_capacity(size + 1024);
    while part.len() < size {
        let Some(row) = rows.next_row() else { break };
        part.extend_from_slice(row);
        part.push(b'\n');
    }
    Bytes::from(part)
}

async fn upload(
    store: &impl ObjectStore,
    key: &str,
    metadata: &Metadata,
    chunks: &Chunks,
    part: usize,
) -> Result<(), PortError> {
    // Files beyond 80 GB need larger parts, or there would be more than S3 takes.
    let size = usize::try_from(chunks.byte_count() / (MAX_PARTS - 1))
        .unwrap_or(usize::MAX)
        .max(part);
    let mut upload = store.begin_upload(key, metadata).await?;
    let mut rows = chunks.rows();
    loop {
        let part = fill(&mut rows, size);
        if part.is_empty() {
            break;
        }
        if let Err(error) = store.upload_part(&mut upload, part).await {
            return Err(abandon(store, upload, error).await);
        }
    }
    store.complete_upload(upload).await.map(|_| ())
}

/// Drops what was uploaded; what can't be dropped, the bucket's lifecycle does.
pub(crate) async fn abandon<S: ObjectStore>(store: &S, upload: S::Upload, error: PortError) -> PortError {
    if let Err(abort) = store.abort_upload(upload).await {
        tracing::warn!(error = %abort, "could not abort an upload in parts");
    }
    error
}
