//! What the tests share: the ports in memory on virtual time, a network that fails between them, the simulation that
//! crashes the engine on both, and the suite that every implementation of a port passes.

pub mod conformance;
pub mod faulty;
pub mod memory;
pub mod simulation;
pub mod world;
