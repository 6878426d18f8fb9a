//! Who does the tasks: functions, or processes of this machine.

use std::time::Duration;

use jobmill_aws::{Clients, LambdaWorkers};
use jobmill_core::config::Config;
use jobmill_core::task::labourer::{Completion, MetricSource};
use jobmill_engine::dispatch::ports::{Asked, Asking, Unfit, Workers};
use jobmill_engine::ports::PortResult;

use crate::worker::ProcessWorkers;

/// A process may take so long where the labourer has no `max_duration`: as long as a function at most.
const LONGEST: Duration = Duration::from_secs(900);

/// Who does the tasks.
pub(super) enum Workforce {
    Functions(LambdaWorkers),
    Here(ProcessWorkers),
}

impl Workforce {
    pub(super) fn functions(clients: &Clients) -> Self {
        Self::Functions(LambdaWorkers::new(clients))
    }
}

impl Workers for Workforce {
    async fn ask(&self, function: &str, payload: String, asking: Asking) -> Asked {
        match self {
            Self::Functions(functions) => functions.ask(function, payload, asking).await,
            Self::Here(processes) => processes.ask(function, payload, asking).await,
        }
    }

    async fn longest_run(&self, function: &str) -> PortResult<Result<Duration, Unfit>> {
        match self {
            Self::Functions(functions) => functions.longest_run(function).await,
            Self::Here(processes) => processes.longest_run(function).await,
        }
    }

    async fn datapoints(&self, source: &MetricSource) -> PortResult<Vec<f64>> {
        match self {
            Self::Functions(functions) => functions.datapoints(source).await,
            Self::Here(processes) => processes.datapoints(source).await,
        }
    }
}

/// As many tasks at once as this machine has cores.
pub(super) fn cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cores).unwrap_or(u32::MAX)
}

/// Makes the labourers of a configuration such as processes of this machine do the work of. Returns how long a task may
/// take at most.
pub(super) fn employ(config: &mut Config, at_once: u32) -> Duration {
    let mut longest = Duration::ZERO;
    for (id, labourer) in &mut config.labourers {
        let duration = labourer.max_duration.unwrap_or(LONGEST);
        labourer.arn.get_or_insert_with(|| id.clone());
        labourer.completion = Some(Completion::Response);
        labourer.max_simultaneous = at_once;
        labourer.max_duration = Some(duration);
        longest = longest.max(duration);
    }
    longest
}
