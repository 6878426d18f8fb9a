//! `jobmill man`: the manual, a page for the command and for each of its subcommands.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};

use crate::Arguments;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  jobmill man ~/.local/share/man/man1
  jobmill man /tmp/man && man /tmp/man/jobmill-run.1

Exit codes: 0 done, 1 failed, 2 wrong usage.";

/// Arguments of `jobmill man`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ManArguments {
    /// The folder to write to; it is made where it is missing, and earlier pages are replaced
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes the pages.
pub(crate) fn execute(arguments: &ManArguments) -> Result<(), Failure> {
    let folder = &arguments.folder;
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), folder))
        .map_err(|error| {
            Failure::failed(
                "OutputFailed",
                format!("the pages can't be written to {}: {error}", folder.display()),
            )
        })
}
