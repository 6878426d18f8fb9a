use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::task::labourer::{
    Comparison, Completion, HealthMetric, KeyCap, Labourer, MetricSource, Rate, RetryPolicy, Statistic,
    SuspendAfter,
};
use crate::warning::WarningKind;

/// A configuration with that `task_config`, and a queue of outcomes.
fn config(task_config: Value) -> Value {
    json!({"queue_bucket": "b", "outcome_queue": "http://localhost:9324/q", "task_config": task_config})
}

/// One with that labourer alone.
fn with(labourer: Value) -> Value {
    config(json!({"labourers": {"report": labourer}}))
}

fn read(labourer: Value) -> Labourer {
    let config = Config::read(&with(labourer)).unwrap();
    assert_eq!(config.warnings, []);
    config.labourers["report"].clone()
}

/// The last key of the path of each problem, and its sentence.
fn problems(config: &Value) -> Vec<(String, String)> {
    let refused = Config::read(config).unwrap_err();
    let problems = refused.problems.into_iter();
    problems.map(|problem| (problem.path, problem.sentence)).collect()
}

/// The one problem of a labourer: its path below the labourer, and what its sentence says behind the name of the key.
fn problem(labourer: Value) -> (String, String) {
    let found = problems(&with(labourer.clone()));
    let [(path, sentence)] = found.as_slice() else {
        panic!("{labourer}: {found:?}");
    };
    let path = path.strip_prefix("$.task_config.labourers.report.").unwrap();
    let (_, sentence) = sentence.split_once("` ").unwrap();
    (path.to_owned(), sentence.to_owned())
}

fn warnings(config: &Value) -> Vec<(WarningKind, String)> {
    let warnings = Config::read(config).unwrap().warnings;
    warnings
        .into_iter()
        .map(|warning| (warning.kind, warning.path))
        .collect()
}

#[test]
fn what_is_set_of_a_labourer_is_taken() {
    let labourer = read(json!({
        "arn": "arn:aws:lambda:eu-west-1:1:function:report", "group": "reports", "completion": "destination",
        "max_simultaneous_invocations": 20, "max_attempts": 5, "max_duration": 900, "cooldown": 60, "retry_delay": 5,
        "retry_backoff": 1.5, "max_retry_delay": 60, "rate": {"starts": 10, "per": "minute"},
        "concurrency": [{"by": "store", "max": 2}, {"by": "order.customer", "max": 1}],
        "suspend_after": {"share": 0.9, "of": 50}, "paused": true, "queue_shards": 1,
        "health_metrics": {
            "cpu": {
                "details": {
                    "MetricName": "CPUUtilization", "Namespace": "AWS/RDS", "Period": 300, "Statistics": ["Maximum"],
                    "MetricAggregationTimeSlice": 600,
                    "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": "db"}],
                },
                "feelings": {"3": 50, "4": 25}, "feeling_comparison_operator": "lt", "status_without_data": 2,
            },
        },
    }));
    let expected = Labourer {
        arn: Some("arn:aws:lambda:eu-west-1:1:function:report".to_owned()),
        group: "reports".to_owned(),
        completion: Some(Completion::Destination),
        max_simultaneous: 20,
        max_attempts: 5,
        max_duration: Some(Duration::from_secs(900)),
        cooldown: Duration::from_secs(60),
        retry: RetryPolicy {
            delay: Duration::from_secs(5),
            backoff: 1.5,
            longest: Duration::from_secs(60),
        },
        rate: Some(Rate {
            starts: 10,
            per: Duration::from_secs(60),
        }),
        concurrency: vec![
            KeyCap {
                by: vec!["store".to_owned()],
                max: 2,
            },
            KeyCap {
                by: vec!["order".to_owned(), "customer".to_owned()],
                max: 1,
            },
        ],
        suspend_after: Some(SuspendAfter { share: 0.9, of: 50 }),
        paused: true,
        health: vec![HealthMetric {
            name: "cpu".to_owned(),
            source: MetricSource {
                namespace: "AWS/RDS".to_owned(),
                metric: "CPUUtilization".to_owned(),
                dimensions: BTreeMap::from([("DBInstanceIdentifier".to_owned(), "db".to_owned())]),
                statistic: Statistic::Maximum,
                period: 300,
                window: 600,
            },
            feelings: vec![(4, 25.0), (3, 50.0)],
            operator: Comparison::Lt,
            status_without_data: 2,
        }],
    };
    assert_eq!(labourer, expected);
    assert_eq!(read(json!({"suspend_after": false})).suspend_after, None);
    // All of it may be text, as sosw's table of configurations keeps numbers.
    let text =
        read(json!({"max_simultaneous_invocations": "7", "retry_backoff": "1.5", "max_attempts": "2"}));
    assert_eq!(
        (text.max_simultaneous, text.retry.backoff, text.max_attempts),
        (7, 1.5, 2)
    );
}

#[test]
fn what_a_labourer_does_not_say_is_said_for_all() {
    let config = config(json!({
        "labourers": {"a": {}, "b": {"max_attempts": 1, "max_simultaneous_invocations": 9}, "c": {}, "d": {"max_attempts": 0}},
        "max_simultaneous_invocations": 7, "max_attempts": 5, "max_attempts_a": 2, "max_attempts_b": 2, "max_attempts_c": 0,
    }));
    let config = Config::read(&config).unwrap();
    let said: Vec<(u32, u32)> = (config.labourers.values())
        .map(|labourer| (labourer.max_attempts, labourer.max_simultaneous))
        .collect();
    assert_eq!(said, [(2, 7), (1, 9), (5, 7), (0, 7)]);
    assert_eq!(config.warnings, []);
}

#[test]
fn no_limit_is_told_from_a_limit_of_nothing() {
    use WarningKind::{CutFraction, HeldLabourer};
    let at = |key: &str| format!("$.task_config.{key}max_simultaneous_invocations");
    let limits = |of_all: Value, own: Value| {
        let config = config(json!({
            "max_simultaneous_invocations": of_all, "labourers": {"report": {"max_simultaneous_invocations": own}},
        }));
        let limit = Config::read(&config).unwrap().labourers["report"].max_simultaneous;
        (limit, warnings(&config))
    };
    assert_eq!(limits(json!(0), json!(null)), (1, vec![]), "as in sosw");
    assert_eq!(limits(json!(null), json!(null)), (1, vec![]));
    let own = at("labourers.report.");
    assert_eq!(limits(json!(5), json!(0)), (0, vec![(HeldLabourer, own.clone())]));
    assert_eq!(
        limits(json!(5), json!(-1)),
        (0, vec![(HeldLabourer, own.clone())])
    );
    assert_eq!(
        limits(json!(5), json!(2.5)),
        (2, vec![(CutFraction, own.clone())])
    );
    assert_eq!(
        limits(json!(5), json!(0.5)),
        (0, vec![(CutFraction, own.clone()), (HeldLabourer, own)])
    );
    assert_eq!(limits(json!(-1), json!(null)), (0, vec![(HeldLabourer, at(""))]));
    let problem = problem(json!({"max_simultaneous_invocations": "many"}));
    assert_eq!(problem.1, "is \"many\": write a whole number from 0 to 1000000");
}

#[test]
fn a_share_that_is_less_than_one_task_is_warned_of() {
    let cpu = |feelings: Value| {
        json!({"cpu": {
            "details": {"Name": "CPU", "Namespace": "NS"}, "feelings": feelings, "feeling_comparison_operator": "<=",
        }})
    };
    let warned = |limit: u32, feelings: Value| {
        let labourer = json!({"max_simultaneous_invocations": limit, "health_metrics": cpu(feelings)});
        warnings(&with(labourer)).len()
    };
    assert_eq!(warned(1, json!({"4": 25, "3": 50})), 1);
    assert_eq!(warned(1, json!({"4": 25, "1": 50})), 0, "it is to stop there");
    assert_eq!(warned(2, json!({"4": 25, "3": 50, "2": 75, "1": 90})), 0);
    let config = Config::read(&with(json!({"health_metrics": cpu(json!({"4": 25, "2": 50}))}))).unwrap();
    assert_eq!(config.warnings[0].kind, WarningKind::LowLimit);
    assert!(
        config.warnings[0]
            .sentence
            .contains("of which 0.5 at health status 2")
    );
}

#[test]
fn how_a_task_ends_has_to_fit_how_long_it_runs() {
    let response = |max_duration: u32| json!({"completion": "response", "max_duration": max_duration});
    assert_eq!(read(response(600)).completion, Some(Completion::Response));
    assert_eq!(problem(response(601)).0, "completion");
    let without_queue = json!({
        "queue_bucket": "b", "task_config": {"labourers": {"report": {"completion": "destination"}}},
    });
    assert!(
        problems(&without_queue)[0]
            .1
            .ends_with("write its URL into `outcome_queue`, at the top")
    );
    // A queue that is there and wrong is one problem.
    let mut wrong_queue = without_queue;
    wrong_queue["outcome_queue"] = json!("outcomes");
    let found = problems(&wrong_queue);
    assert_eq!((found.len(), found[0].0.as_str()), (1, "$.outcome_queue"));
    let unset = |max_duration: u32| warnings(&with(json!({"max_duration": max_duration})));
    assert_eq!(unset(300), []);
    assert_eq!(
        unset(301),
        [(
            WarningKind::UnsetCompletion,
            "$.task_config.labourers.report.completion".to_owned()
        )]
    );
    let of_sosw = read(json!({"duration": 60}));
    assert_eq!(of_sosw.max_duration, Some(Duration::from_secs(60)));
    assert_eq!(problem(json!({"duration": 60, "max_duration": 30})).0, "duration");
}

#[test]
fn the_longest_wait_is_no_shorter_than_the_first() {
    let longest = |labourer: Value| read(labourer).retry.longest.as_secs();
    assert_eq!(longest(json!({})), 900);
    assert_eq!(longest(json!({"retry_delay": 3600})), 3600);
    assert_eq!(longest(json!({"retry_delay": 60, "max_retry_delay": 60})), 60);
    assert_eq!(
        problem(json!({"retry_delay": 60, "max_retry_delay": 59})).1,
        "is 59, less than `retry_delay`, 60: make it longer, or shorten the other"
    );
}

#[test]
fn what_is_wrong_with_a_labourer_is_said_where_it_is() {
    for (labourer, path, part) in [
        (json!({"group": "a/b"}), "group", "is \"a/b\": write at most 64"),
        (
            json!({"completion": "event"}),
            "completion",
            "write \"response\" or \"destination\" or \"report\"",
        ),
        (json!({"max_duration": 901}), "max_duration", "from 1 to 900"),
        (json!({"max_duration": 0}), "max_duration", "from 1 to 900"),
        (json!({"max_attempts": -1}), "max_attempts", "from 0 to 1000"),
        (
            json!({"retry_backoff": 0.5}),
            "retry_backoff",
            "write a number from 1 to 100",
        ),
        (json!({"retry_backoff": "1e3"}), "retry_backoff", "is \"1e3\""),
        (json!({"rate": "10 per second"}), "rate", "is text, not an object"),
        (json!({"rate": {"per": "second"}}), "rate.starts", "is missing"),
        (
            json!({"rate": {"starts": 0, "per": "second"}}),
            "rate.starts",
            "is 0",
        ),
        (
            json!({"rate": {"starts": 1, "per": "day"}}),
            "rate.per",
            "write \"second\" or \"minute\" or \"hour\"",
        ),
        (
            json!({"rate": {"starts": 1, "per": "hour", "burst": 1}}),
            "rate.burst",
            "is unknown",
        ),
        (
            json!({"concurrency": {"by": "store"}}),
            "concurrency",
            "is an object, not a list",
        ),
        (json!({"concurrency": [null]}), "concurrency[0]", "is null"),
        (
            json!({"concurrency": [{"by": "a..b", "max": 1}]}),
            "concurrency[0].by",
            "is \"a..b\"",
        ),
        (
            json!({"concurrency": [{"max": 1}]}),
            "concurrency[0].by",
            "is missing",
        ),
        (
            json!({"concurrency": [{"by": "store"}]}),
            "concurrency[0].max",
            "is missing",
        ),
        (
            json!({"concurrency": [{"by": "store", "max": 0}]}),
            "concurrency[0].max",
            "is 0",
        ),
        (
            json!({"concurrency": [{"by": "a", "max": 1}, {"by": "a", "max": 2}]}),
            "concurrency[1]",
            "is by the same",
        ),
        (
            json!({"concurrency": vec![json!({}); 9]}),
            "concurrency",
            "has 9 entries",
        ),
        (
            json!({"suspend_after": true}),
            "suspend_after",
            "is true: write false",
        ),
        (
            json!({"suspend_after": {"share": 0}}),
            "suspend_after.share",
            "is 0",
        ),
        (json!({"suspend_after": {"of": 0}}), "suspend_after.of", "is 0"),
        (
            json!({"queue_shards": 4}),
            "queue_shards",
            "is 4: a queue that is spread is not offered yet",
        ),
        (json!({"paused": "yes"}), "paused", "write true or false"),
        (json!({"expired": 1}), "expired", "replaces what sosw works out"),
        (json!({"start": 1}), "start", "take it out"),
        (json!({"invoked": 1}), "invoked", "take it out"),
        (json!({"health": 4}), "health", "take it out"),
    ] {
        let found = problem(labourer.clone());
        assert_eq!(found.0, path, "{labourer}");
        assert!(found.1.contains(part), "{labourer}: {}", found.1);
    }
}

#[test]
fn what_is_wrong_with_a_metric_is_said_where_it_is() {
    let right = || {
        json!({
            "details": {"Name": "CPU", "Namespace": "NS"}, "feelings": {"4": 25, "3": 50},
            "feeling_comparison_operator": "<=",
        })
    };
    let metric = read(json!({"max_simultaneous_invocations": 5, "health_metrics": {"m": right()}}));
    let source = &metric.health[0].source;
    assert_eq!(
        (source.statistic, source.period, source.window),
        (Statistic::Average, 60, 300)
    );
    assert_eq!(metric.health[0].status_without_data, 4);
    for (pointer, value, path, part) in [
        ("/details", json!(null), "details", "is missing"),
        ("/details/Name", json!(null), "details.MetricName", "is missing"),
        (
            "/details/Namespace",
            json!(null),
            "details.Namespace",
            "is missing",
        ),
        (
            "/details/MetricName",
            json!("RAM"),
            "details.Name",
            "is \"CPU\", and `MetricName`",
        ),
        (
            "/details/Statistics",
            json!(["Sum"]),
            "details.Statistics",
            "write [\"Average\"]",
        ),
        (
            "/details/Statistics",
            json!(["Average", "Maximum"]),
            "details.Statistics",
            "write [\"Average\"]",
        ),
        ("/details/Period", json!(61), "details.Period", "multiples of 60"),
        (
            "/details/Period",
            json!(600),
            "details.MetricAggregationTimeSlice",
            "is 300, with a `Period` of 600",
        ),
        (
            "/details/MetricAggregationTimeSlice",
            json!(86_460),
            "details.MetricAggregationTimeSlice",
            "look at 1 to 1440 periods",
        ),
        ("/details/Unit", json!("Percent"), "details.Unit", "is unknown"),
        (
            "/details/Dimensions",
            json!({}),
            "details.Dimensions",
            "write a list",
        ),
        (
            "/details/Dimensions",
            json!([{"Name": "a"}]),
            "details.Dimensions[0]",
            "write {\"Name\"",
        ),
        (
            "/details/Dimensions",
            json!([{"Name": "a", "Value": "b"}, {"Name": "a", "Value": "c"}]),
            "details.Dimensions[1]",
            "gives the name \"a\" twice",
        ),
        ("/feelings", json!(null), "feelings", "is missing"),
        ("/feelings", json!({}), "feelings", "is empty"),
        ("/feelings", json!([25]), "feelings", "is a list, not an object"),
        ("/feelings", json!({"5": 1}), "feelings['5']", "is no status"),
        (
            "/feelings",
            json!({"4": "low"}),
            "feelings['4']",
            "is \"low\": write a number",
        ),
        (
            "/feelings",
            json!({"4": 50, "3": 25}),
            "feelings",
            "has the targets of 4 and 3 in the wrong order",
        ),
        (
            "/feeling_comparison_operator",
            json!(">="),
            "feelings",
            "has the targets of 4 and 3 in the wrong order",
        ),
        (
            "/feeling_comparison_operator",
            json!(null),
            "feeling_comparison_operator",
            "is missing",
        ),
        (
            "/feeling_comparison_operator",
            json!("eq"),
            "feeling_comparison_operator",
            "write \"<=\"",
        ),
        (
            "/status_without_data",
            json!(5),
            "status_without_data",
            "from 0 to 4",
        ),
    ] {
        let mut metric = right();
        let (outer, key) = pointer.rsplit_once('/').unwrap();
        metric.pointer_mut(outer).unwrap()[key] = value;
        let found = problem(json!({"max_simultaneous_invocations": 5, "health_metrics": {"m": metric}}));
        assert_eq!(found.0, format!("health_metrics.m.{path}"));
        assert!(found.1.contains(part), "{pointer}: {}", found.1);
    }
    let many: serde_json::Map<String, Value> = (0..21).map(|at| (format!("m{at}"), right())).collect();
    let found = problem(json!({"max_simultaneous_invocations": 5, "health_metrics": many}));
    assert_eq!(
        found,
        (
            "health_metrics".to_owned(),
            "has 21 metrics, and at most 20 are allowed".to_owned()
        )
    );
}

#[test]
fn metrics_say_for_all_what_each_does_not_say() {
    let metric = json!({
        "details": {"MetricName": "CPU", "Namespace": "NS", "Period": 120}, "feelings": {"4": 25},
        "feeling_comparison_operator": "le",
    });
    let config = config(json!({
        "ecology_config": {"default_metric_values": {
            "Period": 60, "Statistics": ["Minimum"], "MetricAggregationTimeSlice": 900,
        }},
        "labourers": {"report": {"health_metrics": {"m": metric}}},
    }));
    let config = Config::read(&config).unwrap();
    let source = &config.labourers["report"].health[0].source;
    assert_eq!(
        (source.statistic, source.period, source.window),
        (Statistic::Minimum, 120, 900)
    );
    assert_eq!(config.warnings, []);
}

#[test]
fn coefficients_are_laid_over_the_defaults() {
    let with =
        |coefficients: Value| json!({"queue_bucket": "b", "invocation_number_coefficient": coefficients});
    let read = |coefficients| Config::read(&with(coefficients)).unwrap().coefficients;
    assert_eq!(read(json!({"4": 2, "2": "0.1"})).0, [0.0, 0.0, 0.1, 0.75, 2.0]);
    assert_eq!(read(json!({"0": 0.25})).0, [0.25, 0.0, 0.5, 0.75, 1.0]);
    for wrong in [
        json!({"4": -1}),
        json!({"4": 101}),
        json!({"4": null}),
        json!({"05": 1}),
        json!([1]),
    ] {
        assert_eq!(problems(&with(wrong.clone())).len(), 1, "{wrong}");
    }
}

#[test]
fn attempts_of_a_labourer_that_is_not_there_are_warned_of() {
    let config =
        config(json!({"labourers": {"report": {}}, "max_attempts_reprot": 2, "max_attempts_report": 2}));
    assert_eq!(
        warnings(&config),
        [(
            WarningKind::IgnoredKey,
            "$.task_config.max_attempts_reprot".to_owned()
        )]
    );
}

#[test]
fn no_two_attributes_of_a_task_have_one_name() {
    let with = |names: Value| config(json!({"dynamo_db_config": {"field_names": names}}));
    for twice in [
        json!({"closed_at": "completed_at"}),
        json!({"arn": "payload"}),
        json!({"created_at": "desired_launch_time"}),
    ] {
        let found = problems(&with(twice.clone()));
        assert!(found[0].1.contains("twice"), "{twice}: {found:?}");
    }
    let own = problems(&with(json!({"arn": "outcome"})));
    assert!(own[0].1.contains("which has a meaning of its own"));
    let renamed = json!({
        "completed_at": "c", "closed_at": "d", "labourer_id_task_status": "s", "arn": "f",
        "desired_launch_time": "due",
    });
    let fields = Config::read(&with(renamed)).unwrap().tables.fields;
    assert_eq!(
        [
            fields.completed_at,
            fields.closed_at,
            fields.labourer_id_task_status,
            fields.arn,
            fields.desired_launch_time
        ],
        ["c", "d", "s", "f", "due"]
    );
}
