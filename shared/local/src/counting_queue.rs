//! A DynamoDB full of queued tasks, and the Lambda functions of their workers, that keep nothing of a task but its state:
//! for queues of many millions, and for measuring what dispatching costs. It answers after a fixed time, workers after
//! theirs, and it checks the conditions that the protocol rests on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::http::{Method, Request, Response, StatusCode};
use bytes::Bytes;
use jobmill_core::task::tables::Tables;
use s3s::Body;
use serde_json::Value;

use crate::clock;
use crate::dynamo::{DynamoEndpoint, JSON, error_body};
use crate::error::LocalError;
use crate::http::{Aborted, OwnThread, answer, collect};
use crate::service::Endpoint as _;

/// The first greenfield of each queue, and one second further for each task: long ago, so that all are due.
const FIRST_GREENFIELD: u64 = 1_000_000;
/// What a worker returns.
const ANSWER: &str = r#"{"rows": 3}"#;
/// Greenfields beyond this mean *running*, today and for years to come.
const RUNNING: f64 = 1.72e9;

/// What a counting queue has, and how fast it answers.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// What each request to DynamoDB takes.
    pub latency: Duration,
    /// How many labourers there are: `worker-000`, `worker-001`, ...
    pub labourers: usize,
    /// How many tasks are queued for each.
    pub tasks: u64,
    /// What a worker takes: from the first to the second, evenly.
    pub work: (Duration, Duration),
    /// So many tasks of each labourer may run at once, for [`QueueStats::waits`].
    pub slots: usize,
}

/// Tables of tasks and workers that count. Serves what jobmill's orchestrator asks of DynamoDB and of Lambda. Stops when
/// it is dropped.
#[derive(Debug)]
pub struct CountingQueue {
    served: OwnThread,
    state: Arc<Mutex<State>>,
}

/// What a counting queue has seen.
#[derive(Debug, Clone, Default)]
pub struct QueueStats {
    /// Requests, by operation.
    pub requests: BTreeMap<String, u64>,
    /// Claims that were carried out, and that were refused.
    pub claims: (u64, u64),
    /// Starts of workers.
    pub starts: u64,
    /// Starts of an attempt that was started before, or whose task is not claimed.
    pub wrong_starts: u64,
    /// Tasks closed, by labourer.
    pub closed: Vec<u64>,
    /// The most workers that ran at once.
    pub most_running: usize,
    /// When the first worker was started.
    pub first_start: Option<Instant>,
    /// When the last task was closed.
    pub last_closed: Option<Instant>,
    /// From a slot that was free (the settling of its task was answered) to the next start of that labourer. The claim
    /// between the two takes one request.
    pub waits: Vec<Duration>,
}

impl QueueStats {
    /// All tasks closed.
    pub fn all_closed(&self) -> u64 {
        self.closed.iter().sum()
    }
}

#[derive(Debug)]
struct State {
    options: QueueOptions,
    names: Tables,
    queues: Vec<Queue>,
    running_workers: usize,
    stats: QueueStats,
}

/// The tasks of one labourer.
#[derive(Debug)]
struct Queue {
    labourer_id: String,
    /// All before it are claimed.
    front: u64,
    stages: Vec<Stage>,
    /// Tasks that are not as they were born.
    moved: BTreeMap<u64, Moved>,
    started: usize,
    /// Slots that were given back, and have not been used again.
    freed: VecDeque<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Queued,
    Running,
    Closed,
}

/// A task that was claimed, and perhaps given back.
#[derive(Debug, Clone)]
struct Moved {
    greenfield: String,
    attempts: u64,
    was_started: bool,
}

/// A labourer and the number of a task in its queue: what an id says.
type Place = (usize, u64);

impl CountingQueue {
    /// Starts it, on a thread of its own.
    ///
    /// # Errors
    /// `Io` if no port or thread is to be had.
    pub fn start(options: QueueOptions) -> Result<Self, LocalError> {
        let queue = |at| Queue {
            labourer_id: Self::labourer_id(at),
            front: 0,
            stages: vec![Stage::Queued; usize::try_from(options.tasks).unwrap_or(usize::MAX)],
            moved: BTreeMap::new(),
            started: 0,
            freed: VecDeque::new(),
        };
        let state = Arc::new(Mutex::new(State {
            queues: (0..options.labourers).map(queue).collect(),
            names: Tables::default(),
            running_workers: 0,
            stats: QueueStats {
                closed: vec![0; options.labourers],
                ..QueueStats::default()
            },
            options,
        }));
        let seen = Arc::clone(&state);
        let handler = move |request| respond(request, Arc::clone(&seen));
        let served = OwnThread::serve("counting-queue", handler)?;
        Ok(Self { served, state })
    }

    /// Where it serves, for `AWS_ENDPOINT_URL_DYNAMODB` and `AWS_ENDPOINT_URL_LAMBDA`.
    pub fn endpoint(&self) -> &str {
        self.served.endpoint()
    }

    /// The name of a labourer, which is that of its function.
    pub fn labourer_id(at: usize) -> String {
        format!("worker-{at:03}")
    }

    /// What it has seen.
    pub fn stats(&self) -> QueueStats {
        lock(&self.state).stats.clone()
    }

    /// How many tasks are closed, of all labourers.
    pub fn closed(&self) -> u64 {
        lock(&self.state).stats.all_closed()
    }

    /// How many requests there were to DynamoDB.
    pub fn requests(&self) -> u64 {
        lock(&self.state).stats.requests.values().sum()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is done when the answer goes out.
enum Then {
    Nothing,
    /// These slots are free.
    Freed(Vec<usize>),
}

type Reply = Result<(String, Then), String>;

async fn respond(request: Request<Body>, state: Arc<Mutex<State>>) -> Result<Response<Body>, Aborted> {
    let Some(operation) = DynamoEndpoint::operation(&request) else {
        return of_lambda(request, state).await;
    };
    let body = collect(request.into_body()).await?;
    let (reply, latency) = {
        let mut state = lock(&state);
        *state.stats.requests.entry(operation.clone()).or_default() += 1;
        let reply = match serde_json::from_slice::<Value>(&body) {
            Err(why) => Err(error_body("SerializationException", &why.to_string())),
            Ok(body) => match operation.as_str() {
                "BatchExecuteStatement" => state.update(&body),
                "TransactWriteItems" => state.transact(&body),
                "Query" => state.query(&body),
                "GetItem" => state.get(&body),
                other => Err(error_body(
                    "UnknownOperationException",
                    &format!("{other:?} is not counted"),
                )),
            },
        };
        (reply, state.options.latency)
    };
    if !latency.is_zero() {
        clock::sleep(latency).await;
    }
    Ok(match reply {
        Ok((body, then)) => {
            if let Then::Freed(labourers) = then {
                lock(&state).freed(&labourers);
            }
            answer(StatusCode::OK, JSON, body)
        }
        Err(body) => answer(StatusCode::BAD_REQUEST, JSON, body),
    })
}

/// An invocation, or the question how long a function may run.
async fn of_lambda(request: Request<Body>, state: Arc<Mutex<State>>) -> Result<Response<Body>, Aborted> {
    const JSON: &str = "application/json";
    if request.method() == Method::GET {
        return Ok(answer(StatusCode::OK, JSON, r#"{"Timeout": 10}"#));
    }
    let body = collect(request.into_body()).await?;
    let work = lock(&state).start(&body);
    let Some(work) = work else {
        return Ok(answer(StatusCode::BAD_REQUEST, JSON, r#"{"message": "no task"}"#));
    };
    if !work.is_zero() {
        clock::sleep(work).await;
    }
    lock(&state).running_workers -= 1;
    Ok(answer(StatusCode::OK, JSON, ANSWER))
}

/// The first task id in a text: its labourer and its number.
fn id_in(text: &str) -> Option<Place> {
    let mark = r#""task_id":""#;
    let at = text.find(mark)? + mark.len();
    place_of(text.get(at..at + 32)?)
}

fn id_of((labourer, row): Place) -> String {
    format!("{labourer:016x}{row:016x}")
}

fn place_of(id: &str) -> Option<Place> {
    let labourer = usize::from_str_radix(id.get(..16)?, 16).ok()?;
    Some((labourer, u64::from_str_radix(id.get(16..)?, 16).ok()?))
}

fn invalid(why: &str) -> String {
    error_body("ValidationException", why)
}

fn text<'a>(value: &'a Value, kind: &str) -> Option<&'a str> {
    value.get(kind)?.as_str()
}

impl State {
    fn task(&mut self, (labourer, row): Place) -> Option<(&mut Queue, Stage)> {
        let queue = self.queues.get_mut(labourer)?;
        let stage = *queue.stages.get(usize::try_from(row).ok()?)?;
        Some((queue, stage))
    }

    /// Statements that claim or give back: `SET "greenfield"=? ... WHERE "task_id"=? AND "greenfield"=? ...`.
    fn update(&mut self, body: &Value) -> Reply {
        let statements = body.get("Statements").and_then(Value::as_array);
        let statements = statements.ok_or_else(|| invalid("no statements"))?;
        if !(1..=25).contains(&statements.len()) {
            return Err(invalid("between 1 and 25 statements"));
        }
        let mut answers = Vec::new();
        let mut freed = Vec::new();
        for statement in statements {
            let parameters = statement.get("Parameters").and_then(Value::as_array);
            let parameters = parameters.ok_or_else(|| invalid("no parameters"))?;
            let id_at = parameters.iter().position(|value| value.get("S").is_some());
            let id_at = id_at.ok_or_else(|| invalid("no id"))?;
            let number = |at: usize| parameters.get(at).and_then(|value| text(value, "N"));
            let place = parameters.get(id_at).and_then(|id| place_of(text(id, "S")?));
            let (Some(place), Some(new), Some(attempts), Some(old)) =
                (place, number(0), number(1), number(id_at + 1))
            else {
                return Err(invalid("no update of a task"));
            };
            let attempts = attempts.parse().map_err(|_| invalid("no attempts"))?;
            let done = self.move_to(place, new, attempts, old);
            answers.push(match done {
                true => r#"{"TableName":"tasks"}"#,
                false => r#"{"Error":{"Code":"ConditionalCheckFailed","Message":"it stands elsewhere"}}"#,
            });
            let is_claim = new.parse::<f64>().is_ok_and(|new| new > RUNNING);
            match (is_claim, done) {
                (true, true) => self.stats.claims.0 += 1,
                (true, false) => self.stats.claims.1 += 1,
                (false, _) => freed.push(place.0),
            }
        }
        Ok((
            format!(r#"{{"Responses":[{}]}}"#, answers.join(",")),
            Then::Freed(freed),
        ))
    }

    /// Changes the greenfield of a task, if it is as expected.
    fn move_to(&mut self, place: Place, new: &str, attempts: u64, old: &str) -> bool {
        let row = place.1;
        let Some((queue, stage)) = self.task(place) else {
            return false;
        };
        if stage == Stage::Closed || queue.greenfield(row) != old {
            return false;
        }
        let is_claim = new.parse::<f64>().is_ok_and(|new| new > RUNNING);
        queue.set(row, if is_claim { Stage::Running } else { Stage::Queued });
        if !is_claim {
            queue.front = queue.front.min(row);
        }
        let moved = Moved {
            greenfield: new.to_owned(),
            attempts,
            was_started: false,
        };
        queue.moved.insert(row, moved);
        true
    }

    /// Transactions that close tasks: a delete on condition of the ticket, and a put into the closed table.
    fn transact(&mut self, body: &Value) -> Reply {
        let parts = body.get("TransactItems").and_then(Value::as_array);
        let parts = parts.ok_or_else(|| invalid("no parts"))?;
        let mut closing = Vec::new();
        let mut reasons = Vec::new();
        let mut puts = 0;
        for part in parts {
            if let Some(delete) = part.get("Delete") {
                let id = delete.get("Key").and_then(|key| text(key.get("task_id")?, "S"));
                let place = id.and_then(place_of).ok_or_else(|| invalid("no id"))?;
                let values = delete.get("ExpressionAttributeValues").and_then(Value::as_object);
                let stands = self
                    .task(place)
                    .filter(|(_, stage)| *stage != Stage::Closed)
                    .is_some_and(|(queue, _)| {
                        let greenfield = queue.greenfield(place.1);
                        let mut values = values.into_iter().flat_map(|values| values.values());
                        values.any(|value| text(value, "N") == Some(greenfield.as_str()))
                    });
                reasons.push(stands);
                closing.push(place);
            } else if let Some(put) = part.get("Put") {
                let table = put.get("TableName").and_then(Value::as_str);
                if table != Some(self.names.closed.as_str()) {
                    return Err(invalid("only puts into the closed table are counted"));
                }
                puts += 1;
                reasons.push(true);
            } else {
                return Err(invalid("only tasks that are closed are counted"));
            }
        }
        if puts != closing.len() {
            return Err(invalid("a put for each delete"));
        }
        if reasons.contains(&false) {
            let reason = |stands: &bool| match stands {
                true => serde_json::json!({ "Code": "None" }),
                false => {
                    serde_json::json!({ "Code": "ConditionalCheckFailed", "Message": "it stands elsewhere" })
                }
            };
            return Err(serde_json::json!({
                "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
                "Message": "Transaction cancelled",
                "CancellationReasons": reasons.iter().map(reason).collect::<Vec<_>>(),
            })
            .to_string());
        }
        let now = clock::instant().into_std();
        for place in &closing {
            if let Some((queue, _)) = self.task(*place) {
                queue.set(place.1, Stage::Closed);
                queue.moved.remove(&place.1);
            }
            if let Some(closed) = self.stats.closed.get_mut(place.0) {
                *closed += 1;
            }
        }
        self.stats.last_closed = Some(now);
        let freed = closing.into_iter().map(|(labourer, _)| labourer).collect();
        Ok(("{}".to_owned(), Then::Freed(freed)))
    }

    fn freed(&mut self, labourers: &[usize]) {
        let now = clock::instant().into_std();
        for labourer in labourers {
            if let Some(queue) = self.queues.get_mut(*labourer) {
                queue.freed.push_back(now);
            }
        }
    }

    /// The front of a queue, or what is running; the retry table is empty.
    fn query(&mut self, body: &Value) -> Reply {
        let values = body.get("ExpressionAttributeValues");
        let of = |name: &str, kind: &str| text(values?.get(name)?, kind);
        let (Some(labourer), Some(from)) = (of(":labourer", "S"), of(":from", "N")) else {
            return Err(invalid("no labourer, or no range"));
        };
        let limit = body.get("Limit").and_then(Value::as_u64).unwrap_or(1_000);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_tasks = body.get("TableName").and_then(Value::as_str) == Some(self.names.tasks.as_str());
        let after = body
            .get("ExclusiveStartKey")
            .and_then(|key| place_of(text(key.get("task_id")?, "S")?));
        let start = after.map_or(0, |(_, row)| row + 1);
        let queue = self
            .queues
            .iter()
            .enumerate()
            .find(|(_, queue)| queue.labourer_id == labourer)
            .filter(|_| is_tasks);
        let Some((at, queue)) = queue else {
            return Ok((
                r#"{"Count":0,"Items":[],"ScannedCount":0}"#.to_owned(),
                Then::Nothing,
            ));
        };
        let rows: Vec<u64> = if from.parse::<f64>().is_ok_and(|from| from > 0.0) {
            let running = queue.moved.range(start..).map(|(row, _)| *row);
            running
                .filter(|row| queue.stage(*row) == Some(Stage::Running))
                .take(limit)
                .collect()
        } else {
            (start.max(queue.front)..queue.stages.len() as u64)
                .filter(|row| queue.stage(*row) == Some(Stage::Queued))
                .take(limit)
                .collect()
        };
        let items: Vec<String> = rows.iter().map(|row| queue.item(at, *row)).collect();
        let next = rows.last().filter(|_| rows.len() == limit).map(|row| {
            format!(
                r#","LastEvaluatedKey":{{"task_id":{{"S":"{}"}},"labourer_id":{{"S":"{}"}},"greenfield":{{"N":"{}"}}}}"#,
                id_of((at, *row)),
                queue.labourer_id,
                queue.greenfield(*row)
            )
        });
        let count = items.len();
        let body = format!(
            r#"{{"Count":{count},"Items":[{}],"ScannedCount":{count}{}}}"#,
            items.join(","),
            next.unwrap_or_default()
        );
        Ok((body, Then::Nothing))
    }

    fn get(&mut self, body: &Value) -> Reply {
        let id = body.get("Key").and_then(|key| text(key.get("task_id")?, "S"));
        let place = id.and_then(place_of).ok_or_else(|| invalid("no id"))?;
        let item = self
            .task(place)
            .filter(|(_, stage)| *stage != Stage::Closed)
            .map(|(queue, _)| format!(r#"{{"Item":{}}}"#, queue.item(place.0, place.1)));
        Ok((item.unwrap_or_else(|| "{}".to_owned()), Then::Nothing))
    }

    /// A worker is started: how long it works.
    fn start(&mut self, body: &Bytes) -> Option<Duration> {
        let place = id_in(std::str::from_utf8(body).ok()?)?;
        let now = clock::instant().into_std();
        let slots = self.options.slots;
        let (queue, stage) = self.task(place)?;
        queue.started += 1;
        let free_since = (queue.started > slots).then(|| queue.freed.pop_front()).flatten();
        let moved = queue.moved.get_mut(&place.1);
        let is_first = moved.is_some_and(|moved| !std::mem::replace(&mut moved.was_started, true));
        self.stats.wrong_starts += u64::from(stage != Stage::Running || !is_first);
        self.stats
            .waits
            .extend(free_since.map(|since| now.saturating_duration_since(since)));
        self.stats.starts += 1;
        self.stats.first_start.get_or_insert(now);
        self.running_workers += 1;
        self.stats.most_running = self.stats.most_running.max(self.running_workers);
        let (shortest, longest) = self.options.work;
        // As if by chance, and the same for each run.
        let chance = place.1.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        Some(shortest + (longest.saturating_sub(shortest)).mul_f64(chance as f64 / (1_u64 << 24) as f64))
    }
}

impl Queue {
    fn stage(&self, row: u64) -> Option<Stage> {
        self.stages.get(usize::try_from(row).ok()?).copied()
    }

    fn set(&mut self, row: u64, stage: Stage) {
        if let Ok(at) = usize::try_from(row)
            && let Some(known) = self.stages.get_mut(at)
        {
            *known = stage;
        }
        while self.stage(self.front).is_some_and(|stage| stage != Stage::Queued) {
            self.front += 1;
        }
    }

    fn greenfield(&self, row: u64) -> String {
        match self.moved.get(&row) {
            Some(moved) => moved.greenfield.clone(),
            None => (FIRST_GREENFIELD + row).to_string(),
        }
    }

    /// A task as it stands in the table, with a payload as those of the other benchmarks.
    fn item(&self, labourer: usize, row: u64) -> String {
        let id = id_of((labourer, row));
        let attempts = self.moved.get(&row).map_or(0, |moved| moved.attempts);
        format!(
            r#"{{"task_id":{{"S":"{id}"}},"labourer_id":{{"S":"{}"}},"created_at":{{"N":"1709701000"}},"greenfield":{{"N":"{}"}},"attempts":{{"N":"{attempts}"}},"payload":{{"S":"{{\"lambda_name\":\"worker\",\"start_date\":\"2024-03-05\",\"end_date\":\"2024-03-05\",\"sections\":[\"section-3\"],\"stores\":[\"store-0042\"],\"products\":[\"product-{row:08}\"],\"row\":{row}}}"}}}}"#,
            self.labourer_id,
            self.greenfield(row),
        )
    }
}
