//! What every function of jobmill needs around its handler. No use case is known here, and no metric by its name.
//!
//! A function's `main.rs` reads the environment and wires: [`logs::start`], a [`ClientsCell`], a [`ConfigCell`], and the
//! handler, which answers with its outcome or a [`Failure`].

mod clients;
mod config;
pub mod emf;
mod failure;
pub mod invocation;
pub mod logs;

pub use clients::ClientsCell;
pub use config::ConfigCell;
pub use failure::Failure;
