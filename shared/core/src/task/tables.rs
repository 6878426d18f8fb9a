//! How the tables and attributes of tasks are called: sosw's names unless configured otherwise.

/// Names of tables, index and attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// `table_name`, default `sosw_tasks`.
    pub tasks: String,
    /// `index_greenfield`, default `sosw_tasks_greenfield`.
    pub index_greenfield: String,
    /// `sosw_closed_tasks_table`, default `sosw_closed_tasks`.
    pub closed: String,
    /// `sosw_retry_tasks_table`, default `sosw_retry_tasks`.
    pub retry: String,
    /// `meta_handler_config`, if `write_meta_to_ddb` is on: the meta table, default `sosw_tasks_meta`.
    pub meta: Option<String>,
    /// `field_names`: how the attributes of a task are called.
    pub fields: FieldNames,
}

/// How the attributes of a task are called in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldNames {
    /// The id of the task, the table's key.
    pub task_id: String,
    /// The worker.
    pub labourer_id: String,
    /// When it was created.
    pub created_at: String,
    /// Its place in the queue.
    pub greenfield: String,
    /// How often it was tried.
    pub attempts: String,
    /// What the worker gets.
    pub payload: String,
}

impl Default for FieldNames {
    fn default() -> Self {
        Self {
            task_id: "task_id".to_owned(),
            labourer_id: "labourer_id".to_owned(),
            created_at: "created_at".to_owned(),
            greenfield: "greenfield".to_owned(),
            attempts: "attempts".to_owned(),
            payload: "payload".to_owned(),
        }
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            tasks: "sosw_tasks".to_owned(),
            index_greenfield: "sosw_tasks_greenfield".to_owned(),
            closed: "sosw_closed_tasks".to_owned(),
            retry: "sosw_retry_tasks".to_owned(),
            meta: None,
            fields: FieldNames::default(),
        }
    }
}
