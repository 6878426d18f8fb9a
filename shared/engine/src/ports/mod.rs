//! What every use case needs of the world: an object store, a clock, chance, and one kind of error.
//!
//! Each trait is as small as its use; every implementation passes the conformance suite in the workspace's `tests`
//! crate. What only one use case needs stands beside it.

mod error;
mod machine;
mod store;

pub use error::{PortError, PortResult};
pub use machine::{Clock, Random};
pub use store::{ETag, Metadata, OBJECT_TOO_LARGE, Object, ObjectHead, ObjectStore, PutIf};
