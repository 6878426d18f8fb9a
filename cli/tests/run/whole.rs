//! Runs from end to end.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jobmill_local::LocalCloud;
use serde_json::Value;

use crate::clouds::{assert_adds_up, assert_whole, cloud, report};

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
    let first = report(&jobmill(&arguments, Some(&cloud)));
    assert_eq!(
        (&first["outcome"], &first["created"]),
        (&"completed".into(), &100_000.into())
    );
    assert!(first["hops"].as_u64().unwrap() >= 5, "{first}");
    assert_adds_up(&first);
    assert_whole(&cloud, &bucket, "wide", 100_000);
    let again = report(&jobmill(&arguments, Some(&cloud)));
    assert_eq!(
        (&again["outcome"], &again["created"]),
        (&"already_completed".into(), &0.into())
    );
    assert_whole(&cloud, &bucket, "wide", 100_000);
}

#[test]
fn a_hundred_thousand_values_become_as_many_tasks_in_one_go() {
    let wide = job("wide/job.json");
    let done = report(&jobmill(&[wide.to_str().unwrap(), "--format", "json"], None));
    assert_eq!((&done["created"], &done["hops"]), (&100_000.into(), &0.into()));
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
