//! Workers as Lambda functions: one `Invoke` starts one task.
//!
//! A second start of an attempt is a broken promise, so nothing here sends a request twice:
//! - The SDK has one attempt (`RetryConfig::disabled`).
//! - The HTTP client below it is hyper-util's `legacy::Client` with `retry_canceled_requests` on, its default, which
//!   `aws-smithy-http-client` neither changes nor lets others change. It sends a request again only if hyper gives it
//!   back (`TrySendError::take_message`), and hyper gives back only what the task of the connection never took out of its
//!   channel: of that no byte was written (hyper 1.x, `client/dispatch.rs` and `proto/h1/dispatch.rs`). A connection that
//!   turns out to be dead when the request is on its way ends as an error, which is [`Asked::Unknown`] here. A test with
//!   a server that closes such a connection counts the requests.
//!
//! Permissions: `lambda:InvokeFunction` on the workers' functions, and `lambda:GetFunctionConfiguration` for
//! [`Workers::longest_run`]; where health metrics are configured, `cloudwatch:GetMetricStatistics`.

use std::time::Duration;

use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_lambda::operation::invoke::{InvokeError, InvokeOutput};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use jobmill_core::task::labourer::MetricSource;
use jobmill_engine::dispatch::ports::{Answer, Asked, Asking, Unfit, Workers};
use jobmill_engine::ports::{PortError, PortResult};

use crate::clients::Clients;
use crate::error::{is_throttling, judged, port_error};
use crate::metrics::Metrics;
use crate::problem::{causes, of_certificate, of_code, with_causes};

const INVOKE: &str = "lambda:Invoke";
const INVOKE_PERMISSION: &str = "lambda:InvokeFunction";
const CONFIGURATION: &str = "lambda:GetFunctionConfiguration";

/// The largest answer that Lambda gives to a caller who waits: 6 MB ("Lambda quotas"), with the 100 bytes that it really
/// allows beyond. What is longer comes from something else, and is cut.
const LARGEST_ANSWER: usize = 6 * 1024 * 1024 + 100;

const CORRECT_THE_ARN: &str = "correct the ARN of the labourer in the configuration";

/// Workers that are Lambda functions.
#[derive(Debug, Clone)]
pub struct LambdaWorkers {
    once: aws_sdk_lambda::Client,
    retrying: aws_sdk_lambda::Client,
    metrics: Metrics,
    request_time: Duration,
}

impl LambdaWorkers {
    /// The functions of the account and region of `clients`.
    pub fn new(clients: &Clients) -> Self {
        Self {
            once: clients.lambda_once(),
            retrying: clients.lambda.clone(),
            metrics: clients.metrics(),
            request_time: clients.request_time(),
        }
    }
}

impl Workers for LambdaWorkers {
    /// Waits for the answer as long as it is asked to and the time of a request more: so long Lambda may take to start
    /// the function, or to kill it. Then the request is dropped, and its connection with it.
    async fn ask(&self, function: &str, payload: String, asking: Asking) -> Asked {
        let (kind, limit) = match asking {
            Asking::Wait(longest) => (
                InvocationType::RequestResponse,
                longest.saturating_add(self.request_time),
            ),
            Asking::Event => (InvocationType::Event, self.request_time),
        };
        let request = self
            .once
            .invoke()
            .function_name(function)
            .invocation_type(kind)
            .payload(Blob::new(payload))
            .send();
        match tokio::time::timeout(limit, request).await {
            Ok(Ok(output)) => answered(output, asking),
            Ok(Err(error)) => of_error(function, error),
            Err(_) => Asked::Unknown(format!(
                "{INVOKE} of {function} got no answer in {} s",
                limit.as_secs()
            )),
        }
    }

    async fn longest_run(&self, function: &str) -> PortResult<Result<Duration, Unfit>> {
        let request = self
            .retrying
            .get_function_configuration()
            .function_name(function)
            .send();
        let error = match request.await {
            Ok(found) => {
                // Lambda gives each function one; 3 s is its default.
                let seconds = found.timeout().and_then(|seconds| u64::try_from(seconds).ok());
                return Ok(Ok(Duration::from_secs(seconds.unwrap_or(3))));
            }
            Err(error) => port_error(CONFIGURATION, error),
        };
        match error {
            PortError::Refused { code, message, .. } => {
                let (kind, cure) = of_refusal(&code, CONFIGURATION);
                Ok(Err(unfit(function, kind, &message, &cure)))
            }
            other => Err(other),
        }
    }

    async fn datapoints(&self, source: &MetricSource) -> PortResult<Vec<f64>> {
        self.metrics.datapoints(source).await
    }
}

fn answered(output: InvokeOutput, asking: Asking) -> Asked {
    if asking == Asking::Event {
        return Asked::Queued;
    }
    let is_error = output.function_error.is_some();
    let mut payload = Bytes::from(output.payload.map(Blob::into_inner).unwrap_or_default());
    payload.truncate(LARGEST_ANSWER);
    Asked::Answered(Answer { payload, is_error })
}

/// What an error of the SDK says about the start. The rule: whatever does not prove that the function was not started is
/// `Unknown`.
fn of_error(function: &str, error: SdkError<InvokeError, HttpResponse>) -> Asked {
    match &error {
        SdkError::ServiceError(context) => {
            let status = context.raw().status().as_u16();
            let message = context.err().message().filter(|message| !message.is_empty());
            let message = message.map_or_else(|| format!("http status {status}"), str::to_owned);
            of_answer(function, status, context.err(), &message)
        }
        // It was not sent, for a reason that will not go away: the SDK can make no request for such a function.
        SdkError::ConstructionFailure(_) => Asked::WorkerUnfit(unfit(
            function,
            "InvalidFunctionName",
            &with_causes(&error),
            CORRECT_THE_ARN,
        )),
        SdkError::DispatchFailure(_) => unsent(function, &error),
        // Time-outs, answers that can't be read, and whatever the SDK comes to add.
        _ => Asked::Unknown(format!("{INVOKE} of {function}: {}", with_causes(&error))),
    }
}

/// A request that got no answer: was it sent at all?
fn unsent(function: &str, error: &SdkError<InvokeError, HttpResponse>) -> Asked {
    let message = format!("{INVOKE} of {function}: {}", with_causes(error));
    match judged(error).or_else(|| of_certificate(error)) {
        // No credentials, or a certificate that is not trusted.
        Some(PortError::Environment { kind, message }) => Asked::WorkerUnfit(Unfit {
            kind,
            message: format!("{function} was not started: {message}"),
        }),
        // The service that gives credentials did not answer.
        Some(_) => Asked::Throttled(message),
        // The connection never came about: DNS, refused, TCP or TLS not in time, a proxy.
        None if is_unconnected(error) => Asked::Throttled(message),
        None => Asked::Unknown(message),
    }
}

/// Whether an error is of making a connection, before any request goes over it.
fn is_unconnected(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).any(|cause| {
        cause
            .downcast_ref::<hyper_util::client::legacy::Error>()
            .is_some_and(hyper_util::client::legacy::Error::is_connect)
    })
}

/// What Lambda's answer says. The types and what they mean are those of the API reference of `Invoke` ("Errors"), which
/// the SDK quotes at each variant of `InvokeError`. All that are taken for "not started" say so there: the function
/// couldn't be invoked, or couldn't be set up.
fn of_answer(function: &str, status: u16, error: &InvokeError, message: &str) -> Asked {
    use InvokeError as E;
    let named = || format!("{INVOKE} of {function}: {message}");
    let (kind, cure) = match error {
        // For want of concurrency, a rate, a quota, or of something that Lambda says will be there in a moment.
        E::TooManyRequestsException(_)
        | E::ServiceQuotaExceededException(_)
        | E::Ec2ThrottledException(_)
        | E::Ec2UnexpectedException(_)
        | E::EniLimitReachedException(_)
        | E::EniNotReadyException(_)
        | E::SubnetIpAddressLimitReachedException(_)
        | E::CodeArtifactUserPendingException(_) => return Asked::Throttled(named()),
        // This payload never will be taken.
        E::RequestTooLargeException(_)
        | E::SerializedRequestEntityTooLargeException(_)
        | E::InvalidRequestContentException(_)
        | E::UnsupportedMediaTypeException(_) => return Asked::PayloadRefused(named()),
        E::NoPublishedVersionException(_) => ("FunctionNotFound", "publish a version of the function"),
        E::ResourceConflictException(_)
        | E::ResourceNotReadyException(_)
        | E::SnapStartNotReadyException(_) => (
            "FunctionNotReady",
            "wait until its state is Active and its last update is over; if that lasts, look at `StateReason` of \
             `aws lambda get-function-configuration`",
        ),
        E::SnapStartException(_)
        | E::SnapStartTimeoutException(_)
        | E::SnapStartRegenerationFailureException(_) => (
            "SnapStartFailed",
            "look at the function's log for what its runtime hooks did, mend it, and publish a new version",
        ),
        E::KmsAccessDeniedException(_)
        | E::KmsDisabledException(_)
        | E::KmsInvalidStateException(_)
        | E::KmsNotFoundException(_) => (
            "KeyUnusable",
            "let the function's role use the KMS key of its environment variables, and enable that key",
        ),
        E::InvalidSecurityGroupIdException(_)
        | E::InvalidSubnetIdException(_)
        | E::Ec2AccessDeniedException(_) => (
            "NetworkUnusable",
            "correct subnets and security groups of the function, and let its role manage network interfaces \
             (`AWSLambdaVPCAccessExecutionRole`)",
        ),
        E::EfsMountConnectivityException(_)
        | E::EfsMountFailureException(_)
        | E::EfsMountTimeoutException(_)
        | E::S3FilesMountConnectivityException(_)
        | E::S3FilesMountFailureException(_)
        | E::S3FilesMountTimeoutException(_) => (
            "FileSystemUnusable",
            "look at the mount targets, the security groups and the access point of the function's file system",
        ),
        E::InvalidRuntimeException(_) => (
            "InvalidRuntime",
            "move the function to a runtime that Lambda supports",
        ),
        E::InvalidZipFileException(_)
        | E::CodeArtifactUserDeletedException(_)
        | E::CodeArtifactUserFailedException(_) => ("InvalidCode", "deploy the function's code anew"),
        E::ModeNotSupportedException(_) => (
            "ModeNotSupported",
            "choose another `completion` for the labourer: the function can't be invoked this way",
        ),
        E::RecursiveInvocationException(_) => (
            "RecursiveInvocation",
            "Lambda has found the function in a loop with other services: break the loop, or allow it by \
             `aws lambda put-function-recursion-config`",
        ),
        // It may have run: Lambda does not say when it met the error.
        E::ServiceException(_) | E::EfsioException(_) => return Asked::Unknown(named()),
        // What the model of the API does not know, such as AccessDeniedException, and what is refused elsewhere too.
        other => {
            let code = other.code().unwrap_or_default();
            if let Some(PortError::Environment { kind, message }) = of_code(code, message) {
                return Asked::WorkerUnfit(Unfit { kind, message });
            }
            match status {
                _ if is_throttling(code) => return Asked::Throttled(named()),
                429 => return Asked::Throttled(named()),
                413 => return Asked::PayloadRefused(named()),
                // 408: a body that did not arrive whole. Below 400: no answer of Lambda's.
                ..400 | 408 | 500.. => return Asked::Unknown(named()),
                _ => {}
            }
            let (kind, cure) = of_refusal(code, INVOKE_PERMISSION);
            return Asked::WorkerUnfit(unfit(function, kind, message, &cure));
        }
    };
    Asked::WorkerUnfit(unfit(function, kind, message, cure))
}

/// A refusal by its code: its kind, and what to do about it.
pub(crate) fn of_refusal(code: &str, permission: &str) -> (&'static str, String) {
    let (kind, cure) = match code {
        "ResourceNotFoundException" => (
            "FunctionNotFound",
            "correct the ARN of the labourer in the configuration, or create the function, version or alias",
        ),
        "AccessDeniedException" | "AccessDenied" => {
            let cure = format!("allow `{permission}` on it to the role that dispatches");
            return ("AccessDenied", cure);
        }
        "InvalidParameterValueException" | "ValidationException" => ("InvalidFunctionName", CORRECT_THE_ARN),
        _ => ("Refused", "look at the function and at its permissions"),
    };
    (kind, cure.to_owned())
}

fn unfit(function: &str, kind: &'static str, message: &str, cure: &str) -> Unfit {
    Unfit {
        kind,
        message: format!("{function} can't be started ({message}): {cure}"),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_lambda::types::error::*;
    use aws_smithy_types::error::ErrorMetadata;

    use super::*;

    const FUNCTION: &str = "arn:aws:lambda:eu-west-1:123456789012:function:worker";

    fn asked(status: u16, error: &InvokeError) -> Asked {
        of_answer(FUNCTION, status, error, "because")
    }

    fn kind(asked: &Asked) -> &'static str {
        match asked {
            Asked::Queued => "queued",
            Asked::Answered(_) => "answered",
            Asked::Throttled(_) => "throttled",
            Asked::PayloadRefused(_) => "payload refused",
            Asked::WorkerUnfit(unfit) => unfit.kind,
            Asked::Unknown(_) => "unknown",
        }
    }

    macro_rules! each {
        ($(($name:ident, $status:literal, $kind:literal);)*) => {
            [$(($status, InvokeError::$name($name::builder().build()), $kind)),*]
        };
    }

    #[test]
    fn each_error_of_invoke_has_its_meaning() {
        let errors = each![
            (TooManyRequestsException, 429, "throttled");
            (ServiceQuotaExceededException, 402, "throttled");
            (Ec2ThrottledException, 502, "throttled");
            (Ec2UnexpectedException, 502, "throttled");
            (EniLimitReachedException, 502, "throttled");
            (EniNotReadyException, 502, "throttled");
            (SubnetIpAddressLimitReachedException, 502, "throttled");
            (CodeArtifactUserPendingException, 502, "throttled");
            (RequestTooLargeException, 413, "payload refused");
            (SerializedRequestEntityTooLargeException, 413, "payload refused");
            (InvalidRequestContentException, 400, "payload refused");
            (UnsupportedMediaTypeException, 415, "payload refused");
            (NoPublishedVersionException, 404, "FunctionNotFound");
            (ResourceConflictException, 409, "FunctionNotReady");
            (ResourceNotReadyException, 502, "FunctionNotReady");
            (SnapStartNotReadyException, 409, "FunctionNotReady");
            (SnapStartException, 400, "SnapStartFailed");
            (SnapStartTimeoutException, 408, "SnapStartFailed");
            (SnapStartRegenerationFailureException, 502, "SnapStartFailed");
            (KmsAccessDeniedException, 502, "KeyUnusable");
            (KmsDisabledException, 502, "KeyUnusable");
            (KmsInvalidStateException, 502, "KeyUnusable");
            (KmsNotFoundException, 502, "KeyUnusable");
            (InvalidSecurityGroupIdException, 502, "NetworkUnusable");
            (InvalidSubnetIdException, 502, "NetworkUnusable");
            (Ec2AccessDeniedException, 502, "NetworkUnusable");
            (EfsMountConnectivityException, 408, "FileSystemUnusable");
            (EfsMountFailureException, 403, "FileSystemUnusable");
            (EfsMountTimeoutException, 408, "FileSystemUnusable");
            (S3FilesMountConnectivityException, 408, "FileSystemUnusable");
            (S3FilesMountFailureException, 403, "FileSystemUnusable");
            (S3FilesMountTimeoutException, 408, "FileSystemUnusable");
            (InvalidRuntimeException, 502, "InvalidRuntime");
            (InvalidZipFileException, 502, "InvalidCode");
            (CodeArtifactUserDeletedException, 502, "InvalidCode");
            (CodeArtifactUserFailedException, 502, "InvalidCode");
            (ModeNotSupportedException, 400, "ModeNotSupported");
            (RecursiveInvocationException, 400, "RecursiveInvocation");
            (ServiceException, 500, "unknown");
            (EfsioException, 410, "unknown");
        ];
        for (status, error, expected) in errors {
            let asked = asked(status, &error);
            assert_eq!(kind(&asked), expected, "{error:?}");
            if let Asked::WorkerUnfit(unfit) = asked {
                assert!(
                    unfit.message.contains(FUNCTION) && unfit.message.contains("because"),
                    "{}",
                    unfit.message
                );
            }
        }
    }

    #[test]
    fn what_the_sdk_has_no_type_for_is_judged_by_code_and_status() {
        for (status, code, expected) in [
            (404, "ResourceNotFoundException", "FunctionNotFound"),
            (403, "AccessDeniedException", "AccessDenied"),
            (400, "ValidationException", "InvalidFunctionName"),
            (400, "SomethingNew", "Refused"),
            (403, "ExpiredTokenException", "ExpiredCredentials"),
            (403, "UnrecognizedClientException", "InvalidCredentials"),
            (400, "ThrottlingException", "throttled"),
            (429, "", "throttled"),
            (413, "RequestEntityTooLargeException", "payload refused"),
            (413, "", "payload refused"),
            (408, "", "unknown"),
            (500, "", "unknown"),
            (502, "", "unknown"),
            (503, "ServiceUnavailableException", "unknown"),
            (504, "", "unknown"),
            (302, "", "unknown"),
        ] {
            let error = InvokeError::generic(ErrorMetadata::builder().code(code).build());
            assert_eq!(kind(&asked(status, &error)), expected, "{status} {code}");
        }
    }

    #[test]
    fn an_answer_is_cut_at_the_limit_of_lambda() {
        let output = |length: usize| {
            let payload = Blob::new(vec![b' '; length]);
            let output = InvokeOutput::builder()
                .payload(payload)
                .function_error("Unhandled");
            answered(output.build(), Asking::Wait(Duration::ZERO))
        };
        let length = |asked: Asked| match asked {
            Asked::Answered(Answer {
                payload,
                is_error: true,
            }) => payload.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(length(output(7)), 7);
        assert_eq!(length(output(LARGEST_ANSWER + 1)), LARGEST_ANSWER);
    }
}
