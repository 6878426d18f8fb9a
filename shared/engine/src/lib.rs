//! The steps of an invocation, and the ports they need.
//!
//! Nothing here knows AWS: `jobmill-aws` implements the ports on S3, DynamoDB and Lambda, and tests implement them in
//! memory. Time, sleep and chance come in through [`ports::Host`].

mod adopt;
mod drain;
pub mod error;
pub mod invocation;
mod lease;
#[cfg(feature = "mutants")]
pub mod mutants;
#[cfg(not(feature = "mutants"))]
mod mutants;
pub mod observe;
pub mod outcome;
pub mod ports;
mod rows;
mod spool;
mod sweep;

pub use error::EngineError;
pub use invocation::{Context, Engine};
pub use observe::{Observation, Observer};
pub use outcome::{NextHolder, Outcome, Summary};
