use serde_json::{Value, json};

use super::*;
use crate::task::labourer::Labourer;

use crate::warning::WarningKind;

/// A right configuration with something more.
fn with(more: Value) -> Value {
    let mut config = json!({
        "queue_bucket": "b",
        "task_config": {"labourers": {"report": {}}},
    });
    if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    config
}

fn read(more: Value) -> Config {
    Config::read(&with(more)).unwrap()
}

/// Paths and sentences of the problems.
fn problems(config: &Value) -> Vec<(String, String)> {
    let refused = Config::read(config).unwrap_err();
    refused
        .problems
        .into_iter()
        .map(|problem| (problem.path, problem.sentence))
        .collect()
}

/// Types and paths of the warnings.
fn warnings(more: Value) -> Vec<(WarningKind, String)> {
    read(more)
        .warnings
        .into_iter()
        .map(|warning| (warning.kind, warning.path))
        .collect()
}

#[test]
fn what_is_not_set_has_its_default() {
    let config = read(json!({}));
    assert_eq!(config.s3_prefix, "sosw/scheduler");
    assert_eq!(config.queue_file, ("tasks_queue".to_owned(), "txt".to_owned()));
    assert_eq!((config.shutdown_period, config.timeout), (60, 900));
    assert_eq!((config.max_hops, config.lease_seconds), (12, 30));
    assert_eq!(
        (config.max_tasks_per_job, config.greenfield_step),
        (1_000_000, 1000)
    );
    assert_eq!((config.task_writes, config.strict), (TaskWrites::Insert, false));
    assert_eq!(config.tables, Tables::default());
    assert_eq!(
        (config.greenfield_delta, config.outcome_queue),
        (31_557_600, None)
    );
    assert_eq!(config.coefficients, Coefficients::default());
    assert_eq!(
        config.labourers,
        Labourers::from([("report".to_owned(), Labourer::default())])
    );
    assert!(config.schemas[DEFAULT_SCHEMA].attributes.is_empty());
    assert_eq!(config.warnings, []);
    // Everywhere, null is what is not set.
    for key in Config::known_keys().known {
        let name = key.name.to_string();
        if !["queue_bucket", "task_config"].contains(&name.as_str())
            && !matches!(key.kind, Kind::Unread { .. })
        {
            let config = read(json!({ (&name): null }));
            assert_eq!(config.warnings, [], "{name}");
        }
    }
}

#[test]
fn what_is_set_is_taken() {
    let config = read(json!({
        "s3_prefix": "/a/b/", "queue_file": "q.x.jsonl", "shutdown_period": "90", "timeout": 300, "max_hops": 13,
        "max_tasks_per_job": 100_000_000_000_u64, "lease_seconds": 15, "task_writes": "overwrite", "strict": true,
        "task_config": {
            "labourers": {"report": {"arn": "arn:aws:lambda:eu-west-1:1:function:report", "max_attempts": 3}},
            "greenfield_task_step": 5,
            "dynamo_db_config": {
                "table_name": "t", "index_greenfield": "i", "field_names": {"greenfield": "g", "closed_at": "c", "other": 5},
                "row_mapper": {"g": "N", "c": "N", "other": "S"},
            },
            "sosw_closed_tasks_table": "c", "sosw_retry_tasks_table": "r", "greenfield_invocation_delta": 1_000_000,
            "sosw_closed_tasks_labourer_status_index": "ci", "sosw_retry_tasks_greenfield_index": "ri",
        },
        "outcome_queue": "https://sqs.eu-west-1.amazonaws.com/1/outcomes",
        "meta_handler_config": {"write_meta_to_ddb": true, "dynamo_db_config": {"table_name": "m"}},
        "dynamo_db_config": {"table_name": "t"},
    }));
    assert_eq!(config.key("x"), "a/b/x");
    assert_eq!(config.file_name("r1"), "q.x_r1.jsonl");
    assert_eq!((config.shutdown_period, config.timeout), (90, 300));
    assert_eq!((config.max_hops, config.lease_seconds), (13, 15));
    assert_eq!(
        (config.max_tasks_per_job, config.greenfield_step),
        (100_000_000_000, 5)
    );
    assert_eq!((config.task_writes, config.strict), (TaskWrites::Overwrite, true));
    let tables = &config.tables;
    assert_eq!(
        [
            &tables.tasks,
            &tables.index_greenfield,
            &tables.closed,
            &tables.index_closed,
            &tables.retry,
            &tables.index_retry,
        ],
        ["t", "i", "c", "ci", "r", "ri"]
    );
    assert_eq!(config.greenfield_delta, 1_000_000);
    assert_eq!(
        config.outcome_queue.as_deref(),
        Some("https://sqs.eu-west-1.amazonaws.com/1/outcomes")
    );
    assert_eq!(tables.meta.as_deref(), Some("m"));
    assert_eq!(
        [
            &tables.fields.greenfield,
            &tables.fields.closed_at,
            &tables.fields.task_id
        ],
        ["g", "c", "task_id"]
    );
    assert_eq!(
        config.labourers["report"].arn.as_deref(),
        Some("arn:aws:lambda:eu-west-1:1:function:report")
    );
}

#[test]
fn all_problems_are_told_at_once_unknown_keys_first_from_the_outside_in() {
    let config = json!({
        "max_hops": 14, "strict": "yes", "timeot": 5, "queue_file": "locked_a.txt",
        "task_config": {"labourer": {}, "dynamo_db_config": {"table_nam": "t", "field_names": {"payload": "task_id"}}},
        "meta_handler_config": [],
        "job_schema": {"chunkable_attrs": ["stores", ["category", {"plurals": "categories"}]], "timezone": "Rome"},
        "job_schema_variants": {"by shop": {"chunkable_attrs": [5]}},
    });
    let expected = [
        (
            "$.timeot",
            "`timeot` is unknown (did you mean \"timeout\"?): correct it or take it out",
        ),
        (
            "$.task_config.labourer",
            "`task_config.labourer` is unknown (did you mean \"labourers\"?): correct it or take it out",
        ),
        (
            "$.task_config.dynamo_db_config.table_nam",
            "`task_config.dynamo_db_config.table_nam` is unknown (did you mean \"table_name\"?): correct it or take it out",
        ),
        (
            "$.job_schema.chunkable_attrs[1].plurals",
            "`job_schema.chunkable_attrs[1].plurals` is unknown (did you mean \"plural\"?): correct it or take it out",
        ),
    ];
    let mut found = problems(&config);
    found[..4].sort();
    let mut expected: Vec<(String, String)> = expected
        .iter()
        .map(|(path, sentence)| ((*path).to_owned(), (*sentence).to_owned()))
        .collect();
    expected.sort();
    assert_eq!(found[0..4], expected);
    assert_eq!(problems(&config)[0].0, "$.timeot");
    let paths: Vec<&str> = found[4..].iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "$.queue_bucket",
            "$.queue_file",
            "$.max_hops",
            "$.strict",
            "$.job_schema_variants['by shop'].chunkable_attrs[0]",
            "$.job_schema.chunkable_attrs[0]",
            "$.job_schema.timezone",
            "$.task_config.dynamo_db_config.field_names",
            "$.meta_handler_config",
        ]
    );
    assert_eq!(found[6].1, "`max_hops` is 14: write a whole number from 1 to 13");
    let error = Error::from(Config::read(&config).unwrap_err());
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    assert!(error.sentence.starts_with("`timeot` is unknown") && error.sentence.contains("(and 12 more:"));
}

#[test]
fn warnings_are_given_beside_problems() {
    let refused = Config::read(&with(json!({"init_clients": [], "timeout": "soon"}))).unwrap_err();
    assert_eq!(refused.problems.len(), 1);
    assert_eq!(refused.warnings.len(), 1);
    assert_eq!(refused.warnings[0].path, "$.init_clients");
}

#[test]
fn a_key_of_sosw_that_means_nothing_is_warned_of() {
    use WarningKind::IgnoredKey;
    let found = warnings(json!({
        "rows_to_process": 5, "sns_dynamo_db_config": {}, "custom_period_patterns": ["x"],
        "task_config": {
            "labourers": {"report": null}, "retry_tasks_limit": 3, "dynamo_db_config": {"notes": null},
        },
    }));
    let paths = [
        "$.rows_to_process",
        "$.custom_period_patterns",
        "$.sns_dynamo_db_config",
        "$.task_config.dynamo_db_config.notes",
        "$.task_config.retry_tasks_limit",
    ];
    assert_eq!(found, paths.map(|path| (IgnoredKey, path.to_owned())));
}

#[test]
fn what_nobody_reads_of_a_labourer_is_warned_of() {
    let labourer = json!({"arn": "a", "average_duration": 1, "max_simultanous_invocations": 5});
    let config = read(json!({"task_config": {"labourers": {"report": labourer, "a b": {}}}}));
    let found: Vec<(WarningKind, &str)> = config
        .warnings
        .iter()
        .map(|warning| (warning.kind, warning.path.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (
                WarningKind::IgnoredKey,
                "$.task_config.labourers.report.average_duration"
            ),
            (
                WarningKind::IgnoredKey,
                "$.task_config.labourers.report.max_simultanous_invocations"
            ),
            (WarningKind::UnreachableLabourer, "$.task_config.labourers['a b']"),
        ]
    );
    assert!(
        config.warnings[1]
            .sentence
            .contains("did you mean \"max_simultaneous_invocations\"?")
    );
}

#[test]
fn times_that_do_not_fit_together_are_warned_of() {
    let path = |kind, path: &str| vec![(kind, path.to_owned())];
    let long_reserve = path(WarningKind::LongShutdownPeriod, "$.shutdown_period");
    assert_eq!(warnings(json!({"shutdown_period": 450})), []);
    assert_eq!(warnings(json!({"shutdown_period": 451})), long_reserve);
    assert_eq!(warnings(json!({"timeout": 119})), long_reserve);
    assert_eq!(warnings(json!({"timeout": 300, "lease_seconds": 300})), []);
    assert_eq!(
        warnings(json!({"timeout": 300, "lease_seconds": 301})),
        path(WarningKind::LongLease, "$.lease_seconds")
    );
}

#[test]
fn a_schema_that_counts_nowhere_is_warned_of() {
    let schema = |name: &str| json!({"chunkable_attrs": [name]});
    let masked = json!({"job_schema": schema("a"), "job_schema_variants": {"default": schema("b")}});
    assert_eq!(
        warnings(masked.clone()),
        [(WarningKind::MaskedSchema, "$.job_schema".to_owned())]
    );
    assert_eq!(read(masked).schemas[DEFAULT_SCHEMA].attributes[0].name, "b");
    // An empty one is how sosw's documentation writes "none".
    let empty = json!({"job_schema": {}, "job_schema_variants": {"default": schema("b")}});
    assert_eq!(warnings(empty), []);
    let null =
        json!({"job_schema": schema("a"), "job_schema_variants": {"default": null, "other": schema("b")}});
    assert_eq!(warnings(null.clone()), []);
    assert_eq!(read(null.clone()).schemas[DEFAULT_SCHEMA].attributes[0].name, "a");
    assert_eq!(read(null).schemas.len(), 2);
}

#[test]
fn an_attribute_that_is_called_like_something_else_is_warned_of() {
    let found = |attributes: Value| warnings(json!({"job_schema": {"chunkable_attrs": attributes}}));
    let at = |index: usize| {
        let path = format!("$.job_schema.chunkable_attrs[{index}]");
        (WarningKind::AmbiguousAttribute, path)
    };
    assert_eq!(found(json!(["store", "isolate_store"])), [at(1)]);
    assert_eq!(found(json!(["max_stores_per_batch", "store"])), [at(0)]);
    assert_eq!(
        found(json!(["job", ["a", {"plural": "payload"}], "lambda_name"])),
        [at(0), at(1), at(2)]
    );
    assert_eq!(found(json!(["isolate_shop", "store"])), []);
}

#[test]
fn two_tables_of_tasks_are_refused() {
    let found = problems(&with(json!({"dynamo_db_config": {"table_name": "other"}})));
    assert_eq!(found[0].0, "$.dynamo_db_config.table_name");
    assert!(
        found[0]
            .1
            .starts_with("`dynamo_db_config.table_name` is \"other\", and tasks go to \"sosw_tasks\"")
    );
}

#[test]
fn the_type_of_an_attribute_is_its_own() {
    let mapper = |mapper: Value| {
        let table = json!({"field_names": {"greenfield": "g"}, "row_mapper": mapper});
        problems(&json!({"queue_bucket": "b", "task_config": {"dynamo_db_config": table}}))
    };
    let path = "$.task_config.dynamo_db_config.row_mapper.greenfield";
    for wrong in [
        json!({"g": "S"}),
        json!({"greenfield": "S"}),
        json!({"g": "N", "greenfield": null}),
    ] {
        let found = mapper(wrong);
        assert_eq!((found.len(), found[0].0.as_str()), (1, path));
        assert!(found[0].1.ends_with("this attribute is of type \"N\""));
    }
}

#[test]
fn what_is_read_is_bounded() {
    let large = format!(
        "{{\"queue_bucket\": \"b\", \"x\": \"{}\"}}",
        "x".repeat(MAX_TEXT_BYTES)
    );
    let refused = Config::parse(&large).unwrap_err();
    assert!(
        refused.problems[0]
            .sentence
            .starts_with("the configuration has 41943")
    );
    let deep = format!("{{\"queue_bucket\": {}{}}}", "[".repeat(200), "]".repeat(200));
    let refused = Config::parse(&deep).unwrap_err();
    assert!(
        refused.problems[0]
            .sentence
            .starts_with("the configuration is nested deeper")
    );
    // However many problems there are, some hundred are told, and how many more there are.
    let many: serde_json::Map<String, Value> =
        (0..10_000).map(|at| (format!("key {at}"), json!(1))).collect();
    let found = problems(&with(Value::Object(many)));
    assert_eq!(found.len(), 501);
    assert_eq!(
        found[500].1,
        "9500 problems more: mend the first ones and look again"
    );
    assert!(
        problems(&json!([]))[0]
            .1
            .starts_with("the configuration is a list")
    );
}

#[test]
fn a_key_stands_for_one_thing() {
    fn look(keys: &Keys) {
        for (index, key) in keys.known.iter().enumerate() {
            assert!(
                !keys.known[..index].iter().any(|other| other.name == key.name),
                "{} twice",
                key.name
            );
            assert!(!key.meaning.is_empty());
            match &key.kind {
                Kind::Object(keys) | Kind::ByName(keys) => look(keys),
                _ => {}
            }
        }
    }
    look(&Config::known_keys());
}
