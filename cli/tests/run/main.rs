//! `jobmill run`, the real binary: in its own local cloud, and against a cloud that outlives it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

mod clouds;
mod failures;
mod held;
mod out;
#[path = "../support/pages.rs"]
mod pages;
mod signals;
mod whole;
mod work;
