//! Wakes the orchestrator up when a drain has created its first tasks, and once more when it is over. Best effort: the
//! orchestrator's own schedule makes up for a wake-up that is lost, within a minute.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jobmill_aws::{Clients, send_event};
use jobmill_core::config::Config;
use jobmill_engine::schedule::Observation;
use serde_json::json;
use tokio::task::JoinSet;

/// The end of an invocation waits so long for the answers to its wake-ups.
const PATIENCE: Duration = Duration::from_secs(2);

/// The wake-ups of one invocation.
pub(crate) struct WakeUps<'a> {
    /// The function to wake up; none: nobody is woken.
    orchestrator: Option<&'a str>,
    clients: &'a Clients,
    config: &'a Config,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Groups of which tasks were created.
    groups: BTreeSet<String>,
    under_way: JoinSet<()>,
}

impl<'a> WakeUps<'a> {
    pub(crate) fn new(orchestrator: Option<&'a str>, clients: &'a Clients, config: &'a Config) -> Self {
        Self {
            orchestrator,
            clients,
            config,
            state: Mutex::default(),
        }
    }

    /// Takes note of what the engine tells: the first task of a group is a reason to wake up.
    pub(crate) fn observe(&self, observation: Observation<'_>) {
        let Observation::Answered {
            labourer_id, created, ..
        } = observation
        else {
            return;
        };
        // Nobody can start the tasks of a labourer without a function.
        let labourer = self.config.labourers.get(labourer_id);
        let Some(labourer) = labourer.filter(|labourer| created > 0 && labourer.arn.is_some()) else {
            return;
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.groups.contains(&labourer.group) {
            state.groups.insert(labourer.group.clone());
            self.send(&mut state.under_way, &labourer.group);
        }
    }

    /// The drain is over: the last wake-ups. Nothing is under way when it returns, since the sandbox may be frozen then.
    pub(crate) async fn finish(self) {
        let state = std::mem::take(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner));
        let State {
            groups,
            mut under_way,
        } = state;
        for group in &groups {
            self.send(&mut under_way, group);
        }
        let all = async { while under_way.join_next().await.is_some() {} };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            tracing::warn!(
                "a wake-up of the orchestrator got no answer: its next tick does what it would have done"
            );
        }
    }

    fn send(&self, under_way: &mut JoinSet<()>, group: &str) {
        let Some(orchestrator) = self.orchestrator.map(str::to_owned) else {
            return;
        };
        let (clients, payload) = (self.clients.clone(), json!({ "group": group }).to_string());
        under_way.spawn(async move {
            if let Err(error) = send_event(&clients, &orchestrator, payload).await {
                tracing::warn!("could not wake the orchestrator up, its next tick will do: {error}");
            }
        });
    }
}
