//! The fields of a job: the name of its labourer, its flags.

use serde_json::{Map, Value};

use crate::error::{Error, excerpt, shorten};
use crate::json::kind;
use crate::suggest::nearest;

/// A job as it came: a JSON object, order and digits kept.
pub type Job = Map<String, Value>;

const NAME_FORMS: &str = "write a function name, ACCOUNT:function:NAME or arn:aws:lambda:REGION:ACCOUNT:function:NAME, each optionally \
     followed by :QUALIFIER";

/// Takes `lambda_name` out of a job and cuts it to the name of the function.
///
/// # Errors
/// `InvalidJob` if it is missing, no text, or of none of the forms.
pub(crate) fn take_labourer(job: &mut Job) -> Result<String, Error> {
    match job.shift_remove("lambda_name") {
        None => Err(Error::job(format!(
            "`lambda_name` is missing{}: the job must name its worker, {NAME_FORMS}",
            nearest("lambda_name", job.keys().map(String::as_str), 0.8).map_or_else(
                String::new,
                |key| format!(" (is `{}` meant to be it?)", shorten(key))
            )
        ))),
        Some(Value::String(text)) => match function_name(&text) {
            Some(name) => Ok(name.to_owned()),
            None => Err(Error::job(format!(
                "`lambda_name` is {}, which is no name of a function: {NAME_FORMS}",
                excerpt(&Value::String(text))
            ))),
        },
        Some(other) => Err(Error::job(format!(
            "`lambda_name` is {}, not text: {NAME_FORMS}",
            kind(&other)
        ))),
    }
}

/// The key by which a JSON file names its JSON Schema.
pub(crate) const EDITORS_KEY: &str = "$schema";

/// Whether a `$schema` is there for editors: it names a JSON Schema of jobs or of events.
pub(crate) fn is_for_editors(value: &Value) -> bool {
    let names = ["job.schema.json", "event.schema.json"];
    value
        .as_str()
        .is_some_and(|text| names.iter().any(|name| text.ends_with(name)))
}

/// Takes the `$schema` out that is there for editors; another one is payload.
pub(crate) fn take_editors_key(job: &mut Job) {
    if job.get(EDITORS_KEY).is_some_and(is_for_editors) {
        job.shift_remove(EDITORS_KEY);
    }
}

/// Takes what [`function_name`] takes.
pub(crate) const FUNCTION_NAME_PATTERN: &str = "^((arn:[A-Za-z0-9-]+:lambda:[A-Za-z0-9-]*:[A-Za-z0-9-]*|[0-9]+):function:)?[A-Za-z0-9_=,.@-]+(:[A-Za-z0-9$_-]*)?$";

/// The name within the name, partial ARN or ARN of a Lambda function.
pub fn function_name(text: &str) -> Option<&str> {
    let mut parts: Vec<&str> = text.split(':').collect();
    if let ["arn", partition, "lambda", region, account, "function", ..] = parts.as_slice() {
        let plain = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if partition.is_empty() || !plain(partition) || !plain(region) || !plain(account) {
            return None;
        }
        parts.drain(..6);
    } else if let [account, "function", _, ..] = parts.as_slice()
        && !account.is_empty()
        && account.bytes().all(|byte| byte.is_ascii_digit())
    {
        parts.drain(..2);
    }
    let (name, qualifier) = match parts.as_slice() {
        [name] => (*name, ""),
        [name, qualifier] => (*name, *qualifier),
        _ => return None,
    };
    let name_ok = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_=,.@-".contains(&byte));
    let qualifier_ok = qualifier
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"$_-".contains(&byte));
    (name_ok && qualifier_ok).then_some(name)
}

/// Reads a flag that is true or false. `None`: not set.
///
/// # Errors
/// `InvalidJob` for anything but true, false, 1, 0 and the texts true, false, yes, no, on, off, 1, 0.
pub(crate) fn read_switch(field: impl FnOnce() -> String, value: &Value) -> Result<Option<bool>, Error> {
    let set = match value {
        Value::Null => return Ok(None),
        Value::Bool(set) => Some(*set),
        Value::Number(number) => match number.as_str() {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        },
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        },
        Value::Array(_) | Value::Object(_) => None,
    };
    match set {
        Some(set) => Ok(Some(set)),
        None => Err(Error::job(format!(
            "`{}` is {}: write true or false",
            field(),
            excerpt(value)
        ))),
    }
}

/// Reads a bound on the size of a batch. `None`: not set.
///
/// # Errors
/// `InvalidJob` for anything but a whole number of at least 1, or text of its digits.
pub(crate) fn read_batch_size(field: impl FnOnce() -> String, value: &Value) -> Result<Option<u64>, Error> {
    let digits = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_str(),
        Value::String(text) => text.as_str(),
        _ => "",
    };
    let whole = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    // More digits than fit are more values than any job has.
    let size = if whole {
        digits.parse().unwrap_or(u64::MAX)
    } else {
        0
    };
    if size == 0 {
        return Err(Error::job(format!(
            "`{}` is {}: write a whole number of at least 1, or null for no bound",
            field(),
            excerpt(value)
        )));
    }
    Ok(Some(size))
}

/// Whether a key looks like a flag of some attribute.
pub(crate) fn looks_like_flag(key: &str) -> bool {
    key.starts_with("isolate_") || (key.starts_with("max_") && key.ends_with("_per_batch"))
}
