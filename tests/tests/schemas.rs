//! The JSON Schemas in `docs/schemas`, and the tables of `docs/configuration.md`: they are what the code makes, they take
//! what jobmill takes, and they refuse most of what it refuses. `JOBMILL_BLESS=1` writes them anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use boon::{Compiler, SchemaIndex, Schemas};
use jobmill_core::config::{Config, Key, Keys, Kind, json_schema};
use jobmill_core::job::event::{self, Request};
use jobmill_core::job::json_schema::{event_schema, job_schema, job_schema_for};
use jobmill_core::job::period::AsOf;
use jobmill_core::job::plan::Plan;
use serde_json::{Value, json};

fn docs(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

/// Compares a document with what it should be, or writes it.
fn compare(name: &str, expected: &str) {
    let path = docs(name);
    if std::env::var_os("JOBMILL_BLESS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let line = expected
        .lines()
        .zip(found.lines())
        .position(|(made, there)| made != there);
    assert!(
        found == expected,
        "docs/{name} is not what the code makes (line {:?}): run JOBMILL_BLESS=1 cargo test --test schemas",
        line.map(|line| line + 1)
    );
}

/// A JSON Schema, ready to be asked.
struct Validator(Schemas, SchemaIndex);

impl Validator {
    /// Fails if it is none.
    fn of(schema: Value) -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("schema.json", schema).unwrap();
        let index = compiler.compile("schema.json", &mut schemas);
        let index = index.unwrap_or_else(|error| panic!("{error:#}"));
        Self(schemas, index)
    }

    fn check(&self, value: &Value) -> Result<(), String> {
        let result = self.0.validate(value, self.1);
        result.map_err(|error| format!("{error:#} in {value}"))
    }

    fn is_valid(&self, value: &Value) -> bool {
        self.check(value).is_ok()
    }
}

#[test]
fn the_schemas_in_the_folder_are_those_of_the_code() {
    for (name, schema) in [
        ("config", json_schema()),
        ("job", job_schema()),
        ("event", event_schema()),
    ] {
        compare(&format!("schemas/{name}.schema.json"), &format!("{schema:#}\n"));
    }
}

// The tables of the configuration.

/// One row a key, `null` being "not set" everywhere. Keys that are read as nothing have none.
fn rows(path: &str, keys: &Keys, rows: &mut Vec<(String, String)>) {
    for Key { name, kind, meaning } in &keys.known {
        let path = format!("{path}{name}");
        let number = |number: &u64| {
            let digits = number.to_string();
            let groups: Vec<&str> = digits
                .as_bytes()
                .rchunks(3)
                .rev()
                .map(|group| std::str::from_utf8(group).unwrap())
                .collect();
            groups.join(",")
        };
        let (default, bounds) = match kind {
            Kind::Number { default, min, max } => {
                let default = default.as_ref().map_or_else(|| "none".to_owned(), number);
                (default, format!("{} to {}", number(min), number(max)))
            }
            Kind::Decimal { default, min, max } => (default.to_string(), format!("{min} to {max}")),
            Kind::Text {
                default,
                required,
                form,
            } => {
                let default = match default {
                    Some(default) => format!("`{default}`"),
                    None if *required => "required".to_owned(),
                    None => "none".to_owned(),
                };
                (default, form.bounds.to_owned())
            }
            Kind::Switch { default } => (format!("`{default}`"), "`true`, `false`".to_owned()),
            Kind::Choice { default, options } => {
                let default = default.map_or_else(|| "none".to_owned(), |default| format!("`{default}`"));
                (default, format!("`{}`", options.join("`, `")))
            }
            Kind::Own(form) => (form.default.to_owned(), form.bounds.to_owned()),
            Kind::ByName(_) => ("none".to_owned(), "objects by name".to_owned()),
            Kind::Object(keys) => {
                self::rows(&format!("{path}."), keys, rows);
                continue;
            }
            Kind::Unread { .. } => continue,
        };
        rows.push((
            format!("| `{path}` | "),
            format!("{default} | {bounds} | {meaning} |"),
        ));
        // The schemas by name have the keys of `job_schema`.
        if let (Kind::ByName(keys), false) = (kind, path == "job_schema_variants") {
            self::rows(&format!("{path}.NAME."), keys, rows);
        }
    }
}

#[test]
fn each_key_has_its_row_in_the_document_and_no_other_has_one() {
    let mut expected = Vec::new();
    rows("", &Config::known_keys(), &mut expected);
    let document = std::fs::read_to_string(docs("configuration.md")).unwrap();
    let (mut found, mut in_table) = (Vec::new(), false);
    let lines: Vec<String> = document
        .lines()
        .map(|line| {
            let row = expected.iter().find(|(key, _)| line.starts_with(key.as_str()));
            in_table = line == "| key | default | bounds | meaning |" || (in_table && line.starts_with('|'));
            if in_table && line.starts_with("| `") {
                found.push(line.split('`').nth(1).unwrap().to_owned());
            }
            row.map_or_else(|| line.to_owned(), |(key, rest)| format!("{key}{rest}"))
        })
        .collect();
    let mut keys: Vec<String> = expected
        .iter()
        .map(|(key, _)| key.split('`').nth(1).unwrap().to_owned())
        .collect();
    keys.sort();
    found.sort();
    assert_eq!(
        found, keys,
        "the keys that docs/configuration.md has rows for, and those that there are"
    );
    compare("configuration.md", &format!("{}\n", lines.join("\n")));
}

#[test]
fn the_keys_of_sosw_that_mean_nothing_are_listed() {
    fn unread(keys: &Keys, names: &mut BTreeSet<String>) {
        for key in &keys.known {
            match &key.kind {
                Kind::Unread { warned: true } => drop(names.insert(key.name.to_string())),
                Kind::Object(keys) | Kind::ByName(keys) => unread(keys, names),
                _ => {}
            }
        }
    }
    let mut names = BTreeSet::new();
    unread(&Config::known_keys(), &mut names);
    assert!(names.contains("init_clients") && names.contains("..._dynamo_db_config"));
    let documents = ["configuration.md", "migrate-from-sosw.md"];
    let documents = documents.map(|name| std::fs::read_to_string(docs(name)).unwrap());
    for name in names {
        let written = format!("`{name}`");
        assert!(
            documents.iter().any(|text| text.contains(&written)),
            "{name} is in none of the lists"
        );
    }
}

// What is valid.

struct Case {
    id: String,
    config: Value,
    event: Value,
    error: Option<String>,
}

fn golden() -> Vec<Case> {
    include_str!("../data/golden.jsonl")
        .lines()
        .map(|line| {
            let mut case: Value = serde_json::from_str(line).unwrap();
            Case {
                id: case["id"].as_str().unwrap().to_owned(),
                config: case["config"].take(),
                event: case["event"].take(),
                error: case["error"].as_str().map(str::to_owned),
            }
        })
        .collect()
}

/// The bare job of an event.
fn bare(event: &Value) -> Option<Value> {
    match event::read(event.clone()) {
        Ok(Request::Job(request)) => Some(Value::Object(request.job.to_map())),
        _ => None,
    }
}

#[test]
fn recorded_configurations_that_are_right_are_valid_and_others_mostly_not() {
    let schema = Validator::of(json_schema());
    let (mut wrong, mut caught) = (0, 0);
    for case in golden() {
        match Config::read(&case.config) {
            Ok(_) => assert!(schema.is_valid(&case.config), "{}: {}", case.id, case.config),
            Err(_) => {
                wrong += 1;
                caught += usize::from(!schema.is_valid(&case.config));
            }
        }
    }
    assert_eq!(
        (wrong, caught),
        (7, 5),
        "names that stand twice are beyond a JSON Schema"
    );
}

#[test]
fn recorded_events_that_are_right_are_valid_and_others_often_not() {
    let (events, jobs) = (Validator::of(event_schema()), Validator::of(job_schema()));
    let mut of_configs: BTreeMap<String, Validator> = BTreeMap::new();
    let (mut wrong, mut caught, mut caught_for_config) = (0, 0, 0);
    for Case {
        id,
        config,
        event,
        error,
    } in golden()
    {
        let Ok(read) = Config::read(&config) else { continue };
        let of_config = of_configs
            .entry(config.to_string())
            .or_insert_with(|| Validator::of(job_schema_for(&read)));
        let job = bare(&event);
        if error.is_none() {
            let job = job.unwrap();
            assert_eq!(events.check(&event), Ok(()), "{id}");
            assert_eq!(jobs.check(&job), Ok(()), "{id}");
            assert_eq!(of_config.check(&job), Ok(()), "{id}");
        } else {
            wrong += 1;
            caught += usize::from(!events.is_valid(&event));
            caught_for_config += usize::from(!job.is_some_and(|job| of_config.is_valid(&job)));
        }
    }
    assert_eq!(
        (wrong, caught, caught_for_config),
        (167, 45, 127),
        "of those, and with the attributes known"
    );
}

#[test]
fn the_examples_are_valid() {
    let (configs, events) = (Validator::of(json_schema()), Validator::of(event_schema()));
    let mut jobs = 0;
    let root = docs("..");
    let folders = ["examples", "tests/jobs"].map(|name| std::fs::read_dir(root.join(name)).unwrap());
    for folder in folders
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("jobmill.json").is_file())
    {
        let read = |path: PathBuf| -> Value {
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
        };
        let config = read(folder.join("jobmill.json"));
        assert_eq!(configs.check(&config), Ok(()));
        let of_config = Validator::of(job_schema_for(&Config::read(&config).unwrap()));
        for path in std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            if path.extension().is_some_and(|ending| ending == "json") && !path.ends_with("jobmill.json") {
                let event = read(path);
                assert_eq!(events.check(&event), Ok(()));
                assert_eq!(of_config.check(&bare(&event).unwrap()), Ok(()));
                jobs += 1;
            }
        }
    }
    assert!(jobs >= 8, "{jobs} jobs");
}

#[test]
fn the_schema_for_a_configuration_knows_its_labourers_schemas_and_flags() {
    let schema = Validator::of(job_schema_for(&Config::parse(CONFIG).unwrap()));
    for right in [
        json!({"lambda_name": "report"}),
        json!({"lambda_name": "arn:aws:lambda:eu-west-1:1:function:report:live"}),
        json!({"lambda_name": "report", "isolate_shops": "no attribute", "customers": {"a": {"isolate_customers": 5}}}),
        json!({"lambda_name": "report", "sections": {"a": {"store": [{"b": {"max_category_per_batch": "2"}}]}}}),
        json!({"lambda_name": "report", "job_schema_name": "flat", "isolate_stores": "no attribute", "period": "today"}),
    ] {
        assert_eq!(schema.check(&right), Ok(()));
    }
    for wrong in [
        json!({}),
        json!({"lambda_name": "reprot"}),
        json!({"lambda_name": "report", "job_schema_name": "falt"}),
        json!({"lambda_name": "report", "isolate_stores": "maybe"}),
        json!({"lambda_name": "report", "sections": {"a": {"isolate_stores": "maybe"}}}),
        json!({"lambda_name": "report", "sections": {"a": {"store": [{"b": {"max_category_per_batch": 0}}]}}}),
        json!({"lambda_name": "report", "sections": {"a": {"task_id": "x"}}}),
        json!({"lambda_name": "report", "job_schema_name": "flat", "isolate_customers": "maybe"}),
        json!({"lambda_name": "report", "job_schema_name": "flat", "period": "someday"}),
        json!({"lambda_name": "report", "max_section_per_batch": 2, "sections": ["a"], "period": "someday"}),
    ] {
        assert!(!schema.is_valid(&wrong), "{wrong}");
    }
}

#[test]
fn the_schema_that_a_file_names_for_editors_is_no_payload() {
    let config = Config::parse(CONFIG).unwrap();
    let plan = |event: Value| {
        let Ok(Request::Job(request)) = event::read(event) else {
            panic!("no job");
        };
        Plan::make(&config, request, None, AsOf::parse("2024-03-06").unwrap()).unwrap()
    };
    let rows = |plan: &Plan| -> Vec<String> {
        plan.chunks
            .rows()
            .map(|row| String::from_utf8(row).unwrap())
            .collect()
    };
    let bare = plan(json!({"lambda_name": "report", "k": 1}));
    for named in [
        "docs/schemas/job.schema.json",
        "https://example.com/event.schema.json",
        "for_reports.job.schema.json",
    ] {
        let named = plan(json!({"$schema": named, "lambda_name": "report", "k": 1}));
        assert_eq!(rows(&named), rows(&bare));
        assert_eq!(named.fingerprint, bare.fingerprint, "the same job");
    }
    // As it always was.
    for payload in [json!("https://example.com/rows.json"), json!(5), json!({"a": 1})] {
        let kept = plan(json!({"$schema": payload, "lambda_name": "report", "k": 1}));
        let row: Value = serde_json::from_str(&rows(&kept)[0]).unwrap();
        assert_eq!(row["$schema"], payload);
    }
    let envelope = plan(json!({"$schema": "event.schema.json", "job": {"lambda_name": "report", "k": 1}}));
    assert_eq!(rows(&envelope), rows(&bare));
    assert_eq!(
        envelope.warnings, bare.warnings,
        "nothing is ignored that should not be there"
    );
}

/// Every value of a document, and every key that could be there, replaced by odd ones.
fn variations(value: &Value, odd: &[Value]) -> Vec<Value> {
    let mut all = odd.to_vec();
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                for inner in variations(inner, odd) {
                    let mut map = map.clone();
                    map.insert(key.clone(), inner);
                    all.push(Value::Object(map));
                }
                let mut without = map.clone();
                without.shift_remove(key);
                all.push(Value::Object(without));
                let mut misspelt = map.clone();
                misspelt.insert(format!("{key}_"), inner.clone());
                all.push(Value::Object(misspelt));
            }
        }
        Value::Array(items) => {
            for (at, inner) in items.iter().enumerate() {
                for inner in variations(inner, odd) {
                    let mut items = items.clone();
                    items[at] = inner;
                    all.push(Value::Array(items));
                }
            }
        }
        _ => {}
    }
    all
}

fn odd_values() -> Vec<Value> {
    let mut odd: Vec<Value> = [
        "",
        "a",
        "s",
        "60",
        "-1",
        "true",
        "No",
        "a b",
        "a/b",
        "..",
        "a..b",
        "locked_a.txt",
        "a.txt",
        "arn:",
        "a\nb",
        "a\u{85}b",
        "day",
        "sections",
        "ü",
        "a\u{7}",
        "it's",
        "insert",
        "always",
        "UTC",
        "Europe/Rome",
        "S",
        "N",
        "last_2_days",
        "last_0_days",
        "today",
        "2024-03-06",
        "2024-03-06T00:00:00Z",
        "flat",
        "report",
        "1:function:report:live",
        "{}",
    ]
    .map(Value::from)
    .to_vec();
    odd.extend([
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(14),
        json!(60),
        json!(900),
        json!(-1),
        json!(0.5),
        json!(1e9),
        json!([]),
        json!(["a"]),
        json!([1]),
        json!([null]),
        json!([["a", {}]]),
        json!({}),
        json!({"a": null}),
        json!({"a": {}}),
        json!({"a": 1}),
        json!("x".repeat(300)),
    ]);
    odd
}

const CONFIG: &str = r#"{
    "$schema": "config.schema.json",
    "queue_bucket": "my-queue-bucket", "s3_prefix": "sosw/scheduler", "queue_file": "tasks_queue.txt", "shutdown_period": 60,
    "timeout": 900, "max_hops": 12, "max_tasks_per_job": 1000000, "lease_seconds": 30, "task_writes": "insert", "strict": false,
    "job_schema": {"chunkable_attrs": ["shop"]},
    "job_schema_variants": {
        "default": {"chunkable_attrs": [["section", {}], ["store", {}], ["category", {"plural": "categories"}]], "timezone": "Europe/Rome"},
        "flat": {"chunkable_attrs": ["customer"], "expand_period": "always"}
    },
    "task_config": {
        "labourers": {"report": {
            "arn": "arn:aws:lambda:eu-central-1:123456789012:function:report", "group": "main", "completion": "response",
            "max_simultaneous_invocations": 20, "max_attempts": 3, "max_duration": 300, "cooldown": 60, "retry_delay": 10,
            "retry_backoff": 2, "max_retry_delay": 900, "rate": {"starts": 10, "per": "second"},
            "concurrency": [{"by": "store", "max": 2}], "suspend_after": {"share": 0.9, "of": 50}, "paused": false,
            "queue_shards": 1,
            "health_metrics": {"cpu": {
                "details": {
                    "MetricName": "CPUUtilization", "Namespace": "AWS/RDS", "Period": 60, "Statistics": ["Average"],
                    "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": "db"}], "MetricAggregationTimeSlice": 300
                },
                "feelings": {"4": 25, "3": 50, "2": 75}, "feeling_comparison_operator": "<=", "status_without_data": 4
            }}
        }},
        "greenfield_task_step": 1000, "max_attempts": 3, "max_attempts_report": 3, "max_simultaneous_invocations": 1,
        "greenfield_invocation_delta": 31557600,
        "ecology_config": {"default_metric_values": {"Period": 60}},
        "dynamo_db_config": {
            "table_name": "sosw_tasks", "index_greenfield": "sosw_tasks_greenfield",
            "field_names": {"task_id": "task_id", "labourer_id": "labourer"},
            "row_mapper": {"task_id": "S", "created_at": "N", "other": "N"}, "notes": ""
        },
        "sosw_closed_tasks_table": "sosw_closed_tasks", "sosw_retry_tasks_table": "sosw_retry_tasks"
    },
    "meta_handler_config": {"write_meta_to_ddb": true, "dynamo_db_config": {"table_name": "sosw_tasks_meta"}},
    "dynamo_db_config": {"table_name": "sosw_tasks"}, "config_dynamo_db_config": {}, "init_clients": ["Task"],
    "outcome_queue": "https://sqs.eu-central-1.amazonaws.com/123456789012/outcomes", "invocation_number_coefficient": {"2": 0.5}
}"#;

#[test]
fn each_configuration_that_is_read_is_valid() {
    let schema = Validator::of(json_schema());
    let (mut right, mut wrong, mut caught) = (0, 0, 0);
    for config in variations(&serde_json::from_str(CONFIG).unwrap(), &odd_values()) {
        match Config::read(&config) {
            Ok(_) => {
                right += 1;
                assert_eq!(schema.check(&config), Ok(()));
            }
            Err(_) => {
                wrong += 1;
                caught += usize::from(!schema.is_valid(&config));
            }
        }
    }
    println!("{right} right, {caught} of {wrong} caught");
    assert!(
        right > 700 && caught * 100 > wrong * 95,
        "{right} right, {caught} of {wrong} caught"
    );
}

#[test]
fn each_event_that_is_planned_is_valid() {
    let config = Config::parse(CONFIG).unwrap();
    let (events, jobs, of_config) = (
        Validator::of(event_schema()),
        Validator::of(job_schema()),
        Validator::of(job_schema_for(&config)),
    );
    let now = AsOf::parse("2024-03-06").unwrap();
    let (mut right, mut wrong, mut caught) = (0, 0, 0);
    for base in [
        json!({
            "$schema": "job.schema.json", "lambda_name": "report", "period": "last_2_days", "isolate_days": true, "date_list": ["2024-03-06"],
            "isolate_sections": true, "max_store_per_batch": 2, "job_schema_name": "default", "payload": {"k": 1}, "stores": ["x"],
            "sections": {"a": {"stores": ["x", "y"], "isolate_category": "yes"}, "b": null},
        }),
        json!({"lambda_name": "report", "job_schema_name": "flat", "period": "yesterday", "max_customers_per_batch": 2, "customers": [1, 2]}),
        json!({"lambda_name": "report", "sections": [{"a": {"store": "x"}}]}),
        json!({"job": {"lambda_name": "report"}, "lambda_name": "report", "run_id": "r1", "as_of": "2024-03-06", "strict": false}),
        json!({"job": {"sections": ["a"]}, "lambda_name": "report"}),
        json!({
            "detail-type": "t", "source": "s", "id": "e1", "time": "2024-03-06T00:00:00Z",
            "detail": {"job": {"lambda_name": "report"}, "run_id": "r1"},
        }),
        json!({"file_name": "tasks_queue_r1.txt", "hop": 1, "skip_line": 2}),
        json!({"sweep": true}),
    ] {
        for event in variations(&base, &odd_values()) {
            let job = bare(&event);
            let planned = match event::read(event.clone()) {
                Ok(Request::Job(request)) => Plan::make(&config, request, None, now).is_ok(),
                Ok(Request::Continue(_) | Request::Sweep) => true,
                Err(_) => false,
            };
            let valid = events.is_valid(&event) && job.as_ref().is_none_or(|job| of_config.is_valid(job));
            if planned {
                right += 1;
                assert_eq!(events.check(&event), Ok(()));
                if let Some(job) = &job {
                    assert_eq!((jobs.check(job), of_config.check(job)), (Ok(()), Ok(())));
                }
            } else {
                wrong += 1;
                caught += usize::from(!valid);
            }
        }
    }
    println!("{right} right, {caught} of {wrong} caught");
    assert!(
        right > 700 && caught * 100 > wrong * 90,
        "{right} right, {caught} of {wrong} caught"
    );
}
