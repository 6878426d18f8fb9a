//! What EventBridge does in an account: it wakes the orchestrator up, and lets the scheduler sweep.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use jobmill_core::config::Config;
use jobmill_engine::ports::Clock as _;
use jobmill_local::LocalCloud;
use serde_json::{Value, json};

use super::deploy::{ORCHESTRATOR, SCHEDULER};
use crate::stop::{Stop, StoppableHost};
use crate::terminal::warn;

/// The pause between two invocations. In an account it is a minute; here nobody pays for them.
const PAUSE: Duration = Duration::from_secs(5);
/// While an invocation is at work another one is started so often, which takes over when the first gives its lock back.
const TICK: Duration = Duration::from_secs(60);

/// Ticks until somebody asks the process to end.
pub(super) async fn run(cloud: &LocalCloud, config: &Config, stop: &Stop) {
    let groups: BTreeSet<&String> = config
        .labourers
        .values()
        .map(|labourer| &labourer.group)
        .collect();
    let wake_ups = groups
        .into_iter()
        .map(|group| (ORCHESTRATOR, json!({ "group": group })));
    let events = wake_ups.chain([(SCHEDULER, json!({ "sweep": true }))]);
    let host = StoppableHost::new(stop.clone());
    let host = &host;
    let ticking = join_all(events.map(|(function, event)| tick(cloud, host, function, event)));
    tokio::select! {
        _ = ticking => {}
        _ = stop.requested() => {}
    }
}

async fn tick(cloud: &LocalCloud, host: &StoppableHost, function: &str, event: Value) {
    let mut told = None;
    loop {
        // One that takes longer goes on by itself.
        let answer = tokio::select! {
            answer = cloud.invoke(function, event.to_string()) => Some(answer),
            () = host.sleep(TICK) => None,
        };
        let problem = match answer {
            None => continue,
            Some(Ok(result)) => result
                .function_error
                .map(|_| String::from_utf8_lossy(&result.payload).into_owned()),
            Some(Err(error)) => Some(error.to_string()),
        };
        // The same again and again is no news.
        if problem != told
            && let Some(problem) = &problem
        {
            warn([format!("{function}: {problem}")]);
        }
        told = problem;
        host.sleep(PAUSE).await;
    }
}
