//! Functions are connected, and put back.

use jobmill_local::{Effect, Rule, Service};
use serde_json::{Value, json};

use crate::{BUCKET, Stage, shown};

const KEPT: &str = "sosw/scheduler/labourers/mail.json";

async fn stage() -> Stage {
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:mail";
    let stage = Stage::new(json!({"mail": {"arn": arn, "completion": "destination"}})).await;
    stage
        .cloud
        .register_function(jobmill_local::FunctionSpec::new("mail", "/bin/false"));
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn a_labourer_is_connected_shown_first_and_put_back() {
    let stage = stage().await;
    let unconnected = ["LambdaRetries", "EventAgeTooLong", "NotConnected"];
    let (exit, report) = stage.json(&["connect", "mail", "--dry-run"]);
    assert_eq!(
        (exit, &report["labourers"][0]["changed"]),
        (Some(0), &json!(false))
    );
    assert_eq!(stage.problems("mail"), unconnected, "a dry run changes nothing");
    assert!(stage.cloud.object(BUCKET, KEPT).is_none());

    let (exit, out, err) = stage.said(&["connect", "mail", "--yes"]);
    assert_eq!((exit, out + &err), (Some(0), shown("text connected")));
    assert_eq!(stage.problems("mail"), [""; 0]);
    let (exit, out, _) = stage.said(&["connect", "mail", "--yes"]);
    assert_eq!((exit, out.as_str()), (Some(0), "mail is connected already\n"));

    let (exit, report) = stage.json(&["connect", "mail", "--undo", "--yes"]);
    let change = &report["labourers"][0];
    assert_eq!(
        (exit, &change["changed"], &change["after"]),
        (Some(0), &json!(true), &Value::Null)
    );
    assert_eq!(stage.problems("mail"), unconnected);
    assert!(stage.cloud.object(BUCKET, KEPT).is_none());
    let (exit, out, _) = stage.said(&["connect", "mail", "--undo", "--yes"]);
    assert_eq!(
        (exit, out.as_str()),
        (
            Some(0),
            "mail is not connected by this command: nothing is put back\n"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_the_first_time_is_put_back_whatever_came_between() {
    let stage = stage().await;
    let other = stage.cloud.create_queue("other");
    assert_eq!(stage.said(&["connect", "mail", "--yes"]).0, Some(0));
    // The queue is another one now: connected again, over the first time.
    let labourers = json!({"mail": {"arn": "mail", "completion": "destination"}});
    stage.configure(labourers, Some(&other));
    let (exit, report) = stage.json(&["connect", "mail", "--yes"]);
    assert_eq!(
        (exit, &report["error"]["type"]),
        (Some(1), &json!("StillConnected")),
        "another `arn`"
    );
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:mail";
    let labourers = json!({"mail": {"arn": arn, "completion": "destination"}});
    stage.configure(labourers, Some(&other));
    let kept = stage.cloud.object(BUCKET, KEPT).unwrap();
    assert_eq!(stage.said(&["connect", "mail", "--yes"]).0, Some(0));
    assert_eq!(stage.problems("mail"), [""; 0]);
    assert_eq!(
        stage.cloud.object(BUCKET, KEPT).unwrap(),
        kept,
        "never overwritten"
    );
    let (_, report) = stage.json(&["connect", "mail", "--undo", "--yes"]);
    assert_eq!(report["labourers"][0]["after"], Value::Null);
    let before = &report["labourers"][0]["before"]["on_success"];
    assert!(before.as_str().unwrap().ends_with(":other"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_where_nobody_can_agree_or_there_is_nothing_to_connect() {
    let stage = stage().await;
    let (exit, _, err) = stage.said(&["connect", "mail"]);
    assert_eq!(exit, Some(2));
    assert!(err.contains("give --yes"), "{err}");
    let (exit, report) = stage.json(&["connect", "mail"]);
    assert_eq!((exit, &report["error"]["type"]), (Some(2), &json!("Usage")));
    for (labourer, kind) in [(json!({"arn": "mail"}), "NothingToConnect"), (json!({}), "NoArn")] {
        stage.configure(json!({ "mail": labourer }), Some(&stage.queue));
        let (exit, report) = stage.json(&["connect", "mail", "--yes"]);
        assert_eq!(
            (exit, &report["error"]["type"]),
            (Some(2), &json!(kind)),
            "{report}"
        );
    }
    stage.configure(
        json!({"mail": {"arn": "gone", "completion": "destination"}}),
        Some(&stage.queue),
    );
    let (exit, report) = stage.json(&["connect", "mail", "--yes"]);
    assert_eq!(
        (exit, &report["error"]["type"]),
        (Some(1), &json!("FunctionNotFound"))
    );
    assert_eq!(stage.cloud.bucket_keys(BUCKET, ""), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_not_ours_is_not_taken_for_one() {
    let stage = stage().await;
    stage.cloud.put_object(BUCKET, KEPT, "{}").unwrap();
    for arguments in [
        &["connect", "mail", "--yes"][..],
        &["connect", "mail", "--undo", "--yes"],
    ] {
        let (exit, report) = stage.json(arguments);
        assert_eq!(
            (exit, &report["error"]["type"]),
            (Some(1), &json!("DamagedQueue"))
        );
    }
    assert_eq!(stage.problems("mail").len(), 3, "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_meets_somebody_else_at_it_changes_nothing() {
    let stage = stage().await;
    let race = Rule::new(Service::S3, Effect::Conflict).on("PutObject");
    stage.cloud.faults().add(race);
    let (exit, report) = stage.json(&["connect", "mail", "--yes"]);
    assert_eq!((exit, &report["error"]["type"]), (Some(1), &json!("Conflict")));
    assert_eq!(stage.problems("mail").len(), 3);
}
