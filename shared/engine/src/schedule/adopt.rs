//! A queue file that sosw's Scheduler left behind: copied to a name of our own, then deleted.

use bytes::Bytes;
use jobmill_core::queue::lock::Cursor;
use jobmill_core::task::identity::short_digest;

use crate::error::{During as _, EngineError};
use crate::ports::{ETag, Metadata, ObjectHead, ObjectStore, PortError, PutIf};
use crate::schedule::drain::lines::{Lines, Next, READ_BYTES};
use crate::schedule::spool::{Label, abandon};

/// The run id of an adopted file: the same file always gets the same one.
pub(crate) fn run_id(file_name: &str, etag: &ETag) -> String {
    format!("sosw-{}", short_digest(&[file_name, &etag.0]))
}

/// What adopting came to.
pub(crate) enum Adopted {
    /// The rows stand under the new name.
    Copied,
    /// There were none.
    Empty,
}

/// Copies the rows of `from` to `to`, then deletes `from`. If the copy stands already, or there are no rows, it is only
/// deleted.
///
/// # Errors
/// A port's error; `DamagedQueue` if the file has a line without end.
pub(crate) async fn adopt(
    store: &impl ObjectStore,
    from: &str,
    head: &ObjectHead,
    to: &str,
    run: &str,
    part_bytes: usize,
) -> Result<Adopted, EngineError> {
    if store
        .head(to)
        .await
        .during("looking for the copy of the file")?
        .is_none()
    {
        let rows = count(store, from).await?;
        if rows == 0 {
            delete(store, from, head).await?;
            return Ok(Adopted::Empty);
        }
        let label = Label {
            run: run.to_owned(),
            rows,
            fingerprint: short_digest(&[run]),
            as_of: None,
        };
        match copy(store, from, to, &label.to_metadata(), part_bytes).await? {
            // Somebody else has copied it meanwhile, or our answer was lost: the same bytes under the same name.
            Ok(()) | Err(PortError::PreconditionFailed { .. }) => {}
            Err(source) => {
                return Err(EngineError::Port {
                    step: "copying the file that sosw left",
                    source,
                });
            }
        }
    }
    delete(store, from, head).await?;
    Ok(Adopted::Copied)
}

/// Deletes a file, only if it is still as `head` says.
pub(crate) async fn delete(
    store: &impl ObjectStore,
    key: &str,
    head: &ObjectHead,
) -> Result<(), EngineError> {
    store
        .delete(key, Some(&head.etag))
        .await
        .during("deleting a file that is of no more use")
}

/// Reads the next rows; `None` after the last. Empty lines are left out.
async fn next_row(
    store: &impl ObjectStore,
    key: &str,
    lines: &mut Lines,
) -> Result<Option<Bytes>, EngineError> {
    loop {
        match lines.next() {
            Next::Line(line, _) if line.iter().all(u8::is_ascii_whitespace) => {}
            Next::Line(line, _) => return Ok(Some(line)),
            Next::End => return Ok(None),
            Next::TooLong => {
                let row = lines.cursor().row + 1;
                return Err(EngineError::damaged(format!(
                    "line {row} of {key:?} has no end: it is no queue file"
                )));
            }
            Next::ReadMore => {
                let Some(at) = lines.wants() else { return Ok(None) };
                let read = store
                    .get_range(key, at, READ_BYTES)
                    .await
                    .during("reading the file that sosw left")?;
                let Some(read) = read else {
                    // Somebody else has finished adopting it: what was read so far must not pass for the whole.
                    let source = PortError::Unknown {
                        operation: "s3:GetObject",
                        message: "the file has vanished".to_owned(),
                    };
                    return Err(EngineError::Port {
                        step: "reading the file that sosw left",
                        source,
                    });
                };
                lines.feed(read);
            }
        }
    }
}

async fn count(store: &impl ObjectStore, key: &str) -> Result<u64, EngineError> {
    let mut lines = Lines::at(Cursor::default());
    let mut rows = 0;
    while next_row(store, key, &mut lines).await?.is_some() {
        rows += 1;
    }
    Ok(rows)
}

async fn copy(
    store: &impl ObjectStore,
    from: &str,
    to: &str,
    metadata: &Metadata,
    part_bytes: usize,
) -> Result<Result<(), PortError>, EngineError> {
    let mut lines = Lines::at(Cursor::default());
    let mut part = Vec::new();
    let mut upload = None;
    while let Some(row) = next_row(store, from, &mut lines).await? {
        part.extend_from_slice(&row);
        part.push(b'\n');
        if part.len() < part_bytes {
            continue;
        }
        let mut open = match upload.take() {
            Some(open) => open,
            None => match store.begin_upload(to, metadata).await {
                Ok(open) => open,
                Err(error) => return Ok(Err(error)),
            },
        };
        if let Err(error) = store
            .upload_part(&mut open, Bytes::from(std::mem::take(&mut part)))
            .await
        {
            return Ok(Err(abandon(store, open, error).await));
        }
        upload = Some(open);
    }
    let Some(mut open) = upload else {
        return Ok(store
            .put(to, Bytes::from(part), metadata, PutIf::Absent)
            .await
            .map(|_| ()));
    };
    if !part.is_empty()
        && let Err(error) = store.upload_part(&mut open, Bytes::from(part)).await
    {
        return Ok(Err(abandon(store, open, error).await));
    }
    Ok(store.complete_upload(open).await.map(|_| ()))
}
