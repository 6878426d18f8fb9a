//! The fields of a job: the name of its labourer, its flags.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::{Error, excerpt_of, shorten};
use crate::json::{self, Document, Kind, View};
use crate::suggest::nearest;

/// A job as it came, order and digits kept, without what is there for editors. Clones share its document.
#[derive(Clone)]
pub struct Job {
    /// Stands in no task.
    lambda_name: Option<Value>,
    /// An object: everything else.
    fields: Arc<Document>,
}

impl Job {
    /// The job that a document is; `lambda_name` counts if it names none itself.
    pub(crate) fn new(mut fields: Document, lambda_name: Option<Value>) -> Self {
        // A `$schema` that is not for editors is payload.
        if fields.root().get(EDITORS_KEY).is_some_and(is_for_editors) {
            fields.remove(EDITORS_KEY);
        }
        Self {
            lambda_name: fields.remove(LAMBDA_NAME).or(lambda_name),
            fields: Arc::new(fields),
        }
    }

    /// All its members but `lambda_name`.
    pub fn fields(&self) -> View<'_> {
        self.fields.root()
    }

    /// The document that they stand in.
    pub(crate) fn document(&self) -> Arc<Document> {
        Arc::clone(&self.fields)
    }

    /// As an object of `serde_json`, `lambda_name` first: takes much memory if the job is large.
    pub fn to_map(&self) -> Map<String, Value> {
        let name = self.lambda_name.clone();
        let name = name.map(|name| (LAMBDA_NAME.to_owned(), name));
        let fields = self.fields().members();
        let fields = fields.map(|(key, value)| (key.to_owned(), value.to_value()));
        name.into_iter().chain(fields).collect()
    }

    /// The name of the function that `lambda_name` gives.
    ///
    /// # Errors
    /// `InvalidJob` if it is missing, no text, or of none of the forms.
    pub(crate) fn labourer(&self) -> Result<&str, Error> {
        match &self.lambda_name {
            None => Err(Error::job(format!(
                "`lambda_name` is missing{}: the job must name its worker, {NAME_FORMS}",
                nearest(LAMBDA_NAME, self.fields().members().map(|(key, _)| key), 0.8).map_or_else(
                    String::new,
                    |key| format!(" (is `{}` meant to be it?)", shorten(key))
                )
            ))),
            Some(Value::String(text)) => function_name(text).ok_or_else(|| {
                Error::job(format!(
                    "`lambda_name` is {:?}, which is no name of a function: {NAME_FORMS}",
                    shorten(text)
                ))
            }),
            Some(other) => Err(Error::job(format!(
                "`lambda_name` is {}, not text: {NAME_FORMS}",
                json::kind(other)
            ))),
        }
    }
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        self.to_map() == other.to_map()
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("lambda_name", &self.lambda_name)
            .field("fields", &self.fields)
            .finish()
    }
}

/// The member that names the labourer.
const LAMBDA_NAME: &str = "lambda_name";

const NAME_FORMS: &str = "write a function name, ACCOUNT:function:NAME or arn:aws:lambda:REGION:ACCOUNT:function:NAME, each optionally \
     followed by :QUALIFIER";

/// The key by which a JSON file names its JSON Schema.
pub(crate) const EDITORS_KEY: &str = "$schema";

/// Whether a `$schema` is there for editors: it names a JSON Schema of jobs or of events.
pub(crate) fn is_for_editors(value: View<'_>) -> bool {
    let names = ["job.schema.json", "event.schema.json"];
    value
        .as_text()
        .is_some_and(|text| names.iter().any(|name| text.ends_with(name)))
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
pub(crate) fn read_switch(field: impl FnOnce() -> String, value: View<'_>) -> Result<Option<bool>, Error> {
    let set = match value.kind() {
        Kind::Null => return Ok(None),
        Kind::Bool => value.as_bool(),
        Kind::Number => match value.as_digits() {
            Some("1") => Some(true),
            Some("0") => Some(false),
            _ => None,
        },
        Kind::Text => match value.as_text().unwrap_or_default().to_ascii_lowercase().as_str() {
            "" => return Ok(None),
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        },
        Kind::List | Kind::Object => None,
    };
    match set {
        Some(set) => Ok(Some(set)),
        None => Err(Error::job(format!(
            "`{}` is {}: write true or false",
            field(),
            excerpt_of(value)
        ))),
    }
}

/// Reads a bound on the size of a batch. `None`: not set.
///
/// # Errors
/// `InvalidJob` for anything but a whole number of at least 1, or text of its digits.
pub(crate) fn read_batch_size(field: impl FnOnce() -> String, value: View<'_>) -> Result<Option<u64>, Error> {
    if value.is_null() {
        return Ok(None);
    }
    let digits = value.as_digits().or_else(|| value.as_text()).unwrap_or_default();
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
            excerpt_of(value)
        )));
    }
    Ok(Some(size))
}

/// Whether a key looks like a flag of some attribute.
pub(crate) fn looks_like_flag(key: &str) -> bool {
    key.starts_with("isolate_") || (key.starts_with("max_") && key.ends_with("_per_batch"))
}
