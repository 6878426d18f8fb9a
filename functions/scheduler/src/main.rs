//! The scheduler Lambda. This file only wires: environment, logs, clients, handler.

mod config;
mod handler;
mod logs;
mod metrics;

use std::sync::Arc;

use jobmill_aws::{ClientOptions, Clients, SystemHost};
use lambda_runtime::service_fn;

use crate::config::ConfigCell;
use crate::handler::{Event, Scheduler};

#[tokio::main(flavor = "current_thread")]
#[allow(
    clippy::disallowed_methods,
    reason = "a composition root reads the environment"
)]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::start(std::env::var("AWS_LAMBDA_LOG_LEVEL").ok().as_deref());
    let scheduler = Arc::new(Scheduler {
        clients: Clients::from_environment(ClientOptions::default()).await,
        config: ConfigCell::new(std::env::var("JOBMILL_CONFIG").ok()),
        host: SystemHost::new(),
        write_metrics: logs::line,
    });
    lambda_runtime::run(service_fn(move |event: Event| {
        let scheduler = Arc::clone(&scheduler);
        async move { scheduler.handle(event).await }
    }))
    .await
}
