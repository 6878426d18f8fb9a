//! From a Lambda event to an outcome, or to an error with a stable type.

use jobmill_aws::{DynamoTasks, LambdaSiblings, MetaContext, REQUEST_TIME, S3Store, SystemHost};
use jobmill_core::job::event;
use jobmill_core::json::Document;
use jobmill_core::{Error, ErrorKind};
use jobmill_engine::Limits;
use jobmill_engine::ports::Clock as _;
use jobmill_engine::schedule::{Context, Engine, Observation, Outcome};
use jobmill_lambda::emf::Properties;
use jobmill_lambda::invocation::{self, Event};
use jobmill_lambda::{ClientsCell, ConfigCell, Failure, logs};
use serde_json::value::RawValue;
use tracing::Instrument as _;

use crate::metrics::Metrics;
use crate::wake_ups::WakeUps;

/// What lives as long as the sandbox.
pub(crate) struct Scheduler {
    pub(crate) clients: ClientsCell,
    pub(crate) config: ConfigCell,
    pub(crate) host: SystemHost,
    /// Whom to wake up when there are tasks: the function of the orchestrator.
    pub(crate) orchestrator: Option<String>,
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
        let request = event::read(event)?;
        let store = S3Store::new(clients.s3.clone(), &config.queue_bucket);
        let tasks = DynamoTasks::new(
            clients.dynamodb.clone(),
            config.tables.clone(),
            config.task_writes,
        )
        .with_meta(MetaContext {
            author: context.env_config.function_name.clone(),
            invocation_id: context.request_id.clone(),
            log_stream_name: context.env_config.log_stream.clone(),
        });
        let siblings = LambdaSiblings::new(clients.lambda.clone(), invocation::this_function(context));
        let wake_ups = WakeUps::new(self.orchestrator.as_deref(), clients, config);
        let observer = |observation: Observation<'_>| {
            wake_ups.observe(observation);
            metrics.observe(observation);
        };
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
            deadline: invocation::deadline(context, &self.host, config.timeout),
        };
        let outcome = engine.run(request, &context).await;
        wake_ups.finish().await;
        Ok(outcome?)
    }
}
