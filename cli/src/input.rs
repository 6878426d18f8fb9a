//! What comes from files and standard input: the job, the configuration, and where to look for it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use jobmill_core::config::Config;
use jobmill_core::job::event::{self, JobRequest, Request};
use jobmill_core::job::period::AsOf;
use jobmill_core::json::{Document, MAX_TEXT_BYTES};
use jobmill_core::{Error, ErrorKind, WarningKind};

use crate::failure::Failure;
use crate::starter_config;
use crate::terminal::warn;

/// The configuration that is looked for where none is named.
pub(crate) const CONFIG_NAME: &str = "jobmill.json";

/// A job, its configuration and its date: what `plan` and `run` have in common.
#[derive(Debug, Args)]
pub(crate) struct JobArguments {
    /// A file with the job, or - for standard input: a bare job, an envelope {"job": ...} or an EventBridge event
    #[arg(value_name = "JOB")]
    pub(crate) job: PathBuf,

    /// The configuration; otherwise jobmill.json beside the job, then in the current folder
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// "Today" of the job: YYYY-MM-DD, or an RFC 3339 time; otherwise what the event says, then now
    #[arg(long, value_name = "DATE", value_parser = parse_as_of)]
    pub(crate) as_of: Option<AsOf>,

    /// Refuse a job or a configuration with a warning
    #[arg(long)]
    pub(crate) strict: bool,
}

fn parse_as_of(text: &str) -> Result<AsOf, &'static str> {
    AsOf::parse(text).ok_or("write a date such as 2024-03-06, or a time such as 2024-03-06T02:00:00Z")
}

/// A job and its configuration, read and in form.
#[derive(Debug)]
pub(crate) struct JobInput {
    /// What the event asks for.
    pub(crate) request: JobRequest,
    pub(crate) config: Config,
    /// Where the configuration was found.
    pub(crate) config_path: PathBuf,
}

impl JobArguments {
    /// Reads the job and its configuration. Of several errors the configuration's comes first.
    pub(crate) fn read(&self) -> Result<JobInput, Failure> {
        let job_text = read_text("the job", &self.job)?;
        let event = Document::parse(job_text).map_err(|why| {
            Error::new(
                ErrorKind::InvalidEvent,
                format!("the job in {} {why}", name_of(&self.job)),
            )
        });
        let config_path = match &self.config {
            Some(path) => path.clone(),
            None => match find_config(Some(&self.job)) {
                Some(path) => path,
                None => return Err(no_config(event.ok())),
            },
        };
        let config = read_config(&config_path)?;
        let request = match event::read(event?)? {
            Request::Job(request) => JobRequest {
                strict: request.strict || self.strict,
                ..request
            },
            Request::Continue(continuation) => {
                return Err(not_a_job(&format!(
                    "goes on with the queue file {:?}",
                    continuation.file_name
                )));
            }
            Request::Sweep => return Err(not_a_job("asks for a sweep")),
        };
        Ok(JobInput {
            request,
            config,
            config_path,
        })
    }
}

/// Reads a configuration, which must be right.
pub(crate) fn read_config(path: &Path) -> Result<Config, Failure> {
    let text = read_text("the configuration", path)?;
    Ok(Config::parse(&text).map_err(Error::from)?)
}

/// A configuration without a job: the named one, else that of the current folder. Its warnings go to standard error, but
/// for those of keys without a meaning here.
pub(crate) fn config_here(path: Option<&Path>) -> Result<Config, Failure> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => find_config(None).ok_or_else(|| {
            Failure::invalid(
                "NoConfig",
                format!("there is no {CONFIG_NAME} in the current folder: name another file with --config"),
            )
        })?,
    };
    let config = read_config(&path)?;
    let mine = config
        .warnings
        .iter()
        .filter(|warning| warning.kind != WarningKind::IgnoredKey);
    warn(mine.map(|warning| format!("{}: {warning}", path.display())));
    Ok(config)
}

/// The configuration where none is named: beside the job, then in the current folder.
pub(crate) fn find_config(job: Option<&Path>) -> Option<PathBuf> {
    let beside = job
        .filter(|job| !is_standard_stream(job))
        .map(|job| job.with_file_name(CONFIG_NAME));
    beside
        .into_iter()
        .chain([PathBuf::from(CONFIG_NAME)])
        .find(|path| path.exists())
}

fn not_a_job(what: &str) -> Failure {
    Error::new(
        ErrorKind::InvalidEvent,
        format!("the event {what}: give a job, which names its `lambda_name`"),
    )
    .into()
}

/// None was named or found: what one could look like.
fn no_config(event: Option<Document>) -> Failure {
    let sentence = format!(
        "there is no {CONFIG_NAME} beside the job or in the current folder: write one (`jobmill init` does), or name \
         another file with --config"
    );
    let (config, job_known) = starter_config::for_event(event);
    let about = if job_known {
        "For this job it could be:"
    } else {
        "The smallest one is:"
    };
    Failure::invalid_with_help("NoConfig", sentence, format!("{about}\n\n{config}"))
}

/// Warnings of a configuration. Those of keys without a meaning here, of which a configuration of sosw has many, are one
/// line: `check` has the list.
pub(crate) fn config_warnings(input: &JobInput) -> Vec<String> {
    let path = input.config_path.display();
    let (ignored, others): (Vec<_>, Vec<_>) = input
        .config
        .warnings
        .iter()
        .partition(|warning| warning.kind == WarningKind::IgnoredKey);
    let summary = match ignored.len() {
        0 => None,
        1 => Some(format!(
            "{path} has a setting that means nothing here: `jobmill check {path}` names it"
        )),
        count => Some(format!(
            "{path} has {count} settings that mean nothing here: `jobmill check {path}` lists them"
        )),
    };
    let others = others.into_iter().map(|warning| format!("{path}: {warning}"));
    summary.into_iter().chain(others).collect()
}

/// `-`: standard input, or standard output.
pub(crate) fn is_standard_stream(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// How messages call an input.
pub(crate) fn name_of(path: &Path) -> String {
    if is_standard_stream(path) {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

/// Reads a file or standard input, bounded in size.
pub(crate) fn read_text(what: &str, path: &Path) -> Result<String, Failure> {
    let bytes = read_bytes(path).map_err(|error| {
        Failure::invalid(
            "UnreadableFile",
            format!("{what} can't be read from {}: {error}", name_of(path)),
        )
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let sentence = format!(
            "{what} in {} is not UTF-8 (at byte {at}): save it as UTF-8",
            name_of(path)
        );
        Failure::invalid("UnreadableFile", sentence)
    })?;
    // Some editors put a byte order mark in front; it is no JSON.
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    // One byte more than is allowed, so that the reader of JSON can say that it is too much.
    let limit = MAX_TEXT_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    if is_standard_stream(path) {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        let file = File::open(path)?;
        if let Ok(expected) = usize::try_from(file.metadata()?.len().min(limit)) {
            bytes.reserve_exact(expected + 1);
        }
        file.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
