//! The scheduler Lambda. This file only wires: environment, logs, clients, handler.

mod handler;
mod metrics;
mod wake_ups;

use std::sync::Arc;

use jobmill_aws::{ClientOptions, SystemHost};
use jobmill_lambda::invocation::Event;
use jobmill_lambda::{ClientsCell, ConfigCell, logs};
use lambda_runtime::service_fn;

use crate::handler::Scheduler;

/// A drain allocates for every request; docs/performance.md has what this one saves.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[allow(
    clippy::disallowed_methods,
    reason = "a composition root reads the environment"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::start(environment("AWS_LAMBDA_LOG_LEVEL").as_deref());
    let scheduler = Arc::new(Scheduler {
        clients: ClientsCell::start(ClientOptions::default()).await,
        config: ConfigCell::new(environment("JOBMILL_CONFIG")),
        host: SystemHost::new(),
        orchestrator: environment("JOBMILL_ORCHESTRATOR").filter(|name| !name.is_empty()),
    });
    lambda_runtime::run(service_fn(move |event: Event| {
        let scheduler = Arc::clone(&scheduler);
        async move { scheduler.handle(event).await }
    }))
    .await
}
