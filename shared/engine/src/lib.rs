//! The steps of an invocation, and the ports they need.
//!
//! A folder is a use case, with ports of its own; one never calls another. Nothing here knows AWS: `jobmill-aws`
//! implements the ports on S3, DynamoDB and Lambda, `jobmill-memory` in memory. Time, sleep and chance come in through
//! [`ports::Clock`] and [`ports::Random`].

pub mod dispatch;
pub mod error;
mod lease;
pub mod limits;
#[cfg(jobmill_mutants)]
pub mod mutants;
#[cfg(not(jobmill_mutants))]
mod mutants;
pub mod ports;
mod retry;
pub mod schedule;

pub use error::EngineError;
pub use limits::Limits;
