//! From a queued task to a closed one: claim, start, settle, expire, retry.

pub mod ports;
