//! S3 in memory, and in a folder if it is to outlive the process, path-style. Requests come in as HTTP and go through `s3s`, which decodes them, to [`service`]; buckets
//! and objects are in [`store`].
//!
//! Signatures are not looked at, as by the other services. s3s would compare their time with the machine's clock, but
//! SDKs sign by the clock that the cloud's own answers tell them, which tests move. Bodies in signed chunks
//! (`aws-chunked`), which s3s decodes only as part of that check, are refused: jobmill's client sends none.
//!
//! Not built on the bucket of `jobmill-memory`, on purpose: the conformance suite runs on both, and would miss a wrong
//! idea of S3 that both share.

mod disk;
mod service;
mod store;

use std::sync::Arc;

use ::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use s3s::Body;
use s3s::service::{S3Service, S3ServiceBuilder};

pub(crate) use store::Store;

use crate::clock::Clock;
use crate::faults::{Effect, Service};
use crate::http::{Aborted, answer, collect};
use crate::service::Endpoint;

/// The S3 endpoint.
#[derive(Debug, Clone)]
pub(crate) struct S3Endpoint {
    service: S3Service,
}

impl S3Endpoint {
    pub(crate) fn new(store: Arc<Store>, clock: Arc<Clock>) -> Self {
        let service = S3ServiceBuilder::new(service::MemoryS3 { store, clock }).build();
        Self { service }
    }
}

impl Endpoint for S3Endpoint {
    const SERVICE: Service = Service::S3;

    fn operation(request: &Request<Body>) -> Option<String> {
        let path = request.uri().path().trim_start_matches('/');
        let has_key = path.split_once('/').is_some_and(|(_, key)| !key.is_empty());
        let query = request.uri().query().unwrap_or("");
        let asks = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        let operation = match (request.method(), has_key) {
            (&Method::GET, true) => "GetObject",
            (&Method::HEAD, true) => "HeadObject",
            (&Method::PUT, true) if asks("uploadId") => "UploadPart",
            (&Method::PUT, true) => "PutObject",
            (&Method::POST, true) if asks("uploads") => "CreateMultipartUpload",
            (&Method::POST, true) if asks("uploadId") => "CompleteMultipartUpload",
            (&Method::DELETE, true) if asks("uploadId") => "AbortMultipartUpload",
            (&Method::DELETE, true) => "DeleteObject",
            (&Method::GET, false) if asks("list-type") => "ListObjectsV2",
            _ => return None,
        };
        Some(operation.to_owned())
    }

    fn applies(_operation: &str, request: &Request<Bytes>, effect: &Effect) -> bool {
        let conditions = [header::IF_MATCH, header::IF_NONE_MATCH];
        match effect {
            Effect::Conflict => conditions.iter().any(|name| request.headers().contains_key(name)),
            Effect::Unprocessed(_) | Effect::LoseInvoke | Effect::DoubleInvoke => false,
            _ => true,
        }
    }

    async fn call(
        &self,
        _operation: &str,
        mut request: Request<Body>,
        effect: Option<&Effect>,
    ) -> Result<Response<Body>, Aborted> {
        let (status, code, message) = match effect {
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
            _ if is_chunked(request.headers()) => {
                // The client reads no answer before it has sent everything.
                collect(request.into_body()).await?;
                let message = "the local cloud takes no aws-chunked bodies: send them whole";
                (StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
            }
            _ => {
                request.headers_mut().remove(header::AUTHORIZATION);
                return self.service.call(request).await.map_err(|_| Aborted);
            }
        };
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        Ok(answer(status, "application/xml", body))
    }
}

/// Whether a body comes in signed chunks, or with a checksum behind it.
fn is_chunked(headers: &HeaderMap) -> bool {
    headers
        .get("x-amz-content-sha256")
        .is_some_and(|hash| hash.as_bytes().starts_with(b"STREAMING-"))
}
