//! The tables of sosw. Their one definition is `infra/localstack/tables`: a CreateTable request each, under sosw's
//! names, which an end-to-end test compares with the template of the deployment.

use jobmill_core::task::tables::Tables;
use serde_json::Value;

const TASKS: &str = include_str!("../../../../infra/localstack/tables/sosw_tasks.json");
const CLOSED: &str = include_str!("../../../../infra/localstack/tables/sosw_closed_tasks.json");
const RETRY: &str = include_str!("../../../../infra/localstack/tables/sosw_retry_tasks.json");
const META: &str = include_str!("../../../../infra/localstack/tables/sosw_tasks_meta.json");

/// The CreateTable requests, in DynamoDB's JSON, of the tables that a configuration names.
///
/// # Errors
/// If a definition is not JSON.
pub fn table_definitions(names: &Tables) -> serde_json::Result<Vec<Value>> {
    let fields = &names.fields;
    let called = [
        ("sosw_tasks", &names.tasks),
        ("sosw_tasks_greenfield", &names.index_greenfield),
        ("sosw_closed_tasks", &names.closed),
        ("sosw_retry_tasks", &names.retry),
        ("labourer_task_status_with_time", &names.index_closed),
        ("labourer_id_greenfield", &names.index_retry),
        ("task_id", &fields.task_id),
        ("labourer_id", &fields.labourer_id),
        ("greenfield", &fields.greenfield),
        ("attempts", &fields.attempts),
        ("completed_at", &fields.completed_at),
        ("closed_at", &fields.closed_at),
        ("labourer_id_task_status", &fields.labourer_id_task_status),
    ];
    let mut definitions = Vec::new();
    for text in [TASKS, CLOSED, RETRY] {
        definitions.push(renamed(serde_json::from_str(text)?, &called));
    }
    // The fields of the meta table are called as sosw calls them, whatever is configured.
    if let Some(meta) = &names.meta {
        definitions.push(renamed(serde_json::from_str(META)?, &[("sosw_tasks_meta", meta)]));
    }
    Ok(definitions)
}

/// The same with other names.
fn renamed(value: Value, called: &[(&str, &String)]) -> Value {
    match value {
        Value::String(text) => {
            let found = called.iter().find(|(name, _)| *name == text);
            Value::String(found.map_or(text, |(_, other)| (*other).clone()))
        }
        Value::Array(values) => values.into_iter().map(|value| renamed(value, called)).collect(),
        Value::Object(entries) => entries
            .into_iter()
            .map(|(key, value)| (key, renamed(value, called)))
            .collect(),
        other => other,
    }
}
