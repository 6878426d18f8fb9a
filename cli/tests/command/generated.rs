//! What is made from the definition of the command: help, completions, manual.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::pages::document;
use crate::support::{command, config, folder, jobmill, shell};

const COMMANDS: [&str; 13] = [
    "",
    "init",
    "plan",
    "run",
    "dispatch",
    "up",
    "check",
    "labourers",
    "labourers check",
    "labourers connect",
    "schema",
    "completions",
    "man",
];

/// With `JOBMILL_UPDATE=1` in the environment the recorded texts are written anew.
#[test]
fn the_help_of_each_command_is_the_one_that_was_recorded() {
    let here = TempDir::new().unwrap();
    let update = std::env::var_os("JOBMILL_UPDATE").is_some();
    for name in COMMANDS {
        let words = name.split_whitespace().chain(["--help"]);
        let output = command(here.path())
            .args(words)
            .env("COLUMNS", "80")
            .output()
            .unwrap();
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (Some(0), &b""[..])
        );
        let help = String::from_utf8(output.stdout).unwrap();
        let lines = || help.lines();
        assert!(lines().all(|line| line.chars().count() <= 80), "{help}");
        assert!(
            help.contains("\nExamples:\n") && help.contains("\nExit codes: 0"),
            "{help}"
        );
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/help")
            .join(if name.is_empty() {
                "jobmill".to_owned()
            } else {
                name.replace(' ', "-")
            })
            .with_extension("txt");
        if update {
            fs::write(&recorded, &help).unwrap();
        }
        assert_eq!(fs::read_to_string(&recorded).unwrap(), help, "{recorded:?}");
    }
}

#[test]
fn the_schemas_are_those_of_the_documentation() {
    let here = TempDir::new().unwrap();
    for name in ["config", "job", "event"] {
        let said = jobmill(here.path(), &["schema", name]);
        assert_eq!((said.exit, said.err.as_str()), (0, ""));
        let documented: Value =
            serde_json::from_str(&document(&format!("schemas/{name}.schema.json"))).unwrap();
        assert_eq!(said.json(), documented, "{name}");
    }
}

#[test]
fn the_schema_of_a_job_knows_the_configuration() {
    let folder = folder(&config(), &Value::Null);
    let said = jobmill(folder.path(), &["schema", "job", "--config", "jobmill.json"]);
    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    for name in ["\"report\"", "\"isolate_sections\"", "\"isolate_stores\""] {
        assert!(said.out.contains(name), "no {name}");
    }
    assert!(
        !jobmill(folder.path(), &["schema", "job"])
            .out
            .contains("\"report\"")
    );
    let said = jobmill(folder.path(), &["schema", "event", "--config", "jobmill.json"]);
    assert_eq!(said.error(), "Usage");
    let said = jobmill(folder.path(), &["schema", "job", "--config", "missing.json"]);
    assert_eq!(said.error(), "UnreadableFile");
}

#[test]
fn each_shell_gets_its_completions() {
    let here = TempDir::new().unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let said = jobmill(here.path(), &["completions", shell]);
        assert_eq!((said.exit, said.err.as_str()), (0, ""));
        for word in ["plan", "completions", "run-id", "as-of"] {
            assert!(said.out.contains(word), "{shell} lacks {word}");
        }
    }
}

#[test]
fn bash_completes_commands_and_flags() {
    let here = TempDir::new().unwrap();
    let complete = |words: &str| {
        let script = format!(
            "eval \"$(jobmill completions bash)\"; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _jobmill jobmill \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; echo \"${{COMPREPLY[@]}}\""
        );
        shell(here.path(), &format!("bash -c '{script}'"))
    };
    assert_eq!(complete("jobmill pl"), "plan\n");
    assert_eq!(complete("jobmill run --ru"), "--run-id\n");
    assert_eq!(complete("jobmill run --cloud a"), "aws\n");
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let here = TempDir::new().unwrap();
    let said = jobmill(here.path(), &["man", "share/man1"]);
    assert_eq!((said.exit, said.out.as_str(), said.err.as_str()), (0, "", ""));
    for name in COMMANDS {
        let page = if name.is_empty() {
            "jobmill.1".to_owned()
        } else {
            format!("jobmill-{}.1", name.replace(' ', "-"))
        };
        let text = fs::read_to_string(here.path().join("share/man1").join(page)).unwrap();
        assert!(
            text.contains(".SH SYNOPSIS") && text.contains("Exit codes: 0"),
            "{text}"
        );
    }
    // Again, over what is there.
    assert_eq!(jobmill(here.path(), &["man", "share/man1"]).exit, 0);
}

#[test]
fn a_reader_that_wants_nothing_ends_each_of_them_quietly() {
    let here = TempDir::new().unwrap();
    for words in [
        &["--help"][..],
        &["run", "--help"],
        &["completions", "zsh"],
        &["--version"],
    ] {
        let mut child = command(here.path())
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (Some(0), &b""[..]),
            "{words:?}"
        );
    }
}

#[test]
fn where_standard_error_is_closed_the_exit_code_still_counts() {
    let here = TempDir::new().unwrap();
    let status = Command::new("sh")
        .current_dir(here.path())
        .args(["-c", "\"$0\" plan missing.json 2>&-"])
        .arg(env!("CARGO_BIN_EXE_jobmill"))
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
}
