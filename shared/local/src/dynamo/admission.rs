//! Which part of a DynamoDB request gets through: throttling by rule or by a table's write rate, and unprocessed
//! items. What is refused is answered as DynamoDB answers it; the rest goes on, and the two answers are merged.

use ::http::{Response, StatusCode, header};
use bytes::Bytes;
use s3s::Body;
use serde_json::{Map, Value, json};

use super::{JSON, error_body};
use crate::faults::{Effect, Faults};
use crate::http::{Aborted, answer, collect};
use crate::stats::Stats;

/// The operations that cost write units.
const WRITES: [&str; 6] = [
    "PutItem",
    "UpdateItem",
    "DeleteItem",
    "BatchWriteItem",
    "BatchExecuteStatement",
    "TransactWriteItems",
];
const EXCEEDED: &str = "ProvisionedThroughputExceededException";
const EXCEEDED_MESSAGE: &str = "The level of configured provisioned throughput for the table was exceeded. Consider \
                                increasing your provisioning level with the UpdateTable API.";
const THROTTLED_MESSAGE: &str = "Throughput exceeds the current capacity of your table or index.";

/// What becomes of a request.
pub(super) enum Admission {
    /// It goes on as it is.
    All,
    /// It ends here.
    None(Response<Body>),
    /// A part goes on; the answer to it is to be merged with the rest.
    Some {
        /// The part that goes on.
        request: String,
        /// What is said about the others.
        rest: Rest,
    },
}

/// What is said about the items that did not get through.
pub(super) enum Rest {
    /// BatchWriteItem: by table.
    Unprocessed(Map<String, Value>),
    /// BatchExecuteStatement: an answer for each refused statement, in its place; `None` for those that went on.
    Statements(Vec<Option<Value>>),
}

impl Rest {
    /// Adds the rest to the answer that the other part got.
    pub(super) async fn merge(self, response: Response<Body>) -> Result<Response<Body>, Aborted> {
        if !response.status().is_success() {
            return Ok(response);
        }
        let (mut parts, body) = response.into_parts();
        let body = collect(body).await?;
        let mut answer: Value = serde_json::from_slice(&body).map_err(|_| Aborted)?;
        let object = answer.as_object_mut().ok_or(Aborted)?;
        match self {
            Self::Unprocessed(rest) => {
                let all = object.entry("UnprocessedItems").or_insert_with(|| json!({}));
                let all = all.as_object_mut().ok_or(Aborted)?;
                for (table, mut requests) in rest {
                    match (
                        all.get_mut(&table).and_then(Value::as_array_mut),
                        requests.as_array_mut(),
                    ) {
                        (Some(known), Some(requests)) => known.append(requests),
                        _ => drop(all.insert(table, requests)),
                    }
                }
            }
            Self::Statements(rest) => {
                let done = object
                    .get_mut("Responses")
                    .and_then(Value::as_array_mut)
                    .map(std::mem::take);
                let mut done = done.unwrap_or_default().into_iter();
                let merged: Vec<Value> = rest
                    .into_iter()
                    .filter_map(|refused| refused.or_else(|| done.next()))
                    .collect();
                object.insert("Responses".to_owned(), Value::Array(merged));
            }
        }
        // Both describe the body before the merge.
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.remove("x-amz-crc32");
        Ok(Response::from_parts(parts, Body::from(answer.to_string())))
    }
}

/// Decides how much of a request reaches the tables.
pub(super) struct Gate<'a> {
    /// What a rule says about this request.
    pub(super) effect: Option<&'a Effect>,
    /// Chance, and the write rates of tables.
    pub(super) faults: &'a Faults,
    /// Where what is throttled is counted.
    pub(super) stats: &'a Stats,
}

impl Gate<'_> {
    /// Decides what becomes of a request. A body that is not what the operation expects goes on, to be refused there.
    pub(super) fn admit(&self, operation: &str, body: &Bytes) -> Admission {
        if !WRITES.contains(&operation) {
            return self.all_or_none(!self.always());
        }
        let Ok(request) = serde_json::from_slice::<Value>(body) else {
            return Admission::All;
        };
        match operation {
            "BatchWriteItem" => self.batch_write(request),
            "BatchExecuteStatement" => self.batch_execute(request),
            "TransactWriteItems" => self.transact_write(&request),
            _ => {
                let units = units(request.get("Item").map_or(0, item_size));
                self.all_or_none(self.passes(text(&request, "TableName"), units))
            }
        }
    }

    fn all_or_none(&self, passes: bool) -> Admission {
        if passes { Admission::All } else { self.exceeded(1) }
    }

    fn always(&self) -> bool {
        self.effect == Some(&Effect::Throttle)
    }

    fn passes(&self, table: &str, units: f64) -> bool {
        !self.always() && self.faults.take_units(table, units)
    }

    /// Whether an item of a batch is left over by chance.
    fn left_over(&self) -> bool {
        matches!(self.effect, Some(Effect::Unprocessed(share)) if self.faults.random().unit() < *share)
    }

    fn exceeded(&self, items: usize) -> Admission {
        self.stats.throttled(items);
        let body = error_body(EXCEEDED, EXCEEDED_MESSAGE);
        Admission::None(answer(StatusCode::BAD_REQUEST, JSON, body))
    }

    fn batch_write(&self, mut request: Value) -> Admission {
        let Some(tables) = request.get_mut("RequestItems").and_then(Value::as_object_mut) else {
            return Admission::All;
        };
        let mut rest = Map::new();
        let (mut admitted, mut throttled, mut left_over) = (0, 0, 0);
        for (table, requests) in tables.iter_mut() {
            let Some(requests) = requests.as_array_mut() else {
                return Admission::All;
            };
            let mut refused = Vec::new();
            requests.retain_mut(|item| {
                let size = item.pointer("/PutRequest/Item").map_or(0, item_size);
                let chance = self.left_over();
                if !chance && self.passes(table, units(size)) {
                    admitted += 1;
                    return true;
                }
                left_over += usize::from(chance);
                throttled += usize::from(!chance);
                refused.push(item.take());
                false
            });
            if !refused.is_empty() {
                rest.insert(table.clone(), Value::Array(refused));
            }
        }
        tables.retain(|_, requests| requests.as_array().is_some_and(|requests| !requests.is_empty()));
        if rest.is_empty() {
            return Admission::All;
        }
        if admitted == 0 && left_over == 0 {
            // Nothing at all could be processed: DynamoDB answers with an error, not with a list.
            return self.exceeded(throttled);
        }
        self.stats.throttled(throttled);
        if admitted == 0 {
            let body = json!({ "UnprocessedItems": rest }).to_string();
            return Admission::None(answer(StatusCode::OK, JSON, body));
        }
        Admission::Some {
            request: request.to_string(),
            rest: Rest::Unprocessed(rest),
        }
    }

    fn batch_execute(&self, mut request: Value) -> Admission {
        let Some(statements) = request.get_mut("Statements").and_then(Value::as_array_mut) else {
            return Admission::All;
        };
        let mut answers = Vec::with_capacity(statements.len());
        statements.retain(|statement| {
            let passes = match written_table(text(statement, "Statement")) {
                Some(table) => !self.left_over() && self.passes(table, statement_units(statement)),
                None => !self.always() && !self.left_over(),
            };
            answers
                .push((!passes).then(
                    || json!({ "Error": { "Code": "ThrottlingError", "Message": THROTTLED_MESSAGE } }),
                ));
            passes
        });
        let refused: Vec<Value> = answers.iter().flatten().cloned().collect();
        if refused.is_empty() {
            return Admission::All;
        }
        self.stats.throttled(refused.len());
        if statements.is_empty() {
            let body = json!({ "Responses": refused }).to_string();
            return Admission::None(answer(StatusCode::OK, JSON, body));
        }
        Admission::Some {
            request: request.to_string(),
            rest: Rest::Statements(answers),
        }
    }

    /// A transaction gets through whole or not at all; its writes cost two units for one.
    fn transact_write(&self, request: &Value) -> Admission {
        let Some(items) = request.get("TransactItems").and_then(Value::as_array) else {
            return Admission::All;
        };
        let passed: Vec<bool> = items
            .iter()
            .map(|item| {
                let Some((kind, action)) = item.as_object().and_then(|item| item.iter().next()) else {
                    return true;
                };
                let table = text(action, "TableName");
                let size = action.get("Item").map_or(0, item_size);
                if kind == "ConditionCheck" {
                    !self.always()
                } else {
                    self.passes(table, 2.0 * units(size))
                }
            })
            .collect();
        let throttled = passed.iter().filter(|passed| !**passed).count();
        if throttled == 0 {
            return Admission::All;
        }
        self.stats.throttled(throttled);
        let codes: Vec<&str> = passed
            .iter()
            .map(|passed| if *passed { "None" } else { "ThrottlingError" })
            .collect();
        let reasons: Vec<Value> = passed
            .iter()
            .map(|passed| {
                if *passed {
                    json!({ "Code": "None" })
                } else {
                    json!({ "Code": "ThrottlingError", "Message": THROTTLED_MESSAGE })
                }
            })
            .collect();
        let message = format!(
            "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]",
            codes.join(", ")
        );
        let body = json!({
            "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
            "Message": message,
            "CancellationReasons": reasons,
        });
        Admission::None(answer(StatusCode::BAD_REQUEST, JSON, body.to_string()))
    }
}

/// A text of a request; empty if it is not there.
fn text<'a>(request: &'a Value, key: &str) -> &'a str {
    request.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The table that a PartiQL statement writes to; none for a SELECT.
fn written_table(statement: &str) -> Option<&str> {
    let mut words = statement.split_whitespace();
    let verb = words.next()?;
    let table = match verb.to_ascii_uppercase().as_str() {
        "INSERT" | "DELETE" => words.nth(1)?,
        "UPDATE" => words.next()?,
        _ => return None,
    };
    let table = table.strip_prefix('"').unwrap_or(table);
    Some(table.split('"').next().unwrap_or(table))
}

/// The write units of a statement: its parameters and its text are about its item.
fn statement_units(statement: &Value) -> f64 {
    let parameters = statement.get("Parameters").and_then(Value::as_array);
    let parameters: usize = parameters.map_or(0, |parameters| parameters.iter().map(value_size).sum());
    units(text(statement, "Statement").len() + parameters)
}

fn units(size: usize) -> f64 {
    size.div_ceil(1024).max(1) as f64
}

/// The size of an item as DynamoDB counts it: names and values.
fn item_size(item: &Value) -> usize {
    item.as_object().map_or(0, |item| {
        item.iter()
            .map(|(name, value)| name.len() + value_size(value))
            .sum()
    })
}

fn value_size(value: &Value) -> usize {
    let Some((kind, value)) = value.as_object().and_then(|value| value.iter().next()) else {
        return 0;
    };
    match (kind.as_str(), value) {
        ("N", Value::String(digits)) => digits.len().div_ceil(2) + 1,
        ("B", Value::String(base64)) => base64.len() / 4 * 3,
        (_, Value::String(text)) => text.len(),
        ("L", Value::Array(values)) => 3 + values.iter().map(|value| 1 + value_size(value)).sum::<usize>(),
        (_, Value::Array(values)) => values.iter().filter_map(Value::as_str).map(str::len).sum(),
        ("M", Value::Object(values)) => {
            3 + values
                .iter()
                .map(|(name, value)| 1 + name.len() + value_size(value))
                .sum::<usize>()
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_a_write_is_read_from_the_statement() {
        assert_eq!(
            written_table(r#"INSERT INTO "sosw_tasks" VALUE {'task_id': ?}"#),
            Some("sosw_tasks")
        );
        assert_eq!(written_table("insert into tasks value {'a': 1}"), Some("tasks"));
        assert_eq!(written_table(r#"UPDATE "tasks" SET a = 1"#), Some("tasks"));
        assert_eq!(written_table(r#"DELETE FROM "tasks" WHERE a = 1"#), Some("tasks"));
        assert_eq!(written_table(r#"SELECT * FROM "tasks""#), None);
    }

    #[test]
    fn an_item_costs_a_unit_for_each_kilobyte_begun() {
        assert_eq!(units(0), 1.0);
        assert_eq!(units(1024), 1.0);
        assert_eq!(units(1025), 2.0);
        let item = json!({ "id": { "S": "abc" }, "n": { "N": "1234" }, "m": { "M": { "k": { "S": "v" } } } });
        assert_eq!(item_size(&item), (2 + 3) + (1 + 3) + (1 + 3 + 1 + 1 + 1));
    }
}
