//! The keys of the configuration: name, default, bounds and meaning of each, in one place, and what is made of them.

use serde_json::json;

use super::section::{Form, NAME, Name, Others, OwnForm, Section, is_name};
use super::{Config, TaskWrites, health, labourer, schemas};
use crate::error::{excerpt, shorten};
use crate::queue::names::LOCK_PREFIX;
use crate::task::health::Coefficients;
use crate::task::labourer::Labourers;
use crate::task::life::{
    ATTEMPTS_BASE, DURATION, GREENFIELD_DELTA, LAST_ERROR, OUTCOME, QUEUED_GREENFIELD, RESULT,
};
use crate::task::tables::{FieldNames, Tables};
use crate::warning::{Step, WarningKind};

/// After the first invocation so many follow, then the sweep starts one more: 15, and Lambda ends loops of about 16.
const MOST_HOPS: u64 = 13;

static BUCKET: Form = Form {
    bounds: "letters, digits and `- . _`, or the ARN of an access point",
    pattern: r"^(arn:[\s\S]*|[A-Za-z0-9._-]+)$",
    advice: "write the name of a bucket (letters, digits and - . _) or the ARN of an access point",
    fits: |text| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        is_name(text) && (text.starts_with("arn:") || text.bytes().all(plain))
    },
};

static PREFIX: Form = Form {
    bounds: "at most 400 characters, no control characters, no step like `..`",
    pattern: r"^[^\u0000-\u001f\u007f-\u009f]*$",
    advice: "write at most 400 characters, no control characters and no step like ..",
    fits: |text| {
        let text = text.trim_matches('/');
        let steps = text.split('/').any(|part| part == "." || part == "..");
        text.len() <= 400 && !steps && !text.chars().any(char::is_control)
    },
};

static QUEUE_FILE: Form = Form {
    bounds: "at most 100 of `A-Z a-z 0-9 . _ -`, with an extension, no `..`, not beginning with `locked_`",
    pattern: r"^[A-Za-z0-9._-]{1,98}\.[A-Za-z0-9_-]+$",
    advice: "write a name with an extension such as \"tasks_queue.txt\", with letters, digits and . _ - only",
    fits: |text| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let legal = text.bytes().all(plain) && !text.contains("..") && !text.starts_with(LOCK_PREFIX);
        let (stem, extension) = split(text);
        legal && text.len() <= 100 && !stem.is_empty() && !extension.is_empty()
    },
};

static FIELD_NAME: Form = Form {
    bounds: "1 to 255 characters, no quotes, no name twice",
    pattern: r#"^[^'"\u0000-\u001f\u007f-\u009f]{1,255}$"#,
    advice: "write a name of 1 to 255 characters, without quotes",
    fits: |text| is_name(text) && !text.contains(['\'', '"']) && !text.chars().any(char::is_control),
};

static QUEUE_URL: Form = Form {
    bounds: "the URL of an SQS queue",
    pattern: r"^https?://[!-~]{1,500}$",
    advice: "write the URL of an SQS queue, such as \"https://sqs.eu-central-1.amazonaws.com/123456789012/outcomes\"",
    fits: |text| {
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        rest.is_some_and(|rest| {
            (1..=500).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_graphic())
        })
    },
};

static ROW_MAPPER: OwnForm = OwnForm {
    default: "`S` or `N`, as each is",
    bounds: "`S` for `task_id`, `labourer_id`, `payload`, `labourer_id_task_status`, `arn`; `N` for `created_at`, \
             `greenfield`, `attempts`, `completed_at`, `closed_at`, `desired_launch_time`",
    schema: || {
        let types = TYPES.map(|(field, of)| (field.to_owned(), json!({ "const": of })));
        json!({ "type": ["object", "null"], "properties": serde_json::Map::from_iter(types) })
    },
};

/// What an orchestrator adds to a task, beside the attributes that sosw knows.
const OWN_NAMES: [&str; 6] = [
    ATTEMPTS_BASE,
    QUEUED_GREENFIELD,
    OUTCOME,
    DURATION,
    LAST_ERROR,
    RESULT,
];

/// The types of the attributes of a task.
const TYPES: [(&str, &str); 11] = [
    ("task_id", "S"),
    ("labourer_id", "S"),
    ("created_at", "N"),
    ("greenfield", "N"),
    ("attempts", "N"),
    ("payload", "S"),
    ("completed_at", "N"),
    ("closed_at", "N"),
    ("labourer_id_task_status", "S"),
    ("arn", "S"),
    ("desired_launch_time", "N"),
];

fn split(file_name: &str) -> (&str, &str) {
    file_name.rsplit_once('.').unwrap_or((file_name, ""))
}

/// The whole configuration.
pub(super) fn config(at: &mut Section<'_, '_>) -> Config {
    at.accept("$schema", "the JSON Schema of this file, for editors");
    let queue_bucket = at.required_text(
        "queue_bucket",
        &BUCKET,
        "the S3 bucket of queue files, locks and receipts",
    );
    let s3_prefix = at.text(
        "s3_prefix",
        "sosw/scheduler",
        &PREFIX,
        "the folder in the bucket; slashes at its ends are dropped; `\"\"` is the root",
    );
    let queue_file = at.text(
        "queue_file",
        "tasks_queue.txt",
        &QUEUE_FILE,
        "the name of queue files: run `r1` gets `tasks_queue_r1.txt`",
    );
    let shutdown_period = at.number(
        "shutdown_period",
        60_u32,
        1..=800,
        "seconds: with less time left, an invocation hands its queue file over",
    );
    let timeout = at.number(
        "timeout",
        900_u32,
        1..=900,
        "seconds that an invocation may take where the platform does not say",
    );
    let max_hops = at.number(
        "max_hops",
        12_u32,
        1..=MOST_HOPS,
        "so often is a queue file handed over; then it waits for the sweep",
    );
    let max_tasks_per_job = at.number(
        "max_tasks_per_job",
        1_000_000_u64,
        1..=100_000_000_000,
        "a job with more rows is refused before anything is written",
    );
    let lease_seconds = at.number(
        "lease_seconds",
        30_u32,
        15..=900,
        "how long a lock is held without a renewal",
    );
    let task_writes = at.choice(
        "task_writes",
        ("insert", TaskWrites::Insert),
        &[("overwrite", TaskWrites::Overwrite)],
        "`insert` leaves a task that is there as it is. `overwrite` is for endpoints without PartiQL: a late request \
         may then reset a task",
    );
    let strict = at.switch(
        "strict",
        false,
        "whether a job is refused that draws a warning, or whose configuration does",
    );
    if shutdown_period * 2 > timeout {
        at.warn(
            WarningKind::LongShutdownPeriod,
            &[Step::Key("shutdown_period")],
            || {
                format!(
                    "`shutdown_period` is {shutdown_period}, more than half of `timeout`, {timeout}: half of the time \
                     is used for tasks all the same; shorten it"
                )
            },
        );
    }
    if lease_seconds > timeout {
        at.warn(WarningKind::LongLease, &[Step::Key("lease_seconds")], || {
            format!(
                "`lease_seconds` is {lease_seconds}, more than `timeout`, {timeout}: after a crash the queue file lies \
                 still for longer than an invocation lives; shorten it"
            )
        });
    }
    of_sosw_at_the_top(at);
    let schemas = schemas::schemas(at);
    let outcome_queue = at.optional_text(
        "outcome_queue",
        &QUEUE_URL,
        "the queue to which the destinations of workers send outcomes: for labourers with `\"completion\": \
         \"destination\"`",
    );
    // One that is there and wrong is one problem, not one more at each labourer.
    let has_outcome_queue = !at.lacks("outcome_queue");
    let coefficients = health::coefficients(at);
    let TaskConfig {
        labourers,
        greenfield_step,
        greenfield_delta,
        tables,
    } = at.object("task_config", "the workers and the tables of tasks", |at| {
        task_config(at, coefficients, has_outcome_queue)
    });
    let meta = at.object(
        "meta_handler_config",
        "rows of the meta table",
        meta_handler_config,
    );
    check_table_at_the_top(at, &tables.tasks);
    let (stem, extension) = split(&queue_file);
    Config {
        queue_bucket,
        s3_prefix: s3_prefix.trim_matches('/').to_owned(),
        queue_file: (stem.to_owned(), extension.to_owned()),
        shutdown_period,
        timeout,
        max_hops,
        max_tasks_per_job,
        lease_seconds,
        schemas,
        labourers,
        greenfield_step,
        greenfield_delta,
        tables: Tables { meta, ..tables },
        task_writes,
        outcome_queue,
        coefficients,
        strict,
        warnings: Vec::new(),
    }
}

struct TaskConfig {
    labourers: Labourers,
    greenfield_step: u64,
    greenfield_delta: u64,
    tables: Tables,
}

fn task_config(at: &mut Section<'_, '_>, coefficients: Coefficients, has_outcome_queue: bool) -> TaskConfig {
    let defaults = labourer::Defaults {
        max_simultaneous: labourer::limit_of_all(at),
        max_attempts: labourer::attempts_of_all(at),
        max_attempts_of: labourer::attempts_by_name(at),
        metric: at.object(
            "ecology_config",
            "how the health of labourers is measured",
            health::ecology_config,
        ),
        coefficients,
        has_outcome_queue,
    };
    let labourers = at.by_name("labourers", "the workers that jobs may name", |name, at| {
        Some(labourer::labourer(name, at, &defaults))
    });
    let greenfield_step = at.number(
        "greenfield_task_step",
        1000_u64,
        1..=1_000_000_000,
        "the distance between two tasks in the queue; it shrinks where a task would come to lie in the future",
    );
    let greenfield_delta = at.number(
        "greenfield_invocation_delta",
        GREENFIELD_DELTA,
        86_400..=10_000_000_000,
        "seconds: so far beyond its start the greenfield of a running task lies, for everybody who works on these tables",
    );
    let mut tables = Tables::default();
    tables.closed = at.text(
        "sosw_closed_tasks_table",
        &tables.closed,
        &NAME,
        "tasks that are done with: looked at before a task in doubt is created",
    );
    tables.index_closed = at.text(
        "sosw_closed_tasks_labourer_status_index",
        &tables.index_closed,
        &NAME,
        "its index by labourer, outcome and `closed_at`",
    );
    tables.retry = at.text(
        "sosw_retry_tasks_table",
        &tables.retry,
        &NAME,
        "tasks that wait for another attempt: looked at likewise",
    );
    tables.index_retry = at.text(
        "sosw_retry_tasks_greenfield_index",
        &tables.index_retry,
        &NAME,
        "its index by labourer and `desired_launch_time`",
    );
    at.object("dynamo_db_config", "the table of tasks", |at| {
        table_of_tasks(at, &mut tables);
    });
    let of_sosw = "of sosw's orchestrators";
    at.of_sosw("init_clients", "which clients sosw makes");
    at.of_sosw("max_closed_to_analyse_for_duration", of_sosw);
    at.of_sosw("default_metric_values", of_sosw);
    at.of_sosw("retry_tasks_limit", "of sosw's Scavenger");
    at.of_sosw("sosw_worker_assistant_lambda", "of sosw's workers");
    labourer::warn_of_idle_attempts(at, &defaults.max_attempts_of, &labourers);
    TaskConfig {
        labourers,
        greenfield_step,
        greenfield_delta,
        tables,
    }
}

fn table_of_tasks(at: &mut Section<'_, '_>, tables: &mut Tables) {
    tables.tasks = at.text("table_name", &tables.tasks, &NAME, "the table of tasks");
    tables.index_greenfield = at.text(
        "index_greenfield",
        &tables.index_greenfield,
        &NAME,
        "its index by labourer and greenfield",
    );
    tables.fields = at.object(
        "field_names",
        "how the attributes of a task are called; other fields are ignored",
        field_names,
    );
    let names = names_of(&tables.fields);
    for (index, name) in names.iter().enumerate() {
        if names.iter().take(index).any(|other| other == name) {
            at.refuse(
                &[Step::Key("field_names")],
                format_args!("gives the name {:?} twice", shorten(name)),
            );
        }
        if OWN_NAMES.contains(name) {
            at.refuse(
                &[Step::Key("field_names")],
                format_args!("gives the name {name:?}, which has a meaning of its own: choose another one"),
            );
        }
    }
    let mapper = at.own(
        "row_mapper",
        &ROW_MAPPER,
        "the types of these attributes; others are ignored",
    );
    let mapper = at.map_at(&[Step::Key("row_mapper")], mapper);
    for ((field, of), name) in TYPES.into_iter().zip(names) {
        let written = [field, name].map(|key| mapper.and_then(|mapper| mapper.get(key)));
        if let Some(wrong) = written
            .into_iter()
            .flatten()
            .find(|written| written.as_str() != Some(of))
        {
            at.refuse(
                &[Step::Key("row_mapper"), Step::Key(field)],
                format_args!("is {}: this attribute is of type {of:?}", excerpt(wrong)),
            );
        }
    }
    of_sosws_tables(at);
}

/// In the order of [`TYPES`].
fn names_of(fields: &FieldNames) -> [&str; 11] {
    let FieldNames {
        task_id,
        labourer_id,
        created_at,
        greenfield,
        attempts,
        payload,
        completed_at,
        closed_at,
        labourer_id_task_status,
        arn,
        desired_launch_time,
    } = fields;
    [
        task_id,
        labourer_id,
        created_at,
        greenfield,
        attempts,
        payload,
        completed_at,
        closed_at,
        labourer_id_task_status,
        arn,
        desired_launch_time,
    ]
}

fn field_names(at: &mut Section<'_, '_>) -> FieldNames {
    at.others(Others::Ignored);
    let mut field = |name, meaning| at.text(name, name, &FIELD_NAME, meaning);
    FieldNames {
        task_id: field("task_id", "the id of the task, the key of the table"),
        labourer_id: field("labourer_id", "the worker"),
        created_at: field("created_at", "when it was created"),
        greenfield: field("greenfield", "its place in the queue"),
        attempts: field("attempts", "how often it was tried"),
        payload: field("payload", "what the worker gets"),
        completed_at: field("completed_at", "when its worker was done with it"),
        closed_at: field("closed_at", "when it was closed"),
        labourer_id_task_status: field(
            "labourer_id_task_status",
            "its labourer, and whether it succeeded (`_1`) or failed (`_0`)",
        ),
        arn: field("arn", "a function of its own, for this task alone"),
        desired_launch_time: field(
            "desired_launch_time",
            "when a task in the retry table is due, the sort key of its index; sosw itself retries only under this name",
        ),
    }
}

fn meta_handler_config(at: &mut Section<'_, '_>) -> Option<String> {
    let on = at.switch(
        "write_meta_to_ddb",
        false,
        "write a row for each created task to the meta table; best effort",
    );
    let table = at.object("dynamo_db_config", "the meta table", |at| {
        at.accept("row_mapper", "the types of its attributes: they are sosw's");
        of_sosws_tables(at);
        at.text("table_name", "sosw_tasks_meta", &NAME, "the meta table")
    });
    on.then_some(table)
}

/// Keys of sosw's Scheduler, its base classes and its clients.
fn of_sosw_at_the_top(at: &mut Section<'_, '_>) {
    at.of_sosw("init_clients", "which clients sosw makes");
    at.of_sosw("rows_to_process", "how many rows sosw reads at once");
    at.of_sosw("task_operational_overhead_for_ddb", "the pace of sosw's writes");
    if at
        .look_at_sosws("custom_period_patterns", "methods of a Python class")
        .is_some()
    {
        at.warn(
            WarningKind::IgnoredKey,
            &[Step::Key("custom_period_patterns")],
            || {
                "`custom_period_patterns` needs methods of a Python class: jobs that use such a period are refused"
                    .to_owned()
            },
        );
    }
    at.of_sosw("siblings_config", "of sosw's client for siblings");
    at.of_sosw("sns_config", "of sosw's client for SNS");
    at.of_sosw("s3_config", "of sosw's client for S3");
    at.of_sosw("ecology_config", "of sosw's orchestrators, in `task_config`");
    at.of_sosw("default_simultaneous_invocations", "nobody reads it");
    at.of_sosw("retry_tasks_limit", "of sosw's Scavenger");
    at.of_sosw("sosw_worker_assistant_lambda", "of sosw's workers");
    at.of_sosw("auto_spawning", "of sosw's client for siblings");
    at.of_sosw("test", "of sosw's own tests");
    at.of_sosw("dead_sns_topic", "where sosw reports errors");
    at.of_sosw("dynamo_db_config", "of sosw's client for tasks");
    at.all_of_sosw(Name::Ends("_dynamo_db_config"), "of sosw's other clients");
}

/// sosw's TaskManager lays the whole configuration over `task_config`: where both name a table, the one at the top counts.
fn check_table_at_the_top(at: &mut Section<'_, '_>, tasks: &str) {
    let table = at
        .get("dynamo_db_config")
        .and_then(|table| table.get("table_name")?.as_str());
    if let Some(named) = table.filter(|named| *named != tasks) {
        at.refuse(
            &[Step::Key("dynamo_db_config"), Step::Key("table_name")],
            format_args!(
                "is {:?}, and tasks go to {:?}: sosw would use the former, so name one table in both, \
                 `task_config.dynamo_db_config.table_name` and here",
                shorten(named),
                shorten(tasks)
            ),
        );
    }
}

/// Keys of sosw's client for DynamoDB.
fn of_sosws_tables(at: &mut Section<'_, '_>) {
    at.of_sosw("required_fields", "what sosw checks before it writes");
    at.of_sosw("notes", "for people");
    at.of_sosw("skip_glue", "whether sosw looks the table up in Glue");
    at.of_sosw("region_name", "the region comes from the environment");
    at.of_sosw("hash_key", "the key of sosw's tables is known");
    at.of_sosw("range_key", "the key of sosw's tables is known");
    at.of_sosw("dont_json_loads_results", "how sosw reads what it wrote");
}
