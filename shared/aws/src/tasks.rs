//! The task table on DynamoDB, in the schema of sosw 0.7: tasks, retry and closed table, and the meta table.
//! What one answer of DynamoDB says about each task is decided in the plain functions at the end.
//!
//! Permissions: `dynamodb:PartiQLInsert` (or `dynamodb:BatchWriteItem`) and `dynamodb:PutItem` on the tasks table,
//! `dynamodb:Query` on its greenfield index, `dynamodb:ConditionCheckItem` on the retry and closed tables,
//! `dynamodb:BatchWriteItem` on the meta table.

use std::collections::{HashMap, HashSet};

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementError, BatchStatementErrorCodeEnum, BatchStatementRequest,
    BatchStatementResponse, CancellationReason, ConditionCheck, Put, PutRequest, TransactWriteItem,
    WriteRequest,
};
use jobmill_core::config::TaskWrites;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::item::Task;
use jobmill_core::task::tables::{FieldNames, Tables};
use jobmill_engine::ports::{Clock, PortError, PortResult};
use jobmill_engine::schedule::ports::{Created, InDoubt, MetaRow, TaskTable};

use crate::clients::DynamoClients;
use crate::error::{is_throttling, of_tables, port_error, refused};
use crate::host::SystemHost;

/// As many items as one batch may have.
const BATCH: usize = 25;

/// What the meta rows of one invocation have in common (sosw's `MetaHandler`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaContext {
    /// The function's name.
    pub author: String,
    /// The request id.
    pub invocation_id: String,
    /// The log stream.
    pub log_stream_name: String,
}

/// The task table of one sosw environment.
#[derive(Debug, Clone)]
pub struct DynamoTasks {
    clients: DynamoClients,
    tables: Tables,
    writes: TaskWrites,
    meta: Option<(String, MetaContext)>,
    /// The text of every insert.
    insert: String,
    /// The tasks table as errors name it.
    named: String,
}

impl DynamoTasks {
    /// Without meta rows.
    ///
    /// `TaskWrites::Insert` is `BatchExecuteStatement` with `INSERT`: an item that is there already stays as it is,
    /// however late the request arrives. `TaskWrites::Overwrite` is `BatchWriteItem`, which replaces what is there: safe
    /// only if every request lands or dies within the request time.
    pub fn new(clients: DynamoClients, tables: Tables, writes: TaskWrites) -> Self {
        let (insert, named) = (insert_statement(&tables), format!("{:?}", tables.tasks));
        Self {
            clients,
            tables,
            writes,
            meta: None,
            insert,
            named,
        }
    }

    /// Writes meta rows too, if the configuration names a table for them.
    #[must_use]
    pub fn with_meta(self, context: MetaContext) -> Self {
        let meta = self.tables.meta.clone().map(|table| (table, context));
        Self { meta, ..self }
    }

    async fn insert(&self, tasks: &[Task]) -> PortResult<Vec<Created>> {
        const OPERATION: &str = INSERT;
        let statements = tasks
            .iter()
            .map(|task| {
                let values = attributes(&self.tables.fields, task).map(|(_, value)| value);
                BatchStatementRequest::builder()
                    .statement(&self.insert)
                    .set_parameters(Some(Vec::from(values)))
                    .build()
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unbuildable(OPERATION, &error))?;
        let answer = self
            .clients
            .once
            .batch_execute_statement()
            .set_statements(Some(statements))
            .send()
            .await
            .map_err(|error| of_tables(&self.named, port_error(OPERATION, error)))?;
        let mut answers = answer.responses.unwrap_or_default().into_iter();
        // A refusal that is not about the task refuses the whole: what was created beside it is found there next time.
        tasks
            .iter()
            .map(|_| judge_statement(answers.next()).map_err(|error| of_tables(&self.named, error)))
            .collect()
    }

    async fn overwrite(&self, tasks: &[Task]) -> PortResult<Vec<Created>> {
        const OPERATION: &str = "dynamodb:BatchWriteItem";
        let requests = tasks
            .iter()
            .map(|task| put_request(self.item(task)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unbuildable(OPERATION, &error))?;
        let answer = self
            .clients
            .once
            .batch_write_item()
            .request_items(&self.tables.tasks, requests)
            .send()
            .await
            .map_err(|error| of_tables(&self.named, port_error(OPERATION, error)))?;
        // Compared by id alone, whatever name (or ARN) the table goes by in the answer.
        let unprocessed = answer.unprocessed_items.unwrap_or_default();
        let unprocessed: HashSet<&String> = unprocessed
            .values()
            .flatten()
            .filter_map(|request| {
                request
                    .put_request()?
                    .item()
                    .get(&self.tables.fields.task_id)?
                    .as_s()
                    .ok()
            })
            .collect();
        let judge = |task: &Task| match unprocessed.contains(&task.task_id) {
            true => Created::Throttled,
            false => Created::Now,
        };
        Ok(tasks.iter().map(judge).collect())
    }

    /// The item of a task.
    fn item(&self, task: &Task) -> HashMap<String, AttributeValue> {
        attributes(&self.tables.fields, task)
            .into_iter()
            .map(|(name, value)| (name.clone(), value))
            .collect()
    }

    /// The three tables of a transaction as errors name them: DynamoDB does not say which one it means.
    fn all_named(&self) -> String {
        let Tables {
            tasks, retry, closed, ..
        } = &self.tables;
        format!("{tasks:?}, {retry:?} or {closed:?}")
    }

    /// One transaction: the item is put, and stands in none of the three tables.
    fn transaction(&self, task: &Task) -> Result<Vec<TransactWriteItem>, BuildError> {
        let fields = &self.tables.fields;
        let id = (fields.task_id.clone(), AttributeValue::S(task.task_id.clone()));
        let labourer = (
            fields.labourer_id.clone(),
            AttributeValue::S(task.labourer_id.clone()),
        );
        // sosw's key of the retry table: partition key labourer, sort key task (`retry_task` in `managers/task.py`
        // deletes by both).
        let retry_key = HashMap::from([labourer, id.clone()]);
        let put = Put::builder()
            .table_name(&self.tables.tasks)
            .set_item(Some(self.item(task)))
            .condition_expression(ABSENT)
            .expression_attribute_names("#id", &fields.task_id)
            .build()?;
        let absent = |table: &str, key: HashMap<String, AttributeValue>| {
            ConditionCheck::builder()
                .table_name(table)
                .set_key(Some(key))
                .condition_expression(ABSENT)
                .expression_attribute_names("#id", &fields.task_id)
                .build()
                .map(|check| TransactWriteItem::builder().condition_check(check).build())
        };
        Ok(vec![
            TransactWriteItem::builder().put(put).build(),
            absent(&self.tables.retry, retry_key)?,
            absent(&self.tables.closed, HashMap::from([id]))?,
        ])
    }
}

impl TaskTable for DynamoTasks {
    async fn newest_greenfield(
        &self,
        labourer_id: &str,
        not_after: Greenfield,
    ) -> PortResult<Option<Greenfield>> {
        const OPERATION: &str = "dynamodb:Query";
        let field = &self.tables.fields.greenfield;
        let answer = self
            .clients
            .retrying
            .query()
            .table_name(&self.tables.tasks)
            .index_name(&self.tables.index_greenfield)
            .key_condition_expression("#labourer = :labourer AND #greenfield <= :latest")
            .expression_attribute_names("#labourer", &self.tables.fields.labourer_id)
            .expression_attribute_names("#greenfield", field)
            .expression_attribute_values(":labourer", AttributeValue::S(labourer_id.to_owned()))
            .expression_attribute_values(":latest", AttributeValue::N(not_after.to_string()))
            .projection_expression("#greenfield")
            .scan_index_forward(false)
            .limit(1)
            .send()
            .await
            .map_err(|error| of_tables(&self.named, port_error(OPERATION, error)))?;
        let Some(item) = answer.items.unwrap_or_default().pop() else {
            return Ok(None);
        };
        let number = item.get(field).and_then(|value| value.as_n().ok());
        match number.and_then(|number| Greenfield::parse(number)) {
            Some(greenfield) => Ok(Some(greenfield)),
            None => {
                let message = format!("the newest task of `{labourer_id}` has no number in `{field}`");
                Err(refused(OPERATION, "InvalidGreenfield", message))
            }
        }
    }

    async fn create(&self, tasks: &[Task]) -> PortResult<Vec<Created>> {
        match self.writes {
            _ if tasks.is_empty() => Ok(Vec::new()),
            TaskWrites::Insert => self.insert(tasks).await,
            TaskWrites::Overwrite => self.overwrite(tasks).await,
        }
    }

    async fn create_in_doubt(&self, task: &Task) -> PortResult<InDoubt> {
        let items = self
            .transaction(task)
            .map_err(|error| unbuildable(TRANSACT, &error))?;
        match self
            .clients
            .once
            .transact_write_items()
            .set_transact_items(Some(items))
            .send()
            .await
        {
            Ok(_) => Ok(InDoubt::Created),
            Err(error) => match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => judge_cancellation(
                    cancelled.cancellation_reasons(),
                    cancelled.message().unwrap_or_default(),
                )
                .map_err(|error| of_tables(&self.all_named(), error)),
                _ => match port_error(TRANSACT, error) {
                    // Some endpoints check the size of an item before they begin the transaction.
                    PortError::Refused { code, message, .. }
                        if code == "ValidationException" && message.contains("Item size") =>
                    {
                        Ok(InDoubt::Refused(format!("{code}: {message}")))
                    }
                    error => Err(of_tables(&self.all_named(), error)),
                },
            },
        }
    }

    async fn record_meta(&self, rows: &[MetaRow]) -> PortResult<()> {
        const OPERATION: &str = "dynamodb:BatchWriteItem";
        let Some((table, context)) = &self.meta else {
            return Ok(());
        };
        // A note for people, never read back by the engine: the machine's clock will do.
        let wall_ms = SystemHost::new().wall_ms();
        let created_at = Greenfield::from_millis(wall_ms).to_string();
        for batch in rows.chunks(BATCH) {
            let requests = batch
                .iter()
                .map(|row| put_request(meta_item(context, row, &created_at)))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| unbuildable(OPERATION, &error))?;
            let answer = self
                .clients
                .retrying
                .batch_write_item()
                .request_items(table, requests)
                .send()
                .await
                .map_err(|error| of_tables(&format!("{table:?}"), port_error(OPERATION, error)))?;
            let left: usize = answer
                .unprocessed_items
                .unwrap_or_default()
                .values()
                .map(Vec::len)
                .sum();
            if left > 0 {
                let message = format!("{left} of {} meta rows were left unwritten", batch.len());
                return Err(PortError::Throttled {
                    operation: OPERATION,
                    message,
                });
            }
        }
        Ok(())
    }
}

const INSERT: &str = "dynamodb:BatchExecuteStatement";
const TRANSACT: &str = "dynamodb:TransactWriteItems";
/// `#id` is the task id, part of each of the three keys, so it is absent exactly when the item is.
const ABSENT: &str = "attribute_not_exists(#id)";

/// The attributes of a new task, in the order of the statement's parameters.
fn attributes<'a>(names: &'a FieldNames, task: &Task) -> [(&'a String, AttributeValue); 6] {
    [
        (&names.task_id, AttributeValue::S(task.task_id.clone())),
        (&names.labourer_id, AttributeValue::S(task.labourer_id.clone())),
        (&names.created_at, AttributeValue::N(task.created_at.clone())),
        (&names.greenfield, AttributeValue::N(task.greenfield.to_string())),
        (&names.attempts, AttributeValue::N("0".to_owned())),
        (&names.payload, AttributeValue::S(task.payload.clone())),
    ]
}

/// `INSERT INTO "table" VALUE {'task_id': ?, ...}`, in the order of [`attributes`].
fn insert_statement(tables: &Tables) -> String {
    let FieldNames {
        task_id,
        labourer_id,
        created_at,
        greenfield,
        attempts,
        payload,
        ..
    } = &tables.fields;
    let fields = [task_id, labourer_id, created_at, greenfield, attempts, payload]
        .map(|name| format!("'{}': ?", name.replace('\'', "''")))
        .join(", ");
    format!(
        "INSERT INTO \"{}\" VALUE {{{fields}}}",
        tables.tasks.replace('"', "\"\"")
    )
}

fn put_request(item: HashMap<String, AttributeValue>) -> Result<WriteRequest, BuildError> {
    let put = PutRequest::builder().set_item(Some(item)).build()?;
    Ok(WriteRequest::builder().put_request(put).build())
}

/// A meta row as sosw's `MetaHandler.post` writes it.
fn meta_item(context: &MetaContext, row: &MetaRow, created_at: &str) -> HashMap<String, AttributeValue> {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    HashMap::from([
        ("task_id".to_owned(), text(&row.task_id)),
        ("labourer_id".to_owned(), text(&row.labourer_id)),
        ("created_at".to_owned(), AttributeValue::N(created_at.to_owned())),
        ("author".to_owned(), text(&context.author)),
        ("invocation_id".to_owned(), text(&context.invocation_id)),
        ("log_stream_name".to_owned(), text(&context.log_stream_name)),
        ("action".to_owned(), text("created")),
    ])
}

/// What one statement's answer says about its task. No answer says nothing.
fn judge_statement(answer: Option<BatchStatementResponse>) -> PortResult<Created> {
    use BatchStatementErrorCodeEnum as Code;
    let Some(answer) = answer else {
        return Ok(Created::Unknown);
    };
    let Some(BatchStatementError { code, message, .. }) = answer.error else {
        return Ok(Created::Now);
    };
    match code {
        Some(Code::DuplicateItem) => Ok(Created::AlreadyThere),
        // A transaction of somebody else is at this very id. It may be the one that creates the task.
        Some(Code::TransactionConflict) => Ok(Created::Unknown),
        Some(Code::ThrottlingError | Code::ProvisionedThroughputExceeded | Code::RequestLimitExceeded) => {
            Ok(Created::Throttled)
        }
        Some(code @ (Code::AccessDenied | Code::ResourceNotFound)) => Err(PortError::Refused {
            operation: INSERT,
            code: code.to_string(),
            message: message.unwrap_or_default(),
        }),
        Some(code @ (Code::ItemCollectionSizeLimitExceeded | Code::ValidationError)) => {
            Ok(Created::Refused(match message {
                Some(message) => format!("{code}: {message}"),
                None => code.to_string(),
            }))
        }
        Some(code) if is_throttling(code.as_str()) => Ok(Created::Throttled),
        _ => Ok(Created::Unknown),
    }
}

/// What a cancelled transaction says about its task: nothing was written, and why.
fn judge_cancellation(reasons: &[CancellationReason], message: &str) -> PortResult<InDoubt> {
    let codes = || {
        reasons
            .iter()
            .filter_map(CancellationReason::code)
            .filter(|code| *code != "None")
    };
    if codes().any(|code| code == "ConditionalCheckFailed") {
        return Ok(InDoubt::AlreadyThere);
    }
    if codes().any(is_throttling) {
        return Err(PortError::Throttled {
            operation: TRANSACT,
            message: message.to_owned(),
        });
    }
    let culprit = reasons
        .iter()
        .find(|reason| reason.code().is_some_and(|code| code != "None"));
    let puts_the_item = reasons
        .first()
        .and_then(CancellationReason::code)
        .is_some_and(|code| code != "None");
    match culprit.and_then(|reason| Some((reason.code()?, reason.message().unwrap_or(message)))) {
        // The first part of the transaction puts the item: what is wrong with it is no trouble of the others.
        Some((code @ ("ValidationError" | "ItemCollectionSizeLimitExceeded"), message)) if puts_the_item => {
            Ok(InDoubt::Refused(format!("{code}: {message}")))
        }
        Some((code, message)) if !code.starts_with("InternalServerError") => {
            Err(refused(TRANSACT, code, message))
        }
        _ => Err(PortError::Unknown {
            operation: TRANSACT,
            message: message.to_owned(),
        }),
    }
}

fn unbuildable(operation: &'static str, error: &BuildError) -> PortError {
    refused(operation, "ConstructionFailure", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_names_table_and_fields() {
        assert_eq!(
            insert_statement(&Tables::default()),
            "INSERT INTO \"sosw_tasks\" VALUE {'task_id': ?, 'labourer_id': ?, 'created_at': ?, 'greenfield': ?, \
             'attempts': ?, 'payload': ?}"
        );
        let fields = FieldNames {
            task_id: "it's".to_owned(),
            ..FieldNames::default()
        };
        let tables = Tables {
            tasks: "a\"b".to_owned(),
            fields,
            ..Tables::default()
        };
        assert!(insert_statement(&tables).starts_with("INSERT INTO \"a\"\"b\" VALUE {'it''s': ?,"));
    }

    #[test]
    fn parameters_stand_in_the_order_of_the_statement() {
        let tables = Tables::default();
        let task = Task {
            task_id: "1".to_owned(),
            labourer_id: "2".to_owned(),
            created_at: "3".to_owned(),
            greenfield: Greenfield::from_nanos(4),
            payload: "{}".to_owned(),
        };
        let statement = insert_statement(&tables);
        let fields: Vec<usize> = attributes(&tables.fields, &task)
            .iter()
            .map(|(name, _)| statement.find(&format!("'{name}'")).unwrap())
            .collect();
        assert!(fields.is_sorted(), "{fields:?}");
    }

    fn judged(code: &str) -> PortResult<Created> {
        let error = BatchStatementError::builder()
            .code(code.into())
            .message("because")
            .build();
        judge_statement(Some(BatchStatementResponse::builder().error(error).build()))
    }

    #[test]
    fn each_statement_has_its_outcome() {
        assert_eq!(
            judge_statement(Some(BatchStatementResponse::builder().build())),
            Ok(Created::Now)
        );
        assert_eq!(judge_statement(None), Ok(Created::Unknown));
        assert_eq!(judged("DuplicateItem"), Ok(Created::AlreadyThere));
        for code in [
            "ThrottlingError",
            "ProvisionedThroughputExceeded",
            "RequestLimitExceeded",
            "ThrottlingException",
        ] {
            assert_eq!(judged(code), Ok(Created::Throttled), "{code}");
        }
        for code in [
            "InternalServerError",
            "ConditionalCheckFailed",
            "TransactionConflict",
            "SomethingNew",
        ] {
            assert_eq!(judged(code), Ok(Created::Unknown), "{code}");
        }
        for code in ["ValidationError", "ItemCollectionSizeLimitExceeded"] {
            assert_eq!(judged(code), Ok(Created::Refused(format!("{code}: because"))));
        }
        for code in ["AccessDenied", "ResourceNotFound"] {
            assert!(matches!(judged(code), Err(PortError::Refused { code: found, .. }) if found == code));
        }
    }

    fn cancelled(codes: [&str; 3]) -> PortResult<InDoubt> {
        let reason = |code: &str| {
            CancellationReason::builder()
                .code(code)
                .message(format!("{code}!"))
                .build()
        };
        judge_cancellation(&codes.map(reason), "cancelled")
    }

    #[test]
    fn a_cancelled_transaction_tells_why() {
        for codes in [
            ["ConditionalCheckFailed", "None", "None"],
            ["None", "ConditionalCheckFailed", "None"],
            ["None", "None", "ConditionalCheckFailed"],
            ["TransactionConflict", "None", "ConditionalCheckFailed"],
        ] {
            assert_eq!(cancelled(codes), Ok(InDoubt::AlreadyThere), "{codes:?}");
        }
        for code in [
            "ThrottlingError",
            "ProvisionedThroughputExceeded",
            "TransactionConflict",
        ] {
            assert!(
                matches!(
                    cancelled(["None", code, "None"]),
                    Err(PortError::Throttled { .. })
                ),
                "{code}"
            );
        }
        assert_eq!(
            cancelled(["ValidationError", "None", "None"]),
            Ok(InDoubt::Refused("ValidationError: ValidationError!".to_owned()))
        );
        assert_eq!(
            cancelled(["AccessDenied", "None", "None"]),
            Err(refused(TRANSACT, "AccessDenied", "AccessDenied!"))
        );
        assert_eq!(
            cancelled(["None", "ValidationError", "None"]),
            Err(refused(TRANSACT, "ValidationError", "ValidationError!")),
            "a retry table with another key is no trouble of this item"
        );
        assert!(matches!(
            judge_cancellation(&[], "cancelled"),
            Err(PortError::Unknown { .. })
        ));
    }
}
