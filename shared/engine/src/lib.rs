//! The steps of an invocation, and the ports they need.

pub mod ports;
