//! Runs of real programs: `sh`, which every Unix has.

use std::path::Path;
use std::sync::Mutex;

use super::*;
use crate::worker::command::NoCommand;

const PATIENCE: Duration = Duration::from_secs(30);

/// Workers that run a script by `sh`.
fn workers(script: &str) -> ProcessWorkers {
    let command = format!("sh -c '{script}'");
    ProcessWorkers::new(CommandLine::parse(&command).unwrap(), None)
}

const PAYLOAD: &str = r#"{"store": "milano", "task_id": "t7", "attempts": 2}"#;

async fn ask(workers: &ProcessWorkers, limit: Duration) -> Asked {
    workers.ask("any", PAYLOAD.to_owned(), Asking::Wait(limit)).await
}

/// What a script answers, and whether it is an error.
async fn answer(script: &str) -> (String, bool) {
    match ask(&workers(script), PATIENCE).await {
        Asked::Answered(Answer { payload, is_error }) => {
            (String::from_utf8(payload.to_vec()).unwrap(), is_error)
        }
        other => panic!("{script}: {other:?}"),
    }
}

async fn error(script: &str) -> [String; 2] {
    let (document, is_error) = answer(script).await;
    assert!(is_error, "{script}");
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    ["errorType", "errorMessage"].map(|name| document[name].as_str().unwrap().to_owned())
}

/// Waits until a file has a line, and returns it.
async fn line_of(path: &Path) -> String {
    let written = async {
        loop {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if let Some(line) = text.strip_suffix('\n') {
                return line.to_owned();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.unwrap()
}

/// Waits until a process is gone, or a zombie that its parent has not waited for yet.
async fn gone(pid: &str) {
    let stat = format!("/proc/{pid}/stat");
    let gone = async {
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[test]
fn a_command_line_is_split_as_a_shell_would_and_nothing_is_expanded() {
    let split = |text: &str| {
        let line = CommandLine::parse(text)?;
        let command = line.to_command();
        let words = std::iter::once(command.as_std().get_program()).chain(command.as_std().get_args());
        Ok(words
            .map(|word| word.to_str().unwrap().to_owned())
            .collect::<Vec<_>>())
    };
    assert_eq!(split("python3 worker.py").unwrap(), ["python3", "worker.py"]);
    assert_eq!(
        split(r#"  run "my worker" 'a b' c\ d  "#).unwrap(),
        ["run", "my worker", "a b", "c d"]
    );
    assert_eq!(
        split("echo $HOME * ~ | x").unwrap(),
        ["echo", "$HOME", "*", "~", "|", "x"]
    );
    for text in ["", "   ", "''", "# nothing"] {
        assert_eq!(split(text), Err(NoCommand::Empty), "{text:?}");
    }
    for text in ["python3 'worker.py", "run \"x", "run \\"] {
        assert_eq!(split(text), Err(NoCommand::Unclosed), "{text:?}");
    }
}

#[tokio::test]
async fn a_run_gets_its_payload_and_what_it_is() {
    assert_eq!(answer("cat").await, (PAYLOAD.to_owned(), false));
    let told = answer("echo $JOBMILL_TASK_ID $JOBMILL_ATTEMPT ${PATH:+path}").await;
    assert_eq!(told, ("\"t7 3 path\"".to_owned(), false));
    // What does not read its payload need not, however long it is.
    let payload = format!(r#"{{"x": "{}"}}"#, "x".repeat(1 << 20));
    let asked = workers("exit 0")
        .ask("any", payload.clone(), Asking::Wait(PATIENCE))
        .await;
    assert!(
        matches!(asked, Asked::Answered(Answer { is_error: false, .. })),
        "{asked:?}"
    );
    // Nor does one hang that writes while it is written to.
    let asked = workers("cat; cat >&2")
        .ask("any", payload, Asking::Wait(PATIENCE))
        .await;
    assert!(
        matches!(&asked, Asked::Answered(Answer { payload, .. }) if payload.len() > 256 * 1024),
        "{asked:?}"
    );
}

#[tokio::test]
async fn how_a_run_ended_says_whether_it_failed_and_why() {
    assert_eq!(answer("echo whatever >&2; echo 1").await, ("1".to_owned(), false));
    assert_eq!(
        error("echo no such store >&2; exit 3").await,
        ["ExitCode 3", "no such store"]
    );
    assert_eq!(error("exit 1").await, ["ExitCode 1", "nothing on standard error"]);
    assert_eq!(error("echo oh >&2; kill -9 $$").await, ["Signal 9", "oh"]);
}

#[tokio::test]
async fn a_run_whose_time_is_over_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let script = format!("echo busy >&2; sleep 600 & echo $$ $! > {}; wait", file.display());
    let asked = ask(&workers(&script), Duration::from_millis(500)).await;
    let Asked::Answered(Answer {
        payload,
        is_error: true,
    }) = asked
    else {
        panic!("{asked:?}");
    };
    let document: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(document["errorType"], "Timeout");
    assert_eq!(
        document["errorMessage"],
        "killed after 0.5 s without an end\nbusy"
    );
    for pid in line_of(&file).await.split(' ') {
        gone(pid).await;
    }
}

#[tokio::test]
async fn what_a_run_leaves_behind_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    // It holds standard output, too, which is not waited for.
    let script = format!("sleep 600 & echo $! > {}; echo 1", file.display());
    assert_eq!(answer(&script).await, ("1".to_owned(), false));
    gone(&line_of(&file).await).await;
}

#[tokio::test]
async fn a_run_that_nobody_waits_for_any_more_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!("sleep 600 & echo $! > {}; wait", file.display());
    let workers = workers(&script);
    let asking = tokio::spawn({
        let workers = workers.clone();
        async move { ask(&workers, PATIENCE).await }
    });
    let pid = line_of(&file).await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    gone(&pid).await;

    // All at once, while somebody waits.
    std::fs::remove_file(&file).unwrap();
    let asking = tokio::spawn({
        let workers = workers.clone();
        async move { ask(&workers, PATIENCE).await }
    });
    let pid = line_of(&file).await;
    workers.kill_all();
    gone(&pid).await;
    let asked = asking.await.unwrap();
    assert!(
        matches!(asked, Asked::Answered(Answer { is_error: true, .. })),
        "{asked:?}"
    );
    let asked = ask(&workers, PATIENCE).await;
    assert!(
        matches!(asked, Asked::Throttled(_)),
        "no more are started: {asked:?}"
    );
}

#[tokio::test]
async fn a_command_that_can_not_be_started_is_told_with_its_cure() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    for (command, kind, cure) in [
        (
            "no-such-program x".to_owned(),
            "CommandNotFound",
            "correct --worker",
        ),
        (
            file("plain", "#!/bin/sh\n", 0o644),
            "CommandNotExecutable",
            "chmod +x",
        ),
        (
            file("bare", "echo 1\n", 0o755),
            "CommandNotExecutable",
            "#!/usr/bin/env",
        ),
        (
            file("lost", "#!/no/such/shell\n", 0o755),
            "CommandNotFound",
            "`#!`",
        ),
        (
            folder.path().display().to_string(),
            "CommandNotExecutable",
            "name a program",
        ),
    ] {
        let workers = ProcessWorkers::new(CommandLine::parse(&command).unwrap(), None);
        match ask(&workers, PATIENCE).await {
            Asked::WorkerUnfit(unfit) => {
                assert_eq!(unfit.kind, kind, "{command}");
                assert!(unfit.message.contains(cure), "{}", unfit.message);
            }
            other => panic!("{command}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_no_task_is_refused_and_events_are_not_for_processes() {
    let workers = workers("cat");
    for payload in ["{", "[1]", r#"{"task_id": "a\u0000b"}"#] {
        let asked = workers
            .ask("any", payload.to_owned(), Asking::Wait(PATIENCE))
            .await;
        assert!(matches!(asked, Asked::PayloadRefused(_)), "{payload}: {asked:?}");
    }
    let asked = workers.ask("any", PAYLOAD.to_owned(), Asking::Event).await;
    assert!(
        matches!(&asked, Asked::WorkerUnfit(unfit) if unfit.kind == "ModeNotSupported"),
        "{asked:?}"
    );
    assert!(matches!(workers.longest_run("any").await, Ok(Ok(limit)) if limit > PATIENCE));
}

#[tokio::test]
async fn standard_error_is_passed_on_to_who_listens() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener: Listener = {
        let told = Arc::clone(&told);
        Arc::new(move |line| told.lock().unwrap().push(line.to_owned()))
    };
    let command = CommandLine::parse("sh -c 'echo one >&2; echo two >&2; echo 1'").unwrap();
    let asked = ask(&ProcessWorkers::new(command, Some(listener)), PATIENCE).await;
    assert!(
        matches!(asked, Asked::Answered(Answer { is_error: false, .. })),
        "{asked:?}"
    );
    assert_eq!(*told.lock().unwrap(), ["one", "two"]);
}
