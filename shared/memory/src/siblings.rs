//! Siblings that are queued instead of started.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use jobmill_engine::ports::PortResult;
use jobmill_engine::schedule::ports::Siblings;

use crate::locked;

/// Queues the payloads of siblings instead of starting them. Clones share the queue.
#[derive(Debug, Clone, Default)]
pub struct MemorySiblings {
    queue: Arc<Mutex<VecDeque<(u64, String)>>>,
    actor: u64,
}

impl MemorySiblings {
    /// The same queue, as seen by somebody else.
    pub fn seen_by(&self, actor: u64) -> Self {
        Self {
            actor,
            ..self.clone()
        }
    }

    /// Takes the payload that waits longest, and who spawned it.
    pub fn next_with_spawner(&self) -> Option<(u64, String)> {
        locked(&self.queue).pop_front()
    }

    /// The payloads that wait, in the order of spawning.
    pub fn waiting(&self) -> Vec<String> {
        locked(&self.queue)
            .iter()
            .map(|(_, payload)| payload.clone())
            .collect()
    }

    /// Takes the payload that waits longest.
    pub fn next(&self) -> Option<String> {
        self.next_with_spawner().map(|(_, payload)| payload)
    }

    /// Queues a payload.
    pub fn push(&self, payload: String) {
        locked(&self.queue).push_back((self.actor, payload));
    }
}

impl Siblings for MemorySiblings {
    async fn spawn(&self, payload: String) -> PortResult<()> {
        self.push(payload);
        Ok(())
    }
}
