//! The one endpoint: routes each request to its service, applies the rules for faults to it, and counts it.

use std::sync::Arc;

use ::http::{Request, Response};
use s3s::Body;

use crate::clock;
use crate::dynamo::DynamoEndpoint;
use crate::faults::{Effect, Faults};
use crate::http::{Aborted, collect};
use crate::lambda::LambdaEndpoint;
use crate::s3::S3Endpoint;
use crate::service::Endpoint;
use crate::sqs::SqsEndpoint;
use crate::stats::Stats;

/// Everything behind the one endpoint.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) s3: S3Endpoint,
    pub(crate) dynamo: DynamoEndpoint,
    pub(crate) lambda: LambdaEndpoint,
    pub(crate) sqs: SqsEndpoint,
    pub(crate) faults: Faults,
    pub(crate) stats: Arc<Stats>,
}

impl Front {
    /// One request, with whatever faults are set on its way.
    pub(crate) async fn handle(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, Aborted> {
        if self.faults.is_active() {
            // A task of its own: a request that is delayed is executed even if its client gives up meanwhile.
            return tokio::spawn(self.route(request)).await.unwrap_or(Err(Aborted));
        }
        self.route(request).await
    }

    /// Whatever no other service knows as its own is for S3, whose paths can be anything.
    async fn route(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, Aborted> {
        if let Some(operation) = DynamoEndpoint::operation(&request) {
            return self.pass(&self.dynamo, &operation, request).await;
        }
        if let Some(operation) = LambdaEndpoint::operation(&request) {
            return self.pass(&self.lambda, &operation, request).await;
        }
        if let Some(operation) = SqsEndpoint::operation(&request) {
            return self.pass(&self.sqs, &operation, request).await;
        }
        let operation = S3Endpoint::operation(&request);
        let operation = operation.as_deref().unwrap_or("Unknown");
        self.pass(&self.s3, operation, request).await
    }

    async fn pass<E: Endpoint>(
        &self,
        service: &E,
        operation: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Aborted> {
        let result = if self.faults.is_active() {
            self.call_with_faults(service, operation, request).await
        } else {
            service.call(operation, request, None).await
        };
        self.stats.request(E::SERVICE, operation, result.as_ref().ok());
        result
    }

    /// Passes a request on, or not, as the rules say. The request is there as a whole before anything happens to it.
    async fn call_with_faults<E: Endpoint>(
        &self,
        service: &E,
        operation: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Aborted> {
        let (head, body) = request.into_parts();
        let request = Request::from_parts(head, collect(body).await?);
        let decision = self.faults.decide(
            E::SERVICE,
            operation,
            |part| E::names(&request, part),
            |effect| E::applies(operation, &request, effect),
        );
        decision.wait().await;
        let request = request.map(Body::from);
        match decision.effect {
            Some(Effect::Refuse) => Err(Aborted),
            Some(Effect::LoseAnswer) => {
                // The body of the answer is not read: the operation is done once the answer's head stands.
                drop(service.call(operation, request, None).await);
                Err(Aborted)
            }
            Some(Effect::Late(delay)) => {
                let (service, operation) = (service.clone(), operation.to_owned());
                tokio::spawn(async move {
                    clock::sleep(delay).await;
                    drop(service.call(&operation, request, None).await);
                });
                Err(Aborted)
            }
            effect => service.call(operation, request, effect.as_ref()).await,
        }
    }
}
