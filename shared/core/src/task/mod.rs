//! From a row to a task: its identity, its place in the queue, its payload, its size, and how fast tasks are written.

pub mod greenfield;
pub mod identity;
pub mod item;
pub mod pacer;
pub mod row;
pub mod tables;
