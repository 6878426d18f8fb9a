//! Chance: seeded where a test has to repeat it, and random where only uniqueness counts.

use std::sync::{Mutex, MutexGuard, PoisonError};

use fastrand::Rng;

/// A seeded generator: the same seed, the same choices.
#[derive(Debug)]
pub(crate) struct Random(Mutex<Rng>);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(Rng::with_seed(seed)))
    }

    fn generator(&self) -> MutexGuard<'_, Rng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the sequence of another seed.
    pub(crate) fn reseed(&self, seed: u64) {
        *self.generator() = Rng::with_seed(seed);
    }

    /// A number in `[0, 1)`.
    pub(crate) fn unit(&self) -> f64 {
        self.generator().f64()
    }

    /// One of `choices`; none if there is nothing to choose from.
    pub(crate) fn choose<'a, T>(&self, choices: &'a [T]) -> Option<&'a T> {
        self.generator().choice(choices)
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
