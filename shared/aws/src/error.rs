//! From the SDK's errors to the engine's: the one place where an answer of AWS is judged.
//! The rule: whatever does not prove that nothing was done is `Unknown`.

use std::error::Error;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use jobmill_engine::ports::PortError;

use crate::problem::{Problem, causes, of_certificate, of_code, with_causes};

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
        // It was not sent, for a reason that will not go away.
        SdkError::ConstructionFailure(_) => {
            return refused(operation, "ConstructionFailure", with_causes(&error));
        }
        SdkError::DispatchFailure(_)
            if let Some(problem) = judged(&error).or_else(|| of_certificate(&error)) =>
        {
            return problem;
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
    if let Some(problem) = of_code(&code, &message) {
        return problem;
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

/// An error of a request to a bucket, which is named in it; `elsewhere` is its region, if S3 said that it is another one.
pub(crate) fn of_bucket(bucket: &str, elsewhere: Option<&str>, error: PortError) -> PortError {
    let PortError::Refused {
        operation,
        code,
        message,
    } = error
    else {
        return error;
    };
    match code.as_str() {
        "NoSuchBucket" => Problem::NoSuchBucket.error(format!(
            "there is no bucket {bucket:?}: correct its name in the configuration, or create it"
        )),
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "http status 301" => {
            let region = elsewhere.unwrap_or("another region");
            Problem::NoSuchBucket.error(format!(
                "the bucket {bucket:?} is in {region}, not in the region of `AWS_REGION` or the profile ({message}): the \
                 program must run in the region of its bucket and tables"
            ))
        }
        _ => PortError::Refused {
            operation,
            code,
            message: format!("{message} (bucket {bucket:?})"),
        },
    }
}

/// An error of a request to tables, which are named in it: `"sosw_tasks"`, or several with commas.
pub(crate) fn of_tables(tables: &str, error: PortError) -> PortError {
    let PortError::Refused {
        operation,
        code,
        message,
    } = error
    else {
        return error;
    };
    match code.as_str() {
        "ResourceNotFoundException" | "ResourceNotFound" | "TableNotFoundException" => {
            Problem::NoSuchTable.error(format!(
                "there is no table {tables} in this account and region: correct its name in the configuration, create it, \
                 or look at `AWS_REGION` and `AWS_PROFILE`"
            ))
        }
        "ValidationException" if message.contains("specified index") => Problem::NoSuchTable.error(format!(
            "the table {tables} lacks its index ({message}): correct its name in the \
             configuration (`index_greenfield`; of the retry table `sosw_retry_tasks_greenfield_index`), or create it"
        )),
        _ => PortError::Refused {
            operation,
            code,
            message: format!("{message} (table {tables})"),
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

/// What was judged before it came through the SDK: the search for credentials.
pub(crate) fn judged(error: &(dyn Error + 'static)) -> Option<PortError> {
    causes(error).find_map(|cause| cause.downcast_ref::<PortError>().cloned())
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
            PortError::Environment { kind, .. } => kind,
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
            (400, "ExpiredTokenException", "ExpiredCredentials"),
            (403, "InvalidAccessKeyId", "InvalidCredentials"),
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
        let error: Failure = SdkError::timeout_error("too slow");
        let expected = PortError::Unknown {
            operation: "dynamodb:BatchExecuteStatement",
            message: "request has timed out: too slow".to_owned(),
        };
        assert_eq!(port_error("dynamodb:BatchExecuteStatement", error), expected);
    }

    type Failure = SdkError<
        aws_sdk_dynamodb::operation::batch_execute_statement::BatchExecuteStatementError,
        HttpResponse,
    >;

    #[test]
    fn what_was_judged_comes_through_the_sdk_as_it_is() {
        use aws_credential_types::provider::error::CredentialsError;
        use aws_smithy_runtime_api::client::result::ConnectorError;
        for judged in [
            Problem::ExpiredCredentials.error("sign in"),
            PortError::Unknown {
                operation: "loading credentials",
                message: "timeout".to_owned(),
            },
        ] {
            let inside = CredentialsError::provider_error(judged.clone());
            let error: Failure = SdkError::dispatch_failure(ConnectorError::other(inside.into(), None));
            assert_eq!(port_error("dynamodb:BatchExecuteStatement", error), judged);
        }
    }

    #[test]
    fn buckets_and_tables_are_named() {
        let said = |code: &str| {
            let error = refused("s3:GetObject", code, "because");
            let (bucket, table) = (of_bucket("b", None, error.clone()), of_tables("\"t\"", error));
            (bucket.to_string(), table.to_string())
        };
        assert!(said("NoSuchBucket").0.starts_with("there is no bucket \"b\""));
        assert!(
            said("http status 301")
                .0
                .starts_with("the bucket \"b\" is in another region")
        );
        assert!(said("AccessDenied").0.ends_with("because (bucket \"b\")"));
        assert!(
            said("ResourceNotFoundException")
                .1
                .starts_with("there is no table \"t\"")
        );
        assert!(said("AccessDeniedException").1.ends_with("because (table \"t\")"));
        let index = refused(
            "dynamodb:Query",
            "ValidationException",
            "The table does not have the specified index: i",
        );
        assert!(of_tables("\"t\"", index).to_string().contains("lacks its index"));
    }
}
