//! The Invoke API.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use s3s::Body;
use serde_json::Value;
use tokio::sync::oneshot;

use super::{Lambda, Refused, Target};
use crate::clock;
use crate::faults::{Effect, Faults, Service};
use crate::server::{self, Aborted};

const FUNCTIONS: &str = "/2015-03-31/functions/";
/// The largest event of a caller who waits, and of one who does not.
const MAX_PAYLOAD: usize = 6 * 1024 * 1024;
const MAX_EVENT: usize = 1024 * 1024;

/// The Lambda endpoint.
#[derive(Debug, Clone)]
pub(crate) struct LambdaEndpoint {
    lambda: Lambda,
}

impl LambdaEndpoint {
    pub(crate) fn new(lambda: Lambda) -> Self {
        Self { lambda }
    }

    /// Whether a request is one for Lambda.
    pub(crate) fn is_for(uri: &Uri) -> bool {
        uri.path().starts_with(FUNCTIONS)
    }

    pub(crate) fn operation(method: &Method, uri: &Uri) -> &'static str {
        if *method == Method::POST && uri.path().ends_with("/invocations") {
            "Invoke"
        } else {
            "Unknown"
        }
    }

    pub(crate) async fn call(
        &self,
        operation: &str,
        request: Request<Body>,
        faults: &Faults,
    ) -> Result<Response<Body>, Aborted> {
        let (parts, body) = request.into_parts();
        let payload = server::collect(body).await?;
        let function = parts.uri.path().strip_prefix(FUNCTIONS).unwrap_or_default();
        let Some(function) = function
            .strip_suffix("/invocations")
            .filter(|_| operation == "Invoke")
        else {
            let message = "the local cloud has no such operation";
            return Ok(refuse(
                StatusCode::NOT_FOUND,
                "UnknownOperationException",
                message,
            ));
        };
        let function = percent_decode_str(function).decode_utf8_lossy();
        let query = parts.uri.query().unwrap_or_default();
        let qualifier = query.split('&').find_map(|pair| pair.strip_prefix("Qualifier="));
        let qualifier = qualifier.map(|qualifier| percent_decode_str(qualifier).decode_utf8_lossy());
        let target = Target::parse(&function, qualifier.as_deref());
        let kind = parts
            .headers
            .get("x-amz-invocation-type")
            .and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or("RequestResponse");
        let trace = parts
            .headers
            .get("x-amzn-trace-id")
            .and_then(|trace| trace.to_str().ok());
        let is_event = kind == "Event";

        let mut decision = faults.decide(
            Service::Lambda,
            operation,
            |part| target.name.contains(part),
            |effect| match effect {
                Effect::LoseInvoke | Effect::DoubleInvoke => is_event,
                Effect::Conflict | Effect::Unprocessed(_) | Effect::Late(_) => false,
                _ => true,
            },
        );
        decision.wait().await;
        let effect = decision.effect.take();
        match effect {
            Some(Effect::Error) => {
                return Ok(refuse(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "ServiceException",
                    "an injected error",
                ));
            }
            Some(Effect::Throttle) => return Ok(too_many()),
            Some(Effect::Refuse) => return Err(Aborted),
            _ => {}
        }
        let limit = if is_event { MAX_EVENT } else { MAX_PAYLOAD };
        if payload.len() > limit {
            let message = format!(
                "{} byte payload is too large: the maximum is {limit}",
                payload.len()
            );
            return Ok(refuse(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestTooLargeException",
                &message,
            ));
        }
        if !payload.is_empty() && serde_json::from_slice::<Value>(&payload).is_err() {
            let message = "Could not parse request body into json";
            return Ok(refuse(
                StatusCode::BAD_REQUEST,
                "InvalidRequestContentException",
                message,
            ));
        }
        // As on Lambda, no event is an empty one.
        let payload = if payload.is_empty() {
            Bytes::from_static(b"{}")
        } else {
            payload
        };
        let request_id = clock::request_id();
        let response = match kind {
            "DryRun" => named(
                &request_id,
                server::answer(StatusCode::NO_CONTENT, "application/json", ""),
            ),
            "Event" => {
                let times = match effect {
                    Some(Effect::LoseInvoke) => 0,
                    Some(Effect::DoubleInvoke) => 2,
                    _ => 1,
                };
                if times == 0 {
                    self.lambda.lose(&target, &request_id, payload.clone());
                }
                let submitted = (0..times).try_for_each(|_| {
                    self.lambda
                        .submit(&target, &request_id, payload.clone(), trace, None)
                });
                match submitted {
                    Ok(()) => named(
                        &request_id,
                        server::answer(StatusCode::ACCEPTED, "application/json", ""),
                    ),
                    Err(refused) => refusal(&refused, &target),
                }
            }
            _ => {
                let (reply, result) = oneshot::channel();
                match self
                    .lambda
                    .submit(&target, &request_id, payload, trace, Some(reply))
                {
                    Ok(()) => {
                        let result = result.await.map_err(|_| Aborted)?;
                        let mut response = server::answer(StatusCode::OK, "application/json", result.payload);
                        let headers = response.headers_mut();
                        headers.insert("x-amz-executed-version", HeaderValue::from_static("$LATEST"));
                        if result.function_error.is_some() {
                            headers.insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
                        }
                        named(&request_id, response)
                    }
                    Err(refused) => refusal(&refused, &target),
                }
            }
        };
        if effect == Some(Effect::LoseAnswer) {
            Err(Aborted)
        } else {
            Ok(response)
        }
    }
}

fn named(request_id: &str, mut response: Response<Body>) -> Response<Body> {
    if let Ok(request_id) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert("x-amzn-requestid", request_id);
    }
    response
}

fn refusal(refused: &Refused, target: &Target) -> Response<Body> {
    match refused {
        Refused::NoSuchFunction => {
            let message = format!("Function not found: {}", target.arn());
            refuse(StatusCode::NOT_FOUND, "ResourceNotFoundException", &message)
        }
        Refused::TooMany => too_many(),
    }
}

fn too_many() -> Response<Body> {
    refuse(
        StatusCode::TOO_MANY_REQUESTS,
        "TooManyRequestsException",
        "Rate Exceeded.",
    )
}

fn refuse(status: StatusCode, code: &'static str, message: &str) -> Response<Body> {
    let body = serde_json::json!({ "Type": "User", "Message": message }).to_string();
    let mut response = server::answer(status, "application/json", body);
    response
        .headers_mut()
        .insert("x-amzn-errortype", HeaderValue::from_static(code));
    response
}
