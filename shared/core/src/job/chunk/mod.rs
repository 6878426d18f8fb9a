//! Splitting: a job becomes a tree of serialized pieces, and the tree becomes rows, one at a time.
//!
//! Three passes, each over the whole job once: [`inspect`] checks every reachable branch and decides where the job
//! must be split; [`compile`] serializes each piece of the job once and counts; [`rows`] puts pieces together. So a row
//! costs a few copies of bytes, however deep it lies, and the number of rows is known before the first one is made.

pub(crate) mod compile;
pub(crate) mod inspect;
mod rows;

use crate::error::shorten;
use crate::json::write_text;

pub use rows::Rows;

/// A job, ready to be written as rows.
#[derive(Debug)]
pub struct Chunks {
    root: Node,
    /// What each date adds to a row: `"date_list":["2024-03-05"],`. One empty piece if there are no dates; none if the
    /// job has no rows at all.
    dates: Vec<Box<[u8]>>,
    /// For each level, `"sections":[`.
    openings: Vec<Box<[u8]>>,
    /// How every row ends: `"labourer_id":"f"}`.
    ending: Box<[u8]>,
    rows: u64,
    bytes: u64,
    longest: u64,
    levels: Vec<Level>,
}

/// What splitting did at one level, for one date.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Level {
    /// Values of this attribute that were split.
    pub values: u64,
    /// Rows that end at this level: each names one batch of its values, and none of a deeper level.
    pub rows: u64,
}

/// One place in the tree: what it adds to a row, and what hangs below.
#[derive(Debug)]
struct Node {
    /// Serialized members, each with a comma behind it: `"stores":["x"],"k":5,`.
    members: Box<[u8]>,
    /// Where the members end and how long their keys are; empty for a node without descendants.
    index: Box<[Member]>,
    /// Serialized keys of members further out that give way to this node. Nearly always empty.
    shadows: Box<[Box<[u8]>]>,
    body: Body,
    rows: u64,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    key: u32,
    end: u32,
}

#[derive(Debug)]
enum Body {
    /// One row, ending here.
    Row,
    /// Several pieces, in order.
    Parts(Box<[Part]>),
}

#[derive(Debug)]
enum Part {
    /// Rows that name a batch of values each.
    Batches {
        level: usize,
        /// All values, serialized, with commas between them.
        values: Box<[u8]>,
        /// Where each batch ends; the next one begins behind the comma.
        ends: Box<[u32]>,
    },
    /// One node for each value.
    Entries(Box<[Node]>),
}

/// What a job says of its dates, after they were worked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dates {
    /// It has none, or keeps them as payload.
    Untouched,
    /// All of them in every row.
    Together(Vec<String>),
    /// Each on its own.
    Each(Vec<String>),
}

impl Dates {
    fn pieces(&self) -> Vec<Box<[u8]>> {
        let piece = |dates: &[String]| {
            let mut piece = b"\"date_list\":[".to_vec();
            for (at, date) in dates.iter().enumerate() {
                if at > 0 {
                    piece.push(b',');
                }
                write_text(date, &mut piece);
            }
            piece.extend_from_slice(b"],");
            piece.into_boxed_slice()
        };
        match self {
            Self::Untouched => vec![Box::default()],
            Self::Together(dates) => vec![piece(dates)],
            Self::Each(dates) => dates
                .iter()
                .map(|date| piece(std::slice::from_ref(date)))
                .collect(),
        }
    }
}

impl Chunks {
    /// How many rows there are.
    pub const fn row_count(&self) -> u64 {
        self.rows
    }

    /// How many rows there are for each date (or without dates).
    pub const fn rows_per_date(&self) -> u64 {
        self.root.rows
    }

    /// How many bytes the rows have, a line feed behind each.
    pub const fn byte_count(&self) -> u64 {
        self.bytes
    }

    /// The length of the longest row in bytes, without its line feed.
    pub const fn longest_row(&self) -> u64 {
        self.longest
    }

    /// What happened at each level, outermost first, for one date.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }
}

/// `sections.a.stores`: where in the job something stands.
fn join(path: &[&str], key: &str) -> String {
    let mut text = String::new();
    for part in path {
        text.push_str(&shorten(part));
        text.push('.');
    }
    text.push_str(&shorten(key));
    text
}
