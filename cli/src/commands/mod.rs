//! The commands, a module each: its arguments, and what it does.

mod bootstrap;
mod check;
mod completions;
mod dispatch;
mod init;
mod labourers;
mod man;
mod plan;
mod run;
mod schema;
mod up;

use clap::Subcommand;

use crate::Environment;
use crate::failure::Failure;

/// What the user asks for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Writes a configuration and a first job to begin with.
    Init(init::InitArguments),
    /// Shows what a job would become. Nothing is written.
    Plan(plan::PlanArguments),
    /// Runs a job: rows, queue file, tasks.
    Run(run::RunArguments),
    /// Dispatches queued tasks: starts them, retries them, closes them.
    Dispatch(dispatch::DispatchArguments),
    /// Keeps a local cloud running: S3, DynamoDB, Lambda, SQS, and all functions in it.
    Up(up::UpArguments),
    /// Checks a configuration and lists every problem at once.
    Check(check::CheckArguments),
    /// Checks the functions of labourers, and connects them.
    Labourers(labourers::LabourersArguments),
    /// Writes a JSON Schema, for editors, to standard output.
    Schema(schema::SchemaArguments),
    /// Writes the completions of a shell to standard output.
    Completions(completions::CompletionsArguments),
    /// Writes the manual pages.
    Man(man::ManArguments),
    /// A function of `jobmill up`, as Lambda's bootstrap. Not for people.
    #[command(hide = true)]
    Bootstrap(bootstrap::BootstrapArguments),
}

impl Command {
    /// Whether what comes out is one JSON document, also when it fails.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Plan(arguments) => arguments.wants_json(),
            Self::Run(arguments) => arguments.wants_json(),
            Self::Dispatch(arguments) => arguments.wants_json(),
            Self::Up(arguments) => arguments.wants_json(),
            Self::Check(arguments) => arguments.wants_json(),
            Self::Labourers(arguments) => arguments.wants_json(),
            Self::Init(_) | Self::Schema(_) | Self::Completions(_) | Self::Man(_) | Self::Bootstrap(_) => {
                false
            }
        }
    }

    /// Does it.
    pub(crate) fn execute(self, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::Plan(arguments) => plan::execute(&arguments, environment),
            Self::Run(arguments) => run::execute(&arguments, environment),
            Self::Dispatch(arguments) => dispatch::execute(&arguments),
            Self::Up(arguments) => up::execute(&arguments, environment),
            Self::Check(arguments) => check::execute(&arguments),
            Self::Init(arguments) => init::execute(&arguments),
            Self::Labourers(arguments) => labourers::execute(&arguments),
            Self::Schema(arguments) => schema::execute(&arguments),
            Self::Completions(arguments) => completions::execute(&arguments),
            Self::Man(arguments) => man::execute(&arguments),
            Self::Bootstrap(arguments) => bootstrap::execute(&arguments, environment),
        }
    }
}
