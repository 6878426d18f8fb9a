//! The Invoke API.

use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use s3s::Body;
use serde_json::Value;
use tokio::sync::oneshot;

use super::pool::{Lambda, Refused, Target};
use crate::faults::{Effect, Service};
use crate::http::{Aborted, answer, collect};
use crate::random::request_id;
use crate::service::Endpoint;

const FUNCTIONS: &str = "/2015-03-31/functions/";
const INVOCATIONS: &str = "/invocations";
const JSON: &str = "application/json";
/// The largest event of a caller who waits, and of one who does not.
const MAX_PAYLOAD: usize = 6 * 1024 * 1024;
const MAX_EVENT: usize = 1024 * 1024;

/// The Lambda endpoint.
#[derive(Debug, Clone)]
pub(crate) struct LambdaEndpoint {
    lambda: Lambda,
}

impl Endpoint for LambdaEndpoint {
    const SERVICE: Service = Service::Lambda;

    fn operation(request: &Request<Body>) -> Option<String> {
        let function = request.uri().path().strip_prefix(FUNCTIONS)?;
        let invoked = *request.method() == Method::POST && function.ends_with(INVOCATIONS);
        Some(if invoked { "Invoke" } else { "Unknown" }.to_owned())
    }

    fn applies(_operation: &str, request: &Request<Bytes>, effect: &Effect) -> bool {
        match effect {
            Effect::LoseInvoke | Effect::DoubleInvoke => is_event(request.headers()),
            Effect::Conflict | Effect::Unprocessed(_) => false,
            _ => true,
        }
    }

    async fn call(
        &self,
        operation: &str,
        request: Request<Body>,
        effect: Option<&Effect>,
    ) -> Result<Response<Body>, Aborted> {
        match effect {
            Some(Effect::Error) => {
                let message = "an injected error";
                return Ok(refuse(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "ServiceException",
                    message,
                ));
            }
            Some(Effect::Throttle) => return Ok(too_many()),
            _ => {}
        }
        if operation != "Invoke" {
            let message = "the local cloud has no such operation";
            return Ok(refuse(
                StatusCode::NOT_FOUND,
                "UnknownOperationException",
                message,
            ));
        }
        let (parts, body) = request.into_parts();
        let payload = collect(body).await?;
        if let Some(refused) = problem(&payload, &parts.headers) {
            return Ok(refused);
        }
        // As on Lambda, no event is an empty one.
        let payload = if payload.is_empty() {
            Bytes::from_static(b"{}")
        } else {
            payload
        };
        let target = target(&parts.uri);
        let trace = text(&parts.headers, "x-amzn-trace-id");
        let request_id = request_id();
        let mut response = if is_event(&parts.headers) {
            self.send(&target, &request_id, payload, trace, effect)
        } else {
            self.invoke(&target, &request_id, payload, trace).await?
        };
        if let Ok(request_id) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert("x-amzn-requestid", request_id);
        }
        Ok(response)
    }
}

impl LambdaEndpoint {
    pub(crate) fn new(lambda: Lambda) -> Self {
        Self { lambda }
    }

    /// An invocation that nobody waits for.
    fn send(
        &self,
        target: &Target,
        request_id: &str,
        payload: Bytes,
        trace: Option<&str>,
        effect: Option<&Effect>,
    ) -> Response<Body> {
        let times = match effect {
            Some(Effect::LoseInvoke) => 0,
            Some(Effect::DoubleInvoke) => 2,
            _ => 1,
        };
        if times == 0 {
            self.lambda.lose(target, request_id, payload.clone());
        }
        let submit = |_| {
            let payload = payload.clone();
            self.lambda.submit(target, request_id, payload, trace, None)
        };
        match (0..times).try_for_each(submit) {
            Ok(()) => answer(StatusCode::ACCEPTED, JSON, ""),
            Err(refused) => refusal(&refused, target),
        }
    }

    /// An invocation whose caller waits for its end.
    async fn invoke(
        &self,
        target: &Target,
        request_id: &str,
        payload: Bytes,
        trace: Option<&str>,
    ) -> Result<Response<Body>, Aborted> {
        let (reply, result) = oneshot::channel();
        let submitted = self
            .lambda
            .submit(target, request_id, payload, trace, Some(reply));
        if let Err(refused) = submitted {
            return Ok(refusal(&refused, target));
        }
        let result = result.await.map_err(|_| Aborted)?;
        let mut response = answer(StatusCode::OK, JSON, result.payload);
        let headers = response.headers_mut();
        headers.insert("x-amz-executed-version", HeaderValue::from_static("$LATEST"));
        if result.function_error.is_some() {
            headers.insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
        }
        Ok(response)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The type of an invocation; without a header the caller waits for its end.
fn invocation_type(headers: &HeaderMap) -> &str {
    text(headers, "x-amz-invocation-type").unwrap_or("RequestResponse")
}

/// Whether the caller does not wait for the end.
fn is_event(headers: &HeaderMap) -> bool {
    invocation_type(headers) == "Event"
}

/// Whom an invocation is for, from the path and the query of its request.
fn target(uri: &Uri) -> Target {
    let decoded = |text| percent_decode_str(text).decode_utf8_lossy();
    let path = uri.path().strip_prefix(FUNCTIONS).unwrap_or_default();
    let function = decoded(path.strip_suffix(INVOCATIONS).unwrap_or(path));
    let query = uri.query().unwrap_or_default();
    let qualifier = query.split('&').find_map(|pair| pair.strip_prefix("Qualifier="));
    Target::parse(&function, qualifier.map(decoded).as_deref())
}

/// What is wrong with an invocation, as an answer.
fn problem(payload: &Bytes, headers: &HeaderMap) -> Option<Response<Body>> {
    let limit = match invocation_type(headers) {
        "Event" => MAX_EVENT,
        "RequestResponse" => MAX_PAYLOAD,
        other => {
            let message = format!("the local cloud has no invocations of type {other}");
            return Some(refuse(
                StatusCode::BAD_REQUEST,
                "InvalidParameterValueException",
                &message,
            ));
        }
    };
    if payload.len() > limit {
        let length = payload.len();
        let message = format!("{length} byte payload is too large: the maximum is {limit}");
        return Some(refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestTooLargeException",
            &message,
        ));
    }
    if !payload.is_empty() && serde_json::from_slice::<Value>(payload).is_err() {
        let message = "Could not parse request body into json";
        return Some(refuse(
            StatusCode::BAD_REQUEST,
            "InvalidRequestContentException",
            message,
        ));
    }
    None
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
    let mut response = answer(status, JSON, body);
    response
        .headers_mut()
        .insert("x-amzn-errortype", HeaderValue::from_static(code));
    response
}
