//! The command as people use it: the real binary, its output, its errors, its exit codes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

mod check;
mod docs;
mod generated;
mod init;
mod input;
mod plan;
#[path = "../support/mod.rs"]
mod support;
mod usage;
