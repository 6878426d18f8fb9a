//! A schema: which attributes of a job can be split, outermost first, and how its dates are read.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::error::{excerpt, shorten};
use crate::job::zone::Zone;
use crate::json::kind;

/// Attributes of the task itself: a job that carries one of them would disguise a task as another.
pub const RESERVED: [&str; 5] = ["labourer_id", "task_id", "created_at", "greenfield", "attempts"];

/// Names that already mean something else at the root of a job.
const TAKEN: [&str; 3] = ["day", "period", "date_list"];

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
    pub(crate) meanings: HashMap<String, Meaning>,
}

impl Schema {
    /// The schema without any attribute.
    pub fn empty(name: &str) -> Self {
        Self::build(name.to_owned(), Vec::new(), false, Zone::UTC)
    }

    fn build(name: String, attributes: Vec<Attribute>, always_expand_period: bool, timezone: Zone) -> Self {
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

    /// Reads and checks one variant; `field` is where it stands in the configuration. Every problem is reported.
    pub(crate) fn read(name: &str, field: &str, value: &Value, problems: &mut Vec<String>) -> Option<Self> {
        let before = problems.len();
        let Value::Object(map) = value else {
            problems.push(format!(
                "`{field}` is {}, not an object: write {{\"chunkable_attrs\": [[\"section\", {{}}]]}}",
                kind(value)
            ));
            return None;
        };
        let mut attributes = Vec::new();
        let mut always = false;
        let mut timezone = Zone::UTC;
        for (key, value) in map {
            match key.as_str() {
                "chunkable_attrs" => read_attributes(&format!("{field}.chunkable_attrs"), value, &mut attributes, problems),
                "expand_period" => match value {
                    Value::Null => {}
                    Value::String(text) if text == "always" => always = true,
                    Value::String(text) if text == "when_split" => always = false,
                    other => problems.push(format!(
                        "`{field}.expand_period` is {}: write \"always\" or \"when_split\" (the default)",
                        excerpt(other)
                    )),
                },
                "timezone" => match value {
                    Value::Null => {}
                    other => match other.as_str().and_then(Zone::named) {
                        Some(zone) => timezone = zone,
                        None => problems.push(format!(
                            "`{field}.timezone` is {}: write an IANA time zone such as \"Europe/Berlin\" or \"UTC\"",
                            excerpt(other)
                        )),
                    },
                },
                unknown => problems.push(format!(
                    "`{field}.{}` is unknown: a schema has `chunkable_attrs`, `expand_period` and `timezone`",
                    shorten(unknown)
                )),
            }
        }
        (problems.len() == before).then(|| Self::build(name.to_owned(), attributes, always, timezone))
    }
}

fn read_attributes(field: &str, value: &Value, attributes: &mut Vec<Attribute>, problems: &mut Vec<String>) {
    let entries = match value {
        Value::Null => return,
        Value::Array(entries) => entries,
        other => {
            problems.push(format!(
                "`{field}` is {}, not a list: write [[\"section\", {{}}], [\"store\", {{}}]]",
                kind(other)
            ));
            return;
        }
    };
    if entries.len() > MAX_ATTRIBUTES {
        problems.push(format!(
            "`{field}` has {} attributes, and at most {MAX_ATTRIBUTES} are allowed",
            entries.len()
        ));
        return;
    }
    for (index, entry) in entries.iter().enumerate() {
        let at = format!("{field}[{index}]");
        if let Some(attribute) = read_attribute(&at, entry, problems) {
            check_name(&at, &attribute, attributes, problems);
            attributes.push(attribute);
        }
    }
}

fn read_attribute(at: &str, entry: &Value, problems: &mut Vec<String>) -> Option<Attribute> {
    let (name, options) = match entry {
        Value::String(name) => (name, None),
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(name)] | [Value::String(name), Value::Null] => (name, None),
            [Value::String(name), Value::Object(options)] => (name, Some(options)),
            _ => {
                problems.push(format!("`{at}` is {}: write [\"section\", {{}}]", excerpt(entry)));
                return None;
            }
        },
        other => {
            problems.push(format!(
                "`{at}` is {}: write \"section\" or [\"section\", {{}}]",
                excerpt(other)
            ));
            return None;
        }
    };
    let mut plural = format!("{name}s");
    for (key, value) in options.into_iter().flatten() {
        match (key.as_str(), value) {
            ("plural", Value::String(text)) if !text.is_empty() => plural.clone_from(text),
            ("plural", Value::Null) => {}
            ("plural", other) => {
                problems.push(format!(
                    "`{at}.plural` is {}: write a name such as \"categories\"",
                    excerpt(other)
                ));
            }
            (unknown, _) => {
                problems.push(format!(
                    "`{at}.{}` is unknown: an attribute has only `plural`",
                    shorten(unknown)
                ));
            }
        }
    }
    Some(Attribute {
        name: name.clone(),
        plural,
    })
}

fn check_name(at: &str, attribute: &Attribute, earlier: &[Attribute], problems: &mut Vec<String>) {
    let Attribute { name, plural } = attribute;
    if name.is_empty() {
        problems.push(format!(
            "`{at}` has an empty name: name the attribute in the singular, such as \"section\""
        ));
        return;
    }
    if name.ends_with('s') {
        problems.push(format!(
            "`{at}` is {:?}, which looks like a plural: name attributes in the singular, without a trailing s",
            shorten(name)
        ));
    }
    if name == plural {
        problems.push(format!(
            "`{at}` has the same word {:?} for one and for many: give another plural",
            shorten(name)
        ));
    }
    for word in [name, plural] {
        if TAKEN.contains(&word.as_str()) || RESERVED.contains(&word.as_str()) || word == "days" {
            problems.push(format!(
                "`{at}` uses {word:?}, which has a meaning of its own in every job: rename it"
            ));
        }
        let used: HashSet<&str> = earlier
            .iter()
            .flat_map(|other| [other.name.as_str(), other.plural.as_str()])
            .collect();
        if used.contains(word.as_str()) {
            problems.push(format!(
                "`{at}` uses {:?}, which another attribute uses: rename one of them",
                shorten(word)
            ));
        }
    }
}

/// The schemas of a configuration by name.
pub type Schemas = BTreeMap<String, Schema>;
