//! The workers' functions as people look at them and set them up: what is configured, who may start them, and where their
//! asynchronous invocations send how they ended. Nothing of this is needed to dispatch.
//!
//! Permissions: `lambda:GetFunction`, `lambda:InvokeFunction`, `lambda:GetFunctionEventInvokeConfig`, and to change it
//! `lambda:PutFunctionEventInvokeConfig` and `lambda:DeleteFunctionEventInvokeConfig`; `sqs:GetQueueAttributes`.

use std::time::Duration;

use aws_sdk_lambda::types::{DestinationConfig, InvocationType, OnFailure, OnSuccess, State};
use aws_sdk_sqs::types::QueueAttributeName;
use jobmill_engine::ports::{PortError, PortResult};
use serde::{Deserialize, Serialize};

use crate::clients::Clients;
use crate::error::{port_error, refused};
use crate::workers::of_refusal;

const GET: &str = "lambda:GetFunction";
const INVOKE: &str = "lambda:InvokeFunction";
const GET_EVENT_CONFIG: &str = "lambda:GetFunctionEventInvokeConfig";
const PUT_EVENT_CONFIG: &str = "lambda:PutFunctionEventInvokeConfig";
const DELETE_EVENT_CONFIG: &str = "lambda:DeleteFunctionEventInvokeConfig";
const ATTRIBUTES: &str = "sqs:GetQueueAttributes";

/// What is configured of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionSettings {
    /// The role that it runs as.
    pub role: String,
    /// How long it may run.
    pub timeout: Duration,
    /// Its reserved concurrency; none: it shares what the account has.
    pub reserved_concurrency: Option<u32>,
    /// Why it can't run, if Lambda says so.
    pub failed: Option<String>,
}

/// Why a function can't be looked at or started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The stable type, e.g. `FunctionNotFound`, `AccessDenied`.
    pub kind: &'static str,
    /// What Lambda said.
    pub message: String,
    /// What to do.
    pub cure: String,
}

/// How the asynchronous invocations of a function, version or alias are handled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EventSettings {
    /// How often Lambda tries again after an error; none: twice.
    pub maximum_retry_attempts: Option<u32>,
    /// How long an event may wait, in seconds; none: six hours.
    pub maximum_event_age: Option<u32>,
    /// The ARN that is told of successes.
    pub on_success: Option<String>,
    /// The ARN that is told of failures.
    pub on_failure: Option<String>,
}

/// What is configured of a function (a name or an ARN, with or without a version or alias).
///
/// # Errors
/// `Ok(Err)`: there is no such function, or it may not be looked at.
pub async fn function_settings(
    clients: &Clients,
    function: &str,
) -> PortResult<Result<FunctionSettings, Refusal>> {
    let answer = clients.lambda.get_function().function_name(function).send().await;
    let found = match answer {
        Ok(found) => found,
        Err(error) => return refusal(GET, port_error(GET, error)),
    };
    let reserved = found
        .concurrency
        .and_then(|concurrency| concurrency.reserved_concurrent_executions);
    let configuration = found.configuration;
    let configuration = configuration.as_ref();
    let seconds = configuration.and_then(|configuration| configuration.timeout());
    let failed = configuration.filter(|configuration| configuration.state() == Some(&State::Failed));
    Ok(Ok(FunctionSettings {
        role: configuration
            .and_then(|it| it.role())
            .unwrap_or_default()
            .to_owned(),
        // Lambda gives each function one; 3 s is its default.
        timeout: Duration::from_secs(
            seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .unwrap_or(3),
        ),
        reserved_concurrency: reserved.and_then(|reserved| u32::try_from(reserved).ok()),
        failed: failed.map(|it| it.state_reason().unwrap_or("Lambda does not say why").to_owned()),
    }))
}

/// Whether these credentials may start a function. Nothing is started (`DryRun`).
///
/// # Errors
/// `Ok(Err)`: they may not, or there is no such function.
pub async fn may_invoke(clients: &Clients, function: &str) -> PortResult<Result<(), Refusal>> {
    let answer = clients
        .lambda
        .invoke()
        .function_name(function)
        .invocation_type(InvocationType::DryRun)
        .send()
        .await;
    match answer {
        Ok(_) => Ok(Ok(())),
        Err(error) => refusal(INVOKE, port_error(INVOKE, error)),
    }
}

/// How the asynchronous invocations of a function are handled; none: as Lambda does it by default.
///
/// # Errors
/// As of any request; a function that is not there has no settings.
pub async fn event_settings(clients: &Clients, function: &str) -> PortResult<Option<EventSettings>> {
    let answer = clients
        .lambda
        .get_function_event_invoke_config()
        .function_name(function)
        .send()
        .await;
    let found = match answer.map_err(|error| port_error(GET_EVENT_CONFIG, error)) {
        Ok(found) => found,
        Err(PortError::Refused { code, .. }) if code == "ResourceNotFoundException" => return Ok(None),
        Err(error) => return Err(error),
    };
    let number = |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok());
    let (on_success, on_failure) = found.destination_config.map_or((None, None), |config| {
        (
            config.on_success.and_then(|to| to.destination),
            config.on_failure.and_then(|to| to.destination),
        )
    });
    Ok(Some(EventSettings {
        maximum_retry_attempts: number(found.maximum_retry_attempts),
        maximum_event_age: number(found.maximum_event_age_in_seconds),
        on_success,
        on_failure,
    }))
}

/// Sets how the asynchronous invocations of a function are handled, wholly; none: as Lambda does it by default.
///
/// # Errors
/// `Refused` with the code `InvalidParameterValueException` also where Lambda finds that the function's role may not send
/// to a destination.
pub async fn set_event_settings(
    clients: &Clients,
    function: &str,
    settings: Option<&EventSettings>,
) -> PortResult<()> {
    let Some(settings) = settings else {
        let request = clients
            .lambda
            .delete_function_event_invoke_config()
            .function_name(function);
        return match request
            .send()
            .await
            .map_err(|error| port_error(DELETE_EVENT_CONFIG, error))
        {
            Ok(_) => Ok(()),
            Err(PortError::Refused { code, .. }) if code == "ResourceNotFoundException" => Ok(()),
            Err(error) => Err(error),
        };
    };
    let number = |value: Option<u32>| value.and_then(|value| i32::try_from(value).ok());
    let on_success = OnSuccess::builder().set_destination(settings.on_success.clone());
    let on_failure = OnFailure::builder().set_destination(settings.on_failure.clone());
    let destinations = DestinationConfig::builder()
        .on_success(on_success.build())
        .on_failure(on_failure.build());
    clients
        .lambda
        .put_function_event_invoke_config()
        .function_name(function)
        .set_maximum_retry_attempts(number(settings.maximum_retry_attempts))
        .set_maximum_event_age_in_seconds(number(settings.maximum_event_age))
        .destination_config(destinations.build())
        .send()
        .await
        .map_err(|error| port_error(PUT_EVENT_CONFIG, error))?;
    Ok(())
}

/// The ARN of the queue at a URL.
///
/// # Errors
/// `Refused` if there is no such queue, or it may not be looked at.
pub async fn queue_arn(clients: &Clients, url: &str) -> PortResult<String> {
    let answer = clients
        .sqs()
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(QueueAttributeName::QueueArn)
        .send()
        .await
        .map_err(|error| port_error(ATTRIBUTES, error))?;
    let arn = answer
        .attributes
        .and_then(|mut attributes| attributes.remove(&QueueAttributeName::QueueArn));
    arn.ok_or_else(|| {
        refused(
            ATTRIBUTES,
            "NoArn",
            format!("{url} has no ARN: it is no queue of SQS"),
        )
    })
}

/// A refusal by what it means for the function; other errors as they are.
fn refusal<T>(permission: &'static str, error: PortError) -> PortResult<Result<T, Refusal>> {
    let PortError::Refused { code, message, .. } = error else {
        return Err(error);
    };
    let (kind, cure) = match code.as_str() {
        "AccessDeniedException" | "AccessDenied" => (
            "AccessDenied",
            format!("allow `{permission}` on it, to these credentials and to the role that dispatches"),
        ),
        code => of_refusal(code, permission),
    };
    Ok(Err(Refusal { kind, message, cure }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_what_to_do_and_other_errors_stay_what_they_are() {
        let of = |code: &str| refusal::<()>(INVOKE, refused(INVOKE, code, "because"));
        for (code, kind, cure) in [
            (
                "ResourceNotFoundException",
                "FunctionNotFound",
                "create the function",
            ),
            (
                "AccessDeniedException",
                "AccessDenied",
                "allow `lambda:InvokeFunction`",
            ),
            ("SomethingNew", "Refused", "look at the function"),
        ] {
            let refused = of(code).unwrap().unwrap_err();
            assert_eq!((refused.kind, refused.message.as_str()), (kind, "because"));
            assert!(refused.cure.contains(cure), "{refused:?}");
        }
        let unanswered = PortError::Unknown {
            operation: INVOKE,
            message: "reset".to_owned(),
        };
        assert_eq!(refusal::<()>(INVOKE, unanswered.clone()), Err(unanswered));
    }
}
