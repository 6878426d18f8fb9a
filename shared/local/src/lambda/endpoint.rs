//! The API of Lambda: invocations, what is known of a function, and how its asynchronous invocations are handled.

use std::time::SystemTime;

use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use percent_encoding::percent_decode_str;
use s3s::Body;
use serde_json::Value;
use tokio::sync::oneshot;

use super::destinations::{EventConfig, LATEST};
use super::invocation::FunctionSpec;
use super::pool::{Lambda, Refused, Target};
use crate::account::{ACCOUNT, function_arn};
use crate::clock;
use crate::faults::{Effect, Service};
use crate::http::{Aborted, answer, collect};
use crate::random::request_id;
use crate::service::Endpoint;

const FUNCTIONS: &str = "/2015-03-31/functions/";
const EVENT_CONFIGS: &str = "/2019-09-25/functions/";
const JSON: &str = "application/json";
/// The type of an invocation by which a caller asks whether it might.
const DRY_RUN: &str = "DryRun";
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
        let (operation, _) = route(request.method(), request.uri().path())?;
        Some(operation.to_owned())
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
        let (parts, body) = request.into_parts();
        let payload = collect(body).await?;
        if operation != "Invoke" {
            return Ok(self.manage(operation, &target(&parts.method, &parts.uri), &payload));
        }
        if let Some(refused) = problem(&payload, &parts.headers) {
            return Ok(refused);
        }
        // As on Lambda, no event is an empty one.
        let payload = if payload.is_empty() {
            Bytes::from_static(b"{}")
        } else {
            payload
        };
        let target = target(&parts.method, &parts.uri);
        let trace = text(&parts.headers, "x-amzn-trace-id");
        if invocation_type(&parts.headers) == DRY_RUN {
            return Ok(match self.lambda.describe(&target.name) {
                Some(_) => answer(StatusCode::NO_CONTENT, JSON, ""),
                None => refusal(&Refused::NoSuchFunction, &target),
            });
        }
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

    /// Everything but invocations.
    fn manage(&self, operation: &str, target: &Target, body: &[u8]) -> Response<Body> {
        let Some((spec, modified)) = self.lambda.describe(&target.name) else {
            return refusal(&Refused::NoSuchFunction, target);
        };
        match operation {
            "GetFunctionConfiguration" => json(StatusCode::OK, &configuration(&spec, modified, target)),
            "GetFunction" => json(
                StatusCode::OK,
                &serde_json::json!({
                    "Configuration": configuration(&spec, modified, target),
                    "Code": { "RepositoryType": "S3", "Location": format!("file://{}", spec.binary.display()) },
                    "Concurrency": { "ReservedConcurrentExecutions": spec.max_concurrency },
                }),
            ),
            "Unknown" => {
                let message = "the local cloud has no such operation";
                refuse(StatusCode::NOT_FOUND, "UnknownOperationException", message)
            }
            _ => self.event_config(operation, target, body),
        }
    }

    /// How the asynchronous invocations of a function, version or alias are handled.
    fn event_config(&self, operation: &str, target: &Target, body: &[u8]) -> Response<Body> {
        let (key, arn) = (target.qualifier().to_owned(), target.qualified_arn());
        let none = || {
            let message = format!("The function {arn} doesn't have an EventInvokeConfig");
            refuse(StatusCode::NOT_FOUND, "ResourceNotFoundException", &message)
        };
        let changed = self.lambda.event_configs(&target.name, |configs| {
            let before = configs.get(&key);
            match operation {
                "GetFunctionEventInvokeConfig" => {
                    before.map_or_else(none, |config| json(StatusCode::OK, &config.show(&arn)))
                }
                "ListFunctionEventInvokeConfigs" => {
                    let show = |(qualifier, config): (&String, &EventConfig)| {
                        config.show(&format!("{}:{qualifier}", function_arn(&target.name)))
                    };
                    let configs: Vec<Value> = configs.iter().map(show).collect();
                    let body = serde_json::json!({ "FunctionEventInvokeConfigs": configs });
                    json(StatusCode::OK, &body)
                }
                "DeleteFunctionEventInvokeConfig" => match configs.remove(&key) {
                    Some(_) => answer(StatusCode::NO_CONTENT, JSON, ""),
                    None => none(),
                },
                "UpdateFunctionEventInvokeConfig" if before.is_none() => none(),
                _ => {
                    let before = before.filter(|_| operation == "UpdateFunctionEventInvokeConfig");
                    match EventConfig::parse(body, before, clock::system_time()) {
                        Ok(config) => {
                            let shown = json(StatusCode::OK, &config.show(&arn));
                            configs.insert(key, config);
                            shown
                        }
                        Err(message) => {
                            let code = "InvalidParameterValueException";
                            refuse(StatusCode::BAD_REQUEST, code, &message)
                        }
                    }
                }
            }
        });
        changed.unwrap_or_else(|| refusal(&Refused::NoSuchFunction, target))
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

/// What a request asks for, and of which function, as the path names it; none if it is not for Lambda.
fn route<'a>(method: &Method, path: &'a str) -> Option<(&'static str, &'a str)> {
    let (rest, is_config) = match path.strip_prefix(FUNCTIONS) {
        Some(rest) => (rest, false),
        None => (path.strip_prefix(EVENT_CONFIGS)?, true),
    };
    let (function, what) = rest.split_once('/').unwrap_or((rest, ""));
    let operation = match (is_config, method.as_str(), what) {
        (false, "POST", "invocations") => "Invoke",
        (false, "GET", "") => "GetFunction",
        (false, "GET", "configuration") => "GetFunctionConfiguration",
        (true, "PUT", "event-invoke-config") => "PutFunctionEventInvokeConfig",
        (true, "POST", "event-invoke-config") => "UpdateFunctionEventInvokeConfig",
        (true, "GET", "event-invoke-config") => "GetFunctionEventInvokeConfig",
        (true, "DELETE", "event-invoke-config") => "DeleteFunctionEventInvokeConfig",
        (true, "GET", "event-invoke-config/list") => "ListFunctionEventInvokeConfigs",
        _ => "Unknown",
    };
    Some((operation, function))
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

/// Whom a request is for, from its path and its query.
fn target(method: &Method, uri: &Uri) -> Target {
    let decoded = |text| percent_decode_str(text).decode_utf8_lossy();
    let (_, function) = route(method, uri.path()).unwrap_or_default();
    let function = decoded(function);
    let query = uri.query().unwrap_or_default();
    let qualifier = query.split('&').find_map(|pair| pair.strip_prefix("Qualifier="));
    Target::parse(&function, qualifier.map(decoded).as_deref())
}

/// What is wrong with an invocation, as an answer.
fn problem(payload: &Bytes, headers: &HeaderMap) -> Option<Response<Body>> {
    let limit = match invocation_type(headers) {
        "Event" => MAX_EVENT,
        "RequestResponse" | DRY_RUN => MAX_PAYLOAD,
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

/// A function as the API describes it.
fn configuration(spec: &FunctionSpec, modified: SystemTime, target: &Target) -> Value {
    let modified = DateTime::<Utc>::from(modified).format("%Y-%m-%dT%H:%M:%S%.3f+0000");
    // A part of a second counts as a whole one: Lambda knows no others.
    let seconds = spec.timeout.as_millis().div_ceil(1000).max(1);
    serde_json::json!({
        "FunctionName": spec.name,
        "FunctionArn": target.arn(),
        "Runtime": "provided.al2023",
        "Role": format!("arn:aws:iam::{ACCOUNT}:role/local"),
        "Handler": "bootstrap",
        "Timeout": u64::try_from(seconds).unwrap_or(u64::MAX),
        "MemorySize": 128,
        "LastModified": modified.to_string(),
        "Version": LATEST,
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
    })
}

fn json(status: StatusCode, body: &Value) -> Response<Body> {
    answer(status, JSON, body.to_string())
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
