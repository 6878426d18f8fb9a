//! The orchestrator function: a wake-up in, an outcome out. `bootstrap` is it for Lambda; `jobmill up` runs it, too.

mod handler;
mod metrics;

use std::pin::Pin;
use std::sync::Arc;

use jobmill_aws::{ClientOptions, SystemHost};
use jobmill_lambda::invocation::Event;
use jobmill_lambda::{ClientsCell, ConfigCell, logs};
use lambda_runtime::service_fn;

use crate::handler::Orchestrator;

/// Serves invocations by the Runtime API, for as long as the process lives. `environment` gives a variable of it.
///
/// # Errors
/// If the Runtime API can't be reached.
pub async fn serve(environment: impl Fn(&str) -> Option<String>) -> Result<(), lambda_runtime::Error> {
    logs::start(environment("AWS_LAMBDA_LOG_LEVEL").as_deref());
    let orchestrator = Arc::new(Orchestrator {
        clients: ClientsCell::start(ClientOptions::default()).await,
        config: ConfigCell::new(environment("JOBMILL_CONFIG")),
        host: SystemHost::new(),
    });
    // Boxed, since its type is deeper than the compiler looks.
    let serving: Pin<Box<dyn Future<Output = Result<(), lambda_runtime::Error>>>> =
        Box::pin(lambda_runtime::run(service_fn(move |event: Event| {
            let orchestrator = Arc::clone(&orchestrator);
            async move { orchestrator.handle(event).await }
        })));
    serving.await
}
