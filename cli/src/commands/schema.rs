//! `jobmill schema`: JSON Schemas of what people write, for editors.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jobmill_core::config;
use jobmill_core::job::json_schema::{event_schema, job_schema, job_schema_for};

use crate::failure::Failure;
use crate::input::read_config;

const EXAMPLES: &str = "\
Examples:
  jobmill schema config > config.schema.json
  jobmill schema job --config jobmill.json > job.schema.json
  jobmill schema event | jq .title

An editor takes them by the key \"$schema\" of a file, such as
\"$schema\": \"./job.schema.json\" in a job.

Exit codes: 0 done, 2 wrong usage or invalid input.";

/// Arguments of `jobmill schema`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SchemaArguments {
    /// Of what
    #[arg(value_name = "DOCUMENT", value_enum)]
    document: Document,

    /// The schema of a job knows the labourers, schemas and flags of this configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Document {
    /// A configuration
    Config,
    /// A job
    Job,
    /// Whatever is sent to the scheduler function: a job, an envelope, an EventBridge event ...
    Event,
}

/// Writes the schema to standard output.
pub(crate) fn execute(arguments: &SchemaArguments) -> Result<(), Failure> {
    let schema = match (arguments.document, &arguments.config) {
        (Document::Job, None) => job_schema(),
        (Document::Job, Some(path)) => job_schema_for(&read_config(path)?),
        (_, Some(_)) => {
            return Err(Failure::invalid(
                "Usage",
                "--config is for the schema of a job: `jobmill schema job --config FILE`",
            ));
        }
        (Document::Config, None) => config::json_schema(),
        (Document::Event, None) => event_schema(),
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{schema:#}")?;
    Ok(out.flush()?)
}
