//! A configuration for a job that has none: its labourer, and the attributes that it seems to be split by.

use std::collections::HashSet;

use jobmill_core::config::{Config, DEFAULT_SCHEMA};
use jobmill_core::job::event::{self, Request};
use jobmill_core::job::fields::function_name;
use jobmill_core::job::schema::MAX_ATTRIBUTES;
use jobmill_core::json::Document;
use serde_json::{Map, Value, json};

type Job = Map<String, Value>;

/// The smallest configuration for that event, as text to be saved, and whether it was made from the job.
pub(crate) fn for_event(event: Option<Document>) -> (String, bool) {
    let job = event.and_then(|event| match event::read(event) {
        Ok(Request::Job(request)) => Some(request.job.to_map()),
        _ => None,
    });
    let labourer = job.as_ref().and_then(labourer_of);
    let (Some(job), Some(labourer)) = (job, labourer) else {
        return (
            text(
                "my_worker",
                DEFAULT_SCHEMA,
                &[json!(["section", {}]), json!(["store", {}])],
            ),
            false,
        );
    };
    let schema = match job.get("job_schema_name") {
        Some(Value::String(name)) if !name.is_empty() => name,
        _ => DEFAULT_SCHEMA,
    };
    let found = text(&labourer, schema, &attributes_of(&job));
    // A guess that would be refused helps nobody.
    if Config::parse(&found).is_ok() {
        (found, true)
    } else {
        (text(&labourer, schema, &[]), true)
    }
}

fn labourer_of(job: &Job) -> Option<String> {
    job.get("lambda_name")
        .and_then(Value::as_str)
        .and_then(function_name)
        .map(str::to_owned)
}

fn text(labourer: &str, schema: &str, attributes: &[Value]) -> String {
    let list: Vec<String> = attributes.iter().map(spaced).collect();
    let attributes = format!("{{\"chunkable_attrs\": [{}]}}", list.join(", "));
    let schema = if schema == DEFAULT_SCHEMA {
        format!("\"job_schema\": {attributes}")
    } else {
        format!("\"job_schema_variants\": {{{}: {attributes}}}", json!(schema))
    };
    format!(
        "{{\n  \"queue_bucket\": \"my-queue-bucket\",\n  {schema},\n  \"task_config\": {{\"labourers\": {{{}: {{}}}}}}\n}}",
        json!(labourer)
    )
}

/// `["category", {"plural": "categories"}]`, as people write it.
fn spaced(attribute: &Value) -> String {
    let plural = attribute
        .pointer("/1/plural")
        .map(|plural| format!("\"plural\": {plural}"));
    let name = attribute.get(0).unwrap_or(&Value::Null);
    format!("[{name}, {{{}}}]", plural.unwrap_or_default())
}

/// Level by level, outermost first: the key that a flag names, or whose values hold objects.
fn attributes_of(job: &Job) -> Vec<Value> {
    let mut flagged = HashSet::new();
    collect_flags(job, &mut flagged);
    let mut attributes = Vec::new();
    let mut level: Vec<&Job> = vec![job];
    while attributes.len() < MAX_ATTRIBUTES {
        let Some(key) = key_of_level(&level, &flagged) else {
            break;
        };
        attributes.push(attribute(key));
        level = level
            .iter()
            .filter_map(|object| object.get(key))
            .flat_map(entries)
            .collect();
    }
    attributes
}

fn key_of_level<'a>(level: &[&'a Job], flagged: &HashSet<&str>) -> Option<&'a str> {
    let candidates = || level.iter().flat_map(|object| object.iter());
    let is_flagged =
        |key: &str| flagged.contains(key) || key.strip_suffix('s').is_some_and(|name| flagged.contains(name));
    let splittable = |value: &Value| value.is_array() || value.is_object() || value.is_string();
    let nested = |value: &Value| entries(value).next().is_some();
    let find = |wanted: &dyn Fn(&str, &Value) -> bool| {
        candidates()
            .find(|(key, value)| wanted(key, value))
            .map(|(key, _)| key.as_str())
    };
    find(&|key, value| is_flagged(key) && nested(value))
        // Something flagged lies deeper inside.
        .or_else(|| find(&|_, value| nested(value) && entries(value).any(|entry| holds(entry, &is_flagged))))
        .or_else(|| find(&|key, value| is_flagged(key) && splittable(value)))
}

fn holds(object: &Job, is_flagged: &dyn Fn(&str) -> bool) -> bool {
    object
        .iter()
        .any(|(key, value)| is_flagged(key) || entries(value).any(|entry| holds(entry, is_flagged)))
}

/// The objects that are values of entries of an object, or of objects in a list.
fn entries(value: &Value) -> impl Iterator<Item = &Job> {
    let items = match value {
        Value::Array(items) => items.as_slice(),
        other => std::slice::from_ref(other),
    };
    items
        .iter()
        .filter_map(Value::as_object)
        .flat_map(Map::values)
        .filter_map(Value::as_object)
}

/// The words of `isolate_...` and `max_..._per_batch`, anywhere in the job.
fn collect_flags<'a>(object: &'a Job, words: &mut HashSet<&'a str>) {
    for (key, value) in object {
        let isolated = key.strip_prefix("isolate_");
        let bounded = || {
            key.strip_prefix("max_")
                .and_then(|rest| rest.strip_suffix("_per_batch"))
        };
        words.extend(isolated.or_else(bounded).filter(|word| *word != "days"));
        entries(value).for_each(|entry| collect_flags(entry, words));
    }
}

fn attribute(key: &str) -> Value {
    let name = key.trim_end_matches('s');
    let (name, plural) = match key.strip_suffix("ies") {
        Some(stem) if !stem.is_empty() => (format!("{stem}y"), Some(key)),
        _ if key.ends_with('s') && format!("{name}s") != key => (name.to_owned(), Some(key)),
        _ => (name.to_owned(), None),
    };
    match plural {
        Some(plural) => json!([name, { "plural": plural }]),
        None => json!([name, {}]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggested(event: Value) -> Value {
        let (text, known) = for_event(Some(event.into()));
        assert!(known);
        Config::parse(&text).expect("the suggestion is a configuration");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_labourer_and_the_levels_down_to_the_deepest_flag() {
        let config = suggested(json!({
            "lambda_name": "arn:aws:lambda:eu-west-1:123456789012:function:report:live",
            "isolate_products": true,
            "settings": {"a": {"b": 1}},
            "sections": {"dairy": {"stores": {"s1": {"products": ["milk"]}, "s2": null}}},
        }));
        assert_eq!(
            config["job_schema"],
            json!({"chunkable_attrs": [["section", {}], ["store", {}], ["product", {}]]})
        );
        assert_eq!(config["task_config"]["labourers"], json!({"report": {}}));
    }

    #[test]
    fn plurals_that_are_no_s_are_spelled_out() {
        let config = suggested(json!({
            "job": {"lambda_name": "f", "max_categories_per_batch": 2, "categories": ["a"], "job_schema_name": "by \"x\""}
        }));
        assert_eq!(
            config["job_schema_variants"],
            json!({"by \"x\"": {"chunkable_attrs": [["category", {"plural": "categories"}]]}})
        );
        let config = suggested(json!({"lambda_name": "f", "isolate_address": "yes", "address": ["a"]}));
        assert_eq!(
            config["job_schema"]["chunkable_attrs"],
            json!([["addre", {"plural": "address"}]])
        );
    }

    #[test]
    fn a_guess_that_would_be_refused_is_left_out() {
        let config = suggested(json!({"lambda_name": "f", "isolate_day": true, "day": ["a"]}));
        assert_eq!(config["job_schema"]["chunkable_attrs"], json!([]));
        let config = suggested(json!({"lambda_name": "f", "isolate_": true, "s": ["a"], "": ["b"]}));
        assert_eq!(config["job_schema"]["chunkable_attrs"], json!([]));
    }

    #[test]
    fn without_a_job_the_example_is_general_and_right() {
        for event in [
            None,
            Some(json!([])),
            Some(json!({"lambda_name": 1})),
            Some(json!({"sweep": true})),
        ] {
            let (text, known) = for_event(event.map(Document::from));
            assert!(!known);
            Config::parse(&text).expect("the example is a configuration");
        }
    }
}
