//! The tables of sosw, as its CloudFormation template (`sosw-dev-shared-dynamodb.yaml`) defines them.

use serde_json::{Value, json};

/// Names of the four task tables, of their indexes and of the attributes that are keys. The default is sosw's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskTables {
    /// Waiting and running tasks: hash key `task_id`.
    pub tasks: String,
    /// Index of `tasks`: hash key `labourer_id`, range key `greenfield`, all attributes.
    pub tasks_greenfield_index: String,
    /// Finished tasks: hash key `task_id`.
    pub closed: String,
    /// Index of `closed`: hash key `labourer_id_task_status`, range key `closed_at`.
    pub closed_status_index: String,
    /// Tasks to try again: hash key `labourer_id`, range key `task_id`.
    pub retry: String,
    /// Local index of `retry`: hash key `labourer_id`, range key `desired_launch_time`, all attributes.
    pub retry_launch_index: String,
    /// What happened to tasks: hash key `task_id`, range key `created_at`.
    pub meta: String,
    /// The attribute `task_id` (S).
    pub task_id: String,
    /// The attribute `labourer_id` (S).
    pub labourer_id: String,
    /// The attribute `greenfield` (N).
    pub greenfield: String,
    /// Write units per second that the tasks table and its index say they have; none: on demand. Nothing is held
    /// to it: see [`crate::Faults::limit_writes`].
    pub provisioned_writes: Option<u64>,
}

impl Default for TaskTables {
    fn default() -> Self {
        Self {
            tasks: "sosw_tasks".to_owned(),
            tasks_greenfield_index: "sosw_tasks_greenfield".to_owned(),
            closed: "sosw_closed_tasks".to_owned(),
            closed_status_index: "labourer_task_status_with_time".to_owned(),
            retry: "sosw_retry_tasks".to_owned(),
            retry_launch_index: "labourer_id_greenfield".to_owned(),
            meta: "sosw_tasks_meta".to_owned(),
            task_id: "task_id".to_owned(),
            labourer_id: "labourer_id".to_owned(),
            greenfield: "greenfield".to_owned(),
            provisioned_writes: None,
        }
    }
}

impl TaskTables {
    /// The CreateTable requests.
    pub(crate) fn definitions(&self) -> Vec<Value> {
        let (task, labourer, greenfield) = (&*self.task_id, &*self.labourer_id, &*self.greenfield);
        let mut tasks = table(
            &self.tasks,
            &[(task, "S"), (labourer, "S"), (greenfield, "N")],
            &[task],
        );
        let mut tasks_index = index(
            &self.tasks_greenfield_index,
            &[labourer, greenfield],
            json!({"ProjectionType": "ALL"}),
        );
        if let Some(units) = self.provisioned_writes {
            let throughput = json!({ "ReadCapacityUnits": units, "WriteCapacityUnits": units });
            set(&mut tasks, "BillingMode", json!("PROVISIONED"));
            set(&mut tasks, "ProvisionedThroughput", throughput.clone());
            set(&mut tasks_index, "ProvisionedThroughput", throughput);
        }
        set(&mut tasks, "GlobalSecondaryIndexes", json!([tasks_index]));

        let closed_keys = [(task, "S"), ("labourer_id_task_status", "S"), ("closed_at", "N")];
        let mut closed = table(&self.closed, &closed_keys, &[task]);
        let projection = json!({
            "ProjectionType": "INCLUDE",
            "NonKeyAttributes": ["completed_at", greenfield, "attempts"],
        });
        let closed_index = index(
            &self.closed_status_index,
            &["labourer_id_task_status", "closed_at"],
            projection,
        );
        set(&mut closed, "GlobalSecondaryIndexes", json!([closed_index]));

        let retry_keys = [(labourer, "S"), (task, "S"), ("desired_launch_time", "N")];
        let mut retry = table(&self.retry, &retry_keys, &[labourer, task]);
        let projection = json!({"ProjectionType": "ALL"});
        let retry_index = index(
            &self.retry_launch_index,
            &[labourer, "desired_launch_time"],
            projection,
        );
        set(&mut retry, "LocalSecondaryIndexes", json!([retry_index]));

        let meta = table(
            &self.meta,
            &[(task, "S"), ("created_at", "N")],
            &[task, "created_at"],
        );
        vec![tasks, closed, retry, meta]
    }
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

fn keys(names: &[&str]) -> Vec<Value> {
    let types = ["HASH", "RANGE"];
    names
        .iter()
        .zip(types)
        .map(|(name, kind)| json!({ "AttributeName": name, "KeyType": kind }))
        .collect()
}

fn table(name: &str, attributes: &[(&str, &str)], key: &[&str]) -> Value {
    let attributes: Vec<_> = attributes
        .iter()
        .map(|(name, kind)| json!({ "AttributeName": name, "AttributeType": kind }))
        .collect();
    json!({
        "TableName": name,
        "AttributeDefinitions": attributes,
        "KeySchema": keys(key),
        "BillingMode": "PAY_PER_REQUEST",
    })
}

fn index(name: &str, key: &[&str], projection: Value) -> Value {
    json!({ "IndexName": name, "KeySchema": keys(key), "Projection": projection })
}
