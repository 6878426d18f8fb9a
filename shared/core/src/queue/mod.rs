//! The queue of a run in the bucket: the names of its objects, its lock, its receipt.

pub mod lock;
pub mod names;
pub mod receipt;
