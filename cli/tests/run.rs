//! `jobmill run`, the real binary: in its own local cloud, and against a cloud that outlives it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use jobmill_core::task::greenfield::Greenfield;

use jobmill_core::task::identity::TaskIds;
use jobmill_core::task::tables::Tables;
use jobmill_local::{LocalCloud, LocalCloudOptions};
use serde_json::Value;

fn job(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/jobs")
        .join(name)
}

fn jobmill(arguments: &[&str], cloud: Option<&LocalCloud>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobmill"));
    command.arg("run").args(arguments);
    if let Some(cloud) = cloud {
        command.args(["--cloud", "aws"]).envs(cloud.environment());
    }
    command.output().expect("the binary runs")
}

fn summary(output: &Output) -> Value {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("the summary is JSON")
}

async fn cloud(bucket: &str) -> LocalCloud {
    let cloud = LocalCloud::start(LocalCloudOptions::default()).await.unwrap();
    cloud.create_bucket(bucket);
    cloud.create_task_tables(&Tables::default()).unwrap();
    cloud
}

/// Asserts that the tasks of a run stand, `rows` of them, each once, in the order of the queue, none in the future.
fn assert_whole(cloud: &LocalCloud, bucket: &str, run_id: &str, rows: usize) {
    let items = cloud.scan_table("sosw_tasks").unwrap();
    assert_eq!(items.len(), rows);
    let mut tasks: Vec<(Greenfield, &str)> = items
        .iter()
        .map(|item| {
            let greenfield = item["greenfield"]["N"].as_str().unwrap();
            (
                Greenfield::parse(greenfield).unwrap(),
                item["task_id"]["S"].as_str().unwrap(),
            )
        })
        .collect();
    tasks.sort_unstable();
    let ids = TaskIds::new(bucket, "sosw/scheduler", run_id);
    for (row, (_, id)) in tasks.iter().enumerate() {
        assert_eq!(*id, ids.at(row as u64), "row {row}");
    }
    let greenfields: BTreeSet<Greenfield> = tasks.iter().map(|(greenfield, _)| *greenfield).collect();
    assert_eq!(greenfields.len(), rows);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    assert!(*greenfields.last().unwrap() <= Greenfield::from_millis(i64::try_from(now).unwrap()));
    let left = cloud.bucket_keys(bucket, "");
    assert_eq!(
        left,
        [format!("sosw/scheduler/done/tasks_queue_{run_id}.txt.json")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_values_become_as_many_tasks_in_many_hops_and_once() {
    let wide = job("wide/job.json");
    let wide = wide.to_str().unwrap();
    let bucket = {
        let config: Value =
            serde_json::from_slice(&std::fs::read(job("wide/jobmill.json")).unwrap()).unwrap();
        config["queue_bucket"].as_str().unwrap().to_owned()
    };
    let cloud = cloud(&bucket).await;
    let arguments = [wide, "--run-id", "wide", "--timeout", "4", "--format", "json"];
    let first = summary(&jobmill(&arguments, Some(&cloud)));
    assert_eq!(
        (&first["outcome"], &first["created"]),
        (&"completed".into(), &100_000.into())
    );
    assert!(first["hops"].as_u64().unwrap() >= 5, "{first}");
    assert_whole(&cloud, &bucket, "wide", 100_000);
    let again = summary(&jobmill(&arguments, Some(&cloud)));
    assert_eq!(
        (&again["outcome"], &again["created"]),
        (&"already_completed".into(), &0.into())
    );
    assert_whole(&cloud, &bucket, "wide", 100_000);
}

#[test]
fn a_hundred_thousand_values_become_as_many_tasks_in_one_go() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("tasks.jsonl");
    let wide = job("wide/job.json");
    let arguments = [
        wide.to_str().unwrap(),
        "--run-id",
        "one-go",
        "--format",
        "json",
        "--out",
        out.to_str().unwrap(),
    ];
    let done = summary(&jobmill(&arguments, None));
    assert_eq!((&done["created"], &done["hops"]), (&100_000.into(), &0.into()));
    let ids = TaskIds::new("mail-jobs", "sosw/scheduler", "one-go");
    let expected: BTreeSet<String> = (0..100_000).map(|row| ids.at(row)).collect();
    let written: Vec<String> = std::fs::read_to_string(&out)
        .unwrap()
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["task_id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(written.len(), 100_000);
    assert_eq!(written.into_iter().collect::<BTreeSet<String>>(), expected);
}

#[test]
fn a_real_job_runs_in_the_local_cloud_and_says_so() {
    let retail = job("retail/job.json");
    let output = jobmill(&[retail.to_str().unwrap()], None);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.starts_with("6,570 tasks created for retail_sales_report\n"),
        "{text}"
    );
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "quiet when piped");
}

#[test]
fn a_service_that_is_away_is_an_error_that_says_how_to_go_on() {
    let nightly = job("nightly/job.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobmill"));
    let output = command
        .args(["run", nightly.to_str().unwrap(), "--cloud", "aws"])
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "none")
        .env("AWS_SECRET_ACCESS_KEY", "none")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.starts_with("error[ServiceUnavailable]: while looking for the receipt: "),
        "{told}"
    );
    assert!(told.contains("the same command with the same --run-id"), "{told}");
}
