//! `jobmill`, the command for people: what a job would become, run it, check a configuration.
//!
//! The composition root: the clock and randomness are read here, once, and handed on as values.

mod commands;
mod failed_tasks;
mod failure;
mod figures;
mod input;
mod starter_config;
mod stop;
mod terminal;
mod worker;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use jobmill_core::job::period::AsOf;

use crate::commands::Command;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  jobmill init                           a configuration and a first job
  jobmill plan job.json                  what the job would become
  jobmill plan job.json --format rows    its rows, one JSON object a line
  jobmill run job.json                   its tasks, in a local cloud
  jobmill dispatch --until-idle          works queued tasks off
  jobmill up                             a cloud of your own, until Ctrl-C
  jobmill check                          is this configuration right

Exit codes: 0 done, 1 failed, 2 wrong usage or invalid input; 130 and 143
where SIGINT or SIGTERM ended a run.";

/// Turns one job into many small tasks, and loses none of them.
#[derive(Debug, Parser)]
#[command(name = "jobmill", version, after_help = EXAMPLES, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What only the composition root may ask the machine for.
#[derive(Debug)]
struct Environment {
    /// The moment at which this process began.
    now: AsOf,
    /// A run id that no other run has, for a run that was given none.
    fresh_run_id: String,
    /// The words behind `jobmill`, as they were given.
    words: Vec<OsString>,
    /// The variables of the environment.
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    #[allow(
        clippy::disallowed_methods,
        reason = "the composition root reads the clock and randomness, once"
    )]
    fn read(words: Vec<OsString>) -> Result<Self, Failure> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_millis()).ok())
            .and_then(AsOf::from_millis)
            .ok_or_else(|| {
                Failure::failed(
                    "ClockUnusable",
                    "the clock of this machine is before 1970 or beyond reason",
                )
            })?;
        Ok(Self {
            now,
            fresh_run_id: uuid::Uuid::new_v4().simple().to_string(),
            words,
            variables: std::env::vars_os().collect(),
        })
    }
}

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let command = match Arguments::try_parse() {
        Ok(arguments) => arguments.command,
        Err(error) => return failure::report_usage(&error, asks_for_json(&words)),
    };
    let as_json = command.wants_json();
    match Environment::read(words).and_then(|environment| command.execute(&environment)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(as_json),
    }
}

/// Whether arguments that could not be understood ask for JSON.
fn asks_for_json(words: &[OsString]) -> bool {
    words.iter().any(|word| word == "--format=json")
        || words
            .windows(2)
            .any(|pair| matches!(pair, [name, value] if name == "--format" && value == "json"))
}
