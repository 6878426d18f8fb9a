//! `jobmill plan`: what a job would become. Nothing is written.

mod json;
mod tree;

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use jobmill_core::Warning;
use jobmill_core::config::Config;
use jobmill_core::job::chunk::Chunks;
use jobmill_core::job::estimate::{Estimate, Load};
use jobmill_core::job::period::AsOf;
use jobmill_core::job::plan::{Plan, today};

use crate::Environment;
use crate::failure::Failure;
use crate::input::{JobArguments, JobInput, config_warnings};
use crate::terminal::warn;

const EXAMPLES: &str = "\
Examples:
  jobmill plan job.json
  jobmill plan job.json --as-of 2024-03-06
  jobmill plan job.json --format rows | head
  jobmill plan job.json --format json | jq .rows
  echo '{\"lambda_name\": \"report\", \"note\": 1}' | jobmill plan -

Warnings and errors stand on standard error.

Exit codes: 0 done, 2 wrong usage or invalid input.";

/// Memory of the function that estimates of cost assume, in MB: that of the template in `infra`.
const FUNCTION_MEMORY_MB: u32 = 512;

/// Rows are gathered before they are written: as large as four pipes.
const OUTPUT_BYTES: usize = 256 << 10;

/// Arguments of `jobmill plan`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PlanArguments {
    #[command(flatten)]
    job: JobArguments,

    /// How to show the plan
    #[arg(long, value_enum, default_value_t = Format::Tree)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Counts per level and date, first and last rows, sizes, time and cost
    Tree,
    /// The rows, one JSON object a line, in order
    Rows,
    /// One JSON object for machines
    Json,
}

impl PlanArguments {
    pub(crate) fn wants_json(&self) -> bool {
        self.format == Format::Json
    }
}

/// A plan and what the user should know of it.
#[derive(Debug)]
struct Forecast {
    plan: Plan,
    estimate: Estimate,
    /// The moment that counts, given or not.
    as_of: AsOf,
    /// Its date in the schema's time zone.
    today: String,
    timezone: String,
    max_hops: u32,
    config_warnings: Vec<Warning>,
}

impl Forecast {
    fn of(plan: Plan, config: &Config, now: AsOf) -> Self {
        let as_of = plan.as_of.unwrap_or(now);
        let schema = config.schemas.get(&plan.schema);
        Self {
            estimate: Estimate::of(&Load::of(&plan, config, FUNCTION_MEMORY_MB)),
            as_of,
            today: schema.map_or_else(String::new, |schema| today(schema, as_of).to_string()),
            timezone: schema.map_or_else(String::new, |schema| schema.timezone.to_string()),
            max_hops: config.max_hops,
            config_warnings: config.warnings.clone(),
            plan,
        }
    }

    /// Up to `count` rows from the beginning, and up to `count` from the end, none of them twice.
    fn ends(&self, count: u64) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let chunks = &self.plan.chunks;
        let rows = chunks.row_count();
        let first = chunks
            .rows()
            .take(usize::try_from(count).unwrap_or(usize::MAX))
            .collect();
        let last = chunks
            .rows_from(rows.saturating_sub(count).max(count.min(rows)))
            .collect();
        (first, last)
    }
}

/// Plans a job and shows the plan.
pub(crate) fn execute(arguments: &PlanArguments, environment: &Environment) -> Result<(), Failure> {
    let input = arguments.job.read()?;
    let of_config = config_warnings(&input);
    let JobInput { request, config, .. } = input;
    let plan = Plan::make(&config, request, arguments.job.as_of, environment.now)?;
    warn(of_config);
    warn(&plan.warnings);
    if plan.chunks.row_count() == 0 {
        warn([nothing_to_do(&plan)]);
    }
    match arguments.format {
        Format::Rows => write_rows(&plan.chunks, &mut io::stdout().lock())?,
        Format::Tree => tree::write(
            &Forecast::of(plan, &config, environment.now),
            &mut anstream::stdout().lock(),
        )?,
        Format::Json => json::write(
            &Forecast::of(plan, &config, environment.now),
            &mut io::stdout().lock(),
        )?,
    }
    Ok(())
}

/// A job without rows is no error, but seldom what was meant.
pub(crate) fn nothing_to_do(plan: &Plan) -> String {
    let values = plan.attributes.first().map_or("the attribute", String::as_str);
    format!("nothing to do: `{values}` is to be split and is empty")
}

fn write_rows(chunks: &Chunks, out: &mut impl Write) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(OUTPUT_BYTES + (OUTPUT_BYTES >> 2));
    let mut rows = chunks.rows();
    while let Some(row) = rows.next_row() {
        buffer.extend_from_slice(row);
        buffer.push(b'\n');
        if buffer.len() >= OUTPUT_BYTES {
            out.write_all(&buffer)?;
            buffer.clear();
        }
    }
    out.write_all(&buffer)?;
    out.flush()
}
