//! `jobmill plan`: rows, tree, JSON.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{config, folder, jobmill, jobmill_with, jobs, plan_of};

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
fn dates_out_of_order_are_no_range() {
    let days =
        |order: &[u32]| -> Vec<String> { order.iter().map(|day| format!("2024-03-{day:02}")).collect() };
    for (dates, shown) in [
        (
            days(&[1, 2, 3, 4, 5, 6, 7, 9]),
            "2024-03-01 to 2024-03-09; 1 task each",
        ),
        (
            days(&[9, 2, 3, 4, 5, 6, 7, 1]),
            "2024-03-09, 2024-03-02, 2024-03-03, … 2024-03-01; 1 task each",
        ),
        (days(&[2, 1]), "2024-03-02, 2024-03-01; 1 task each"),
    ] {
        let job = json!({"lambda_name": "report", "isolate_days": true, "date_list": dates});
        let text = jobmill(folder(&config(), &job).path(), &["plan", "job.json"]).out;
        assert!(text.contains(&format!(" {shown}\n")), "{text}");
    }
}

#[test]
fn strict_refuses_what_only_warns_else() {
    let job = json!({"lambda_name": "report", "isolate_sections": true, "sections": ["a"], "isolate_planets": true});
    let mut config = config();
    config["queue_bucket"] = json!("my-queue-bucket");
    let folder = folder(&config, &job);
    for command in ["plan", "run"] {
        let said = jobmill(folder.path(), &[command, "job.json"]);
        assert_eq!(said.exit, 0, "{said:?}");
        assert!(said.err.starts_with("warning: $.isolate_planets: "), "{said:?}");
        let said = jobmill(folder.path(), &[command, "job.json", "--format", "json"]);
        assert_eq!(said.json()["warnings"][0]["type"], "unknown_flag");
        let said = jobmill(folder.path(), &[command, "job.json", "--strict"]);
        assert_eq!(said.error(), "InvalidJob");
        assert!(
            said.err.contains("$.isolate_planets: ") && said.err.contains("which `strict` refuses"),
            "{said:?}"
        );
    }
}

#[test]
fn what_is_said_of_the_configuration_is_said_where_a_job_is_planned() {
    let mut config = config();
    config["task_config"]["labourers"]["no such name"] = json!({});
    let job = json!({"lambda_name": "report"});
    let said = plan_of(&config, &job);
    assert_eq!(said.exit, 0);
    assert!(
        said.err
            .starts_with("warning: jobmill.json: $.task_config.labourers"),
        "{said:?}"
    );
    let folder = folder(&config, &job);
    let plan = jobmill(folder.path(), &["plan", "job.json", "--format", "json"]).json();
    assert_eq!(plan["warnings"][0]["document"], "config");
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
    config["task_config"]["retry_tasks_limit"] = json!(3);
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
