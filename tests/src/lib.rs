//! What the tests share: the suite that every implementation of a port passes, and a local cloud with the real binary
//! in it.

pub mod conformance;
pub mod dynamo;
pub mod world;
