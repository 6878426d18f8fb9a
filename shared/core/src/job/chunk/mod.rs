//! Splitting: a job becomes a tree of serialized pieces, and the tree becomes rows, one at a time.
//!
//! Three passes, each over the whole job once: `inspect` checks every reachable branch and decides where the job
//! must be split; `compile` writes each piece of a row once, but for values that stand alone in their rows, which are
//! copied from the job, and counts; `rows` puts pieces together. So a row costs a few copies of bytes, however deep
//! it lies, and the number of rows is known before the first one is made.

pub(crate) mod compile;
pub(crate) mod inspect;
mod rows;
mod scope;

use std::sync::Arc;

use crate::error::{Error, ErrorKind, shorten};
use crate::json::{Document, write_text};

pub use rows::Rows;

/// A job, ready to be written as rows.
#[derive(Debug)]
pub struct Chunks {
    /// The job.
    document: Arc<Document>,
    tree: Tree,
    /// What each date adds to a row: `"date_list":["2024-03-05"],`. One empty piece if there are no dates; none if the
    /// job has no rows at all.
    dates: Vec<Box<[u8]>>,
    /// For each level, `"sections":[`.
    openings: Vec<Box<[u8]>>,
    /// How a row ends: `"labourer_id":"f"}`.
    ending: Box<[u8]>,
    /// The same behind the values of a list: `],"labourer_id":"f"}`.
    ending_of_list: Box<[u8]>,
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

/// The tree, in a few long lists, since a job may have hundreds of thousands of places. A node is followed by those that
/// hang below it. What it has in the other lists begins where that of the node before it ends.
#[derive(Debug, Default)]
struct Tree {
    nodes: Vec<Node>,
    /// Members, each with a comma behind it: `"stores":["x"],"k":5,`.
    text: Vec<u8>,
    /// The members of nodes that others hang below.
    members: Vec<Member>,
    /// Serialized keys of members further out that give way to a node. Nearly always none.
    shadows: Vec<Box<[u8]>>,
    lists: Vec<List>,
    /// Values that go together, or are not written as they stand in the job; with a comma behind each.
    written: Vec<u8>,
    /// Where they end.
    ends: Vec<u32>,
}

/// One place in the tree: what it adds to a row.
#[derive(Debug, Clone, Copy)]
struct Node {
    end: Ends,
    /// How many nodes it takes with those below it.
    extent: u32,
    rows: u32,
    body: Body,
}

// A large job has hundreds of thousands of them.
const _: () = assert!(size_of::<Node>() <= 28 && size_of::<List>() <= 20);

/// Where the parts of a node end in the lists of the tree.
#[derive(Debug, Clone, Copy, Default)]
struct Ends {
    text: u32,
    members: u32,
    shadows: u32,
    lists: u32,
}

/// A member, by where it stands in the text of its node.
#[derive(Debug, Clone, Copy)]
struct Member {
    /// How long its key is.
    key: u32,
    end: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// Members, and with them a row ends.
    Row,
    /// Members that all rows below have.
    Branch,
    /// Members, and with them a row for each batch of the values of a list.
    List,
}

/// Values of which so many go into a row.
#[derive(Debug, Clone, Copy)]
struct List {
    values: Values,
    count: u32,
    batch: u32,
    level: u8,
}

/// Where the values of a list are.
#[derive(Debug, Clone, Copy)]
enum Values {
    /// In the job, as they are written, each for itself: the first one, and how far it is to the next.
    InPlace(u32, u8),
    /// Among those that are written out: the first one.
    Written(u32),
}

impl Tree {
    /// Where the parts of a node begin.
    fn begin(&self, node: usize) -> Ends {
        let before = node.checked_sub(1).and_then(|before| self.nodes.get(before));
        before.map_or_else(Ends::default, |before| before.end)
    }

    fn rows(&self) -> u64 {
        self.nodes.first().map_or(0, |root| u64::from(root.rows))
    }
}

/// The elements of a list from one to another.
fn between<T>(list: &[T], start: u32, end: u32) -> &[T] {
    list.get(start as usize..end as usize).unwrap_or_default()
}

/// A place in one of the tree's lists, or a number of rows.
///
/// # Errors
/// `TaskTooLarge` beyond four thousand million.
fn narrow(at: usize) -> Result<u32, Error> {
    u32::try_from(at).map_err(|_| too_large())
}

fn too_large() -> Error {
    Error::new(
        ErrorKind::TaskTooLarge,
        "the job holds more than 4 GiB: split it into several jobs",
    )
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
    pub fn rows_per_date(&self) -> u64 {
        self.tree.rows()
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
