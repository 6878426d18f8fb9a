//! What becomes of asynchronous invocations: how often they are tried again, how old they may become, and the records of
//! their ends, as in "Capturing records of Lambda asynchronous invocations" of Lambda's guide.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use super::invocation::InvokeResult;

/// The version of functions that have no others.
pub(super) const LATEST: &str = "$LATEST";

/// How Lambda handles the asynchronous invocations of a function, version or alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EventConfig {
    pub(super) max_retries: Option<usize>,
    pub(super) max_age: Option<Duration>,
    /// ARNs of queues.
    pub(super) on_success: Option<String>,
    pub(super) on_failure: Option<String>,
    pub(super) modified: SystemTime,
}

impl EventConfig {
    /// From the body of a request; what it does not name is as in `before`.
    pub(super) fn parse(body: &[u8], before: Option<&Self>, now: SystemTime) -> Result<Self, String> {
        let body: Map<String, Value> =
            serde_json::from_slice(body).map_err(|_| "Could not parse request body into json".to_owned())?;
        let given = |name: &str| body.get(name).filter(|value| !value.is_null());
        let max_retries = bounded("maximumRetryAttempts", given("MaximumRetryAttempts"), 0, 2)?
            .map(|retries| usize::try_from(retries).unwrap_or(2));
        let max_age = bounded(
            "maximumEventAgeInSeconds",
            given("MaximumEventAgeInSeconds"),
            60,
            21_600,
        )?;
        let destinations = given("DestinationConfig");
        let (on_success, on_failure) = match destinations {
            Some(config) => (
                destination(config, "OnSuccess")?,
                destination(config, "OnFailure")?,
            ),
            None => (
                before.and_then(|before| before.on_success.clone()),
                before.and_then(|before| before.on_failure.clone()),
            ),
        };
        Ok(Self {
            max_retries: max_retries.or_else(|| before?.max_retries),
            max_age: max_age.map(Duration::from_secs).or_else(|| before?.max_age),
            on_success,
            on_failure,
            modified: now,
        })
    }

    /// As Lambda shows it.
    pub(super) fn show(&self, arn: &str) -> Value {
        let destination = |arn: &Option<String>| match arn {
            Some(arn) => json!({ "Destination": arn }),
            None => json!({}),
        };
        let modified = self.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut shown = json!({
            "FunctionArn": arn,
            "LastModified": modified.as_secs_f64(),
            "DestinationConfig": {
                "OnSuccess": destination(&self.on_success),
                "OnFailure": destination(&self.on_failure),
            },
        });
        let numbers = [
            (
                "MaximumRetryAttempts",
                self.max_retries.map(|retries| json!(retries)),
            ),
            (
                "MaximumEventAgeInSeconds",
                self.max_age.map(|age| json!(age.as_secs())),
            ),
        ];
        if let Some(shown) = shown.as_object_mut() {
            for (name, value) in numbers {
                if let Some(value) = value {
                    shown.insert(name.to_owned(), value);
                }
            }
        }
        shown
    }
}

fn bounded(name: &str, value: Option<&Value>, least: u64, most: u64) -> Result<Option<u64>, String> {
    let Some(value) = value else { return Ok(None) };
    match value.as_u64() {
        Some(number) if (least..=most).contains(&number) => Ok(Some(number)),
        _ => Err(format!(
            "1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: Member must have \
             value between {least} and {most}"
        )),
    }
}

fn destination(config: &Value, name: &str) -> Result<Option<String>, String> {
    let arn = config.get(name).and_then(|config| config.get("Destination"));
    match arn {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(arn)) if arn.is_empty() => Ok(None),
        Some(Value::String(arn)) if arn.starts_with("arn:aws:sqs:") => Ok(Some(arn.clone())),
        Some(other) => Err(format!(
            "The destination ARN {other} is invalid: the local cloud has only queues of SQS as destinations"
        )),
    }
}

/// Why a record is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Success,
    RetriesExhausted,
    EventAgeExceeded,
}

impl Condition {
    fn name(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::RetriesExhausted => "RetriesExhausted",
            Self::EventAgeExceeded => "EventAgeExceeded",
        }
    }
}

/// What a record tells.
#[derive(Debug)]
pub(super) struct Ended<'a> {
    pub(super) request_id: &'a str,
    /// With version or alias.
    pub(super) function_arn: &'a str,
    pub(super) condition: Condition,
    /// How often the function ran.
    pub(super) count: u32,
    pub(super) payload: &'a [u8],
    /// What came of the last run; none if there was none. Lambda's guide does not say what a record has then: here
    /// `responseContext` and `responsePayload` are left out.
    pub(super) result: Option<&'a InvokeResult>,
    pub(super) now: SystemTime,
}

/// The record of an invocation that has ended.
pub(super) fn record(ended: &Ended<'_>) -> Value {
    let mut record = json!({
        "version": "1.0",
        "timestamp": DateTime::<Utc>::from(ended.now).to_rfc3339_opts(SecondsFormat::Millis, true),
        "requestContext": {
            "requestId": ended.request_id,
            "functionArn": ended.function_arn,
            "condition": ended.condition.name(),
            "approximateInvokeCount": ended.count,
        },
        "requestPayload": as_json(ended.payload),
    });
    if let (Some(result), Some(record)) = (ended.result, record.as_object_mut()) {
        let mut context = json!({ "statusCode": result.status, "executedVersion": LATEST });
        if let (Some(error), Some(context)) = (&result.function_error, context.as_object_mut()) {
            context.insert("functionError".to_owned(), json!(error));
        }
        record.insert("responseContext".to_owned(), context);
        record.insert("responsePayload".to_owned(), as_json(&result.payload));
    }
    record
}

/// A payload as a part of a record; what is no JSON as text.
fn as_json(payload: &[u8]) -> Value {
    serde_json::from_slice(payload).unwrap_or_else(|_| json!(String::from_utf8_lossy(payload)))
}
