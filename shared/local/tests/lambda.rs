//! Lambda through the SDK, with a real process behind it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod support;

use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_lambda::Client;
use aws_sdk_lambda::error::ProvideErrorMetadata;
use aws_sdk_lambda::operation::invoke::InvokeOutput;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{DestinationConfig, InvocationType, OnFailure, OnSuccess};
use jobmill_local::{
    Effect, FunctionSpec, InvocationKind, InvocationOutcome, LocalCloud, LocalCloudOptions, LocalError, Rule,
    Service,
};
use serde_json::{Value, json};

/// Long enough for a process to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(10);

fn echo() -> FunctionSpec {
    FunctionSpec::new("echo", env!("CARGO_BIN_EXE_local-echo-function"))
        .timeout(PATIENCE)
        .retry_delays([SOON, SOON])
}

async fn start(spec: FunctionSpec) -> (LocalCloud, Client) {
    let cloud = support::cloud().await;
    cloud.register_function(spec);
    let client = support::lambda(&cloud);
    (cloud, client)
}

async fn invoke(client: &Client, name: &str, event: Value) -> InvokeOutput {
    client
        .invoke()
        .function_name(name)
        .payload(Blob::new(event.to_string()))
        .send()
        .await
        .unwrap()
}

fn answer(output: &InvokeOutput) -> Value {
    serde_json::from_slice(output.payload().unwrap().as_ref()).unwrap()
}

async fn send(client: &Client, event: Value) {
    let invoke = client
        .invoke()
        .function_name("echo")
        .invocation_type(InvocationType::Event);
    let sent = invoke.payload(Blob::new(event.to_string())).send().await.unwrap();
    assert_eq!(sent.status_code(), 202);
}

#[tokio::test]
async fn a_waiting_caller_gets_the_answer() {
    let (cloud, client) = start(echo()).await;
    let output = invoke(&client, "echo", json!({"a": [1, 2.50]})).await;
    assert_eq!(output.status_code(), 200);
    assert_eq!(output.function_error(), None);
    assert_eq!(output.executed_version(), Some("$LATEST"));
    assert_eq!(answer(&output), json!({"a": [1, 2.50]}));
    let records = cloud.invocations();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].kind, InvocationKind::RequestResponse);
    assert!(records[0].started.unwrap() <= records[0].ended.unwrap());
    assert_eq!(cloud.stats().requests(Service::Lambda, "Invoke"), 1);
}

#[tokio::test]
async fn the_function_is_told_its_deadline_and_its_arn() {
    let (cloud, client) = start(echo().timeout(Duration::from_millis(20_250))).await;
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:echo:live";
    let told = answer(&invoke(&client, arn, json!({"describe": true})).await);
    assert_eq!(told["arn"], arn);
    let record = &cloud.invocations()[0];
    assert_eq!(told["request_id"], record.request_id);
    let deadline = record.started.unwrap() + Duration::from_millis(20_250);
    let deadline = deadline.duration_since(UNIX_EPOCH).unwrap().as_millis();
    assert_eq!(u128::from(told["deadline_ms"].as_u64().unwrap()), deadline);
    let told = client
        .invoke()
        .function_name("echo")
        .qualifier("live")
        .payload(Blob::new(r#"{"describe": true}"#));
    assert_eq!(answer(&told.send().await.unwrap())["arn"], arn);
}

#[tokio::test]
async fn the_environment_is_the_one_of_lambda_and_no_more() {
    let (cloud, client) = start(echo().env("JOBMILL_CONFIG", "{}")).await;
    let expected = [
        ("AWS_LAMBDA_FUNCTION_NAME", json!("echo")),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", json!("128")),
        ("AWS_LAMBDA_FUNCTION_VERSION", json!("$LATEST")),
        ("AWS_LAMBDA_LOG_GROUP_NAME", json!("/aws/lambda/echo")),
        ("AWS_REGION", json!("us-east-1")),
        ("AWS_ENDPOINT_URL", json!(cloud.endpoint())),
        ("JOBMILL_CONFIG", json!("{}")),
        ("CARGO_MANIFEST_DIR", Value::Null),
    ];
    for (name, value) in expected {
        assert_eq!(
            answer(&invoke(&client, "echo", json!({"env": name})).await),
            value,
            "{name}"
        );
    }
}

#[tokio::test]
async fn an_instance_is_used_again_and_replaced_when_it_exits() {
    let (cloud, client) = start(echo()).await;
    let pid = async || answer(&invoke(&client, "echo", json!({"describe": true})).await)["pid"].clone();
    let first = pid().await;
    assert_eq!(pid().await, first);
    let crashed = invoke(&client, "echo", json!({"exit": 3})).await;
    assert_eq!(crashed.function_error(), Some("Unhandled"));
    assert_eq!(answer(&crashed)["errorType"], "Runtime.ExitError");
    assert_ne!(pid().await, first);
    assert_eq!(
        cloud.invocations()[2].outcome,
        Some(InvocationOutcome::Crashed("error: exit status: 3".to_owned()))
    );
}

#[tokio::test]
async fn an_error_of_the_function_is_told_and_the_instance_stays() {
    let (cloud, client) = start(echo()).await;
    let failed = invoke(&client, "echo", json!({"fail": true})).await;
    assert_eq!(
        (failed.status_code(), failed.function_error()),
        (200, Some("Unhandled"))
    );
    assert_eq!(
        answer(&failed),
        json!({"errorType": "Echo.Told", "errorMessage": "failed as told"})
    );
    assert_eq!(cloud.instances(), 1);
}

#[tokio::test]
async fn a_hanging_function_is_killed_at_its_deadline() {
    let (cloud, client) = start(echo().timeout(Duration::from_millis(300))).await;
    // The process starts before the clock does.
    let hung = invoke(&client, "echo", json!({"hang": true})).await;
    assert_eq!(hung.function_error(), Some("Unhandled"));
    assert_eq!(answer(&hung)["errorType"], "Sandbox.Timedout");
    assert!(
        answer(&hung)["errorMessage"]
            .as_str()
            .unwrap()
            .ends_with("Task timed out after 0.30 seconds")
    );
    let record = &cloud.invocations()[0];
    assert_eq!(record.outcome, Some(InvocationOutcome::TimedOut));
    let took = record
        .ended
        .unwrap()
        .duration_since(record.started.unwrap())
        .unwrap();
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert_eq!(
        answer(&invoke(&client, "echo", json!({"ok": 1})).await),
        json!({"ok": 1})
    );
}

#[tokio::test]
async fn a_failed_event_is_tried_again_twice_with_the_same_id() {
    let (cloud, client) = start(echo()).await;
    send(&client, json!({"fail": true})).await;
    cloud.wait_idle(PATIENCE).await.unwrap();
    let records = cloud.invocations();
    assert_eq!(
        records.iter().map(|record| record.attempt).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert!(
        records
            .iter()
            .all(|record| record.request_id == records[0].request_id)
    );
    assert!(records.iter().all(|record| record.kind == InvocationKind::Event));
    let failed = |outcome: &Option<InvocationOutcome>| matches!(outcome, Some(InvocationOutcome::Failed { error_type, .. }) if error_type == "Echo.Told");
    assert!(records.iter().all(|record| failed(&record.outcome)));
}

#[tokio::test]
async fn events_run_side_by_side_up_to_the_limit() {
    let (cloud, client) = start(echo().max_concurrency(3)).await;
    for index in 0..12 {
        send(&client, json!({ "index": index })).await;
    }
    cloud.wait_idle(PATIENCE).await.unwrap();
    let records = cloud.invocations();
    assert_eq!(records.len(), 12);
    assert!(
        records
            .iter()
            .all(|record| matches!(record.outcome, Some(InvocationOutcome::Succeeded(_))))
    );
    assert!(cloud.instances() <= 3, "{}", cloud.instances());
}

#[tokio::test]
async fn a_caller_who_waits_is_turned_away_when_all_instances_are_busy() {
    let (cloud, client) = start(echo().max_concurrency(1).retry_delays([])).await;
    cloud.invoke_event("echo", r#"{"hang": true}"#).unwrap();
    cloud.wait_log("hanging", PATIENCE).await.unwrap();
    let error = client.invoke().function_name("echo").send().await.unwrap_err();
    assert!(error.as_service_error().unwrap().is_too_many_requests_exception());
    assert!(matches!(
        cloud.wait_idle(Duration::ZERO).await,
        Err(LocalError::NotIdle { pending: 1, .. })
    ));
    assert_eq!(cloud.kill_all_instances(), 1);
    cloud.wait_idle(PATIENCE).await.unwrap();
    assert_eq!(
        answer(&invoke(&client, "echo", json!({"ok": 1})).await),
        json!({"ok": 1})
    );
}

#[tokio::test]
async fn a_killed_instance_fails_its_event_which_runs_again() {
    let (cloud, _client) = start(echo().retry_delays([SOON])).await;
    let id = cloud.invoke_event("echo", r#"{"hang": true}"#).unwrap();
    cloud.wait_log(&format!("hanging {id}"), PATIENCE).await.unwrap();
    assert!(cloud.kill_random().is_some());
    let second = async {
        loop {
            let lines = cloud
                .logs()
                .iter()
                .filter(|line| line.text == format!("hanging {id}"))
                .count();
            if lines == 2 {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, second).await.unwrap();
    assert_eq!(cloud.kill_all_instances(), 1);
    cloud.wait_idle(PATIENCE).await.unwrap();
    let records = cloud.invocations();
    assert_eq!(records.len(), 2);
    assert_ne!(records[0].instance, records[1].instance);
    assert!(matches!(&records[0].outcome, Some(InvocationOutcome::Crashed(how)) if how.contains("killed")));
}

#[tokio::test]
async fn an_event_whose_function_cannot_start_fails() {
    for (how, error_type) in [
        ("error", "Echo.NoStart"),
        ("exit", ""),
        ("hang", "Runtime.InitTimeout"),
    ] {
        let mut spec = echo().env("ECHO_INIT", how).retry_delays([]);
        if how == "hang" {
            spec.init_timeout = Duration::from_millis(100);
        }
        let (cloud, client) = start(spec).await;
        let failed = invoke(&client, "echo", json!({})).await;
        assert_eq!(failed.function_error(), Some("Unhandled"), "{how}");
        cloud.wait_idle(PATIENCE).await.unwrap();
        match &cloud.invocations()[0].outcome {
            Some(InvocationOutcome::Failed { error_type: told, .. }) => assert_eq!(told, error_type),
            Some(InvocationOutcome::Crashed(words)) => {
                assert_eq!((how, words.as_str()), ("exit", "error: exit status: 7"))
            }
            other => panic!("{how}: {other:?}"),
        }
    }
    let (_cloud, client) = start(FunctionSpec::new("echo", "/nowhere/bootstrap")).await;
    let failed = invoke(&client, "echo", json!({})).await;
    assert_eq!(answer(&failed)["errorType"], "Runtime.InvalidEntrypoint");
}

#[tokio::test]
async fn what_the_function_prints_is_kept() {
    let (cloud, client) = start(echo()).await;
    invoke(&client, "echo", json!({"print": "hello there"})).await;
    let line = cloud.wait_log("hello there on stderr", PATIENCE).await.unwrap();
    assert_eq!((line.function.as_str(), line.instance), ("echo", 1));
    assert!(cloud.wait_log("never printed", Duration::ZERO).await.is_err());
}

#[tokio::test]
async fn what_is_not_right_is_refused() {
    let (_cloud, client) = start(echo()).await;
    let error = client.invoke().function_name("nobody").send().await.unwrap_err();
    assert!(
        error
            .as_service_error()
            .unwrap()
            .is_resource_not_found_exception()
    );
    let error = client
        .invoke()
        .function_name("echo")
        .payload(Blob::new("{"))
        .send()
        .await
        .unwrap_err();
    assert!(
        error
            .as_service_error()
            .unwrap()
            .is_invalid_request_content_exception()
    );
    let large = json!("x".repeat(1 << 20)).to_string();
    let error = client
        .invoke()
        .function_name("echo")
        .invocation_type(InvocationType::Event)
        .payload(Blob::new(large));
    assert!(
        error
            .send()
            .await
            .unwrap_err()
            .as_service_error()
            .unwrap()
            .is_request_too_large_exception()
    );
}

#[tokio::test]
async fn a_dry_run_says_whether_there_is_such_a_function_and_starts_nothing() {
    let (cloud, client) = start(echo()).await;
    let dry = |name: &str| {
        let request = client.invoke().function_name(name);
        request.invocation_type(InvocationType::DryRun).send()
    };
    assert_eq!(dry("echo").await.unwrap().status_code(), 204);
    let error = dry("missing").await.unwrap_err();
    assert_eq!(error.code(), Some("ResourceNotFoundException"));
    assert_eq!(cloud.invocations(), []);
}

#[tokio::test]
async fn invokes_can_be_lost_doubled_throttled_unanswered_and_late() {
    let (cloud, client) = start(echo()).await;
    let faults = cloud.faults();
    let rule = |effect| {
        Rule::new(Service::Lambda, effect)
            .on("Invoke")
            .naming("echo")
            .times(1)
    };

    faults.add(rule(Effect::LoseInvoke));
    send(&client, json!({"n": 1})).await;
    cloud.wait_idle(PATIENCE).await.unwrap();
    assert_eq!(cloud.invocations().len(), 1);
    assert_eq!(cloud.invocations()[0].outcome, Some(InvocationOutcome::Lost));

    faults.add(rule(Effect::DoubleInvoke));
    send(&client, json!({"n": 2})).await;
    cloud.wait_idle(PATIENCE).await.unwrap();
    let records = cloud.invocations();
    assert_eq!(records.len(), 3);
    assert_eq!(records[1].request_id, records[2].request_id);

    let event = || {
        client
            .invoke()
            .function_name("echo")
            .invocation_type(InvocationType::Event)
            .send()
    };
    faults.add(rule(Effect::Throttle));
    assert!(
        event()
            .await
            .unwrap_err()
            .as_service_error()
            .unwrap()
            .is_too_many_requests_exception()
    );
    faults.add(rule(Effect::Error));
    assert_eq!(event().await.unwrap_err().code(), Some("ServiceException"));
    assert_eq!(cloud.invocations().len(), 3);
    faults.add(rule(Effect::LoseAnswer));
    assert!(event().await.unwrap_err().raw_response().is_none());
    cloud.wait_idle(PATIENCE).await.unwrap();
    assert_eq!(cloud.invocations().len(), 4);
    assert_eq!(cloud.stats().operation(Service::Lambda, "Invoke").unanswered, 1);

    faults.add(rule(Effect::Late(SOON)));
    assert!(event().await.unwrap_err().raw_response().is_none());
    let arrived = async {
        while cloud.invocations().len() < 5 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, arrived).await.unwrap();
}

/// Sends the records of `echo` to the queues `well` and `badly`; returns their URLs.
async fn with_destinations(cloud: &LocalCloud, client: &Client, retries: Option<i32>) -> [String; 2] {
    let urls = ["well", "badly"].map(|name| cloud.create_queue(name));
    let success = OnSuccess::builder().destination(cloud.queue_arn("well")).build();
    let failure = OnFailure::builder().destination(cloud.queue_arn("badly")).build();
    let destinations = DestinationConfig::builder()
        .on_success(success)
        .on_failure(failure)
        .build();
    let put = client
        .put_function_event_invoke_config()
        .function_name("echo")
        .destination_config(destinations);
    put.set_maximum_retry_attempts(retries).send().await.unwrap();
    urls
}

/// The next record in a queue.
async fn next_record(queues: &aws_sdk_sqs::Client, url: &str) -> Value {
    let received = queues
        .receive_message()
        .queue_url(url)
        .wait_time_seconds(20)
        .send()
        .await
        .unwrap();
    serde_json::from_str(received.messages()[0].body().unwrap()).unwrap()
}

#[tokio::test]
async fn the_end_of_an_event_goes_to_its_destination() {
    let (cloud, client) = start(echo()).await;
    let queues = support::sqs(&cloud);
    let [well, badly] = with_destinations(&cloud, &client, Some(1)).await;

    send(&client, json!({"a": 1.50})).await;
    let mut record = next_record(&queues, &well).await;
    let sent = cloud.invocations()[0].clone();
    let timestamp = record["timestamp"].take();
    let timestamp = timestamp.as_str().unwrap();
    assert!(
        timestamp.len() == 24 && timestamp.ends_with('Z') && timestamp.starts_with("20"),
        "{timestamp}"
    );
    assert_eq!(
        record,
        json!({
            "version": "1.0",
            "timestamp": null,
            "requestContext": {
                "requestId": sent.request_id,
                "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:echo:$LATEST",
                "condition": "Success",
                "approximateInvokeCount": 1,
            },
            "requestPayload": {"a": 1.50},
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
            "responsePayload": {"a": 1.50},
        })
    );

    // One retry, as the function's settings have it and not its two delays.
    send(&client, json!({"fail": true})).await;
    let record = next_record(&queues, &badly).await;
    assert_eq!(record["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 2);
    assert_eq!(
        record["responseContext"],
        json!({"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"})
    );
    assert_eq!(record["responsePayload"]["errorType"], "Echo.Told");

    // A caller who waits gets the answer himself, and an event of another alias has no settings.
    invoke(&client, "echo", json!({"waits": 1})).await;
    let other = client
        .invoke()
        .function_name("echo:live")
        .invocation_type(InvocationType::Event);
    other.send().await.unwrap();
    cloud.wait_idle(PATIENCE).await.unwrap();
    for url in [&well, &badly] {
        assert_eq!(
            queues
                .receive_message()
                .queue_url(url)
                .send()
                .await
                .unwrap()
                .messages(),
            []
        );
    }
}

#[tokio::test]
async fn a_worker_that_is_killed_or_too_slow_is_a_failure_of_its_event() {
    let (cloud, client) = start(echo().timeout(Duration::from_millis(300))).await;
    let queues = support::sqs(&cloud);
    let [_, badly] = with_destinations(&cloud, &client, Some(0)).await;
    for (event, error) in [
        (json!({"hang": true}), "Sandbox.Timedout"),
        (json!({"exit": 3}), "Runtime.ExitError"),
    ] {
        send(&client, event.clone()).await;
        let record = next_record(&queues, &badly).await;
        assert_eq!(record["requestPayload"], event);
        assert_eq!(record["responsePayload"]["errorType"], error);
        assert_eq!(record["requestContext"]["approximateInvokeCount"], 1);
    }
}

#[tokio::test]
async fn an_event_that_waits_too_long_is_given_up() {
    // One instance, at work; the events behind it are throttled until they are too old.
    let spec = echo()
        .max_concurrency(1)
        .max_event_age(Duration::from_millis(500));
    let (cloud, client) = start(spec).await;
    let queues = support::sqs(&cloud);
    let [_, badly] = with_destinations(&cloud, &client, None).await;
    let (first, _) = tokio::join!(
        async {
            client
                .invoke()
                .function_name("echo")
                .payload(Blob::new(r#"{"hang": true}"#))
                .send()
                .await
        },
        async {
            cloud.wait_log("hanging", PATIENCE).await.unwrap();
            send(&client, json!({"late": 1})).await;
            send(&client, json!({"late": 2})).await;
            for number in 1..=2 {
                let record = next_record(&queues, &badly).await;
                assert_eq!(record["requestPayload"], json!({"late": number}));
                assert_eq!(record["requestContext"]["condition"], "EventAgeExceeded");
                assert_eq!(record["requestContext"]["approximateInvokeCount"], 0);
                assert_eq!(record.get("responsePayload"), None);
            }
            cloud.kill_all_instances();
        }
    );
    assert_eq!(first.unwrap().function_error(), Some("Unhandled"));
    cloud.wait_idle(PATIENCE).await.unwrap();
    assert_eq!(cloud.invocations().len(), 1, "what was given up never ran");
}

#[tokio::test]
async fn a_retry_that_would_come_too_late_is_not_made() {
    let spec = echo()
        .max_event_age(Duration::from_secs(5))
        .retry_delays([Duration::from_secs(60)]);
    let (cloud, client) = start(spec).await;
    let queues = support::sqs(&cloud);
    let [_, badly] = with_destinations(&cloud, &client, None).await;
    send(&client, json!({"fail": true})).await;
    let record = next_record(&queues, &badly).await;
    assert_eq!(record["requestContext"]["condition"], "EventAgeExceeded");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 1);
    assert_eq!(record["responsePayload"]["errorType"], "Echo.Told");
}

#[tokio::test]
async fn a_function_without_any_concurrency_runs_nothing() {
    let (cloud, client) = start(echo().max_concurrency(0)).await;
    let queues = support::sqs(&cloud);
    let [_, badly] = with_destinations(&cloud, &client, None).await;
    let error = client.invoke().function_name("echo").send().await.unwrap_err();
    assert!(error.as_service_error().unwrap().is_too_many_requests_exception());
    send(&client, json!({"n": 1})).await;
    assert_eq!(
        next_record(&queues, &badly).await["requestPayload"],
        json!({"n": 1})
    );
    assert_eq!(cloud.invocations(), []);
}

#[tokio::test]
async fn how_events_are_handled_is_set_read_changed_and_taken_back() {
    let (cloud, client) = start(echo()).await;
    let get = || {
        client
            .get_function_event_invoke_config()
            .function_name("echo")
            .send()
    };
    let missing = get().await.unwrap_err();
    assert!(
        missing
            .as_service_error()
            .unwrap()
            .is_resource_not_found_exception()
    );
    let update = |retries| {
        client
            .update_function_event_invoke_config()
            .function_name("echo")
            .maximum_retry_attempts(retries)
            .send()
    };
    assert!(
        update(1)
            .await
            .unwrap_err()
            .as_service_error()
            .unwrap()
            .is_resource_not_found_exception()
    );

    with_destinations(&cloud, &client, Some(0)).await;
    let put = get().await.unwrap();
    assert_eq!(
        put.function_arn(),
        Some("arn:aws:lambda:us-east-1:000000000000:function:echo:$LATEST")
    );
    assert_eq!(
        (put.maximum_retry_attempts(), put.maximum_event_age_in_seconds()),
        (Some(0), None)
    );
    let failure = put.destination_config().unwrap().on_failure().unwrap();
    assert_eq!(failure.destination(), Some(cloud.queue_arn("badly").as_str()));

    // An update changes what it names, a put all.
    let updated = client
        .update_function_event_invoke_config()
        .function_name("echo")
        .maximum_event_age_in_seconds(60);
    let updated = updated.send().await.unwrap();
    assert_eq!(
        (
            updated.maximum_retry_attempts(),
            updated.maximum_event_age_in_seconds()
        ),
        (Some(0), Some(60))
    );
    assert!(
        updated
            .destination_config()
            .unwrap()
            .on_success()
            .unwrap()
            .destination()
            .is_some()
    );
    let alias = client
        .put_function_event_invoke_config()
        .function_name("echo")
        .qualifier("live");
    alias.maximum_retry_attempts(2).send().await.unwrap();
    let listed = client
        .list_function_event_invoke_configs()
        .function_name("echo")
        .send()
        .await
        .unwrap();
    assert_eq!(listed.function_event_invoke_configs().len(), 2);
    let replaced = client
        .put_function_event_invoke_config()
        .function_name("echo")
        .maximum_retry_attempts(1);
    let replaced = replaced.send().await.unwrap();
    assert_eq!(
        (
            replaced.maximum_retry_attempts(),
            replaced.maximum_event_age_in_seconds()
        ),
        (Some(1), None)
    );
    assert_eq!(
        replaced
            .destination_config()
            .unwrap()
            .on_success()
            .unwrap()
            .destination(),
        None
    );

    let put = || client.put_function_event_invoke_config().function_name("echo");
    let topic = OnFailure::builder()
        .destination("arn:aws:sns:us-east-1:000000000000:topic")
        .build();
    for wrong in [
        put().maximum_retry_attempts(3),
        put().maximum_event_age_in_seconds(59),
        put().destination_config(DestinationConfig::builder().on_failure(topic).build()),
    ] {
        let error = wrong.send().await.unwrap_err();
        assert!(
            error
                .as_service_error()
                .unwrap()
                .is_invalid_parameter_value_exception(),
            "{error:?}"
        );
    }
    let delete = || {
        client
            .delete_function_event_invoke_config()
            .function_name("echo")
            .send()
    };
    delete().await.unwrap();
    assert!(delete().await.is_err());
    assert!(get().await.is_err());
}

#[tokio::test]
async fn what_a_function_is_can_be_asked() {
    let (_cloud, client) = start(echo().timeout(Duration::from_millis(20_250))).await;
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:echo";
    for name in ["echo", arn] {
        let found = client
            .get_function_configuration()
            .function_name(name)
            .send()
            .await
            .unwrap();
        assert_eq!((found.function_arn(), found.timeout()), (Some(arn), Some(21)));
    }
    let found = client.get_function().function_name("echo").send().await.unwrap();
    assert_eq!(found.configuration().unwrap().timeout(), Some(21));
    assert_eq!(
        found.concurrency().unwrap().reserved_concurrent_executions(),
        Some(10)
    );
    let error = client
        .get_function_configuration()
        .function_name("nobody")
        .send()
        .await
        .unwrap_err();
    assert!(
        error
            .as_service_error()
            .unwrap()
            .is_resource_not_found_exception()
    );
    assert_eq!(
        client
            .get_policy()
            .function_name("echo")
            .send()
            .await
            .unwrap_err()
            .code(),
        Some("UnknownOperationException")
    );
}

#[tokio::test]
async fn instances_end_with_the_cloud() {
    let cloud = LocalCloud::start(LocalCloudOptions::default().threads(1))
        .await
        .unwrap();
    cloud.register_function(echo());
    let told = cloud.invoke("echo", r#"{"describe": true}"#).await.unwrap();
    let told: Value = serde_json::from_slice(&told.payload).unwrap();
    let process = format!("/proc/{}/stat", told["pid"]);
    cloud.invoke_event("echo", r#"{"hang": true}"#).unwrap();
    cloud.wait_log("hanging", PATIENCE).await.unwrap();
    let endpoint = cloud.endpoint();
    drop(cloud);
    // Gone, or a zombie that nobody has waited for yet.
    let gone = async {
        while std::fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    // A process that another test is just starting may hold a copy of the socket until it has become its program.
    let address = endpoint.strip_prefix("http://").unwrap();
    let refused = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
}
