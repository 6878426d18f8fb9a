//! From the SDK's errors to the engine's: the one place where an answer of AWS is judged.
//! The rule: whatever does not prove that nothing was done is `Unknown`.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use jobmill_engine::ports::PortError;

/// Codes by which a service says that it did nothing because it was asked too much.
const THROTTLING: &[&str] = &[
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceeded",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingError",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionConflict",
    "TransactionConflictException",
    "TransactionInProgressException",
];

/// Is that a code of a service that did nothing and wants a pause? Two conditional writes that met on one item count
/// as such: neither harmed the other.
pub(crate) fn is_throttling(code: &str) -> bool {
    THROTTLING.binary_search(&code).is_ok()
}

/// Maps an SDK error of `operation` (`service:Operation`).
pub(crate) fn port_error<E>(operation: &'static str, error: SdkError<E, HttpResponse>) -> PortError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let (status, code, message) = match &error {
        SdkError::ServiceError(context) => (
            context.raw().status().as_u16(),
            context.err().code().unwrap_or_default().to_owned(),
            context.err().message().unwrap_or_default().to_owned(),
        ),
        // It never left the house, for a reason that will not go away.
        SdkError::ConstructionFailure(_) => {
            return refused(operation, "ConstructionFailure", with_causes(&error));
        }
        SdkError::DispatchFailure(_) if lacks_credentials(&error) => {
            return refused(operation, "CredentialsNotLoaded", with_causes(&error));
        }
        // Time-outs, resets, answers that can't be read, and whatever the SDK comes to add.
        _ => {
            return PortError::Unknown {
                operation,
                message: with_causes(&error),
            };
        }
    };
    classify(operation, status, code, message)
}

/// Judges an answer by its HTTP status and its error code.
pub(crate) fn classify(operation: &'static str, status: u16, code: String, message: String) -> PortError {
    let message = if message.is_empty() {
        format!("http status {status}")
    } else {
        message
    };
    if is_throttling(&code) {
        return PortError::Throttled { operation, message };
    }
    match (status, code.as_str()) {
        (412, _) | (_, "PreconditionFailed") => PortError::PreconditionFailed { operation },
        (409, _) => PortError::Conflict { operation },
        (429, _) => PortError::Throttled { operation, message },
        // S3 answers 400 RequestTimeout when a body stops arriving.
        (408 | 500.., _) | (_, "RequestTimeout" | "InternalServerError" | "InternalError") => {
            PortError::Unknown { operation, message }
        }
        (_, "") => refused(operation, &format!("http status {status}"), message),
        _ => PortError::Refused {
            operation,
            code,
            message,
        },
    }
}

/// A refusal with a code of our own.
pub(crate) fn refused(operation: &'static str, code: &str, message: impl Into<String>) -> PortError {
    PortError::Refused {
        operation,
        code: code.to_owned(),
        message: message.into(),
    }
}

/// The error and what caused it, in one line: `dispatch failure: io error: connection refused`.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        // Some errors repeat what caused them in their own words.
        if !text.ends_with(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

/// Did the request fail because there are no credentials to sign it with? A provider that merely timed out may
/// recover and does not count.
fn lacks_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<CredentialsError>() {
            return matches!(
                error,
                CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)
            );
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, code: &str) -> &'static str {
        match classify("test:Operation", status, code.to_owned(), String::new()) {
            PortError::Throttled { .. } => "throttled",
            PortError::PreconditionFailed { .. } => "precondition failed",
            PortError::Conflict { .. } => "conflict",
            PortError::Unknown { .. } => "unknown",
            PortError::Refused { .. } => "refused",
        }
    }

    #[test]
    fn throttling_codes_are_sorted_for_the_search() {
        assert!(THROTTLING.is_sorted());
        assert!(THROTTLING.iter().all(|code| is_throttling(code)));
        assert!(!is_throttling("ValidationException"));
    }

    #[test]
    fn each_answer_has_its_kind() {
        for (status, code, expected) in [
            (400, "ProvisionedThroughputExceededException", "throttled"),
            (400, "ThrottlingException", "throttled"),
            (503, "SlowDown", "throttled"),
            (429, "TooManyRequestsException", "throttled"),
            (429, "", "throttled"),
            (412, "PreconditionFailed", "precondition failed"),
            (412, "", "precondition failed"),
            (409, "ConditionalRequestConflict", "conflict"),
            (409, "ResourceConflictException", "conflict"),
            (500, "InternalServerError", "unknown"),
            (500, "", "unknown"),
            (502, "", "unknown"),
            (503, "ServiceUnavailable", "unknown"),
            (400, "RequestTimeout", "unknown"),
            (200, "InternalError", "unknown"),
            (408, "", "unknown"),
            (400, "ValidationException", "refused"),
            (400, "AccessDeniedException", "refused"),
            (400, "ResourceNotFoundException", "refused"),
            (403, "AccessDenied", "refused"),
            (404, "NoSuchBucket", "refused"),
            (301, "PermanentRedirect", "refused"),
        ] {
            assert_eq!(kind(status, code), expected, "{status} {code}");
        }
    }

    #[test]
    fn a_refusal_without_a_code_names_its_status() {
        let error = classify("s3:HeadObject", 403, String::new(), String::new());
        assert_eq!(
            error.to_string(),
            "s3:HeadObject was refused (http status 403): http status 403"
        );
    }

    #[test]
    fn a_time_out_is_no_definite_answer() {
        type Failure = SdkError<
            aws_sdk_dynamodb::operation::batch_execute_statement::BatchExecuteStatementError,
            HttpResponse,
        >;
        let error: Failure = SdkError::timeout_error("too slow");
        let expected = PortError::Unknown {
            operation: "dynamodb:BatchExecuteStatement",
            message: "request has timed out: too slow".to_owned(),
        };
        assert_eq!(port_error("dynamodb:BatchExecuteStatement", error), expected);
    }

    #[test]
    fn missing_credentials_are_a_refusal() {
        type Failure = SdkError<
            aws_sdk_dynamodb::operation::batch_execute_statement::BatchExecuteStatementError,
            HttpResponse,
        >;
        use aws_smithy_runtime_api::client::result::ConnectorError;
        let missing = CredentialsError::not_loaded("no provider in the chain had any");
        let error: Failure = SdkError::dispatch_failure(ConnectorError::other(missing.into(), None));
        assert!(matches!(
            port_error("dynamodb:BatchExecuteStatement", error),
            PortError::Refused { .. }
        ));
        let slow = CredentialsError::provider_timed_out(std::time::Duration::from_secs(1));
        let error: Failure = SdkError::dispatch_failure(ConnectorError::other(slow.into(), None));
        assert!(matches!(
            port_error("dynamodb:BatchExecuteStatement", error),
            PortError::Unknown { .. }
        ));
    }
}
