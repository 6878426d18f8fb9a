//! The JSON Schema of a configuration, for editors: made from what its readers ask for.

use serde_json::{Map, Value, json};

use super::Config;
use super::section::{DECIMAL, Key, Keys, Kind, Name, Others};

/// The JSON Schema (draft 2020-12) of a configuration. Whatever is read without a problem is valid; most of what is
/// refused is not.
pub fn json_schema() -> Value {
    let mut schema = Map::new();
    schema.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    schema.insert("title".to_owned(), json!("The configuration of jobmill"));
    extend(&mut schema, object(&Config::known_keys()));
    // Only inside is an object that is not set a thing to write.
    schema.insert("type".to_owned(), json!("object"));
    Value::Object(schema)
}

/// The JSON Schema of an object with these keys.
pub(super) fn object(keys: &Keys) -> Value {
    let (mut properties, mut patterns, mut required) = (Map::new(), Map::new(), Vec::new());
    for key in &keys.known {
        let schema = of_key(key);
        match key.name {
            Name::Is(name) => drop(properties.insert(name.to_owned(), schema)),
            Name::Begins(start) => drop(patterns.insert(format!("^{start}"), schema)),
            Name::Ends(end) => drop(patterns.insert(format!("{end}$"), schema)),
        }
        if let (Kind::Text { required: true, .. }, Name::Is(name)) = (&key.kind, key.name) {
            required.push(name);
        }
    }
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!(["object", "null"]));
    schema.insert("properties".to_owned(), Value::Object(properties));
    if !patterns.is_empty() {
        schema.insert("patternProperties".to_owned(), Value::Object(patterns));
    }
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    if keys.others == Others::Refused {
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
    Value::Object(schema)
}

fn of_key(key: &Key) -> Value {
    let mut schema = Map::new();
    schema.insert("description".to_owned(), json!(key.meaning));
    extend(&mut schema, of_kind(&key.kind));
    Value::Object(schema)
}

fn of_kind(kind: &Kind) -> Value {
    match kind {
        Kind::Number { default, min, max } => {
            let schema = json!({
                "type": ["integer", "string", "null"],
                "minimum": min,
                "maximum": max,
                "pattern": "^[+]?[0-9]+$",
            });
            with_default(schema, *default)
        }
        Kind::Decimal { default, min, max } => json!({
            "type": ["number", "string", "null"],
            "minimum": min,
            "maximum": max,
            "pattern": DECIMAL,
            "default": default,
        }),
        Kind::Text {
            default,
            required,
            form,
        } => {
            let schema = json!({
                "type": if *required { json!("string") } else { json!(["string", "null"]) },
                "pattern": form.pattern,
            });
            with_default(schema, default.as_deref())
        }
        Kind::Switch { default } => json!({ "type": ["boolean", "null"], "default": default }),
        Kind::Choice { default, options } => {
            let mut values: Vec<Value> = options.iter().map(|option| json!(option)).collect();
            values.push(Value::Null);
            with_default(json!({ "enum": values }), *default)
        }
        Kind::Object(keys) => object(keys),
        Kind::ByName(keys) => json!({ "type": ["object", "null"], "additionalProperties": object(keys) }),
        Kind::Own(form) => (form.schema)(),
        Kind::Unread { warned: true } => json!({ "deprecated": true }),
        Kind::Unread { warned: false } => json!({}),
    }
}

fn with_default(mut schema: Value, default: Option<impl serde::Serialize>) -> Value {
    if let (Some(default), Value::Object(schema)) = (default, &mut schema) {
        schema.insert("default".to_owned(), json!(default));
    }
    schema
}

fn extend(schema: &mut Map<String, Value>, more: Value) {
    if let Value::Object(more) = more {
        schema.extend(more);
    }
}
