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

    /// The size as DynamoDB counts it, in bytes, without a name.
    fn bytes(&self) -> u64 {
        /// What a map or list takes, and each value in one.
        const NEST: u64 = 3;
        const NESTED: u64 = 1;
        /// Two digits a byte, one byte for the exponent, one for the sign; 38 digits at most.
        fn number(text: &str) -> u64 {
            (text.len() as u64).div_ceil(2).min(19) + 2
        }
        match self {
            Self::S(text) => text.len() as u64,
            Self::N(text) => number(text),
            Self::Bool(_) | Self::Null => 1,
            Self::B(bytes) => bytes.len() as u64,
            Self::M(values) => NEST + bytes_of(values) + NESTED * values.len() as u64,
            Self::L(values) => NEST + values.iter().map(|value| NESTED + value.bytes()).sum::<u64>(),
            Self::Ss(texts) => texts.iter().map(|text| text.len() as u64).sum(),
            Self::Ns(numbers) => numbers.iter().map(|text| number(text)).sum(),
            Self::Bs(all) => all.iter().map(|bytes| bytes.len() as u64).sum(),
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

/// The size of a record as DynamoDB counts it, in bytes: names and texts in UTF-8, a number by its digits, at its widest
/// where that is not known.
pub fn bytes_of(record: &Record) -> u64 {
    let bytes = |(name, value): (&String, &Attribute)| name.len() as u64 + value.bytes();
    record.iter().map(bytes).sum()
}
