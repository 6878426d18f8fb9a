//! Every implementation of the ports passes the same suite: the ones in memory, on virtual time, and those on AWS's
//! services, against the local cloud.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jobmill_aws::{
    ClientOptions, Clients, ConfigLocation, ConfigSourceError, DynamoTables, DynamoTasks, LambdaSiblings,
    REQUEST_TIME, S3Store, fetch_config,
};
use jobmill_core::config::TaskWrites;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::item::Task;
use jobmill_core::task::record::{Attribute, record_of};
use jobmill_core::task::tables::{FieldNames, Tables};
use jobmill_core::task::write::{Index, Range, Table, Test, Update, Write};
use jobmill_engine::dispatch::ports::{Fate, Tables as _, Transacted, Updated};
use jobmill_engine::ports::{ETag, Metadata, ObjectStore, PortError, PutIf};
use jobmill_engine::schedule::ports::{Created, InDoubt, MetaRow, Siblings, TaskTable};
use jobmill_local::{
    Effect, FunctionSpec, InvocationKind, InvocationRecord, LocalCloud, LocalCloudOptions, Rule, Service,
};
use jobmill_memory::faulty::{Faulty, Healthy};
use jobmill_memory::{MemorySiblings, MemoryStore, MemoryTasks, VirtualClock};
use jobmill_tests::conformance::{self, Duplicates, TaskProbe};
use jobmill_tests::dynamo;

// -------------------------------------------------------------------------------------------------------- memory

struct MemoryProbe(MemoryTasks);

impl TaskProbe for MemoryProbe {
    async fn read(&self, task_id: &str) -> Option<BTreeMap<String, String>> {
        let item = self.0.with(|tables, _| tables.tasks.get(task_id).cloned())?;
        let text = |(name, value)| match value {
            Attribute::S(text) | Attribute::N(text) => (name, text),
            other => panic!("attribute {name} is {other:?}"),
        };
        Some(item.record.into_iter().map(text).collect())
    }

    async fn put(&self, table: Table, task: &Task) {
        let record = record_of(&FieldNames::default(), task);
        assert!(self.0.with(|tables, now| tables.put(now, table, record)));
    }

    async fn remove(&self, table: Table, task: &Task) {
        self.0.with(|tables, now| tables.take(now, table, &task.task_id));
    }
}

#[test]
fn memory_store_conforms() {
    let clock = VirtualClock::default();
    let store = MemoryStore::new(clock.clone());
    clock.run(conformance::object_store(&store, "a/prefix/")).unwrap();
}

#[test]
fn memory_store_ages() {
    let clock = VirtualClock::default();
    let store = MemoryStore::new(clock.clone());
    let advance = async |by| clock.sleep_until(clock.now() + by).await;
    clock
        .run(conformance::object_age(&store, "a/prefix/", advance))
        .unwrap();
}

#[test]
fn memory_tasks_conform() {
    let clock = VirtualClock::default();
    let tasks = MemoryTasks::new(clock.clone());
    let probe = MemoryProbe(tasks.clone());
    clock
        .run(conformance::task_table(&tasks, &probe, "run", Duplicates::Kept))
        .unwrap();
    tasks.with(|tables, _| {
        let born: BTreeSet<&String> = tables.births.iter().map(|birth| &birth.task.task_id).collect();
        assert_eq!(born.len(), tables.births.len(), "none was created twice");
    });
}

#[test]
fn memory_tables_conform() {
    let clock = VirtualClock::default();
    let tasks = MemoryTasks::new(clock.clone());
    clock
        .run(conformance::tables(&tasks, &FieldNames::default(), "run"))
        .unwrap();
}

#[test]
fn a_healthy_network_changes_nothing() {
    for seed in 0..20 {
        let clock = VirtualClock::default();
        let network = Arc::new(Healthy::new(seed));
        let store = Faulty::new(
            MemoryStore::new(clock.clone()),
            clock.clone(),
            Arc::clone(&network),
        );
        clock.run(conformance::object_store(&store, "a/prefix/")).unwrap();
        let tasks = MemoryTasks::new(clock.clone());
        let probe = MemoryProbe(tasks.clone());
        let tasks = Faulty::new(tasks, clock.clone(), network);
        clock
            .run(conformance::task_table(&tasks, &probe, "run", Duplicates::Kept))
            .unwrap();
        clock
            .run(conformance::tables(&tasks, &FieldNames::default(), "dispatch"))
            .unwrap();
    }
}

#[test]
fn memory_siblings_conform() {
    let siblings = MemorySiblings::default();
    let arrived = async || siblings.waiting();
    VirtualClock::default()
        .run(conformance::siblings(&siblings, arrived))
        .unwrap();
}

// ----------------------------------------------------------------------------------- AWS's services, local cloud

const BUCKET: &str = "bucket";

async fn local_cloud() -> (LocalCloud, Clients) {
    let cloud = LocalCloud::start(LocalCloudOptions::default()).await.unwrap();
    cloud.create_bucket(BUCKET);
    let clients = Clients::at_endpoint(cloud.endpoint(), ClientOptions::default());
    (cloud, clients)
}

#[tokio::test]
async fn s3_store_conforms() {
    let (_cloud, clients) = local_cloud().await;
    conformance::object_store(&S3Store::new(clients.s3, BUCKET), "a/prefix/").await;
}

#[tokio::test]
async fn s3_store_ages() {
    let (cloud, clients) = local_cloud().await;
    let advance = async |by| cloud.advance_clock(by);
    conformance::object_age(&S3Store::new(clients.s3, BUCKET), "a/prefix/", advance).await;
}

#[tokio::test]
async fn s3_store_refuses_a_bucket_that_is_not_there() {
    let (_cloud, clients) = local_cloud().await;
    let store = S3Store::new(clients.s3, "nobodys-bucket");
    let code = |error: PortError| match error {
        PortError::Environment { kind, message } if message.contains("\"nobodys-bucket\"") => kind,
        other => panic!("{other}"),
    };
    let none = Metadata::new();
    let etag = ETag("\"0123456789abcdef0123456789abcdef\"".to_owned());
    assert_eq!(code(store.get("key", 10).await.unwrap_err()), "NoSuchBucket");
    assert_eq!(
        code(store.get_range("key", 0, 10).await.unwrap_err()),
        "NoSuchBucket"
    );
    assert_eq!(
        code(
            store
                .put("key", "x".into(), &none, PutIf::Absent)
                .await
                .unwrap_err()
        ),
        "NoSuchBucket"
    );
    assert_eq!(
        code(
            store
                .put("key", "x".into(), &none, PutIf::Matches(etag))
                .await
                .unwrap_err()
        ),
        "NoSuchBucket"
    );
    assert_eq!(
        code(store.begin_upload("key", &none).await.unwrap_err()),
        "NoSuchBucket"
    );
    assert_eq!(code(store.delete("key", None).await.unwrap_err()), "NoSuchBucket");
    assert_eq!(code(store.list("", None).await.unwrap_err()), "NoSuchBucket");
}

/// sosw's names, the meta table included.
fn with_meta() -> Tables {
    Tables {
        meta: Some("sosw_tasks_meta".to_owned()),
        ..Tables::default()
    }
}

async fn dynamo_tasks_conform(writes: TaskWrites, names: Tables) {
    let (cloud, clients) = local_cloud().await;
    cloud.create_task_tables(&names).unwrap();
    dynamo::tasks_conform(clients.dynamodb.clone(), &names, writes, &[]).await;
    dynamo::tables_conform(clients.dynamodb, &names, writes, &[]).await;
    if let Some(meta) = names.meta {
        assert_eq!(
            cloud.scan_table(&meta).unwrap().len(),
            60,
            "meta rows of the suite"
        );
    }
}

#[tokio::test]
async fn dynamo_tasks_conform_with_inserts() {
    dynamo_tasks_conform(TaskWrites::Insert, with_meta()).await;
}

#[tokio::test]
async fn dynamo_tasks_conform_with_overwrites() {
    dynamo_tasks_conform(TaskWrites::Overwrite, with_meta()).await;
}

#[tokio::test]
async fn dynamo_tasks_conform_under_other_names() {
    let names = Tables {
        tasks: "dev-tasks.v2".to_owned(),
        index_greenfield: "queue".to_owned(),
        closed: "dev-closed".to_owned(),
        index_closed: "dev-closed-index".to_owned(),
        retry: "dev-retry".to_owned(),
        index_retry: "dev-waiting".to_owned(),
        meta: Some("dev-meta".to_owned()),
        fields: FieldNames {
            task_id: "id".to_owned(),
            labourer_id: "worker".to_owned(),
            created_at: "born".to_owned(),
            greenfield: "order".to_owned(), // a reserved word
            attempts: "tries".to_owned(),
            payload: "it's a \"payload\"".to_owned(),
            completed_at: "end".to_owned(), // another one
            ..FieldNames::default()
        },
    };
    dynamo_tasks_conform(TaskWrites::Insert, names).await;
}

fn task(task_id: &str) -> Task {
    Task {
        task_id: task_id.to_owned(),
        labourer_id: "worker".to_owned(),
        created_at: "1709701600".to_owned(),
        greenfield: Greenfield::from_millis(2_000_000),
        payload: "{}".to_owned(),
    }
}

#[tokio::test]
async fn meta_rows_look_as_sosw_writes_them() {
    let (cloud, clients) = local_cloud().await;
    cloud.create_task_tables(&with_meta()).unwrap();
    let tasks = DynamoTasks::new(clients.dynamodb, with_meta(), TaskWrites::Insert);
    let row = MetaRow {
        task_id: "1".to_owned(),
        labourer_id: "worker".to_owned(),
    };
    tasks.record_meta(std::slice::from_ref(&row)).await.unwrap();
    assert_eq!(
        cloud.scan_table("sosw_tasks_meta").unwrap().len(),
        0,
        "off unless asked for"
    );
    tasks
        .with_meta(dynamo::meta_context())
        .record_meta(&[row])
        .await
        .unwrap();
    let rows = cloud.scan_table("sosw_tasks_meta").unwrap();
    let [row] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    for (name, value) in [
        ("task_id", "1"),
        ("labourer_id", "worker"),
        ("author", "scheduler"),
        ("invocation_id", "request"),
        ("log_stream_name", "stream"),
        ("action", "created"),
    ] {
        assert_eq!(row[name]["S"], value, "{name}");
    }
    let created_at: f64 = row["created_at"]["N"].as_str().unwrap().parse().unwrap();
    assert!(created_at > 1.7e9, "seconds since 1970: {created_at}");
}

#[tokio::test]
async fn tables_that_are_not_there_or_of_another_make_are_named() {
    let (cloud, clients) = local_cloud().await;
    cloud.create_task_tables(&Tables::default()).unwrap();
    cloud
        .create_table(serde_json::json!({
            "TableName": "retry",
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": "task_id", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "task_id", "KeyType": "HASH"}],
        }))
        .unwrap();
    let with = |tables: Tables| DynamoTasks::new(clients.dynamodb.clone(), tables, TaskWrites::Insert);
    let now = Greenfield::from_millis(1_709_700_000_000);

    let tasks = with(Tables {
        tasks: "nowhere".to_owned(),
        ..Tables::default()
    });
    let missing = |error: Option<PortError>| match error {
        Some(PortError::Environment { kind, message }) => {
            assert_eq!(kind, "NoSuchTable");
            message
        }
        other => panic!("{other:?}"),
    };
    let found = missing(tasks.newest_greenfield("worker", now).await.err());
    assert!(found.contains("\"nowhere\""), "{found}");
    let found = missing(tasks.create(&[task("1")]).await.err());
    assert!(found.contains("\"nowhere\""), "{found}");
    let found = missing(tasks.create_in_doubt(&task("1")).await.err());
    assert!(found.contains("\"nowhere\", \"sosw_retry_tasks\" or"), "{found}");

    let tasks = with(Tables {
        index_greenfield: "no-index".to_owned(),
        ..Tables::default()
    });
    let found = missing(tasks.newest_greenfield("worker", now).await.err());
    assert!(
        found.contains("\"sosw_tasks\" lacks its index") && found.contains("no-index"),
        "{found}"
    );

    // The retry table must have the key of sosw's.
    let tasks = with(Tables {
        retry: "retry".to_owned(),
        ..Tables::default()
    });
    let refused = tasks.create_in_doubt(&task("1")).await;
    assert!(
        matches!(&refused, Err(PortError::Refused { message, .. }) if message.contains("\"retry\"")),
        "{refused:?}"
    );
}

/// This very alias.
const ALIAS: &str = "arn:aws:lambda:us-east-1:000000000000:function:scheduler:live";

#[tokio::test]
async fn lambda_siblings_conform() {
    let (cloud, clients) = local_cloud().await;
    // Accepted and lost: what arrived is recorded, and nothing needs to run.
    cloud.register_function(FunctionSpec::new("scheduler", "/nowhere/bootstrap"));
    cloud.faults().add(Rule::new(Service::Lambda, Effect::LoseInvoke));
    let arrived = async || {
        let payload = |record: InvocationRecord| {
            assert_eq!(
                (record.invoked_arn.as_str(), record.kind),
                (ALIAS, InvocationKind::Event)
            );
            String::from_utf8(record.payload.to_vec()).unwrap()
        };
        cloud.invocations().into_iter().map(payload).collect()
    };
    conformance::siblings(&LambdaSiblings::new(clients.lambda, ALIAS), arrived).await;
}

#[tokio::test]
async fn a_sibling_that_can_not_be_spawned_is_told() {
    let (cloud, clients) = local_cloud().await;
    let siblings = LambdaSiblings::new(clients.lambda, ALIAS);
    let spawned = siblings.spawn("{}".to_owned()).await;
    assert!(
        matches!(spawned, Err(PortError::Refused { .. })),
        "no such function: {spawned:?}"
    );
    cloud.register_function(FunctionSpec::new("scheduler", "/nowhere/bootstrap"));
    let rule = cloud.faults().add(Rule::new(Service::Lambda, Effect::Throttle));
    is_throttled(siblings.spawn("{}".to_owned()).await);
    assert_eq!(cloud.faults().fired(rule), 3, "an invocation may be tried again");
    cloud.faults().clear();
    cloud.faults().add(Rule::new(Service::Lambda, Effect::Error));
    is_unknown(siblings.spawn("{}".to_owned()).await);
    assert_eq!(cloud.invocations(), []);
}

#[tokio::test]
async fn config_texts_are_read_from_s3_and_from_sosws_config_table() {
    let (cloud, clients) = local_cloud().await;
    cloud
        .put_object(BUCKET, "configs/scheduler.json", "{\"queue_bucket\": \"é\"}")
        .unwrap();
    cloud.put_object(BUCKET, "binary", &b"\xff\xfe"[..]).unwrap();
    cloud.create_table(dynamo::config_table()).unwrap();
    let item = serde_json::json!({
        "env": {"S": "production"}, "config_name": {"S": "scheduler_config"}, "config_value": {"S": "{}"},
    });
    cloud.put_item("config", item).unwrap();
    let fetch = async |location: &str| {
        let location = ConfigLocation::parse(location).unwrap().unwrap();
        fetch_config(&location, &clients).await
    };
    assert_eq!(
        fetch("s3://bucket/configs/scheduler.json").await.unwrap(),
        "{\"queue_bucket\": \"é\"}"
    );
    assert_eq!(
        fetch("dynamodb://config/production/scheduler_config")
            .await
            .unwrap(),
        "{}"
    );
    assert!(matches!(
        fetch("s3://bucket/binary").await,
        Err(ConfigSourceError::NotText { .. })
    ));
    for missing in ["s3://bucket/nothing", "dynamodb://config/production/nothing"] {
        let error = fetch(missing).await.unwrap_err();
        assert!(matches!(error, ConfigSourceError::Missing { .. }), "{error}");
        assert!(error.to_string().contains(missing), "{error}");
    }
    for unreadable in ["s3://nobodys-bucket/key", "dynamodb://nobodys-table/production/x"] {
        let error = fetch(unreadable).await.unwrap_err();
        assert!(matches!(error, ConfigSourceError::Unreadable { .. }), "{error}");
    }
}

// ------------------------------------------------------------------------------------ what answers are taken for

/// Empty sosw tables, and requests that may take `request_time`.
async fn task_cloud(writes: TaskWrites, request_time: Duration) -> (LocalCloud, DynamoTasks) {
    let cloud = LocalCloud::start(LocalCloudOptions::default()).await.unwrap();
    cloud.create_task_tables(&Tables::default()).unwrap();
    let clients = Clients::at_endpoint(cloud.endpoint(), ClientOptions { request_time });
    (
        cloud,
        DynamoTasks::new(clients.dynamodb, Tables::default(), writes),
    )
}

fn is_unknown<T: std::fmt::Debug>(result: Result<T, PortError>) {
    assert!(matches!(result, Err(PortError::Unknown { .. })), "{result:?}");
}

fn is_throttled<T: std::fmt::Debug>(result: Result<T, PortError>) {
    assert!(matches!(result, Err(PortError::Throttled { .. })), "{result:?}");
}

#[tokio::test]
async fn a_task_write_is_sent_once() {
    for (writes, operation) in [
        (TaskWrites::Insert, "BatchExecuteStatement"),
        (TaskWrites::Overwrite, "BatchWriteItem"),
    ] {
        let (cloud, tasks) = task_cloud(writes, REQUEST_TIME).await;
        let sent = |operation: &str| cloud.stats().requests(Service::DynamoDb, operation);
        // A first request that succeeds leaves a connection that the next ones use.
        assert_eq!(tasks.create(&[task("0")]).await, Ok(vec![Created::Now]));
        for (number, effect) in [Effect::Error, Effect::Refuse, Effect::LoseAnswer]
            .into_iter()
            .enumerate()
        {
            cloud.reset_stats();
            let rule = cloud
                .faults()
                .add(Rule::new(Service::DynamoDb, effect.clone()).times(1));
            is_unknown(tasks.create(&[task(&format!("a{number}"))]).await);
            assert_eq!(
                (sent(operation), cloud.faults().fired(rule)),
                (1, 1),
                "{effect:?}"
            );
            cloud
                .faults()
                .add(Rule::new(Service::DynamoDb, effect.clone()).times(1));
            is_unknown(tasks.create_in_doubt(&task(&format!("b{number}"))).await);
            assert_eq!(sent("TransactWriteItems"), 1, "{effect:?}");
            // Asked again, the transaction settles what became of both.
            let settled = if effect == Effect::LoseAnswer {
                InDoubt::AlreadyThere
            } else {
                InDoubt::Created
            };
            assert_eq!(
                tasks.create_in_doubt(&task(&format!("a{number}"))).await,
                Ok(settled.clone())
            );
            assert_eq!(
                tasks.create_in_doubt(&task(&format!("b{number}"))).await,
                Ok(settled)
            );
        }
    }
}

#[tokio::test]
async fn a_task_write_ends_after_the_request_time() {
    let (cloud, tasks) = task_cloud(TaskWrites::Insert, Duration::from_millis(100)).await;
    // No answer ever comes.
    cloud.faults().add(Rule::new(Service::DynamoDb, Effect::Hold));
    is_unknown(tasks.create(&[task("1")]).await);
    is_unknown(tasks.create_in_doubt(&task("1")).await);
}

#[tokio::test]
async fn a_throttled_task_write_did_nothing() {
    let (cloud, tasks) = task_cloud(TaskWrites::Insert, REQUEST_TIME).await;
    let rule = cloud.faults().add(Rule::new(Service::DynamoDb, Effect::Throttle));
    assert_eq!(
        tasks.create(&[task("1"), task("2")]).await,
        Ok(vec![Created::Throttled; 2])
    );
    is_throttled(tasks.create_in_doubt(&task("1")).await);
    cloud.faults().remove(rule);
    assert_eq!(cloud.scan_table("sosw_tasks").unwrap().len(), 0);
}

#[tokio::test]
async fn each_task_of_a_batch_is_throttled_for_itself() {
    for writes in [TaskWrites::Insert, TaskWrites::Overwrite] {
        let (cloud, tasks) = task_cloud(writes, REQUEST_TIME).await;
        cloud
            .faults()
            .add(Rule::new(Service::DynamoDb, Effect::Unprocessed(0.5)));
        let mut left: Vec<Task> = (0..25).map(|number| task(&number.to_string())).collect();
        let mut created = 0;
        for _ in 0..100 {
            let outcomes = tasks.create(&left).await.unwrap();
            let throttled = |outcome: &Created| *outcome == Created::Throttled;
            assert!(
                outcomes
                    .iter()
                    .all(|outcome| throttled(outcome) || *outcome == Created::Now),
                "{outcomes:?}"
            );
            left = left
                .into_iter()
                .zip(outcomes)
                .filter(|(_, outcome)| throttled(outcome))
                .map(|(task, _)| task)
                .collect();
            created = 25 - left.len();
            assert_eq!(
                cloud.scan_table("sosw_tasks").unwrap().len(),
                created,
                "{writes:?}"
            );
        }
        assert_eq!(created, 25);
    }
}

/// Empty tables, a queued task in them, and its claim.
async fn claimable(writes: TaskWrites, request_time: Duration) -> (LocalCloud, DynamoTables, Update) {
    let cloud = LocalCloud::start(LocalCloudOptions::default()).await.unwrap();
    cloud.create_task_tables(&Tables::default()).unwrap();
    let clients = Clients::at_endpoint(cloud.endpoint(), ClientOptions { request_time });
    let tables = DynamoTables::new(clients.dynamodb, Tables::default(), writes);
    let put = |id: &str| Write::Put {
        table: Table::Tasks,
        record: record_of(&FieldNames::default(), &task(id)),
        when: Vec::new(),
    };
    let puts = [put("1"), put("2")];
    assert_eq!(tables.transact(&puts).await, Ok(Transacted::Done));
    let claim = Update {
        task_id: "1".to_owned(),
        set: vec![("attempts".to_owned(), Attribute::number(1))],
        when: vec![Test::Equals("attempts".to_owned(), Attribute::number(0))],
    };
    (cloud, tables, claim)
}

fn closing() -> [Write; 1] {
    [Write::Put {
        table: Table::Closed,
        record: record_of(&FieldNames::default(), &task("1")),
        when: vec![Test::Absent("task_id".to_owned())],
    }]
}

#[tokio::test]
async fn a_claim_and_a_settlement_are_sent_once() {
    for (writes, operation) in [
        (TaskWrites::Insert, "BatchExecuteStatement"),
        (TaskWrites::Overwrite, "UpdateItem"),
    ] {
        for effect in [Effect::Error, Effect::Refuse, Effect::LoseAnswer] {
            let (cloud, tables, claim) = claimable(writes, REQUEST_TIME).await;
            cloud.reset_stats();
            let fault = || Rule::new(Service::DynamoDb, effect.clone()).times(1);
            cloud.faults().add(fault());
            match tables.update(std::slice::from_ref(&claim)).await {
                Ok(updated) => assert_eq!(updated, [Updated::Unknown], "{effect:?}"),
                other => is_unknown(other),
            }
            assert_eq!(cloud.stats().requests(Service::DynamoDb, operation), 1);
            cloud.faults().add(fault());
            is_unknown(tables.transact(&closing()).await);
            let sent = cloud.stats().requests(Service::DynamoDb, "TransactWriteItems");
            assert_eq!(sent, 1, "{effect:?}");
            // Sent again, the answers are definite.
            let done = effect != Effect::LoseAnswer;
            let again = tables.update(std::slice::from_ref(&claim)).await.unwrap();
            assert_eq!(again, [if done { Updated::Done } else { Updated::Refused }]);
            let again = tables.transact(&closing()).await.unwrap();
            let failed = Transacted::Refused(vec![Fate::Failed]);
            assert_eq!(again, if done { Transacted::Done } else { failed });
        }
    }
}

#[tokio::test]
async fn a_claim_and_a_settlement_end_after_the_request_time() {
    let (cloud, tables, claim) = claimable(TaskWrites::Insert, Duration::from_millis(100)).await;
    cloud.faults().add(Rule::new(Service::DynamoDb, Effect::Hold));
    is_unknown(tables.update(&[claim]).await);
    is_unknown(tables.transact(&closing()).await);
}

#[tokio::test]
async fn a_throttled_claim_or_settlement_did_nothing() {
    for writes in [TaskWrites::Insert, TaskWrites::Overwrite] {
        let (cloud, tables, claim) = claimable(writes, REQUEST_TIME).await;
        let rule = cloud.faults().add(Rule::new(Service::DynamoDb, Effect::Throttle));
        match tables.update(std::slice::from_ref(&claim)).await {
            Ok(updated) => assert_eq!(updated, [Updated::Throttled]),
            other => is_throttled(other),
        }
        let busy = Transacted::Refused(vec![Fate::Busy]);
        assert_eq!(tables.transact(&closing()).await, Ok(busy));
        cloud.faults().remove(rule);
        assert_eq!(cloud.scan_table("sosw_closed_tasks").unwrap().len(), 0);
        assert_eq!(tables.update(&[claim]).await, Ok(vec![Updated::Done]));
    }
}

#[tokio::test]
async fn tables_and_indexes_that_are_not_there_are_named_to_the_dispatcher() {
    let (cloud, clients) = local_cloud().await;
    cloud.create_task_tables(&Tables::default()).unwrap();
    let (_claimed, _, claim) = claimable(TaskWrites::Insert, REQUEST_TIME).await;
    let with = |names, writes| DynamoTables::new(clients.dynamodb.clone(), names, writes);
    let said = |error: PortError| match error {
        PortError::Environment { kind, message } => {
            assert_eq!(kind, "NoSuchTable");
            message
        }
        other => panic!("{other}"),
    };
    let nowhere = || Tables {
        tasks: "nowhere".to_owned(),
        closed: "nowhere".to_owned(),
        ..Tables::default()
    };
    for writes in [TaskWrites::Insert, TaskWrites::Overwrite] {
        let tables = with(nowhere(), writes);
        let error = tables.update(std::slice::from_ref(&claim)).await.unwrap_err();
        assert!(said(error).contains("\"nowhere\""));
    }
    let tables = with(nowhere(), TaskWrites::Insert);
    assert!(said(tables.task("1").await.unwrap_err()).contains("\"nowhere\""));
    assert!(said(tables.transact(&closing()).await.unwrap_err()).contains("\"nowhere\""));
    let names = Tables {
        index_retry: "no-index".to_owned(),
        ..Tables::default()
    };
    let range = Range {
        index: Index::Waiting,
        labourer_id: "worker".to_owned(),
        from: Greenfield::ZERO,
        to: Greenfield::ZERO,
        limit: 1,
        after: None,
    };
    let error = with(names, TaskWrites::Insert).read(&range).await.unwrap_err();
    let message = said(error);
    assert!(
        message.contains("\"sosw_retry_tasks\" lacks its index"),
        "{message}"
    );
}

#[tokio::test]
async fn an_object_request_is_sent_up_to_three_times() {
    let (cloud, clients) = local_cloud().await;
    let store = S3Store::new(clients.s3, BUCKET);
    cloud.put_object(BUCKET, "key", "body").unwrap();
    let rule = |effect, times| cloud.faults().add(Rule::new(Service::S3, effect).times(times));
    for effect in [Effect::Error, Effect::Throttle, Effect::Refuse] {
        rule(effect.clone(), 2);
        assert_eq!(
            store.get("key", 10).await.unwrap().unwrap().body,
            "body",
            "{effect:?}"
        );
    }
    rule(Effect::Error, 3);
    is_unknown(store.get("key", 10).await);
    rule(Effect::Throttle, 3);
    is_throttled(store.get("key", 10).await);
}

#[tokio::test]
async fn a_conditional_put_whose_answer_was_lost_is_told_by_reading() {
    let (cloud, clients) = local_cloud().await;
    let store = S3Store::new(clients.s3, BUCKET);
    let none = Metadata::new();
    let lose = |operation| {
        cloud
            .faults()
            .add(Rule::new(Service::S3, Effect::LoseAnswer).on(operation).times(1))
    };
    let body = |key| cloud.object(BUCKET, key).map(|object| object.body);

    lose("PutObject");
    let put = store.put("put", "mine".into(), &none, PutIf::Absent).await;
    assert!(
        matches!(put, Err(PortError::PreconditionFailed { .. })),
        "{put:?}"
    );
    assert_eq!(body("put").unwrap(), "mine");

    let etag = store.head("put").await.unwrap().unwrap().etag;
    lose("PutObject");
    let put = store
        .put("put", "mine, too".into(), &none, PutIf::Matches(etag))
        .await;
    assert!(
        matches!(put, Err(PortError::PreconditionFailed { .. })),
        "{put:?}"
    );
    assert_eq!(body("put").unwrap(), "mine, too");

    let etag = store.head("put").await.unwrap().unwrap().etag;
    lose("DeleteObject");
    assert_eq!(store.delete("put", Some(&etag)).await, Ok(()));
    assert_eq!(body("put"), None);

    let mut upload = store.begin_upload("upload", &none).await.unwrap();
    store.upload_part(&mut upload, "mine".into()).await.unwrap();
    lose("CompleteMultipartUpload");
    let completed = store.complete_upload(upload).await;
    let settled_by_reading = matches!(
        completed,
        Ok(_) | Err(PortError::PreconditionFailed { .. } | PortError::Unknown { .. })
    );
    assert!(settled_by_reading, "{completed:?}");
    assert_eq!(body("upload").unwrap(), "mine");
}

#[tokio::test]
async fn a_conflict_is_told_at_once() {
    let (cloud, clients) = local_cloud().await;
    let store = S3Store::new(clients.s3, BUCKET);
    let rule = cloud.faults().add(Rule::new(Service::S3, Effect::Conflict));
    let put = store
        .put("put", "mine".into(), &Metadata::new(), PutIf::Absent)
        .await;
    assert!(matches!(put, Err(PortError::Conflict { .. })), "{put:?}");
    assert_eq!(cloud.faults().fired(rule), 1);
    assert_eq!(cloud.object(BUCKET, "put"), None);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_gives_no_definite_answer() {
    let (cloud, tasks) = task_cloud(TaskWrites::Insert, REQUEST_TIME).await;
    drop(cloud);
    is_unknown(tasks.create(&[task("1")]).await);
    is_unknown(tasks.create_in_doubt(&task("1")).await);
    is_unknown(tasks.newest_greenfield("worker", Greenfield::ZERO).await);
}
