//! What is accepted but may not be what was meant.

/// More warnings than these are noise.
pub(crate) const MAX_WARNINGS: usize = 20;
