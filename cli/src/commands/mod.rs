//! The commands, a module each: its arguments, and what it does.

pub(crate) mod check;
pub(crate) mod plan;
pub(crate) mod run;

use clap::Subcommand;

/// What the user asks for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows what a job would become. Nothing is written.
    Plan(plan::PlanArguments),
    /// Runs a job: rows, queue file, tasks.
    Run(run::RunArguments),
    /// Checks a configuration and lists every problem at once.
    Check(check::CheckArguments),
}
