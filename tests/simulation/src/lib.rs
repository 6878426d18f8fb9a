//! The engine under every fault there is, on one thread, in virtual time: the same scenario, the same trace.
//!
//! A [`Scenario`] says what is asked for and what goes wrong, by chance from a seed or by a script of faults at numbered
//! calls. [`run`] plays it: deliveries, retries, siblings, sweeps, an orchestrator, somebody who looks at stopped runs,
//! frozen and killed sandboxes. Then the auditor reads the history of buckets and tables, and knows nothing of the
//! engine's state.

mod auditor;
pub mod dispatch;
mod expected;
mod faults;
mod foreign;
mod machine;
mod operator;
mod orchestrator;
mod sandbox;
mod scenario;
mod simulation;

pub use auditor::{Violation, Weight};
pub use faults::Fault;
pub use foreign::Foreign;
pub use scenario::{DeploymentSpec, FaultRates, JobSpec, Outage, Scenario, Setting, SoswFile};
pub use simulation::{Trace, run};
