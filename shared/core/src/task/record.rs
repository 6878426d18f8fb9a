//! An item of a table, kept whole: every attribute with its type, whoever wrote it.
//!
//! What moves from table to table must arrive as it left. So nothing is read into fields that would leave others
//! behind, and no value changes its type on the way.

use std::collections::BTreeMap;

use crate::task::greenfield::Greenfield;
use crate::task::item::Task;
use crate::task::tables::FieldNames;

/// An item: its attributes by name.
pub type Record = BTreeMap<String, Attribute>;

/// The value of an attribute, with DynamoDB's types.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribute {
    /// Text.
    S(String),
    /// A decimal number, as DynamoDB writes it.
    N(String),
    /// True or false.
    Bool(bool),
    /// Null.
    Null,
    /// Bytes.
    B(Vec<u8>),
    /// Attributes by name.
    M(BTreeMap<String, Attribute>),
    /// Values in order.
    L(Vec<Attribute>),
    /// A set of texts.
    Ss(Vec<String>),
    /// A set of numbers.
    Ns(Vec<String>),
    /// A set of bytes.
    Bs(Vec<Vec<u8>>),
}

impl Attribute {
    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::S(text.into())
    }

    /// A number.
    pub fn number(number: impl ToString) -> Self {
        Self::N(number.to_string())
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::S(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one, as it is written.
    pub fn as_number(&self) -> Option<&str> {
        match self {
            Self::N(number) => Some(number),
            _ => None,
        }
    }
}

/// The text of an attribute of a record.
pub fn text_of<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    record.get(name)?.as_text()
}

/// The number of an attribute of a record, to the billionth.
pub fn number_of(record: &Record, name: &str) -> Option<Greenfield> {
    Greenfield::parse(record.get(name)?.as_number()?)
}

/// A task as it is created: never tried.
pub fn record_of(names: &FieldNames, task: &Task) -> Record {
    Record::from([
        (names.task_id.clone(), Attribute::text(&task.task_id)),
        (names.labourer_id.clone(), Attribute::text(&task.labourer_id)),
        (names.created_at.clone(), Attribute::number(&task.created_at)),
        (names.greenfield.clone(), Attribute::number(task.greenfield)),
        (names.attempts.clone(), Attribute::number(0)),
        (names.payload.clone(), Attribute::text(&task.payload)),
    ])
}
