//! Requests and errors of SQS as they are written: fields of a JSON object, and answers with SQS's own codes.

use std::time::Duration;

use ::http::{HeaderValue, Response, StatusCode};
use s3s::Body;
use serde_json::{Map, Value};

use crate::http::answer;

pub(super) const JSON: &str = "application/x-amz-json-1.0";

/// An error as SQS gives it: its type in the JSON protocol, its code in the older one (which the SDKs read from a
/// header), and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) kind: &'static str,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) status: StatusCode,
}

impl Refused {
    pub(super) fn new(kind: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            code,
            message: message.into(),
            status: StatusCode::BAD_REQUEST,
        }
    }

    pub(super) fn no_queue() -> Self {
        Self::new(
            "QueueDoesNotExist",
            "AWS.SimpleQueueService.NonExistentQueue",
            "The specified queue does not exist.",
        )
    }

    pub(super) fn missing(name: &str) -> Self {
        let message = format!("The request must contain the parameter {name}.");
        Self::new("MissingParameter", "MissingParameter", message)
    }

    /// A value that can't be; `why` says what it must be.
    pub(super) fn value(name: &str, value: impl std::fmt::Display, why: &str) -> Self {
        let message = format!("Value {value} for parameter {name} is invalid. Reason: {why}.");
        Self::new("InvalidParameterValue", "InvalidParameterValue", message)
    }

    pub(super) fn answer(&self) -> Response<Body> {
        let body = serde_json::json!({
            "__type": format!("com.amazonaws.sqs#{}", self.kind),
            "message": self.message,
        });
        let mut response = answer(self.status, JSON, body.to_string());
        let fault = if self.status.is_server_error() {
            "Receiver"
        } else {
            "Sender"
        };
        if let Ok(code) = HeaderValue::from_str(&format!("{};{fault}", self.code)) {
            response.headers_mut().insert("x-amzn-query-error", code);
        }
        response
    }
}

/// The fields of a request, or of an entry of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(super) fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(self, name: &str) -> Result<&'a str, Refused> {
        let value = self.get(name).ok_or_else(|| Refused::missing(name))?;
        value
            .as_str()
            .ok_or_else(|| Refused::value(name, value, "Must be a string"))
    }

    /// A whole number within bounds, if there is one.
    pub(super) fn number(self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Refused> {
        self.get(name)
            .map(|value| number(name, value, least, most))
            .transpose()
    }

    /// Seconds within bounds, if there are any.
    pub(super) fn seconds(self, name: &str, most: u64) -> Result<Option<Duration>, Refused> {
        Ok(self.number(name, 0, most)?.map(Duration::from_secs))
    }

    /// The entries of a batch: one to ten, with ids that differ.
    pub(super) fn entries(self) -> Result<Vec<(&'a str, Fields<'a>)>, Refused> {
        let entries = self.get("Entries").and_then(Value::as_array);
        let entries = entries.map(Vec::as_slice).unwrap_or_default();
        if entries.is_empty() {
            return Err(Refused::new(
                "EmptyBatchRequest",
                "AWS.SimpleQueueService.EmptyBatchRequest",
                "There should be at least one entry in the request.",
            ));
        }
        if entries.len() > 10 {
            return Err(Refused::new(
                "TooManyEntriesInBatchRequest",
                "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
                format!(
                    "Maximum number of entries per request are 10. You have sent {}.",
                    entries.len()
                ),
            ));
        }
        let mut found: Vec<(&str, Fields<'_>)> = Vec::new();
        for entry in entries {
            let fields = entry.as_object().map(Fields);
            let fields = fields.ok_or_else(|| Refused::value("Entries", entry, "Must be an object"))?;
            let id = fields.text("Id")?;
            if id.is_empty() || id.len() > 80 || !id.bytes().all(is_name) {
                return Err(Refused::new(
                    "InvalidBatchEntryId",
                    "AWS.SimpleQueueService.InvalidBatchEntryId",
                    "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at \
                     most 80 letters long.",
                ));
            }
            if found.iter().any(|(known, _)| *known == id) {
                return Err(Refused::new(
                    "BatchEntryIdsNotDistinct",
                    "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
                    format!("Id {id} repeated."),
                ));
            }
            found.push((id, fields));
        }
        Ok(found)
    }
}

/// Attributes of queues are numbers in strings.
pub(super) fn number(name: &str, value: &Value, least: u64, most: u64) -> Result<u64, Refused> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            Refused::value(
                name,
                value,
                &format!("Must be between {least} and {most}, if provided"),
            )
        })
}

/// What ids and the names of queues are made of.
pub(super) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}
