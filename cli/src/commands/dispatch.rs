//! `jobmill dispatch`: an orchestrator's invocations run here, under the same lease as the function's.
//!
//! `invocations` starts them one after another, `here` is for tasks that processes of this machine do, `seen` takes note of
//! what the engine tells, `report` is what came out.

mod here;
mod invocations;
mod progress;
mod report;
mod seen;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jobmill_aws::{ClientOptions, Clients};
use jobmill_core::config::Config;
use jobmill_core::queue::wake_up::is_group;
use jobmill_core::task::labourer::MAIN_GROUP;
use jobmill_engine::EngineError;

use self::here::Workforce;
use self::progress::Bar;
use self::report::{DispatchOutcome, DispatchReport};
use self::seen::Seen;
use crate::failure::Failure;
use crate::figures::{count, counted};
use crate::input::config_here;
use crate::stop::{Signal, Stop};
use crate::worker::{CommandLine, ProcessWorkers};

const EXAMPLES: &str = "\
Examples:
  jobmill dispatch
      until SIGINT or SIGTERM, in the account of the environment
      (AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, ...)
  jobmill dispatch --until-idle
      until nothing is queued, running or waiting for another attempt
  jobmill dispatch --once
      as one invocation of the orchestrator function would
  jobmill dispatch --group nightly --wait
      that group of labourers, as soon as nobody else dispatches it
  jobmill dispatch --until-idle --worker 'python3 worker.py' --at-once 8
      the tasks are done by processes of this machine

SIGINT (Ctrl-C) and SIGTERM give the lock back and let what is under way end;
a second one ends the process at once.

Exit codes: 0 done, 1 failed, or with --until-idle a task failed, 2 wrong usage
or invalid input; with --once or --until-idle 130 ended by SIGINT, 143 by
SIGTERM.";

/// Arguments of `jobmill dispatch`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DispatchArguments {
    /// The configuration; otherwise jobmill.json in the current folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Whose tasks: the labourers with this `group`
    #[arg(long, value_name = "GROUP", default_value = MAIN_GROUP, value_parser = parse_group)]
    group: String,

    /// One invocation, as the orchestrator function would do it; otherwise one after another
    #[arg(long, conflicts_with = "until_idle")]
    once: bool,

    /// Until nothing is queued, running or waiting for another attempt
    #[arg(long)]
    until_idle: bool,

    /// Where somebody else dispatches the group, wait until it is free
    #[arg(long)]
    wait: bool,

    /// How long one invocation may take; otherwise `timeout` of the configuration
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    timeout: Option<u32>,

    /// Tasks are runs of this command here, instead of functions: payload on standard input, exit code 0 a success
    #[arg(long, value_name = "CMD", value_parser = parse_worker)]
    worker: Option<CommandLine>,

    /// With --worker, so many tasks of each labourer at once; otherwise as many as there are cores
    #[arg(long, value_name = "N", requires = "worker", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    at_once: Option<u32>,

    /// How to show what came out
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl DispatchArguments {
    pub(crate) fn wants_json(&self) -> bool {
        self.format == Format::Json
    }

    fn until(&self) -> Until {
        match (self.once, self.until_idle) {
            (true, _) => Until::Once,
            (_, true) => Until::Idle,
            _ => Until::Stopped,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Sentences
    Text,
    /// One JSON object
    Json,
}

/// Until when to dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// A signal comes.
    Stopped,
    /// Nothing is queued, running or waiting.
    Idle,
    /// One invocation has ended.
    Once,
}

fn parse_group(text: &str) -> Result<String, &'static str> {
    match is_group(text) {
        true => Ok(text.to_owned()),
        false => Err("write at most 100 of A-Z a-z 0-9 . _ -, not beginning with a dot"),
    }
}

fn parse_worker(text: &str) -> Result<CommandLine, String> {
    CommandLine::parse(text).map_err(|why| why.to_string())
}

/// What is to be dispatched, and how.
struct Task {
    config: Config,
    group: String,
    until: Until,
    wait: bool,
    timeout: Duration,
    /// The processes that do the tasks, if it is not functions.
    here: Option<ProcessWorkers>,
}

/// Dispatches.
pub(crate) fn execute(arguments: &DispatchArguments) -> Result<(), Failure> {
    let mut config = config_here(arguments.config.as_deref())?;
    let mut timeout = Duration::from_secs(arguments.timeout.unwrap_or(config.timeout).into());
    let bar = Bar::new();
    let here = arguments.worker.clone().map(|command| {
        let longest = here::employ(&mut config, arguments.at_once.unwrap_or_else(here::cores));
        if arguments.timeout.is_none() {
            // An invocation starts nothing whose end it might not live to see.
            timeout += longest;
        }
        let bar = bar.clone();
        ProcessWorkers::new(command, Some(Arc::new(move |line: &str| bar.tell(line))))
    });
    let task = Task {
        config,
        group: arguments.group.clone(),
        until: arguments.until(),
        wait: arguments.wait,
        timeout,
        here,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("RuntimeFailed", format!("no threads can be had: {error}")))?;
    let seen = Seen::new(bar.clone());
    let report = runtime.block_on(perform(&task, &seen, &bar));
    bar.finish();
    let report = report?;
    match (arguments.format, why_no_success(&report, &task)) {
        (Format::Json, Some(failure)) => Err(failure.with(report.keys())),
        (Format::Json, None) => Ok(report.write_json(&mut io::stdout().lock())?),
        (Format::Text, failure) => {
            if report.outcome != DispatchOutcome::HeldElsewhere {
                report.write_text(&mut anstream::stdout().lock())?;
            }
            failure.map_or(Ok(()), Err)
        }
    }
}

async fn perform(task: &Task, seen: &Seen, bar: &Bar) -> Result<DispatchReport, Failure> {
    let stop = listen(task, bar).map_err(|error| {
        Failure::failed("SignalsFailed", format!("signals can't be listened to: {error}"))
    })?;
    bar.phase("looking for credentials");
    let clients = tokio::select! {
        clients = Clients::from_environment(ClientOptions::default()) => clients,
        signal = stop.requested() => return Err(interrupted(signal, "nothing was begun")),
    };
    let clients = clients.map_err(|source| {
        let step = "connecting to AWS";
        Failure::from(EngineError::Port { step, source })
    })?;
    let workforce = match &task.here {
        Some(processes) => Workforce::Here(processes.clone()),
        None => Workforce::functions(&clients),
    };
    invocations::dispatch(task, &clients, &workforce, &stop, seen, bar).await
}

/// Why this is no success, if it is none.
fn why_no_success(report: &DispatchReport, task: &Task) -> Option<Failure> {
    let group = &task.group;
    match (report.outcome, report.signal) {
        (DispatchOutcome::HeldElsewhere, None) => Some(Failure::failed(
            "HeldElsewhere",
            format!(
                "{} dispatches group {group}, and it was left to it. With --wait this command waits until the group is \
                 free; if its holder has died, it is free {} seconds after its last renewal",
                report.held_by.as_deref().unwrap_or("somebody else"),
                task.config.lease_seconds
            ),
        )),
        // A signal is the only end that it has.
        (_, Some(_)) if task.until == Until::Stopped => None,
        (_, Some(signal)) => Some(interrupted(
            signal,
            &format!("the lock of group {group} is given back, and whoever dispatches it next goes on"),
        )),
        _ if task.until == Until::Idle && report.failed() > 0 => Some(Failure::failed(
            "TasksFailed",
            format!(
                "{} of {} failed for good: the closed table has them with their errors",
                count(report.failed()),
                counted(report.closed(), "task", "tasks")
            ),
        )),
        _ => None,
    }
}

fn interrupted(signal: Signal, state: &str) -> Failure {
    Failure::new(
        signal.exit_code(),
        "Interrupted",
        format!("ended by {}: {state}", signal.name()),
    )
}

fn listen(task: &Task, bar: &Bar) -> io::Result<Stop> {
    let first = {
        let bar = bar.clone();
        move |signal: Signal| {
            bar.tell(&format!(
                "{}: nothing more is started, and what is under way is waited for; a second signal ends this process at \
                 once",
                signal.name()
            ));
            bar.phase("stopping");
        }
    };
    let second = {
        let (bar, here, seconds) = (bar.clone(), task.here.clone(), task.config.lease_seconds);
        move |signal: Signal| {
            if let Some(processes) = here {
                processes.kill_all();
            }
            bar.finish();
            bar.tell(&format!(
                "{}: ended at once. The lock may still be held: it is free {seconds} seconds after its last renewal",
                signal.name()
            ));
        }
    };
    Stop::listen(first, second)
}
