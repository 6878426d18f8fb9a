//! x
/// The prefix of the name of a lock.
pub const LOCK_PREFIX: &str = "locked_";
