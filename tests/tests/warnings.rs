//! What is warned of, and what refusing warnings refuses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::HashSet;

use jobmill_core::config::Config;
use jobmill_core::job::event::{self, Request};
use jobmill_core::job::period::AsOf;
use jobmill_core::job::plan::Plan;
use jobmill_core::{Document, Error, ErrorKind, WarningKind};
use serde_json::{Value, json};

const CASES: &str = include_str!("../data/warnings.jsonl");
const GOLDEN: &str = include_str!("../data/golden.jsonl");

fn config(more: &Value) -> Config {
    let mut config = json!({
        "queue_bucket": "b",
        "task_config": {"labourers": {"report": {}, "export": {}}},
        "job_schema": {"chunkable_attrs": ["section", "store", "product"]},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    Config::read(&config).expect("the configuration is right")
}

fn plan(config: &Config, event: &Value, as_of: Option<AsOf>, strict: bool) -> Result<Plan, Error> {
    match event::read(event.clone())? {
        Request::Job(mut request) => {
            request.strict |= strict;
            Plan::make(config, request, as_of, AsOf::parse("2024-03-06").unwrap())
        }
        other => panic!("{other:?} is no job"),
    }
}

fn cases() -> Vec<Value> {
    CASES
        .lines()
        .map(|line| serde_json::from_str(line).expect("a case is JSON"))
        .collect()
}

/// What a case expects: type, path and a part of the sentence of each warning.
fn expected(case: &Value) -> Vec<[String; 3]> {
    serde_json::from_value(case["warnings"].clone()).expect("warnings are three texts each")
}

#[test]
fn each_case_is_warned_of_as_recorded() {
    let mut wrong = Vec::new();
    for case in cases() {
        let found = plan(&config(&case["config"]), &case["event"], None, false);
        match (case.get("error"), found) {
            (None, Ok(plan)) => {
                let expected = expected(&case);
                let same = plan.warnings.len() == expected.len()
                    && plan
                        .warnings
                        .iter()
                        .zip(&expected)
                        .all(|(warning, [kind, path, part])| {
                            warning.kind.name() == kind
                                && warning.path == *path
                                && warning.sentence.contains(part)
                        });
                if !same {
                    wrong.push(format!("{}: {:#?}", case["id"], plan.warnings));
                }
            }
            (Some(error), Err(found)) => {
                let part = error[1].as_str().unwrap();
                if found.kind.name() != error[0] || !found.sentence.contains(part) {
                    wrong.push(format!("{}: {found:?}", case["id"]));
                }
            }
            (_, found) => wrong.push(format!("{}: {found:?}", case["id"])),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_type_of_a_job_has_a_case() {
    let in_cases: HashSet<String> = cases()
        .iter()
        .filter(|case| case.get("warnings").is_some())
        .flat_map(expected)
        .map(|[kind, ..]| kind)
        .collect();
    for kind in WarningKind::ALL {
        let of_config = matches!(
            kind,
            WarningKind::UnreachableLabourer
                | WarningKind::MaskedSchema
                | WarningKind::LongShutdownPeriod
                | WarningKind::LongLease
                | WarningKind::AmbiguousAttribute
                | WarningKind::HeldLabourer
                | WarningKind::CutFraction
                | WarningKind::LowLimit
                | WarningKind::UnsetCompletion
        );
        assert_eq!(in_cases.contains(kind.name()), !of_config, "{kind}");
    }
}

/// A job is refused by `strict` exactly if it has a warning, with the first of them, and is the same job otherwise.
fn holds(config: &Config, event: &Value, as_of: Option<AsOf>, id: &Value) {
    let (lenient, strict) = (
        plan(config, event, as_of, false),
        plan(config, event, as_of, true),
    );
    match (lenient, strict) {
        (Err(lenient), Err(strict)) => assert_eq!(lenient, strict, "{id}"),
        (Ok(lenient), Ok(strict)) => {
            assert!(config.warnings.is_empty() && lenient.warnings.is_empty(), "{id}");
            assert_eq!(lenient.fingerprint, strict.fingerprint, "{id}");
        }
        (Ok(lenient), Err(strict)) => {
            let first = config.warnings.iter().chain(&lenient.warnings).next();
            let first = first.unwrap_or_else(|| panic!("{id} is refused without a warning: {strict}"));
            assert!(strict.sentence.starts_with(&first.to_string()), "{id}: {strict}");
            let kind = match first.document {
                Document::Job => ErrorKind::InvalidJob,
                Document::Config => ErrorKind::InvalidConfig,
                Document::Event => ErrorKind::InvalidEvent,
            };
            assert_eq!(strict.kind, kind, "{id}");
        }
        (Err(lenient), Ok(_)) => panic!("{id} is refused only without `strict`: {lenient}"),
    }
}

#[test]
fn strict_refuses_what_is_warned_of_and_nothing_else() {
    for case in cases() {
        holds(&config(&case["config"]), &case["event"], None, &case["id"]);
    }
}

#[test]
fn no_recorded_job_is_refused_for_a_warning_unless_strict() {
    let mut jobs = 0;
    for line in GOLDEN.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let as_of = case["as_of"].as_str().and_then(AsOf::parse);
        let (Ok(config), Ok(Request::Job(_))) =
            (Config::read(&case["config"]), event::read(case["event"].clone()))
        else {
            continue;
        };
        let made = plan(&config, &case["event"], as_of, false);
        assert_eq!(made.is_ok(), case.get("error").is_none(), "{}", case["id"]);
        holds(&config, &case["event"], as_of, &case["id"]);
        jobs += 1;
    }
    assert!(jobs > 500, "{jobs}");
}

#[test]
fn each_way_to_ask_for_strict_is_heard() {
    let job = json!({"lambda_name": "report", "isolate_planets": true});
    let refused =
        |config: &Config, event: &Value| plan(config, event, None, false).err().map(|error| error.sentence);
    let plain = config(&json!({}));
    assert_eq!(refused(&plain, &job), None);
    assert_eq!(refused(&plain, &json!({"job": job, "strict": false})), None);
    assert_eq!(refused(&plain, &json!({"job": job, "strict": null})), None);
    let said = refused(&plain, &json!({"job": job, "strict": true})).unwrap();
    assert_eq!(
        said,
        "$.isolate_planets: `isolate_planets` looks like a flag, but schema `default` has no such attribute: it is \
         payload (a warning, which `strict` refuses)"
    );
    let strict = config(&json!({"strict": true}));
    assert_eq!(refused(&strict, &job), Some(said.clone()));
    // Who owns the configuration decides.
    assert_eq!(
        refused(&strict, &json!({"job": job, "strict": false})),
        Some(said)
    );
    let wrong = refused(&plain, &json!({"job": job, "strict": "yes"})).unwrap();
    assert_eq!(wrong, "`strict` is \"yes\": write true or false");
}

#[test]
fn strict_is_no_part_of_what_a_run_is() {
    let job = json!({"lambda_name": "report", "isolate_sections": true, "sections": ["dairy"]});
    let config = config(&json!({}));
    let fingerprint = |event: &Value| plan(&config, event, None, false).unwrap().fingerprint;
    assert_eq!(
        fingerprint(&json!({"job": job})),
        fingerprint(&json!({"job": job, "strict": true}))
    );
}

#[test]
fn the_documentation_has_each_type_in_order() {
    let (_, section) = include_str!("../../docs/job-language.md")
        .split_once("\n## Warnings\n")
        .unwrap();
    let types: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(kind, _)| kind)
        .collect();
    assert_eq!(types, WarningKind::ALL.map(WarningKind::name));
}
