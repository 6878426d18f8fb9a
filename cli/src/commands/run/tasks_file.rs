//! `--out`: every task of a completed run, in the order of its queue. The file is whole or it is not written.
//!
//! The tasks are made from the rows of the plan and the ids that belong to them, so it does not matter which process
//! created them, or when.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use jobmill_core::task::identity::TaskIds;
use jobmill_core::task::row::payload_of;
use jobmill_core::task::tables::FieldNames;
use serde_json::{Map, Value};

use super::prepare::PreparedRun;
use crate::failure::Failure;
use crate::input::is_standard_stream;
use crate::stop::Stop;

/// As large as four pipes.
const BUFFER_BYTES: usize = 256 << 10;
/// After so many tasks a signal is looked for.
const TASKS_AT_A_TIME: u64 = 4096;

/// A place that can't be written is found before the job has run, not after.
pub(super) fn check(out: &Path) -> Result<(), Failure> {
    match Place::of(out) {
        Place::File(file) => {
            let folder = folder_of(&file);
            let sentence = if file.is_dir() {
                format!("--out {} is a folder: name a file", out.display())
            } else if !folder.is_dir() {
                format!("--out {}: there is no folder {}", out.display(), folder.display())
            } else if let Err(error) = tempfile::tempfile_in(folder) {
                format!(
                    "--out {}: nothing can be written in {}: {error}",
                    out.display(),
                    folder.display()
                )
            } else {
                return Ok(());
            };
            Err(Failure::invalid("Usage", sentence))
        }
        Place::StandardOutput | Place::Special(_) => Ok(()),
    }
}

/// Where the tasks go.
enum Place {
    StandardOutput,
    /// A file that is there, or will be.
    File(PathBuf),
    /// A pipe or a device: nothing that another file could take the place of.
    Special(PathBuf),
}

impl Place {
    fn of(out: &Path) -> Self {
        if is_standard_stream(out) {
            return Self::StandardOutput;
        }
        // Behind a link the file is replaced, and not the link.
        let real = fs::canonicalize(out).unwrap_or_else(|_| out.to_owned());
        match fs::metadata(&real) {
            Ok(found) if !found.is_file() && !found.is_dir() => Self::Special(real),
            _ => Self::File(real),
        }
    }
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Writes all tasks of a run.
pub(super) fn write(out: &Path, run: &PreparedRun, stop: &Stop) -> Result<(), Failure> {
    let written = match Place::of(out) {
        Place::StandardOutput => write_tasks(io::stdout().lock(), run, stop),
        Place::Special(path) => OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|file| write_tasks(file, run, stop)),
        Place::File(path) => replace(&path, run, stop),
    };
    let Err(error) = written else { return Ok(()) };
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Err(Failure::PipeClosed);
    }
    let sentence = format!(
        "every task was created, but --out {} was not written: {error}",
        out.display()
    );
    Err(match stop.signal() {
        Some(signal) => Failure::new(signal.exit_code(), "Interrupted", sentence),
        None => Failure::failed("OutputFailed", sentence),
    })
}

/// Puts a whole file in the place of what was there, at once.
fn replace(path: &Path, run: &PreparedRun, stop: &Stop) -> io::Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".jobmill-").suffix(".tmp");
    let file = builder.make_in(folder_of(path), |path| new_file().open(path))?;
    write_tasks(file.as_file(), run, stop)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// With the permissions of any other new file, and not those of a temporary one.
fn new_file() -> OpenOptions {
    let mut options = File::options();
    options.write(true).create_new(true);
    options
}

fn write_tasks(out: impl Write, run: &PreparedRun, stop: &Stop) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
    let ids = TaskIds::new(&run.config.queue_bucket, &run.config.s3_prefix, &run.run_id);
    let fields = &run.config.tables.fields;
    let mut rows = run.plan.chunks.rows();
    let mut number = 0;
    while let Some(row) = rows.next_row() {
        if number % TASKS_AT_A_TIME == 0
            && let Some(signal) = stop.signal()
        {
            return Err(io::Error::other(format!("stopped by {}", signal.name())));
        }
        let (labourer_id, payload) = payload_of(row).map_err(|error| io::Error::other(error.sentence))?;
        serde_json::to_writer(&mut out, &line(fields, ids.at(number), labourer_id, payload))?;
        out.write_all(b"\n")?;
        number += 1;
    }
    out.flush()
}

fn line(fields: &FieldNames, task_id: String, labourer_id: String, payload: String) -> Value {
    Value::Object(Map::from_iter([
        (fields.task_id.clone(), task_id.into()),
        (fields.labourer_id.clone(), labourer_id.into()),
        (fields.payload.clone(), payload.into()),
    ]))
}
