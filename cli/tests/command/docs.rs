//! The examples of the documentation, as the binary answers them.

use tempfile::TempDir;

use crate::support::pages::{blocks, document};
use crate::support::{Said, jobmill, shell};

#[test]
fn each_example_of_the_documentation_is_true() {
    let mut examples = 0;
    for page in ["job-language.md", "configuration.md"] {
        let folder = TempDir::new().unwrap();
        let mut said: Option<Said> = None;
        for (words, text) in blocks(&document(page)) {
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

/// What depends on the machine is not compared: how fast it was.
fn without_pace(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix("  time       ") {
        Some(_) => "  time       ...\n".to_owned(),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn each_transcript_of_the_command_is_what_it_prints() {
    let folder = TempDir::new().unwrap();
    let (mut transcripts, mut expected, mut said) = (0, String::new(), String::new());
    for (words, text) in blocks(&document("command.md")) {
        if words != "console" {
            assert!(
                [
                    "sh",
                    "text interrupted",
                    "text held",
                    "text dispatched",
                    "text checked",
                    "text connected",
                    "text up"
                ]
                .contains(&words.as_str()),
                "{words}"
            );
            continue;
        }
        for line in text.lines() {
            expected += &format!("{line}\n");
            if let Some(command) = line.strip_prefix("$ ") {
                transcripts += 1;
                said += &format!("{line}\n{}", shell(folder.path(), command));
            }
        }
    }
    assert_eq!(without_pace(&said), without_pace(&expected));
    assert!(transcripts >= 8, "only {transcripts} were found");
}
