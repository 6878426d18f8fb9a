//! The API of SQS in its JSON protocol (`AmazonSQS.*`).

use std::sync::Arc;

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use md5::{Digest as _, Md5};
use s3s::Body;
use serde_json::{Map, Value, json};

use super::queue::{BadHandle, Queue, Received, Settings};
use super::wire::{Fields, JSON, Refused, is_name, number};
use super::{MAX_MESSAGE, Sqs, arn_of};
use crate::faults::{Effect, Service};
use crate::http::{Aborted, answer, collect};
use crate::service::Endpoint;

const TARGET: &str = "x-amz-target";
const TARGET_PREFIX: &str = "AmazonSQS.";
/// The longest visibility time-out, delay and wait, in seconds.
const MAX_VISIBILITY: u64 = 43_200;
const MAX_DELAY: u64 = 900;
const MAX_WAIT: u64 = 20;
/// What SQS would keep messages for, and says so; here they stay.
const RETENTION: u64 = 345_600;

/// The SQS endpoint.
#[derive(Debug, Clone)]
pub(crate) struct SqsEndpoint {
    sqs: Sqs,
}

impl Endpoint for SqsEndpoint {
    const SERVICE: Service = Service::Sqs;

    fn operation(request: &Request<Body>) -> Option<String> {
        let target = request.headers().get(TARGET)?.to_str().ok()?;
        target.strip_prefix(TARGET_PREFIX).map(str::to_owned)
    }

    /// All paths are the same: the queue is named in the body.
    fn names(request: &Request<Bytes>, part: &str) -> bool {
        let body = String::from_utf8_lossy(request.body());
        body.contains(part)
    }

    fn applies(_operation: &str, _request: &Request<Bytes>, effect: &Effect) -> bool {
        !matches!(
            effect,
            Effect::Conflict | Effect::Unprocessed(_) | Effect::LoseInvoke | Effect::DoubleInvoke
        )
    }

    async fn call(
        &self,
        operation: &str,
        request: Request<Body>,
        effect: Option<&Effect>,
    ) -> Result<Response<Body>, Aborted> {
        let result = match effect {
            Some(Effect::Error) => Err(Refused {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                ..Refused::new("InternalFailure", "InternalFailure", "an injected error")
            }),
            Some(Effect::Throttle) => Err(Refused::new(
                "RequestThrottled",
                "RequestThrottled",
                "The request was denied due to request throttling.",
            )),
            _ => {
                self.carry_out(operation, &collect(request.into_body()).await?)
                    .await
            }
        };
        Ok(match result {
            Ok(body) => answer(StatusCode::OK, JSON, body.to_string()),
            Err(refused) => refused.answer(),
        })
    }
}

impl SqsEndpoint {
    pub(crate) fn new(sqs: Sqs) -> Self {
        Self { sqs }
    }

    async fn carry_out(&self, operation: &str, body: &Bytes) -> Result<Value, Refused> {
        let parsed: Map<String, Value> = serde_json::from_slice(body).map_err(|_| {
            let message = "The request is not a JSON object.";
            Refused::new("SerializationException", "SerializationException", message)
        })?;
        let fields = Fields(&parsed);
        match operation {
            "CreateQueue" => self.create(fields),
            "GetQueueUrl" => {
                let name = fields.text("QueueName")?;
                self.sqs.queue(name).ok_or_else(Refused::no_queue)?;
                Ok(json!({ "QueueUrl": self.sqs.url(name) }))
            }
            "ListQueues" => self.list(fields),
            _ => {
                let (name, queue) = self.queue(fields)?;
                of_queue(operation, fields, name, &queue).await
            }
        }
    }

    /// The queue that a request names by its URL, of which the path counts.
    fn queue<'a>(&self, fields: Fields<'a>) -> Result<(&'a str, Arc<Queue>), Refused> {
        let url = fields.text("QueueUrl")?;
        let name = url.rsplit('/').next().unwrap_or_default();
        let queue = self.sqs.queue(name).ok_or_else(Refused::no_queue)?;
        Ok((name, queue))
    }

    fn create(&self, fields: Fields<'_>) -> Result<Value, Refused> {
        let name = fields.text("QueueName")?;
        if name.is_empty() || name.len() > 80 || !name.bytes().all(is_name) {
            let why = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length";
            return Err(Refused::value("QueueName", name, why));
        }
        let settings = settings(fields)?;
        let queue = self.sqs.create_with(name, settings);
        if queue.settings != settings {
            return Err(Refused::new(
                "QueueNameExists",
                "QueueAlreadyExists",
                "A queue already exists with the same name and a different value for an attribute.",
            ));
        }
        Ok(json!({ "QueueUrl": self.sqs.url(name) }))
    }

    fn list(&self, fields: Fields<'_>) -> Result<Value, Refused> {
        let prefix = match fields.get("QueueNamePrefix") {
            Some(_) => fields.text("QueueNamePrefix")?,
            None => "",
        };
        let most = fields.number("MaxResults", 1, 1000)?.unwrap_or(1000);
        let urls: Vec<String> = self
            .sqs
            .names()
            .iter()
            .filter(|name| name.starts_with(prefix))
            .map(|name| self.sqs.url(name))
            .take(usize::try_from(most).unwrap_or(usize::MAX))
            .collect();
        Ok(json!({ "QueueUrls": urls }))
    }
}

/// The settings among the attributes of CreateQueue.
fn settings(fields: Fields<'_>) -> Result<Settings, Refused> {
    let mut settings = Settings::default();
    let attributes = fields.get("Attributes").and_then(Value::as_object);
    for (name, value) in attributes.into_iter().flatten() {
        let seconds = |most| number(name, value, 0, most).map(std::time::Duration::from_secs);
        match name.as_str() {
            "VisibilityTimeout" => settings.visibility = seconds(MAX_VISIBILITY)?,
            "DelaySeconds" => settings.delay = seconds(MAX_DELAY)?,
            "ReceiveMessageWaitTimeSeconds" => settings.wait = seconds(MAX_WAIT)?,
            // Taken, and without a meaning here.
            "MessageRetentionPeriod" | "MaximumMessageSize" | "Policy" | "SqsManagedSseEnabled" => {}
            _ => {
                let message = format!("Unknown Attribute {name}.");
                return Err(Refused::new(
                    "InvalidAttributeName",
                    "InvalidAttributeName",
                    message,
                ));
            }
        }
    }
    Ok(settings)
}

/// The operations on one queue.
async fn of_queue(operation: &str, fields: Fields<'_>, name: &str, queue: &Queue) -> Result<Value, Refused> {
    match operation {
        "GetQueueAttributes" => attributes(fields, name, queue),
        "SendMessage" => {
            check_size(fields.text("MessageBody")?.len())?;
            send(fields, queue)
        }
        "SendMessageBatch" => {
            let entries = fields.entries()?;
            let size = |(_, entry): &(&str, Fields<'_>)| entry.text("MessageBody").map_or(0, str::len);
            let size: usize = entries.iter().map(size).sum();
            if size > MAX_MESSAGE {
                return Err(Refused::new(
                    "BatchRequestTooLong",
                    "AWS.SimpleQueueService.BatchRequestTooLong",
                    format!(
                        "Batch requests cannot be longer than {MAX_MESSAGE} bytes. You have sent {size} bytes."
                    ),
                ));
            }
            Ok(each(entries, |entry| send(entry, queue)))
        }
        "ReceiveMessage" => receive(fields, queue).await,
        "DeleteMessage" => delete(fields, queue),
        "DeleteMessageBatch" => Ok(each(fields.entries()?, |entry| delete(entry, queue))),
        "ChangeMessageVisibility" => {
            let time = fields.seconds("VisibilityTimeout", MAX_VISIBILITY)?;
            let time = time.ok_or_else(|| Refused::missing("VisibilityTimeout"))?;
            let handle = fields.text("ReceiptHandle")?;
            let changed = queue.change_visibility(handle, time);
            changed.map(|()| json!({})).map_err(|bad| of_handle(bad, handle))
        }
        "PurgeQueue" => {
            queue.purge();
            Ok(json!({}))
        }
        _ => Err(Refused::new(
            "UnsupportedOperation",
            "AWS.SimpleQueueService.UnsupportedOperation",
            format!("The local cloud has no {operation}."),
        )),
    }
}

/// Carries out each entry of a batch by itself.
fn each(entries: Vec<(&str, Fields<'_>)>, one: impl Fn(Fields<'_>) -> Result<Value, Refused>) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for (id, entry) in entries {
        match one(entry) {
            Ok(Value::Object(mut done)) => {
                done.insert("Id".to_owned(), json!(id));
                successful.push(Value::Object(done));
            }
            Ok(_) => {}
            Err(refused) => failed.push(json!({
                "Id": id, "SenderFault": true, "Code": refused.code, "Message": refused.message,
            })),
        }
    }
    json!({ "Successful": successful, "Failed": failed })
}

fn check_size(length: usize) -> Result<(), Refused> {
    if length > MAX_MESSAGE {
        let message = format!(
            "One or more parameters are invalid. Reason: Message must be shorter than {MAX_MESSAGE} bytes."
        );
        return Err(Refused::new(
            "InvalidParameterValue",
            "InvalidParameterValue",
            message,
        ));
    }
    Ok(())
}

fn send(fields: Fields<'_>, queue: &Queue) -> Result<Value, Refused> {
    let body = fields.text("MessageBody")?;
    if body.is_empty() {
        return Err(Refused::missing("MessageBody"));
    }
    // Those of XML 1.0, as the reference of SendMessage lists them.
    let allowed = |letter| matches!(letter, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    if !body.chars().all(allowed) {
        let message = "Invalid characters found in the message body.";
        return Err(Refused::new(
            "InvalidMessageContents",
            "InvalidMessageContents",
            message,
        ));
    }
    if fields
        .get("MessageAttributes")
        .and_then(Value::as_object)
        .is_some_and(|some| !some.is_empty())
    {
        return Err(Refused::new(
            "UnsupportedOperation",
            "AWS.SimpleQueueService.UnsupportedOperation",
            "The local cloud has no message attributes.",
        ));
    }
    let id = queue.send(body.to_owned(), fields.seconds("DelaySeconds", MAX_DELAY)?);
    Ok(json!({ "MessageId": id, "MD5OfMessageBody": md5(body) }))
}

async fn receive(fields: Fields<'_>, queue: &Queue) -> Result<Value, Refused> {
    let most = fields.number("MaxNumberOfMessages", 1, 10)?.unwrap_or(1);
    let visibility = fields.seconds("VisibilityTimeout", MAX_VISIBILITY)?;
    let wait = fields.seconds("WaitTimeSeconds", MAX_WAIT)?;
    let found = queue
        .receive(
            usize::try_from(most).unwrap_or(10),
            visibility.unwrap_or(queue.settings.visibility),
            wait.unwrap_or(queue.settings.wait),
        )
        .await;
    let asked: Vec<&str> = ["AttributeNames", "MessageSystemAttributeNames"]
        .iter()
        .filter_map(|name| fields.get(name)?.as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    // As SQS: without a message there is no list of them.
    if found.is_empty() {
        return Ok(json!({}));
    }
    let messages: Vec<Value> = found.iter().map(|message| as_json(message, &asked)).collect();
    Ok(json!({ "Messages": messages }))
}

fn as_json(message: &Received, asked: &[&str]) -> Value {
    let mut json = json!({
        "MessageId": message.id,
        "ReceiptHandle": message.handle,
        "MD5OfBody": md5(&message.body),
        "Body": message.body,
    });
    let attributes = [
        ("SentTimestamp", message.sent_ms.to_string()),
        ("ApproximateReceiveCount", message.count.to_string()),
        (
            "ApproximateFirstReceiveTimestamp",
            message.first_received_ms.to_string(),
        ),
    ];
    let attributes: Map<String, Value> = attributes
        .into_iter()
        .filter(|(name, _)| asked.contains(name) || asked.contains(&"All"))
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    if let (Some(json), false) = (json.as_object_mut(), attributes.is_empty()) {
        json.insert("Attributes".to_owned(), Value::Object(attributes));
    }
    json
}

fn delete(fields: Fields<'_>, queue: &Queue) -> Result<Value, Refused> {
    let handle = fields.text("ReceiptHandle")?;
    let deleted = queue.delete(handle);
    deleted.map(|()| json!({})).map_err(|bad| of_handle(bad, handle))
}

fn of_handle(bad: BadHandle, handle: &str) -> Refused {
    match bad {
        BadHandle::Invalid => {
            let message = format!("The input receipt handle {handle:?} is not a valid receipt handle.");
            Refused::new("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", message)
        }
        BadHandle::NotInFlight => Refused::new(
            "MessageNotInflight",
            "AWS.SimpleQueueService.MessageNotInflight",
            "The message is not available for visibility timeout change.",
        ),
    }
}

fn attributes(fields: Fields<'_>, name: &str, queue: &Queue) -> Result<Value, Refused> {
    let (counts, settings) = (queue.counts(), queue.settings);
    let known = [
        ("ApproximateNumberOfMessages", counts.visible.to_string()),
        (
            "ApproximateNumberOfMessagesNotVisible",
            counts.in_flight.to_string(),
        ),
        ("ApproximateNumberOfMessagesDelayed", counts.delayed.to_string()),
        ("CreatedTimestamp", queue.created.to_string()),
        ("LastModifiedTimestamp", queue.created.to_string()),
        ("VisibilityTimeout", settings.visibility.as_secs().to_string()),
        ("DelaySeconds", settings.delay.as_secs().to_string()),
        (
            "ReceiveMessageWaitTimeSeconds",
            settings.wait.as_secs().to_string(),
        ),
        ("MaximumMessageSize", MAX_MESSAGE.to_string()),
        ("MessageRetentionPeriod", RETENTION.to_string()),
        ("QueueArn", arn_of(name)),
    ];
    let mut found = Map::new();
    let asked = fields.get("AttributeNames").and_then(Value::as_array);
    for asked in asked.into_iter().flatten() {
        let all = asked == "All";
        let before = found.len();
        for (name, value) in known.iter().filter(|(name, _)| all || asked == name) {
            found.insert((*name).to_owned(), json!(value));
        }
        if found.len() == before && !all && !found.contains_key(asked.as_str().unwrap_or_default()) {
            let message = format!("Unknown Attribute {asked}.");
            return Err(Refused::new(
                "InvalidAttributeName",
                "InvalidAttributeName",
                message,
            ));
        }
    }
    Ok(json!({ "Attributes": found }))
}

fn md5(text: &str) -> String {
    let digest = Md5::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
