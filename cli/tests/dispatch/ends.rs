//! SIGINT and SIGTERM.

use serde_json::{Value, json};

use crate::stage::{Running, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_gives_the_lock_back_and_settles_what_is_under_way() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let stage = Stage::new(json!({})).await;
        stage.queue(3);
        let worker = stage.gated();
        let arguments = [
            "--until-idle",
            "--worker",
            worker,
            "--at-once",
            "1",
            "--format",
            "json",
        ];
        let mut running = Running::start(stage.command(&arguments));
        running.wait_line("started");
        running.signal(signal);
        running.wait_line(&format!("SIG{signal}: nothing more is started"));
        stage.open_gate();
        let (status, out, said) = running.end();
        assert_eq!(status.code(), Some(code), "{said}");
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (&report["outcome"], &report["error"]["type"], &report["succeeded"]),
            (&json!("interrupted"), &json!("Interrupted"), &json!(1))
        );
        assert_eq!(stage.lock().unwrap().holder, None);
        assert_eq!(
            (stage.items("sosw_tasks"), stage.items("sosw_closed_tasks")),
            (2, 1)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once_and_the_workers_with_it() {
    let stage = Stage::new(json!({})).await;
    stage.queue(1);
    // A run that would leave a mark if it were not killed.
    stage.gated();
    let worker = "sh -c 'echo started $$ >&2; cat gate; touch mark'";
    let mut running = Running::start(stage.command(&["--worker", worker]));
    let said = running.wait_line("started ");
    let worker = said.trim_start_matches("started ").to_owned();
    running.signal("INT");
    running.wait_line("a second signal ends this process at once");
    running.signal("TERM");
    let (status, out, said) = running.end();
    assert_eq!((status.code(), out.as_str()), (Some(143), ""), "{said}");
    assert!(said.contains("free 30 seconds after its last renewal"), "{said}");
    while std::path::Path::new(&format!("/proc/{worker}")).exists() {
        std::thread::yield_now();
    }
    assert!(!stage.path("mark").exists());
}
