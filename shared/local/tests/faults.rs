//! Injected faults, seen by the SDK.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod support;

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::batch_execute_statement::BatchExecuteStatementOutput;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementRequest, Put, PutRequest, TransactWriteItem, WriteRequest,
};
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use jobmill_core::task::tables::Tables;
use jobmill_local::{Effect, LocalCloud, LocalCloudOptions, Rule, Service, WriteRate};

const TASKS: &str = "sosw_tasks";
const BUCKET: &str = "queue";
const PATIENCE: Duration = Duration::from_secs(30);

async fn start() -> LocalCloud {
    let cloud = LocalCloud::start(LocalCloudOptions::default().seed(7))
        .await
        .unwrap();
    cloud.create_task_tables(&Tables::default()).unwrap();
    cloud.create_bucket(BUCKET);
    cloud
}

/// A rate that gives back nothing within a test.
fn budget(units: f64) -> WriteRate {
    WriteRate {
        units_per_second: 0.0,
        burst: units,
    }
}

fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn task(id: usize) -> HashMap<String, AttributeValue> {
    HashMap::from([
        ("task_id".to_owned(), s(format!("t{id}"))),
        ("labourer_id".to_owned(), s("worker")),
        ("greenfield".to_owned(), AttributeValue::N("1".to_owned())),
    ])
}

fn put_task(dynamo: &aws_sdk_dynamodb::Client, id: usize) -> PutItemFluentBuilder {
    dynamo.put_item().table_name(TASKS).set_item(Some(task(id)))
}

fn put_object(s3: &aws_sdk_s3::Client, key: &str, body: &'static [u8]) -> PutObjectFluentBuilder {
    let body = ByteStream::from_static(body);
    s3.put_object().bucket(BUCKET).key(key).body(body)
}

/// Waits until a late or held request has been carried out on both.
async fn object_and_task_are_there(cloud: &LocalCloud) {
    let done = async {
        while cloud.object(BUCKET, "lock").is_none() || cloud.scan_table(TASKS).unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.unwrap();
}

fn inserts(ids: std::ops::Range<usize>) -> Vec<BatchStatementRequest> {
    ids.map(|id| {
        let statement = r#"INSERT INTO "sosw_tasks" VALUE {'task_id': ?, 'labourer_id': ?}"#;
        let parameters = vec![s(format!("t{id}")), s("worker")];
        BatchStatementRequest::builder()
            .statement(statement)
            .set_parameters(Some(parameters))
            .build()
            .unwrap()
    })
    .collect()
}

/// One letter a statement: `+` created, `T` throttled, `D` duplicate.
fn letters(output: &BatchExecuteStatementOutput) -> String {
    let letter = |code: &str| match code {
        "ThrottlingError" => 'T',
        "DuplicateItem" => 'D',
        _ => '?',
    };
    let responses = output.responses().iter();
    responses
        .map(|response| {
            response
                .error()
                .map_or('+', |error| letter(error.code().unwrap().as_str()))
        })
        .collect()
}

fn writes(ids: std::ops::Range<usize>) -> Vec<WriteRequest> {
    ids.map(|id| {
        let put = PutRequest::builder().set_item(Some(task(id))).build().unwrap();
        WriteRequest::builder().put_request(put).build()
    })
    .collect()
}

#[tokio::test]
async fn a_write_rate_throttles_statement_by_statement() {
    let cloud = start().await;
    let dynamo = support::dynamo(&cloud);
    cloud.faults().limit_writes(TASKS, budget(10.0));
    let batch = |ids: std::ops::Range<usize>| {
        dynamo
            .batch_execute_statement()
            .set_statements(Some(inserts(ids)))
            .send()
    };
    assert_eq!(letters(&batch(0..15).await.unwrap()), "++++++++++TTTTT");
    assert_eq!(letters(&batch(10..15).await.unwrap()), "TTTTT");
    assert_eq!(cloud.scan_table(TASKS).unwrap().len(), 10);
    cloud.faults().limit_writes(TASKS, budget(4.0));
    // A duplicate costs its unit too.
    assert_eq!(letters(&batch(8..14).await.unwrap()), "DD++TT");
    cloud.faults().unlimit_writes(TASKS);
    assert_eq!(letters(&batch(10..15).await.unwrap()), "DD+++");
    assert_eq!(cloud.scan_table(TASKS).unwrap().len(), 15);
    assert_eq!(cloud.stats().throttled, 12);
}

#[tokio::test]
async fn a_write_rate_comes_back_with_time() {
    let cloud = start().await;
    let dynamo = support::dynamo(&cloud);
    cloud.faults().limit_writes(
        TASKS,
        WriteRate {
            units_per_second: 200.0,
            burst: 5.0,
        },
    );
    let mut left: Vec<_> = (0..50).collect();
    while !left.is_empty() {
        let batch: Vec<_> = left.drain(..5.min(left.len())).collect();
        let statements = batch.iter().flat_map(|id| inserts(*id..id + 1)).collect();
        let output = dynamo
            .batch_execute_statement()
            .set_statements(Some(statements))
            .send()
            .await
            .unwrap();
        left.extend(
            batch
                .iter()
                .zip(letters(&output).chars())
                .filter(|(_, letter)| *letter == 'T')
                .map(|(id, _)| id),
        );
    }
    assert_eq!(cloud.scan_table(TASKS).unwrap().len(), 50);
}

#[tokio::test]
async fn a_batch_write_leaves_over_what_does_not_fit() {
    let cloud = start().await;
    let dynamo = support::dynamo(&cloud);
    cloud.faults().limit_writes(TASKS, budget(20.0));
    let batch =
        |ids: std::ops::Range<usize>| dynamo.batch_write_item().request_items(TASKS, writes(ids)).send();
    let output = batch(0..25).await.unwrap();
    assert_eq!(output.unprocessed_items().unwrap()[TASKS], writes(20..25));
    assert_eq!(cloud.scan_table(TASKS).unwrap().len(), 20);
    let error = batch(20..25).await.unwrap_err();
    assert!(
        error
            .as_service_error()
            .unwrap()
            .is_provisioned_throughput_exceeded_exception()
    );
    assert_eq!(cloud.stats().throttled, 10);
}

#[tokio::test]
async fn single_writes_and_transactions_are_throttled_whole() {
    let cloud = start().await;
    let dynamo = support::dynamo(&cloud);
    cloud.faults().limit_writes(TASKS, budget(3.0));
    let put = |id| put_task(&dynamo, id).send();
    put(1).await.unwrap();
    put(1).await.unwrap();
    let transaction = || {
        let put = Put::builder()
            .table_name(TASKS)
            .set_item(Some(task(9)))
            .build()
            .unwrap();
        dynamo
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().put(put).build())
            .send()
    };
    let error = transaction().await.unwrap_err().into_service_error();
    let aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError::TransactionCanceledException(
        cancelled,
    ) = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(
        cancelled.cancellation_reasons()[0].code(),
        Some("ThrottlingError")
    );
    put(2).await.unwrap();
    let error = put(3).await.unwrap_err();
    assert!(
        error
            .as_service_error()
            .unwrap()
            .is_provisioned_throughput_exceeded_exception()
    );
    // Other tables have their own rates, and reads have none.
    let closed = dynamo
        .put_item()
        .table_name("sosw_closed_tasks")
        .item("task_id", s("c"));
    closed.send().await.unwrap();
    assert_eq!(dynamo.scan().table_name(TASKS).send().await.unwrap().count(), 2);
}

#[tokio::test]
async fn a_large_item_costs_its_kilobytes() {
    let cloud = start().await;
    let dynamo = support::dynamo(&cloud);
    cloud.faults().limit_writes(TASKS, budget(12.0));
    let put = |id| {
        let put = put_task(&dynamo, id);
        put.item("payload", s("x".repeat(9_500))).send()
    };
    put(1).await.unwrap();
    assert!(put(2).await.is_err());
}

#[tokio::test]
async fn a_share_of_a_batch_is_left_over_and_the_seed_repeats_it() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let cloud = start().await;
        let dynamo = support::dynamo(&cloud);
        cloud
            .faults()
            .add(Rule::new(Service::DynamoDb, Effect::Unprocessed(0.4)).naming(TASKS));
        let output = dynamo
            .batch_execute_statement()
            .set_statements(Some(inserts(0..25)))
            .send()
            .await
            .unwrap();
        let letters = letters(&output);
        let created = letters.matches('+').count();
        assert_eq!(cloud.scan_table(TASKS).unwrap().len(), created);
        assert!((5..25).contains(&created), "{letters}");
        let output = dynamo
            .batch_write_item()
            .request_items(TASKS, writes(100..125))
            .send()
            .await
            .unwrap();
        let left = output.unprocessed_items().unwrap()[TASKS].len();
        assert_eq!(cloud.scan_table(TASKS).unwrap().len(), created + 25 - left);
        seen.push((letters, left));
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn a_rule_fires_where_and_as_often_as_it_says() {
    let cloud = start().await;
    let dynamo = support::dynamo(&cloud);
    let rule = Rule::new(Service::DynamoDb, Effect::Error)
        .on("PutItem")
        .naming("t5")
        .after(1)
        .times(2);
    let rule = cloud.faults().add(rule);
    let put = |id| put_task(&dynamo, id).send();
    put(4).await.unwrap();
    put(5).await.unwrap();
    for _ in 0..2 {
        let error = put(5).await.unwrap_err();
        assert_eq!(error.code(), Some("InternalServerError"));
        assert_eq!(error.raw_response().unwrap().status().as_u16(), 500);
    }
    put(5).await.unwrap();
    assert_eq!(cloud.faults().fired(rule), 2);
    cloud.faults().remove(rule);
    assert_eq!(cloud.faults().fired(rule), 2);
    let stats = cloud.stats().operation(Service::DynamoDb, "PutItem");
    assert_eq!((stats.requests, stats.errors), (5, 2));
    let always = cloud
        .faults()
        .add(Rule::new(Service::DynamoDb, Effect::Throttle).chance(0.5));
    let mut refused = 0;
    for _ in 0..60 {
        refused += u64::from(dynamo.scan().table_name(TASKS).send().await.is_err());
    }
    assert_eq!(cloud.faults().fired(always), refused);
    assert!((15..45).contains(&refused), "{refused}");
    cloud.faults().clear();
    assert_eq!(cloud.faults().fired(always), refused);
    put(6).await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_was_executed_and_a_refused_request_was_not() {
    let cloud = start().await;
    let dynamo = support::dynamo(&cloud);
    let put = |id| put_task(&dynamo, id).send();
    cloud.faults().add(
        Rule::new(Service::DynamoDb, Effect::LoseAnswer)
            .on("PutItem")
            .times(1),
    );
    let error = put(1).await.unwrap_err();
    assert!(error.raw_response().is_none(), "{error:?}");
    assert_eq!(cloud.scan_table(TASKS).unwrap().len(), 1);
    cloud.faults().add(
        Rule::new(Service::DynamoDb, Effect::Refuse)
            .on("PutItem")
            .times(1),
    );
    assert!(put(2).await.unwrap_err().raw_response().is_none());
    assert_eq!(cloud.scan_table(TASKS).unwrap().len(), 1);
    put(2).await.unwrap();
    assert_eq!(
        cloud.stats().operation(Service::DynamoDb, "PutItem").unanswered,
        2
    );
}

#[tokio::test]
async fn a_held_request_goes_on_when_the_rule_is_removed() {
    let cloud = start().await;
    let s3 = support::s3(&cloud);
    let rule = cloud.faults().add(
        Rule::new(Service::S3, Effect::Hold)
            .on("PutObject")
            .naming("/queue/lock"),
    );
    let put = tokio::spawn(put_object(&s3, "lock", b"1").send());
    assert!(
        tokio::time::timeout(PATIENCE, cloud.faults().wait_fired(rule, 1))
            .await
            .unwrap()
    );
    assert!(cloud.object(BUCKET, "lock").is_none());
    put_object(&s3, "other", b"1").send().await.unwrap();
    cloud.faults().remove(rule);
    put.await.unwrap().unwrap();
    assert!(cloud.object(BUCKET, "lock").is_some());
}

#[tokio::test]
async fn a_held_request_is_executed_even_if_its_client_gives_up() {
    let cloud = start().await;
    let (s3, dynamo) = (support::s3(&cloud), support::dynamo(&cloud));
    let hold = |service| cloud.faults().add(Rule::new(service, Effect::Hold));
    let (held_object, held_item) = (hold(Service::S3), hold(Service::DynamoDb));
    let object = tokio::spawn(put_object(&s3, "lock", b"late").send());
    let item = tokio::spawn(put_task(&dynamo, 1).send());
    assert!(cloud.faults().wait_fired(held_object, 1).await && cloud.faults().wait_fired(held_item, 1).await);
    object.abort();
    item.abort();
    assert!(object.await.unwrap_err().is_cancelled() && item.await.unwrap_err().is_cancelled());
    cloud.faults().clear();
    object_and_task_are_there(&cloud).await;
}

#[tokio::test]
async fn a_late_request_is_executed_after_its_client_has_given_up() {
    let cloud = start().await;
    let (s3, dynamo) = (support::s3(&cloud), support::dynamo(&cloud));
    let late = Effect::Late(Duration::from_millis(200));
    cloud
        .faults()
        .add(Rule::new(Service::S3, late.clone()).on("PutObject"));
    cloud
        .faults()
        .add(Rule::new(Service::DynamoDb, late).on("PutItem"));
    let put = put_object(&s3, "lock", b"late");
    assert!(put.send().await.unwrap_err().raw_response().is_none());
    assert!(put_task(&dynamo, 1).send().await.is_err());
    object_and_task_are_there(&cloud).await;
    assert_eq!(cloud.object(BUCKET, "lock").unwrap().body, "late");
}

#[tokio::test]
async fn s3_slows_down_conflicts_fails_and_loses_answers() {
    let cloud = start().await;
    let s3 = support::s3(&cloud);
    let put = |body| put_object(&s3, "lock", body);
    let rule = |effect| {
        cloud
            .faults()
            .add(Rule::new(Service::S3, effect).on("PutObject").times(1))
    };
    for (effect, status, code) in [
        (Effect::Throttle, 503, "SlowDown"),
        (Effect::Error, 500, "InternalError"),
        (Effect::Conflict, 409, "ConditionalRequestConflict"),
    ] {
        rule(effect);
        let error = put(b"1").if_none_match("*").send().await.unwrap_err();
        assert_eq!(error.raw_response().unwrap().status().as_u16(), status);
        assert_eq!(error.code(), Some(code));
    }
    assert!(cloud.object(BUCKET, "lock").is_none());
    let conflict = rule(Effect::Conflict);
    put(b"plain").send().await.unwrap();
    assert_eq!(
        cloud.faults().fired(conflict),
        0,
        "only conditional puts conflict"
    );
    cloud.faults().clear();
    rule(Effect::LoseAnswer);
    assert!(put(b"2").send().await.unwrap_err().raw_response().is_none());
    assert_eq!(cloud.object(BUCKET, "lock").unwrap().body, "2");
    rule(Effect::Refuse);
    assert!(put(b"3").send().await.is_err());
    assert_eq!(cloud.object(BUCKET, "lock").unwrap().body, "2");
}

#[tokio::test]
async fn a_large_body_is_taken_in_before_it_is_refused() {
    let cloud = start().await;
    let s3 = support::s3(&cloud);
    cloud
        .faults()
        .add(Rule::new(Service::S3, Effect::Throttle).on("PutObject").times(1));
    let body = ByteStream::from(vec![7; 8 << 20]);
    let error = s3
        .put_object()
        .bucket(BUCKET)
        .key("big")
        .body(body)
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("SlowDown"));
}

#[tokio::test]
async fn delays_add_up() {
    let cloud = start().await;
    cloud.put_object(BUCKET, "lock", "1").unwrap();
    let s3 = support::s3(&cloud);
    let delay = Effect::Delay {
        min: Duration::from_millis(40),
        max: Duration::from_millis(60),
    };
    cloud.faults().add(Rule::new(Service::S3, delay.clone()));
    cloud.faults().add(Rule::new(Service::S3, delay).on("HeadObject"));
    let started = tokio::time::Instant::now();
    s3.head_object().bucket(BUCKET).key("lock").send().await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(80));
}
