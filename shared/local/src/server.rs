//! HTTP on loopback: listeners, connections, and the one front door that routes a request to its service.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::Body;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::clock;
use crate::dynamo::DynamoEndpoint;
use crate::faults::{Effect, Faults, Service};
use crate::lambda::LambdaEndpoint;
use crate::s3::{self, S3Endpoint};
use crate::stats::Stats;

/// The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed without an answer")]
pub(crate) struct Aborted;

/// Binds a free port of 127.0.0.1.
pub(crate) async fn bind() -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves until it is dropped; its connections end with it.
pub(crate) async fn serve<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(Request<Body>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<Body>, Aborted>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "no TCP_NODELAY");
                }
                let handler = handler.clone();
                let service = service_fn(move |request: Request<Incoming>| handler(request.map(Body::from)));
                connections.spawn(async move {
                    // A peer that went away and an answer that was dropped on purpose end here alike.
                    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                        tracing::debug!(%error, "connection ended");
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// An answer with a body that is known.
pub(crate) fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Everything behind the one endpoint.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) s3: S3Endpoint,
    pub(crate) dynamo: DynamoEndpoint,
    pub(crate) lambda: LambdaEndpoint,
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

    async fn route(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, Aborted> {
        let bytes_in = request.body().size_hint().exact().unwrap_or(0);
        let (service, operation, result) =
            if let Some(operation) = DynamoEndpoint::operation(request.headers()) {
                let operation = operation.to_owned();
                let result = self
                    .dynamo
                    .call(&operation, request, &self.faults, &self.stats)
                    .await;
                (Service::DynamoDb, operation, result)
            } else if LambdaEndpoint::is_for(request.uri()) {
                let operation = LambdaEndpoint::operation(request.method(), request.uri());
                let result = self.lambda.call(operation, request, &self.faults).await;
                (Service::Lambda, operation.to_owned(), result)
            } else {
                let operation = s3::operation(request.method(), request.uri(), request.headers());
                (
                    Service::S3,
                    operation.to_owned(),
                    self.s3(operation, request).await,
                )
            };
        self.stats
            .request(service, &operation, bytes_in, result.as_ref().ok());
        result
    }

    async fn s3(&self, operation: &'static str, request: Request<Body>) -> Result<Response<Body>, Aborted> {
        if !self.faults.is_active() {
            return self.s3.call(request).await;
        }
        // The request is there as a whole before anything happens to it; its pieces are not copied.
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Aborted)?;
        let resource = percent_encoding::percent_decode_str(parts.uri.path()).decode_utf8_lossy();
        let conditional = [header::IF_MATCH, header::IF_NONE_MATCH]
            .iter()
            .any(|name| parts.headers.contains_key(name));
        let decision = self.faults.decide(
            Service::S3,
            operation,
            |part| resource.contains(part),
            |effect| s3::can_suffer(effect, conditional),
        );
        drop(resource);
        decision.wait().await;
        let request = Request::from_parts(parts, Body::http_body(body));
        let (status, code, message) = match decision.effect {
            None => return self.s3.call(request).await,
            Some(Effect::LoseAnswer) => {
                // The body of the answer is not read: the operation is done once the answer's head stands.
                drop(self.s3.call(request).await);
                return Err(Aborted);
            }
            Some(Effect::Late(delay)) => {
                let s3 = self.s3.clone();
                tokio::spawn(async move {
                    clock::sleep(delay).await;
                    drop(s3.call(request).await);
                });
                return Err(Aborted);
            }
            Some(Effect::Throttle) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "SlowDown",
                "please reduce your request rate",
            ),
            Some(Effect::Conflict) => {
                let message = "a conflicting conditional operation is in progress against this resource";
                (StatusCode::CONFLICT, "ConditionalRequestConflict", message)
            }
            Some(Effect::Error) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                "an injected error",
            ),
            Some(_) => return Err(Aborted),
        };
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        Ok(answer(status, "application/xml", body))
    }
}

/// Reads a body whole.
pub(crate) async fn collect(body: Body) -> Result<Bytes, Aborted> {
    Ok(body.collect().await.map_err(|_| Aborted)?.to_bytes())
}
