//! The recorded cases of what a job means, through the library. (Through the command: `command.rs`.)
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use jobmill_core::config::Config;
use jobmill_core::job::event::{self, Request};
use jobmill_core::job::period::AsOf;
use jobmill_core::job::plan::Plan;
use jobmill_core::json::Document;
use jobmill_core::{Error, ErrorKind};
use serde_json::Value;

/// Rows, or the type of the error.
fn answer(case: &Value) -> Result<Vec<Value>, String> {
    let config = Config::read(&case["config"]).map_err(|_| "InvalidConfig".to_owned())?;
    let as_of = case["as_of"]
        .as_str()
        .map(|text| AsOf::parse(text).expect("the case's as_of is a date"));
    let request = event::read(case["event"].clone()).map_err(|error| error.kind.to_string())?;
    let Request::Job(request) = request else {
        return Err("InvalidEvent".to_owned());
    };
    let now = AsOf::parse("1999-01-01").unwrap();
    let plan = Plan::make(&config, request, as_of, now).map_err(|error| error.kind.to_string())?;
    let rows: Vec<Vec<u8>> = plan.chunks.rows().collect();
    assert_eq!(
        plan.chunks.row_count(),
        rows.len() as u64,
        "the count is the length"
    );
    let bytes: usize = rows.iter().map(|row| row.len() + 1).sum();
    assert_eq!(
        plan.chunks.byte_count(),
        bytes as u64,
        "the size is known before the rows are made"
    );
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    assert_eq!(plan.chunks.longest_row(), longest as u64);
    let by_level: u64 = plan.chunks.levels().iter().map(|level| level.rows).sum();
    if plan.split {
        assert_eq!(
            by_level,
            plan.chunks.rows_per_date(),
            "each row ends at one level"
        );
    }
    for first in [0, 1, rows.len() / 2, rows.len().saturating_sub(1), rows.len()] {
        let mut from = plan.chunks.rows_from(first as u64);
        assert_eq!(
            from.next(),
            rows.get(first).cloned(),
            "row {first} found without making those before it"
        );
        assert_eq!(from.remaining(), rows.len().saturating_sub(first + 1) as u64);
    }
    Ok(rows
        .iter()
        .map(|row| serde_json::from_slice(row).unwrap())
        .collect())
}

#[test]
fn every_recorded_case_gets_its_rows_or_its_error() {
    let cases = include_str!("../data/golden.jsonl");
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        count += 1;
        let expected = match case.get("error") {
            Some(error) => Err(error.as_str().unwrap().to_owned()),
            None => Ok(case["rows"].as_array().unwrap().clone()),
        };
        let answer = answer(&case);
        if answer != expected {
            wrong.push(format!(
                "{}: {answer:?}\n   instead of {expected:?}\n   for {}",
                case["id"], case["event"]
            ));
        }
    }
    assert_eq!(count, 573);
    assert!(
        wrong.is_empty(),
        "{} of {count} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn a_job_whose_rows_would_fill_a_disk_is_refused_without_making_them() {
    let config = serde_json::json!({
        "queue_bucket": "b",
        "task_config": { "labourers": { "f": {} } },
        "job_schema": { "chunkable_attrs": ["section"] },
    });
    let sections: Vec<u32> = (0..300_000).collect();
    let job = serde_json::json!({
        "lambda_name": "f", "isolate_sections": true, "sections": sections, "note": "x".repeat(300_000),
    });
    let Ok(Request::Job(request)) = event::read(job) else {
        panic!("a job")
    };
    let now = AsOf::parse("2024-03-06").unwrap();
    let error = Plan::make(&Config::read(&config).unwrap(), request, None, now).unwrap_err();
    assert_eq!(error.kind.name(), "FanOutTooLarge");
    assert!(error.sentence.contains("would take 83 GiB"), "{}", error.sentence);
}

/// A value as text with space wherever it may be, and with letters of names and texts as escapes.
fn roomy(value: &Value) -> String {
    let text = |text: &str| -> String {
        let letter = |(at, letter): (usize, char)| match u16::try_from(u32::from(letter)) {
            Ok(code) if at % 3 == 1 => format!("\\u{code:04x}"),
            _ => {
                let quoted = Value::from(letter.to_string()).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
        };
        let letters: String = text.chars().enumerate().map(letter).collect();
        format!("\"{letters}\"")
    };
    match value {
        Value::String(plain) => text(plain),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| format!("\t{} ", roomy(item))).collect();
            format!("[{}\n]", items.join(","))
        }
        Value::Object(map) => {
            let members: Vec<String> = map
                .iter()
                .map(|(key, value)| format!(" {} : {}\r\n", text(key), roomy(value)))
                .collect();
            format!("{{{} }}", members.join(","))
        }
        other => other.to_string(),
    }
}

#[test]
fn a_job_means_the_same_however_it_is_written() {
    for line in include_str!("../data/golden.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let Ok(config) = Config::read(&case["config"]) else {
            continue;
        };
        let as_of = case["as_of"].as_str().and_then(AsOf::parse);
        let plan = |text: String| match event::read(Document::parse(text).unwrap()) {
            Ok(Request::Job(request)) => {
                let plan = Plan::make(&config, request, as_of, AsOf::parse("1999-01-01").unwrap())?;
                let rows: Vec<String> = plan
                    .chunks
                    .rows()
                    .map(|row| String::from_utf8(row).unwrap())
                    .collect();
                assert_eq!(
                    plan.chunks.byte_count(),
                    rows.iter().map(|row| row.len() as u64 + 1).sum::<u64>()
                );
                Ok((plan.fingerprint, plan.warnings, rows))
            }
            Ok(_) => Err(Error::new(ErrorKind::InvalidEvent, "no job")),
            Err(error) => Err(error),
        };
        let event = &case["event"];
        assert_eq!(serde_json::from_str::<Value>(&roomy(event)).unwrap(), *event);
        let compact = plan(event.to_string());
        assert_eq!(
            plan(serde_json::to_string_pretty(event).unwrap()),
            compact,
            "{}",
            case["id"]
        );
        assert_eq!(plan(roomy(event)), compact, "{}", case["id"]);
    }
}

/// A run under way is told from another job by its fingerprint: an event that is delivered again after an update must
/// have the same. Each is the SHA-256 of `jobmill 1`, what counts beside the job, and the job as compact JSON.
#[test]
fn the_fingerprint_of_a_job_never_changes() {
    let config = serde_json::json!({
        "queue_bucket": "b",
        "task_config": { "labourers": { "report": {} } },
        "job_schema": { "chunkable_attrs": ["section", ["category", {"plural": "categories"}]], "timezone": "Europe/Rome" },
    });
    let config = Config::read(&config).unwrap();
    for (event, as_of, expected) in [
        (
            r##"{"lambda_name":"report","a":1}"##,
            None,
            "f8813751e24fefe475cbd861b47f9e10a2361e0530ca9d93312c511fd979bd72",
        ),
        (
            r##"{ "z" : [ 1E5, 1.50, -0, 1e-07, 123456789012345678901234567890 ], "lambda_name": "report", "a": { "b": null } }"##,
            None,
            "c8592ce3e0cb190a619c593744446db39f0fee80edb7bb2d0a32a2a4e1b68dbc",
        ),
        (
            r##"{"lambda_name":"arn:aws:lambda:eu-west-1:123456789012:function:report:live","t":"a\/\u0041\u00e9é\u0001\u001f\b\t\n\f\r\"\\\ud83d\ude00\u007f","k\u0065y":1}"##,
            Some("2024-03-06"),
            "a135f5cd7690274f6d8fe98ef78196452c61d71d7dc860b1ba33a404e0ed8add",
        ),
        (
            r##"{"lambda_name":"report","a":1,"b":2,"a":{"x":[],"x":{}},"isolate_categories":true,"sections":{"d":{"categories":["c", "e"]}}}"##,
            None,
            "35d1648a77df8e983e1596bee3d90606a842aa68fcb3a380fd8f0fb3e55a3dc4",
        ),
        (
            r##"{"job":"{\"a\": [true, false, null, \"\"]}","lambda_name":"report","as_of":"2024-03-06T01:00:00+01:00","run_id":"r"}"##,
            None,
            "b54397ac32cf17aa90ed8c331fb33faca6cdb311385d21685826afd36ab86a03",
        ),
    ] {
        let Ok(Request::Job(request)) = event::read(Document::parse(event).unwrap()) else {
            panic!("no job: {event}");
        };
        let as_of = as_of.map(|text| AsOf::parse(text).unwrap());
        let plan = Plan::make(&config, request, as_of, AsOf::parse("1999-01-01").unwrap()).unwrap();
        assert_eq!(plan.fingerprint, expected, "{event}");
    }
}
