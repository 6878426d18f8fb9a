//! The configuration: sosw's names and tables, checked as a whole, every problem at once.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, excerpt, shorten};
use crate::job::schema::{Schema, Schemas};
use crate::json;
use crate::queue::names::{self, Keys};
use crate::suggest::suggestion;
use crate::task::tables::{FieldNames, Tables};
use crate::warning::{Document, Step, Warning, WarningKind, Warnings, json_path};

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
    /// `task_config.labourers`: names of the workers.
    pub labourers: BTreeMap<String, Option<String>>,
    /// `task_config.greenfield_task_step`, as configured.
    pub greenfield_step: u64,
    /// `task_config.dynamo_db_config` and the tables beside it.
    pub tables: Tables,
    /// `task_writes`.
    pub task_writes: TaskWrites,
    /// `strict`: a job with a warning is refused.
    pub strict: bool,
    /// What is accepted but may not be what was meant.
    pub warnings: Vec<Warning>,
}

/// How tasks are created in batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskWrites {
    /// `insert`, the default: a task that is there already is left as it is.
    Insert,
    /// `overwrite`: for endpoints without PartiQL; a late request may reset a task.
    Overwrite,
}

const TOP: [&str; 14] = [
    "queue_bucket",
    "s3_prefix",
    "queue_file",
    "shutdown_period",
    "timeout",
    "max_hops",
    "max_tasks_per_job",
    "lease_seconds",
    "task_writes",
    "strict",
    "job_schema",
    "job_schema_variants",
    "task_config",
    "meta_handler_config",
];
/// Keys of sosw's Scheduler, its base classes and its clients that mean nothing here.
const TOP_OF_SOSW: [&str; 12] = [
    "init_clients",
    "rows_to_process",
    "task_operational_overhead_for_ddb",
    "custom_period_patterns",
    "siblings_config",
    "sns_config",
    "s3_config",
    "ecology_config",
    "dynamo_db_config",
    "auto_spawning",
    "test",
    "dead_sns_topic",
];
const TASK: [&str; 5] = [
    "labourers",
    "greenfield_task_step",
    "dynamo_db_config",
    "sosw_closed_tasks_table",
    "sosw_retry_tasks_table",
];
const TASK_OF_SOSW: [&str; 11] = [
    "init_clients",
    "sosw_closed_tasks_labourer_status_index",
    "sosw_retry_tasks_greenfield_index",
    "greenfield_invocation_delta",
    "max_attempts",
    "max_closed_to_analyse_for_duration",
    "max_simultaneous_invocations",
    "ecology_config",
    "default_metric_values",
    "retry_tasks_limit",
    "sosw_worker_assistant_lambda",
];
const TABLE: [&str; 4] = ["table_name", "index_greenfield", "field_names", "row_mapper"];
const TABLE_OF_SOSW: [&str; 7] = [
    "required_fields",
    "notes",
    "skip_glue",
    "region_name",
    "hash_key",
    "range_key",
    "dont_json_loads_results",
];
const META: [&str; 2] = ["write_meta_to_ddb", "dynamo_db_config"];
const META_TABLE: [&str; 2] = ["table_name", "row_mapper"];

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
    /// let problems = Config::parse(r#"{"queue_bucketz": "my-queue-bucket", "timeout": "soon"}"#).unwrap_err();
    /// assert_eq!(problems.len(), 3); // an unknown key, a missing one, a value that is no number
    /// ```
    ///
    /// # Errors
    /// Every problem, a sentence each.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let value = json::parse(text).map_err(|why| vec![format!("the configuration {why}")])?;
        Self::read(&value)
    }

    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// Every problem, a sentence each.
    pub fn read(value: &Value) -> Result<Self, Vec<String>> {
        let Value::Object(map) = value else {
            return Err(vec![format!(
                "the configuration is {}, not an object",
                json::kind(value)
            )]);
        };
        let mut reader = Reader {
            problems: Vec::new(),
            warnings: Warnings::default(),
        };
        let config = reader.config(map);
        if reader.problems.is_empty() {
            Ok(Self {
                warnings: reader.warnings.finish(Document::Config),
                ..config
            })
        } else {
            Err(reader.problems)
        }
    }

    /// One error out of all problems, the first of them in front.
    pub fn error(problems: &[String]) -> Error {
        let first = problems
            .first()
            .map_or("the configuration can't be right", String::as_str);
        let more = match problems.len() {
            0 | 1 => String::new(),
            count => format!(" (and {} more: `jobmill check` lists them all)", count - 1),
        };
        Error::new(ErrorKind::InvalidConfig, format!("{first}{more}"))
    }

    /// The schema that a job asks for with its `job_schema_name`.
    ///
    /// # Errors
    /// `UnknownSchema`.
    pub fn schema(&self, name: Option<&Value>) -> Result<&Schema, Error> {
        let name = match name {
            None => DEFAULT_SCHEMA,
            Some(Value::String(name)) if !name.is_empty() => name,
            Some(value) if json::is_empty(value) => DEFAULT_SCHEMA,
            Some(value) => {
                return Err(Error::new(
                    ErrorKind::UnknownSchema,
                    format!(
                        "`job_schema_name` is {}, not text: {}",
                        excerpt(value),
                        self.schema_choice()
                    ),
                ));
            }
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
    pub fn keys(&self, file_name: String) -> Keys {
        Keys::new(&self.s3_prefix, file_name)
    }

    /// The name of the queue file of a run: `tasks_queue_{run id}.txt`.
    pub fn file_name(&self, run_id: &str) -> String {
        let (stem, extension) = &self.queue_file;
        format!("{stem}_{run_id}.{extension}")
    }
}

/// The schema of a job that names none.
pub const DEFAULT_SCHEMA: &str = "default";

struct Reader {
    problems: Vec<String>,
    warnings: Warnings,
}

impl Reader {
    fn config(&mut self, map: &Map<String, Value>) -> Config {
        self.keys("", map, &TOP, &TOP_OF_SOSW);
        if map.contains_key("custom_period_patterns") {
            self.warn(
                WarningKind::IgnoredKey,
                "custom_period_patterns",
                "`custom_period_patterns` needs methods of a Python class: jobs that use such a period are refused"
                    .to_owned(),
            );
        }
        let empty = Map::new();
        let task = self
            .object("task_config", map.get("task_config"))
            .unwrap_or(&empty);
        self.keys("task_config.", task, &TASK, &TASK_OF_SOSW);
        let table = self
            .object("task_config.dynamo_db_config", task.get("dynamo_db_config"))
            .unwrap_or(&empty);
        self.keys("task_config.dynamo_db_config.", table, &TABLE, &TABLE_OF_SOSW);
        let bucket = self.text("queue_bucket", map.get("queue_bucket"), "");
        if bucket.is_empty()
            && !self
                .problems
                .iter()
                .any(|problem| problem.starts_with("`queue_bucket`"))
        {
            self.problems
                .push("`queue_bucket` is missing: name the bucket for queue files".to_owned());
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if !bucket.starts_with("arn:") && !bucket.bytes().all(plain) {
            self.problems.push(format!(
                "`queue_bucket` is {:?}: write the name of a bucket (letters, digits and - . _) or the ARN of an access point",
                shorten(&bucket)
            ));
        }
        let defaults = Tables::default();
        let tasks = self.text(
            "task_config.dynamo_db_config.table_name",
            table.get("table_name"),
            &defaults.tasks,
        );
        // sosw's TaskManager lays the whole configuration over `task_config`, so there the one at the top counts.
        if let Some(Value::Object(top)) = map.get("dynamo_db_config")
            && let Some(named) = top.get("table_name").and_then(Value::as_str)
            && named != tasks
        {
            self.problems.push(format!(
                "`dynamo_db_config.table_name` is {:?}, and tasks go to {:?}: sosw would use the former, so name one table \
                 in both, `task_config.dynamo_db_config.table_name` and here",
                shorten(named),
                shorten(&tasks)
            ));
        }
        Config {
            queue_bucket: bucket,
            s3_prefix: self.prefix(map.get("s3_prefix")),
            queue_file: self.queue_file(map.get("queue_file")),
            shutdown_period: self.number("shutdown_period", map.get("shutdown_period"), 60, 1, 800),
            timeout: self.number("timeout", map.get("timeout"), 900, 1, 900),
            max_hops: self.number("max_hops", map.get("max_hops"), 12, 1, 15),
            max_tasks_per_job: self.number(
                "max_tasks_per_job",
                map.get("max_tasks_per_job"),
                1_000_000,
                1,
                100_000_000_000,
            ),
            lease_seconds: self.number("lease_seconds", map.get("lease_seconds"), 30, 15, 900),
            schemas: self.schemas(map),
            labourers: self.labourers(task.get("labourers")),
            greenfield_step: self.number(
                "task_config.greenfield_task_step",
                task.get("greenfield_task_step"),
                1000,
                1,
                1_000_000_000,
            ),
            tables: Tables {
                tasks,
                index_greenfield: self.text(
                    "task_config.dynamo_db_config.index_greenfield",
                    table.get("index_greenfield"),
                    &defaults.index_greenfield,
                ),
                closed: self.text(
                    "task_config.sosw_closed_tasks_table",
                    task.get("sosw_closed_tasks_table"),
                    &defaults.closed,
                ),
                retry: self.text(
                    "task_config.sosw_retry_tasks_table",
                    task.get("sosw_retry_tasks_table"),
                    &defaults.retry,
                ),
                meta: self.meta(map.get("meta_handler_config")),
                fields: self.fields(table),
            },
            task_writes: match map.get("task_writes") {
                None | Some(Value::Null) => TaskWrites::Insert,
                Some(Value::String(text)) if text == "insert" => TaskWrites::Insert,
                Some(Value::String(text)) if text == "overwrite" => TaskWrites::Overwrite,
                Some(other) => {
                    self.problems.push(format!(
                        "`task_writes` is {}: write \"insert\" (the default) or \"overwrite\"",
                        excerpt(other)
                    ));
                    TaskWrites::Insert
                }
            },
            strict: match map.get("strict") {
                None | Some(Value::Null) => false,
                Some(Value::Bool(strict)) => *strict,
                Some(other) => {
                    self.problems
                        .push(format!("`strict` is {}: write true or false", excerpt(other)));
                    false
                }
            },
            warnings: Vec::new(),
        }
    }

    /// `field` is a dotted path of known names, the last of which may be any.
    fn warn(&mut self, kind: WarningKind, field: &str, sentence: String) {
        let (known, last) = field.rsplit_once('.').unwrap_or(("", field));
        let known = known.split('.').filter(|name| !name.is_empty());
        let path = json_path(known.chain([last]).map(Step::Key));
        self.warnings.add(kind, Document::Config, || (path, sentence));
    }

    fn keys(&mut self, at: &str, map: &Map<String, Value>, known: &[&str], of_sosw: &[&str]) {
        for key in map.keys() {
            if known.contains(&key.as_str()) {
                continue;
            }
            // Attempts may be set for a single labourer; table configurations of other clients stand beside ours.
            let pattern = (at == "task_config." && key.starts_with("max_attempts_"))
                || (at.is_empty() && key.ends_with("_dynamo_db_config"));
            if pattern || of_sosw.contains(&key.as_str()) {
                if key != "custom_period_patterns" {
                    let sentence = format!("`{}` means something to sosw and nothing here", shorten(key));
                    self.warn(WarningKind::IgnoredKey, &format!("{at}{key}"), sentence);
                }
            } else {
                self.problems.push(format!(
                    "`{at}{}` is unknown{}: correct it or take it out",
                    shorten(key),
                    suggestion(key, known.iter().chain(of_sosw).copied())
                ));
            }
        }
    }

    fn object<'a>(&mut self, field: &str, value: Option<&'a Value>) -> Option<&'a Map<String, Value>> {
        match value {
            None | Some(Value::Null) => None,
            Some(Value::Object(map)) => Some(map),
            Some(other) => {
                self.problems
                    .push(format!("`{field}` is {}, not an object", json::kind(other)));
                None
            }
        }
    }

    fn text(&mut self, field: &str, value: Option<&Value>, default: &str) -> String {
        match value {
            None | Some(Value::Null) => default.to_owned(),
            Some(Value::String(text)) if !text.is_empty() && text.len() <= 255 => text.clone(),
            Some(other) => {
                self.problems.push(format!(
                    "`{field}` is {}: write a name of 1 to 255 characters",
                    excerpt(other)
                ));
                default.to_owned()
            }
        }
    }

    fn number<T: TryFrom<u64>>(
        &mut self,
        field: &str,
        value: Option<&Value>,
        default: T,
        min: u64,
        max: u64,
    ) -> T {
        let number = match value {
            None | Some(Value::Null) => return default,
            Some(Value::Number(number)) => number.as_u64(),
            // sosw's table of configurations keeps numbers as text.
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        match number
            .filter(|number| (min..=max).contains(number))
            .and_then(|number| T::try_from(number).ok())
        {
            Some(number) => number,
            None => {
                let shown = value.map_or_else(String::new, excerpt);
                self.problems.push(format!(
                    "`{field}` is {shown}: write a whole number from {min} to {max}"
                ));
                default
            }
        }
    }

    fn prefix(&mut self, value: Option<&Value>) -> String {
        let text = match value {
            Some(Value::String(text)) => text.trim_matches('/').to_owned(),
            other => self.text("s3_prefix", other, "sosw/scheduler"),
        };
        let steps = text.split('/').any(|part| part == "." || part == "..");
        if text.len() > 400 || steps || text.chars().any(char::is_control) {
            self.problems.push(format!(
                "`s3_prefix` is {:?}: write at most 400 characters, no control characters and no step like ..",
                shorten(&text)
            ));
        }
        text
    }

    fn queue_file(&mut self, value: Option<&Value>) -> (String, String) {
        let text = self.text("queue_file", value, "tasks_queue.txt");
        let legal = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
            && !text.contains("..")
            && !text.starts_with(crate::queue::names::LOCK_PREFIX)
            && text.len() <= 100;
        match text.rsplit_once('.') {
            Some((stem, extension)) if legal && !stem.is_empty() && !extension.is_empty() => {
                (stem.to_owned(), extension.to_owned())
            }
            _ => {
                self.problems.push(format!(
                    "`queue_file` is {:?}: write a name with an extension such as \"tasks_queue.txt\", with letters, \
                     digits and . _ - only",
                    shorten(&text)
                ));
                ("tasks_queue".to_owned(), "txt".to_owned())
            }
        }
    }

    fn schemas(&mut self, map: &Map<String, Value>) -> Schemas {
        let mut schemas = Schemas::new();
        for (name, value) in self
            .object("job_schema_variants", map.get("job_schema_variants"))
            .into_iter()
            .flatten()
        {
            let field = format!("job_schema_variants.{}", shorten(name));
            if let Some(schema) = Schema::read(name, &field, value, &mut self.problems) {
                schemas.insert(name.clone(), schema);
            }
        }
        let single = map.get("job_schema").filter(|value| !value.is_null());
        let variant_is_there = map
            .get("job_schema_variants")
            .and_then(Value::as_object)
            .is_some_and(|variants| variants.contains_key(DEFAULT_SCHEMA));
        // Checked also where a variant stands before it.
        let single =
            single.and_then(|value| Schema::read(DEFAULT_SCHEMA, "job_schema", value, &mut self.problems));
        if !variant_is_there {
            let schema = single.unwrap_or_else(|| Schema::empty(DEFAULT_SCHEMA));
            schemas.insert(DEFAULT_SCHEMA.to_owned(), schema);
        }
        schemas
    }

    fn labourers(&mut self, value: Option<&Value>) -> BTreeMap<String, Option<String>> {
        let mut labourers = BTreeMap::new();
        for (name, settings) in self.object("task_config.labourers", value).into_iter().flatten() {
            let field = format!("task_config.labourers.{}", shorten(name));
            if crate::job::fields::function_name(name) != Some(name) {
                let sentence = format!(
                    "{:?} is no name of a Lambda function (letters, digits and _ = , . @ -), so that no job can name \
                     it: write the name here, and an ARN into `arn`",
                    shorten(name)
                );
                let path = json_path([Step::Key("task_config"), Step::Key("labourers"), Step::Key(name)]);
                self.warnings
                    .add(WarningKind::UnreachableLabourer, Document::Config, || {
                        (path, sentence)
                    });
            }
            let settings = self.object(&field, Some(settings));
            let arn = settings
                .and_then(|settings| settings.get("arn"))
                .filter(|arn| !arn.is_null());
            let arn = arn.map(|arn| self.text(&format!("{field}.arn"), Some(arn), ""));
            labourers.insert(name.clone(), arn);
        }
        labourers
    }

    fn meta(&mut self, value: Option<&Value>) -> Option<String> {
        let map = self.object("meta_handler_config", value)?;
        self.keys("meta_handler_config.", map, &META, &[]);
        let table = self.object(
            "meta_handler_config.dynamo_db_config",
            map.get("dynamo_db_config"),
        );
        if let Some(table) = table {
            self.keys(
                "meta_handler_config.dynamo_db_config.",
                table,
                &META_TABLE,
                &TABLE_OF_SOSW,
            );
        }
        let name = self.text(
            "meta_handler_config.dynamo_db_config.table_name",
            table.and_then(|table| table.get("table_name")),
            "sosw_tasks_meta",
        );
        match map.get("write_meta_to_ddb") {
            Some(Value::Bool(true)) => Some(name),
            None | Some(Value::Null | Value::Bool(false)) => None,
            Some(other) => {
                self.problems.push(format!(
                    "`meta_handler_config.write_meta_to_ddb` is {}: write true or false",
                    excerpt(other)
                ));
                None
            }
        }
    }

    fn fields(&mut self, table: &Map<String, Value>) -> FieldNames {
        let at = "task_config.dynamo_db_config";
        let mut names = FieldNames::default();
        for (key, value) in self
            .object(&format!("{at}.field_names"), table.get("field_names"))
            .into_iter()
            .flatten()
        {
            let field = format!("{at}.field_names.{}", shorten(key));
            let place = match key.as_str() {
                "task_id" => &mut names.task_id,
                "labourer_id" => &mut names.labourer_id,
                "created_at" => &mut names.created_at,
                "greenfield" => &mut names.greenfield,
                "attempts" => &mut names.attempts,
                "payload" => &mut names.payload,
                // Fields that only orchestrators write.
                _ => continue,
            };
            *place = self.text(&field, Some(value), key);
            if place.contains(['\'', '"']) || place.chars().any(char::is_control) {
                self.problems.push(format!(
                    "`{field}` is {:?}: a field name has no quotes",
                    shorten(place)
                ));
            }
        }
        let used = [
            &names.task_id,
            &names.labourer_id,
            &names.created_at,
            &names.greenfield,
            &names.attempts,
            &names.payload,
        ];
        for (index, name) in used.iter().enumerate() {
            if used.iter().take(index).any(|other| other == name) {
                self.problems.push(format!(
                    "`{at}.field_names` gives the name {:?} twice",
                    shorten(name)
                ));
            }
        }
        let types: [(&str, &String, &str); 6] = [
            ("task_id", &names.task_id, "S"),
            ("labourer_id", &names.labourer_id, "S"),
            ("created_at", &names.created_at, "N"),
            ("greenfield", &names.greenfield, "N"),
            ("attempts", &names.attempts, "N"),
            ("payload", &names.payload, "S"),
        ];
        if let Some(mapper) = self.object(&format!("{at}.row_mapper"), table.get("row_mapper")) {
            for (key, name, expected) in types {
                for written in [mapper.get(key), mapper.get(name)].into_iter().flatten() {
                    if written.as_str() != Some(expected) {
                        self.problems.push(format!(
                            "`{at}.row_mapper.{key}` is {}: this attribute is of type {expected:?}",
                            excerpt(written)
                        ));
                        break;
                    }
                }
            }
        }
        names
    }
}
