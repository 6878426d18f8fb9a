//! How a command fails: what stands on standard error, and the exit code.

use std::borrow::Cow;
use std::io::{self, Write as _};
use std::process::ExitCode;

use jobmill_core::{Error, ErrorKind};

use crate::terminal::{ERROR, printable};

/// The command could do what was asked, but it went wrong.
const FAILED: u8 = 1;
/// What was asked can't be done: wrong usage, invalid input.
const INVALID: u8 = 2;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The reader of standard output went away: it has what it wanted.
    PipeClosed,
    /// Something to tell the user, and the exit code.
    Told { exit: u8, problems: Vec<Problem> },
}

/// One line on standard error.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: Cow<'static, str>,
    sentence: String,
    /// Text to show below the sentence, as it stands.
    help: Option<String>,
}

impl Failure {
    /// Invalid input: exit 2.
    pub(crate) fn invalid(kind: &'static str, sentence: impl Into<String>) -> Self {
        Self::told(INVALID, kind, sentence, None)
    }

    /// Invalid input, with an example below the sentence: exit 2.
    pub(crate) fn invalid_with_help(kind: &'static str, sentence: impl Into<String>, help: String) -> Self {
        Self::told(INVALID, kind, sentence, Some(help))
    }

    /// It went wrong: exit 1.
    pub(crate) fn failed(kind: &'static str, sentence: impl Into<String>) -> Self {
        Self::told(FAILED, kind, sentence, None)
    }

    /// A configuration with these problems: exit 2.
    pub(crate) fn configuration(problems: Vec<String>) -> Self {
        let kind = ErrorKind::InvalidConfig.name();
        let problem = |sentence| Problem {
            kind: kind.into(),
            sentence,
            help: None,
        };
        Self::Told {
            exit: INVALID,
            problems: problems.into_iter().map(problem).collect(),
        }
    }

    fn told(exit: u8, kind: &'static str, sentence: impl Into<String>, help: Option<String>) -> Self {
        Self::Told {
            exit,
            problems: vec![Problem {
                kind: kind.into(),
                sentence: sentence.into(),
                help,
            }],
        }
    }

    /// Tells standard error. The exit code is the last thing that the process says.
    pub(crate) fn report(&self) -> ExitCode {
        let Self::Told { exit, problems } = self else {
            return ExitCode::SUCCESS;
        };
        let mut out = anstream::stderr().lock();
        for Problem { kind, sentence, help } in problems {
            let line = writeln!(out, "{ERROR}error[{kind}]{ERROR:#}: {}", printable(sentence));
            let told = match help {
                Some(help) => line.and_then(|()| writeln!(out, "\n{help}")),
                None => line,
            };
            if told.is_err() {
                // Nobody listens any more; the exit code still says it.
                break;
            }
        }
        ExitCode::from(*exit)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.kind {
            // Nothing that the user wrote is wrong.
            ErrorKind::DamagedQueue => FAILED,
            _ => INVALID,
        };
        Self::told(exit, error.kind.name(), error.sentence, None)
    }
}

/// Writing to standard output failed.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::PipeClosed
        } else {
            Self::failed(
                "OutputFailed",
                format!("standard output can't be written: {error}"),
            )
        }
    }
}

/// Help, version, or arguments that are wrong.
pub(crate) fn report_usage(error: &clap::Error) -> ExitCode {
    let told = if error.use_stderr() {
        let text = error.render().to_string();
        let mut out = anstream::stderr().lock();
        match text.strip_prefix("error: ") {
            Some(text) => write!(out, "{ERROR}error[Usage]{ERROR:#}: {text}"),
            None => write!(out, "{text}"),
        }
    } else {
        error.print()
    };
    match (error.use_stderr(), told) {
        (true, _) => ExitCode::from(INVALID),
        (false, Err(error)) => Failure::from(error).report(),
        (false, Ok(())) => ExitCode::SUCCESS,
    }
}
