//! Objects below the prefix that are none of a run's: of other makes, damaged, or not to be read.

use bytes::Bytes;
use jobmill_core::config::Config;
use jobmill_core::queue::lock::MAX_LOCK_BYTES;
use jobmill_core::queue::names::LOCK_PREFIX;
use jobmill_engine::ports::{Metadata, PutIf};
use jobmill_memory::MemoryStore;

/// What stands there. Their names come before those of runs, so that whoever lists meets them first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// Objects that have nothing to do with queues.
    OtherMake,
    /// A queue file that sosw left, which nobody has asked to adopt.
    SoswRows,
    /// A queue file that a sosw Scheduler has locked.
    SoswLocked,
    /// The same, larger than any lock of jobmill's.
    SoswLockedLarge,
    /// A lock of jobmill's that is cut, beside its rows.
    DamagedLock,
    /// A lock of a later version of jobmill, beside its rows.
    NewerLock,
    /// A lock that may be listed and not read.
    DeniedLock,
    /// Rows that may be listed and not read.
    DeniedRows,
}

impl Foreign {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::OtherMake,
        Self::SoswRows,
        Self::SoswLocked,
        Self::SoswLockedLarge,
        Self::DamagedLock,
        Self::NewerLock,
        Self::DeniedLock,
        Self::DeniedRows,
    ];

    /// Puts the objects below the prefix of `config`, and gives their keys.
    pub(super) fn place(self, config: &Config, store: &MemoryStore) -> Vec<String> {
        let name = config.file_name(&format!("0-{self:?}"));
        let rows = config.key(&name);
        let lock = config.key(&format!("{LOCK_PREFIX}{name}"));
        let row = |row: usize| format!("{{\"section\":\"{self:?}-{row}\",\"labourer_id\":\"worker\"}}\n");
        let text = |rows: usize| (0..rows).map(row).collect::<String>();
        let plain = Metadata::new();
        let label = Metadata::from(
            [
                ("jobmill", "rows"),
                ("run", "0"),
                ("rows", "3"),
                ("fingerprint", "0"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        let larger = MAX_LOCK_BYTES as usize / row(0).len() + 2;
        let objects = match self {
            Self::OtherMake => vec![
                (config.key("0-report.pdf"), "%PDF".to_owned(), plain),
                (
                    config.key(&format!("{LOCK_PREFIX}0-door")),
                    "closed".to_owned(),
                    Metadata::new(),
                ),
                (config.key(&format!("0-folder/{name}")), text(3), Metadata::new()),
            ],
            Self::SoswRows => vec![(rows, text(3), plain)],
            Self::SoswLocked => vec![(lock, text(3), plain)],
            Self::SoswLockedLarge => vec![(lock, text(larger), plain)],
            Self::DamagedLock => vec![
                (rows, text(3), label),
                (lock, "{\"version\":1,\"run\":".to_owned(), plain),
            ],
            Self::NewerLock => vec![
                (rows, text(3), label),
                (lock, "{\"version\":1000}".to_owned(), plain),
            ],
            Self::DeniedLock => vec![(lock, "{}".to_owned(), plain)],
            Self::DeniedRows => vec![(rows, text(3), label)],
        };
        store.with(|bucket, now| {
            for (key, body, metadata) in &objects {
                let put = bucket.put(now, key, Bytes::from(body.clone()), metadata, &PutIf::Absent);
                debug_assert!(put.is_ok(), "nothing stands at {key} yet");
                if matches!(self, Self::DeniedLock | Self::DeniedRows) {
                    bucket.denied.insert(key.clone());
                }
            }
        });
        objects.into_iter().map(|(key, ..)| key).collect()
    }
}
