//! From an event to a request: a job, a continuation, a sweep.

use crate::error::{Error, excerpt_of, shorten};
use crate::job::fields::{EDITORS_KEY, Job, is_for_editors};
use crate::job::period::AsOf;
use crate::json::{Document, Kind, View};
use crate::queue::lock::MAX_HOP;
use crate::queue::names::LOCK_PREFIX;
use crate::suggest::suggestion;
use crate::warning::{Document as Subject, Step, WarningKind, Warnings, json_path};

/// The longest run id, in characters.
pub const MAX_RUN_ID: usize = 128;

/// What an invocation is asked to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Turn a job into tasks.
    Job(JobRequest),
    /// Go on with a queue file.
    Continue(Continuation),
    /// Look for queue files that nobody works on.
    Sweep,
}

/// A job, and what came with it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRequest {
    /// The job, `lambda_name` included.
    pub job: Job,
    /// The run id of the envelope, else the id of the EventBridge event.
    pub run_id: Option<String>,
    /// The as-of of the envelope, else the time of the EventBridge event.
    pub as_of: Option<AsOf>,
    /// When EventBridge made the event.
    pub event_time: Option<AsOf>,
    /// Refuse the job if there is anything to warn of.
    pub strict: bool,
    /// What was ignored or is probably misplaced.
    pub warnings: Warnings,
}

/// A queue file to go on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// Its name below the prefix: one path segment.
    pub file_name: String,
    /// How many invocations have handed this chain on before.
    pub hop: u32,
    /// A line of the queue file, counted from 1, that shall be passed over if it can't become a task.
    pub skip_line: Option<u64>,
    /// Somebody has sent it, and no hand-over or sweep: it says no hop, or a line to pass over. Only then it goes on with a
    /// run that stopped, also when Lambda delivers it again because it failed.
    pub by_hand: bool,
}

/// Reads an event.
///
/// ```
/// use jobmill_core::job::event::{self, Request};
/// use jobmill_core::json::Document;
///
/// let envelope = r#"{"run_id": "nightly-1", "job": {"lambda_name": "report"}}"#;
/// let Request::Job(request) = event::read(Document::parse(envelope)?)? else {
///     panic!("not a job");
/// };
/// assert_eq!(request.run_id.as_deref(), Some("nightly-1"));
///
/// let sweep = event::read(Document::parse(r#"{"sweep": true}"#)?)?;
/// assert_eq!(sweep, Request::Sweep);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `InvalidEvent` if it is no request.
pub fn read(event: impl Into<Document>) -> Result<Request, Error> {
    let document = event.into();
    let held = held(document.root());
    let held = held.map_err(|why| Error::event(format!("the event {why}: {ADVICE}")))?;
    let document = held.unwrap_or(document);
    let event = document.root();
    let is_job = event.get("job").is_some() || event.get("lambda_name").is_some();
    if !is_job
        && ["detail-type", "source", "detail"]
            .iter()
            .all(|key| event.get(key).is_some())
    {
        return read_eventbridge(document).map(Request::Job);
    }
    if !is_job && event.get("file_name").is_some() {
        return read_continuation(event).map(Request::Continue);
    }
    if !is_job && event.get("sweep").and_then(|sweep| sweep.as_bool()) == Some(true) {
        return Ok(Request::Sweep);
    }
    if !is_job && let Some(kind) = kind_of_foreign_event(event) {
        return Err(Error::event(format!(
            "the event is {kind}, and holds no job: {ADVICE}"
        )));
    }
    read_envelope(document, None).map(Request::Job)
}

/// What an event is that another service of AWS sends to a function; `None` if it is of no kind that is known.
/// Shapes: AWS Lambda Developer Guide, "Using AWS Lambda with other services".
fn kind_of_foreign_event(event: View<'_>) -> Option<&'static str> {
    // A batch of records, each of which names its source; Kafka names it once.
    let first = event.get("Records").and_then(|records| records.items().next());
    let of_source = first.filter(|record| record.is_object()).unwrap_or(event);
    // SNS has its keys in capitals.
    let source = of_source
        .get("eventSource")
        .or_else(|| of_source.get("EventSource"));
    match source.and_then(|source| source.as_text()) {
        Some("aws:s3") => return Some("a notification of S3"),
        Some("aws:sqs") => return Some("a batch of messages of SQS"),
        Some("aws:sns") => return Some("a message of SNS"),
        Some("aws:dynamodb") => return Some("a batch of records of a DynamoDB stream"),
        Some("aws:kinesis") => return Some("a batch of records of a Kinesis stream"),
        Some("aws:kafka" | "SelfManagedKafka") => return Some("a batch of records of Kafka"),
        Some(other) if other.starts_with("aws:") => return Some("an event of another service of AWS"),
        _ => {}
    }
    if event.get("Event").and_then(|name| name.as_text()) == Some("s3:TestEvent") {
        return Some("the test event of S3");
    }
    let context = event.get("requestContext")?;
    if context.get("elb").is_some() {
        return Some("a request of a load balancer");
    }
    if context.get("http").is_some() || event.get("httpMethod").is_some() {
        return Some("a request of API Gateway or a function URL");
    }
    None
}

const ADVICE: &str =
    "send a job {\"lambda_name\": ...}, an envelope {\"job\": {...}}, or an EventBridge event";

/// The object that a text holds; `None` for an object itself.
///
/// # Errors
/// A sentence without a subject for everything else.
fn held(value: View<'_>) -> Result<Option<Document>, String> {
    if value.is_object() {
        return Ok(None);
    }
    let Some(text) = value.as_text() else {
        return Err(format!(
            "is {}, not an object or text holding one",
            value.kind().name()
        ));
    };
    let held = Document::parse(text)?;
    match held.root().kind() {
        Kind::Object => Ok(Some(held)),
        other => Err(format!("holds {}, not an object", other.name())),
    }
}

/// A member that is there and not null.
fn given<'a>(object: View<'a>, name: &str) -> Option<View<'a>> {
    object.get(name).filter(|value| !value.is_null())
}

fn read_eventbridge(document: Document) -> Result<JobRequest, Error> {
    let event = document.root();
    let time = given(event, "time").map(|time| read_moment("time", time));
    let id = given(event, "id").map(|id| read_run_id("id", id));
    let detail = event.get("detail").ok_or("is missing".to_owned());
    let detail = detail.and_then(|detail| Ok((detail.place(), held(detail)?)));
    let (place, held) = detail.map_err(|why| Error::event(format!("`detail` {why}: put the job there")))?;
    let detail = held.unwrap_or_else(|| document.narrowed(place));
    let mut request = read_envelope(detail, Some(Step::Key("detail")))?;
    request.event_time = time.transpose()?;
    request.as_of = request.as_of.or(request.event_time);
    if request.run_id.is_none() {
        request.run_id = id.transpose()?;
    }
    Ok(request)
}

/// `at` is where the envelope, or the bare job, stands in the event.
fn read_envelope(document: Document, at: Option<Step<'static>>) -> Result<JobRequest, Error> {
    let event = document.root();
    let (mut run_id, mut as_of, mut strict, mut lambda_name) = (None, None, false, None);
    let mut warnings = Warnings::default();
    let job = match event.get("job") {
        // A bare job.
        None => document,
        Some(job) => {
            let held = held(job).map_err(|why| Error::event(format!("`job` {why}: {ADVICE}")))?;
            let own_name = held.as_ref().map_or(job, Document::root).get("lambda_name");
            for (key, value) in event.members() {
                match key {
                    "job" => {}
                    "lambda_name" if own_name.is_none() => lambda_name = Some(value.to_value()),
                    "lambda_name" if own_name.map(|own| own.to_value()) == Some(value.to_value()) => {}
                    "run_id" | "as_of" | "strict" if value.is_null() => {}
                    EDITORS_KEY if is_for_editors(value) => {}
                    "run_id" => run_id = Some(read_run_id("run_id", value)?),
                    "as_of" => as_of = Some(read_moment("as_of", value)?),
                    "strict" => {
                        strict = value.as_bool().ok_or_else(|| {
                            Error::event(format!("`strict` is {}: write true or false", excerpt_of(value)))
                        })?;
                    }
                    other => warnings.add(WarningKind::IgnoredKey, Subject::Event, || {
                        let why = if other == "lambda_name" {
                            "the job has its own".to_owned()
                        } else {
                            format!(
                                "an envelope has `job`, `lambda_name`, `run_id`, `as_of` and `strict`{}",
                                suggestion(other, ENVELOPE)
                            )
                        };
                        let path = json_path(at.into_iter().chain([Step::Key(other)]));
                        (
                            path,
                            format!("`{}` beside `job` is ignored: {why}", shorten(other)),
                        )
                    }),
                }
            }
            let place = job.place();
            held.unwrap_or_else(|| document.narrowed(place))
        }
    };
    let mut request = JobRequest {
        job: Job::new(job, lambda_name),
        run_id,
        as_of,
        event_time: None,
        strict,
        warnings,
    };
    warn_of_envelope_keys(&mut request);
    Ok(request)
}

/// What an envelope may have beside `job`.
const ENVELOPE: [&str; 5] = ["job", "lambda_name", "run_id", "as_of", "strict"];

/// What names the run or its day counts beside `job` only.
fn warn_of_envelope_keys(request: &mut JobRequest) {
    let JobRequest { job, warnings, .. } = request;
    for (key, beside, means) in [
        ("run_id", request.run_id.is_some(), "to name the run"),
        ("as_of", request.as_of.is_some(), "to say which day is today"),
        ("strict", request.strict, "to have warnings refused"),
    ] {
        let there =
            given(job.fields(), key).is_some_and(|value| key != "strict" || value.as_bool() == Some(true));
        if there && !beside {
            warnings.add(WarningKind::EnvelopeKey, Subject::Job, || {
                let sentence = format!(
                    "`{key}` is payload in a job: {means}, write it beside, as in {{\"job\": {{...}}, \"{key}\": ...}}"
                );
                (json_path([Step::Key(key)]), sentence)
            });
        }
    }
}

fn read_moment(field: &str, value: View<'_>) -> Result<AsOf, Error> {
    value.as_text().and_then(AsOf::parse).ok_or_else(|| {
        Error::event(format!(
            "`{field}` is {}: write a date such as \"2024-03-06\" or a time such as \"2024-03-06T02:00:00Z\"",
            excerpt_of(value)
        ))
    })
}

fn read_run_id(field: &str, value: View<'_>) -> Result<String, Error> {
    match value.as_text() {
        Some(text) => check_run_id(field, text),
        None => Err(Error::event(format!(
            "`{field}` is {}, not text: {RUN_ID_FORM}",
            excerpt_of(value)
        ))),
    }
}

const RUN_ID_FORM: &str = "a run id has 1 to 128 of the characters A-Z a-z 0-9 . _ : -";

/// Checks a run id, which becomes part of an object key. The colon is there for times: the one at which a schedule fired
/// makes the best run id, since each attempt to deliver it says the same.
///
/// # Errors
/// `InvalidEvent` if it has other characters than `[A-Za-z0-9._:-]`, none, or more than 128.
pub fn check_run_id(field: &str, text: &str) -> Result<String, Error> {
    let good = (1..=MAX_RUN_ID).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte));
    if good {
        Ok(text.to_owned())
    } else {
        Err(Error::event(format!(
            "`{field}` is {:?}: {RUN_ID_FORM}",
            shorten(text)
        )))
    }
}

fn read_continuation(event: View<'_>) -> Result<Continuation, Error> {
    let name = event.get("file_name");
    let file_name = match name.and_then(|name| name.as_text()) {
        Some(text) => check_file_name(text)?,
        None => {
            let shown = name.map_or_else(String::new, excerpt_of);
            return Err(Error::event(format!(
                "`file_name` is {shown}, not text: {FILE_NAME_FORM}"
            )));
        }
    };
    let whole = |value: View<'_>| value.as_digits().and_then(|digits| digits.parse::<u64>().ok());
    let hop = match given(event, "hop") {
        None => None,
        Some(value) => Some(
            whole(value)
                .and_then(|hop| u32::try_from(hop).ok())
                .filter(|hop| *hop <= MAX_HOP)
                .ok_or_else(|| {
                    Error::event(format!(
                        "`hop` is {}: write a whole number of at most {MAX_HOP}, or leave it out",
                        excerpt_of(value)
                    ))
                })?,
        ),
    };
    let skip_line = match given(event, "skip_line") {
        None => None,
        Some(value) => Some(whole(value).filter(|line| *line > 0).ok_or_else(|| {
            Error::event(format!(
                "`skip_line` is {}: write the number of the line, counted from 1, or leave it out",
                excerpt_of(value)
            ))
        })?),
    };
    Ok(Continuation {
        file_name,
        hop: hop.unwrap_or_default(),
        skip_line,
        by_hand: hop.is_none() || skip_line.is_some(),
    })
}

const FILE_NAME_FORM: &str = "name a queue file below the prefix, such as \"tasks_queue_nightly-1.txt\"";

/// Checks the name of a queue file: one path segment.
///
/// # Errors
/// `InvalidEvent` if it could leave the prefix or name something else.
pub fn check_file_name(text: &str) -> Result<String, Error> {
    let wrong = |why: &str| {
        Error::event(format!(
            "`file_name` is {:?}, which {why}: {FILE_NAME_FORM}",
            shorten(text)
        ))
    };
    if text.is_empty() || text.len() > 512 {
        return Err(wrong("is empty or longer than 512 characters"));
    }
    // Two dots within a name are no step up, and a run id may hold them.
    if text.contains(['/', '\\']) || text == "." || text == ".." {
        return Err(wrong("is a path"));
    }
    if text.starts_with(LOCK_PREFIX) {
        return Err(wrong("is a lock, or a file that a sosw Scheduler is at work on"));
    }
    // The last two can't stand in a listing, which is XML.
    if text
        .chars()
        .any(|letter| letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}'))
    {
        return Err(wrong("has control characters"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_hop_that_no_lock_may_have_is_refused() {
        let hop = |hop: u64| read(json!({ "file_name": "q.txt", "hop": hop }));
        assert!(matches!(
            hop(1_000_000),
            Ok(Request::Continue(Continuation { hop: 1_000_000, .. }))
        ));
        let sentence = hop(1_000_001).unwrap_err().sentence;
        assert!(sentence.starts_with("`hop` is 1000001: write a whole number of at most 1000000"));
    }

    #[test]
    fn events_of_other_services_are_named() {
        for (event, kind) in [
            (
                json!({ "Records": [{ "eventSource": "aws:s3", "s3": {} }] }),
                "a notification of S3",
            ),
            (
                json!({ "Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b" }),
                "the test event of S3",
            ),
            (
                json!({ "Records": [{ "eventSource": "aws:sqs", "body": "{}" }] }),
                "a batch of messages of SQS",
            ),
            (
                json!({ "Records": [{ "EventSource": "aws:sns", "Sns": {} }] }),
                "a message of SNS",
            ),
            (
                json!({ "Records": [{ "eventSource": "aws:dynamodb", "dynamodb": {} }] }),
                "a batch of records of a DynamoDB stream",
            ),
            (
                json!({ "Records": [{ "eventSource": "aws:kinesis", "kinesis": {} }] }),
                "a batch of records of a Kinesis stream",
            ),
            (
                json!({ "eventSource": "aws:kafka", "records": {} }),
                "a batch of records of Kafka",
            ),
            (
                json!({ "Records": [{ "eventSource": "aws:ses", "ses": {} }] }),
                "an event of another service of AWS",
            ),
            (
                json!({ "version": "1.0", "httpMethod": "POST", "requestContext": { "apiId": "a" }, "body": "{}" }),
                "a request of API Gateway or a function URL",
            ),
            (
                json!({ "version": "2.0", "requestContext": { "http": { "method": "POST" } }, "body": "{}" }),
                "a request of API Gateway or a function URL",
            ),
            (
                json!({ "httpMethod": "POST", "requestContext": { "elb": { "targetGroupArn": "t" } }, "body": "{}" }),
                "a request of a load balancer",
            ),
        ] {
            let error = read(event.clone()).unwrap_err();
            assert_eq!(error.kind, crate::ErrorKind::InvalidEvent, "{event}");
            let beginning = format!("the event is {kind}, and holds no job: send a job");
            assert!(error.sentence.starts_with(&beginning), "{event}: {error}");
        }
    }

    #[test]
    fn a_job_may_have_attributes_of_any_name() {
        for more in [
            json!({ "Records": [{ "eventSource": "aws:s3" }] }),
            json!({ "requestContext": { "http": {} } }),
            json!({ "eventSource": "aws:kafka" }),
        ] {
            let mut job = more.as_object().unwrap().clone();
            job.insert("lambda_name".to_owned(), "worker".into());
            assert!(matches!(read(Value::from(job)), Ok(Request::Job(_))), "{more}");
        }
        // And what only looks a little like one is read as a job that lacks its name.
        for event in [
            json!({ "Records": [] }),
            json!({ "Records": "x" }),
            json!({ "requestContext": 5 }),
        ] {
            assert!(matches!(read(event.clone()), Ok(Request::Job(_))), "{event}");
        }
    }
}
