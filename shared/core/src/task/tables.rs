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
    /// `sosw_closed_tasks_labourer_status_index`, default `labourer_task_status_with_time`.
    pub index_closed: String,
    /// `sosw_retry_tasks_table`, default `sosw_retry_tasks`.
    pub retry: String,
    /// `sosw_retry_tasks_greenfield_index`, default `labourer_id_greenfield`.
    pub index_retry: String,
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
    /// When its worker was done with it.
    pub completed_at: String,
    /// When it was closed.
    pub closed_at: String,
    /// Its labourer, and whether it succeeded (`_1`) or failed (`_0`).
    pub labourer_id_task_status: String,
    /// A function, if somebody has written one down: it is passed on to the worker.
    pub arn: String,
    /// When a task in the retry table is due, seconds since 1970.
    pub desired_launch_time: String,
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
            completed_at: "completed_at".to_owned(),
            closed_at: "closed_at".to_owned(),
            labourer_id_task_status: "labourer_id_task_status".to_owned(),
            arn: "arn".to_owned(),
            desired_launch_time: "desired_launch_time".to_owned(),
        }
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            tasks: "sosw_tasks".to_owned(),
            index_greenfield: "sosw_tasks_greenfield".to_owned(),
            closed: "sosw_closed_tasks".to_owned(),
            index_closed: "labourer_task_status_with_time".to_owned(),
            retry: "sosw_retry_tasks".to_owned(),
            index_retry: "labourer_id_greenfield".to_owned(),
            meta: None,
            fields: FieldNames::default(),
        }
    }
}
