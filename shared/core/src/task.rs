//! From a row to a task: its identity, its place in the queue, its payload, its size.
//! Pure: the same run and the same row always give the same task.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::error::{Error, ErrorKind};

/// A place in the queue of a labourer, in billionths of a second, as sosw's `greenfield` attribute counts it.
///
/// Written as a plain decimal (`2000`, `1709700000.25`), which DynamoDB keeps exactly (38 digits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Greenfield(i128);

const NANOS: i128 = 1_000_000_000;
/// Beyond 10^20 seconds nothing is a time: bounds every sum below the range of `i128`.
const LARGEST: i128 = 100_000_000_000_000_000_000 * NANOS;

impl Greenfield {
    /// The beginning of the queue.
    pub const ZERO: Self = Self(0);

    /// From billionths.
    pub const fn from_nanos(nanos: i128) -> Self {
        Self(nanos)
    }

    /// In billionths.
    pub const fn nanos(self) -> i128 {
        self.0
    }

    /// From milliseconds since 1970.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis as i128 * 1_000_000)
    }

    /// Reads a decimal number as DynamoDB writes it (`-12.5`, `1.7E9`); digits past the ninth decimal are cut off.
    /// `None` if it is no number or lies beyond 10^20.
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, digits) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut nanos: i128 = 0;
        // The weight of a digit is 10^weight billionths; digits lighter than one billionth are cut off.
        let mut weight = i32::try_from(whole.len())
            .ok()?
            .checked_add(exponent)?
            .checked_add(8)?;
        for digit in whole.bytes().chain(fraction.bytes()) {
            if !digit.is_ascii_digit() {
                return None;
            }
            let digit = i128::from(digit - b'0');
            if digit != 0 && weight >= 0 {
                let scale = 10_i128.checked_pow(u32::try_from(weight).ok()?)?;
                nanos = nanos.checked_add(digit.checked_mul(scale)?)?;
            }
            weight = weight.checked_sub(1)?;
        }
        (nanos <= LARGEST).then_some(Self(if negative { -nanos } else { nanos }))
    }

    /// This place, `count` steps on.
    pub fn advanced(self, step: Self, count: u64) -> Self {
        Self(self.0.saturating_add(step.0.saturating_mul(i128::from(count))))
    }
}

impl fmt::Display for Greenfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, fraction) = (
            self.0.unsigned_abs() / NANOS as u128,
            self.0.unsigned_abs() % NANOS as u128,
        );
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{fraction:09}");
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

/// Greenfields of the tasks of a run: the first one and the distance between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// Greenfield of row 0.
    pub first: Greenfield,
    /// From one row to the next; at least a billionth.
    pub step: Greenfield,
}

impl Lane {
    /// Lays `rows` tasks behind `base`, the newest greenfield in the queue that is not after `now`, so that none of
    /// them is after `now`: there a greenfield means that the task is running.
    ///
    /// An empty queue begins one step after zero, as in sosw (`get_oldest_greenfield_for_labourer`). Where sosw's step
    /// would run past `now` it shrinks to `(now - base) / (rows + 1)`.
    pub fn behind(base: Option<Greenfield>, step: Greenfield, now: Greenfield, rows: u64) -> Self {
        let slots = i128::from(rows) + 1;
        let configured = step.0.max(1);
        // Room for a billionth a row at least, also when the queue's end is at this very moment.
        let base = base.map_or(configured, |base| base.0).min(now.0 - slots);
        let step = configured.min((now.0 - base) / slots).max(1);
        Self {
            first: Greenfield(base + step),
            step: Greenfield(step),
        }
    }

    /// Greenfield of row `row`, counted from 0.
    pub fn at(&self, row: u64) -> Greenfield {
        self.first.advanced(self.step, row)
    }
}

/// The namespace of task ids: UUIDv5 of the DNS name `jobmill` below nothing else, fixed for ever.
const NAMESPACE: Uuid = Uuid::from_u128(0x6a6f_626d_696c_6c00_8000_7461_736b_6964);

/// Makes the ids of the tasks of one run: UUIDv5 of run id and row, 32 hex digits as sosw's ids look.
#[derive(Debug, Clone)]
pub struct TaskIds {
    run: Uuid,
}

impl TaskIds {
    /// Ids of the run `run_id`.
    pub fn of_run(run_id: &str) -> Self {
        Self {
            run: Uuid::new_v5(&NAMESPACE, run_id.as_bytes()),
        }
    }

    /// Id of row `row`, counted from 0.
    pub fn at(&self, row: u64) -> String {
        Uuid::new_v5(&self.run, &row.to_be_bytes()).simple().to_string()
    }
}

/// One task as it will stand in the tasks table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// 32 hex digits.
    pub task_id: String,
    /// The worker.
    pub labourer_id: String,
    /// Seconds since 1970, a decimal.
    pub created_at: String,
    /// Its place in the queue.
    pub greenfield: Greenfield,
    /// JSON text.
    pub payload: String,
}

/// The largest item that DynamoDB takes, in bytes.
pub const MAX_ITEM_BYTES: u64 = 409_600;

/// The size of a task as DynamoDB counts it, in bytes: names and text in UTF-8, numbers at their widest (21 bytes).
pub fn item_bytes(fields: &crate::config::FieldNames, labourer_id: &str, payload_bytes: u64) -> u64 {
    const WIDEST_NUMBER: usize = 21;
    let names = [
        &fields.task_id,
        &fields.labourer_id,
        &fields.created_at,
        &fields.greenfield,
        &fields.attempts,
        &fields.payload,
    ];
    let names: usize = names.iter().map(|name| name.len()).sum();
    (names + 32 + labourer_id.len() + 3 * WIDEST_NUMBER) as u64 + payload_bytes
}

/// Takes a row of a queue file apart: its labourer, and the payload of its task.
///
/// The payload is the row without `labourer_id`; a `payload` of the row that is an object, or text of one, is the base
/// that the other keys are laid over.
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

/// A digest of some texts, 16 hex digits: the same texts always give the same one.
pub fn short_digest(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
