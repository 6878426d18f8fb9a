//! The identity of a task: the same run and the same row always give the same id.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Hex digits of an id that say the run.
const RUN_DIGITS: usize = 22;
/// Hex digits of an id that say the row.
const ROW_DIGITS: usize = 10;

/// The namespace of ids by [`IdScheme::Uuid`], fixed for ever.
const NAMESPACE: Uuid = Uuid::from_u128(0x6a6f_626d_696c_6c00_8000_7461_736b_6964);

/// How the ids of a run are made. A run keeps the scheme that it began with: its lock says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdScheme {
    /// UUIDv5 of run id and row: runs that began before ids said their queue. Two deployments that share a tasks table
    /// and a run id make the same ids.
    #[default]
    Uuid,
    /// 22 hex digits of a digest over bucket, prefix and run id, then 10 hex digits of the row.
    Queue,
}

/// Makes the ids of the tasks of one run: 32 hex digits, as sosw's ids look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskIds(Run);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Run {
    Uuid(Uuid),
    Queue(String),
}

impl TaskIds {
    /// Ids of the run `run_id` in the queue of that bucket and prefix.
    pub fn new(bucket: &str, prefix: &str, run_id: &str) -> Self {
        Self::of(IdScheme::Queue, bucket, prefix, run_id)
    }

    /// Ids by the scheme that a run began with.
    pub fn of(scheme: IdScheme, bucket: &str, prefix: &str, run_id: &str) -> Self {
        Self(match scheme {
            IdScheme::Uuid => Run::Uuid(Uuid::new_v5(&NAMESPACE, run_id.as_bytes())),
            IdScheme::Queue => Run::Queue(hex_digest(&[bucket, prefix, run_id], RUN_DIGITS)),
        })
    }

    /// Id of row `row`, counted from 0. A run has at most 10^11 rows; ten hex digits hold 10^12.
    pub fn at(&self, row: u64) -> String {
        match &self.0 {
            Run::Uuid(run) => Uuid::new_v5(run, &row.to_be_bytes()).simple().to_string(),
            Run::Queue(run) => format!("{run}{row:0ROW_DIGITS$x}"),
        }
    }

    /// The row of a task of this run, read off its id; `None` if the id is none of this run's by [`IdScheme::Queue`].
    pub fn row_of(&self, task_id: &str) -> Option<u64> {
        let Run::Queue(run) = &self.0 else { return None };
        let digits = task_id.strip_prefix(run.as_str())?;
        let plain = digits.len() == ROW_DIGITS
            && digits
                .bytes()
                .all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit));
        if !plain {
            return None;
        }
        u64::from_str_radix(digits, 16).ok()
    }
}

/// A digest of some texts, 16 hex digits: the same texts always give the same one.
pub fn short_digest(parts: &[&str]) -> String {
    hex_digest(parts, 16)
}

/// The first `digits` hex digits of SHA-256 over some texts, each behind its length, so that no two lists of texts are
/// taken for one another.
fn hex_digest(parts: &[&str], digits: usize) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest
        .finalize()
        .iter()
        .take(digits / 2)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_its_run_and_its_row() {
        let ids = TaskIds::new("bucket", "sosw/scheduler", "nightly-1");
        for row in [0, 1, 255, 6_569, 99_999_999_999] {
            let id = ids.at(row);
            assert_eq!(id.len(), 32);
            assert!(id.bytes().all(|digit| digit.is_ascii_hexdigit()));
            assert_eq!(ids.row_of(&id), Some(row));
            assert_eq!(
                TaskIds::new("bucket", "sosw/scheduler", "nightly-2").row_of(&id),
                None
            );
        }
        // Worked out with Python's hashlib: sha256 of each text behind its length in eight bytes.
        assert_eq!(ids.at(10), "79614c9f8121948d486a4a000000000a");
    }

    #[test]
    fn deployments_that_share_a_table_make_different_ids() {
        let of = |bucket, prefix| TaskIds::new(bucket, prefix, "2024-03-06").at(0);
        let ids = [
            of("a", "p"),
            of("b", "p"),
            of("a", "q"),
            of("ap", ""),
            of("", "ap"),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert!(ids.iter().skip(at + 1).all(|other| other != id), "{ids:?}");
        }
    }

    #[test]
    fn what_is_no_id_of_the_run_has_no_row() {
        let ids = TaskIds::new("bucket", "", "run");
        let run = ids.at(0)[..RUN_DIGITS].to_owned();
        for wrong in [
            "",
            "0",
            &run,
            &format!("{run}00000000"),
            &format!("{run}000000000G"),
            &format!("{run}00000000000"),
        ] {
            assert_eq!(ids.row_of(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn runs_that_began_earlier_keep_their_ids() {
        let ids = TaskIds::of(IdScheme::Uuid, "bucket", "prefix", "nightly-1");
        assert_eq!(ids, TaskIds::of(IdScheme::Uuid, "another", "", "nightly-1"));
        assert_eq!(ids.at(0).len(), 32);
        assert_eq!(ids.row_of(&ids.at(0)), None);
    }
}
