//! Everything up to the first write: job, configuration, plan, run id.

use std::path::PathBuf;

use jobmill_core::config::Config;
use jobmill_core::job::event::JobRequest;
use jobmill_core::job::fields::Job;
use jobmill_core::job::period::AsOf;
use jobmill_core::job::plan::{Plan, today};

use super::cloud::Cloud;
use super::continuation::CommandLine;
use super::{Format, RunArguments, tasks_file};
use crate::Environment;
use crate::commands::plan::nothing_to_do;
use crate::failure::Failure;
use crate::input::{JobInput, config_warnings, is_standard_stream};
use crate::terminal::warn;

/// A run that can be right, of which nothing was written yet.
#[derive(Debug)]
pub(super) struct PreparedRun {
    pub(super) cloud: Cloud,
    /// The job, `lambda_name` included.
    pub(super) job: Job,
    pub(super) config: Config,
    pub(super) plan: Plan,
    pub(super) run_id: String,
    /// Whether a warning refuses it.
    pub(super) strict: bool,
    /// How long one invocation may take, in seconds.
    pub(super) timeout: u32,
    /// Whether to wait for another invocation.
    pub(super) wait: bool,
    /// Where all tasks go, if anywhere.
    pub(super) out: Option<PathBuf>,
    /// The moment at which the job was planned, if the dates of the job come from it.
    pub(super) dates_of: Option<AsOf>,
    /// The command that goes on with the run, if something of it outlives this process.
    pub(super) continue_with: Option<CommandLine>,
}

/// Everything up to the first write.
pub(super) fn prepare(arguments: &RunArguments, environment: &Environment) -> Result<PreparedRun, Failure> {
    if let Some(out) = &arguments.out {
        if is_standard_stream(out) && arguments.format == Format::Json {
            return Err(Failure::invalid(
                "Usage",
                "--out - and --format json both want standard output: name a file with --out",
            ));
        }
        tasks_file::check(out)?;
    }
    let input = arguments.job.read()?;
    let of_config = config_warnings(&input);
    let JobInput {
        mut request, config, ..
    } = input;
    let job = request.job.clone();
    let named = arguments.run_id.clone().or_else(|| request.run_id.take());
    let by_clock = depends_on_clock(&request, arguments.job.as_of);
    let mut continue_with = CommandLine::new(&environment.words);
    let mut as_of = arguments.job.as_of;
    if named.is_none()
        && by_clock
        && let Ok(schema) = config.schema(job.fields().get("job_schema_name"))
    {
        // Whoever goes on with this run on another day means the dates of this one.
        let day = today(schema, environment.now);
        as_of = Some(AsOf::Date(day));
        continue_with = continue_with.with(["--as-of", &day.to_string()]);
    }
    let run_id = named.unwrap_or_else(|| environment.fresh_run_id.clone());
    if arguments.run_id.is_none() {
        continue_with = continue_with.with(["--run-id", &run_id]);
    }
    let strict = request.strict;
    let plan = Plan::make(&config, request, as_of, environment.now)?;
    warn(of_config);
    warn(&plan.warnings);
    if plan.chunks.row_count() == 0 {
        warn([nothing_to_do(&plan)]);
    }
    Ok(PreparedRun {
        cloud: arguments.cloud,
        job,
        strict,
        timeout: arguments.timeout.unwrap_or(config.timeout),
        config,
        dates_of: (by_clock && plan.as_of.is_none()).then_some(environment.now),
        plan,
        run_id,
        wait: arguments.wait,
        out: arguments.out.clone(),
        continue_with: arguments.cloud.outlives_process().then_some(continue_with),
    })
}

/// Whether the dates of the job are those of the day on which it is planned.
fn depends_on_clock(request: &JobRequest, as_of: Option<AsOf>) -> bool {
    as_of.or(request.as_of).is_none() && request.job.fields().get("period").is_some()
}
