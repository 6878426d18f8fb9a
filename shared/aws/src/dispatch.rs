//! The three tables of tasks on DynamoDB as dispatching sees them: values become requests, answers become values.
//!
//! Permissions: `dynamodb:PartiQLUpdate` (or `dynamodb:UpdateItem`), `dynamodb:GetItem`, `dynamodb:PutItem` and
//! `dynamodb:DeleteItem` on the tasks table, `dynamodb:PutItem`, `dynamodb:DeleteItem` and `dynamodb:ConditionCheckItem` on
//! the retry and closed tables, `dynamodb:Query` on the greenfield index and the one of the retry table.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementError, BatchStatementErrorCodeEnum, BatchStatementRequest,
    BatchStatementResponse, CancellationReason, ConditionCheck, Delete, Put, TransactWriteItem,
};
use futures_util::future::join_all;
use jobmill_core::config::TaskWrites;
use jobmill_core::task::item::MAX_ITEM_BYTES;
use jobmill_core::task::record::{Attribute, Record, bytes_of};
use jobmill_core::task::tables::Tables as Names;
use jobmill_core::task::write::{Index, Page, Range, Table, Test, Update, Write};
use jobmill_engine::dispatch::ports::{Fate, Tables, Transacted, Updated};
use jobmill_engine::ports::{PortError, PortResult};

use crate::clients::DynamoClients;
use crate::error::{is_throttling, of_tables, port_error, refused};

const UPDATE: &str = "dynamodb:BatchExecuteStatement";
const UPDATE_ITEM: &str = "dynamodb:UpdateItem";
const TRANSACT: &str = "dynamodb:TransactWriteItems";
const QUERY: &str = "dynamodb:Query";
const GET: &str = "dynamodb:GetItem";

/// The tables of one sosw environment, for dispatching.
#[derive(Debug, Clone)]
pub struct DynamoTables {
    clients: DynamoClients,
    names: Names,
    writes: TaskWrites,
}

impl DynamoTables {
    /// `TaskWrites::Insert` updates by `BatchExecuteStatement`, one request for all; `TaskWrites::Overwrite`, for endpoints
    /// without PartiQL, by an `UpdateItem` each, side by side. Conditions hold either way.
    pub fn new(clients: DynamoClients, names: Names, writes: TaskWrites) -> Self {
        Self {
            clients,
            names,
            writes,
        }
    }

    fn table(&self, table: Table) -> &str {
        match table {
            Table::Tasks => &self.names.tasks,
            Table::Retry => &self.names.retry,
            Table::Closed => &self.names.closed,
        }
    }

    /// A table as errors name it.
    fn named(&self, table: Table) -> String {
        format!("{:?}", self.table(table))
    }

    /// The three tables as errors name them: DynamoDB does not say which one it means.
    fn all_named(&self) -> String {
        let Names {
            tasks, retry, closed, ..
        } = &self.names;
        format!("{tasks:?}, {retry:?} or {closed:?}")
    }

    async fn update_in_one(&self, updates: &[Update]) -> PortResult<Vec<Updated>> {
        let named = self.named(Table::Tasks);
        let statements = updates
            .iter()
            .map(|update| statement(&self.names, update))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unbuildable(UPDATE, &error))?;
        let answer = self
            .clients
            .once
            .batch_execute_statement()
            .set_statements(Some(statements))
            .send()
            .await
            .map_err(|error| of_tables(&named, port_error(UPDATE, error)))?;
        let mut answers = answer.responses.unwrap_or_default().into_iter();
        // A refusal that is not about the item refuses the whole: what was updated beside it is found when it is read.
        updates
            .iter()
            .map(|_| judge_statement(answers.next()).map_err(|error| of_tables(&named, error)))
            .collect()
    }

    async fn update_item(&self, update: &Update) -> PortResult<Updated> {
        let mut expression = Expression::default();
        let assignments: Vec<String> = update
            .set
            .iter()
            .map(|(name, value)| format!("{} = {}", expression.name(name), expression.value(value)))
            .collect();
        let condition = expression.condition(&update.when);
        let key = AttributeValue::S(update.task_id.clone());
        let answer = self
            .clients
            .once
            .update_item()
            .table_name(&self.names.tasks)
            .key(&self.names.fields.task_id, key)
            .update_expression(format!("SET {}", assignments.join(", ")))
            .set_condition_expression(condition)
            .set_expression_attribute_names(expression.names)
            .set_expression_attribute_values(expression.values)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(Updated::Done),
            Err(error) => judge_update(port_error(UPDATE_ITEM, error))
                .map_err(|error| of_tables(&self.named(Table::Tasks), error)),
        }
    }

    fn part(&self, write: &Write) -> Result<TransactWriteItem, BuildError> {
        let part = TransactWriteItem::builder();
        let mut expression = Expression::default();
        Ok(match write {
            Write::Put { table, record, when } => {
                let condition = expression.condition(when);
                let put = Put::builder()
                    .table_name(self.table(*table))
                    .set_item(Some(to_item(record)))
                    .set_condition_expression(condition)
                    .set_expression_attribute_names(expression.names)
                    .set_expression_attribute_values(expression.values);
                part.put(put.build()?).build()
            }
            Write::Delete { table, key, when } => {
                let condition = expression.condition(when);
                let delete = Delete::builder()
                    .table_name(self.table(*table))
                    .set_key(Some(to_item(key)))
                    .set_condition_expression(condition)
                    .set_expression_attribute_names(expression.names)
                    .set_expression_attribute_values(expression.values);
                part.delete(delete.build()?).build()
            }
            Write::Check { table, key, when } => {
                let condition = expression.condition(when);
                let check = ConditionCheck::builder()
                    .table_name(self.table(*table))
                    .set_key(Some(to_item(key)))
                    .set_condition_expression(condition)
                    .set_expression_attribute_names(expression.names)
                    .set_expression_attribute_values(expression.values);
                part.condition_check(check.build()?).build()
            }
        })
    }
}

impl Tables for DynamoTables {
    async fn read(&self, range: &Range) -> PortResult<Page> {
        let names = &self.names;
        let (table, index, number) = match range.index {
            Index::Queue => (
                Table::Tasks,
                &names.index_greenfield,
                names.fields.greenfield.as_str(),
            ),
            Index::Waiting => (
                Table::Retry,
                &names.index_retry,
                names.fields.desired_launch_time.as_str(),
            ),
        };
        let limit = i32::try_from(range.limit).unwrap_or(i32::MAX);
        let answer = self
            .clients
            .retrying
            .query()
            .table_name(self.table(table))
            .index_name(index)
            .key_condition_expression("#labourer = :labourer AND #number BETWEEN :from AND :to")
            .expression_attribute_names("#labourer", &names.fields.labourer_id)
            .expression_attribute_names("#number", number)
            .expression_attribute_values(":labourer", AttributeValue::S(range.labourer_id.clone()))
            .expression_attribute_values(":from", AttributeValue::N(range.from.to_string()))
            .expression_attribute_values(":to", AttributeValue::N(range.to.to_string()))
            .limit(limit)
            .set_exclusive_start_key(range.after.as_ref().map(to_item))
            .send()
            .await
            .map_err(|error| of_tables(&self.named(table), port_error(QUERY, error)))?;
        let records = answer.items.unwrap_or_default().into_iter();
        let records = records.map(|item| to_record(QUERY, item));
        let next = answer.last_evaluated_key.filter(|key| !key.is_empty());
        Ok(Page {
            records: records.collect::<PortResult<_>>()?,
            next: next.map(|key| to_record(QUERY, key)).transpose()?,
        })
    }

    async fn task(&self, task_id: &str) -> PortResult<Option<Record>> {
        let answer = self
            .clients
            .retrying
            .get_item()
            .table_name(&self.names.tasks)
            .key(&self.names.fields.task_id, AttributeValue::S(task_id.to_owned()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| of_tables(&self.named(Table::Tasks), port_error(GET, error)))?;
        answer.item.map(|item| to_record(GET, item)).transpose()
    }

    async fn update(&self, updates: &[Update]) -> PortResult<Vec<Updated>> {
        if let Some(update) = updates.iter().find(|update| !update.needs_an_item()) {
            let message = format!("the update of {:?} would make an item", update.task_id);
            return Err(refused(UPDATE, "ConstructionFailure", message));
        }
        match self.writes {
            _ if updates.is_empty() => Ok(Vec::new()),
            TaskWrites::Insert => self.update_in_one(updates).await,
            TaskWrites::Overwrite => {
                let answers = join_all(updates.iter().map(|update| self.update_item(update))).await;
                together(answers)
            }
        }
    }

    async fn transact(&self, writes: &[Write]) -> PortResult<Transacted> {
        let items = writes
            .iter()
            .map(|write| self.part(write))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unbuildable(TRANSACT, &error))?;
        let answer = self
            .clients
            .once
            .transact_write_items()
            .set_transact_items(Some(items))
            .send()
            .await;
        let Err(error) = answer else {
            return Ok(Transacted::Done);
        };
        let judged = match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => judge_cancellation(
                cancelled.cancellation_reasons(),
                writes.len(),
                cancelled.message().unwrap_or_default(),
            ),
            _ => match port_error(TRANSACT, error) {
                // Some endpoints check the size of an item before they begin the transaction.
                PortError::Refused { code, message, .. }
                    if code == "ValidationException"
                        && message.contains("Item size")
                        && writes.iter().any(is_too_large) =>
                {
                    let why = format!("{code}: {message}");
                    let fate = |write| match is_too_large(write) {
                        true => Fate::Invalid(why.clone()),
                        false => Fate::Fine,
                    };
                    Ok(Transacted::Refused(writes.iter().map(fate).collect()))
                }
                error => Err(error),
            },
        };
        judged.map_err(|error| of_tables(&self.all_named(), error))
    }
}

fn is_too_large(write: &Write) -> bool {
    matches!(write, Write::Put { record, .. } if bytes_of(record) > MAX_ITEM_BYTES)
}

// -------------------------------------------------------------------------------------------------- expressions

/// Names and values of an expression. All are given by placeholder: any word may be reserved.
#[derive(Debug, Default)]
struct Expression {
    names: Option<HashMap<String, String>>,
    values: Option<HashMap<String, AttributeValue>>,
}

impl Expression {
    fn name(&mut self, name: &str) -> String {
        let names = self.names.get_or_insert_default();
        let placeholder = format!("#n{}", names.len());
        names.insert(placeholder.clone(), name.to_owned());
        placeholder
    }

    fn value(&mut self, value: &Attribute) -> String {
        let values = self.values.get_or_insert_default();
        let placeholder = format!(":v{}", values.len());
        values.insert(placeholder.clone(), to_value(value));
        placeholder
    }

    fn condition(&mut self, when: &[Test]) -> Option<String> {
        let tests = when.iter().map(|test| match test {
            Test::Equals(name, value) => format!("{} = {}", self.name(name), self.value(value)),
            Test::Absent(name) => format!("attribute_not_exists({})", self.name(name)),
        });
        let tests: Vec<String> = tests.collect();
        (!tests.is_empty()).then(|| tests.join(" AND "))
    }
}

/// `UPDATE "table" SET "a"=? WHERE "task_id"=? AND ...`, with its parameters. It never makes an item.
fn statement(names: &Names, update: &Update) -> Result<BatchStatementRequest, BuildError> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let mut text = format!("UPDATE {}", quoted(&names.tasks));
    let mut parameters = Vec::new();
    for (name, value) in &update.set {
        text.push_str(&format!(" SET {}=?", quoted(name)));
        parameters.push(to_value(value));
    }
    text.push_str(&format!(" WHERE {}=?", quoted(&names.fields.task_id)));
    parameters.push(AttributeValue::S(update.task_id.clone()));
    for test in &update.when {
        match test {
            Test::Equals(name, value) => {
                text.push_str(&format!(" AND {}=?", quoted(name)));
                parameters.push(to_value(value));
            }
            Test::Absent(name) => text.push_str(&format!(" AND {} IS MISSING", quoted(name))),
        }
    }
    BatchStatementRequest::builder()
        .statement(text)
        .set_parameters(Some(parameters))
        .build()
}

// ---------------------------------------------------------------------------------------------------- judgements

/// What one statement's answer says about its update. No answer says nothing.
fn judge_statement(answer: Option<BatchStatementResponse>) -> PortResult<Updated> {
    use BatchStatementErrorCodeEnum as Code;
    let Some(answer) = answer else {
        return Ok(Updated::Unknown);
    };
    let Some(BatchStatementError { code, message, .. }) = answer.error else {
        return Ok(Updated::Done);
    };
    match code {
        Some(Code::ConditionalCheckFailed) => Ok(Updated::Refused),
        Some(code @ (Code::AccessDenied | Code::ResourceNotFound)) => {
            Err(refused(UPDATE, code.as_str(), message.unwrap_or_default()))
        }
        Some(code @ (Code::ItemCollectionSizeLimitExceeded | Code::ValidationError)) => {
            Ok(Updated::Invalid(match message {
                Some(message) => format!("{code}: {message}"),
                None => code.to_string(),
            }))
        }
        // A transaction of somebody else at this item counts as such: nothing was changed.
        Some(code) if is_throttling(code.as_str()) => Ok(Updated::Throttled),
        _ => Ok(Updated::Unknown),
    }
}

/// What the error of an `UpdateItem` says about its update.
fn judge_update(error: PortError) -> PortResult<Updated> {
    match error {
        PortError::Throttled { .. } => Ok(Updated::Throttled),
        PortError::Unknown { .. } => Ok(Updated::Unknown),
        PortError::Refused { code, .. } if code == "ConditionalCheckFailedException" => Ok(Updated::Refused),
        // An index that is not there is no trouble of the item; updates name none.
        PortError::Refused { code, message, .. } if code == "ValidationException" => {
            Ok(Updated::Invalid(format!("{code}: {message}")))
        }
        error => Err(error),
    }
}

/// The answers of several requests as that of one. Where none was carried out for one reason, it is said once.
fn together(answers: Vec<PortResult<Updated>>) -> PortResult<Vec<Updated>> {
    let updated = answers.into_iter().collect::<PortResult<Vec<_>>>()?;
    match updated.iter().all(|updated| *updated == Updated::Throttled) {
        true => Err(PortError::Throttled {
            operation: UPDATE_ITEM,
            message: "every update was throttled".to_owned(),
        }),
        false => Ok(updated),
    }
}

/// What a cancelled transaction says about each of its parts: nothing was written, and why.
fn judge_cancellation(reasons: &[CancellationReason], parts: usize, message: &str) -> PortResult<Transacted> {
    let unknown = || {
        Err(PortError::Unknown {
            operation: TRANSACT,
            message: message.to_owned(),
        })
    };
    if reasons.len() != parts {
        return unknown();
    }
    let mut fates = Vec::with_capacity(parts);
    for reason in reasons {
        let said = reason.message().unwrap_or(message);
        fates.push(match reason.code() {
            None | Some("None") => Fate::Fine,
            Some("ConditionalCheckFailed") => Fate::Failed,
            Some(code @ ("ValidationError" | "ItemCollectionSizeLimitExceeded")) => {
                Fate::Invalid(format!("{code}: {said}"))
            }
            Some(code) if is_throttling(code) => Fate::Busy,
            Some(code) if code.starts_with("InternalServerError") => return unknown(),
            Some(code) => return Err(refused(TRANSACT, code, said)),
        });
    }
    // Cancelled for no reason.
    match fates.iter().all(|fate| *fate == Fate::Fine) {
        true => unknown(),
        false => Ok(Transacted::Refused(fates)),
    }
}

fn unbuildable(operation: &'static str, error: &BuildError) -> PortError {
    refused(operation, "ConstructionFailure", error.to_string())
}

// --------------------------------------------------------------------------------------------------------- items

fn to_item(record: &Record) -> HashMap<String, AttributeValue> {
    let value = |(name, value): (&String, &Attribute)| (name.clone(), to_value(value));
    record.iter().map(value).collect()
}

fn to_value(value: &Attribute) -> AttributeValue {
    match value {
        Attribute::S(text) => AttributeValue::S(text.clone()),
        Attribute::N(number) => AttributeValue::N(number.clone()),
        Attribute::Bool(value) => AttributeValue::Bool(*value),
        Attribute::Null => AttributeValue::Null(true),
        Attribute::B(bytes) => AttributeValue::B(Blob::new(bytes.clone())),
        Attribute::M(values) => AttributeValue::M(to_item(values)),
        Attribute::L(values) => AttributeValue::L(values.iter().map(to_value).collect()),
        Attribute::Ss(texts) => AttributeValue::Ss(texts.clone()),
        Attribute::Ns(numbers) => AttributeValue::Ns(numbers.clone()),
        Attribute::Bs(all) => AttributeValue::Bs(all.iter().cloned().map(Blob::new).collect()),
    }
}

fn to_record(operation: &'static str, item: HashMap<String, AttributeValue>) -> PortResult<Record> {
    item.into_iter()
        .map(|(name, value)| match to_attribute(value) {
            Some(value) => Ok((name, value)),
            None => {
                let message = format!("the attribute `{name}` is of a type that nobody here knows");
                Err(refused(operation, "UnknownAttributeType", message))
            }
        })
        .collect()
}

/// None: of a type that DynamoDB has only come to have.
fn to_attribute(value: AttributeValue) -> Option<Attribute> {
    let bytes = Blob::into_inner;
    Some(match value {
        AttributeValue::S(text) => Attribute::S(text),
        AttributeValue::N(number) => Attribute::N(number),
        AttributeValue::Bool(value) => Attribute::Bool(value),
        AttributeValue::Null(_) => Attribute::Null,
        AttributeValue::B(blob) => Attribute::B(bytes(blob)),
        AttributeValue::M(values) => {
            let values = values.into_iter();
            let values = values.map(|(name, value)| Some((name, to_attribute(value)?)));
            Attribute::M(values.collect::<Option<_>>()?)
        }
        AttributeValue::L(values) => {
            Attribute::L(values.into_iter().map(to_attribute).collect::<Option<_>>()?)
        }
        AttributeValue::Ss(texts) => Attribute::Ss(texts),
        AttributeValue::Ns(numbers) => Attribute::Ns(numbers),
        AttributeValue::Bs(all) => Attribute::Bs(all.into_iter().map(bytes).collect()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(when: Vec<Test>) -> Update {
        Update {
            task_id: "t".to_owned(),
            set: vec![
                ("greenfield".to_owned(), Attribute::number(9)),
                ("a\"b".to_owned(), Attribute::number(2)),
            ],
            when,
        }
    }

    #[test]
    fn a_statement_names_its_item_its_values_and_its_condition() {
        let statement = statement(
            &Names::default(),
            &update(vec![
                Test::Equals("attempts".to_owned(), Attribute::number(1)),
                Test::Absent("completed_at".to_owned()),
            ]),
        )
        .unwrap();
        assert_eq!(
            statement.statement(),
            "UPDATE \"sosw_tasks\" SET \"greenfield\"=? SET \"a\"\"b\"=? WHERE \"task_id\"=? AND \"attempts\"=? AND \
             \"completed_at\" IS MISSING"
        );
        let number = |text: &str| AttributeValue::N(text.to_owned());
        let expected = [
            number("9"),
            number("2"),
            AttributeValue::S("t".to_owned()),
            number("1"),
        ];
        assert_eq!(statement.parameters(), expected);
    }

    fn judged(code: &str) -> PortResult<Updated> {
        let error = BatchStatementError::builder()
            .code(code.into())
            .message("because")
            .build();
        judge_statement(Some(BatchStatementResponse::builder().error(error).build()))
    }

    #[test]
    fn each_statement_has_its_outcome() {
        let done = judge_statement(Some(BatchStatementResponse::builder().build()));
        assert_eq!(done, Ok(Updated::Done));
        assert_eq!(judge_statement(None), Ok(Updated::Unknown));
        assert_eq!(judged("ConditionalCheckFailed"), Ok(Updated::Refused));
        for code in [
            "ThrottlingError",
            "ProvisionedThroughputExceeded",
            "RequestLimitExceeded",
            "TransactionConflict",
            "ThrottlingException",
        ] {
            assert_eq!(judged(code), Ok(Updated::Throttled), "{code}");
        }
        for code in ["InternalServerError", "DuplicateItem", "SomethingNew"] {
            assert_eq!(judged(code), Ok(Updated::Unknown), "{code}");
        }
        for code in ["ValidationError", "ItemCollectionSizeLimitExceeded"] {
            assert_eq!(judged(code), Ok(Updated::Invalid(format!("{code}: because"))));
        }
        for code in ["AccessDenied", "ResourceNotFound"] {
            assert!(matches!(judged(code), Err(PortError::Refused { code: found, .. }) if found == code));
        }
    }

    #[test]
    fn each_error_of_a_single_update_has_its_outcome() {
        let code = |code: &str| judge_update(refused(UPDATE_ITEM, code, "because"));
        assert_eq!(code("ConditionalCheckFailedException"), Ok(Updated::Refused));
        assert!(matches!(code("ValidationException"), Ok(Updated::Invalid(_))));
        assert!(code("AccessDeniedException").is_err());
        let throttled = || PortError::Throttled {
            operation: UPDATE_ITEM,
            message: String::new(),
        };
        assert_eq!(judge_update(throttled()), Ok(Updated::Throttled));
        let each = |updated: [Updated; 2]| together(updated.map(Ok).into());
        assert!(matches!(
            each([Updated::Throttled, Updated::Throttled]),
            Err(PortError::Throttled { .. })
        ));
        let mixed = [Updated::Throttled, Updated::Unknown];
        assert_eq!(each(mixed.clone()), Ok(mixed.into()));
    }

    fn cancelled(codes: &[&str]) -> PortResult<Transacted> {
        let reason = |code: &&str| {
            CancellationReason::builder()
                .code(*code)
                .message("because")
                .build()
        };
        let reasons: Vec<CancellationReason> = codes.iter().map(reason).collect();
        judge_cancellation(&reasons, 2, "cancelled")
    }

    #[test]
    fn a_cancelled_transaction_tells_the_fate_of_each_part() {
        let fates = |one, other| Ok(Transacted::Refused(vec![one, other]));
        assert_eq!(
            cancelled(&["None", "ConditionalCheckFailed"]),
            fates(Fate::Fine, Fate::Failed)
        );
        assert_eq!(
            cancelled(&["TransactionConflict", "ThrottlingError"]),
            fates(Fate::Busy, Fate::Busy)
        );
        assert_eq!(
            cancelled(&["ValidationError", "ConditionalCheckFailed"]),
            fates(Fate::Invalid("ValidationError: because".to_owned()), Fate::Failed)
        );
        assert_eq!(
            cancelled(&["None", "AccessDenied"]),
            Err(refused(TRANSACT, "AccessDenied", "because"))
        );
        for nothing in [
            cancelled(&["None", "None"]),
            cancelled(&["ConditionalCheckFailed"]),
            cancelled(&["None", "InternalServerError"]),
        ] {
            assert!(matches!(nothing, Err(PortError::Unknown { .. })), "{nothing:?}");
        }
    }
}
