//! A task as an item of the tasks table, and its size there.

use crate::task::greenfield::Greenfield;
use crate::task::tables::FieldNames;

/// One task as it will stand in the tasks table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// 32 hex digits.
    pub task_id: String,
    /// The worker.
    pub labourer_id: String,
    /// Seconds since 1970, a decimal.
    pub created_at: String,
    /// Its place in the queue.
    pub greenfield: Greenfield,
    /// JSON text.
    pub payload: String,
}

/// The largest item that DynamoDB takes, in bytes.
pub const MAX_ITEM_BYTES: u64 = 409_600;

/// The size of a task as DynamoDB counts it, in bytes: names and text in UTF-8, numbers at their widest (21 bytes).
pub fn item_bytes(fields: &FieldNames, labourer_id: &str, payload_bytes: u64) -> u64 {
    const WIDEST_NUMBER: usize = 21;
    let names = [
        &fields.task_id,
        &fields.labourer_id,
        &fields.created_at,
        &fields.greenfield,
        &fields.attempts,
        &fields.payload,
    ];
    let names: usize = names.iter().map(|name| name.len()).sum();
    (names + 32 + labourer_id.len() + 3 * WIDEST_NUMBER) as u64 + payload_bytes
}
