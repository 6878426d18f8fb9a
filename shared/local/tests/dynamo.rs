//! DynamoDB through the SDK: what the scheduler asks of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod support;

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementErrorCodeEnum, BatchStatementRequest, ConditionCheck, Put, PutRequest,
    TransactWriteItem, WriteRequest,
};
use jobmill_core::task::tables::Tables;
use jobmill_local::{LocalCloud, Service};

const TASKS: &str = "sosw_tasks";
const INSERT: &str =
    r#"INSERT INTO "sosw_tasks" VALUE {'task_id': ?, 'labourer_id': ?, 'greenfield': ?, 'payload': ?}"#;

async fn start() -> (LocalCloud, Client) {
    let cloud = support::cloud().await;
    let names = Tables {
        meta: Some("sosw_tasks_meta".to_owned()),
        ..Tables::default()
    };
    cloud.create_task_tables(&names).unwrap();
    let client = support::dynamo(&cloud);
    (cloud, client)
}

fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn n(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

fn task(id: &str, greenfield: &str) -> HashMap<String, AttributeValue> {
    HashMap::from([
        ("task_id".to_owned(), s(id)),
        ("labourer_id".to_owned(), s("worker")),
        ("greenfield".to_owned(), n(greenfield)),
        ("payload".to_owned(), s("{\"a\": 1}")),
    ])
}

fn insert(id: &str, greenfield: impl ToString) -> BatchStatementRequest {
    let parameters = vec![s(id), s("worker"), n(greenfield.to_string()), s("{}")];
    BatchStatementRequest::builder()
        .statement(INSERT)
        .set_parameters(Some(parameters))
        .build()
        .unwrap()
}

#[tokio::test]
async fn the_task_tables_have_the_keys_of_sosw() {
    let (_cloud, dynamo) = start().await;
    let keys = |schema: &[aws_sdk_dynamodb::types::KeySchemaElement]| {
        schema
            .iter()
            .map(|key| format!("{} {}", key.attribute_name(), key.key_type()))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut seen = Vec::new();
    for table in [TASKS, "sosw_closed_tasks", "sosw_retry_tasks", "sosw_tasks_meta"] {
        let described = dynamo.describe_table().table_name(table).send().await.unwrap();
        let described = described.table().unwrap();
        assert_eq!(described.table_status().unwrap().as_str(), "ACTIVE");
        seen.push(format!("{table}: {}", keys(described.key_schema())));
        for index in described.global_secondary_indexes() {
            seen.push(format!(
                "  {}: {}",
                index.index_name().unwrap(),
                keys(index.key_schema())
            ));
        }
        for index in described.local_secondary_indexes() {
            seen.push(format!(
                "  local {}: {}",
                index.index_name().unwrap(),
                keys(index.key_schema())
            ));
        }
    }
    let expected = [
        "sosw_tasks: task_id HASH",
        "  sosw_tasks_greenfield: labourer_id HASH, greenfield RANGE",
        "sosw_closed_tasks: task_id HASH",
        "  labourer_task_status_with_time: labourer_id_task_status HASH, closed_at RANGE",
        "sosw_retry_tasks: labourer_id HASH, task_id RANGE",
        "  local labourer_id_greenfield: labourer_id HASH, desired_launch_time RANGE",
        "sosw_tasks_meta: task_id HASH, created_at RANGE",
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_conditional_put_happens_once() {
    let (cloud, dynamo) = start().await;
    let put = |payload: &str| {
        let put = dynamo
            .put_item()
            .table_name(TASKS)
            .set_item(Some(task("t1", "1")))
            .item("payload", s(payload));
        put.condition_expression("attribute_not_exists(task_id)").send()
    };
    put("first").await.unwrap();
    let error = put("second").await.unwrap_err();
    assert!(
        error
            .as_service_error()
            .unwrap()
            .is_conditional_check_failed_exception()
    );
    let got = dynamo
        .get_item()
        .table_name(TASKS)
        .key("task_id", s("t1"))
        .consistent_read(true)
        .send()
        .await
        .unwrap();
    assert_eq!(got.item().unwrap()["payload"], s("first"));
    assert_eq!(cloud.scan_table(TASKS).unwrap().len(), 1);
    let got = cloud
        .get_item(TASKS, serde_json::json!({"task_id": {"S": "t1"}}))
        .unwrap()
        .unwrap();
    assert_eq!(got["payload"]["S"], "first");
    cloud
        .delete_item(TASKS, serde_json::json!({"task_id": {"S": "t1"}}))
        .unwrap();
    assert!(cloud.scan_table(TASKS).unwrap().is_empty());
}

#[tokio::test]
async fn inserts_of_a_batch_fail_one_by_one() {
    let (cloud, dynamo) = start().await;
    let batch = |ids: std::ops::Range<usize>| {
        let statements = ids.map(|id| insert(&format!("task{id:04}"), 1000 + id)).collect();
        dynamo
            .batch_execute_statement()
            .set_statements(Some(statements))
            .send()
    };
    let first = batch(0..25).await.unwrap();
    assert_eq!(first.responses().len(), 25);
    assert!(
        first
            .responses()
            .iter()
            .all(|response| response.error().is_none())
    );
    let second = batch(20..30).await.unwrap();
    let codes: Vec<_> = second
        .responses()
        .iter()
        .map(|response| response.error().and_then(|error| error.code()).cloned())
        .collect();
    let duplicate = Some(BatchStatementErrorCodeEnum::DuplicateItem);
    assert_eq!(codes[..5], vec![duplicate; 5]);
    assert_eq!(codes[5..], vec![None; 5]);
    assert_eq!(cloud.scan_table(TASKS).unwrap().len(), 30);
}

#[tokio::test]
async fn a_batch_keeps_to_the_limits_of_dynamodb() {
    let (cloud, dynamo) = start().await;
    let statements = (0..26).map(|id| insert(&format!("t{id}"), id)).collect();
    let error = dynamo
        .batch_execute_statement()
        .set_statements(Some(statements))
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("ValidationException"));
    let writes: Vec<_> = (0..26)
        .map(|id| {
            let put = PutRequest::builder()
                .set_item(Some(task(&format!("w{id}"), "1")))
                .build()
                .unwrap();
            WriteRequest::builder().put_request(put).build()
        })
        .collect();
    let error = dynamo
        .batch_write_item()
        .request_items(TASKS, writes)
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("ValidationException"));
    assert_eq!(cloud.scan_table(TASKS).unwrap(), Vec::<serde_json::Value>::new());
}

#[tokio::test]
async fn a_batch_write_overwrites() {
    let (cloud, dynamo) = start().await;
    for payload in ["1", "2"] {
        let writes: Vec<_> = (0..25)
            .map(|id| {
                let item = PutRequest::builder()
                    .set_item(Some(task(&format!("t{id}"), "1")))
                    .item("payload", s(payload));
                WriteRequest::builder().put_request(item.build().unwrap()).build()
            })
            .collect();
        let written = dynamo
            .batch_write_item()
            .request_items(TASKS, writes)
            .send()
            .await
            .unwrap();
        assert!(written.unprocessed_items().is_none_or(HashMap::is_empty));
    }
    let items = cloud.scan_table(TASKS).unwrap();
    assert_eq!(items.len(), 25);
    assert!(items.iter().all(|item| item["payload"]["S"] == "2"));
    assert_eq!(cloud.stats().requests(Service::DynamoDb, "BatchWriteItem"), 2);
}

fn create_in_doubt(
    dynamo: &Client,
    id: &str,
) -> aws_sdk_dynamodb::operation::transact_write_items::builders::TransactWriteItemsFluentBuilder {
    let put = Put::builder().table_name(TASKS).set_item(Some(task(id, "7")));
    let put = put
        .condition_expression("attribute_not_exists(task_id)")
        .build()
        .unwrap();
    let check = |table: &str, key: HashMap<String, AttributeValue>| {
        let check = ConditionCheck::builder().table_name(table).set_key(Some(key));
        let check = check
            .condition_expression("attribute_not_exists(task_id)")
            .build()
            .unwrap();
        TransactWriteItem::builder().condition_check(check).build()
    };
    let closed = HashMap::from([("task_id".to_owned(), s(id))]);
    let retry = HashMap::from([
        ("task_id".to_owned(), s(id)),
        ("labourer_id".to_owned(), s("worker")),
    ]);
    dynamo
        .transact_write_items()
        .transact_items(TransactWriteItem::builder().put(put).build())
        .transact_items(check("sosw_closed_tasks", closed))
        .transact_items(check("sosw_retry_tasks", retry))
}

#[tokio::test]
async fn a_transaction_creates_a_task_only_if_no_table_knows_it() {
    let (cloud, dynamo) = start().await;
    let reasons = async |id: &str| match create_in_doubt(&dynamo, id).send().await {
        Ok(_) => Vec::new(),
        Err(error) => {
            let error = error.into_service_error();
            let aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError::TransactionCanceledException(
                cancelled,
            ) = error
            else {
                panic!("{error:?}")
            };
            cancelled
                .cancellation_reasons()
                .iter()
                .map(|reason| reason.code().unwrap_or("-").to_owned())
                .collect()
        }
    };
    assert!(reasons("t1").await.is_empty());
    assert_eq!(reasons("t1").await, ["ConditionalCheckFailed", "None", "None"]);
    let closed = dynamo
        .put_item()
        .table_name("sosw_closed_tasks")
        .item("task_id", s("t2"))
        .item("closed_at", n(1));
    closed.send().await.unwrap();
    assert_eq!(reasons("t2").await, ["None", "ConditionalCheckFailed", "None"]);
    let retry = dynamo
        .put_item()
        .table_name("sosw_retry_tasks")
        .item("task_id", s("t3"));
    retry.item("labourer_id", s("worker")).send().await.unwrap();
    assert_eq!(reasons("t3").await, ["None", "None", "ConditionalCheckFailed"]);
    assert_eq!(cloud.scan_table(TASKS).unwrap().len(), 1);
}

#[tokio::test]
async fn the_newest_greenfield_that_is_not_in_the_future_is_found() {
    let (_cloud, dynamo) = start().await;
    for (id, greenfield) in [
        ("a", "1000"),
        ("b", "1500.25"),
        ("c", "99999999999"),
        ("d", "900"),
    ] {
        dynamo
            .put_item()
            .table_name(TASKS)
            .set_item(Some(task(id, greenfield)))
            .send()
            .await
            .unwrap();
    }
    let query = dynamo
        .query()
        .table_name(TASKS)
        .index_name("sosw_tasks_greenfield");
    let query = query.key_condition_expression("#l = :l AND #g < :now");
    let query = query
        .expression_attribute_names("#l", "labourer_id")
        .expression_attribute_names("#g", "greenfield");
    let query = query
        .expression_attribute_values(":l", s("worker"))
        .expression_attribute_values(":now", n(2000));
    let found = query.limit(1).scan_index_forward(false).send().await.unwrap();
    assert_eq!(found.count(), 1);
    assert_eq!(found.items()[0]["task_id"], s("b"));
    assert_eq!(found.items()[0]["greenfield"], n("1500.25"));
}

#[tokio::test]
async fn numbers_keep_38_digits_and_scans_page() {
    let (cloud, dynamo) = start().await;
    let long = "1732215600.0123456789012345678901234567";
    dynamo
        .put_item()
        .table_name(TASKS)
        .set_item(Some(task("long", long)))
        .send()
        .await
        .unwrap();
    let got = dynamo
        .get_item()
        .table_name(TASKS)
        .key("task_id", s("long"))
        .send()
        .await
        .unwrap();
    assert_eq!(got.item().unwrap()["greenfield"], n(long));
    let large = "x".repeat(300_000);
    for id in 0..8 {
        let item = dynamo
            .put_item()
            .table_name(TASKS)
            .set_item(Some(task(&format!("t{id}"), "1")));
        item.item("payload", s(large.as_str())).send().await.unwrap();
    }
    assert_eq!(cloud.scan_table(TASKS).unwrap().len(), 9);
    let page = dynamo.scan().table_name(TASKS).send().await.unwrap();
    assert!(page.last_evaluated_key().is_some(), "a page ends at 1 MB");
}
