//! What the end of a worker means: its answer, or what the platform says of it.
//!
//! A worker need not know of jobmill: what it returns is a success, what it throws a failure. One that wants to say more
//! returns an object with a member `jobmill`. All of it comes from outside: nothing here fails, and what is kept of it
//! is bounded.

use crate::error::{cut, excerpt_of};
use crate::json::{Document, View};
use crate::task::life::LastError;

/// Where a worker says more.
const SAYS: &str = "jobmill";
/// What is kept of a result, in bytes.
const LONGEST_RESULT: usize = 4096;
/// What is kept of an error's message, in characters, and of its type.
const LONGEST_MESSAGE: usize = 1000;
const LONGEST_TYPE: usize = 200;
/// What Lambda calls a function that took too long.
const TIMED_OUT: &str = "Sandbox.Timedout";
const NO_REASON: &str = "the worker gave no reason";

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The worker is done with the task.
    Succeeded {
        /// What it returned, JSON text: at most 4 KB of it, with `…` where it was cut. None: nothing, or null.
        result: Option<String>,
        /// Whether there was anything to do, if the worker says so.
        eventful: Option<bool>,
    },
    /// It failed.
    Failed {
        /// Why.
        error: LastError,
        /// Whether another attempt may help.
        retry: bool,
    },
    /// The platform never started it.
    NotStarted {
        /// Why, in the platform's words.
        why: String,
    },
}

impl Ending {
    fn failed(kind: &str, message: &str, retry: bool) -> Self {
        let message = if message.is_empty() { NO_REASON } else { message };
        Self::Failed {
            error: LastError {
                kind: cut(kind, LONGEST_TYPE),
                message: cut(message, LONGEST_MESSAGE),
            },
            retry,
        }
    }
}

/// What an answer means. `is_error`: the platform says that it is one (`X-Amz-Function-Error`).
pub fn of_answer(payload: &[u8], is_error: bool) -> Ending {
    let text = String::from_utf8_lossy(payload);
    let text = text.trim();
    match (Document::parse(text), is_error) {
        (Ok(document), true) => thrown(document.root(), text),
        (Ok(document), false) => returned(document.root(), text),
        (Err(_), true) => Ending::failed("Error", text, true),
        // No JSON: a text, then.
        (Err(_), false) => success((!text.is_empty()).then(|| kept(&json_text(text))), None),
    }
}

/// News of an attempt, from a destination of an asynchronous invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Which task.
    pub task_id: String,
    /// Its attempts as its worker got them: before this one.
    pub attempts: u32,
    /// How it ended.
    pub ending: Ending,
}

/// Reads the record that Lambda sends to a destination. `attempts_name` is how the payload calls how often the task was
/// tried before.
///
/// # Errors
/// Why it is none of a task.
pub fn of_destination(body: &str, attempts_name: &str) -> Result<News, String> {
    let document = Document::parse(body).map_err(|why| format!("the message {why}"))?;
    let root = document.root();
    let at = |path: &[&str]| at(root, path);
    let task_id = at(&["requestPayload", "task_id"])
        .and_then(|id| id.as_text())
        .filter(|id| !id.is_empty())
        .ok_or("the message has no text at `requestPayload.task_id`")?;
    let attempts = at(&["requestPayload", attempts_name])
        .and_then(|attempts| attempts.as_digits())
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| {
            format!("the message has no number of attempts at `requestPayload.{attempts_name}`")
        })?;
    let condition = at(&["requestContext", "condition"])
        .and_then(|condition| condition.as_text())
        .ok_or("the message has no text at `requestContext.condition`")?;
    let count = at(&["requestContext", "approximateInvokeCount"]).and_then(|count| count.as_digits());
    let is_error = at(&["responseContext", "functionError"]).is_some_and(|error| !error.is_null());
    let answer = at(&["responsePayload"]).filter(|answer| !answer.is_null());
    let has_run = is_error || answer.is_some();
    let ending = match condition {
        "Success" => match answer {
            Some(answer) => of_answer(answer.to_string().as_bytes(), is_error),
            None => of_answer(b"", is_error),
        },
        // The count is called approximate: an answer is a better sign.
        _ if !has_run && (condition == "EventAgeExceeded" || count == Some("0")) => Ending::NotStarted {
            why: cut(condition, LONGEST_TYPE),
        },
        _ => match answer {
            Some(answer) => of_answer(answer.to_string().as_bytes(), true),
            None => Ending::failed(condition, "the platform gave no reason", true),
        },
    };
    Ok(News {
        task_id: task_id.to_owned(),
        attempts,
        ending,
    })
}

fn at<'a>(value: View<'a>, path: &[&str]) -> Option<View<'a>> {
    path.iter().try_fold(value, |value, name| value.get(name))
}

/// The description of an error: Lambda's.
fn thrown(root: View<'_>, text: &str) -> Ending {
    let member = |name| root.get(name).and_then(|member| member.as_text());
    let message = member("errorMessage").unwrap_or_else(|| root.as_text().unwrap_or(text));
    let kind = member("errorType").filter(|kind| !kind.is_empty());
    // Of a function that took too long older runtimes have the message alone.
    let unnamed = if message.contains("Task timed out after") {
        TIMED_OUT
    } else {
        "Error"
    };
    Ending::failed(kind.unwrap_or(unnamed), message, true)
}

fn returned(root: View<'_>, text: &str) -> Ending {
    let Some(says) = root.get(SAYS) else {
        return success((!root.is_null()).then(|| kept(text)), None);
    };
    // What claims to be an outcome and is none must not pass for a success.
    if !says.is_object() {
        return unknown("jobmill", says, "an object");
    }
    let flag = |name| says.get(name).and_then(|flag| flag.as_bool());
    let succeeded = || {
        let result = says.get("result").filter(|result| !result.is_null());
        success(result.map(|result| kept(&result.to_string())), flag("eventful"))
    };
    let Some(outcome) = says.get("outcome") else {
        return succeeded();
    };
    match outcome.as_text() {
        Some("succeeded") => succeeded(),
        Some("failed") => {
            let (kind, message) = match says.get("error").filter(|error| !error.is_null()) {
                None => ("Failed", NO_REASON.to_owned()),
                Some(error) => reason(error),
            };
            Ending::failed(kind, &message, flag("retry").unwrap_or(true))
        }
        _ => unknown("jobmill.outcome", outcome, "\"succeeded\" or \"failed\""),
    }
}

/// What a worker gives as an error: its type and its message.
fn reason(error: View<'_>) -> (&str, String) {
    if let Some(text) = error.as_text() {
        return ("Failed", text.to_owned());
    }
    let member = |name| error.get(name).and_then(|member| member.as_text());
    let kind = member("type").filter(|kind| !kind.is_empty());
    let message = member("message").map_or_else(|| error.to_string(), str::to_owned);
    (kind.unwrap_or("Failed"), message)
}

fn unknown(field: &str, value: View<'_>, expected: &str) -> Ending {
    let message = format!(
        "the worker returned `{field}`: {}, and not {expected}",
        excerpt_of(value)
    );
    Ending::failed("UnknownOutcome", &message, true)
}

fn success(result: Option<String>, eventful: Option<bool>) -> Ending {
    Ending::Succeeded { result, eventful }
}

/// A text as a JSON string; of a long one only what could be kept.
fn json_text(text: &str) -> String {
    serde_json::Value::from(cut(text, LONGEST_RESULT)).to_string()
}

/// At most so many bytes of a text.
fn kept(text: &str) -> String {
    if text.len() <= LONGEST_RESULT {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(LONGEST_RESULT - "…".len());
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &str) -> Ending {
        of_answer(text.as_bytes(), false)
    }

    fn done(result: &str) -> Ending {
        success(Some(result.to_owned()), None)
    }

    fn failed(kind: &str, message: &str, retry: bool) -> Ending {
        Ending::failed(kind, message, retry)
    }

    #[test]
    fn what_a_worker_returns_is_its_result() {
        for text in [r#"{"rows": 5}"#, "5", "false", r#""done""#, "[]"] {
            assert_eq!(answered(text), done(text));
        }
        for nothing in ["null", "", "  \n"] {
            assert_eq!(answered(nothing), success(None, None), "{nothing:?}");
        }
        assert_eq!(
            answered("all \"done\""),
            done(r#""all \"done\"""#),
            "no JSON is text"
        );
        assert_eq!(of_answer(b"\xff", false), done("\"\u{fffd}\""));
    }

    #[test]
    fn what_a_worker_throws_is_its_error() {
        let thrown = |text: &str| of_answer(text.as_bytes(), true);
        assert_eq!(
            thrown(r#"{"errorMessage": "no such store", "errorType": "KeyError", "stackTrace": []}"#),
            failed("KeyError", "no such store", true)
        );
        assert_eq!(
            thrown(r#"{"errorMessage": "2024-03-06T00:00:00Z 1a Task timed out after 3.00 seconds"}"#),
            failed(
                "Sandbox.Timedout",
                "2024-03-06T00:00:00Z 1a Task timed out after 3.00 seconds",
                true
            )
        );
        assert_eq!(thrown("\"broken\""), failed("Error", "broken", true));
        assert_eq!(thrown("broken"), failed("Error", "broken", true));
        assert_eq!(thrown(""), failed("Error", "the worker gave no reason", true));
        assert_eq!(
            thrown(r#"{"errorType": 5}"#),
            failed("Error", r#"{"errorType": 5}"#, true)
        );
        // An error is one, whatever it says of itself.
        let odd = thrown(r#"{"jobmill": {"outcome": "succeeded"}, "errorMessage": "m"}"#);
        assert_eq!(odd, failed("Error", "m", true));
    }

    #[test]
    fn a_worker_may_say_how_it_ended() {
        let says = |text: &str| answered(&format!(r#"{{"jobmill": {text}, "other": 1}}"#));
        assert_eq!(
            says(
                r#"{"outcome": "failed", "retry": false, "error": {"type": "Gone", "message": "no such store"}}"#
            ),
            failed("Gone", "no such store", false)
        );
        assert_eq!(
            says(r#"{"outcome": "failed", "error": "later"}"#),
            failed("Failed", "later", true)
        );
        assert_eq!(
            says(r#"{"outcome": "failed", "retry": "no", "error": ""}"#),
            failed("Failed", "the worker gave no reason", true),
            "only true and false say something"
        );
        assert_eq!(
            says(r#"{"outcome": "failed", "error": {"code": 5}}"#),
            failed("Failed", r#"{"code":5}"#, true)
        );
        assert_eq!(
            says(r#"{"outcome": "succeeded", "eventful": true, "result": {"rows": [1, 2]}}"#),
            success(Some(r#"{"rows":[1,2]}"#.to_owned()), Some(true))
        );
        assert_eq!(says(r#"{"eventful": false}"#), success(None, Some(false)));
        assert_eq!(says("{}"), success(None, None));
    }

    #[test]
    fn an_outcome_that_is_none_is_no_success() {
        let says = |text: &str| match answered(&format!(r#"{{"jobmill": {text}}}"#)) {
            Ending::Failed { error, retry: true } if error.kind == "UnknownOutcome" => error.message,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(
            says(r#"{"outcome": "ok"}"#),
            "the worker returned `jobmill.outcome`: \"ok\", and not \"succeeded\" or \"failed\""
        );
        assert_eq!(
            says("\"failed\""),
            "the worker returned `jobmill`: \"failed\", and not an object"
        );
        for text in [
            r#"{"outcome": null}"#,
            r#"{"outcome": true}"#,
            r#"{"outcome": {}}"#,
            "null",
            "[1]",
        ] {
            says(text);
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let Ending::Succeeded {
            result: Some(result), ..
        } = answered(&format!("\"{}\"", "ü".repeat(5000)))
        else {
            panic!("no result");
        };
        assert!(result.len() <= 4096 && result.len() > 4090 && result.ends_with("ü…"));
        let Ending::Succeeded {
            result: Some(result), ..
        } = answered(&"\"".repeat(5000))
        else {
            panic!("no result");
        };
        assert!(result.len() <= 4096);
        let long = format!(
            r#"{{"errorType": "{0}", "errorMessage": "{0}"}}"#,
            "x".repeat(5000)
        );
        let Ending::Failed { error, .. } = of_answer(long.as_bytes(), true) else {
            panic!("no error");
        };
        assert_eq!(
            (error.kind.chars().count(), error.message.chars().count()),
            (201, 1001)
        );
    }

    /// A record as Lambda's documentation shows it.
    fn record(condition: &str, count: u32, more: &str) -> String {
        format!(
            r#"{{
                "version": "1.0", "timestamp": "2024-03-06T18:16:05.568Z",
                "requestContext": {{
                    "requestId": "e4b46cbf", "functionArn": "arn:aws:lambda:us-east-2:1:function:report:$LATEST",
                    "condition": "{condition}", "approximateInvokeCount": {count}
                }},
                "requestPayload": {{"task_id": "t1", "attempts": 2, "store": "a"}}{more}
            }}"#
        )
    }

    fn ending(condition: &str, count: u32, more: &str) -> Ending {
        let news = of_destination(&record(condition, count, more), "attempts").unwrap();
        assert_eq!((news.task_id.as_str(), news.attempts), ("t1", 2));
        news.ending
    }

    #[test]
    fn a_destination_says_how_an_attempt_ended() {
        let ran =
            r#", "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"}, "responsePayload": "#;
        assert_eq!(
            ending("Success", 1, &format!("{ran}{{\"rows\": 5}}")),
            done(r#"{"rows":5}"#)
        );
        assert_eq!(ending("Success", 1, &format!("{ran}null")), success(None, None));
        let says = format!(r#"{ran}{{"jobmill": {{"outcome": "failed", "retry": false, "error": "e"}}}}"#);
        assert_eq!(ending("Success", 1, &says), failed("Failed", "e", false));
        let threw = r#", "responseContext": {"statusCode": 200, "functionError": "Unhandled"},
            "responsePayload": {"errorType": "KeyError", "errorMessage": "m"}"#;
        assert_eq!(
            ending("RetriesExhausted", 3, threw),
            failed("KeyError", "m", true)
        );
        assert_eq!(
            ending("EventAgeExceeded", 1, threw),
            failed("KeyError", "m", true),
            "it ran"
        );
        assert_eq!(
            ending("RetriesExhausted", 1, ""),
            failed("RetriesExhausted", "the platform gave no reason", true)
        );
    }

    #[test]
    fn what_the_platform_never_started_did_not_fail() {
        let never = |why: &str| Ending::NotStarted { why: why.to_owned() };
        let empty = r#", "responseContext": null, "responsePayload": null"#;
        assert_eq!(ending("EventAgeExceeded", 0, ""), never("EventAgeExceeded"));
        assert_eq!(ending("EventAgeExceeded", 1, empty), never("EventAgeExceeded"));
        assert_eq!(
            ending("ZeroReservedConcurrency", 0, empty),
            never("ZeroReservedConcurrency")
        );
    }

    #[test]
    fn a_message_of_no_task_is_refused() {
        for (body, part) in [
            ("", "the message "),
            ("[]", "requestPayload.task_id"),
            (r#"{"requestPayload": {"task_id": 5}}"#, "requestPayload.task_id"),
            (
                r#"{"requestPayload": {"task_id": "t"}}"#,
                "requestPayload.attempts",
            ),
            (
                r#"{"requestPayload": {"task_id": "t", "attempts": -1}}"#,
                "requestPayload.attempts",
            ),
            (
                r#"{"requestPayload": {"task_id": "t", "attempts": 1}}"#,
                "requestContext.condition",
            ),
        ] {
            let why = of_destination(body, "attempts").unwrap_err();
            assert!(why.contains(part), "{body}: {why}");
        }
    }
}
