//! The machine's clock and a small seeded generator. The local cloud plays the outside world, so it may look at the
//! real time; it does so here only.

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

/// SplitMix64: seeded, small, good enough to decide which request suffers.
#[derive(Debug)]
pub(crate) struct Random(AtomicU64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(crate) fn reseed(&self, seed: u64) {
        self.0.store(seed, Ordering::SeqCst);
    }

    pub(crate) fn next(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.0.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `[0, 1)`.
    pub(crate) fn unit(&self) -> f64 {
        // 53 bits are what an f64 holds exactly.
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// An index below `len`; zero if there is nothing to choose from.
    pub(crate) fn below(&self, len: usize) -> usize {
        if len == 0 {
            0
        } else {
            (self.unit() * len as f64) as usize
        }
    }
}

/// An id as AWS prints request ids: a version 4 UUID.
#[allow(
    clippy::disallowed_methods,
    reason = "request ids of the local cloud need no reproducibility"
)]
pub(crate) fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
