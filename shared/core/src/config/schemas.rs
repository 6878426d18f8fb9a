//! Reading the schemas: by which attributes jobs can be split.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::DEFAULT_SCHEMA;
use super::json_schema;
use super::section::{Form, OwnForm, Section};
use crate::error::{excerpt, shorten};
use crate::job::schema::{Attribute, MAX_ATTRIBUTES, Meaning, RESERVED, Schema, Schemas};
use crate::job::zone::Zone;
use crate::json::kind;
use crate::warning::{Step, WarningKind};

/// Names that already mean something else at the root of a job.
const TAKEN: [&str; 4] = ["day", "days", "period", "date_list"];

/// Names that a job uses otherwise.
const USED: [&str; 4] = ["job", "lambda_name", "job_schema_name", "payload"];

static TIMEZONE: Form = Form {
    bounds: "an IANA time zone",
    pattern: "^[A-Za-z0-9_+/-]+$",
    advice: "write an IANA time zone such as \"Europe/Berlin\" or \"UTC\"",
    fits: |text| Zone::named(text).is_some(),
};

static PLURAL: Form = Form {
    bounds: "not empty",
    pattern: r"^[\s\S]",
    advice: "write a name such as \"categories\"",
    fits: |text| !text.is_empty(),
};

static ATTRIBUTES: OwnForm = OwnForm {
    default: "`[]`",
    bounds: "at most 32, see below",
    schema: attributes_schema,
};

const LIST: &str = "chunkable_attrs";

/// `job_schema` and `job_schema_variants`.
pub(super) fn schemas(at: &mut Section<'_, '_>) -> Schemas {
    let mut schemas = at.by_name(
        "job_schema_variants",
        "schemas by name, for `job_schema_name` of a job",
        |name, at| {
            let schema = schema(name, at);
            at.is_set().then_some(schema)
        },
    );
    // Checked also where a variant stands before it.
    let (single, says_something) = at.object(
        "job_schema",
        "the schema of jobs that name none; a variant `default` counts more",
        |at| (schema(DEFAULT_SCHEMA, at), at.says_something()),
    );
    if says_something && schemas.contains_key(DEFAULT_SCHEMA) {
        at.warn(WarningKind::MaskedSchema, &[Step::Key("job_schema")], || {
            "`job_schema` counts nowhere, since `job_schema_variants` has a `default`: keep one of the two"
                .to_owned()
        });
    }
    schemas.entry(DEFAULT_SCHEMA.to_owned()).or_insert(single);
    schemas
}

fn schema(name: &str, at: &mut Section<'_, '_>) -> Schema {
    let attributes = attributes(at);
    let always = at.choice(
        "expand_period",
        ("when_split", false),
        &[("always", true)],
        "`always`: dates are expanded also in a job that is not split",
    );
    let timezone = at.text(
        "timezone",
        Zone::UTC.name(),
        &TIMEZONE,
        "in it \"today\" is a date",
    );
    let timezone = Zone::named(&timezone).unwrap_or(Zone::UTC);
    let schema = Schema::build(name.to_owned(), attributes, always, timezone);
    warn_of_ambiguous_attributes(at, &schema);
    schema
}

fn attributes(at: &mut Section<'_, '_>) -> Vec<Attribute> {
    let meaning = "the attributes by which a job can be split, outermost first";
    let entries = match at.own(LIST, &ATTRIBUTES, meaning) {
        None => return Vec::new(),
        Some(Value::Array(entries)) => entries,
        Some(other) => {
            at.refuse(
                &[Step::Key(LIST)],
                format_args!(
                    "is {}, not a list: write [[\"section\", {{}}], [\"store\", {{}}]]",
                    kind(other)
                ),
            );
            return Vec::new();
        }
    };
    if entries.len() > MAX_ATTRIBUTES {
        at.refuse(
            &[Step::Key(LIST)],
            format_args!(
                "has {} attributes, and at most {MAX_ATTRIBUTES} are allowed",
                entries.len()
            ),
        );
        return Vec::new();
    }
    let mut attributes = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let steps = [Step::Key(LIST), Step::Index(index)];
        if let Some(attribute) = attribute(at, &steps, entry) {
            check_name(at, &steps, &attribute, &attributes);
            attributes.push(attribute);
        }
    }
    attributes
}

fn attribute<'a>(at: &mut Section<'a, '_>, steps: &[Step<'a>], entry: &'a Value) -> Option<Attribute> {
    let (name, options) = match entry {
        Value::String(name) => (name, None),
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(name)] | [Value::String(name), Value::Null] => (name, None),
            [Value::String(name), Value::Object(options)] => (name, Some(options)),
            _ => {
                at.refuse(
                    steps,
                    format_args!("is {}: write [\"section\", {{}}]", excerpt(entry)),
                );
                return None;
            }
        },
        other => {
            at.refuse(
                steps,
                format_args!("is {}: write \"section\" or [\"section\", {{}}]", excerpt(other)),
            );
            return None;
        }
    };
    let (plural, _) = at.inside(steps, options, options_of_an_attribute);
    Some(Attribute {
        name: name.clone(),
        plural: plural.unwrap_or_else(|| format!("{name}s")),
    })
}

fn options_of_an_attribute(at: &mut Section<'_, '_>) -> Option<String> {
    at.optional_text(
        "plural",
        &PLURAL,
        "its name for many, where that is not the name and an `s`",
    )
}

fn check_name<'a>(
    at: &mut Section<'a, '_>,
    steps: &[Step<'a>],
    attribute: &Attribute,
    earlier: &[Attribute],
) {
    let Attribute { name, plural } = attribute;
    if name.is_empty() {
        at.refuse(
            steps,
            "has an empty name: name the attribute in the singular, such as \"section\"",
        );
        return;
    }
    if name.ends_with('s') {
        at.refuse(
            steps,
            format_args!(
                "is {:?}, which looks like a plural: name attributes in the singular, without a trailing s",
                shorten(name)
            ),
        );
    }
    if name == plural {
        at.refuse(
            steps,
            format_args!(
                "has the same word {:?} for one and for many: give another plural",
                shorten(name)
            ),
        );
    }
    let used: HashSet<&str> = earlier
        .iter()
        .flat_map(|other| [other.name.as_str(), other.plural.as_str()])
        .collect();
    for word in [name, plural] {
        if TAKEN.contains(&word.as_str()) || RESERVED.contains(&word.as_str()) {
            at.refuse(
                steps,
                format_args!("uses {word:?}, which has a meaning of its own in every job: rename it"),
            );
        }
        if used.contains(word.as_str()) {
            at.refuse(
                steps,
                format_args!(
                    "uses {:?}, which another attribute uses: rename one of them",
                    shorten(word)
                ),
            );
        }
    }
}

/// An attribute that is called like a flag of another, or like something that every job has, can't be told from it.
fn warn_of_ambiguous_attributes(at: &mut Section<'_, '_>, schema: &Schema) {
    for (index, attribute) in schema.attributes.iter().enumerate() {
        let other_use = |word: &String| match schema.meanings.get(word) {
            Some(Meaning::Isolate(..) | Meaning::Max(..)) => Some("a flag of another attribute"),
            _ => USED.contains(&word.as_str()).then_some("a part of every job"),
        };
        let words = [&attribute.name, &attribute.plural];
        let ambiguous = words.into_iter().find_map(|word| Some((word, other_use(word)?)));
        if let Some((word, what)) = ambiguous {
            at.warn(
                WarningKind::AmbiguousAttribute,
                &[Step::Key(LIST), Step::Index(index)],
                || {
                    format!(
                        "{:?} is also called {what}, and a job can't say which of the two it means: rename it",
                        shorten(word)
                    )
                },
            );
        }
    }
}

fn attributes_schema() -> Value {
    let name = json!({
        "type": "string",
        "pattern": "[^s]$",
        "not": {"enum": RESERVED.iter().chain(&TAKEN).collect::<Vec<_>>()},
        "description": "in the singular, such as `section`",
    });
    let options = Section::keys_of(options_of_an_attribute);
    json!({
        "type": ["array", "null"],
        "maxItems": MAX_ATTRIBUTES,
        "items": {
            "anyOf": [
                name,
                {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 2,
                    "prefixItems": [name, json_schema::object(&options)],
                },
            ],
        },
    })
}
