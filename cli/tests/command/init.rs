//! `jobmill init`.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use crate::support::{folder, jobmill};

#[test]
fn what_it_writes_plans_runs_and_checks_as_it_is() {
    let here = TempDir::new().unwrap();
    let said = jobmill(here.path(), &["init", "jobs/first"]);
    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    assert!(said.out.contains("  cd jobs/first\n"), "{said:?}");
    let first = here.path().join("jobs/first");
    let said = jobmill(&first, &["check"]);
    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    let said = jobmill(&first, &["plan", "job.json", "--strict", "--format", "json"]);
    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    assert_eq!(
        (&said.json()["rows"], &said.json()["warnings"]),
        (&json!(28), &json!([]))
    );
    let said = jobmill(&first, &["run", "job.json", "--out", "tasks.jsonl"]);
    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    assert_eq!(
        fs::read_to_string(first.join("tasks.jsonl"))
            .unwrap()
            .lines()
            .count(),
        28
    );
    // Each file names a schema that is there, and it is the one of today.
    for (file, words) in [
        ("jobmill.json", &["schema", "config"][..]),
        ("job.json", &["schema", "job", "--config", "jobmill.json"]),
    ] {
        let text = fs::read_to_string(first.join(file)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let schema = fs::read_to_string(first.join(value["$schema"].as_str().unwrap())).unwrap();
        assert_eq!(schema, jobmill(&first, words).out);
    }
    assert!(
        !jobmill(&first, &["plan", "job.json", "--format", "rows"])
            .out
            .contains("$schema")
    );
}

#[test]
fn the_page_explains_each_key_of_both_files() {
    let here = TempDir::new().unwrap();
    jobmill(here.path(), &["init"]);
    let page = fs::read_to_string(here.path().join("jobmill.md")).unwrap();
    let job = fs::read_to_string(here.path().join("job.json")).unwrap();
    let job: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&job).unwrap();
    let config = [
        "queue_bucket",
        "job_schema.chunkable_attrs",
        "task_config.labourers",
    ];
    for key in job.keys().map(String::as_str).chain(config) {
        assert!(page.contains(&format!("| `{key}` | ")), "{key}");
    }
}

#[test]
fn nothing_is_overwritten_and_then_nothing_is_written() {
    let names = [
        "jobmill.json",
        "job.json",
        "jobmill.md",
        "schemas/config.schema.json",
        "schemas/job.schema.json",
    ];
    for name in names {
        let here = TempDir::new().unwrap();
        if name.starts_with("schemas/") {
            fs::create_dir(here.path().join("schemas")).unwrap();
        }
        fs::write(here.path().join(name), "mine").unwrap();
        let said = jobmill(here.path(), &["init"]);
        assert_eq!(said.error(), "FileExists");
        assert!(
            said.err.contains(&format!(": {name} is in . already")),
            "{said:?}"
        );
        assert_eq!(fs::read_to_string(here.path().join(name)).unwrap(), "mine");
        assert_eq!(fs::read_dir(here.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_folder_that_is_a_file_is_told() {
    let folder = folder(&json!(null), &json!(null));
    let said = jobmill(folder.path(), &["init", "job.json/x"]);
    assert_eq!((said.exit, said.out.as_str()), (1, ""));
    assert!(
        said.err
            .starts_with("error[OutputFailed]: job.json/x can't be written: "),
        "{said:?}"
    );
}
