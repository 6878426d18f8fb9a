//! What a job means: parsing, dates, splitting, identity of tasks, transitions of the lock, pace of writes.
//!
//! Pure: no clock, no I/O, no AWS, no runtime. The same input gives the same answer everywhere, which is what makes a
//! retry harmless.

pub mod config;
pub mod error;
pub mod job;
pub mod json;
pub mod queue;
mod suggest;
pub mod task;
pub mod warning;

pub use error::{Error, ErrorKind};
pub use warning::{Document, Warning, WarningKind};
