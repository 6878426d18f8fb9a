//! Conditional requests to the tables, as values: what is asked is decided here, once, for every table there is.
//!
//! An adapter turns a value into a request and an answer back, and has no opinion. So the conditions that the protocol
//! rests on are those that the simulation plays with.

use crate::task::greenfield::Greenfield;
use crate::task::record::{Attribute, Record};

/// One of the three tables of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Queued and running tasks. Key: the task id.
    Tasks,
    /// Tasks that wait for another attempt. Key: labourer and task id.
    Retry,
    /// Tasks that are done with. Key: the task id.
    Closed,
}

/// What must hold of the item at a key. All tests of a condition must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// There is an item, and this attribute of it is exactly this. Numbers are compared as numbers.
    Equals(String, Attribute),
    /// There is no item, or it has no such attribute. Of an attribute of the key it says that there is no item.
    Absent(String),
}

/// Changes attributes of one item of the tasks table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Which one.
    pub task_id: String,
    /// Attributes and their new values; at least one.
    pub set: Vec<(String, Attribute)>,
    /// Only if. At least one is [`Test::Equals`], so that an update never makes an item.
    pub when: Vec<Test>,
}

impl Update {
    /// Whether it changes nothing where there is no item, as it must.
    pub fn needs_an_item(&self) -> bool {
        self.when.iter().any(|test| matches!(test, Test::Equals(..)))
    }
}

/// One part of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Puts an item, in place of whatever is at its key.
    Put {
        /// Where.
        table: Table,
        /// The whole item.
        record: Record,
        /// Only if; empty: in any case.
        when: Vec<Test>,
    },
    /// Deletes an item.
    Delete {
        /// Where.
        table: Table,
        /// The attributes of its key.
        key: Record,
        /// Only if; at least one [`Test::Equals`].
        when: Vec<Test>,
    },
    /// Changes nothing.
    Check {
        /// Where.
        table: Table,
        /// The attributes of its key.
        key: Record,
        /// What must hold.
        when: Vec<Test>,
    },
}

/// The most parts of a transaction that DynamoDB takes.
pub const MOST_WRITES: usize = 100;
/// The most updates of one request.
pub const MOST_UPDATES: usize = 25;

/// What is read in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Index {
    /// The tasks table by labourer and greenfield.
    Queue,
    /// The retry table by labourer and desired launch time.
    Waiting,
}

/// A part of an index: one labourer's, upwards, both ends included. It may lag behind its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Which index.
    pub index: Index,
    /// Whose.
    pub labourer_id: String,
    /// The first greenfield or time.
    pub from: Greenfield,
    /// The last one.
    pub to: Greenfield,
    /// How many at most, at least 1.
    pub limit: u32,
    /// Goes on behind an earlier page: what that page said.
    pub after: Option<Record>,
}

/// A page of a range.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The items, whole, in order.
    pub records: Vec<Record>,
    /// Where to go on, if there may be more.
    pub next: Option<Record>,
}
