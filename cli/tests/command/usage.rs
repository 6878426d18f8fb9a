//! Help, arguments, pipes, colours.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;

use crate::support::{command, config, folder, jobmill, jobs};

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
fn the_version_is_told() {
    let here = TempDir::new().unwrap();
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
    let said = jobmill(
        folder.path(),
        &["plan", "job.json", "--as-of", "x", "--format=json"],
    );
    assert_eq!((said.exit, &said.json()["error"]["type"]), (2, &json!("Usage")));
    let said = jobmill(folder.path(), &[]);
    assert_eq!((said.exit, said.out.as_str()), (2, ""));
    assert!(said.err.contains("Usage: jobmill <COMMAND>"), "{said:?}");
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
