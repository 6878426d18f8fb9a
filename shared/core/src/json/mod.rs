//! JSON as it comes from outside: bounded in size and depth, read so that numbers keep their digits and objects their
//! order.

mod document;
mod read;
mod tape;
mod wrong;

use serde_json::Value;

pub use document::{Document, Kind, View};

/// The largest text that is read as one JSON document, in bytes. Lambda delivers 6 MB at most; a command line may
/// read more.
pub const MAX_TEXT_BYTES: usize = 256 << 20;

/// Nested objects and lists deeper than this are refused (the bound of `serde_json`, kept on).
pub const MAX_DEPTH: usize = 127;

/// Reads one JSON document that is small; [`Document`] is for those that may be large.
///
/// # Errors
/// As [`Document::parse`].
pub fn parse(text: &str) -> Result<Value, String> {
    refuse_too_long(text)?;
    Document::parse(text).map(|document| document.root().to_value())
}

fn refuse_too_long(text: &str) -> Result<(), String> {
    if text.len() <= MAX_TEXT_BYTES {
        return Ok(());
    }
    Err(format!(
        "has {} bytes, and at most {MAX_TEXT_BYTES} are read: split it",
        text.len()
    ))
}

/// What kind of value it is, for sentences.
pub(crate) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Appends a text as a JSON string.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    if serde_json::to_writer(&mut *out, text).is_err() {
        debug_assert!(false, "a text that could not be written");
    }
}
