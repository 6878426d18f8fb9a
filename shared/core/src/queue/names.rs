//! Names of the objects of a run: queue file, lock, receipt.

/// The prefix of the name of a lock: `locked_{name of the queue file}`.
pub const LOCK_PREFIX: &str = "locked_";

/// The key of an object called `name` below the prefix; an empty prefix is the root of the bucket.
pub fn key(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}/{name}")
    }
}

/// The three keys of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The name of its queue file, without the prefix.
    pub file_name: String,
    /// The key of the queue file: the rows.
    pub rows: String,
    /// The key of the lock.
    pub lock: String,
    /// The key of the receipt.
    pub receipt: String,
}

impl Keys {
    /// The keys of the run with that queue file below the prefix.
    pub fn new(prefix: &str, file_name: String) -> Self {
        Self {
            rows: key(prefix, &file_name),
            lock: key(prefix, &format!("{LOCK_PREFIX}{file_name}")),
            receipt: key(prefix, &format!("done/{file_name}.json")),
            file_name,
        }
    }
}
