//! What is wrong with labourers.

use std::time::Duration;

use jobmill_local::FunctionSpec;
use serde_json::{Value, json};

use crate::{Stage, shown};

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_is_wrong_has_its_name_and_its_cure() {
    let destination = |more: Value| {
        let mut labourer = json!({"arn": "work", "completion": "destination"});
        labourer
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        labourer
    };
    let unconnected = ["LambdaRetries", "EventAgeTooLong", "NotConnected"];
    let stage = Stage::new(json!({})).await;
    let long = FunctionSpec::new("long", "/bin/false");
    stage
        .cloud
        .register_function(long.timeout(Duration::from_secs(600)));
    let cases: [(Value, &[&str]); 9] = [
        (json!({"arn": "work"}), &[]),
        (json!({}), &["NoArn"]),
        (json!({"arn": "missing"}), &["FunctionNotFound"]),
        (json!({"arn": "work", "max_duration": 29}), &["TimeoutTooLong"]),
        (
            json!({"arn": "work", "max_duration": 30, "max_simultaneous_invocations": 5}),
            &[],
        ),
        (
            json!({"arn": "work", "max_simultaneous_invocations": 6}),
            &["ConcurrencyTooLow"],
        ),
        (json!({"arn": "long"}), &["NoCompletion"]),
        (
            json!({"arn": "work", "completion": "report"}),
            &["LambdaRetries", "EventAgeTooLong"],
        ),
        (destination(json!({})), &unconnected),
    ];
    for (labourer, expected) in cases {
        stage.configure(json!({ "report": labourer }), Some(&stage.queue));
        assert_eq!(stage.problems("report"), expected, "{labourer}");
    }
    let elsewhere = stage.queue.replace("outcomes", "missing");
    stage.configure(json!({ "report": destination(json!({})) }), Some(&elsewhere));
    assert_eq!(
        stage.problems("report"),
        ["LambdaRetries", "EventAgeTooLong", "OutcomeQueueUnreadable"]
    );
    assert_eq!(stage.cloud.invocations(), [], "nothing was started");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_the_documentation_shows_of_those_that_are_named() {
    let stage = Stage::new(json!({
        "report": {"arn": "work"}, "mail": {"arn": "work", "completion": "destination"}, "billing": {},
    }))
    .await;
    let (exit, out, err) = stage.said(&["check"]);
    assert_eq!((exit, out + &err), (Some(1), shown("text checked")));
    let (exit, out, err) = stage.said(&["check", "report"]);
    assert_eq!((exit, err.as_str()), (Some(0), ""));
    assert_eq!(
        out,
        "labourer  completion   problem\nreport    response     none\n"
    );
    let (exit, report) = stage.json(&["check", "reprot"]);
    assert_eq!(
        (exit, &report["error"]["type"]),
        (Some(2), &json!("UnknownLabourer"))
    );
    assert!(
        report["error"]["message"].as_str().unwrap().contains("report"),
        "{report}"
    );
}
