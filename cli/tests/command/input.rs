//! What a command is given, and what it says of what can't be right.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{config, folder, jobmill, jobs};

#[test]
fn each_invalid_input_is_told_with_its_type_its_field_and_its_value() {
    let job = |extra: Value| {
        let mut job = json!({"lambda_name": "report", "isolate_sections": true, "sections": ["a", "b"]});
        job.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        job
    };
    let mut small = config();
    small["max_tasks_per_job"] = json!(1);
    let mut wrong = config();
    wrong["queue_bucketz"] = json!(1);
    let large = "x".repeat(410_000);
    let cases = [
        (
            wrong,
            job(json!({})),
            "InvalidConfig",
            "`queue_bucketz` is unknown (did you mean \"queue_bucket\"?)",
        ),
        (config(), json!([1]), "InvalidEvent", "the event is a list"),
        (
            config(),
            json!({"file_name": "tasks_queue_1.txt"}),
            "InvalidEvent",
            "the queue file \"tasks_queue_1.txt\"",
        ),
        (
            config(),
            json!({"sweep": true}),
            "InvalidEvent",
            "asks for a sweep",
        ),
        (
            config(),
            json!({"job": {}, "as_of": "soon"}),
            "InvalidEvent",
            "`as_of` is \"soon\"",
        ),
        (config(), json!({}), "InvalidJob", "`lambda_name` is missing"),
        (
            config(),
            job(json!({"isolate_stores": "maybe"})),
            "InvalidJob",
            "`isolate_stores` is \"maybe\"",
        ),
        (
            config(),
            job(json!({"period": "last_fortnight"})),
            "InvalidJob",
            "`period` is \"last_fortnight\"",
        ),
        (
            config(),
            job(json!({"job_schema_name": "defualt"})),
            "UnknownSchema",
            "(did you mean \"default\"?)",
        ),
        (
            config(),
            job(json!({"lambda_name": "reprot"})),
            "UnknownLabourer",
            "(did you mean \"report\"?)",
        ),
        (
            small,
            job(json!({})),
            "FanOutTooLarge",
            "2 tasks, and `max_tasks_per_job` is 1",
        ),
        (
            config(),
            job(json!({ "note": large })),
            "TaskTooLarge",
            "row 0 of the job would become an item of 410",
        ),
    ];
    for (config, job, kind, sentence) in cases {
        let folder = folder(&config, &job);
        for command in ["plan", "run"] {
            let said = jobmill(folder.path(), &[command, "job.json"]);
            assert_eq!(said.error(), kind, "{said:?}");
            assert!(said.err.starts_with(&format!("error[{kind}]: ")), "{said:?}");
            assert!(said.err.contains(sentence), "{:?} has no {sentence:?}", said.err);
            assert_eq!(said.err.lines().count(), 1, "{said:?}");
        }
        for command in ["plan", "run"] {
            let said = jobmill(folder.path(), &[command, "job.json", "--format", "json"]);
            let told = said.json();
            assert_eq!((said.exit, &told["error"]["type"]), (2, &json!(kind)), "{said:?}");
            let message = told["error"]["message"].as_str().unwrap();
            assert!(message.contains(sentence), "{message:?} has no {sentence:?}");
            assert_eq!(said.err, format!("error[{kind}]: {message}\n"));
            assert_eq!(told.as_object().unwrap().len(), 1, "no run has begun");
        }
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            2,
            "nothing is written"
        );
    }
}

#[test]
fn text_that_is_no_json_is_told_with_its_place() {
    let folder = folder(&config(), &json!(null));
    std::fs::write(
        folder.path().join("job.json"),
        "{\"lambda_name\": \"report\",\n oops}",
    )
    .unwrap();
    let said = jobmill(folder.path(), &["plan", "job.json"]);
    assert_eq!(said.error(), "InvalidEvent");
    assert!(
        said.err.contains("the job in job.json is not JSON") && said.err.contains("line 2 column 2"),
        "{said:?}"
    );
    std::fs::write(folder.path().join("jobmill.json"), "").unwrap();
    let said = jobmill(folder.path(), &["plan", "job.json"]);
    assert_eq!(said.error(), "InvalidConfig");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = folder(&config(), &json!({"lambda_name": "report"}));
    std::fs::write(
        folder.path().join("latin1.json"),
        b"{\"lambda_name\": \"caf\xe9\"}",
    )
    .unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["plan", "missing.json"], "missing.json"),
        (&["plan", "."], "from ."),
        (&["plan", "job.json", "--config", "missing.json"], "missing.json"),
        (&["plan", "latin1.json"], "not UTF-8 (at byte 20)"),
        (&["check", "missing.json"], "missing.json"),
    ];
    for (arguments, expected) in cases {
        let said = jobmill(folder.path(), arguments);
        assert_eq!(said.error(), "UnreadableFile");
        assert!(said.err.contains(expected), "{said:?}");
    }
}

#[test]
fn without_a_configuration_the_error_says_how_to_write_one() {
    for (job, tasks) in [
        ("retail/job.json", 6_570),
        ("nightly/event.json", 5),
        ("variants/job.json", 4),
        ("variants/by_category.json", 21),
        ("variants/whole.json", 3),
        ("wide/job.json", 100_000),
    ] {
        let folder = TempDir::new().unwrap();
        std::fs::copy(jobs().join(job), folder.path().join("job.json")).unwrap();
        let said = jobmill(folder.path(), &["plan", "job.json"]);
        assert_eq!(said.error(), "NoConfig");
        let (sentence, suggested) = said.err.split_once("\n\nFor this job it could be:\n\n").unwrap();
        assert!(
            sentence.contains("no jobmill.json beside the job or in the current folder"),
            "{sentence}"
        );
        // Saved as it stands, it does what it says.
        std::fs::write(folder.path().join("jobmill.json"), suggested).unwrap();
        let plan = jobmill(folder.path(), &["plan", "job.json", "--format", "json"]).json();
        assert_eq!(plan["rows"], tasks, "{job}: {suggested}");
    }
}

#[test]
fn the_configuration_is_named_or_beside_the_job_or_in_the_current_folder() {
    let job = json!({"lambda_name": "report"});
    let beside = folder(&config(), &job);
    let mut other = config();
    other["task_config"]["labourers"] = json!({"other": {}});
    let current = folder(&other, &job);
    let job = beside.path().join("job.json");
    let job = job.to_str().unwrap();
    assert_eq!(
        jobmill(current.path(), &["plan", job]).exit,
        0,
        "beside the job comes first"
    );
    let said = jobmill(current.path(), &["plan", job, "--config", "jobmill.json"]);
    assert_eq!(said.error(), "UnknownLabourer", "what is named counts");
    std::fs::remove_file(beside.path().join("jobmill.json")).unwrap();
    assert_eq!(
        jobmill(current.path(), &["plan", job]).error(),
        "UnknownLabourer",
        "then the current folder"
    );
}
