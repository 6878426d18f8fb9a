//! The machine that an invocation runs on: time and chance.

use std::future::Future;
use std::time::Duration;

/// Time.
pub trait Clock: Send + Sync {
    /// Wall clock: milliseconds since 1970-01-01T00:00:00Z.
    fn wall_ms(&self) -> i64;

    /// Monotonic clock: time since some fixed moment.
    fn monotonic(&self) -> Duration;

    /// Returns after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;

    /// Whether somebody wants the machine back: then time is short, whatever the clock says. A sleep that was begun
    /// before may end early.
    fn should_stop(&self) -> bool {
        false
    }
}

/// Chance.
pub trait Random: Send + Sync {
    /// 128 random bits.
    fn random(&self) -> u128;
}
