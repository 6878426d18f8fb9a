//! `jobmill run`: a job the whole way, to its tasks, in the local cloud or on AWS.
//!
//! `prepare` is everything up to the first write, `execute` what is done in the cloud, `report` what came out.

mod cloud;
mod continuation;
mod ending;
mod execute;
mod prepare;
mod progress;
mod report;
mod tasks_file;
mod work;

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jobmill_aws::LambdaWorkers;
use jobmill_core::job::event::check_run_id;

use self::cloud::Cloud;
use self::ending::{interrupted, not_all_done, not_whole, why_no_tasks};
use self::prepare::{PreparedRun, prepare};
use self::progress::{Bar, Progress};
use self::report::RunReport;
use crate::Environment;
use crate::failure::Failure;
use crate::input::{JobArguments, is_standard_stream};
use crate::stop::{Signal, Stop};
use crate::terminal::{FAINT, printable, warn};
use crate::worker::{CommandLine, ProcessWorkers};

const EXAMPLES: &str = "\
Examples:
  jobmill run job.json
      in a local cloud in this process
  jobmill run job.json --worker 'python3 worker.py'
      and have its tasks worked off here, a process each: payload on standard
      input, result on standard output, exit code 0 for success
  jobmill run job.json --out tasks.jsonl
      and keep the tasks
  jobmill run job.json --run-id nightly-2024-03-06
      repeated under the same name it creates nothing twice
  jobmill run job.json --timeout 2
      in many short invocations that hand over to each other
  jobmill run job.json --cloud aws
      in the account of the environment (AWS_PROFILE, AWS_REGION, ...)
  jobmill run job.json --cloud aws --run-id nightly-2024-03-06 --wait
      and wait where another invocation is at work on the run

SIGINT (Ctrl-C) and SIGTERM give the lock of the run back and say how to go
on; a second one ends the process at once.

Exit codes: 0 done, 1 failed, 2 wrong usage or invalid input (nothing was
written), 130 ended by SIGINT, 143 ended by SIGTERM.";

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

    /// Work the tasks off here: this command is run for each, with its payload on standard input. A program named
    /// bootstrap is deployed as a Lambda function
    #[arg(long, value_name = "COMMAND", value_parser = parse_worker)]
    worker: Option<CommandLine>,

    /// How many tasks are worked on at once; otherwise as many as the machine has cores
    #[arg(long, value_name = "N", requires = "worker", value_parser = clap::value_parser!(u32).range(1..=900))]
    at_once: Option<u32>,

    /// Pass on what workers write to standard error
    #[arg(long, requires = "worker")]
    verbose: bool,

    /// How long one invocation may take before it hands over to the next; otherwise `timeout` of the configuration
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    timeout: Option<u32>,

    /// Where another invocation is at work on the run, wait until it is done, at most as long as the time-out
    #[arg(long)]
    wait: bool,

    /// When the run is done, write all of its tasks to this file, one JSON object a line; - for standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// How to show what came out
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl RunArguments {
    pub(crate) fn wants_json(&self) -> bool {
        self.format == Format::Json
    }
}

fn parse_run_id(text: &str) -> Result<String, String> {
    check_run_id("run-id", text).map_err(|error| error.sentence)
}

fn parse_worker(text: &str) -> Result<CommandLine, String> {
    CommandLine::parse(text).map_err(|error| error.to_string())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Sentences
    Text,
    /// One JSON object
    Json,
}

/// Runs a job.
pub(crate) fn execute(arguments: &RunArguments, environment: &Environment) -> Result<(), Failure> {
    let run = prepare(arguments, environment)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("RuntimeFailed", format!("no threads can be had: {error}")))?;
    let report = runtime
        .block_on(perform(&run))
        .map_err(|failure| failure.about_run(&run.run_id, run.continue_with.as_ref()))?;
    if !report.is_whole() {
        return Err(not_whole(&report, &run));
    }
    let failure = not_all_done(&report, &run);
    // Where tasks go to standard output, the summary would be among them.
    if run.out.as_deref().is_some_and(is_standard_stream) {
        report.write_text(&mut anstream::stderr().lock())?;
    } else {
        match arguments.format {
            Format::Text => report.write_text(&mut anstream::stdout().lock())?,
            // A failure has a document of its own.
            Format::Json if failure.is_some() => {}
            Format::Json => report.write_json(&mut io::stdout().lock())?,
        }
    }
    failure.map_or(Ok(()), Err)
}

/// From the first request to the last line of `--out`.
async fn perform(run: &PreparedRun) -> Result<RunReport, Failure> {
    let bar = Bar::new(run.plan.chunks.row_count());
    let crew = run.crew.as_ref().map(|crew| crew.workers(&bar));
    let stop = listen(&bar, run, crew.clone()).map_err(|error| {
        Failure::failed("SignalsFailed", format!("signals can't be listened to: {error}"))
    })?;
    if run.continue_with.is_some() {
        tell(&format!("run id: {}", run.run_id));
    }
    let progress = |event: Progress| {
        bar.show(&event);
        if event == Progress::Waiting {
            bar.aside(|| {
                tell(&format!(
                    "another invocation works on run {}: waiting",
                    run.run_id
                ))
            });
        }
    };
    progress(Progress::Phase(match run.cloud {
        Cloud::Local => "starting the local cloud",
        Cloud::Aws => "looking for credentials",
    }));
    let done = async {
        let cloud = tokio::select! {
            cloud = run.cloud.open(&run.config) => cloud?,
            signal = stop.requested() => return Err(interrupted(signal, "nothing was written yet")),
        };
        let mut report = execute::execute(run, &cloud.clients, &stop, &progress).await?;
        if let (Some(crew), Some(workers)) = (&run.crew, &crew)
            && report.is_whole()
            && report.rows > 0
        {
            let work = match crew.bootstrap()? {
                Some(binary) => {
                    cloud.deploy(work::function(run, binary, crew.at_once));
                    let workers = LambdaWorkers::new(&cloud.clients);
                    work::work(run, &cloud.clients, &workers, crew.at_once, &stop, &progress).await?
                }
                None => work::work(run, &cloud.clients, workers, crew.at_once, &stop, &progress).await?,
            };
            report.signal = stop.signal().filter(|_| work.left > 0);
            report.work = Some(work);
        }
        Ok(report)
    }
    .await;
    bar.finish();
    let mut report = done?;
    if let Some(out) = &run.out {
        match why_no_tasks(&report, run) {
            None => {
                tasks_file::write(out, run, &stop)?;
                report.out = Some(out.display().to_string());
            }
            Some(why) => warn([format!("{} was not written: {why}", out.display())]),
        }
    }
    Ok(report)
}

fn listen(bar: &Bar, run: &PreparedRun, crew: Option<ProcessWorkers>) -> io::Result<Stop> {
    let first = {
        let bar = bar.clone();
        move |signal: Signal| {
            let told = format!(
                "{}: waiting for the answers under way; a second signal ends this process at once",
                signal.name()
            );
            bar.aside(|| tell(&told));
            bar.show(&Progress::Phase("stopping"));
        }
    };
    let second = {
        let (bar, seconds, command) = (bar.clone(), run.config.lease_seconds, run.continue_with.clone());
        move |signal: Signal| {
            bar.finish();
            if let Some(crew) = crew {
                crew.kill_all();
            }
            match command {
                Some(command) => tell(&format!(
                    "{}: ended at once. The lock may still be held: it is free {seconds} seconds after its last renewal\n\n\
                     To go on:\n\n  {}",
                    signal.name(),
                    printable(&command.to_string())
                )),
                None => tell(&format!("{}: ended at once", signal.name())),
            }
        }
    };
    Stop::listen(first, second)
}

/// What is no warning and no error goes to standard error, too. Where nobody reads it, nothing is lost.
fn tell(text: &str) {
    writeln!(anstream::stderr().lock(), "{FAINT}{text}{FAINT:#}").ok();
}
