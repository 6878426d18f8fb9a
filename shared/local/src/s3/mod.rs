//! S3 in memory, path-style, any signature accepted. Requests come in as HTTP and go through `s3s` to [`service`].

mod chunked;
mod service;
mod store;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use s3s::Body;
use s3s::dto::StreamingBlob;
use s3s::service::{S3Service, S3ServiceBuilder};

pub(crate) use store::Store;

use crate::clock::Clock;
use crate::faults::Effect;
use crate::server::Aborted;

const CONTENT_SHA256: &str = "x-amz-content-sha256";
const DECODED_LENGTH: &str = "x-amz-decoded-content-length";

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

    pub(crate) async fn call(&self, request: Request<Body>) -> Result<Response<Body>, Aborted> {
        let (mut parts, body) = request.into_parts();
        let body = decode(&mut parts, body);
        self.service
            .call(Request::from_parts(parts, body))
            .await
            .map_err(|_| Aborted)
    }
}

/// Takes signature and transfer framing off a request: what is left is anonymous and plain.
fn decode(parts: &mut http::request::Parts, body: Body) -> Body {
    parts.headers.remove(header::AUTHORIZATION);
    let hash = parts.headers.remove(CONTENT_SHA256);
    if !hash.is_some_and(|hash| hash.as_bytes().starts_with(b"STREAMING-")) {
        return body;
    }
    plain_encoding(&mut parts.headers);
    let length = parts.headers.remove(DECODED_LENGTH);
    let length = length
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok())
        .unwrap_or(0);
    parts
        .headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let (body, trailers) = chunked::AwsChunked::new(body, length);
    parts.extensions.insert(trailers);
    Body::from(StreamingBlob::new(body))
}

/// S3 stores the content encoding without the `aws-chunked` of the transfer.
fn plain_encoding(headers: &mut HeaderMap) {
    let Some(encoding) = headers.remove(header::CONTENT_ENCODING) else {
        return;
    };
    let kept: Vec<_> = encoding
        .to_str()
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|encoding| !encoding.is_empty() && !encoding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    if let Ok(kept) = HeaderValue::try_from(kept.join(","))
        && !kept.is_empty()
    {
        headers.insert(header::CONTENT_ENCODING, kept);
    }
}

/// Whether an effect has a meaning for a request.
pub(crate) fn can_suffer(effect: &Effect, conditional: bool) -> bool {
    match effect {
        Effect::Conflict => conditional,
        Effect::Unprocessed(_) | Effect::LoseInvoke | Effect::DoubleInvoke => false,
        _ => true,
    }
}

/// The name of the S3 operation that a request asks for, as in the S3 API reference.
pub(crate) fn operation(method: &Method, uri: &Uri, headers: &HeaderMap) -> &'static str {
    let path = uri.path().trim_start_matches('/');
    let has_key = path.split_once('/').is_some_and(|(_, key)| !key.is_empty());
    let query = uri.query().unwrap_or("");
    let asks = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    match (method.as_str(), has_key) {
        ("GET", _) if path.is_empty() => "ListBuckets",
        ("GET", true) if asks("uploadId") => "ListParts",
        ("GET", true) => "GetObject",
        ("HEAD", true) => "HeadObject",
        ("PUT", true) if asks("uploadId") => "UploadPart",
        ("PUT", true) if headers.contains_key("x-amz-copy-source") => "CopyObject",
        ("PUT", true) => "PutObject",
        ("POST", true) if asks("uploads") => "CreateMultipartUpload",
        ("POST", true) if asks("uploadId") => "CompleteMultipartUpload",
        ("DELETE", true) if asks("uploadId") => "AbortMultipartUpload",
        ("DELETE", true) => "DeleteObject",
        ("GET", false) if asks("uploads") => "ListMultipartUploads",
        ("GET", false) if asks("location") => "GetBucketLocation",
        ("GET", false) if asks("list-type") => "ListObjectsV2",
        ("GET", false) => "ListObjects",
        ("HEAD", false) => "HeadBucket",
        ("PUT", false) => "CreateBucket",
        ("POST", false) if asks("delete") => "DeleteObjects",
        ("DELETE", false) => "DeleteBucket",
        _ => "Unknown",
    }
}
