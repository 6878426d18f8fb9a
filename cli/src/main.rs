//! `jobmill`, the command for people: what a job would become, run it, check a configuration.
//!
//! The composition root: the clock and randomness are read here, once, and handed on as values.

mod commands;
mod failure;
mod figures;
mod input;
mod suggestion;
mod terminal;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use jobmill_core::job::period::AsOf;

use crate::commands::{Command, check, plan, run};
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  jobmill plan job.json                      what the job would become; nothing is written
  jobmill plan job.json --format rows        its rows, one JSON object a line
  jobmill run job.json                       the whole way, in a local cloud in this process
  jobmill check jobmill.json                 is this configuration right

Exit codes: 0 done, 1 failed, 2 wrong usage or invalid input.";

/// Turns one job into many small tasks, and loses none of them.
#[derive(Debug, Parser)]
#[command(name = "jobmill", version, after_help = EXAMPLES, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What only the composition root may ask the machine for.
#[derive(Debug)]
struct Surroundings {
    /// The moment at which this process began.
    now: AsOf,
    /// A run id that no other run has, for a run that was given none.
    fresh_run_id: String,
}

impl Surroundings {
    #[allow(
        clippy::disallowed_methods,
        reason = "the composition root reads the clock and randomness, once"
    )]
    fn read() -> Result<Self, Failure> {
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
        })
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return failure::report_usage(&error),
    };
    let done = Surroundings::read().and_then(|surroundings| match arguments.command {
        Command::Plan(arguments) => plan::execute(&arguments, &surroundings),
        Command::Run(arguments) => run::execute(arguments, &surroundings),
        Command::Check(arguments) => check::execute(&arguments),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
