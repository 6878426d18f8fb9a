//! `jobmill check`: is this configuration right. Every problem at once.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jobmill_core::config::{Config, TaskWrites};
use jobmill_core::job::schema::Schema;
use jobmill_core::task::labourer::Labourer;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::input::{CONFIG_NAME, find_config, name_of, read_text};
use crate::terminal::{FAINT, STRONG, printable, warn};

const EXAMPLES: &str = "\
Examples:
  jobmill check
  jobmill check staging.json
  jobmill check --format json | jq .problems
  aws s3 cp s3://my-bucket/jobmill.json - | jobmill check -

Each problem stands on standard error as error[InvalidConfig]: ..., each
setting that means nothing here as warning: ....

Exit codes: 0 the configuration is right, 2 it is not.";

/// Arguments of `jobmill check`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArguments {
    /// The configuration, or - for standard input; otherwise jobmill.json in the current folder
    #[arg(value_name = "CONFIG")]
    config: Option<PathBuf>,

    /// How to show what was found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl CheckArguments {
    pub(crate) fn wants_json(&self) -> bool {
        self.format == Format::Json
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Sentences
    Text,
    /// One JSON object: valid, problems, warnings, and what is configured
    Json,
}

/// Checks a configuration.
pub(crate) fn execute(arguments: &CheckArguments) -> Result<(), Failure> {
    let path = match &arguments.config {
        Some(path) => path.clone(),
        None => find_config(None).ok_or_else(no_config)?,
    };
    let text = read_text("the configuration", &path)?;
    let config = Config::parse(&text);
    let mut out = anstream::stdout().lock();
    match (config, arguments.format) {
        (Ok(config), Format::Text) => {
            warn(&config.warnings);
            Ok(write_text(&name_of(&path), &config, &mut out)?)
        }
        (Ok(config), Format::Json) => Ok(writeln!(out, "{:#}", to_json(&config))?),
        (Err(refused), format) => {
            if format == Format::Text {
                warn(&refused.warnings);
            }
            let problems: Vec<String> = refused.problems.iter().map(ToString::to_string).collect();
            let keys = [
                ("valid", json!(false)),
                ("problems", json!(problems)),
                ("warnings", json!(refused.warnings)),
            ];
            let keys = keys.map(|(key, value)| (key.to_owned(), value));
            Err(Failure::configuration(problems).with(keys))
        }
    }
}

fn no_config() -> Failure {
    Failure::invalid(
        "NoConfig",
        format!(
            "there is no {CONFIG_NAME} in the current folder: name the file to check, or let `jobmill init` write one"
        ),
    )
}

fn write_text(name: &str, config: &Config, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{STRONG}{name} is right{STRONG:#}")?;
    let mut line =
        |what: &str, value: &str| writeln!(out, "  {FAINT}{what:<10}{FAINT:#} {}", printable(value));
    let below = if config.s3_prefix.is_empty() {
        String::new()
    } else {
        format!("/{}", config.s3_prefix)
    };
    line("queue", &format!("s3://{}{below}", config.queue_bucket))?;
    let labourers: Vec<String> = (config.labourers.iter())
        .map(|(name, labourer)| format!("{name} ({})", limits(labourer)))
        .collect();
    let labourers = if labourers.is_empty() {
        "none: every job will be refused".to_owned()
    } else {
        labourers.join(", ")
    };
    line("labourers", &labourers)?;
    for schema in config.schemas.values() {
        line("schema", &describe(schema))?;
    }
    line(
        "tasks",
        &format!(
            "{}, index {}",
            config.tables.tasks, config.tables.index_greenfield
        ),
    )?;
    line(
        "also",
        &format!("{}, {}", config.tables.closed, config.tables.retry),
    )?;
    if let Some(meta) = &config.tables.meta {
        line("meta", meta)?;
    }
    Ok(())
}

/// What may run of a labourer, in short.
fn limits(labourer: &Labourer) -> String {
    if labourer.paused || labourer.max_simultaneous == 0 {
        return "paused".to_owned();
    }
    let health = if labourer.health.is_empty() {
        ""
    } else {
        " while healthy"
    };
    format!("{} at once{health}", labourer.max_simultaneous)
}

fn describe(schema: &Schema) -> String {
    let names: Vec<&str> = schema
        .attributes
        .iter()
        .map(|attribute| attribute.plural.as_str())
        .collect();
    let levels = if names.is_empty() {
        "splits by dates only".to_owned()
    } else {
        names.join(" > ")
    };
    let zone = if schema.timezone.name() == "UTC" {
        String::new()
    } else {
        format!(", dates in {}", schema.timezone)
    };
    let always = if schema.always_expand_period {
        ", period always expanded"
    } else {
        ""
    };
    format!("{}: {levels}{zone}{always}", schema.name)
}

fn to_json(config: &Config) -> Value {
    let schemas: serde_json::Map<String, Value> = config
        .schemas
        .iter()
        .map(|(name, schema)| {
            let attributes: Vec<Value> = schema
                .attributes
                .iter()
                .map(|attribute| json!({"name": attribute.name, "plural": attribute.plural}))
                .collect();
            let schema = json!({
                "attributes": attributes,
                "expand_period": if schema.always_expand_period { "always" } else { "when_split" },
                "timezone": schema.timezone.name(),
            });
            (name.clone(), schema)
        })
        .collect();
    let dispatch: serde_json::Map<String, Value> = (config.labourers.iter())
        .map(|(name, labourer)| {
            let settings = json!({
                "group": labourer.group,
                "max_simultaneous_invocations": labourer.max_simultaneous,
                "max_attempts": labourer.max_attempts,
                "paused": labourer.paused,
            });
            (name.clone(), settings)
        })
        .collect();
    json!({
        "valid": true,
        "problems": [],
        "warnings": config.warnings,
        "queue_bucket": config.queue_bucket,
        "s3_prefix": config.s3_prefix,
        "labourers": config.labourers.keys().collect::<Vec<_>>(),
        "dispatch": dispatch,
        "schemas": schemas,
        "tables": {
            "tasks": config.tables.tasks,
            "index_greenfield": config.tables.index_greenfield,
            "closed": config.tables.closed,
            "retry": config.tables.retry,
            "meta": config.tables.meta,
        },
        "task_writes": match config.task_writes {
            TaskWrites::Insert => "insert",
            TaskWrites::Overwrite => "overwrite",
        },
    })
}
