//! What a job means: parsing, dates, splitting, identity of tasks, transitions of the lock, pace of writes.
//!
//! Pure: no clock, no I/O, no AWS, no runtime. The same input gives the same answer everywhere, which is what makes a
//! retry harmless.

pub mod chunk;
pub mod config;
pub mod error;
pub mod estimate;
pub mod event;
pub mod job;
pub mod json;
pub mod lock;
pub mod pacer;
pub mod period;
pub mod plan;
pub mod schema;
pub mod task;
pub mod zone;

pub use error::{Error, ErrorKind};
