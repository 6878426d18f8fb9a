//! Objects as files of a folder, so that they outlive the process: each is written before its put is answered, and comes
//! into its place by a rename. What a machine that loses its power has not written yet is lost.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use s3s::crypto::{Checksum as _, Md5};
use serde_json::{Value, json};

use super::store::{Content, Object, hex};

/// What a file is called while it is written.
const UNFINISHED: &str = "unfinished";

/// The folder. Each file is a line of JSON that says what it is, and the body.
#[derive(Debug, Clone)]
pub(super) struct Disk(PathBuf);

impl Disk {
    /// The folder, made where it is missing.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self(folder.to_owned()))
    }

    /// A key may be longer than the name of a file, and hold anything.
    fn path(&self, bucket: &str, key: &str) -> PathBuf {
        self.0
            .join(hex(&Md5::checksum(format!("{bucket}/{key}").as_bytes())))
    }

    pub(super) fn write(&self, bucket: &str, key: &str, object: &Object) -> io::Result<()> {
        let modified = object
            .last_modified
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let head = json!({
            "bucket": bucket,
            "key": key,
            "etag": object.etag,
            "modified_ms": u64::try_from(modified.as_millis()).unwrap_or(u64::MAX),
            "metadata": object.metadata,
        });
        let path = self.path(bucket, key);
        let unfinished = path.with_extension(UNFINISHED);
        let mut file = io::BufWriter::new(fs::File::create(&unfinished)?);
        writeln!(file, "{head}")?;
        for piece in object.content.slice(0..object.content.len()) {
            file.write_all(&piece)?;
        }
        file.flush()?;
        fs::rename(unfinished, path)
    }

    pub(super) fn delete(&self, bucket: &str, key: &str) -> io::Result<()> {
        match fs::remove_file(self.path(bucket, key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// All objects: bucket, key and object.
    pub(super) fn read(&self) -> io::Result<Vec<(String, String, Object)>> {
        let mut objects = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == UNFINISHED) {
                fs::remove_file(path)?;
                continue;
            }
            let object = read(&path)?.ok_or_else(|| {
                let why = format!("{} is no object of the local cloud", path.display());
                io::Error::new(io::ErrorKind::InvalidData, why)
            })?;
            objects.push(object);
        }
        Ok(objects)
    }
}

fn read(path: &Path) -> io::Result<Option<(String, String, Object)>> {
    let mut file = BufReader::new(fs::File::open(path)?);
    let mut head = Vec::new();
    file.read_until(b'\n', &mut head)?;
    let mut body = Vec::new();
    file.read_to_end(&mut body)?;
    let Ok(head) = serde_json::from_slice::<Value>(&head) else {
        return Ok(None);
    };
    let text = |name: &str| head.get(name).and_then(Value::as_str).map(str::to_owned);
    let modified = head.get("modified_ms").and_then(Value::as_u64);
    let metadata = head.get("metadata").cloned().unwrap_or_default();
    let metadata = serde_json::from_value::<HashMap<String, String>>(metadata).ok();
    let (Some(bucket), Some(key), Some(etag), Some(modified), Some(metadata)) =
        (text("bucket"), text("key"), text("etag"), modified, metadata)
    else {
        return Ok(None);
    };
    let object = Object {
        content: Content::new(vec![Bytes::from(body)]),
        etag,
        last_modified: UNIX_EPOCH
            .checked_add(Duration::from_millis(modified))
            .unwrap_or(UNIX_EPOCH),
        metadata,
    };
    Ok(Some((bucket, key, object)))
}
