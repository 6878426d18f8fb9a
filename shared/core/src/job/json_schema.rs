//! JSON Schemas (draft 2020-12) of a job and of an event, for editors: they complete, explain and underline.
//!
//! Whatever is accepted is valid. Most of what is refused is not; the rest depends on more than a JSON Schema can say.

use serde_json::{Map, Value, json};

use crate::config::{Config, DEFAULT_SCHEMA};
use crate::job::event::MAX_RUN_ID;
use crate::job::fields::FUNCTION_NAME_PATTERN;
use crate::job::period;
use crate::job::schema::{Attribute, Meaning, RESERVED, Schema};
use crate::queue::lock::MAX_HOP;
use crate::queue::names::LOCK_PREFIX;

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A bare job under any configuration.
pub fn job_schema() -> Value {
    json!({
        "$schema": DRAFT,
        "title": "A job of jobmill",
        "$ref": "#/$defs/job",
        "required": ["lambda_name"],
        "$defs": definitions(),
    })
}

/// A bare job under that configuration: with its labourers, its schemas, and the flags of their attributes.
pub fn job_schema_for(config: &Config) -> Value {
    let mut definitions = definitions();
    let labourers: Vec<&String> = config.labourers.keys().collect();
    let names: Vec<&String> = config.schemas.keys().collect();
    let of_schemas = config.schemas.values().enumerate().map(|(number, schema)| {
        let flags = format!("flags_{number}");
        definitions.insert(flags.clone(), flags_of(schema));
        let asked = if schema.name == DEFAULT_SCHEMA {
            // By name, or because none is named.
            json!({ "properties": { "job_schema_name": { "enum": [DEFAULT_SCHEMA, null, "", [], {}] } } })
        } else {
            json!({
                "required": ["job_schema_name"],
                "properties": { "job_schema_name": { "const": schema.name } },
            })
        };
        json!({ "if": asked, "then": { "allOf": [branch(schema, 0, &flags), root_of(schema)] } })
    });
    let of_schemas: Vec<Value> = of_schemas.collect();
    json!({
        "$schema": DRAFT,
        "title": "A job of jobmill, for one configuration",
        "$ref": "#/$defs/job",
        "required": ["lambda_name"],
        "properties": {
            // The name of a labourer, or an ARN or partial ARN, which ends in one.
            "lambda_name": { "anyOf": [{ "enum": labourers }, { "pattern": ":" }] },
            "job_schema_name": { "anyOf": [{ "enum": names }, { "$ref": "#/$defs/nothing" }] },
        },
        "allOf": of_schemas,
        "$defs": definitions,
    })
}

/// An event: a bare job, an envelope, an event of EventBridge, a continuation, a sweep; also as text that holds one.
pub fn event_schema() -> Value {
    let mut definitions = definitions();
    let is_job = json!({ "anyOf": [{ "required": ["job"] }, { "required": ["lambda_name"] }] });
    // Text that holds an object.
    let text = json!({ "type": "string", "pattern": "^[ \\t\\r\\n]*[{]" });
    definitions.insert("text".to_owned(), text);
    definitions.insert("envelope".to_owned(), envelope());
    definitions.insert("eventbridge".to_owned(), eventbridge());
    definitions.insert("continuation".to_owned(), continuation());
    definitions.insert(
        "request".to_owned(),
        json!({
            "if": { "required": ["job"] },
            "then": { "$ref": "#/$defs/envelope" },
            "else": { "$ref": "#/$defs/job", "required": ["lambda_name"] },
        }),
    );
    definitions.insert(
        "event".to_owned(),
        json!({
            "if": { "required": ["detail-type", "source", "detail"], "not": is_job },
            "then": { "$ref": "#/$defs/eventbridge" },
            "else": {
                "if": { "required": ["file_name"], "not": is_job },
                "then": { "$ref": "#/$defs/continuation" },
                "else": {
                    "if": { "required": ["sweep"], "properties": { "sweep": { "const": true } }, "not": is_job },
                    "else": { "$ref": "#/$defs/request" },
                },
            },
        }),
    );
    json!({
        "$schema": DRAFT,
        "title": "An event of jobmill",
        "type": ["object", "string"],
        "if": { "type": "object" },
        "then": { "$ref": "#/$defs/event" },
        "else": { "$ref": "#/$defs/text" },
        "$defs": definitions,
    })
}

/// What holds of each job, whatever its schema.
fn any_job() -> Value {
    let mut properties = json!({
        "$schema": {
            "description": "the JSON Schema of this file, for editors: no payload if it ends in `job.schema.json` or `event.schema.json`",
        },
        "lambda_name": {
            "description": "the labourer: the name of a Lambda function, `ACCOUNT:function:NAME` or an ARN",
            "type": "string",
            "pattern": FUNCTION_NAME_PATTERN,
        },
        "job_schema_name": {
            "description": "one of the configuration's `job_schema_variants`",
            "anyOf": [{ "type": "string" }, { "$ref": "#/$defs/nothing" }],
        },
        "period": {
            "description": "the dates, counted from today; read only if the job is split",
            "examples": ["yesterday", "last_7_days", "previous_7_days", "2_days_back", "last_week", "today"],
        },
        "date_list": {
            "description": "the dates themselves",
            "examples": [["2024-03-05", "2024-03-06"]],
        },
        "isolate_days": {
            "description": "each date in rows of its own",
            "$ref": "#/$defs/switch",
        },
    });
    if let Value::Object(properties) = &mut properties {
        properties.extend(RESERVED.map(|name| (name.to_owned(), json!(false))));
    }
    json!({
        "type": "object",
        "properties": properties,
        "patternProperties": {
            "^isolate_.": { "description": "a flag, if the schema has the attribute: its values are split, each in rows of its own" },
            "^max_.+_per_batch$": { "description": "a flag, if the schema has the attribute: its values are split, at most so many in a row" },
        },
        "if": flag_is("on", "isolate_days"),
        "then": {
            "properties": { "period": { "$ref": "#/$defs/period" } },
            "if": { "properties": { "period": { "$ref": "#/$defs/no_period" } } },
            "then": { "properties": { "date_list": { "items": { "type": "string" } } } },
        },
    })
}

/// What the root of a job has to keep to under that schema.
fn root_of(schema: &Schema) -> Value {
    let read = json!({ "properties": { "period": { "$ref": "#/$defs/period" } } });
    if schema.always_expand_period {
        return read;
    }
    let Some(Attribute { name, plural }) = schema.attributes.first() else {
        return json!({});
    };
    // A flag of the outermost attribute is sure to split the job, and then its period is read.
    let flags = [name, plural].map(|word| {
        [
            flag_is("on", &format!("isolate_{word}")),
            flag_is("sized", &format!("max_{word}_per_batch")),
        ]
    });
    json!({ "if": { "anyOf": flags.concat() }, "then": read })
}

/// Whether that flag is set: "on", or "sized".
fn flag_is(set: &str, name: &str) -> Value {
    json!({ "required": [name], "properties": { (name): { "$ref": format!("#/$defs/{set}") } } })
}

/// A branch of a job: the root, or an object that is the value of an entry one level up.
fn branch(schema: &Schema, level: usize, flags: &str) -> Value {
    let mut branch = Map::new();
    branch.insert("$ref".to_owned(), json!(format!("#/$defs/{flags}")));
    if let Some(Attribute { name, plural }) = schema.attributes.get(level) {
        let inside = self::branch(schema, level + 1, flags);
        let values = |description: String| {
            json!({
                "description": description,
                "additionalProperties": inside,
                "items": { "additionalProperties": inside },
            })
        };
        let properties = json!({
            (plural): values("values: a list, or an object whose keys are the values".to_owned()),
            (name): values(format!("the same as `{plural}`")),
        });
        branch.insert("properties".to_owned(), properties);
    }
    Value::Object(branch)
}

/// What the keys mean that each branch of a job may have.
fn flags_of(schema: &Schema) -> Value {
    let mut meanings: Vec<(&String, &Meaning)> = schema.meanings.iter().collect();
    meanings.sort_by_key(|(key, _)| *key);
    let plural = |level: &usize| {
        schema
            .attributes
            .get(*level)
            .map_or("", |attribute| attribute.plural.as_str())
    };
    let flags = meanings.into_iter().filter_map(|(key, meaning)| {
        let schema = match meaning {
            Meaning::Isolate(level, _) => json!({
                "description": format!("`{}` are split, each in rows of its own", plural(level)),
                "$ref": "#/$defs/switch",
            }),
            Meaning::Max(level, _) => json!({
                "description": format!("`{}` are split, at most so many in a row", plural(level)),
                "$ref": "#/$defs/size",
            }),
            Meaning::Reserved => json!(false),
            Meaning::DateList => return None,
        };
        Some((key.clone(), schema))
    });
    json!({ "properties": Map::from_iter(flags) })
}

/// What several places refer to.
fn definitions() -> Map<String, Value> {
    // As in all of JSON Schema's dialects of regular expressions: letter by letter.
    let any_case = |word: &str| -> String {
        word.chars()
            .map(|letter| format!("[{}{letter}]", letter.to_ascii_uppercase()))
            .collect()
    };
    let any_of = |words: [&str; 3]| words.map(any_case).join("|");
    let on = any_of(["true", "yes", "on"]);
    let off = any_of(["false", "no", "off"]);
    let nothing = json!({
        "type": ["null", "string", "array", "object"],
        "maxLength": 0,
        "maxItems": 0,
        "maxProperties": 0,
    });
    Map::from_iter([
        ("job".to_owned(), any_job()),
        ("nothing".to_owned(), nothing),
        (
            "switch".to_owned(),
            json!({
                "anyOf": [
                    { "type": ["boolean", "null"] },
                    { "enum": [0, 1] },
                    { "type": "string", "pattern": format!("^({on}|{off}|1|0)?$") },
                ],
            }),
        ),
        (
            "on".to_owned(),
            json!({ "anyOf": [{ "enum": [true, 1] }, { "type": "string", "pattern": format!("^({on}|1)$") }] }),
        ),
        (
            "size".to_owned(),
            json!({ "type": ["integer", "string", "null"], "minimum": 1, "pattern": "^0*[1-9][0-9]*$" }),
        ),
        ("sized".to_owned(), json!({ "not": { "type": "null" } })),
        (
            "period".to_owned(),
            json!({
                "anyOf": [
                    { "type": "string", "pattern": period::PATTERN },
                    { "$ref": "#/$defs/no_period" },
                ],
            }),
        ),
        (
            "no_period".to_owned(),
            json!({ "anyOf": [{ "enum": [false, 0] }, { "$ref": "#/$defs/nothing" }] }),
        ),
        (
            "moment".to_owned(),
            json!({
                "type": ["string", "null"],
                "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?$",
                "examples": ["2024-03-06", "2024-03-06T02:00:00Z"],
            }),
        ),
    ])
}

fn envelope() -> Value {
    json!({
        "properties": {
            "$schema": { "description": "the JSON Schema of this file, for editors" },
            "job": {
                "description": "the job, or text that holds it",
                "anyOf": [{ "$ref": "#/$defs/text" }, { "$ref": "#/$defs/job" }],
            },
            "lambda_name": { "description": "the labourer, if the job names none" },
            "run_id": {
                "description": "names the run: a repetition under the same name creates nothing twice",
                "type": ["string", "null"],
                "pattern": format!("^[A-Za-z0-9._:-]{{1,{MAX_RUN_ID}}}$"),
            },
            "as_of": { "description": "today: a date, or a time", "$ref": "#/$defs/moment" },
            "strict": {
                "description": "whether the job is refused if there is anything to warn of",
                "type": ["boolean", "null"],
            },
        },
        "if": { "properties": { "job": { "required": ["lambda_name"] } } },
        "else": {
            "required": ["lambda_name"],
            "properties": { "lambda_name": { "type": "string", "pattern": FUNCTION_NAME_PATTERN } },
        },
    })
}

fn eventbridge() -> Value {
    json!({
        "properties": {
            "id": { "description": "the run id, if the detail names none" },
            "time": { "description": "today, if the detail does not say", "$ref": "#/$defs/moment" },
            "detail": {
                "description": "a job or an envelope, or text that holds one",
                "anyOf": [{ "$ref": "#/$defs/text" }, { "type": "object", "$ref": "#/$defs/request" }],
            },
        },
    })
}

fn continuation() -> Value {
    json!({
        "properties": {
            "file_name": {
                "description": "the queue file to go on with, without the prefix",
                "type": "string",
                "minLength": 1,
                "maxLength": 512,
                "pattern": r"^[^/\\]+$",
                "not": { "pattern": format!("^{LOCK_PREFIX}") },
            },
            "hop": {
                "description": "how many invocations have handed it on before",
                "type": ["integer", "null"],
                "minimum": 0,
                "maximum": MAX_HOP,
            },
            "skip_line": {
                "description": "a line, counted from 1, to be passed over if it can't become a task",
                "type": ["integer", "null"],
                "minimum": 1,
            },
        },
    })
}
