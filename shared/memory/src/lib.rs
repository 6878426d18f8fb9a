//! The ports of the engine in memory, on virtual time: deterministic, without a runtime, without a clock of its own.
//! The state behind each port is a plain machine ([`Bucket`], [`TableState`]) that takes the time as an argument.

pub mod dispatch;
pub mod faulty;
mod rng;
mod siblings;
mod store;
mod tables;
mod tasks;
mod time;

use std::sync::{Mutex, MutexGuard, PoisonError};

use jobmill_engine::ports::PortError;

pub use dispatch::{
    Begun, Behaviour, Ending, Function, MemoryOutcomes, MemoryWorkers, OutcomeQueue, Start, WorkerState,
};
pub use rng::Rng;
pub use siblings::MemorySiblings;
pub use store::{Bucket, Change, MemoryStore, MemoryUpload};
pub use tables::{Birth, Capacity, Item, Rows, TableChange, TableState};
pub use tasks::MemoryTasks;
pub use time::{Stuck, VirtualClock, VirtualHost, VirtualSleep};

/// Wall clock at the beginning of virtual time: 2024-03-06T05:06:40Z, in milliseconds since 1970.
pub const EPOCH_MS: i64 = 1_709_701_600_000;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(operation: &'static str, code: &str, message: impl Into<String>) -> PortError {
    PortError::Refused {
        operation,
        code: code.to_owned(),
        message: message.into(),
    }
}
