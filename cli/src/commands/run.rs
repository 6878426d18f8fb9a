//! `jobmill run`: a job the whole way, to its tasks, in the local cloud or on AWS.
//!
//! This module reads and plans the job, shows progress, and tells what came out. The way itself is [`perform`].

mod progress;
mod summary;

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use jobmill_core::config::Config;
use jobmill_core::event::check_run_id;
use jobmill_core::job::Job;
use jobmill_core::period::AsOf;
use jobmill_core::plan::Plan;
use serde_json::{Value, json};

use self::progress::{Bar, Progress};
use self::summary::Summary;
use super::plan::nothing_to_do;
use crate::Surroundings;
use crate::failure::Failure;
use crate::input::{Given, JobArguments, config_warning, is_standard_stream};
use crate::terminal::warn;

const EXAMPLES: &str = "\
Examples:
  jobmill run job.json                                 in a local cloud in this process
  jobmill run job.json --out tasks.jsonl               and keep the created tasks
  jobmill run job.json --run-id nightly-2024-03-06     repeated: the same tasks, created once
  jobmill run job.json --cloud aws                     in the account of the environment (AWS_PROFILE, AWS_REGION,
                                                       AWS_ENDPOINT_URL ...)

Exit codes: 0 done, 1 failed, 2 wrong usage or invalid input (nothing was written).";

/// Arguments of `jobmill run`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    job: JobArguments,

    /// Names this run: a repetition under the same name creates nothing twice; otherwise that of the event, else a new one
    #[arg(long, value_name = "ID", value_parser = parse_run_id)]
    run_id: Option<String>,

    /// Where to run
    #[arg(long, value_enum, default_value_t = Cloud::Local)]
    cloud: Cloud,

    /// Write the created tasks to this file, one JSON object a line; - for standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// How to show what came out
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

fn parse_run_id(text: &str) -> Result<String, String> {
    check_run_id("run-id", text).map_err(|error| error.sentence)
}

/// Where to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cloud {
    /// S3, DynamoDB and Lambda in this process; gone when it ends
    Local,
    /// The account or endpoint of the environment
    Aws,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Sentences
    Text,
    /// One JSON object
    Json,
}

/// A run that is settled: the job can be right, and nothing was written yet.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) cloud: Cloud,
    /// The job, `lambda_name` included.
    pub(crate) job: Job,
    pub(crate) config: Config,
    /// The configuration as it was read, for a scheduler in another process.
    pub(crate) config_text: String,
    pub(crate) plan: Plan,
    pub(crate) run_id: String,
    /// The moment at which this process began.
    pub(crate) now: AsOf,
    /// Where the created tasks go, if anywhere.
    pub(crate) out: Option<PathBuf>,
}

impl Order {
    /// The event that asks a scheduler for this very run. The as-of is in it only if it was given: one that was read
    /// from a clock would make a repetition after midnight another job.
    pub(crate) fn envelope(&self) -> Value {
        let mut envelope = json!({"job": self.job, "run_id": self.run_id});
        if let (Some(as_of), Some(map)) = (self.plan.as_of, envelope.as_object_mut()) {
            map.insert("as_of".to_owned(), as_of.to_text().into());
        }
        envelope
    }
}

/// Runs a job.
pub(crate) fn execute(arguments: RunArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let order = settle(&arguments, surroundings)?;
    let mut bar = Bar::new(order.plan.chunks.row_count());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("RuntimeFailed", format!("no threads can be had: {error}")))?;
    let done = runtime.block_on(perform(order, &mut |progress| bar.show(&progress)));
    bar.finish();
    let summary = done?;
    // Where tasks go to standard output, the summary would be among them.
    if arguments.out.as_deref().is_some_and(is_standard_stream) {
        return Ok(summary.write_text(&mut anstream::stderr().lock())?);
    }
    match arguments.format {
        Format::Text => summary.write_text(&mut anstream::stdout().lock())?,
        Format::Json => summary.write_json(&mut io::stdout().lock())?,
    }
    Ok(())
}

/// Everything up to the first write.
fn settle(arguments: &RunArguments, surroundings: &Surroundings) -> Result<Order, Failure> {
    if let Some(out) = &arguments.out {
        check_out(out)?;
    }
    let given = arguments.job.read()?;
    let config_warning = config_warning(&given);
    let Given {
        request,
        config,
        config_text,
        ..
    } = given;
    let job = request.job.clone();
    let run_id = arguments.run_id.clone().or_else(|| request.run_id.clone());
    let run_id = run_id.unwrap_or_else(|| surroundings.fresh_run_id.clone());
    let plan = Plan::make(&config, request, arguments.job.as_of, surroundings.now)?;
    warn(config_warning.iter().chain(&plan.warnings).map(String::as_str))?;
    if plan.chunks.row_count() == 0 {
        warn([nothing_to_do(&plan).as_str()])?;
    }
    let (cloud, out, now) = (arguments.cloud, arguments.out.clone(), surroundings.now);
    Ok(Order {
        cloud,
        job,
        config,
        config_text,
        plan,
        run_id,
        now,
        out,
    })
}

/// A file that can't be written is found before the job has run, not after.
fn check_out(out: &Path) -> Result<(), Failure> {
    if is_standard_stream(out) {
        return Ok(());
    }
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let sentence = if out.is_dir() {
        format!("--out {} is a folder: name a file", out.display())
    } else if !folder.is_dir() {
        format!("--out {}: there is no folder {}", out.display(), folder.display())
    } else {
        return Ok(());
    };
    Err(Failure::invalid("Usage", sentence))
}

/// Runs the order in its cloud until nothing is left to do, and tells `progress` how far it is.
async fn perform(_order: Order, _progress: &mut (dyn FnMut(Progress) + Send)) -> Result<Summary, Failure> {
    Err(Failure::failed(
        "NotBuilt",
        "this build of jobmill has no engine, so nothing was run: `jobmill plan` shows what the job would become",
    ))
}
