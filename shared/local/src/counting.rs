//! A DynamoDB that keeps nothing of a task but its id: for jobs of many millions of tasks, and for measuring what the
//! writer costs. It answers after a fixed time, takes everything, and knows every id that it was ever given.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use s3s::Body;

use crate::clock;
use crate::dynamo::{DynamoEndpoint, JSON, error_body};
use crate::error::LocalError;
use crate::http::{Aborted, OwnThread, answer, collect};
use crate::service::Endpoint as _;

/// A tasks table that counts. It serves the requests that create tasks (`BatchExecuteStatement` with an `INSERT`,
/// `TransactWriteItems`), and finds nothing when it is queried. Stops when it is dropped.
#[derive(Debug)]
pub struct CountingTable {
    served: OwnThread,
    counts: Arc<Mutex<Counts>>,
}

/// What a counting table has seen.
#[derive(Debug, Default)]
struct Counts {
    ids: HashSet<u128, BuildHasherDefault<IdHasher>>,
    again: u64,
    batches: u64,
    transactions: u64,
    /// How many tasks are taken at most.
    limit: Option<u64>,
    first_asked: Option<Instant>,
    first_created: Option<Instant>,
    last_created: Option<Instant>,
}

/// What a counting table has seen since it was started; the moments count from the last [`CountingTable::mark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountingStats {
    /// Different tasks created.
    pub created: u64,
    /// Tasks that came once more; each was answered as a duplicate.
    pub again: u64,
    /// Requests of many tasks.
    pub batches: u64,
    /// Requests of one task in doubt.
    pub transactions: u64,
    /// When it was first asked to create one.
    pub first_asked: Option<Instant>,
    /// When the first one was created.
    pub first_created: Option<Instant>,
    /// When the last one was.
    pub last_created: Option<Instant>,
}

/// Ids are digests already: their low half is as good a hash as any.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = id as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl CountingTable {
    /// Starts a table, on a thread of its own, that answers each request after `latency`.
    ///
    /// # Errors
    /// `Io` if no port or thread is to be had.
    pub fn start(latency: Duration) -> Result<Self, LocalError> {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let seen = Arc::clone(&counts);
        let handler = move |request| respond(request, Arc::clone(&seen), latency);
        let served = OwnThread::serve("counting-table", handler)?;
        Ok(Self { served, counts })
    }

    /// Where it serves, for `AWS_ENDPOINT_URL_DYNAMODB`.
    pub fn endpoint(&self) -> &str {
        self.served.endpoint()
    }

    /// What it has seen.
    pub fn stats(&self) -> CountingStats {
        let counts = lock(&self.counts);
        CountingStats {
            created: counts.ids.len() as u64,
            again: counts.again,
            batches: counts.batches,
            transactions: counts.transactions,
            first_asked: counts.first_asked,
            first_created: counts.first_created,
            last_created: counts.last_created,
        }
    }

    /// Takes at most so many tasks in all, and throttles the rest. `None`, the default: takes every task.
    pub fn limit(&self, tasks: Option<u64>) {
        lock(&self.counts).limit = tasks;
    }

    /// Forgets the moments, and keeps the tasks and counts.
    pub fn mark(&self) {
        let mut counts = lock(&self.counts);
        (counts.first_asked, counts.first_created, counts.last_created) = (None, None, None);
    }

    /// Forgets everything but its limit.
    pub fn reset(&self) {
        let mut counts = lock(&self.counts);
        *counts = Counts {
            limit: counts.limit,
            ..Counts::default()
        };
    }

    /// How many of `ids` it does not have; with [`CountingStats::created`], the proof that it has those and no others.
    pub fn missing(&self, ids: impl Iterator<Item = u128>) -> u64 {
        let counts = lock(&self.counts);
        ids.filter(|id| !counts.ids.contains(id)).count() as u64
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn respond(
    request: Request<Body>,
    counts: Arc<Mutex<Counts>>,
    latency: Duration,
) -> Result<Response<Body>, Aborted> {
    let operation = DynamoEndpoint::operation(&request);
    let body = collect(request.into_body()).await?;
    let reply = match operation.as_deref() {
        Some("BatchExecuteStatement") => insert(&body, &counts),
        Some("TransactWriteItems") => transact(&body, &counts),
        Some("Query") => Ok(r#"{"Count":0,"Items":[],"ScannedCount":0}"#.to_owned()),
        other => Err(error_body(
            "UnknownOperationException",
            &format!("{other:?} is not counted"),
        )),
    };
    if !latency.is_zero() {
        clock::sleep(latency).await;
    }
    Ok(match reply {
        Ok(body) => answer(StatusCode::OK, JSON, body),
        Err(body) => answer(StatusCode::BAD_REQUEST, JSON, body),
    })
}

/// The ids in `body`: the 32 hexadecimal digits after each `mark`. `None` if something else stands there.
fn ids_after<'a>(body: &'a str, mark: &'a str) -> impl Iterator<Item = Option<u128>> + 'a {
    body.match_indices(mark).map(|(at, mark)| {
        let digits = body.get(at + mark.len()..at + mark.len() + 32)?;
        u128::from_str_radix(digits, 16).ok()
    })
}

fn text(body: &Bytes) -> Result<&str, String> {
    std::str::from_utf8(body).map_err(|why| error_body("SerializationException", &why.to_string()))
}

/// Each statement's first parameter is the id of its task.
fn insert(body: &Bytes, counts: &Mutex<Counts>) -> Result<String, String> {
    let body = text(body)?;
    let ids: Option<Vec<u128>> = ids_after(body, r#""Parameters":[{"S":""#).collect();
    let statements = body.matches(r#""Statement":"#).count();
    let Some(ids) = ids.filter(|ids| ids.len() == statements && (1..=25).contains(&statements)) else {
        return Err(error_body(
            "ValidationException",
            "between 1 and 25 statements, each with an id first",
        ));
    };
    let now = clock::instant().into_std();
    let mut reply = String::with_capacity(16 + 32 * ids.len());
    reply.push_str(r#"{"Responses":["#);
    let mut counts = lock(counts);
    counts.batches += 1;
    for (place, id) in ids.into_iter().enumerate() {
        if place > 0 {
            reply.push(',');
        }
        reply.push_str(match counts.take(id, now) {
            Taken::Created => r#"{"TableName":"tasks"}"#,
            Taken::Again => r#"{"TableName":"tasks","Error":{"Code":"DuplicateItem","Message":"it exists"}}"#,
            Taken::Throttled => {
                r#"{"TableName":"tasks","Error":{"Code":"ThrottlingError","Message":"full"}}"#
            }
        });
    }
    reply.push_str("]}");
    Ok(reply)
}

/// The one put of a transaction, after which come checks on the other tables.
fn transact(body: &Bytes, counts: &Mutex<Counts>) -> Result<String, String> {
    let body = text(body)?;
    let Some(Some(id)) = ids_after(body, r#""task_id":{"S":""#).next() else {
        return Err(error_body("ValidationException", "no put with an id"));
    };
    let now = clock::instant().into_std();
    let mut counts = lock(counts);
    counts.transactions += 1;
    let reason = match counts.take(id, now) {
        Taken::Created => return Ok("{}".to_owned()),
        Taken::Again => "ConditionalCheckFailed",
        Taken::Throttled => "ThrottlingError",
    };
    Err(serde_json::json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled",
        "CancellationReasons": [{ "Code": reason, "Message": "not created" }],
    })
    .to_string())
}

/// What became of a task.
enum Taken {
    Created,
    Again,
    Throttled,
}

impl Counts {
    fn take(&mut self, id: u128, now: Instant) -> Taken {
        self.first_asked.get_or_insert(now);
        if self.ids.contains(&id) {
            self.again += 1;
            return Taken::Again;
        }
        if self.limit.is_some_and(|limit| self.ids.len() as u64 >= limit) {
            return Taken::Throttled;
        }
        self.ids.insert(id);
        self.first_created.get_or_insert(now);
        self.last_created = Some(now);
        Taken::Created
    }
}
