//! How a command fails: sentences on standard error, with `--format json` a document on standard output, the exit code.

use std::borrow::Cow;
use std::io::{self, Write as _};
use std::process::ExitCode;

use jobmill_core::{Error, ErrorKind};
use jobmill_engine::EngineError;
use serde_json::{Map, Value, json};

use crate::terminal::{ERROR, one_line, printable};

/// The command could do what was asked, but it went wrong.
const FAILED: u8 = 1;
/// What was asked can't be done: wrong usage, invalid input.
const INVALID: u8 = 2;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The reader of standard output went away: it has what it wanted.
    PipeClosed,
    /// Something to tell the user.
    Reported(Box<Report>),
}

/// What the user is told.
#[derive(Debug)]
pub(crate) struct Report {
    exit: u8,
    problems: Vec<Problem>,
    /// What stands beside `error` in the JSON document.
    document: Map<String, Value>,
    /// Whether the same command may succeed when it is given once more.
    can_go_on: bool,
    /// The command that goes on with the run.
    continue_with: Option<String>,
}

/// One line on standard error.
#[derive(Debug)]
struct Problem {
    kind: Cow<'static, str>,
    sentence: String,
    /// Text to show below the sentence, as it stands.
    help: Option<String>,
}

impl Failure {
    /// Invalid input: exit 2.
    pub(crate) fn invalid(kind: &'static str, sentence: impl Into<String>) -> Self {
        Self::new(INVALID, kind, sentence)
    }

    /// Invalid input, with an example below the sentence: exit 2.
    pub(crate) fn invalid_with_help(kind: &'static str, sentence: impl Into<String>, help: String) -> Self {
        let mut failure = Self::new(INVALID, kind, sentence);
        if let Self::Reported(report) = &mut failure
            && let Some(problem) = report.problems.first_mut()
        {
            problem.help = Some(help);
        }
        failure
    }

    /// It went wrong: exit 1.
    pub(crate) fn failed(kind: &'static str, sentence: impl Into<String>) -> Self {
        Self::new(FAILED, kind, sentence)
    }

    /// Ended with that exit code.
    pub(crate) fn new(exit: u8, kind: &'static str, sentence: impl Into<String>) -> Self {
        let problem = Problem {
            kind: kind.into(),
            sentence: sentence.into(),
            help: None,
        };
        Self::of_problems(exit, vec![problem])
    }

    /// A configuration with these problems: exit 2.
    pub(crate) fn configuration(problems: Vec<String>) -> Self {
        let kind = ErrorKind::InvalidConfig.name();
        let problem = |sentence| Problem {
            kind: kind.into(),
            sentence,
            help: None,
        };
        Self::of_problems(INVALID, problems.into_iter().map(problem).collect())
    }

    fn of_problems(exit: u8, problems: Vec<Problem>) -> Self {
        Self::Reported(Box::new(Report {
            exit,
            problems,
            document: Map::new(),
            can_go_on: exit != INVALID,
            continue_with: None,
        }))
    }

    /// The same, with these keys beside `error` in the JSON document.
    pub(crate) fn with(mut self, keys: impl IntoIterator<Item = (String, Value)>) -> Self {
        if let Self::Reported(report) = &mut self {
            report.document.extend(keys);
        }
        self
    }

    /// The same, with the run that it is about and the command that goes on with that run, if there is one.
    pub(crate) fn about_run(mut self, run_id: &str, continue_with: Option<&impl ToString>) -> Self {
        if let Self::Reported(report) = &mut self
            && report.exit != INVALID
        {
            report.document.insert("run_id".to_owned(), run_id.into());
            let continue_with = continue_with.filter(|_| report.can_go_on);
            report.continue_with = continue_with.map(ToString::to_string);
        }
        self
    }

    /// Tells the user. The exit code is the last thing that the process says.
    pub(crate) fn report(&self, as_json: bool) -> ExitCode {
        let Self::Reported(report) = self else {
            return ExitCode::SUCCESS;
        };
        // Where nobody listens any more, the exit code still says it.
        if as_json {
            report.write_json().ok();
        }
        report.write_text().ok();
        ExitCode::from(report.exit)
    }
}

impl Report {
    fn write_text(&self) -> io::Result<()> {
        let mut out = anstream::stderr().lock();
        for Problem { kind, sentence, help } in &self.problems {
            writeln!(out, "{ERROR}error[{kind}]{ERROR:#}: {}", printable(sentence))?;
            if let Some(help) = help {
                writeln!(out, "\n{help}")?;
            }
        }
        if let Some(command) = &self.continue_with {
            writeln!(out, "\nNothing is lost. To go on:\n\n  {}", printable(command))?;
        }
        Ok(())
    }

    fn write_json(&self) -> io::Result<()> {
        let mut document = self.document.clone();
        if let Some(command) = &self.continue_with {
            document.insert("continue_with".to_owned(), command.as_str().into());
        }
        document.insert("error".to_owned(), self.error());
        let mut out = io::stdout().lock();
        writeln!(out, "{:#}", Value::Object(document))?;
        out.flush()
    }

    /// The first problem, the others behind it.
    fn error(&self) -> Value {
        let Some(first) = self.problems.first() else {
            return Value::Null;
        };
        let mut error = Map::from_iter([
            ("type".to_owned(), first.kind.as_ref().into()),
            ("message".to_owned(), first.sentence.as_str().into()),
        ]);
        if let Some(help) = &first.help {
            error.insert("help".to_owned(), help.as_str().into());
        }
        if self.problems.len() > 1 {
            let sentences = self.problems.iter().map(|problem| problem.sentence.as_str());
            error.insert("problems".to_owned(), sentences.collect());
        }
        Value::Object(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.kind {
            // Nothing that the user wrote is wrong, but somebody has to look at it.
            ErrorKind::DamagedQueue | ErrorKind::TaskIdTaken => FAILED,
            _ => INVALID,
        };
        let mut failure = Self::new(exit, error.kind.name(), error.sentence);
        if let Self::Reported(report) = &mut failure {
            report.can_go_on = false;
        }
        failure
    }
}

/// The engine could not go on.
impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Input(error) => Self::from(error),
            EngineError::Port { .. } | EngineError::LeaseRanOut { .. } => {
                Self::failed(error.error_type(), one_line(&error.to_string()))
            }
        }
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
pub(crate) fn report_usage(error: &clap::Error, as_json: bool) -> ExitCode {
    if !error.use_stderr() {
        return match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => Failure::from(error).report(as_json),
        };
    }
    let text = error.render().to_string();
    let sentence = text.strip_prefix("error: ");
    if as_json {
        let message = sentence.unwrap_or(&text).trim_end();
        let document = json!({"error": {"type": "Usage", "message": message}});
        writeln!(io::stdout().lock(), "{document:#}").ok();
    }
    let mut out = anstream::stderr().lock();
    match sentence {
        Some(sentence) => write!(out, "{ERROR}error[Usage]{ERROR:#}: {sentence}"),
        None => write!(out, "{text}"),
    }
    .ok();
    ExitCode::from(INVALID)
}
