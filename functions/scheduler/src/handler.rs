//! From a Lambda event to an outcome, or to an error with a stable type.

use std::time::Duration;

use jobmill_aws::{Clients, DynamoTasks, LambdaSiblings, MetaContext, REQUEST_TIME, S3Store, SystemHost};
use jobmill_core::config::Config;
use jobmill_core::job::event;
use jobmill_core::{Error, json};
use jobmill_engine::EngineError;
use jobmill_engine::Limits;
use jobmill_engine::ports::{Clock as _, PortError};
use jobmill_engine::schedule::{Context, Engine, Observation, Outcome};
use lambda_runtime::{Diagnostic, LambdaEvent};
use serde_json::value::RawValue;
use tracing::Instrument as _;

use crate::config::ConfigCell;
use crate::logs;
use crate::metrics::{Metrics, Properties};

/// The event as text: read by the same rules as every other JSON from outside.
pub(crate) type Event = LambdaEvent<Box<RawValue>>;

/// What lives as long as the sandbox.
pub(crate) struct Scheduler {
    pub(crate) clients: Clients,
    pub(crate) config: ConfigCell,
    pub(crate) host: SystemHost,
}

/// Why an invocation failed. Lambda reports it as `errorType` and `errorMessage`.
#[derive(Debug)]
pub(crate) struct Failure(EngineError);

impl Failure {
    pub(crate) fn of_service(step: &'static str, source: PortError) -> Self {
        Self(EngineError::Port { step, source })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(EngineError::Input(error))
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self(error)
    }
}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        Self {
            error_type: failure.0.error_type().to_owned(),
            error_message: failure.0.to_string(),
        }
    }
}

impl Scheduler {
    /// Handles one invocation.
    pub(crate) async fn handle(&self, event: Event) -> Result<Outcome, Failure> {
        let (payload, context) = event.into_parts();
        let span = tracing::info_span!(
            "invocation",
            request_id = %context.request_id,
            run_id = tracing::field::Empty
        );
        async {
            let clock = || (self.host.monotonic(), self.host.wall_ms());
            let properties = Properties {
                function_name: context.env_config.function_name.clone(),
                request_id: context.request_id.clone(),
            };
            let metrics = Metrics::new(properties, &clock, &logs::line);
            let answer = self.answer(&payload, &context, &metrics).await;
            metrics.finish(answer.as_ref().map_err(|failure| failure.0.error_type()));
            match &answer {
                Ok(outcome) => tracing::info!(outcome = outcome.name(), "done"),
                Err(failure) => tracing::error!(error_type = failure.0.error_type(), "{}", failure.0),
            }
            answer
        }
        .instrument(span)
        .await
    }

    async fn answer(
        &self,
        payload: &RawValue,
        context: &lambda_runtime::Context,
        metrics: &Metrics<'_>,
    ) -> Result<Outcome, Failure> {
        let config = self.config.get(&self.clients).await?;
        tracing::debug!(event = payload.get(), "received");
        let event = json::parse(payload.get())
            .map_err(|why| Error::new(jobmill_core::ErrorKind::InvalidEvent, format!("the event {why}")))?;
        let request = event::read(event)?;
        let store = S3Store::new(self.clients.s3.clone(), &config.queue_bucket);
        let tasks = DynamoTasks::new(
            self.clients.dynamodb.clone(),
            config.tables.clone(),
            config.task_writes,
        )
        .with_meta(MetaContext {
            author: context.env_config.function_name.clone(),
            invocation_id: context.request_id.clone(),
            log_stream_name: context.env_config.log_stream.clone(),
        });
        let siblings = LambdaSiblings::new(self.clients.lambda.clone(), this_function(context));
        let observer = |observation: Observation<'_>| metrics.observe(observation);
        let engine = Engine {
            store: &store,
            tasks: &tasks,
            siblings: &siblings,
            host: &self.host,
            config,
            limits: Limits::default(),
            request_time: REQUEST_TIME,
            observer: &observer,
        };
        let context = Context {
            request_id: context.request_id.clone(),
            deadline: self.deadline(config, context.deadline),
        };
        Ok(engine.run(request, &context).await?)
    }

    /// The end of the invocation by the monotonic clock; where the platform does not say, after the configured `timeout`.
    fn deadline(&self, config: &Config, epoch_ms: u64) -> Duration {
        let left = time_left(epoch_ms, self.host.wall_ms()).unwrap_or_else(|| {
            tracing::warn!(
                timeout = config.timeout,
                "the platform gave no deadline: the configured `timeout` counts"
            );
            Duration::from_secs(u64::from(config.timeout))
        });
        self.host.monotonic() + left
    }
}

/// What a sibling is invoked by: the ARN of this invocation, with its version or alias. `cargo lambda watch` sends the text
/// `function-arn` instead, and knows functions by their names.
fn this_function(context: &lambda_runtime::Context) -> &str {
    if context.invoked_function_arn.starts_with("arn:") {
        &context.invoked_function_arn
    } else {
        &context.env_config.function_name
    }
}

/// How long until the deadline. `cargo lambda watch` sends one of 1970: a deadline that is over before the invocation
/// began says nothing.
fn time_left(deadline_ms: u64, now_ms: i64) -> Option<Duration> {
    let now_ms = u64::try_from(now_ms).ok()?;
    deadline_ms
        .checked_sub(now_ms)
        .filter(|left| *left > 0)
        .map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_before_the_invocation_began_is_unknown() {
        assert_eq!(time_left(1_000_900, 1_000_000), Some(Duration::from_millis(900)));
        assert_eq!(time_left(1_000_000, 1_000_000), None);
        assert_eq!(
            time_left(42, 1_709_700_000_000),
            None,
            "1970, as cargo lambda watch has it"
        );
    }
}
