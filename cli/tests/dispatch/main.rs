//! `jobmill dispatch`, the real binary against a cloud that outlives it.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

mod ends;
mod held;
#[path = "../support/pages.rs"]
mod pages;
mod stage;
mod work;
