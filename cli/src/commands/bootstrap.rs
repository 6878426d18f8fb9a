//! `jobmill bootstrap`, hidden: this program as a function of `jobmill up`. It speaks the Runtime API of Lambda, as the
//! functions do when they are deployed; a worker is a command that is run for each event.

use std::ffi::OsStr;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jobmill_aws::SystemHost;
use jobmill_engine::dispatch::ports::{Answer, Asked, Asking, Workers as _};
use jobmill_engine::ports::Clock as _;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Environment;
use crate::failure::Failure;
use crate::worker::{CommandLine, ProcessWorkers};

/// So long before Lambda would kill the function, the command is killed: nothing that it started is left behind.
const BEFORE_THE_END: Duration = Duration::from_millis(300);
/// How often is looked whether the cloud is still there.
const LOOK: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  jobmill up
      runs the functions by this command

Exit codes: 0 done, 1 failed, 2 wrong usage.";

/// Arguments of `jobmill bootstrap`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BootstrapArguments {
    /// Which function
    #[arg(value_name = "FUNCTION", value_enum)]
    function: Function,

    /// The command of a worker
    #[arg(value_name = "CMD", required_if_eq("function", "worker"))]
    command: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Function {
    /// From a job to its tasks
    Scheduler,
    /// From a queued task to a closed one
    Orchestrator,
    /// Does a task
    Worker,
}

/// Serves until the cloud is gone.
pub(crate) fn execute(arguments: &BootstrapArguments, environment: &Environment) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("RuntimeFailed", format!("no threads can be had: {error}")))?;
    let variable = |name: &str| {
        let value = environment.variables.get(OsStr::new(name))?;
        value.to_str().map(str::to_owned)
    };
    let served = runtime.block_on(async {
        match arguments.function {
            Function::Scheduler => {
                while_there_is_a_cloud(Box::pin(jobmill_scheduler::serve(variable)), || {}).await
            }
            Function::Orchestrator => {
                while_there_is_a_cloud(Box::pin(jobmill_orchestrator::serve(variable)), || {}).await
            }
            Function::Worker => {
                let command = CommandLine::parse(arguments.command.as_deref().unwrap_or_default())
                    .map_err(|why| lambda_runtime::Error::from(why.to_string()))?;
                let listener = |line: &str| eprintln_line(line);
                let workers = ProcessWorkers::new(command, Some(std::sync::Arc::new(listener)));
                while_there_is_a_cloud(Box::pin(work(&workers)), || workers.kill_all()).await
            }
        }
    });
    served.map_err(|error| Failure::failed("BootstrapFailed", error.to_string()))
}

/// Boxed, since the type of what serves is deeper than the compiler looks.
type Serving<'a> = Pin<Box<dyn Future<Output = Result<(), lambda_runtime::Error>> + 'a>>;

/// Serves as long as the process lives that started this one. What it leaves behind nobody would look after.
async fn while_there_is_a_cloud(
    serving: Serving<'_>,
    at_the_end: impl FnOnce(),
) -> Result<(), lambda_runtime::Error> {
    let gone = async {
        let host = SystemHost::new();
        let parent = parent();
        while parent == self::parent() {
            host.sleep(LOOK).await;
        }
    };
    let served = tokio::select! {
        served = serving => served,
        () = gone => Ok(()),
    };
    at_the_end();
    served
}

#[cfg(unix)]
fn parent() -> Option<rustix::process::Pid> {
    rustix::process::getppid()
}

/// Elsewhere a process does not learn that its parent is gone.
#[cfg(not(unix))]
fn parent() {}

/// A line of a worker, for the log.
#[allow(clippy::print_stderr, reason = "the log of a function is its standard error")]
fn eprintln_line(line: &str) {
    eprintln!("{line}");
}

/// What Lambda shows of an error.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    error_type: String,
    error_message: String,
}

async fn work(workers: &ProcessWorkers) -> Result<(), lambda_runtime::Error> {
    let host = SystemHost::new();
    let host = &host;
    let handle = |event: LambdaEvent<Box<RawValue>>| async move {
        let now = u64::try_from(host.wall_ms()).unwrap_or_default();
        let left = Duration::from_millis(event.context.deadline.saturating_sub(now));
        let limit = left.saturating_sub(BEFORE_THE_END);
        let asked = workers
            .ask("", event.payload.get().to_owned(), Asking::Wait(limit))
            .await;
        result_of(asked)
    };
    lambda_runtime::run(service_fn(handle)).await
}

/// What a run of the command is as an answer of a function.
fn result_of(asked: Asked) -> Result<Box<RawValue>, Diagnostic> {
    let failed = |error_type: &str, error_message: String| Diagnostic {
        error_type: error_type.to_owned(),
        error_message,
    };
    match asked {
        Asked::Answered(Answer {
            payload,
            is_error: false,
        }) => serde_json::from_slice(&payload).map_err(|error| failed("Unreadable", error.to_string())),
        Asked::Answered(Answer { payload, .. }) => Err(match serde_json::from_slice::<Told>(&payload) {
            Ok(told) => failed(&told.error_type, told.error_message),
            Err(error) => failed("Unreadable", error.to_string()),
        }),
        Asked::WorkerUnfit(unfit) => Err(failed(unfit.kind, unfit.message)),
        Asked::PayloadRefused(why) => Err(failed("PayloadRefused", why)),
        Asked::Throttled(why) | Asked::Unknown(why) => Err(failed("NotStarted", why)),
        Asked::Queued => Err(failed("NotStarted", "it was queued".to_owned())),
    }
}
