//! `jobmill run`: a job the whole way, to its tasks, in the local cloud or on AWS.
//!
//! This module reads and plans the job, shows progress, and tells what came out. The way itself is `way`.

mod progress;
mod summary;
mod way;

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use jobmill_core::config::Config;
use jobmill_core::job::event::check_run_id;
use jobmill_core::job::fields::Job;
use jobmill_core::job::plan::Plan;

use self::progress::Bar;
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
  jobmill run job.json --timeout 2                     in many short invocations that hand over to each other
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

    /// How long one invocation may take before it hands over to the next; otherwise `timeout` of the configuration
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    timeout: Option<u32>,

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
    pub(crate) plan: Plan,
    pub(crate) run_id: String,
    /// How long one invocation may take, in seconds.
    pub(crate) timeout: u32,
    /// Where the created tasks go, if anywhere.
    pub(crate) out: Option<PathBuf>,
}

/// Runs a job.
pub(crate) fn execute(arguments: RunArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let order = settle(&arguments, surroundings)?;
    let mut bar = Bar::new(order.plan.chunks.row_count());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("RuntimeFailed", format!("no threads can be had: {error}")))?;
    let done = runtime.block_on(way::perform(order, &mut |progress| bar.show(&progress)));
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
    let Given { request, config, .. } = given;
    let job = request.job.clone();
    let run_id = arguments.run_id.clone().or_else(|| request.run_id.clone());
    let run_id = run_id.unwrap_or_else(|| surroundings.fresh_run_id.clone());
    let plan = Plan::make(&config, request, arguments.job.as_of, surroundings.now)?;
    warn(&config_warning)?;
    warn(&plan.warnings)?;
    if plan.chunks.row_count() == 0 {
        warn([nothing_to_do(&plan)])?;
    }
    let (cloud, out) = (arguments.cloud, arguments.out.clone());
    let timeout = arguments.timeout.unwrap_or(config.timeout);
    Ok(Order {
        cloud,
        job,
        config,
        plan,
        run_id,
        timeout,
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
