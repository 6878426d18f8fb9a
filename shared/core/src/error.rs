//! What is wrong with an input: a stable type, and a sentence that names field and value and says what to do.

use std::fmt;

use serde_json::Value;

use crate::json::{Kind, View};

/// The stable type of an error: what a caller may branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The configuration can't be right. Fix the configuration.
    InvalidConfig,
    /// The event is no request. Fix the sender.
    InvalidEvent,
    /// The job can't be right. Fix the job.
    InvalidJob,
    /// The job names a schema that is not configured.
    UnknownSchema,
    /// The job names a labourer that is not configured.
    UnknownLabourer,
    /// The job would become more tasks than allowed.
    FanOutTooLarge,
    /// A row of the job would become an item larger than DynamoDB takes.
    TaskTooLarge,
    /// The run id was used before for another job.
    RunIdConflict,
    /// A task of the run is there though it was never sent: somebody else made it.
    TaskIdTaken,
    /// A continuation names a queue file that is not there, and no receipt says that it was.
    UnknownQueueFile,
    /// A lock document, a receipt or a row in the bucket is damaged or of another make.
    DamagedQueue,
}

impl ErrorKind {
    /// The name as it stands in answers and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidConfig => "InvalidConfig",
            Self::InvalidEvent => "InvalidEvent",
            Self::InvalidJob => "InvalidJob",
            Self::UnknownSchema => "UnknownSchema",
            Self::UnknownLabourer => "UnknownLabourer",
            Self::FanOutTooLarge => "FanOutTooLarge",
            Self::TaskTooLarge => "TaskTooLarge",
            Self::RunIdConflict => "RunIdConflict",
            Self::TaskIdTaken => "TaskIdTaken",
            Self::UnknownQueueFile => "UnknownQueueFile",
            Self::DamagedQueue => "DamagedQueue",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An input that can't be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Error {
    /// The stable type.
    pub kind: ErrorKind,
    /// Names the field and the value at fault, and says what to do.
    pub sentence: String,
}

impl Error {
    /// An error of that kind.
    pub fn new(kind: ErrorKind, sentence: impl Into<String>) -> Self {
        Self {
            kind,
            sentence: sentence.into(),
        }
    }

    pub(crate) fn job(sentence: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidJob, sentence)
    }

    pub(crate) fn event(sentence: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidEvent, sentence)
    }
}

/// A value as an error shows it: JSON, cut after 60 characters.
pub(crate) fn excerpt(value: &Value) -> String {
    // A large value is not written out only to be cut.
    let text = match value {
        Value::Array(items) if items.len() > 8 => format!("a list of {} items", items.len()),
        Value::Object(map) if map.len() > 4 => format!("an object of {} keys", map.len()),
        Value::String(text) => format!("{:?}", shorten(text)),
        other => other.to_string(),
    };
    shorten(&text)
}

/// A value of a document as an error shows it, as [`excerpt`].
pub(crate) fn excerpt_of(view: View<'_>) -> String {
    match view.kind() {
        Kind::List if view.len() > 8 => format!("a list of {} items", view.len()),
        Kind::Object if view.len() > 4 => format!("an object of {} keys", view.len()),
        Kind::Text => shorten(&format!("{:?}", shorten(view.as_text().unwrap_or_default()))),
        _ => shorten(&view.to_string()),
    }
}

/// The first 60 characters of a text, with `…` where it was cut.
pub(crate) fn shorten(text: &str) -> String {
    cut(text, 60)
}

/// The first `length` characters of a text, with `…` where it was cut.
pub(crate) fn cut(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}
