//! `jobmill completions`: what a shell needs to complete the words of the command.

use std::io::{self, Write as _};

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use crate::Arguments;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  jobmill completions bash > ~/.local/share/bash-completion/completions/jobmill
  jobmill completions zsh > \"${fpath[1]}/_jobmill\"
  jobmill completions fish > ~/.config/fish/completions/jobmill.fish

Exit codes: 0 done, 2 wrong usage.";

/// Arguments of `jobmill completions`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArguments {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// Writes the script to standard output.
pub(crate) fn execute(arguments: &CompletionsArguments) -> Result<(), Failure> {
    // The generator takes a failing writer for a bug, so it gets one that can't fail.
    let mut script = Vec::new();
    generate(arguments.shell, &mut Arguments::command(), "jobmill", &mut script);
    let mut out = io::stdout().lock();
    out.write_all(&script)?;
    Ok(out.flush()?)
}
