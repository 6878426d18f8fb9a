//! What goes wrong at the services, and what is said of it.

use jobmill_local::{Effect, Rule, Service};
use serde_json::Value;

use crate::clouds::{
    BUCKET, ROWS, assert_adds_up, assert_whole, at_cloud, cloud, command_to_go_on, folder, report,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_is_an_error_that_says_how_to_go_on() {
    let (cloud, folder) = (cloud(BUCKET).await, folder());
    let away = cloud.faults().add(Rule::new(Service::S3, Effect::Refuse));
    for format in ["text", "json"] {
        let output = at_cloud(&cloud, folder.path(), &["--format", format])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        let (first, rest) = said.split_once('\n').unwrap();
        let run_id = first.strip_prefix("run id: ").unwrap();
        assert!(
            rest.starts_with("error[ServiceUnavailable]: while reading the lock: "),
            "{said}"
        );
        assert!(rest.contains(&format!(" --run-id {run_id}\n")), "{said}");
        if format == "json" {
            let told: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(
                (&told["error"]["type"], &told["run_id"]),
                (&"ServiceUnavailable".into(), &run_id.into())
            );
            assert!(rest.contains(told["error"]["message"].as_str().unwrap()));
            cloud.faults().remove(away);
            let done = command_to_go_on(&said, &cloud, folder.path()).output().unwrap();
            assert_adds_up(&report(&done));
            assert_whole(&cloud, BUCKET, run_id, ROWS);
        } else {
            assert!(output.stdout.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_takes_nothing_is_no_success() {
    let (cloud, folder) = (cloud(BUCKET).await, folder());
    for operation in ["BatchExecuteStatement", "TransactWriteItems"] {
        cloud
            .faults()
            .add(Rule::new(Service::DynamoDb, Effect::Throttle).on(operation));
    }
    let arguments = ["--run-id", "r-1", "--timeout", "1", "--format", "json"];
    let output = at_cloud(&cloud, folder.path(), &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&told["outcome"], &told["error"]["type"], &told["done"]),
        (&"handed_off".into(), &"NoProgress".into(), &0.into())
    );
    cloud.faults().clear();
    let said = String::from_utf8(output.stderr).unwrap();
    let done = command_to_go_on(&said, &cloud, folder.path()).output().unwrap();
    assert_adds_up(&report(&done));
    assert_whole(&cloud, BUCKET, "r-1", ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_id_of_another_job_is_wrong_and_not_to_be_gone_on_with() {
    let (cloud, folder) = (cloud(BUCKET).await, folder());
    report(
        &at_cloud(&cloud, folder.path(), &["--run-id", "r-1", "--format", "json"])
            .output()
            .unwrap(),
    );
    let job = std::fs::read_to_string(folder.path().join("job.json")).unwrap();
    std::fs::write(
        folder.path().join("job.json"),
        job.replacen('{', "{\"note\": 1, ", 1),
    )
    .unwrap();
    let output = at_cloud(&cloud, folder.path(), &["--run-id", "r-1", "--format", "json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["error"]["type"], "RunIdConflict");
    assert!(!String::from_utf8(output.stderr).unwrap().contains("To go on"));
}
