//! The machine's clock. The local cloud plays the outside world, so it may look at the real time; it does so here only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// The wall clock of the cloud: the machine's, moved forward by [`Clock::advance`].
#[derive(Debug, Default)]
pub(crate) struct Clock {
    ahead_ms: AtomicU64,
}

impl Clock {
    /// The cloud's wall time: `Date` and `Last-Modified` of S3 are read from it.
    pub(crate) fn now(&self) -> SystemTime {
        system_time() + Duration::from_millis(self.ahead_ms.load(Ordering::SeqCst))
    }

    /// Moves the cloud's wall clock forward.
    pub(crate) fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.ahead_ms.fetch_add(millis, Ordering::SeqCst);
    }
}

/// The machine's wall clock: Lambda deadlines are told in it, because the function compares them with its own.
#[allow(
    clippy::disallowed_methods,
    reason = "the local cloud is the outside world, its clock is the machine's"
)]
pub(crate) fn system_time() -> SystemTime {
    SystemTime::now()
}

/// The machine's monotonic clock.
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// Waits; used for injected latency, retry delays and time-outs, never to synchronise.
pub(crate) async fn sleep(duration: Duration) {
    tokio::time::sleep_until(instant() + duration).await;
}
