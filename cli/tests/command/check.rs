//! `jobmill check`.

use serde_json::json;

use crate::support::{config, folder, jobmill, jobmill_with};

#[test]
fn check_tells_every_problem_at_once() {
    let config = json!({
        "queue_bucket": "", "timeout": "soon", "colour": 1,
        "job_schema": {"chunkable_attrs": ["sections"]}, "dynamo_db_config": {"table_name": "other"},
    });
    let folder = folder(&config, &json!(null));
    let said = jobmill(folder.path(), &["check", "jobmill.json"]);
    assert_eq!(said.error(), "InvalidConfig");
    for problem in [
        "`queue_bucket`",
        "`timeout` is \"soon\"",
        "`colour` is unknown",
        "which looks like a plural",
        "`dynamo_db_config.table_name` is \"other\", and tasks go to \"sosw_tasks\"",
    ] {
        assert!(
            said.err
                .lines()
                .any(|line| line.starts_with("error[InvalidConfig]: ") && line.contains(problem))
        );
    }
    let (warning, errors) = said.err.split_once('\n').unwrap();
    assert!(warning.starts_with("warning: $.dynamo_db_config: "), "{warning}");
    let said = jobmill(folder.path(), &["check", "jobmill.json", "--format", "json"]);
    assert_eq!((said.exit, said.err.as_str()), (2, errors));
    assert_eq!(said.json()["warnings"][0]["path"], "$.dynamo_db_config");
    assert_eq!(said.json()["valid"], false);
    assert_eq!(said.json()["problems"].as_array().unwrap().len(), 5);
    assert_eq!(said.json()["error"]["type"], "InvalidConfig");
    assert_eq!(said.json()["error"]["problems"], said.json()["problems"]);
}

#[test]
fn without_an_argument_check_takes_the_configuration_of_the_current_folder() {
    let folder = folder(&config(), &json!(null));
    let said = jobmill(folder.path(), &["check"]);
    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    assert!(said.out.starts_with("jobmill.json is right\n"), "{said:?}");
    std::fs::remove_file(folder.path().join("jobmill.json")).unwrap();
    assert_eq!(jobmill(folder.path(), &["check"]).error(), "NoConfig");
}

#[test]
fn check_tells_what_is_configured_and_what_means_nothing() {
    let mut config = config();
    config["init_clients"] = json!(["Task"]);
    config["task_config"]["labourers"] = json!({
        "report": {"max_simultaneous_invocations": 20}, "held": {"paused": true},
    });
    let folder = folder(&json!(null), &json!(null));
    let said = jobmill_with(folder.path(), &["check", "-"], &config.to_string());
    assert_eq!(said.exit, 0);
    assert!(said.out.starts_with("standard input is right\n"), "{said:?}");
    assert!(said.out.contains("default: sections > stores\n"), "{said:?}");
    assert!(
        said.out.contains("held (paused), report (20 at once)\n"),
        "{said:?}"
    );
    assert_eq!(
        said.err,
        "warning: $.init_clients: `init_clients` means something to sosw and nothing here\n"
    );
    let said = jobmill_with(
        folder.path(),
        &["check", "-", "--format", "json"],
        &config.to_string(),
    );
    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    assert_eq!(said.json()["labourers"], json!(["held", "report"]));
    assert_eq!(
        said.json()["dispatch"]["report"],
        json!({"group": "main", "max_simultaneous_invocations": 20, "max_attempts": 3, "paused": false})
    );
    assert_eq!(said.json()["dispatch"]["held"]["paused"], true);
    assert_eq!(said.json()["warnings"].as_array().unwrap().len(), 1);
}
