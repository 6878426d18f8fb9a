//! The command as people use it: the real binary, its output, its errors, its exit codes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// What a process said and how it ended.
#[derive(Debug)]
struct Said {
    exit: i32,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn rows(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The type of the error, which must be the only thing that is said.
    #[track_caller]
    fn error(&self) -> &str {
        assert_eq!((self.exit, self.out.as_str()), (2, ""), "{self:?}");
        let rest = self
            .err
            .lines()
            .find_map(|line| line.strip_prefix("error["))
            .unwrap_or_else(|| panic!("{self:?}"));
        rest.split_once("]: ").unwrap().0
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobmill"));
    command
        .current_dir(folder)
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE");
    command
}

fn jobmill_with(folder: &Path, arguments: &[&str], input: &str) -> Said {
    let mut child = command(folder)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // A command that fails early may not read it.
        scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
        child.wait_with_output().unwrap()
    });
    Said {
        exit: output.status.code().expect("no signal"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn jobmill(folder: &Path, arguments: &[&str]) -> Said {
    jobmill_with(folder, arguments, "")
}

fn jobs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/jobs")
}

/// A folder with a configuration and a job.
fn folder(config: &Value, job: &Value) -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("jobmill.json"), config.to_string()).unwrap();
    std::fs::write(folder.path().join("job.json"), job.to_string()).unwrap();
    folder
}

fn config() -> Value {
    json!({
        "queue_bucket": "b",
        "job_schema": {"chunkable_attrs": [["section", {}], ["store", {}]]},
        "task_config": {"labourers": {"report": {}}},
    })
}

fn plan_of(config: &Value, job: &Value) -> Said {
    jobmill(
        folder(config, job).path(),
        &["plan", "job.json", "--as-of", "2024-03-06", "--format", "rows"],
    )
}

#[test]
fn every_recorded_case_gets_its_rows_or_its_error() {
    let text = std::fs::read_to_string(jobs().join("../data/golden.jsonl")).unwrap();
    let cases: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(cases.len(), 573);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for part in cases.chunks(cases.len().div_ceil(threads)) {
            scope.spawn(move || part.iter().for_each(check_recorded));
        }
    });
}

fn check_recorded(case: &Value) {
    let folder = folder(&case["config"], &case["event"]);
    let mut arguments = vec!["plan", "job.json", "--format", "rows"];
    if let Some(as_of) = case["as_of"].as_str() {
        arguments.extend(["--as-of", as_of]);
    }
    let said = jobmill(folder.path(), &arguments);
    match case.get("error") {
        Some(error) => assert_eq!(said.error(), error.as_str().unwrap(), "{}", case["id"]),
        None => {
            assert_eq!(said.exit, 0, "{}: {said:?}", case["id"]);
            assert_eq!(json!(said.rows()), case["rows"], "{}", case["id"]);
        }
    }
}

#[test]
fn the_jobs_of_users_have_these_many_tasks() {
    let expected = [
        ("retail/job.json", 6_570),
        ("nightly/job.json", 5),
        ("nightly/event.json", 5),
        ("variants/job.json", 4),
        ("variants/by_category.json", 21),
        ("variants/whole.json", 3),
        ("wide/job.json", 100_000),
    ];
    for (job, tasks) in expected {
        // The configuration is found beside the job, not in the current folder.
        let elsewhere = TempDir::new().unwrap();
        let path = jobs().join(job);
        let path = path.to_str().unwrap();
        let plan = jobmill(elsewhere.path(), &["plan", path, "--format", "json"]).json();
        assert_eq!(plan["rows"], tasks, "{job}");
        let said = jobmill(elsewhere.path(), &["plan", path, "--format", "rows"]);
        assert_eq!((said.exit, said.err.as_str()), (0, ""));
        assert_eq!(said.out.lines().count(), tasks);
        assert_eq!(plan["file_bytes"], said.out.len());
        let config = Path::new(path).with_file_name("jobmill.json");
        let said = jobmill(elsewhere.path(), &["check", config.to_str().unwrap()]);
        assert_eq!((said.exit, said.err.as_str()), (0, ""), "{job}");
    }
}

#[test]
fn the_same_job_comes_bare_in_an_envelope_from_eventbridge_or_from_standard_input() {
    let bare = json!({"lambda_name": "report", "isolate_sections": true, "sections": ["a", "b"], "period": "yesterday"});
    let expected = plan_of(&config(), &bare).rows();
    assert_eq!(expected.len(), 2);
    let forms = [
        json!({"job": bare, "run_id": "r-1"}),
        json!({"job": bare.to_string()}),
        json!({"detail-type": "t", "source": "s", "detail": bare, "id": "1", "time": "1999-01-01T00:00:00Z"}),
        json!(bare.to_string()),
    ];
    for form in forms {
        assert_eq!(plan_of(&config(), &form).rows(), expected, "{form}");
    }
    let folder = folder(&config(), &json!(null));
    for text in [bare.to_string(), format!("\u{feff}{bare:#}\n")] {
        let said = jobmill_with(
            folder.path(),
            &["plan", "-", "--as-of", "2024-03-06", "--format", "rows"],
            &text,
        );
        assert_eq!(said.rows(), expected);
    }
}

#[test]
fn the_date_given_counts_more_than_that_of_the_event() {
    let job = json!({"job": {"lambda_name": "report", "isolate_sections": 1, "sections": "a", "period": "today"}, "as_of": "2020-02-29"});
    assert_eq!(
        plan_of(&config(), &job).rows()[0]["date_list"],
        json!(["2024-03-06"])
    );
    let folder = folder(&config(), &job);
    let said = jobmill(folder.path(), &["plan", "job.json", "--format", "rows"]);
    assert_eq!(said.rows()[0]["date_list"], json!(["2020-02-29"]));
}

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

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let folder = jobs().join("wide");
    let mut child = command(&folder)
        .args(["plan", "job.json", "--format", "rows"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    drop(reader);
    let output = child.wait_with_output().unwrap();
    assert!(first.contains("\"customers\":[\"C000001\"]"), "{first}");
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).as_ref()
        ),
        (Some(0), "")
    );
}

#[test]
fn help_has_examples_and_the_version_is_told() {
    let here = TempDir::new().unwrap();
    for arguments in [
        &["--help"][..],
        &["plan", "--help"],
        &["run", "--help"],
        &["check", "--help"],
        &["plan", "-h"],
    ] {
        let said = jobmill(here.path(), arguments);
        assert_eq!((said.exit, said.err.as_str()), (0, ""));
        assert!(
            said.out.contains("Usage: jobmill") && said.out.contains("Examples:\n"),
            "{arguments:?}: {said:?}"
        );
        assert!(said.out.contains("Exit codes: 0"), "{arguments:?}: {said:?}");
    }
    let said = jobmill(here.path(), &["--version"]);
    assert_eq!(
        (said.exit, said.out.as_str()),
        (0, concat!("jobmill ", env!("CARGO_PKG_VERSION"), "\n"))
    );
}

#[test]
fn wrong_usage_is_told_and_ends_with_2() {
    let folder = folder(&config(), &json!({"lambda_name": "report"}));
    let cases: [(&[&str], &str); 7] = [
        (&["plan"], "<JOB>"),
        (
            &["plan", "job.json", "--as-of", "yesterday"],
            "write a date such as 2024-03-06",
        ),
        (&["plan", "job.json", "--format", "xml"], "tree, rows, json"),
        (&["run", "job.json", "--cloud", "moon"], "local, aws"),
        (
            &["run", "job.json", "--run-id", "a/b"],
            "a run id has 1 to 128 of the characters",
        ),
        (
            &["run", "job.json", "--out", "no/such/folder.jsonl"],
            "there is no folder no/such",
        ),
        (&["paln", "job.json"], "plan"),
    ];
    for (arguments, expected) in cases {
        let said = jobmill(folder.path(), arguments);
        assert_eq!(said.error(), "Usage");
        assert!(said.err.contains(expected), "{said:?}");
    }
    let said = jobmill(folder.path(), &[]);
    assert_eq!((said.exit, said.out.as_str()), (2, ""));
    assert!(said.err.contains("Usage: jobmill <COMMAND>"), "{said:?}");
}

#[test]
fn the_tree_tells_levels_dates_rows_sizes_and_cost() {
    let path = jobs().join("retail/job.json");
    let here = TempDir::new().unwrap();
    let said = jobmill(
        here.path(),
        &["plan", path.to_str().unwrap(), "--as-of", "2024-03-06"],
    );
    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    let (head, rows) = said.out.split_once("\n\n  first rows\n").unwrap();
    let expected = "\
6,570 tasks for retail_sales_report
schema default, today is 2024-03-06

  365 dates              2023-03-07 to 2024-03-05; 18 tasks each
  └─ 4 sections          1 task ends here
     └─ 9 stores         3 tasks end here
        └─ 19 products   14 tasks, in batches

  queue file  1.7 MB           longest row 293 bytes
  write units 13,140           table and greenfield index
  time        about 7 s        at 1,000 write units a second for one labourer
  cost        under $0.01      on demand, us-east-1";
    assert_eq!(head, expected);
    let (first, last) = rows.split_once("\n  last rows\n").unwrap();
    assert_eq!((first.lines().count(), last.lines().count()), (3, 3));
    assert!(first.starts_with("  {\"date_list\":[\"2023-03-07\"]"), "{first}");
    assert!(
        last.ends_with("\"sections\":[\"seasonal\"],\"labourer_id\":\"retail_sales_report\"}\n"),
        "{last}"
    );
}

#[test]
fn small_plans_show_each_row_once() {
    for count in 1..=7 {
        let sections: Vec<String> = (0..count).map(|at| format!("s{at}")).collect();
        let job = json!({"lambda_name": "report", "isolate_sections": true, "sections": sections});
        let folder = folder(&config(), &job);
        let text = jobmill(folder.path(), &["plan", "job.json"]).out;
        let shown = text.lines().filter(|line| line.starts_with("  {")).count();
        assert_eq!(shown, count.min(6), "{text}");
        let plan = jobmill(folder.path(), &["plan", "job.json", "--format", "json"]).json();
        let ends = |key: &str| plan[key].as_array().unwrap().len();
        assert_eq!(
            (ends("first_rows"), ends("last_rows")),
            (count.min(3), count.saturating_sub(3).min(3))
        );
    }
}

#[test]
fn the_plan_for_machines_has_stable_keys() {
    let path = jobs().join("variants/by_category.json");
    let here = TempDir::new().unwrap();
    let arguments = [
        "plan",
        path.to_str().unwrap(),
        "--as-of",
        "2024-03-06",
        "--format",
        "json",
    ];
    let plan = jobmill(here.path(), &arguments).json();
    let keys: Vec<&str> = plan.as_object().unwrap().keys().map(String::as_str).collect();
    let documented = std::fs::read_to_string(jobs().join("../../docs/command.md")).unwrap();
    for key in keys
        .iter()
        .copied()
        .chain(plan["estimate"].as_object().unwrap().keys().map(String::as_str))
    {
        assert!(
            documented.contains(&format!("`{key}`")),
            "docs/command.md does not explain {key}"
        );
    }
    for (key, expected) in [
        ("labourer_id", json!("price_check")),
        ("schema", json!("by_category")),
        ("split", json!(true)),
        ("as_of", json!("2024-03-06")),
        ("as_of_given", json!(true)),
        ("today", json!("2024-03-06")),
        ("timezone", json!("America/New_York")),
        ("rows", json!(21)),
        ("rows_per_date", json!(3)),
        ("dates_apart", json!(true)),
        (
            "levels",
            json!([{"attribute": "categories", "values": 3, "rows": 3}]),
        ),
        ("warnings", json!([])),
    ] {
        assert_eq!(plan[key], expected, "{key}");
    }
    assert_eq!(plan["dates"].as_array().unwrap().len(), 7);
    assert_eq!(plan["estimate"]["write_units"], 42);
    assert_eq!(plan["first_rows"][0]["date_list"], json!(["2024-02-25"]));
}

#[test]
fn warnings_disturb_no_output() {
    let mut config = config();
    config["task_config"]["max_attempts"] = json!(3);
    let job = json!({
        "lambda_name": "report", "isolate_sections": true, "sections": ["a"], "isolate_planets\u{1b}[2J": true,
    });
    let said = plan_of(&config, &job);
    assert_eq!(said.rows().len(), 1);
    assert_eq!(
        said.err,
        "warning: jobmill.json has a setting that means nothing here: `jobmill check jobmill.json` names it\n\
         warning: $['isolate_planets\\u001b[2J']: `isolate_planets\\u{1b}[2J` looks like a flag, but schema `default` has no such attribute: it is payload\n"
    );
    let said = plan_of(
        &self::config(),
        &json!({"lambda_name": "report", "isolate_sections": true, "sections": []}),
    );
    assert_eq!((said.exit, said.out.as_str()), (0, ""));
    assert_eq!(
        said.err,
        "warning: nothing to do: `sections` is to be split and is empty\n"
    );
}

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
    let said = jobmill(folder.path(), &["check", "jobmill.json", "--format", "json"]);
    assert_eq!((said.exit, said.err.as_str()), (2, ""));
    assert_eq!(said.json()["valid"], false);
    assert_eq!(said.json()["problems"].as_array().unwrap().len(), 5);
}

#[test]
fn check_tells_what_is_configured_and_what_means_nothing() {
    let mut config = config();
    config["init_clients"] = json!(["Task"]);
    let folder = folder(&json!(null), &json!(null));
    let said = jobmill_with(folder.path(), &["check", "-"], &config.to_string());
    assert_eq!(said.exit, 0);
    assert!(said.out.starts_with("standard input is right\n"), "{said:?}");
    assert!(said.out.contains("default: sections > stores\n"), "{said:?}");
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
    assert_eq!(said.json()["labourers"], json!(["report"]));
    assert_eq!(said.json()["warnings"].as_array().unwrap().len(), 1);
}

#[test]
fn colours_are_for_terminals() {
    let folder = folder(&config(), &json!({"lambda_name": "report"}));
    let escape = '\u{1b}';
    let run = |name: &str, value: &str, arguments: &[&str]| {
        let output = command(folder.path())
            .env(name, value)
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    for arguments in [
        &["plan", "job.json"][..],
        &["plan", "missing.json"],
        &["plan", "--help"],
        &["check", "jobmill.json"],
    ] {
        assert!(
            !run("TERM", "xterm-256color", arguments).contains(escape),
            "no terminal, no colours"
        );
        assert!(
            run("CLICOLOR_FORCE", "1", arguments).contains(escape),
            "{arguments:?}"
        );
        let output = command(folder.path())
            .env("CLICOLOR_FORCE", "1")
            .env("NO_COLOR", "1")
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            !String::from_utf8([output.stdout, output.stderr].concat())
                .unwrap()
                .contains(escape)
        );
    }
}

/// Fenced blocks of a page, in order: the words behind the fence, and the text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(words)) => open = Some((words.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, text)), None) => *text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn each_example_of_the_documentation_is_true() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut examples = 0;
    for page in ["job-language.md", "configuration.md"] {
        let folder = TempDir::new().unwrap();
        let mut said: Option<Said> = None;
        for (words, text) in blocks(&std::fs::read_to_string(docs.join(page)).unwrap()) {
            match words.as_str() {
                "json config" => {
                    std::fs::write(folder.path().join("jobmill.json"), &text).unwrap();
                    said = Some(jobmill(folder.path(), &["check", "jobmill.json"]));
                }
                "json job" => {
                    std::fs::write(folder.path().join("job.json"), &text).unwrap();
                    let today: &[&str] = if text.contains("\"as_of\"") {
                        &[]
                    } else {
                        &["--as-of", "2024-03-06"]
                    };
                    said = Some(jobmill(
                        folder.path(),
                        &[&["plan", "job.json", "--format", "rows"], today].concat(),
                    ));
                }
                "jsonl rows" => {
                    let said = said.as_ref().unwrap();
                    assert_eq!((said.exit, &said.out), (0, &text), "{page}");
                }
                "text error" => {
                    assert_eq!(
                        said.as_ref().unwrap().error(),
                        text["error[".len()..].split_once(']').unwrap().0
                    );
                    assert_eq!(said.as_ref().unwrap().err, text, "{page}");
                }
                "text stderr" => assert_eq!(said.as_ref().unwrap().err, text, "{page}"),
                other => panic!("{page} has a block {other:?} that no test knows"),
            }
            examples += 1;
        }
    }
    assert!(examples > 30, "only {examples} examples were found");
}
