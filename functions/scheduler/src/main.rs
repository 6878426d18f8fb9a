//! The scheduler Lambda. This file only wires: environment, logs, threads, clients, handler.

mod config;
mod handler;
mod logs;
mod metrics;

use std::sync::Arc;

use jobmill_aws::{ClientOptions, Clients, SystemHost};
use lambda_runtime::service_fn;
use tokio::runtime::{Builder, Runtime};

use crate::config::ConfigCell;
use crate::handler::{Event, Scheduler};

/// A drain allocates for every request; docs/performance.md has what this one saves.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Lambda gives a function one whole core at that memory, in MB; below it a second thread would only wait for the first.
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>
const MB_OF_A_CORE: usize = 1_769;

#[allow(
    clippy::disallowed_methods,
    reason = "a composition root reads the environment"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn main() -> Result<(), lambda_runtime::Error> {
    logs::start(environment("AWS_LAMBDA_LOG_LEVEL").as_deref());
    let memory = environment("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").and_then(|memory| memory.parse().ok());
    runtime(memory.unwrap_or(MB_OF_A_CORE))?.block_on(serve())
}

fn runtime(memory_mb: usize) -> std::io::Result<Runtime> {
    match memory_mb.div_ceil(MB_OF_A_CORE) {
        0 | 1 => Builder::new_current_thread().enable_all().build(),
        // The drain itself stays on this thread, its requests go to the others.
        cores => Builder::new_multi_thread()
            .worker_threads(cores - 1)
            .enable_all()
            .build(),
    }
}

async fn serve() -> Result<(), lambda_runtime::Error> {
    let scheduler = Arc::new(Scheduler {
        clients: Clients::from_environment(ClientOptions::default()).await,
        config: ConfigCell::new(environment("JOBMILL_CONFIG")),
        host: SystemHost::new(),
        write_metrics: logs::line,
    });
    lambda_runtime::run(service_fn(move |event: Event| {
        let scheduler = Arc::clone(&scheduler);
        async move { scheduler.handle(event).await }
    }))
    .await
}
