//! From a Lambda event to an outcome, or to an error with a stable type.

use std::time::Duration;

use jobmill_aws::{DynamoTables, LambdaWorkers, REQUEST_TIME, S3Store, SqsOutcomes, SystemHost};
use jobmill_core::json::Document;
use jobmill_core::queue::wake_up;
use jobmill_core::{Error, ErrorKind};
use jobmill_engine::dispatch::{Dispatcher, Observation, Outcome, WakeUp};
use jobmill_engine::ports::Clock as _;
use jobmill_lambda::emf::Properties;
use jobmill_lambda::invocation::{self, Event};
use jobmill_lambda::{ClientsCell, ConfigCell, Failure, logs};
use serde_json::value::RawValue;
use tracing::Instrument as _;

use crate::metrics::Metrics;

/// A holder with nothing to do for so long ends: the next wake-up comes within a minute.
const IDLE: Duration = Duration::from_secs(20);

/// What lives as long as the sandbox.
pub(crate) struct Orchestrator {
    pub(crate) clients: ClientsCell,
    pub(crate) config: ConfigCell,
    pub(crate) host: SystemHost,
}

impl Orchestrator {
    /// Handles one invocation.
    pub(crate) async fn handle(&self, event: Event) -> Result<Outcome, Failure> {
        let (payload, context) = event.into_parts();
        let span = tracing::info_span!("invocation", request_id = %context.request_id);
        async {
            let clock = || (self.host.monotonic(), self.host.wall_ms());
            let properties = Properties {
                function_name: context.env_config.function_name.clone(),
                request_id: context.request_id.clone(),
                ..Properties::default()
            };
            let metrics = Metrics::new(properties, &clock, &logs::line);
            let answer = self.answer(payload, &context, &metrics).await;
            metrics.finish(answer.as_ref().map_err(Failure::error_type));
            match &answer {
                Ok(outcome) => tracing::info!(outcome = outcome.name(), "done"),
                Err(failure) => tracing::error!(error_type = failure.error_type(), "{failure}"),
            }
            answer
        }
        .instrument(span)
        .await
    }

    async fn answer(
        &self,
        payload: Box<RawValue>,
        context: &lambda_runtime::Context,
        metrics: &Metrics<'_>,
    ) -> Result<Outcome, Failure> {
        let clients = self.clients.get().await?;
        let config = self.config.get(clients).await?;
        tracing::debug!(event = payload.get(), "received");
        let event = Document::parse(Box::<str>::from(payload))
            .map_err(|why| Error::new(ErrorKind::InvalidEvent, format!("the event {why}")))?;
        let group = wake_up::read(&event)?;
        let store = S3Store::new(clients.s3.clone(), &config.queue_bucket);
        let tables = DynamoTables::new(
            clients.dynamodb.clone(),
            config.tables.clone(),
            config.task_writes,
        );
        let workers = LambdaWorkers::new(clients);
        let outcomes = SqsOutcomes::new(clients, config.outcome_queue.clone());
        let observer = |observation: Observation| metrics.observe(observation);
        let dispatcher = Dispatcher {
            store: &store,
            tables: &tables,
            workers: &workers,
            outcomes: &outcomes,
            host: &self.host,
            config,
            request_time: REQUEST_TIME,
            observer: &observer,
        };
        let wake_up = WakeUp {
            group,
            owner: context.request_id.clone(),
            deadline: invocation::deadline(context, &self.host, config.timeout),
            idle: IDLE,
            waits_for_retries: false,
        };
        Ok(dispatcher.run(&wake_up).await?)
    }
}
