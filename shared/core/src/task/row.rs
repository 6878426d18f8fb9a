//! From a row of a queue file to the payload of its task.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind};

/// Takes a row of a queue file apart: its labourer, and the payload of its task.
///
/// The payload is the row without `labourer_id`; a `payload` of the row that is an object, or text of one, is the base
/// that the other keys are laid over.
///
/// ```
/// use jobmill_core::task::row::payload_of;
///
/// let row = br#"{"sections":["dairy"],"payload":{"k":1},"labourer_id":"report"}"#;
/// let (labourer, payload) = payload_of(row)?;
/// assert_eq!(labourer, "report");
/// assert_eq!(payload, r#"{"k":1,"sections":["dairy"]}"#);
/// # Ok::<(), jobmill_core::Error>(())
/// ```
///
/// # Errors
/// `DamagedQueue` if the row is no JSON object with a `labourer_id`.
pub fn payload_of(row: &[u8]) -> Result<(String, String), Error> {
    let damaged = |why: String| Error::new(ErrorKind::DamagedQueue, format!("the row {why}"));
    let text = std::str::from_utf8(row).map_err(|_| damaged("is not UTF-8".to_owned()))?;
    let head: RowHead<'_> = serde_json::from_str(text)
        .map_err(|error| damaged(format!("is not a JSON object of a task: {error}")))?;
    let labourer_id = match head.labourer_id {
        Some(name) if !name.is_empty() => name.into_owned(),
        _ => return Err(damaged("names no `labourer_id`".to_owned())),
    };
    // Nested deeper than a job may be only if it opens so many brackets: then the careful way refuses it.
    let brackets = row.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if head.is_plain
        && brackets <= crate::json::MAX_DEPTH
        && let Some(payload) = without_ending(text, &labourer_id)
    {
        return Ok((labourer_id, payload));
    }
    let Value::Object(mut map) = crate::json::parse(text).map_err(damaged)? else {
        return Err(damaged("is no object".to_owned()));
    };
    map.shift_remove("labourer_id");
    let payload = match map.shift_remove("payload") {
        None => map,
        Some(base) => lay_over(base, map),
    };
    Ok((labourer_id, Value::Object(payload).to_string()))
}

/// Cuts off what every row that was written here ends with; `None` if it is not there.
fn without_ending(text: &str, labourer_id: &str) -> Option<String> {
    let rest = text
        .strip_suffix("\"}")?
        .strip_suffix(labourer_id)?
        .strip_suffix("\"labourer_id\":\"")?;
    let body = match rest.strip_suffix(',') {
        Some(body) => body,
        None if rest == "{" => rest,
        None => return None,
    };
    let mut payload = String::with_capacity(body.len() + 1);
    payload.push_str(body);
    payload.push('}');
    Some(payload)
}

fn lay_over(base: Value, over: Map<String, Value>) -> Map<String, Value> {
    let mut map = match base {
        Value::Object(map) => map,
        Value::String(text) => match crate::json::parse(&text) {
            Ok(Value::Object(map)) => map,
            _ => Map::from_iter([("payload".to_owned(), Value::String(text))]),
        },
        other => Map::from_iter([("payload".to_owned(), other)]),
    };
    map.extend(over);
    map
}

/// What a row says beside its payload; reading it checks the whole row.
struct RowHead<'a> {
    labourer_id: Option<Cow<'a, str>>,
    /// It has no `payload`, and names its labourer once.
    is_plain: bool,
}

impl<'de> serde::Deserialize<'de> for RowHead<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RowVisitor)
    }
}

struct RowVisitor;

impl<'de> serde::de::Visitor<'de> for RowVisitor {
    type Value = RowHead<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<RowHead<'de>, A::Error> {
        let mut head = RowHead {
            labourer_id: None,
            is_plain: true,
        };
        while let Some(Text(key)) = map.next_key::<Text<'de>>()? {
            match key.as_ref() {
                "labourer_id" => {
                    head.is_plain &= head.labourer_id.is_none();
                    head.labourer_id = Some(map.next_value::<Text<'de>>()?.0);
                }
                "payload" => {
                    head.is_plain = false;
                    map.next_value::<serde::de::IgnoredAny>()?;
                }
                _ => {
                    map.next_value::<serde::de::IgnoredAny>()?;
                }
            }
        }
        Ok(head)
    }
}

/// Text, borrowed where it holds no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
