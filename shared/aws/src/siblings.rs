//! Hand-off by the Lambda API: an asynchronous invocation of the very function, version or alias that runs.

use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use jobmill_engine::ports::{PortResult, Siblings};

use crate::error::port_error;

/// Lambda takes the trace of an invocation from it.
const TRACE_HEADER: &str = "x-amzn-trace-id";

/// Siblings of the invocation with that invoked ARN.
#[derive(Debug, Clone)]
pub struct LambdaSiblings {
    client: aws_sdk_lambda::Client,
    invoked_function_arn: String,
    trace: Option<String>,
}

impl LambdaSiblings {
    /// `invoked_function_arn` as the invocation received it: with its version or alias, so that a chain of hops stays
    /// on one release.
    pub fn new(client: aws_sdk_lambda::Client, invoked_function_arn: impl Into<String>) -> Self {
        Self {
            client,
            invoked_function_arn: invoked_function_arn.into(),
            trace: None,
        }
    }

    /// Siblings continue that trace: the `X-Amzn-Trace-Id` of the invocation, so that X-Ray shows a run as one.
    #[must_use]
    pub fn in_trace(mut self, trace: Option<String>) -> Self {
        self.trace = trace;
        self
    }
}

impl Siblings for LambdaSiblings {
    /// The SDK may repeat a call whose answer was lost: two siblings then, of which the lock lets one work.
    async fn spawn(&self, payload: String) -> PortResult<()> {
        let trace = self.trace.clone();
        self.client
            .invoke()
            .function_name(&self.invoked_function_arn)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(payload))
            .customize()
            .mutate_request(move |request| {
                if let Some(trace) = &trace {
                    // A trace that is no header value is none: the sibling begins its own.
                    drop(request.headers_mut().try_insert(TRACE_HEADER, trace.clone()));
                }
            })
            .send()
            .await
            .map(drop)
            .map_err(|error| port_error("lambda:Invoke", error))
    }
}
