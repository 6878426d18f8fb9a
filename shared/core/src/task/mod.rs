//! From a row to a task, and from there to its end: its identity, its place in the queue, its payload, its size, how
//! fast tasks are written; how its worker is to be dispatched, and the conditional requests that move it.

pub mod greenfield;
pub mod health;
pub mod identity;
pub mod item;
pub mod key_cap;
pub mod labourer;
pub mod life;
pub mod outcome;
pub mod pacer;
pub mod rate;
pub mod record;
pub mod retry;
pub mod row;
pub mod tables;
pub mod write;
