//! `jobmill labourers`: the functions that do the work, as the account has them: what is wrong with each, and the settings
//! by which their outcomes come back.

mod ask;
mod check;
mod connect;
mod kept;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jobmill_aws::{ClientOptions, Clients};
use jobmill_core::config::Config;
use jobmill_core::task::labourer::Labourer;
use jobmill_engine::EngineError;
use jobmill_engine::ports::PortError;

use crate::failure::Failure;
use crate::input::config_here;

const EXAMPLES: &str = "\
Examples:
  jobmill labourers check
      what is wrong with each labourer, and what to do
  jobmill labourers connect report --dry-run
      what would be changed so that its outcomes come back
  jobmill labourers connect report
      change it
  jobmill labourers connect report --undo
      put back what was there before

Exit codes: 0 done, 1 failed, 2 wrong usage or invalid input.";

/// Arguments of `jobmill labourers`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LabourersArguments {
    #[command(subcommand)]
    command: LabourersCommand,
}

#[derive(Debug, Subcommand)]
enum LabourersCommand {
    /// Tells what is wrong with each labourer, and what to do. Nothing is changed.
    Check(check::CheckArguments),
    /// Lets functions send their outcomes to the queue of outcomes.
    Connect(connect::ConnectArguments),
}

impl LabourersArguments {
    pub(crate) fn wants_json(&self) -> bool {
        match &self.command {
            LabourersCommand::Check(arguments) => arguments.wants_json(),
            LabourersCommand::Connect(arguments) => arguments.wants_json(),
        }
    }
}

/// Does it.
pub(crate) fn execute(arguments: &LabourersArguments) -> Result<(), Failure> {
    match &arguments.command {
        LabourersCommand::Check(arguments) => check::execute(arguments),
        LabourersCommand::Connect(arguments) => connect::execute(arguments),
    }
}

/// The labourers that are meant: those that are named, else all.
fn chosen<'a>(config: &'a Config, names: &[String]) -> Result<Vec<(&'a str, &'a Labourer)>, Failure> {
    for name in names {
        config.check_labourer(name).map_err(|error| {
            let sentence = error.sentence.replacen("`lambda_name`", "NAME", 1);
            Failure::invalid(error.kind.name(), sentence)
        })?;
    }
    let is_meant = |name: &String| names.is_empty() || names.contains(name);
    let labourers = config.labourers.iter().filter(|(name, _)| is_meant(name));
    Ok(labourers
        .map(|(name, labourer)| (name.as_str(), labourer))
        .collect())
}

/// Runs a future on a runtime of its own, with the configuration and the clients of the environment.
fn on_aws<T>(
    config: Option<&PathBuf>,
    names: &[String],
    what: impl AsyncFnOnce(&Config, &Clients) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let config = config_here(config.map(PathBuf::as_path))?;
    // Before anything is asked for.
    chosen(&config, names)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("RuntimeFailed", format!("no threads can be had: {error}")))?;
    runtime.block_on(async {
        let clients = Clients::from_environment(ClientOptions::default()).await;
        let clients = clients.map_err(|source| of_port("connecting to AWS", source))?;
        what(&config, &clients).await
    })
}

fn of_port(step: &'static str, source: PortError) -> Failure {
    Failure::from(EngineError::Port { step, source })
}
