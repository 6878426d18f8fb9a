//! Workers, and who asked them: what the auditor looks at.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jobmill_core::task::labourer::MetricSource;
use jobmill_engine::dispatch::ports::{Asked, Asking, Unfit, Workers};
use jobmill_engine::ports::PortResult;
use jobmill_memory::faulty::Faulty;
use jobmill_memory::{MemoryWorkers, VirtualClock};
use serde_json::Value;

use crate::faults::Connection;

/// Somebody asked for a start.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) invocation: u64,
    pub(super) task_id: String,
    /// As the payload says: before this attempt.
    pub(super) attempts: u64,
    pub(super) stamp: u64,
    /// Whether it surely did not start anything.
    pub(super) came_to_nothing: bool,
}

pub(super) type Asks = Arc<Mutex<Vec<Ask>>>;

/// The workers as one invocation sees them.
pub(super) struct Recorded {
    pub(super) workers: Faulty<MemoryWorkers, Connection>,
    pub(super) invocation: u64,
    pub(super) clock: VirtualClock,
    pub(super) asks: Asks,
}

impl Workers for Recorded {
    async fn ask(&self, function: &str, payload: String, asking: Asking) -> Asked {
        let read: Value = serde_json::from_str(&payload).unwrap_or_default();
        let ask = Ask {
            invocation: self.invocation,
            task_id: read
                .get("task_id")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            attempts: read.get("attempts").and_then(Value::as_u64).unwrap_or(u64::MAX),
            stamp: self.clock.stamp(),
            came_to_nothing: false,
        };
        let at = {
            let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
            asks.push(ask);
            asks.len() - 1
        };
        let answer = self.workers.ask(function, payload, asking).await;
        let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ask) = asks.get_mut(at) {
            ask.came_to_nothing = matches!(
                answer,
                Asked::Throttled(_) | Asked::PayloadRefused(_) | Asked::WorkerUnfit(_)
            );
        }
        drop(asks);
        answer
    }

    async fn longest_run(&self, function: &str) -> PortResult<Result<Duration, Unfit>> {
        self.workers.longest_run(function).await
    }

    async fn datapoints(&self, source: &MetricSource) -> PortResult<Vec<f64>> {
        self.workers.datapoints(source).await
    }
}
