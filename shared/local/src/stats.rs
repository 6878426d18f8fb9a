//! What the cloud has done, counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ::http::Response;

use crate::faults::Service;

/// Counts of one operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OperationStats {
    /// Requests that are over, refused and lost ones included.
    pub requests: u64,
    /// Answers with a status of 400 or more, injected ones included.
    pub errors: u64,
    /// Requests whose connection was closed without an answer.
    pub unanswered: u64,
}

/// Counts since the start of the cloud, or since [`crate::LocalCloud::reset_stats`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// By service and operation, as the API references name them: `(S3, "PutObject")`.
    pub operations: BTreeMap<(Service, String), OperationStats>,
    /// DynamoDB items and statements that were throttled, one by one.
    pub throttled: u64,
}

impl StatsSnapshot {
    /// The counts of one operation; zeros if it was never asked for.
    #[must_use]
    pub fn operation(&self, service: Service, operation: &str) -> OperationStats {
        self.operations
            .get(&(service, operation.to_owned()))
            .copied()
            .unwrap_or_default()
    }

    /// How often an operation was asked for.
    #[must_use]
    pub fn requests(&self, service: Service, operation: &str) -> u64 {
        self.operation(service, operation).requests
    }
}

#[derive(Debug, Default)]
pub(crate) struct Stats(Mutex<StatsSnapshot>);

impl Stats {
    fn with<T>(&self, change: impl FnOnce(&mut StatsSnapshot) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a request; `response` is none if the connection was closed without an answer.
    pub(crate) fn request<B>(&self, service: Service, operation: &str, response: Option<&Response<B>>) {
        self.with(|stats| {
            let counts = stats
                .operations
                .entry((service, operation.to_owned()))
                .or_default();
            counts.requests += 1;
            match response {
                Some(response) => counts.errors += u64::from(response.status().as_u16() >= 400),
                None => counts.unanswered += 1,
            }
        });
    }

    pub(crate) fn throttled(&self, items: usize) {
        self.with(|stats| stats.throttled += items as u64);
    }

    pub(crate) fn snapshot(&self) -> StatsSnapshot {
        self.with(|stats| stats.clone())
    }

    pub(crate) fn reset(&self) {
        self.with(|stats| *stats = StatsSnapshot::default());
    }
}
