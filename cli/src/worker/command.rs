//! The command line of `--worker`: words as a shell would split it, and no shell.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

use jobmill_engine::dispatch::ports::{Asked, Unfit};
use tokio::process::Command;

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandLine {
    program: String,
    arguments: Vec<String>,
}

/// Why a text is no command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoCommand {
    /// There is no word in it.
    Empty,
    /// A quotation mark is not closed, or a backslash stands at its end.
    Unclosed,
}

impl fmt::Display for NoCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it names no program: write it as 'python3 worker.py'",
            Self::Unclosed => {
                "a quotation mark is not closed, or a backslash ends it: quote words with blanks as 'python3 \"my worker.py\"'"
            }
        })
    }
}

impl CommandLine {
    /// Splits a text into words by the rules of POSIX shells for blanks, quotation marks, backslashes and comments. Nothing
    /// is expanded: no variables, no patterns, no `~`, no pipes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, NoCommand> {
        let mut words = shlex::split(text).ok_or(NoCommand::Unclosed)?.into_iter();
        Ok(Self {
            program: words
                .next()
                .filter(|program| !program.is_empty())
                .ok_or(NoCommand::Empty)?,
            arguments: words.collect(),
        })
    }

    /// The path of a Lambda bootstrap, if that is all there is: a program of this name speaks the Runtime API and reads no
    /// standard input.
    pub(crate) fn as_bootstrap(&self) -> Option<&Path> {
        let path = Path::new(&self.program);
        let is_one = self.arguments.is_empty() && path.file_name().is_some_and(|name| name == "bootstrap");
        is_one.then_some(path)
    }

    pub(super) fn to_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }

    /// What it means that it could not be started.
    pub(super) fn not_started(&self, error: &io::Error) -> Asked {
        // "Exec format error": it is no program, and does not say by what it is to be run.
        const ENOEXEC: i32 = 8;
        let program = &self.program;
        let unfit = |kind, cure: &str| {
            let message = format!("{program:?} can't be started ({error}): {cure}");
            Asked::WorkerUnfit(Unfit { kind, message })
        };
        match error.kind() {
            ErrorKind::NotFound => unfit(
                "CommandNotFound",
                "correct --worker, or install the program; what stands behind `#!` in a script must be there, too",
            ),
            ErrorKind::PermissionDenied | ErrorKind::IsADirectory | ErrorKind::NotADirectory => unfit(
                "CommandNotExecutable",
                "name a program, or make the file executable (`chmod +x`)",
            ),
            _ if error.raw_os_error() == Some(ENOEXEC) => unfit(
                "CommandNotExecutable",
                "begin the script with a line such as `#!/usr/bin/env python3`",
            ),
            // A zero byte among the arguments or in the id of the task.
            ErrorKind::InvalidInput => {
                Asked::PayloadRefused(format!("{program:?} can't be started: {error}"))
            }
            // Too many processes or open files, no memory: it is not started, and may be later.
            _ => Asked::Throttled(format!("{program:?} can't be started now: {error}")),
        }
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)
    }
}
