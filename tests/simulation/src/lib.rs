//! The engine under every fault there is, on one thread, in virtual time: the same scenario, the same story.
//!
//! A [`Scenario`] says what is asked for and what goes wrong, by chance from a seed or by a script of blows at numbered
//! calls. [`run`] plays it: deliveries, retries, siblings, sweeps, orchestrator, frozen and killed sandboxes. Then the
//! auditor reads the history of bucket and tables, and knows nothing of the engine's state.

mod auditor;
mod fates;
mod orchestrator;
mod scenario;
mod world;

pub use auditor::{Violation, Weight};
pub use fates::Blow;
pub use scenario::{Climate, JobSpec, Scenario};
pub use world::{Story, run};
