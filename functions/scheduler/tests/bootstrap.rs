//! The real bootstrap under the local Lambda, over HTTP: one process a sandbox, killed at its time-out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jobmill_local::{Effect, FunctionSpec, Rule, Service, WriteRate};
use jobmill_tests::dynamo;
use jobmill_tests::world::{BUCKET, FUNCTION, PREFIX, World, config, flat_job};
use serde_json::{Value, json};

const BOOTSTRAP: &str = env!("CARGO_BIN_EXE_bootstrap");
const PATIENCE: Duration = Duration::from_secs(120);

async fn world(more: Value, timeout: Duration) -> World {
    World::start(Path::new(BOOTSTRAP), &config(more), timeout).await
}

async fn usual() -> World {
    world(json!({}), Duration::from_secs(60)).await
}

#[tokio::test]
async fn a_job_that_fits_is_completed_at_once() {
    let world = usual().await;
    let job = json!({
        "lambda_name": "arn:aws:lambda:us-east-1:000000000000:function:worker:live",
        "period": "last_2_days",
        "isolate_days": true,
        "isolate_stores": true,
        "sections": { "a": { "stores": { "x": null, "y": { "products": [1, 2], "k": 5 } } }, "b": null },
    });
    let answer = world
        .invoke(&json!({ "job": job, "run_id": "fits", "as_of": "2024-03-06" }))
        .await
        .unwrap();
    assert_eq!(answer["outcome"], "completed");
    assert_eq!(
        (&answer["rows"], &answer["counters"]["created"]),
        (&json!(6), &json!(6))
    );
    let tasks = world.assert_whole("fits", 6);
    assert_eq!(
        tasks[1].payload,
        json!({ "isolate_stores": true, "date_list": ["2024-03-04"], "sections": ["a"], "stores": ["y"], "k": 5,
            "products": [1, 2] })
    );
}

#[tokio::test]
async fn a_job_that_needs_several_hops_is_completed_by_a_chain() {
    let world = world(json!({ "shutdown_period": 1 }), Duration::from_secs(3)).await;
    world.cloud.faults().limit_writes(
        "sosw_tasks",
        WriteRate {
            units_per_second: 400.0,
            burst: 100.0,
        },
    );
    world
        .cloud
        .invoke_event(
            FUNCTION,
            json!({ "job": flat_job(2_500), "run_id": "hops" }).to_string(),
        )
        .unwrap();
    world.cloud.wait_idle(PATIENCE).await.unwrap();
    let outcomes = world.outcomes();
    let (last, chain) = outcomes.split_last().unwrap();
    assert_eq!(last, "completed", "{outcomes:?}");
    world.assert_whole("hops", 2_500);
    assert!(
        chain.len() >= 3 && chain.iter().all(|outcome| outcome == "handed_off"),
        "{outcomes:?}"
    );
    let traces: BTreeSet<String> = world
        .cloud
        .invocations()
        .into_iter()
        .map(|one| one.trace)
        .collect();
    assert_eq!(traces.len(), 1, "one trace leads through all hops: {traces:?}");
}

/// The orchestrator is woken up when there are tasks, and when all of them are there. What it does is not of interest here.
#[tokio::test]
async fn the_orchestrator_is_woken_up_when_a_drain_begins_and_when_it_ends() {
    let world = usual().await;
    let labourers = json!({ "worker": { "arn": "f", "group": "nightly" }, "idle": {} });
    let config = config(json!({ "task_config": { "labourers": labourers } }));
    world.cloud.register_function(
        FunctionSpec::new(FUNCTION, BOOTSTRAP)
            .env("JOBMILL_CONFIG", config.to_string())
            .env("JOBMILL_ORCHESTRATOR", "orchestrator")
            .timeout(Duration::from_secs(60)),
    );
    world.register(
        "orchestrator",
        Path::new(BOOTSTRAP),
        "{}",
        Duration::from_secs(60),
    );
    let event = json!({ "job": flat_job(60), "run_id": "wakes" });
    assert_eq!(world.invoke(&event).await.unwrap()["outcome"], "completed");
    world.cloud.wait_idle(PATIENCE).await.unwrap();
    let wake_ups = || {
        let records = world.cloud.invocations().into_iter();
        let records = records.filter(|record| record.function == "orchestrator");
        records.map(|record| record.payload).collect::<Vec<_>>()
    };
    assert_eq!(wake_ups(), [r#"{"group":"nightly"}"#; 2]);
    // Where nothing was created there is nothing to wake up for; nor where nobody can be started.
    assert_eq!(
        world.invoke(&event).await.unwrap()["outcome"],
        "already_completed"
    );
    let of_nobody = json!({ "job": { "lambda_name": "idle" }, "run_id": "nobody" });
    assert_eq!(world.invoke(&of_nobody).await.unwrap()["outcome"], "completed");
    world.cloud.wait_idle(PATIENCE).await.unwrap();
    assert_eq!(wake_ups().len(), 2);
}

#[tokio::test]
async fn an_orchestrator_that_cannot_be_woken_up_does_no_harm() {
    let world = usual().await;
    world.cloud.register_function(
        FunctionSpec::new(FUNCTION, BOOTSTRAP)
            .env("JOBMILL_CONFIG", config(json!({})).to_string())
            .env("JOBMILL_ORCHESTRATOR", "nobody")
            .timeout(Duration::from_secs(60)),
    );
    let event = json!({ "job": flat_job(60), "run_id": "alone" });
    assert_eq!(world.invoke(&event).await.unwrap()["outcome"], "completed");
    world.assert_whole("alone", 60);
    let warning = world
        .cloud
        .wait_log("could not wake the orchestrator up", PATIENCE)
        .await
        .unwrap();
    assert!(warning.text.contains("\"level\":\"WARN\""), "{}", warning.text);
}

#[tokio::test]
async fn a_repeated_event_creates_nothing_new() {
    let world = usual().await;
    let event = json!({ "job": flat_job(100), "run_id": "again" });
    assert_eq!(world.invoke(&event).await.unwrap()["outcome"], "completed");
    let before = world.tasks();
    assert_eq!(
        world.invoke(&event).await.unwrap()["outcome"],
        "already_completed"
    );
    assert_eq!(world.assert_whole("again", 100), before);
}

#[tokio::test]
async fn a_run_id_is_for_one_job_only() {
    let world = usual().await;
    world
        .invoke(&json!({ "job": flat_job(3), "run_id": "mine" }))
        .await
        .unwrap();
    let (kind, sentence) = world
        .invoke(&json!({ "job": flat_job(4), "run_id": "mine" }))
        .await
        .unwrap_err();
    assert_eq!(kind, "RunIdConflict");
    assert!(sentence.contains("\"mine\""), "{sentence}");
    world.assert_whole("mine", 3);
}

#[tokio::test]
async fn eight_deliveries_at_once_are_one_run() {
    let world = world(json!({}), Duration::from_secs(60)).await;
    let event = json!({ "job": flat_job(2_000), "run_id": "eight" }).to_string();
    for _ in 0..8 {
        world.cloud.invoke_event(FUNCTION, event.clone()).unwrap();
    }
    world.cloud.wait_idle(PATIENCE).await.unwrap();
    world.assert_whole("eight", 2_000);
    let outcomes = world.outcomes();
    assert_eq!(
        outcomes.iter().filter(|outcome| *outcome == "completed").count(),
        1,
        "{outcomes:?}"
    );
    assert!(
        outcomes
            .iter()
            .all(|outcome| ["completed", "already_completed", "held_elsewhere"].contains(&outcome.as_str())),
        "{outcomes:?}"
    );
}

/// A world in which the first invocation has released its file and its sibling never ran.
async fn after_a_lost_spawn(run_id: &str, rows: usize) -> World {
    let world = world(json!({ "shutdown_period": 1 }), Duration::from_secs(3)).await;
    world.cloud.faults().limit_writes(
        "sosw_tasks",
        WriteRate {
            units_per_second: 300.0,
            burst: 50.0,
        },
    );
    let lost = world
        .cloud
        .faults()
        .add(Rule::new(Service::Lambda, Effect::LoseInvoke).times(1));
    let answer = world
        .invoke(&json!({ "job": flat_job(rows), "run_id": run_id }))
        .await
        .unwrap();
    assert_eq!(
        (&answer["outcome"], &answer["to"]),
        (&json!("handed_off"), &json!("sibling"))
    );
    assert_eq!(world.cloud.faults().fired(lost), 1);
    world.cloud.faults().unlimit_writes("sosw_tasks");
    world
}

#[tokio::test]
async fn the_time_at_which_a_schedule_fired_is_a_run_id() {
    let world = usual().await;
    let event = json!({ "job": flat_job(3), "run_id": "nightly-2022-03-22T18:59:43Z" });
    assert_eq!(world.invoke(&event).await.unwrap()["outcome"], "completed");
    assert_eq!(
        world.invoke(&event).await.unwrap()["outcome"],
        "already_completed"
    );
    world.assert_whole("nightly-2022-03-22T18:59:43Z", 3);
}

#[tokio::test]
async fn a_lost_sibling_is_swept_up() {
    let world = after_a_lost_spawn("lost", 3_000).await;
    let answer = world.invoke(&json!({ "sweep": true })).await.unwrap();
    assert_eq!(
        answer,
        json!({ "outcome": "swept", "files": ["tasks_queue_lost.txt"], "stopped": [], "failed": [] })
    );
    world.cloud.wait_idle(PATIENCE).await.unwrap();
    world.assert_whole("lost", 3_000);
    assert_eq!(
        world.invoke(&json!({ "sweep": true })).await.unwrap()["outcome"],
        "nothing_to_do"
    );
}

#[tokio::test]
async fn a_lock_that_cannot_be_read_is_left_alone_and_told_of() {
    let world = after_a_lost_spawn("torn-lock", 3_000).await;
    let key = format!("{PREFIX}/locked_tasks_queue_torn-lock.txt");
    let lock = world.cloud.object(BUCKET, &key).unwrap();
    world.cloud.put_object(BUCKET, &key, "{\"version\": 1").unwrap();
    let answer = world.invoke(&json!({ "sweep": true })).await.unwrap();
    assert_eq!(
        answer,
        json!({ "outcome": "swept", "files": [], "stopped": ["tasks_queue_torn-lock.txt"], "failed": [] })
    );
    // Somebody mends it.
    world.cloud.put_object(BUCKET, &key, lock.body).unwrap();
    world.invoke(&json!({ "sweep": true })).await.unwrap();
    world.cloud.wait_idle(PATIENCE).await.unwrap();
    world.assert_whole("torn-lock", 3_000);
}

#[tokio::test]
async fn two_continuations_at_once_do_the_work_once() {
    let world = after_a_lost_spawn("two", 3_000).await;
    let event = json!({ "file_name": "tasks_queue_two.txt", "hop": 1 }).to_string();
    world.cloud.invoke_event(FUNCTION, event.clone()).unwrap();
    world.cloud.invoke_event(FUNCTION, event).unwrap();
    world.cloud.wait_idle(PATIENCE).await.unwrap();
    world.assert_whole("two", 3_000);
}

#[tokio::test]
async fn a_killed_sandbox_delays_a_job_and_loses_nothing() {
    let world = usual().await;
    world.cloud.faults().limit_writes(
        "sosw_tasks",
        WriteRate {
            units_per_second: 500.0,
            burst: 100.0,
        },
    );
    let slow = world.cloud.faults().add(
        Rule::new(Service::DynamoDb, Effect::Hold)
            .on("BatchExecuteStatement")
            .after(10),
    );
    world
        .cloud
        .invoke_event(
            FUNCTION,
            json!({ "job": flat_job(2_000), "run_id": "killed" }).to_string(),
        )
        .unwrap();
    assert!(world.cloud.faults().wait_fired(slow, 1).await);
    assert_eq!(world.cloud.kill_all_instances(), 1);
    world.cloud.faults().remove(slow);
    world.cloud.wait_idle(PATIENCE).await.unwrap();
    world.cloud.faults().unlimit_writes("sosw_tasks");
    assert_eq!(
        world.invoke(&json!({ "sweep": true })).await.unwrap()["outcome"],
        "nothing_to_do",
        "the lease runs"
    );
    world.cloud.advance_clock(Duration::from_secs(40));
    assert_eq!(
        world.invoke(&json!({ "sweep": true })).await.unwrap()["outcome"],
        "swept"
    );
    world.cloud.wait_idle(PATIENCE).await.unwrap();
    world.assert_whole("killed", 2_000);
}

#[tokio::test]
async fn throttled_tables_and_lost_answers_only_take_longer() {
    // How much longer depends on the machine too: nothing is handed over here.
    let world = world(json!({}), Duration::from_secs(600)).await;
    let faults = world.cloud.faults();
    faults.limit_writes(
        "sosw_tasks",
        WriteRate {
            units_per_second: 1_000.0,
            burst: 200.0,
        },
    );
    let rule = |effect| Rule::new(Service::DynamoDb, effect).on("BatchExecuteStatement");
    faults.add(rule(Effect::Unprocessed(0.3)).chance(0.2));
    faults.add(rule(Effect::LoseAnswer).chance(0.05));
    faults.add(rule(Effect::Error).chance(0.05));
    faults.add(rule(Effect::Throttle).chance(0.05));
    faults.add(
        Rule::new(Service::DynamoDb, Effect::LoseAnswer)
            .on("TransactWriteItems")
            .chance(0.1),
    );
    faults.add(
        Rule::new(Service::S3, Effect::LoseAnswer)
            .on("PutObject")
            .chance(0.1),
    );
    let answer = world
        .invoke(&json!({ "job": flat_job(2_000), "run_id": "rough" }))
        .await
        .unwrap();
    assert_eq!(answer["outcome"], "completed");
    assert!(answer["counters"]["throttled"].as_u64().unwrap() > 0);
    world.assert_whole("rough", 2_000);
}

#[tokio::test]
async fn a_file_that_sosw_left_is_adopted_when_it_is_named_and_never_by_the_sweep() {
    let world = usual().await;
    let rows: String = (0..40)
        .map(|row| {
            format!(
                "{}\n",
                json!({ "labourer_id": "worker", "sections": [row], "payload": { "base": 1 } })
            )
        })
        .collect();
    world
        .cloud
        .put_object(BUCKET, &format!("{PREFIX}/tasks_queue_old.txt"), rows)
        .unwrap();
    world.cloud.advance_clock(Duration::from_secs(3_600));
    assert_eq!(
        world.invoke(&json!({ "sweep": true })).await.unwrap()["outcome"],
        "nothing_to_do"
    );
    let answer = world
        .invoke(&json!({ "file_name": "tasks_queue_old.txt" }))
        .await
        .unwrap();
    assert_eq!(answer["outcome"], "completed");
    let tasks = world.assert_whole(answer["run_id"].as_str().unwrap(), 40);
    assert_eq!(tasks[7].payload, json!({ "base": 1, "sections": [7] }));
}

#[tokio::test]
async fn a_damaged_row_stops_there_and_nothing_before_it_is_lost() {
    let world = usual().await;
    let mut rows: Vec<String> = (0..60)
        .map(|row| json!({ "labourer_id": "worker", "sections": [row] }).to_string())
        .collect();
    rows[30] = "{\"labourer_id\": \"worker\", \"sec".to_owned();
    world
        .cloud
        .put_object(BUCKET, &format!("{PREFIX}/tasks_queue_torn.txt"), rows.join("\n"))
        .unwrap();
    let (kind, sentence) = world
        .invoke(&json!({ "file_name": "tasks_queue_torn.txt" }))
        .await
        .unwrap_err();
    assert_eq!(kind, "DamagedQueue");
    assert!(sentence.contains("line 31"), "{sentence}");
    assert_eq!(world.tasks().len(), 30);
    let answer = world.invoke(&json!({ "sweep": true })).await.unwrap();
    assert_eq!(
        (&answer["files"], answer["stopped"].as_array().unwrap().len()),
        (&json!([]), 1)
    );
}

#[tokio::test]
async fn the_configuration_may_lie_in_a_file_in_s3_or_in_the_config_table_of_sosw() {
    let world = usual().await;
    let text = config(json!({})).to_string();
    let file = std::env::temp_dir().join(format!("jobmill-config-{}.json", std::process::id()));
    std::fs::write(&file, &text).unwrap();
    world
        .cloud
        .put_object(BUCKET, "config/jobmill.json", text.clone())
        .unwrap();
    world.cloud.create_table(dynamo::config_table()).unwrap();
    let item = json!({
        "env": { "S": "production" },
        "config_name": { "S": "scheduler_config" },
        "config_value": { "S": text },
    });
    world.cloud.put_item("config", item).unwrap();
    let sources = [
        format!("file:{}", file.display()),
        format!("s3://{BUCKET}/config/jobmill.json"),
        "dynamodb://config/production/scheduler_config".to_owned(),
    ];
    for (number, source) in sources.iter().enumerate() {
        let name = format!("from-{number}");
        world.register(&name, Path::new(BOOTSTRAP), source, Duration::from_secs(60));
        let event = json!({ "job": flat_job(2), "run_id": name });
        let answer = world.cloud.invoke(&name, event.to_string()).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(answer["outcome"], "completed", "{source}: {answer}");
    }
    std::fs::remove_file(&file).unwrap();
    world.register(
        "nowhere",
        Path::new(BOOTSTRAP),
        &format!("s3://{BUCKET}/no/such.json"),
        Duration::from_secs(60),
    );
    let answer = world
        .cloud
        .invoke("nowhere", flat_job(1).to_string())
        .await
        .unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["errorType"], "InvalidConfig", "{answer}");
}

#[tokio::test]
async fn every_error_names_its_type_and_says_what_to_do_and_nothing_is_written() {
    let world = world(json!({ "max_tasks_per_job": 50 }), Duration::from_secs(60)).await;
    let large = "x".repeat(500_000);
    let cases = [
        (
            json!([1, 2]),
            "InvalidEvent",
            "the event is a list, not an object or text holding one",
        ),
        (
            json!({ "Records": [{ "eventSource": "aws:sqs", "body": flat_job(1).to_string() }] }),
            "InvalidEvent",
            "the event is a batch of messages of SQS",
        ),
        (
            json!({ "job": "{\"lambda_name\"" }),
            "InvalidEvent",
            "`job` is not JSON",
        ),
        (
            json!({ "job": flat_job(1), "run_id": "../../etc" }),
            "InvalidEvent",
            "`run_id` is \"../../etc\"",
        ),
        (
            json!({ "job": flat_job(1), "as_of": "soon" }),
            "InvalidEvent",
            "`as_of` is \"soon\"",
        ),
        (
            json!({ "file_name": "../other/file" }),
            "InvalidEvent",
            "`file_name` is \"../other/file\", which is a path",
        ),
        (
            json!({ "file_name": "locked_tasks_queue_r.txt" }),
            "InvalidEvent",
            "`file_name` is \"locked_tasks_queue_r.txt\", which is a lock",
        ),
        (
            json!({ "file_name": "x.txt", "hop": -1 }),
            "InvalidEvent",
            "`hop` is -1",
        ),
        (
            json!({ "file_name": "nowhere.txt" }),
            "UnknownQueueFile",
            "`file_name` is \"nowhere.txt\"",
        ),
        (json!({ "k": 1 }), "InvalidJob", "`lambda_name` is missing"),
        (
            json!({ "lambda_name": "worker", "isolate_sections": "perhaps" }),
            "InvalidJob",
            "`isolate_sections` is \"perhaps\"",
        ),
        (
            json!({ "lambda_name": "worker", "isolate_sections": true }),
            "InvalidJob",
            "`sections` is to be split",
        ),
        (
            json!({ "lambda_name": "worker", "greenfield": 1 }),
            "InvalidJob",
            "`greenfield`",
        ),
        (
            json!({ "lambda_name": "wroker" }),
            "UnknownLabourer",
            "did you mean \"worker\"?",
        ),
        (
            json!({ "lambda_name": "worker", "job_schema_name": "defualt" }),
            "UnknownSchema",
            "did you mean \"default\"?",
        ),
        (
            flat_job(51),
            "FanOutTooLarge",
            "51 tasks, and `max_tasks_per_job` is 50",
        ),
        (
            json!({ "lambda_name": "worker", "isolate_sections": true, "sections": ["a"], "big": large }),
            "TaskTooLarge",
            "DynamoDB takes 409600",
        ),
        (
            json!({ "detail-type": "t", "source": "s", "detail": flat_job(1), "time": "2001-01-01T00:00:00Z", "id": "e" }),
            "InvalidEvent",
            "`time` is 2001-01-01T00:00:00+00:00, more than 30 days ago",
        ),
    ];
    for (event, kind, part) in cases {
        let (found, sentence) = world.invoke(&event).await.unwrap_err();
        assert_eq!(found, kind, "{sentence}");
        assert!(sentence.contains(part), "{sentence:?} should contain {part:?}");
    }
    assert_eq!(world.objects(), Vec::<String>::new());
    assert_eq!(world.tasks(), []);
}

#[tokio::test]
async fn a_broken_configuration_is_reported_by_every_invocation() {
    let world = World::start(
        Path::new(BOOTSTRAP),
        &json!({ "queue_buckets": "x", "task_config": { "labourers": [] } }),
        Duration::from_secs(60),
    )
    .await;
    let (kind, sentence) = world.invoke(&flat_job(1)).await.unwrap_err();
    assert_eq!(kind, "InvalidConfig");
    assert!(
        sentence.contains("`queue_buckets` is unknown (did you mean \"queue_bucket\"?)"),
        "{sentence}"
    );
}

#[tokio::test]
async fn what_is_wrong_around_the_function_is_named_by_every_invocation() {
    let world = usual().await;
    let spec = |name: &str, config: Value| {
        FunctionSpec::new(name, BOOTSTRAP)
            .env("JOBMILL_CONFIG", config.to_string())
            .timeout(Duration::from_secs(60))
            .retry_delays([])
    };
    let tables = json!({ "table_name": "no_tasks" });
    let labourers = json!({ "worker": { "arn": "arn:aws:lambda:us-east-1:000000000000:function:worker" } });
    let no_table = json!({ "task_config": { "labourers": labourers, "dynamo_db_config": tables } });
    let usual = config(json!({}));
    for (spec, kind, parts) in [
        (
            spec("bundle", usual.clone()).env("AWS_CA_BUNDLE", "/no/such/ca.pem"),
            "InvalidEnvironment",
            ["while connecting to AWS", "`AWS_CA_BUNDLE`"],
        ),
        (
            spec("region", usual.clone()).env("AWS_REGION", ""),
            "NoRegion",
            ["while connecting to AWS", "`AWS_REGION`"],
        ),
        (
            spec("bucket", config(json!({ "queue_bucket": "no-bucket" }))),
            "NoSuchBucket",
            ["\"no-bucket\"", "create it"],
        ),
        (
            spec("table", config(no_table)),
            "NoSuchTable",
            ["\"no_tasks\"", "create it"],
        ),
    ] {
        let name = spec.name.clone();
        world.cloud.register_function(spec);
        for attempt in ["first", "second"] {
            let event = json!({ "job": flat_job(1), "run_id": name });
            let answer = world.cloud.invoke(&name, event.to_string()).await.unwrap();
            let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
            assert_eq!(answer["errorType"], kind, "{name}, {attempt}: {answer}");
            for part in parts {
                assert!(
                    answer["errorMessage"].as_str().unwrap().contains(part),
                    "{answer}"
                );
            }
        }
    }
}

#[tokio::test]
async fn an_empty_job_has_nothing_to_do() {
    let world = usual().await;
    let answer = world
        .invoke(&json!({ "lambda_name": "worker", "isolate_sections": true, "sections": [] }))
        .await
        .unwrap();
    assert_eq!(answer["outcome"], "nothing_to_do");
    assert_eq!(world.objects(), Vec::<String>::new());
}
