//! Asynchronous invocations by the Lambda API: hand-off to the very function, version or alias that runs, and events for
//! other functions.

use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use jobmill_engine::ports::PortResult;
use jobmill_engine::schedule::ports::Siblings;

use crate::clients::Clients;
use crate::error::port_error;

/// Siblings of the invocation with that invoked ARN.
#[derive(Debug, Clone)]
pub struct LambdaSiblings {
    client: aws_sdk_lambda::Client,
    invoked_function_arn: String,
}

impl LambdaSiblings {
    /// `invoked_function_arn` as the invocation received it: with its version or alias, so that a chain of hops stays
    /// on one release.
    pub fn new(client: aws_sdk_lambda::Client, invoked_function_arn: impl Into<String>) -> Self {
        Self {
            client,
            invoked_function_arn: invoked_function_arn.into(),
        }
    }
}

impl Siblings for LambdaSiblings {
    /// The SDK may repeat a call whose answer was lost: two siblings then, of which the lock lets one work.
    async fn spawn(&self, payload: String) -> PortResult<()> {
        invoke(&self.client, &self.invoked_function_arn, payload).await
    }
}

/// Invokes a function asynchronously. The SDK may repeat a call whose answer was lost.
///
/// # Errors
/// What the service said.
pub async fn send_event(clients: &Clients, function: &str, payload: String) -> PortResult<()> {
    invoke(&clients.lambda, function, payload).await
}

async fn invoke(client: &aws_sdk_lambda::Client, function: &str, payload: String) -> PortResult<()> {
    client
        .invoke()
        .function_name(function)
        .invocation_type(InvocationType::Event)
        .payload(Blob::new(payload))
        .send()
        .await
        .map(drop)
        .map_err(|error| port_error("lambda:Invoke", error))
}
