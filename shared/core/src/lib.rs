//! What a job means: parsing, dates, splitting, identity of tasks. Pure: no clock, no I/O, no AWS.

pub mod task;
