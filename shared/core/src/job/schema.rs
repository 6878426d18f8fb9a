//! A schema: which attributes of a job can be split, outermost first, and how its dates are read.

use std::collections::{BTreeMap, HashMap};

use crate::job::zone::Zone;

/// Attributes of the task itself: a job that carries one of them would disguise a task as another.
pub const RESERVED: [&str; 5] = ["labourer_id", "task_id", "created_at", "greenfield", "attempts"];

/// More levels than any job has; bounds the work of looking for flags.
pub const MAX_ATTRIBUTES: usize = 32;

/// One level by which a job can be split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// In the singular: `section`.
    pub name: String,
    /// In the plural, the key in rows: `sections`.
    pub plural: String,
}

impl Attribute {
    /// Its name in that spelling.
    pub(crate) fn spelled(&self, spelling: Spelling) -> &str {
        match spelling {
            Spelling::Plural => &self.plural,
            Spelling::Singular => &self.name,
        }
    }
}

/// What a key of a job means beside being payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// `isolate_X`, `isolate_Xs`: attribute and spelling.
    Isolate(usize, Spelling),
    /// `max_X_per_batch`, `max_Xs_per_batch`.
    Max(usize, Spelling),
    /// `labourer_id` and the like.
    Reserved,
    /// `date_list`.
    DateList,
}

/// The two spellings of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    Plural,
    Singular,
}

/// A checked variant of `job_schema_variants`.
#[derive(Debug, Clone)]
pub struct Schema {
    /// Its name, `default` where the job names none.
    pub name: String,
    /// Its levels, outermost first; empty: nothing is split by attributes.
    pub attributes: Vec<Attribute>,
    /// Expand `period` also in a job that is not split (`"expand_period": "always"`).
    pub always_expand_period: bool,
    /// The time zone in which "today" is a date.
    pub timezone: Zone,
    /// What keys of a job mean, wherever a branch may have them.
    pub(crate) meanings: HashMap<String, Meaning>,
}

impl Schema {
    /// The schema without any attribute.
    pub fn empty(name: &str) -> Self {
        Self::build(name.to_owned(), Vec::new(), false, Zone::UTC)
    }

    /// A schema of attributes whose words differ.
    pub(crate) fn build(
        name: String,
        attributes: Vec<Attribute>,
        always_expand_period: bool,
        timezone: Zone,
    ) -> Self {
        let mut meanings = HashMap::new();
        for (level, attribute) in attributes.iter().enumerate() {
            for (word, spelling) in [
                (&attribute.plural, Spelling::Plural),
                (&attribute.name, Spelling::Singular),
            ] {
                meanings.insert(format!("isolate_{word}"), Meaning::Isolate(level, spelling));
                meanings.insert(format!("max_{word}_per_batch"), Meaning::Max(level, spelling));
            }
        }
        meanings.extend(RESERVED.map(|name| (name.to_owned(), Meaning::Reserved)));
        meanings.insert("date_list".to_owned(), Meaning::DateList);
        Self {
            name,
            attributes,
            always_expand_period,
            timezone,
            meanings,
        }
    }
}

/// The schemas of a configuration by name.
pub type Schemas = BTreeMap<String, Schema>;
