//! What a job means: from an event to rows.

pub mod chunk;
pub mod estimate;
pub mod event;
pub mod fields;
pub mod json_schema;
pub mod period;
pub mod plan;
mod review;
pub mod schema;
pub mod zone;
