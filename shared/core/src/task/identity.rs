//! The identity of a task: the same run and the same row always give the same id.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The namespace of task ids: UUIDv5 of the DNS name `jobmill` below nothing else, fixed for ever.
const NAMESPACE: Uuid = Uuid::from_u128(0x6a6f_626d_696c_6c00_8000_7461_736b_6964);

/// Makes the ids of the tasks of one run: UUIDv5 of run id and row, 32 hex digits as sosw's ids look.
#[derive(Debug, Clone)]
pub struct TaskIds {
    run: Uuid,
}

impl TaskIds {
    /// Ids of the run `run_id`.
    pub fn of_run(run_id: &str) -> Self {
        Self {
            run: Uuid::new_v5(&NAMESPACE, run_id.as_bytes()),
        }
    }

    /// Id of row `row`, counted from 0.
    pub fn at(&self, row: u64) -> String {
        Uuid::new_v5(&self.run, &row.to_be_bytes()).simple().to_string()
    }
}

/// A digest of some texts, 16 hex digits: the same texts always give the same one.
pub fn short_digest(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
