//! The real machine as [`Clock`] and [`Random`]: the one place besides the composition roots that reads a clock or rolls dice.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jobmill_engine::ports::{Clock, Random};
use uuid::Uuid;

/// The machine that this process runs on. Sleeps by tokio's timer.
#[derive(Debug, Clone)]
pub struct SystemHost {
    start: Instant,
}

impl SystemHost {
    /// A host whose monotonic clock begins now.
    #[allow(clippy::disallowed_methods, reason = "this is the clock port")]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for SystemHost {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemHost {
    #[allow(clippy::disallowed_methods, reason = "this is the clock port")]
    fn wall_ms(&self) -> i64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    #[allow(clippy::disallowed_methods, reason = "this is the clock port")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

impl Random for SystemHost {
    /// A version 4 UUID has 122 random bits; the second one fills the places of the first one's six fixed bits.
    #[allow(clippy::disallowed_methods, reason = "this is the randomness port")]
    fn random(&self) -> u128 {
        Uuid::new_v4().as_u128() ^ Uuid::new_v4().as_u128().rotate_left(64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_chance_falls_both_ways() {
        let host = SystemHost::new();
        let (ones, zeros) = (0..200)
            .map(|_| host.random())
            .fold((0, 0), |(ones, zeros), bits| (ones | bits, zeros | !bits));
        assert_eq!((ones, zeros), (u128::MAX, u128::MAX));
    }

    #[test]
    fn the_wall_clock_counts_milliseconds_since_1970() {
        let year_2020 = 1_577_836_800_000;
        assert!(SystemHost::new().wall_ms() > year_2020);
    }
}
