//! JSON as it comes from outside: bounded in size and depth, read so that numbers keep their digits and objects their
//! order.

use serde_json::{Map, Value};

/// The largest text that is read as one JSON document, in bytes. Lambda delivers 6 MB at most; a command line may
/// read more.
pub const MAX_TEXT_BYTES: usize = 256 << 20;

/// Nested objects and lists deeper than this are refused (the bound of `serde_json`, kept on).
pub const MAX_DEPTH: usize = 127;

/// With digits kept, `serde_json` hands numbers around as objects with keys of this form; a document that holds such
/// a key itself could pass an object off as a number.
const PRIVATE_KEY: &str = "$serde_json::private::";

/// Reads one JSON document.
///
/// # Errors
/// A sentence without a subject ("is not JSON: ...", "is larger than ..."), for the caller to put the field before.
pub fn parse(text: &str) -> Result<Value, String> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(format!(
            "has {} bytes, and at most {MAX_TEXT_BYTES} are read: split it",
            text.len()
        ));
    }
    if names_private_key(text) {
        return Err(format!(
            "holds the text {PRIVATE_KEY:?}, which is reserved: write it otherwise"
        ));
    }
    serde_json::from_str(text).map_err(|error| {
        if error.to_string().starts_with("recursion limit") {
            format!("is nested deeper than {MAX_DEPTH} levels: flatten it")
        } else {
            format!("is not JSON: {error}")
        }
    })
}

fn names_private_key(text: &str) -> bool {
    if text.contains(PRIVATE_KEY) {
        return true;
    }
    // The key may also be written with escapes; those of ASCII characters are rare enough to look closely.
    if !text.contains("\\u00") {
        return false;
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\u00") {
        let (before, escape) = rest.split_at(at);
        plain.push_str(before);
        let code = escape.get(4..6).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(code) => plain.push(char::from(code)),
            None => plain.push('?'),
        }
        rest = escape.get(6..).unwrap_or_default();
    }
    plain.push_str(rest);
    plain.contains(PRIVATE_KEY)
}

/// A value that is an object, or text holding one.
///
/// # Errors
/// As [`parse`], also when it is something else.
pub(crate) fn object(value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(map) => Ok(map),
        Value::String(text) => match parse(&text)? {
            Value::Object(map) => Ok(map),
            other => Err(format!("holds {}, not an object", kind(&other))),
        },
        other => Err(format!("is {}, not an object or text holding one", kind(&other))),
    }
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

/// null, "", [] and {}: what "not set" or "no values" looks like.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Text, a number, true or false.
pub(crate) const fn is_scalar(value: &Value) -> bool {
    matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_))
}

/// A list is its items, anything else one item.
pub(crate) fn items(value: &Value) -> std::slice::Iter<'_, Value> {
    match value {
        Value::Array(items) => items.iter(),
        other => std::slice::from_ref(other).iter(),
    }
}

/// Appends a value as compact JSON.
pub(crate) fn write(value: &Value, out: &mut Vec<u8>) {
    // Writing a `Value` into memory has no way to fail: its keys are text and the sink takes everything.
    if serde_json::to_writer(&mut *out, value).is_err() {
        debug_assert!(false, "a JSON value that could not be written");
    }
}

/// Appends a text as a JSON string.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    if serde_json::to_writer(&mut *out, text).is_err() {
        debug_assert!(false, "a text that could not be written");
    }
}
