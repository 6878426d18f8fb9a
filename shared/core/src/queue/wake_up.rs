//! The event that wakes an orchestrator up: which group it is for.

use crate::error::{Error, excerpt_of, shorten};
use crate::json::Document;
use crate::suggest::suggestion;
use crate::task::labourer::MAIN_GROUP;

const KEYS: [&str; 1] = ["group"];

/// Reads a wake-up: `{"group": "nightly"}`; the group is `main` where it is not said, as in `{}` and in the event of an
/// EventBridge schedule.
///
/// # Errors
/// `InvalidEvent` if it is no object, if the group is no name, or if it says what is not understood: a job, perhaps.
pub fn read(event: &Document) -> Result<String, Error> {
    let root = event.root();
    if !root.is_object() {
        return Err(Error::event(format!(
            "the event is {}, not an object: send {{}} or {{\"group\": NAME}}",
            excerpt_of(root)
        )));
    }
    let is_scheduled = root.get("detail-type").and_then(|kind| kind.as_text()) == Some("Scheduled Event");
    if is_scheduled {
        return Ok(MAIN_GROUP.to_owned());
    }
    let unknown = root.members().map(|(key, _)| key).find(|key| !KEYS.contains(key));
    if let Some(key) = unknown {
        return Err(Error::event(format!(
            "the event has the key {:?}, which a wake-up has not{}: send {{}} or {{\"group\": NAME}}; jobs go to the \
             scheduler",
            shorten(key),
            suggestion(key, KEYS.into_iter())
        )));
    }
    match root.get("group") {
        None => Ok(MAIN_GROUP.to_owned()),
        Some(group) => match group.as_text().filter(|name| is_group(name)) {
            Some(name) => Ok(name.to_owned()),
            None => Err(Error::event(format!(
                "`group` is {}: name a group, at most 100 of A-Z a-z 0-9 . _ -",
                excerpt_of(group)
            ))),
        },
    }
}

/// Whether a text may name a group: it becomes part of a key of the bucket.
pub fn is_group(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=100).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(event: &str) -> Result<String, Error> {
        read(&Document::parse(event).unwrap())
    }

    #[test]
    fn a_wake_up_names_its_group_or_means_the_main_one() {
        assert_eq!(group("{}").unwrap(), "main");
        assert_eq!(group(r#"{"group": "nightly"}"#).unwrap(), "nightly");
        let scheduled =
            r#"{"version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}"#;
        assert_eq!(group(scheduled).unwrap(), "main");
    }

    #[test]
    fn what_is_no_wake_up_is_refused_with_what_to_send() {
        for (event, why) in [
            ("[]", "not an object"),
            (r#"{"lambda_name": "report"}"#, "jobs go to the scheduler"),
            (r#"{"groop": "a"}"#, "\"groop\""),
            (r#"{"group": 5}"#, "`group` is 5"),
            (r#"{"group": "../etc"}"#, "name a group"),
            (r#"{"group": ""}"#, "name a group"),
        ] {
            let error = group(event).unwrap_err();
            assert!(error.sentence.contains(why), "{event}: {error}");
        }
    }
}
