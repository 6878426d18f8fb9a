//! Everything up to the first write: job, configuration, plan, run id.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;

use jobmill_core::config::Config;
use jobmill_core::job::event::JobRequest;
use jobmill_core::job::fields::Job;
use jobmill_core::job::period::AsOf;
use jobmill_core::job::plan::{Plan, today};

use super::cloud::Cloud;
use super::progress::Bar;
use super::{Format, RunArguments, continuation, tasks_file, tell};
use crate::Environment;
use crate::commands::plan::nothing_to_do;
use crate::failure::Failure;
use crate::input::{JobInput, config_warnings, is_standard_stream};
use crate::terminal::warn;
use crate::worker::{CommandLine, Listener, ProcessWorkers};

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
    /// Who works the tasks off, if anybody here.
    pub(super) crew: Option<Crew>,
    /// Where all tasks go, if anywhere.
    pub(super) out: Option<PathBuf>,
    /// The moment at which the job was planned, if the dates of the job come from it.
    pub(super) dates_of: Option<AsOf>,
    /// The command that goes on with the run, if something of it outlives this process.
    pub(super) continue_with: Option<continuation::CommandLine>,
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
    let crew = Crew::of(arguments)?;
    let input = arguments.job.read()?;
    let of_config = config_warnings(&input);
    let JobInput {
        mut request, config, ..
    } = input;
    let job = request.job.clone();
    let named = arguments.run_id.clone().or_else(|| request.run_id.take());
    let by_clock = depends_on_clock(&request, arguments.job.as_of);
    let mut continue_with = continuation::CommandLine::new(&environment.words);
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
        crew,
        out: arguments.out.clone(),
        continue_with: arguments.cloud.outlives_process().then_some(continue_with),
    })
}

/// Processes of this machine that work the tasks of a run off.
#[derive(Debug)]
pub(super) struct Crew {
    command: CommandLine,
    /// So many at once.
    pub(super) at_once: u32,
    verbose: bool,
}

impl Crew {
    fn of(arguments: &RunArguments) -> Result<Option<Self>, Failure> {
        let Some(command) = arguments.worker.clone() else {
            return Ok(None);
        };
        if arguments.cloud == Cloud::Aws {
            return Err(Failure::invalid(
                "Usage",
                "--worker works the tasks of a local run off: with --cloud aws the run's tasks stand beside those of \
                 others, which `jobmill dispatch --worker` works off",
            ));
        }
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let crew = Self {
            command,
            at_once: arguments
                .at_once
                .unwrap_or(u32::try_from(cores).unwrap_or(u32::MAX)),
            verbose: arguments.verbose,
        };
        crew.bootstrap()?;
        Ok(Some(crew))
    }

    /// The Lambda bootstrap that is to be deployed in the local cloud, if the worker is one.
    ///
    /// # Errors
    /// There is no such file.
    pub(super) fn bootstrap(&self) -> Result<Option<PathBuf>, Failure> {
        let Some(path) = self.command.as_bootstrap() else {
            return Ok(None);
        };
        match path.canonicalize() {
            Ok(path) => Ok(Some(path)),
            Err(error) => Err(Failure::invalid(
                "Usage",
                format!(
                    "--worker names the Lambda bootstrap {}, which can't be had ({error}): build it, and give its path",
                    path.display()
                ),
            )),
        }
    }

    /// The processes; what they write to standard error is shown beside the bar, if it was asked for.
    pub(super) fn workers(&self, bar: &Bar) -> ProcessWorkers {
        let bar = bar.clone();
        let listener: Option<Listener> = self
            .verbose
            .then(|| -> Listener { Arc::new(move |line: &str| bar.aside(|| tell(line))) });
        ProcessWorkers::new(self.command.clone(), listener)
    }
}

/// Whether the dates of the job are those of the day on which it is planned.
fn depends_on_clock(request: &JobRequest, as_of: Option<AsOf>) -> bool {
    as_of.or(request.as_of).is_none() && request.job.fields().get("period").is_some()
}
