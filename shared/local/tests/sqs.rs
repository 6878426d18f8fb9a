//! SQS through the SDK.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName, QueueAttributeName,
    SendMessageBatchRequestEntry,
};
use jobmill_local::{Effect, LocalCloud, Rule, Service};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(30);

async fn start() -> (LocalCloud, Client, String) {
    let cloud = support::cloud().await;
    let client = support::sqs(&cloud);
    let url = cloud.create_queue("outcomes");
    (cloud, client, url)
}

async fn send(client: &Client, url: &str, body: &str) {
    let sent = client
        .send_message()
        .queue_url(url)
        .message_body(body)
        .send()
        .await;
    sent.unwrap();
}

/// Up to ten messages, without waiting.
async fn receive(client: &Client, url: &str, visibility: i32) -> Vec<Message> {
    let received = client
        .receive_message()
        .queue_url(url)
        .max_number_of_messages(10)
        .visibility_timeout(visibility);
    received.send().await.unwrap().messages.unwrap_or_default()
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.body().unwrap()).collect()
}

/// How many messages are visible, in flight, delayed.
async fn counts(client: &Client, url: &str) -> [String; 3] {
    use QueueAttributeName as Name;
    let names = [
        Name::ApproximateNumberOfMessages,
        Name::ApproximateNumberOfMessagesNotVisible,
        Name::ApproximateNumberOfMessagesDelayed,
    ];
    let asked = client
        .get_queue_attributes()
        .queue_url(url)
        .set_attribute_names(Some(names.to_vec()));
    let found = asked.send().await.unwrap().attributes.unwrap();
    names.map(|name| found[&name].clone())
}

#[tokio::test]
async fn a_queue_is_created_found_and_listed() {
    let (cloud, client, url) = start().await;
    let create = |name: &str| client.create_queue().queue_name(name);
    assert_eq!(
        create("outcomes").send().await.unwrap().queue_url(),
        Some(url.as_str())
    );
    let other = create("slow")
        .attributes(QueueAttributeName::VisibilityTimeout, "5")
        .attributes(QueueAttributeName::ReceiveMessageWaitTimeSeconds, "1");
    let slow = other.send().await.unwrap().queue_url.unwrap();
    let differs = create("slow").send().await.unwrap_err();
    assert!(differs.as_service_error().unwrap().is_queue_name_exists());
    let unknown = create("slow").attributes(QueueAttributeName::RedrivePolicy, "{}");
    assert!(
        unknown
            .send()
            .await
            .unwrap_err()
            .as_service_error()
            .unwrap()
            .is_invalid_attribute_name()
    );
    for name in ["a queue", "queue.fifo", ""] {
        assert_eq!(
            create(name).send().await.unwrap_err().code(),
            Some("InvalidParameterValue"),
            "{name:?}"
        );
    }
    let found = client.get_queue_url().queue_name("slow").send().await.unwrap();
    assert_eq!(found.queue_url(), Some(slow.as_str()));
    let listed = client.list_queues().send().await.unwrap();
    assert_eq!(listed.queue_urls(), [url.clone(), slow.clone()]);
    let listed = client.list_queues().queue_name_prefix("sl").send().await.unwrap();
    assert_eq!(listed.queue_urls(), std::slice::from_ref(&slow));
    let asked = client.get_queue_attributes().queue_url(&slow);
    let attributes = asked
        .attribute_names(QueueAttributeName::All)
        .send()
        .await
        .unwrap()
        .attributes
        .unwrap();
    assert_eq!(attributes[&QueueAttributeName::VisibilityTimeout], "5");
    assert_eq!(attributes[&QueueAttributeName::QueueArn], cloud.queue_arn("slow"));
}

#[tokio::test]
async fn a_message_is_received_once_until_it_shows_again_and_gone_when_deleted() {
    let (cloud, client, url) = start().await;
    let sent = client
        .send_message()
        .queue_url(&url)
        .message_body("hello")
        .send()
        .await
        .unwrap();
    assert_eq!(
        sent.md5_of_message_body(),
        Some("5d41402abc4b2a76b9719d911017c592")
    );
    let first = receive(&client, &url, 60).await;
    assert_eq!(
        (bodies(&first), first[0].message_id()),
        (vec!["hello"], sent.message_id())
    );
    assert_eq!(first[0].md5_of_body(), Some("5d41402abc4b2a76b9719d911017c592"));
    assert_eq!(receive(&client, &url, 60).await, []);
    assert_eq!(counts(&client, &url).await, ["0", "1", "0"]);

    // Shown again at once, it is received a second time, and the first receipt deletes it no more.
    let show = |handle: &str| {
        let change = client.change_message_visibility().queue_url(&url);
        change.receipt_handle(handle).visibility_timeout(0).send()
    };
    show(first[0].receipt_handle().unwrap()).await.unwrap();
    let again = client
        .receive_message()
        .queue_url(&url)
        .message_system_attribute_names(MessageSystemAttributeName::All);
    let again = again.send().await.unwrap().messages.unwrap();
    let attributes = again[0].attributes().unwrap();
    assert_eq!(
        attributes[&MessageSystemAttributeName::ApproximateReceiveCount],
        "2"
    );
    let delete = |handle: &str| {
        client
            .delete_message()
            .queue_url(&url)
            .receipt_handle(handle)
            .send()
    };
    delete(first[0].receipt_handle().unwrap()).await.unwrap();
    assert_eq!(counts(&client, &url).await, ["0", "1", "0"]);
    let handle = again[0].receipt_handle().unwrap();
    delete(handle).await.unwrap();
    delete(handle).await.unwrap();
    assert_eq!(counts(&client, &url).await, ["0", "0", "0"]);
    let error = show(handle).await.unwrap_err();
    assert!(error.as_service_error().unwrap().is_message_not_inflight());
    for handle in ["nonsense", "9.9", "0.0"] {
        let error = delete(handle).await.unwrap_err();
        assert!(
            error.as_service_error().unwrap().is_receipt_handle_is_invalid(),
            "{handle}"
        );
    }
    assert_eq!(cloud.stats().requests(Service::Sqs, "DeleteMessage"), 6);
}

#[tokio::test]
async fn what_was_received_and_not_deleted_comes_again() {
    let (_cloud, client, url) = start().await;
    send(&client, &url, "again").await;
    assert_eq!(bodies(&receive(&client, &url, 1).await), ["again"]);
    // A poll that began while the message was hidden gets it the moment it shows.
    let poll = client.receive_message().queue_url(&url).wait_time_seconds(20);
    let began = Instant::now();
    let again = poll.send().await.unwrap().messages.unwrap();
    assert_eq!(bodies(&again), ["again"]);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // Hidden for no time at all: it comes in each answer, and only once in one.
    send(&client, &url, "at once").await;
    for _ in 0..2 {
        assert_eq!(bodies(&receive(&client, &url, 0).await), ["at once"]);
    }
}

#[tokio::test]
async fn a_long_poll_ends_the_moment_a_message_comes() {
    let (cloud, client, url) = start().await;
    let poll = |seconds| {
        let poll = client
            .receive_message()
            .queue_url(&url)
            .wait_time_seconds(seconds);
        async { poll.send().await.unwrap().messages }
    };
    assert_eq!(poll(1).await, None, "nothing in a second");
    // It is under way for certain when a fault lets it go: the rule fires before the service sees it.
    let rule = cloud.faults().add(
        Rule::new(
            Service::Sqs,
            Effect::Delay {
                min: Duration::ZERO,
                max: Duration::ZERO,
            },
        )
        .on("ReceiveMessage"),
    );
    let waiting = tokio::spawn(poll(20));
    assert!(cloud.faults().wait_fired(rule, 1).await);
    let began = Instant::now();
    send(&client, &url, "now").await;
    let found = tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(bodies(&found), ["now"]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn many_receivers_share_what_there_is() {
    let (_cloud, client, url) = start().await;
    for number in 0..40 {
        send(&client, &url, &number.to_string()).await;
    }
    let one = || async { receive(&client, &url, 60).await };
    let all = tokio::join!(one(), one(), one(), one(), one());
    let all: Vec<Message> = [all.0, all.1, all.2, all.3, all.4].concat();
    let different: BTreeSet<&str> = bodies(&all).into_iter().collect();
    assert_eq!((all.len(), different.len()), (40, 40));
}

#[tokio::test]
async fn a_delayed_message_is_not_there_yet() {
    let (_cloud, client, url) = start().await;
    let delayed = client
        .send_message()
        .queue_url(&url)
        .message_body("later")
        .delay_seconds(900);
    delayed.send().await.unwrap();
    assert_eq!(counts(&client, &url).await, ["0", "0", "1"]);
    assert_eq!(receive(&client, &url, 60).await, []);
    client.purge_queue().queue_url(&url).send().await.unwrap();
    assert_eq!(counts(&client, &url).await, ["0", "0", "0"]);
}

#[tokio::test]
async fn batches_are_taken_entry_by_entry() {
    let (_cloud, client, url) = start().await;
    let entry = |id: &str, body: &str| {
        SendMessageBatchRequestEntry::builder()
            .id(id)
            .message_body(body)
            .build()
            .unwrap()
    };
    let send = |entries: Vec<SendMessageBatchRequestEntry>| {
        client
            .send_message_batch()
            .queue_url(&url)
            .set_entries(Some(entries))
            .send()
    };
    let sent = send(vec![entry("a", "one"), entry("b", "\u{1}"), entry("c", "three")])
        .await
        .unwrap();
    let ids: Vec<&str> = sent.successful().iter().map(|one| one.id()).collect();
    assert_eq!(ids, ["a", "c"]);
    assert_eq!(
        (sent.failed()[0].id(), sent.failed()[0].code()),
        ("b", "InvalidMessageContents")
    );
    let found = receive(&client, &url, 60).await;
    assert_eq!(bodies(&found), ["one", "three"]);
    let delete = |id: &str, handle: &str| {
        DeleteMessageBatchRequestEntry::builder()
            .id(id)
            .receipt_handle(handle)
            .build()
            .unwrap()
    };
    let handles = [
        delete("x", found[0].receipt_handle().unwrap()),
        delete("y", "nonsense"),
    ];
    let deleted = client
        .delete_message_batch()
        .queue_url(&url)
        .set_entries(Some(handles.to_vec()))
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.successful()[0].id(), "x");
    assert_eq!(
        (deleted.failed()[0].id(), deleted.failed()[0].code()),
        ("y", "ReceiptHandleIsInvalid")
    );
    assert_eq!(counts(&client, &url).await, ["0", "1", "0"]);

    let refused = send(Vec::new()).await.unwrap_err();
    assert!(refused.as_service_error().unwrap().is_empty_batch_request());
    let refused = send((0..11).map(|id| entry(&id.to_string(), "x")).collect())
        .await
        .unwrap_err();
    assert!(
        refused
            .as_service_error()
            .unwrap()
            .is_too_many_entries_in_batch_request()
    );
    let refused = send(vec![entry("a", "x"), entry("a", "y")]).await.unwrap_err();
    assert!(
        refused
            .as_service_error()
            .unwrap()
            .is_batch_entry_ids_not_distinct()
    );
    let refused = send(vec![entry("a b", "x")]).await.unwrap_err();
    assert!(refused.as_service_error().unwrap().is_invalid_batch_entry_id());
    let half = "x".repeat(600_000);
    let refused = send(vec![entry("a", &half), entry("b", &half)])
        .await
        .unwrap_err();
    assert!(refused.as_service_error().unwrap().is_batch_request_too_long());
}

#[tokio::test]
async fn what_is_not_right_is_refused() {
    let (_cloud, client, url) = start().await;
    let nowhere = url.replace("outcomes", "nowhere");
    let error = client
        .receive_message()
        .queue_url(&nowhere)
        .send()
        .await
        .unwrap_err();
    assert!(error.as_service_error().unwrap().is_queue_does_not_exist());
    assert_eq!(error.code(), Some("AWS.SimpleQueueService.NonExistentQueue"));
    let error = client
        .get_queue_url()
        .queue_name("nowhere")
        .send()
        .await
        .unwrap_err();
    assert!(error.as_service_error().unwrap().is_queue_does_not_exist());
    let message = |body: String| client.send_message().queue_url(&url).message_body(body).send();
    assert!(message("x".repeat(1 << 20)).await.is_ok());
    let error = message("x".repeat((1 << 20) + 1)).await.unwrap_err();
    assert_eq!(error.code(), Some("InvalidParameterValue"));
    assert_eq!(
        message(String::new()).await.unwrap_err().code(),
        Some("MissingParameter")
    );
    for (most, wait) in [(0, 0), (11, 0), (1, 21), (1, -1)] {
        let poll = client
            .receive_message()
            .queue_url(&url)
            .max_number_of_messages(most)
            .wait_time_seconds(wait);
        assert_eq!(
            poll.send().await.unwrap_err().code(),
            Some("InvalidParameterValue"),
            "{most} {wait}"
        );
    }
    let error = client.delete_queue().queue_url(&url).send().await.unwrap_err();
    assert_eq!(error.code(), Some("AWS.SimpleQueueService.UnsupportedOperation"));
}

#[tokio::test]
async fn faults_happen_to_queues_as_to_everything() {
    let (cloud, client, url) = start().await;
    cloud.create_queue("other");
    let rule = |effect| Rule::new(Service::Sqs, effect).naming("outcomes").times(1);
    let faults = cloud.faults();
    faults.add(rule(Effect::Throttle));
    let error = client.receive_message().queue_url(&url).send().await.unwrap_err();
    assert!(error.as_service_error().unwrap().is_request_throttled());
    let broken = faults.add(rule(Effect::Error));
    client
        .purge_queue()
        .queue_url(url.replace("outcomes", "other"))
        .send()
        .await
        .unwrap();
    assert_eq!(faults.fired(broken), 0);
    let error = client.receive_message().queue_url(&url).send().await.unwrap_err();
    assert_eq!(
        (error.raw_response().unwrap().status().as_u16(), error.code()),
        (500, Some("InternalFailure"))
    );
    // The answer is lost, and the message is hidden.
    send(&client, &url, "lost").await;
    faults.add(rule(Effect::LoseAnswer).on("ReceiveMessage"));
    let error = client.receive_message().queue_url(&url).send().await.unwrap_err();
    assert!(error.raw_response().is_none());
    assert_eq!(counts(&client, &url).await, ["0", "1", "0"]);
    assert_eq!(
        cloud.stats().operation(Service::Sqs, "ReceiveMessage").unanswered,
        1
    );
}
