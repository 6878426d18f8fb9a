//! What `front.rs` needs of a service, and what a service may need of another without knowing it. A new service is a module that implements [`Endpoint`], a variant of
//! [`Service`], and a line in `front.rs`.

use std::future::Future;

use ::http::{Request, Response};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use s3s::Body;

use crate::faults::{Effect, Service};
use crate::http::Aborted;

/// A service of the cloud, as `front.rs` calls it. Clones are the same service.
pub(crate) trait Endpoint: Clone + Send + Sync + 'static {
    /// Its name in rules and counts.
    const SERVICE: Service;

    /// The operation that a request asks for, as the API reference names it; none if it is not for this service.
    fn operation(request: &Request<Body>) -> Option<String>;

    /// Whether a request names `part`, as [`crate::Rule::naming`] means it: in its path, unless the service says
    /// otherwise.
    fn names(request: &Request<Bytes>, part: &str) -> bool {
        let path = percent_decode_str(request.uri().path());
        path.decode_utf8_lossy().contains(part)
    }

    /// Whether an effect that not every request can suffer has a meaning for this one.
    fn applies(operation: &str, request: &Request<Bytes>, effect: &Effect) -> bool;

    /// Carries a request out, with the effect of a rule if there is one. Effects on time and connection (delays, holds,
    /// closed connections, late requests) never come here: `front.rs` sees to them.
    fn call(
        &self,
        operation: &str,
        request: Request<Body>,
        effect: Option<&Effect>,
    ) -> impl Future<Output = Result<Response<Body>, Aborted>> + Send;
}

/// Where a service sends a message for a queue, without knowing what queues are.
pub(crate) trait Deliver: std::fmt::Debug + Send + Sync {
    /// Sends a message to the queue of an ARN. False if there is no such queue, or the message is too large.
    fn deliver(&self, arn: &str, body: String) -> bool;
}
