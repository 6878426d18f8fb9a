//! The queue of a run in the bucket: the names of its objects, its lock, its receipt; and the lock of a group of
//! labourers.

pub mod group;
pub mod lock;
pub mod names;
pub mod receipt;
pub mod wake_up;
