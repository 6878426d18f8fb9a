//! The configuration: sosw's names and tables, checked as a whole, every problem at once.

mod health;
mod json_schema;
mod keys;
mod labourer;
mod schemas;
mod section;

use serde_json::Value;

use crate::error::{Error, ErrorKind, excerpt_of, shorten};
use crate::job::schema::{Schema, Schemas};
use crate::json::{self, View};
use crate::queue::names;
use crate::suggest::suggestion;
use crate::task::health::Coefficients;
use crate::task::labourer::Labourers;
use crate::task::tables::Tables;
use crate::warning::Warning;

pub use json_schema::json_schema;
pub use section::{Form, Key, Keys, Kind, Name, Others, OwnForm, Problem};

use section::{Report, Section};

/// A larger configuration is refused, in bytes: one of ten thousand labourers has a third of it.
const MAX_TEXT_BYTES: usize = 4 << 20;

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `queue_bucket`: the bucket of queue files, locks and receipts.
    pub queue_bucket: String,
    /// `s3_prefix`, without slashes at its ends; empty: the root of the bucket.
    pub s3_prefix: String,
    /// `queue_file`, split at its last dot: `("tasks_queue", "txt")`.
    pub queue_file: (String, String),
    /// `shutdown_period`, seconds: when less is left, the invocation hands over.
    pub shutdown_period: u32,
    /// `timeout`, seconds: how long an invocation may take where the platform does not say.
    pub timeout: u32,
    /// `max_hops`: after so many hand-offs a chain leaves its file to the sweep.
    pub max_hops: u32,
    /// `max_tasks_per_job`: a job with more rows is refused before anything is written.
    pub max_tasks_per_job: u64,
    /// `lease_seconds`: how long a lock is held without a renewal.
    pub lease_seconds: u32,
    /// `job_schema_variants`, and `job_schema` as `default` where there is none.
    pub schemas: Schemas,
    /// `task_config.labourers`: the workers by name.
    pub labourers: Labourers,
    /// `task_config.greenfield_task_step`, as configured.
    pub greenfield_step: u64,
    /// `task_config.greenfield_invocation_delta`, seconds: so far beyond its start the greenfield of a running task lies.
    pub greenfield_delta: u64,
    /// `task_config.dynamo_db_config` and the tables beside it.
    pub tables: Tables,
    /// `task_writes`.
    pub task_writes: TaskWrites,
    /// `outcome_queue`: the URL of the queue to which destinations of workers send their outcomes.
    pub outcome_queue: Option<String>,
    /// `invocation_number_coefficient`: the share of its limit that a labourer may use, by its health.
    pub coefficients: Coefficients,
    /// `strict`: a job with a warning is refused.
    pub strict: bool,
    /// What is accepted but may not be what was meant.
    pub warnings: Vec<Warning>,
}

/// A configuration that can't be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedConfig {
    /// Why: all that has to be mended.
    pub problems: Vec<Problem>,
    /// What else may not be what was meant.
    pub warnings: Vec<Warning>,
}

impl RefusedConfig {
    fn whole(why: String) -> Self {
        Self {
            problems: vec![Problem {
                path: "$".to_owned(),
                sentence: format!("the configuration {why}"),
            }],
            warnings: Vec::new(),
        }
    }
}

/// One error out of all problems, the first of them in front.
impl From<RefusedConfig> for Error {
    fn from(refused: RefusedConfig) -> Self {
        let mut sentence = refused
            .problems
            .first()
            .map_or_else(String::new, Problem::to_string);
        if let more @ 1.. = refused.problems.len().saturating_sub(1) {
            sentence += &format!(" (and {more} more: `jobmill check` lists them all)");
        }
        Self::new(ErrorKind::InvalidConfig, sentence)
    }
}

/// How tasks are created in batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskWrites {
    /// `insert`, the default: a task that is there already is left as it is.
    Insert,
    /// `overwrite`: for endpoints without PartiQL; a late request may reset a task.
    Overwrite,
}

impl Config {
    /// Reads and checks a configuration given as JSON text.
    ///
    /// ```
    /// use jobmill_core::config::Config;
    ///
    /// let text = r#"{"queue_bucket": "my-queue-bucket", "task_config": {"labourers": {"report": {}}}}"#;
    /// let config = Config::parse(text).unwrap();
    /// assert_eq!(config.s3_prefix, "sosw/scheduler"); // a default
    ///
    /// let refused = Config::parse(r#"{"queue_bucketz": "my-queue-bucket", "timeout": "soon"}"#).unwrap_err();
    /// assert_eq!(refused.problems.len(), 3); // an unknown key, a missing one, a value that is no number
    /// ```
    ///
    /// # Errors
    /// Every problem, and every warning beside them.
    pub fn parse(text: &str) -> Result<Self, RefusedConfig> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(RefusedConfig::whole(format!(
                "has {} bytes, and at most {MAX_TEXT_BYTES} are read: take out what is not for jobmill",
                text.len()
            )));
        }
        Self::read(&json::parse(text).map_err(RefusedConfig::whole)?)
    }

    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// Every problem, and every warning beside them.
    pub fn read(value: &Value) -> Result<Self, RefusedConfig> {
        let Value::Object(map) = value else {
            return Err(RefusedConfig::whole(format!(
                "is {}, not an object",
                json::kind(value)
            )));
        };
        let mut report = Report::default();
        let (config, _) = Section::read(Vec::new(), Some(map), &mut report, keys::config);
        let (problems, warnings) = report.finish();
        if problems.is_empty() {
            Ok(Self { warnings, ..config })
        } else {
            Err(RefusedConfig { problems, warnings })
        }
    }

    /// All keys that a configuration may have.
    pub fn known_keys() -> Keys {
        Section::keys_of(keys::config)
    }

    /// The schema that a job asks for with its `job_schema_name`.
    ///
    /// # Errors
    /// `UnknownSchema`.
    pub fn schema(&self, name: Option<View<'_>>) -> Result<&Schema, Error> {
        let name = match name.filter(|name| !name.is_empty()) {
            None => DEFAULT_SCHEMA,
            Some(name) => name.as_text().ok_or_else(|| {
                Error::new(
                    ErrorKind::UnknownSchema,
                    format!(
                        "`job_schema_name` is {}, not text: {}",
                        excerpt_of(name),
                        self.schema_choice()
                    ),
                )
            })?,
        };
        self.schemas.get(name).ok_or_else(|| {
            Error::new(
                ErrorKind::UnknownSchema,
                format!(
                    "`job_schema_name` is {:?}, which `job_schema_variants` does not have{}: {}",
                    shorten(name),
                    suggestion(name, self.schemas.keys().map(String::as_str)),
                    self.schema_choice()
                ),
            )
        })
    }

    fn schema_choice(&self) -> String {
        let names: Vec<&str> = self.schemas.keys().map(String::as_str).take(10).collect();
        format!("name one of {}", names.join(", "))
    }

    /// Whether that worker is configured.
    ///
    /// # Errors
    /// `UnknownLabourer`.
    pub fn check_labourer(&self, name: &str) -> Result<(), Error> {
        if self.labourers.contains_key(name) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::UnknownLabourer,
            format!(
                "`lambda_name` is {:?}, which `task_config.labourers` does not have{}: {}",
                shorten(name),
                suggestion(name, self.labourers.keys().map(String::as_str)),
                self.labourer_choice()
            ),
        ))
    }

    fn labourer_choice(&self) -> String {
        let names: Vec<String> = self.labourers.keys().take(10).map(|name| shorten(name)).collect();
        let more = match self.labourers.len() - names.len() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        if names.is_empty() {
            "it names none, add this one there".to_owned()
        } else {
            format!(
                "it has {}{more}; add this one there, or correct the job",
                names.join(", ")
            )
        }
    }

    /// The key of an object below the prefix.
    pub fn key(&self, name: &str) -> String {
        names::key(&self.s3_prefix, name)
    }

    /// The keys of the run with that queue file.
    pub fn keys(&self, file_name: String) -> names::Keys {
        names::Keys::new(&self.s3_prefix, file_name)
    }

    /// The key of the lock of a group of labourers: `dispatch/{group}.json`.
    pub fn group_key(&self, group: &str) -> String {
        self.key(&format!("dispatch/{group}.json"))
    }

    /// The name of the queue file of a run: `tasks_queue_{run id}.txt`.
    pub fn file_name(&self, run_id: &str) -> String {
        let (stem, extension) = &self.queue_file;
        format!("{stem}_{run_id}.{extension}")
    }
}

/// The schema of a job that names none.
pub const DEFAULT_SCHEMA: &str = "default";

#[cfg(test)]
mod labourer_tests;
#[cfg(test)]
mod tests;
