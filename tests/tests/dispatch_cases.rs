//! The recorded cases of sosw's own Orchestrator, Scavenger, WorkerAssistant and Worker: what jobmill does in the same
//! state.
//!
//! sosw's two essentials run once and end; jobmill's one goes on until it is idle. So each case is looked at a moment
//! after its beginning, when all that can be done at once is done:
//!
//! - *orchestrate*: workers never end, and nothing waits in the retry table. What is started then, of which labourer, in
//!   which order, with which payload, and what has become of the rows, is what the orchestrator did.
//! - *scavenge*: nothing may be started. What is closed, waits, or is back in the queue then is what the scavenger did.
//! - *assistant*: what the assistant wrote is there, and nothing may be started. What is marked is closed as it is.
//! - *worker*: what the worker was called with is what jobmill starts a worker with.
//!
//! A configuration of sosw is given what jobmill needs to do the same: `completion` is `report`, a running task is given
//! up after 1,200 seconds (`cooldown`), the first retry waits for the worker's time-out (`retry_delay`).
//!
//! Each comparison is held against a few rules of its own too (`Expected`), which have to hold for sosw as well where
//! nothing is meant to differ: so a difference that is allowed for a case is not just any difference.
//!
//! Never compared: rows of the meta table (jobmill writes none when it dispatches), and messages to SNS (sosw queues and
//! never sends them; jobmill's observation of the closed task is looked for).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jobmill_core::config::Config;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::health;
use jobmill_core::task::labourer::MetricSource;
use jobmill_core::task::record::{Attribute, Record};
use jobmill_core::task::tables::FieldNames;
use jobmill_core::task::write::{Page, Range, Table, Test, Update, Write};
use jobmill_engine::EngineError;
use jobmill_engine::dispatch::ports::{Asked, Asking, Tables, Transacted, Unfit, Updated, Workers};
use jobmill_engine::dispatch::{Dispatcher, Observation, Outcome, WakeUp};
use jobmill_engine::ports::{Clock as _, PortResult};
use jobmill_memory::dispatch::MemoryOutcomes;
use jobmill_memory::{EPOCH_MS, MemoryStore, MemoryTasks, VirtualClock, VirtualHost};
use serde_json::{Map, Value, json};

const CASES: &str = include_str!("../data/dispatch.jsonl");
const SECOND: Duration = Duration::from_secs(1);
/// When a case is looked at: nothing takes time before, and nothing is looked at again.
const MOMENT: Duration = Duration::from_micros(500);
/// When a case is looked at in which something goes wrong at first: what was refused was asked for again.
const LATER: Duration = Duration::from_secs(25);
/// How long a launched task counts as running in sosw.
const SOSWS_EXPIRY: u64 = 1_200;

// --------------------------------------------------------------------------------------------------- what differs

/// What jobmill means to do otherwise than sosw, by the tag of the cases that show it.
const MEANT: &[(&str, &str)] = &[
    (
        "D01",
        "`duration` and `cooldown` of a labourer can be set; a key that is not known does not stop everybody",
    ),
    (
        "D03",
        "a labourer without a function is suspended, and the others are served",
    ),
    (
        "D05",
        "the comparisons that sosw's documentation names are understood",
    ),
    (
        "D06",
        "targets in the wrong order are refused when the configuration is read; those that sosw takes for wrong are not",
    ),
    ("D07", "coefficients may be written in JSON"),
    (
        "D09",
        "a dispatcher that is killed between claim and start costs an attempt at most",
    ),
    (
        "D10",
        "a start that is refused gives its claim back and does not end the run",
    ),
    (
        "D12",
        "a task whose payload is no object is closed as failed, and the others are served",
    ),
    (
        "D13",
        "a claim that somebody else has won is written down nowhere as a start",
    ),
    ("D14", "what was claimed since the run began counts as running"),
    (
        "D18",
        "a queued task that is marked as done with is closed, not started",
    ),
    ("D19", "a place in the queue in the near future is waited for"),
    (
        "D20",
        "a task moves in one transaction; what sosw left in two tables is closed once",
    ),
    ("D22", "a payload is kept as the text that it was"),
    ("D23", "attributes keep their types"),
    ("D24", "a retry keeps all attributes"),
    ("D25", "attributes of other names are understood everywhere"),
    (
        "D26",
        "of tasks that are put in front of the queue the first one due comes first",
    ),
    ("D27", "all tasks that are due come back, not 20"),
    (
        "D28",
        "a meta row that can't be written ends nothing: there is none",
    ),
    ("D38", "a configuration without labourers is an error"),
    ("D46", "a claim that is throttled is made again"),
];

/// How the cases are compared: none drops out unseen.
const COUNTS: &[&str] = &[
    "assistant exactly: 35",
    "orchestrate but D01: 2",
    "orchestrate but D03: 2",
    "orchestrate but D05: 1",
    "orchestrate but D06: 2",
    "orchestrate but D07: 1",
    "orchestrate but D09: 2",
    "orchestrate but D10: 5",
    "orchestrate but D12: 5",
    "orchestrate but D13: 1",
    "orchestrate but D14: 1",
    "orchestrate but D18: 2",
    "orchestrate but D19: 1",
    "orchestrate but D25: 1",
    "orchestrate but D28: 1",
    "orchestrate but D38: 1",
    "orchestrate but D46: 1",
    "orchestrate exactly: 113",
    "orchestrate refused D06: 1",
    "scavenge but D01: 1",
    "scavenge but D03: 1",
    "scavenge but D18: 2",
    "scavenge but D19: 2",
    "scavenge but D19 D22: 2",
    "scavenge but D20: 4",
    "scavenge but D20 D22: 4",
    "scavenge but D22: 45",
    "scavenge but D22 D23: 6",
    "scavenge but D22 D23 D24 D26: 1",
    "scavenge but D22 D24: 3",
    "scavenge but D22 D24 D26: 2",
    "scavenge but D22 D25: 2",
    "scavenge but D22 D26: 1",
    "scavenge but D22 D28: 1",
    "scavenge but D24: 1",
    "scavenge but D24 D26: 2",
    "scavenge but D25: 1",
    "scavenge but D26: 6",
    "scavenge but D26 D27: 2",
    "scavenge exactly: 37",
    "worker exactly: 8",
];

fn is_meant(tag: &str) -> bool {
    MEANT.iter().any(|(known, _)| *known == tag)
}

// ------------------------------------------------------------------------------------------------------- the cases

struct Case(Value);

type Item = BTreeMap<String, Attribute>;

fn attribute(value: &Value) -> Attribute {
    let (kind, value) = value.as_object().unwrap().iter().next().unwrap();
    let text = || value.as_str().unwrap().to_owned();
    match kind.as_str() {
        "S" => Attribute::S(text()),
        "N" => Attribute::N(text()),
        "BOOL" => Attribute::Bool(value.as_bool().unwrap()),
        "NULL" => Attribute::Null,
        "M" => Attribute::M(item(value)),
        "L" => Attribute::L(value.as_array().unwrap().iter().map(attribute).collect()),
        other => panic!("a value of type {other}"),
    }
}

fn item(value: &Value) -> Item {
    let attributes = value.as_object().unwrap().iter();
    attributes
        .map(|(name, value)| (name.clone(), attribute(value)))
        .collect()
}

fn cases() -> Vec<Case> {
    CASES
        .lines()
        .map(|line| Case(serde_json::from_str(line).unwrap()))
        .collect()
}

impl Case {
    fn name(&self) -> &str {
        self.0["name"].as_str().unwrap()
    }

    fn action(&self) -> &str {
        self.0["action"].as_str().unwrap()
    }

    fn tags(&self) -> BTreeSet<&str> {
        let tags = self.0["tags"].as_array().unwrap();
        tags.iter().map(|tag| tag.as_str().unwrap()).collect()
    }

    fn now_ms(&self) -> i64 {
        (self.0["now"].as_f64().unwrap() * 1000.0).round() as i64
    }

    fn now(&self) -> Greenfield {
        Greenfield::from_millis(self.now_ms())
    }

    fn rows(&self, state: &str, table: &str) -> Vec<Item> {
        self.0[state][table]
            .as_array()
            .unwrap()
            .iter()
            .map(item)
            .collect()
    }

    fn time_out(&self, arn: Option<&str>) -> Option<u64> {
        self.0["functions"][arn?].as_u64()
    }

    fn faults(&self) -> Vec<&Value> {
        self.0["faults"]
            .as_array()
            .map(|faults| faults.iter().collect())
            .unwrap_or_default()
    }

    /// Whether a place in the queue is in the very second of the case. sosw takes it for that of a launch that has
    /// expired, as all of the near future; not all such cases are tagged so.
    fn has_a_place_in_this_second(&self) -> bool {
        let second = self.now_ms().div_euclid(1000) * 1000;
        let here = Greenfield::from_millis(second)..self.now();
        let rows = self.rows("tables_before", "tasks");
        rows.iter()
            .any(|row| number(row, "greenfield").is_some_and(|place| here.contains(&place)))
    }

    /// The configuration of sosw with what jobmill needs to do the same.
    fn config(&self, expiry: u64) -> Value {
        let mut config = self.0["config"].clone();
        config["queue_bucket"] = json!("b");
        let labourers = config["task_config"]
            .get_mut("labourers")
            .and_then(Value::as_object_mut);
        for labourer in labourers.into_iter().flat_map(Map::values_mut) {
            let labourer = labourer.as_object_mut().unwrap();
            labourer.insert("completion".to_owned(), json!("report"));
            let time_out = self.time_out(labourer.get("arn").and_then(Value::as_str));
            // Of sosw it only says how long a retry waits.
            let wait = labourer.remove("max_duration").or(time_out.map(Value::from));
            labourer.insert("retry_delay".to_owned(), wait.unwrap_or(json!(0)));
            if labourer.contains_key("duration") || labourer.contains_key("cooldown") {
                continue;
            }
            if let Some(time_out) = time_out {
                labourer.insert("max_duration".to_owned(), json!(time_out));
                labourer.insert("cooldown".to_owned(), json!(expiry - time_out));
            }
        }
        config
    }
}

// ------------------------------------------------------------------------------------------------ jobmill beside it

/// The tables in memory under the attributes' configured names, with the faults of a case.
struct Renamed {
    tasks: MemoryTasks,
    /// As the memory calls it, and as it is configured.
    names: Vec<(String, String)>,
    /// Which updates go wrong, and how.
    faults: BTreeMap<u64, Updated>,
    updates: Mutex<u64>,
}

impl Renamed {
    fn configured(&self, record: Record) -> Record {
        self.rename(record, |(plain, configured)| (plain, configured))
    }

    fn plain(&self, record: Record) -> Record {
        self.rename(record, |(plain, configured)| (configured, plain))
    }

    fn rename<'a>(
        &'a self,
        record: Record,
        pair: impl Fn(&'a (String, String)) -> (&'a String, &'a String),
    ) -> Record {
        let to = |name: String| {
            let mut pairs = self.names.iter().map(&pair);
            pairs
                .find(|(from, _)| **from == name)
                .map_or(name, |(_, to)| to.clone())
        };
        record
            .into_iter()
            .map(|(name, value)| (to(name), value))
            .collect()
    }

    fn name(&self, name: &str) -> String {
        let mut names = self.names.iter();
        names
            .find(|(_, configured)| configured == name)
            .map_or(name, |(plain, _)| plain)
            .to_owned()
    }

    fn tests(&self, when: &[Test]) -> Vec<Test> {
        let test = |test: &Test| match test {
            Test::Absent(name) => Test::Absent(self.name(name)),
            Test::Equals(name, value) => Test::Equals(self.name(name), value.clone()),
        };
        when.iter().map(test).collect()
    }
}

impl Tables for Renamed {
    async fn read(&self, range: &Range) -> PortResult<Page> {
        let mut range = range.clone();
        range.after = range.after.map(|after| self.plain(after));
        let page = self.tasks.read(&range).await?;
        Ok(Page {
            records: page
                .records
                .into_iter()
                .map(|record| self.configured(record))
                .collect(),
            next: page.next.map(|next| self.configured(next)),
        })
    }

    async fn task(&self, task_id: &str) -> PortResult<Option<Record>> {
        Ok(self
            .tasks
            .task(task_id)
            .await?
            .map(|record| self.configured(record)))
    }

    async fn update(&self, updates: &[Update]) -> PortResult<Vec<Updated>> {
        let mut answers = Vec::new();
        for update in updates {
            let nth = {
                let mut updates = self.updates.lock().unwrap();
                *updates += 1;
                *updates
            };
            if let Some(fault) = self.faults.get(&nth) {
                answers.push(fault.clone());
                continue;
            }
            let update = Update {
                task_id: update.task_id.clone(),
                set: update
                    .set
                    .iter()
                    .map(|(name, value)| (self.name(name), value.clone()))
                    .collect(),
                when: self.tests(&update.when),
            };
            answers.extend(self.tasks.update(&[update]).await?);
        }
        Ok(answers)
    }

    async fn transact(&self, writes: &[Write]) -> PortResult<Transacted> {
        let plain = |write: &Write| match write.clone() {
            Write::Put { table, record, when } => Write::Put {
                table,
                record: self.plain(record),
                when: self.tests(&when),
            },
            Write::Delete { table, key, when } => Write::Delete {
                table,
                key: self.plain(key),
                when: self.tests(&when),
            },
            Write::Check { table, key, when } => Write::Check {
                table,
                key: self.plain(key),
                when: self.tests(&when),
            },
        };
        self.tasks
            .transact(&writes.iter().map(plain).collect::<Vec<_>>())
            .await
    }
}

/// A start that was asked for.
#[derive(Debug, Clone)]
struct Ask {
    function: String,
    payload: Value,
    event: bool,
    at: Duration,
    /// What the platform said.
    refused: bool,
}

/// The functions of a case. They never end, or mark their tasks as done with after a second, as sosw's worker and
/// assistant do.
struct Cast {
    clock: VirtualClock,
    tasks: MemoryTasks,
    /// Time-outs.
    functions: BTreeMap<String, u64>,
    faults: BTreeMap<u64, Asked>,
    /// The attribute that is set, and the difference between the wall clock and the virtual one.
    marks: Option<i64>,
    /// What CloudWatch has: metrics by name, each datapoint with its age.
    metrics: Vec<Value>,
    asks: Arc<Mutex<Vec<Ask>>>,
}

impl Workers for Cast {
    async fn ask(&self, function: &str, payload: String, asking: Asking) -> Asked {
        let payload: Value = serde_json::from_str(&payload).unwrap();
        let task_id = payload["task_id"].as_str().unwrap().to_owned();
        let fault = {
            let mut asks = self.asks.lock().unwrap();
            let fault = self.faults.get(&(asks.len() as u64 + 1)).cloned();
            asks.push(Ask {
                function: function.to_owned(),
                payload,
                event: asking == Asking::Event,
                at: self.clock.now(),
                refused: fault
                    .as_ref()
                    .is_some_and(|fault| !matches!(fault, Asked::Unknown(_))),
            });
            fault
        };
        if let Some(fault) = fault {
            return fault;
        }
        if !self.functions.contains_key(function) {
            return Asked::WorkerUnfit(missing());
        }
        if let Some(epoch_ms) = self.marks {
            let tasks = self.tasks.clone();
            self.clock.schedule(self.clock.now() + SECOND, move || {
                tasks.with(|tables, now| {
                    let seconds = (epoch_ms + now.as_millis() as i64) / 1000;
                    tables.set(now, &task_id, &[("completed_at", Attribute::number(seconds))])
                });
            });
        }
        Asked::Queued
    }

    async fn longest_run(&self, function: &str) -> PortResult<Result<Duration, Unfit>> {
        Ok(self
            .functions
            .get(function)
            .map(|seconds| SECOND * *seconds as u32)
            .ok_or_else(missing))
    }

    async fn datapoints(&self, source: &MetricSource) -> PortResult<Vec<f64>> {
        Ok(measured(&self.metrics, source))
    }
}

/// What was measured in the window of a metric.
fn measured(metrics: &[Value], source: &MetricSource) -> Vec<f64> {
    let of_source = |metric: &&Value| {
        metric["MetricName"] == source.metric.as_str() && metric["Namespace"] == source.namespace.as_str()
    };
    let datapoints = metrics
        .iter()
        .filter(of_source)
        .flat_map(|metric| metric["datapoints"].as_array().unwrap());
    let recent = datapoints.filter(|point| point["age"].as_f64().unwrap() <= f64::from(source.window));
    recent.map(|point| point["value"].as_f64().unwrap()).collect()
}

fn missing() -> Unfit {
    Unfit {
        kind: "FunctionNotFound",
        message: "there is no such function".to_owned(),
    }
}

/// The tables at a moment, under the memory's names.
#[derive(Debug, Clone, Default)]
struct State {
    tasks: BTreeMap<String, Item>,
    retry: BTreeMap<String, Item>,
    closed: BTreeMap<String, Item>,
}

impl State {
    fn of(tasks: &MemoryTasks) -> Self {
        tasks.with(|tables, _| {
            let of = |table| {
                let items = tables.table(table).items();
                items
                    .map(|item| (item.text("task_id").to_owned(), item.record.clone()))
                    .collect()
            };
            Self {
                tasks: of(Table::Tasks),
                retry: of(Table::Retry),
                closed: of(Table::Closed),
            }
        })
    }

    fn recorded(case: &Case, state: &str, plain: impl Fn(Record) -> Record) -> Self {
        let of = |table| {
            let rows = case.rows(state, table).into_iter().map(&plain);
            rows.map(|row| (text(&row, "task_id").to_owned(), row)).collect()
        };
        Self {
            tasks: of("tasks"),
            retry: of("retry"),
            closed: of("closed"),
        }
    }

    fn ids(&self) -> BTreeSet<&String> {
        [&self.tasks, &self.retry, &self.closed]
            .into_iter()
            .flat_map(BTreeMap::keys)
            .collect()
    }
}

fn text<'a>(item: &'a Item, name: &str) -> &'a str {
    item.get(name).and_then(Attribute::as_text).unwrap_or_default()
}

fn number(item: &Item, name: &str) -> Option<Greenfield> {
    Greenfield::parse(item.get(name)?.as_number()?)
}

/// A deployment of jobmill in the state of a case.
struct Stage {
    clock: VirtualClock,
    host: VirtualHost,
    /// When it is looked at.
    moment: Duration,
    tables: Renamed,
    cast: Cast,
    config: Config,
    observed: Mutex<Vec<Observation>>,
}

/// The first thing that Lambda or DynamoDB answers so is what jobmill's adapters make of it.
fn asked_fault(code: &str) -> Asked {
    match code {
        "TooManyRequestsException" => Asked::Throttled(code.to_owned()),
        "RequestTooLargeException" => Asked::PayloadRefused(code.to_owned()),
        "AccessDeniedException" => Asked::WorkerUnfit(Unfit {
            kind: "AccessDenied",
            message: code.to_owned(),
        }),
        "ServiceException" => Asked::Unknown(code.to_owned()),
        other => panic!("what is {other}?"),
    }
}

impl Stage {
    fn new(case: &Case, config: Config, state: &State, marks: bool) -> Self {
        let clock = VirtualClock::default();
        let tasks = MemoryTasks::new(clock.clone());
        let skew = case.now_ms() - EPOCH_MS;
        let fault = |op: &str| {
            let faults = case.faults();
            let of_op = faults
                .into_iter()
                .filter(|fault| fault["op"] == op && fault["kill"] != true);
            let read = |fault: &Value| {
                (
                    fault["nth"].as_u64().unwrap(),
                    fault["code"].as_str().unwrap().to_owned(),
                )
            };
            of_op.map(read).collect::<Vec<_>>()
        };
        let update = |code: String| match code.as_str() {
            "ConditionalCheckFailedException" => Updated::Refused,
            "ProvisionedThroughputExceededException" => Updated::Throttled,
            other => panic!("what is {other}?"),
        };
        let functions = case.0["functions"].as_object().unwrap();
        tasks.with(|tables, now| {
            let all = [
                (Table::Tasks, &state.tasks),
                (Table::Retry, &state.retry),
                (Table::Closed, &state.closed),
            ];
            for (table, items) in all {
                for item in items.values() {
                    assert!(tables.put(now, table, item.clone()), "{}: {item:?}", case.name());
                }
            }
        });
        let troubled = case
            .faults()
            .iter()
            .any(|fault| fault["kill"] != true && fault["op"] != "PutItem");
        Self {
            moment: if troubled { LATER } else { MOMENT },
            host: VirtualHost::new(clock.clone(), 1).with_skew_ms(skew),
            tables: Renamed {
                tasks: tasks.clone(),
                names: renamed(&config.tables.fields),
                faults: fault("UpdateItem")
                    .into_iter()
                    .map(|(nth, code)| (nth, update(code)))
                    .collect(),
                updates: Mutex::default(),
            },
            cast: Cast {
                clock: clock.clone(),
                tasks,
                functions: functions
                    .iter()
                    .map(|(arn, time_out)| (arn.clone(), time_out.as_u64().unwrap()))
                    .collect(),
                faults: fault("Invoke")
                    .into_iter()
                    .map(|(nth, code)| (nth, asked_fault(&code)))
                    .collect(),
                marks: marks.then_some(case.now_ms()),
                metrics: case.0["metrics"].as_array().cloned().unwrap_or_default(),
                asks: Arc::default(),
            },
            clock,
            config,
            observed: Mutex::default(),
        }
    }

    /// Dispatches for so long; the tables at the moment that is compared, and what came of it.
    fn run(&self, lifetime: Duration, whole: bool) -> (State, Result<Outcome, EngineError>) {
        let snapshot = Arc::new(Mutex::new(None));
        let (tasks, taken) = (self.cast.tasks.clone(), Arc::clone(&snapshot));
        self.clock.schedule(self.clock.now() + self.moment, move || {
            *taken.lock().unwrap() = Some(State::of(&tasks))
        });
        let observer = |observation| self.observed.lock().unwrap().push(observation);
        let dispatcher = Dispatcher {
            store: &MemoryStore::new(self.clock.clone()),
            tables: &self.tables,
            workers: &self.cast,
            outcomes: &MemoryOutcomes::none(self.clock.clone()),
            host: &self.host,
            config: &self.config,
            request_time: 5 * SECOND,
            observer: &observer,
        };
        let wake_up = WakeUp {
            group: "main".to_owned(),
            owner: "a test".to_owned(),
            deadline: self.host.monotonic() + lifetime,
            idle: Duration::ZERO,
            waits_for_retries: whole,
        };
        let outcome = self
            .clock
            .run(dispatcher.run(&wake_up))
            .expect("it waits for nothing");
        let state = snapshot.lock().unwrap().take();
        (state.unwrap_or_else(|| State::of(&self.cast.tasks)), outcome)
    }

    /// The starts of a labourer before the moment that is compared, but for those that the platform refused.
    fn starts(&self, labourer_id: &str) -> Vec<Ask> {
        let asks = self.cast.asks.lock().unwrap();
        let of_labourer = asks.iter().filter(|ask| {
            ask.at < self.moment
                && !ask.refused
                && ask.payload[&self.config.tables.fields.labourer_id] == labourer_id
        });
        of_labourer.cloned().collect()
    }
}

/// The attributes that are called otherwise: as the memory calls them, and as they are configured.
fn renamed(names: &FieldNames) -> Vec<(String, String)> {
    let plain = FieldNames::default();
    let all = |names: &FieldNames| {
        [
            names.task_id.clone(),
            names.labourer_id.clone(),
            names.created_at.clone(),
            names.greenfield.clone(),
            names.attempts.clone(),
            names.payload.clone(),
            names.completed_at.clone(),
            names.closed_at.clone(),
            names.labourer_id_task_status.clone(),
            names.arn.clone(),
            names.desired_launch_time.clone(),
        ]
    };
    let pairs = all(&plain).into_iter().zip(all(names));
    pairs.filter(|(plain, configured)| plain != configured).collect()
}

// ----------------------------------------------------------------------------------------------- what is the same

fn same_number(one: &str, other: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().unwrap();
    one == other || number(one) == number(other)
}

fn same_json(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => same_number(&one.to_string(), &other.to_string()),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same_json(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(name, value)| other.get(name).is_some_and(|other| same_json(value, other)))
        }
        _ => one == other,
    }
}

fn same(one: &Attribute, other: &Attribute) -> bool {
    match (one, other) {
        (Attribute::N(one), Attribute::N(other)) => same_number(one, other),
        (Attribute::M(one), Attribute::M(other)) => same_items(one, other, &[]).is_none(),
        (Attribute::L(one), Attribute::L(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        _ => one == other,
    }
}

/// The first attribute in which two items differ, but for some.
fn same_items(one: &Item, other: &Item, but_for: &[&str]) -> Option<String> {
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let differs = |name: &&&String| match (one.get(**name), other.get(**name)) {
        (Some(one), Some(other)) => !same(one, other),
        _ => true,
    };
    let mut names = names
        .iter()
        .filter(|name| !but_for.contains(&name.as_str()))
        .filter(differs);
    names
        .next()
        .map(|name| format!("`{name}`: {:?} and {:?}", one.get(*name), other.get(*name)))
}

/// The payload of a task as JSON, if it is an object, or none at all.
fn payload_is_startable(row: &Item) -> bool {
    match row.get("payload") {
        None | Some(Attribute::Null) | Some(Attribute::M(_)) => true,
        Some(Attribute::S(text)) => matches!(serde_json::from_str(text), Ok(Value::Object(_))),
        Some(_) => false,
    }
}

// ------------------------------------------------------------------------------------ what jobmill is meant to do

/// What a row of the tasks table is at the moment of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Queued,
    Limbo,
    Running,
    Expired,
    Completed,
    Ghost,
}

/// The rules that jobmill is held to.
struct Expected<'a> {
    case: &'a Case,
    config: &'a Config,
    before: &'a State,
}

impl Expected<'_> {
    fn kind(&self, row: &Item) -> Kind {
        let Some(greenfield) = number(row, "greenfield").filter(|_| row.contains_key("labourer_id")) else {
            return Kind::Ghost;
        };
        let second = 1_000_000_000;
        let delta = i128::from(self.config.greenfield_delta) * second;
        let now = self.case.now().nanos();
        if row.contains_key("completed_at")
            && (greenfield.nanos() < now || greenfield.nanos() >= now + delta / 2)
        {
            return Kind::Completed;
        }
        if greenfield.nanos() < now {
            return Kind::Queued;
        }
        if greenfield.nanos() < now + delta / 2 {
            return Kind::Limbo;
        }
        let labourer = &self.config.labourers[text(row, "labourer_id")];
        let longest = labourer.max_duration.map_or(u64::MAX, |longest| {
            (longest + labourer.cooldown.max(70 * SECOND)).as_secs()
        });
        match (now - (greenfield.nanos() - delta)).max(0) / second > i128::from(longest) {
            true => Kind::Expired,
            false => Kind::Running,
        }
    }

    fn rows_of<'b>(&'b self, labourer_id: &'b str, kind: Kind) -> Vec<&'b Item> {
        let mut rows: Vec<&Item> = self.before.tasks.values().collect();
        rows.retain(|row| text(row, "labourer_id") == labourer_id && self.kind(row) == kind);
        rows.sort_by_key(|row| number(row, "greenfield"));
        rows
    }

    /// The status of a labourer: sosw's, or that of its metrics where sosw came to none.
    fn status(&self, labourer_id: &str) -> u8 {
        if let Some(status) = self.case.0["labourers"][labourer_id]["health"].as_u64() {
            return status as u8;
        }
        let metrics = self.config.labourers[labourer_id].health.iter();
        let statuses = metrics.map(|metric| {
            let measured = measured(
                self.case.0["metrics"].as_array().map_or(&[], Vec::as_slice),
                &metric.source,
            );
            health::status(metric, health::combine(metric.source.statistic, &measured))
        });
        health::worst(statuses)
    }

    /// How many tasks of a labourer may run at once.
    fn allowed(&self, labourer_id: &str, status: u8) -> usize {
        let labourer = &self.config.labourers[labourer_id];
        let strength = self.config.coefficients.strength(status);
        health::allowed(labourer.max_simultaneous, strength) as usize
    }

    /// Which tasks are started, in order.
    fn starts(&self, labourer_id: &str, status: u8) -> Vec<String> {
        let running = self.rows_of(labourer_id, Kind::Running).len();
        let mut rows = self.rows_of(labourer_id, Kind::Queued);
        rows.retain(|row| payload_is_startable(row));
        let free = self.allowed(labourer_id, status).saturating_sub(running);
        rows.iter()
            .take(free)
            .map(|row| text(row, "task_id").to_owned())
            .collect()
    }
}

// ------------------------------------------------------------------------------------------------ the comparisons

/// How a case was compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Compared {
    /// The same.
    Exactly,
    /// The same, but for what is meant to be otherwise.
    But(BTreeSet<&'static str>),
    /// jobmill refuses its configuration, for that reason.
    Refused(&'static str),
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly => f.write_str("exactly"),
            Self::But(tags) => write!(f, "but {}", tags.iter().copied().collect::<Vec<_>>().join(" ")),
            Self::Refused(tag) => write!(f, "refused {tag}"),
        }
    }
}

/// What was found otherwise, and what of it nobody meant.
#[derive(Default)]
struct Findings {
    meant: BTreeSet<&'static str>,
    wrong: Vec<String>,
}

impl Findings {
    /// Something differs, which only cases with one of these tags may do.
    fn differs(&mut self, case: &Case, tags: &[&'static str], what: impl FnOnce() -> String) {
        let near = |tag: &str| tag == "D19" && case.has_a_place_in_this_second();
        let tag = tags
            .iter()
            .find(|tag| (case.tags().contains(**tag) || near(tag)) && is_meant(tag));
        match tag {
            Some(tag) => {
                self.meant.insert(tag);
            }
            None => self.wrong.push(what()),
        }
    }

    fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(what());
        }
    }

    fn of(self) -> Result<Compared, Vec<String>> {
        match (self.wrong.is_empty(), self.meant.is_empty()) {
            (false, _) => Err(self.wrong),
            (true, true) => Ok(Compared::Exactly),
            (true, false) => Ok(Compared::But(self.meant)),
        }
    }
}

/// What makes the whole run of sosw end at a task or before it.
const ENDS_A_RUN: &[&str] = &[
    "D01", "D03", "D04", "D05", "D06", "D10", "D12", "D28", "D46", "D09",
];

fn read_config(case: &Case, expiry: u64) -> Result<Config, Result<Compared, Vec<String>>> {
    Config::read(&case.config(expiry)).map_err(|refused| {
        let tags = case.tags();
        let meant = MEANT.iter().find(|(tag, _)| tags.contains(tag) && *tag == "D06");
        match meant {
            Some((tag, _)) => Ok(Compared::Refused(tag)),
            None => Err(vec![format!("refused: {:?}", refused.problems)]),
        }
    })
}

fn orchestrate(case: &Case) -> Result<Compared, Vec<String>> {
    let config = match read_config(case, SOSWS_EXPIRY) {
        Ok(config) => config,
        Err(compared) => return compared,
    };
    let names = config.tables.fields.clone();
    let plain = plain_tables(&config);
    let mut before = State::recorded(case, "tables_before", |row| plain.plain(row));
    // The other half of sosw's work.
    before.retry.clear();
    let after = State::recorded(case, "tables_after", |row| plain.plain(row));
    let stage = Stage::new(case, config.clone(), &before, false);
    let (state, outcome) = stage.run(60 * SECOND, false);
    let mut found = Findings::default();
    if config.labourers.is_empty() {
        found.must(matches!(outcome, Err(EngineError::Input(_))), || {
            format!("{outcome:?}")
        });
        found.differs(case, &["D38"], || "no labourers".to_owned());
        return found.of();
    }
    found.must(outcome.is_ok(), || format!("{outcome:?}"));
    let expected = Expected {
        case,
        config: &config,
        before: &before,
    };
    let recorded = case.0["invocations"].as_array().unwrap();
    for (labourer_id, labourer) in &config.labourers {
        let by_sosw: Vec<&Value> = recorded
            .iter()
            .filter(|start| start["payload"][&names.labourer_id] == labourer_id.as_str())
            .collect();
        let by_jobmill = stage.starts(labourer_id);
        let ids = |payloads: Vec<&Value>| -> Vec<String> {
            payloads
                .iter()
                .map(|payload| payload[&names.task_id].as_str().unwrap().to_owned())
                .collect()
        };
        let by_id = |payload: &Value| payload.get(&names.task_id).cloned();
        let mut sosws = ids(by_sosw.iter().map(|start| &start["payload"]).collect());
        let mut jobmills = ids(by_jobmill.iter().map(|ask| &ask.payload).collect());
        let status = expected.status(labourer_id);
        let mut meant = match labourer.arn.as_deref().and_then(|arn| case.time_out(Some(arn))) {
            Some(_) => expected.starts(labourer_id, status),
            None => Vec::new(),
        };
        if case.tags().contains("tie") {
            sosws.sort();
            jobmills.sort();
            meant.sort();
        }
        match stage.moment == LATER {
            // What was refused or lost once is asked for again, and nothing twice. What is refused for good, a payload
            // that is too large, is closed; of a labourer that is suspended one task is started to see; what was claimed
            // by somebody else makes room for the next.
            true => {
                let distinct: BTreeSet<&String> = jobmills.iter().collect();
                let served = meant
                    .iter()
                    .filter(|id| distinct.contains(id) || state.closed.contains_key(*id))
                    .count();
                let suspended = stage.observed.lock().unwrap().iter().any(|observation| {
                    matches!(observation, Observation::Suspended { labourer_id: id, .. } if id == labourer_id)
                });
                let enough = match suspended {
                    true => served > 0,
                    false if case.tags().contains("D13") => jobmills.len() == meant.len(),
                    false => served == meant.len(),
                };
                found.must(distinct.len() == jobmills.len() && enough, || {
                    format!("{labourer_id}: started {jobmills:?}, and it is to start {meant:?}")
                });
            }
            false => found.must(jobmills == meant, || {
                format!("{labourer_id}: started {jobmills:?}, and it is to start {meant:?}")
            }),
        }
        if sosws != jobmills {
            let tags = [ENDS_A_RUN, &["D07", "D13", "D14", "D18", "D19", "D25"]].concat();
            found.differs(case, &tags, || {
                format!("{labourer_id}: sosw starts {sosws:?}, jobmill {jobmills:?}")
            });
        }
        for start in &by_sosw {
            let Some(ask) = by_jobmill
                .iter()
                .find(|ask| by_id(&ask.payload) == by_id(&start["payload"]))
            else {
                continue;
            };
            found.must(
                ask.event && start["type"] == "Event" && ask.function == start["arn"].as_str().unwrap(),
                || format!("asked {} ({}), and not {}", ask.function, ask.event, start["arn"]),
            );
            let mut payload = ask.payload.clone();
            let not_after = payload.as_object_mut().unwrap().remove("not_after");
            found.must(
                not_after.is_some() || start["payload"].get("not_after").is_some(),
                || format!("no `not_after`: {payload}"),
            );
            if !same_json(&payload, &start["payload"]) {
                found.differs(case, &["D25"], || {
                    format!("payload {payload}, and sosw's is {}", start["payload"])
                });
            }
        }
    }
    for (task_id, row) in &before.tasks {
        let (sosws, jobmills) = (after.tasks.get(task_id), state.tasks.get(task_id));
        let known = config.labourers.contains_key(text(row, "labourer_id"));
        let kind = match known {
            true => expected.kind(row),
            false => Kind::Ghost,
        };
        // The other half of sosw's work.
        if matches!(kind, Kind::Completed | Kind::Expired) {
            continue;
        }
        let (Some(sosws), Some(jobmills)) = (sosws, jobmills) else {
            found.differs(case, &["D12", "D10"], || {
                format!("{task_id}: {sosws:?}, {jobmills:?}")
            });
            continue;
        };
        let started = |row: &Item| number(row, "attempts") != number(&before.tasks[task_id], "attempts");
        if started(sosws) != started(jobmills) {
            let tags = [ENDS_A_RUN, &["D07", "D13", "D14", "D18", "D19", "D25"]].concat();
            found.differs(case, &tags, || format!("{task_id}: {sosws:?}, {jobmills:?}"));
            continue;
        }
        if !started(sosws) {
            let but_for: &[&str] = match case.tags().contains("D10") {
                true => &["greenfield", "queued_greenfield"],
                false => &[],
            };
            found.must(same_items(sosws, jobmills, but_for).is_none(), || {
                format!("{task_id}: {jobmills:?}")
            });
            continue;
        }
        let differs = same_items(sosws, jobmills, &["greenfield", "queued_greenfield"]);
        found.must(differs.is_none(), || format!("{task_id}: {differs:?}"));
        let whole = |row: &Item| number(row, "greenfield").map(|ticket| ticket.nanos() / 1_000_000_000);
        found.must(whole(sosws) == whole(jobmills), || {
            format!("{task_id}: {jobmills:?}")
        });
        found.must(
            jobmills
                .get("queued_greenfield")
                .is_some_and(|place| same(place, &row["greenfield"])),
            || format!("{task_id}: {jobmills:?}"),
        );
    }
    for (task_id, row) in &before.closed {
        found.must(
            state
                .closed
                .get(task_id)
                .is_some_and(|closed| same_items(row, closed, &[]).is_none()),
            || format!("closed {task_id}: {:?}", state.closed.get(task_id)),
        );
    }
    // Whatever ended sosw's run, or made it write what is not so, did not do so here.
    if case.0["error"].is_object() || case.tags().contains("D13") {
        let tags = [ENDS_A_RUN, &["D13"]].concat();
        found.differs(case, &tags, || format!("sosw ends with {}", case.0["error"]));
    }
    found.of()
}

/// What jobmill adds to a row that it closes.
const ADDED: &[&str] = &["outcome", "last_error"];

fn plain_tables(config: &Config) -> Renamed {
    Renamed {
        tasks: MemoryTasks::new(VirtualClock::default()),
        names: renamed(&config.tables.fields),
        faults: BTreeMap::new(),
        updates: Mutex::default(),
    }
}

/// What has become of the rows of a labourer of which nothing may be started, held against what is meant and against
/// what sosw's scavenger has made of them.
fn settled(
    found: &mut Findings,
    expected: &Expected<'_>,
    state: &State,
    sosws: Option<&State>,
    observed: &[Observation],
) {
    let Expected { case, config, before } = *expected;
    let seconds = case.now_ms().div_euclid(1000);
    for (task_id, row) in &before.tasks {
        let known = config.labourers.get(text(row, "labourer_id"));
        let kind = known.map_or(Kind::Ghost, |_| expected.kind(row));
        let attempts = number(row, "attempts").map_or(0, |attempts| attempts.nanos() / 1_000_000_000);
        let was_closed = before.closed.contains_key(task_id);
        let is_dead = known.is_some_and(|labourer| attempts >= i128::from(labourer.max_attempts));
        let place = (
            state.tasks.get(task_id),
            state.retry.get(task_id),
            state.closed.get(task_id),
        );
        let ends = kind == Kind::Completed || (kind == Kind::Expired && is_dead);
        match kind {
            Kind::Completed | Kind::Expired if was_closed => {
                found.must(
                    place.0.is_none() && same_items(&before.closed[task_id], place.2.unwrap(), &[]).is_none(),
                    || format!("{task_id}, closed before: {place:?}"),
                );
            }
            Kind::Completed | Kind::Expired if ends => {
                let (None, Some(closed)) = (place.0, place.2) else {
                    found.wrong.push(format!("{task_id} is to be closed: {place:?}"));
                    continue;
                };
                let mut meant = row.clone();
                let (status, outcome) = match kind {
                    Kind::Completed => ("1", "succeeded"),
                    _ => ("0", "expired"),
                };
                let status = format!("{}_{status}", text(row, "labourer_id"));
                meant.insert("labourer_id_task_status".to_owned(), Attribute::S(status));
                meant.insert("closed_at".to_owned(), Attribute::number(seconds));
                meant.insert("outcome".to_owned(), Attribute::text(outcome));
                let differs = same_items(&meant, closed, &["last_error"]);
                found.must(differs.is_none(), || format!("{task_id}: {differs:?}"));
                let told = observed.iter().any(|observation| {
                    matches!(observation, Observation::Closed { task_id: told, .. } if told == task_id)
                });
                found.must(told, || format!("nobody was told of {task_id}"));
            }
            // It waits for no time at all.
            Kind::Expired if known.is_some_and(|labourer| labourer.retry.delay.is_zero()) => {
                let back = place.0.is_some_and(|queued| {
                    same_items(row, queued, &["last_error", "greenfield"]).is_none()
                        && number(queued, "greenfield") < number(row, "greenfield")
                });
                found.must(back && place.1.is_none(), || {
                    format!("{task_id} is to be queued again: {place:?}")
                });
            }
            Kind::Completed | Kind::Expired => {
                let (None, Some(waits), None) = place else {
                    found.wrong.push(format!("{task_id} is to wait: {place:?}"));
                    continue;
                };
                let differs = same_items(row, waits, &["last_error", "desired_launch_time"]);
                found.must(differs.is_none(), || format!("{task_id}: {differs:?}"));
                let policy = known.unwrap().retry;
                let longest = policy.delay(u32::try_from(attempts).unwrap(), 0.0).as_secs_f64();
                let due = waits["desired_launch_time"]
                    .as_number()
                    .unwrap()
                    .parse::<f64>()
                    .unwrap();
                let delay = due - case.now_ms() as f64 / 1000.0;
                found.must((longest / 2.0 - 0.01..=longest + 0.01).contains(&delay), || {
                    format!("{task_id} waits {delay} s, and at most {longest} s")
                });
            }
            Kind::Queued | Kind::Limbo | Kind::Running | Kind::Ghost => {
                let stays = before.retry.contains_key(task_id)
                    || place
                        .0
                        .is_some_and(|stands| same_items(row, stands, &[]).is_none());
                found.must(stays, || format!("{task_id} is to stay: {place:?}"));
            }
        }
    }
    for labourer_id in config.labourers.keys() {
        requeued(found, expected, state, labourer_id);
    }
    let Some(sosws) = sosws else { return };
    let tables = [
        (&state.tasks, &sosws.tasks, "tasks"),
        (&state.retry, &sosws.retry, "retry"),
        (&state.closed, &sosws.closed, "closed"),
    ];
    for (jobmills, sosws, table) in tables {
        let ids: BTreeSet<&String> = jobmills.keys().chain(sosws.keys()).collect();
        for task_id in ids {
            let (Some(by_jobmill), Some(by_sosw)) = (jobmills.get(task_id), sosws.get(task_id)) else {
                let tags = [ENDS_A_RUN, &["D18", "D19", "D20", "D25", "D27"]].concat();
                found.differs(case, &tags, || {
                    format!(
                        "{table} {task_id}: {:?}, of sosw {:?}",
                        jobmills.get(task_id),
                        sosws.get(task_id)
                    )
                });
                continue;
            };
            // As it was written in one of the tables, and as sosw has read and written it: the same JSON.
            let as_json = |item: &Item| serde_json::from_str::<Value>(text(item, "payload")).ok();
            let same_payload =
                table != "closed" && as_json(by_jobmill).is_some() && as_json(by_jobmill) == as_json(by_sosw);
            let names: BTreeSet<&String> = by_jobmill.keys().chain(by_sosw.keys()).collect();
            for name in names {
                if name == "payload" && same_payload {
                    continue;
                }
                if ADDED.contains(&name.as_str()) || (table == "retry" && name == "desired_launch_time") {
                    continue;
                }
                let (ours, theirs) = (by_jobmill.get(name), by_sosw.get(name));
                if matches!((ours, theirs), (Some(ours), Some(theirs)) if same(ours, theirs)) {
                    continue;
                }
                let waited = before.retry.contains_key(task_id)
                    || before
                        .tasks
                        .get(task_id)
                        .is_some_and(|row| same_items(row, by_sosw, &[]).is_some());
                let tags: &[&str] = match (table, name.as_str()) {
                    ("closed", "payload") => &["D22", "D25"],
                    ("retry", "payload") => &["D25"],
                    ("tasks", "greenfield") if waited => &["D26", "D27", "D18", "D19", "D20"],
                    // A task that stands in the queue and waits, too.
                    ("tasks", "attempts") if before.tasks.contains_key(task_id) => &["D20"],
                    ("tasks", _) if waited && theirs.is_none() => &["D24"],
                    ("tasks", _) if waited => &["D25"],
                    ("closed", "closed_at") => &["D20"],
                    // Text that sosw takes for JSON, as in a payload.
                    ("retry", _) if matches!(theirs, Some(Attribute::M(_))) => &["D22", "D23"],
                    ("closed" | "retry", _) => &["D23", "D25"],
                    _ => &[],
                };
                found.differs(case, tags, || {
                    format!("{table} {task_id} `{name}`: {ours:?}, of sosw {theirs:?}")
                });
            }
        }
    }
}

/// What is due comes back whole, in front of the queue, in the order in which it was due.
fn requeued(found: &mut Findings, expected: &Expected<'_>, state: &State, labourer_id: &str) {
    let Expected { case, before, config } = *expected;
    let empty = Greenfield::from_nanos(i128::from(config.greenfield_step) * 1_000_000_000);
    let queued = expected.rows_of(labourer_id, Kind::Queued);
    let front = queued
        .first()
        .and_then(|row| number(row, "greenfield"))
        .unwrap_or(empty);
    let mut back: Vec<(Greenfield, Greenfield, &String)> = Vec::new();
    for (task_id, row) in before
        .retry
        .iter()
        .filter(|(_, row)| text(row, "labourer_id") == labourer_id)
    {
        let due = number(row, "desired_launch_time").unwrap();
        let place = (
            state.tasks.get(task_id),
            state.retry.get(task_id),
            state.closed.get(task_id),
        );
        if before.closed.contains_key(task_id) {
            continue;
        }
        if before
            .tasks
            .get(task_id)
            .is_some_and(|row| row.contains_key("labourer_id"))
        {
            continue;
        }
        if due > case.now() {
            let stays = place
                .1
                .is_some_and(|stands| same_items(row, stands, &[]).is_none());
            found.must(stays, || format!("{task_id} is to wait on: {place:?}"));
            continue;
        }
        let (Some(queued), None, None) = place else {
            found.wrong.push(format!("{task_id} is to come back: {place:?}"));
            continue;
        };
        let differs = same_items(row, queued, &["desired_launch_time", "greenfield"]);
        found.must(
            differs.is_none() && !queued.contains_key("desired_launch_time"),
            || format!("{task_id}: {differs:?}"),
        );
        back.push((due, number(queued, "greenfield").unwrap(), task_id));
    }
    back.sort();
    let in_order = back
        .windows(2)
        .all(|pair| pair[0].0 == pair[1].0 || pair[0].1 < pair[1].1);
    let in_front = back.iter().all(|(_, place, _)| *place < front);
    found.must(in_order && in_front, || format!("in front of {front}: {back:?}"));
}

fn scavenge(case: &Case) -> Result<Compared, Vec<String>> {
    let mut config = match read_config(case, SOSWS_EXPIRY - 1) {
        Ok(config) => config,
        Err(compared) => return compared,
    };
    for labourer in config.labourers.values_mut() {
        labourer.max_simultaneous = 0;
    }
    let names = plain_tables(&config);
    let before = State::recorded(case, "tables_before", |row| names.plain(row));
    let sosws = State::recorded(case, "tables_after", |row| names.plain(row));
    let stage = Stage::new(case, config.clone(), &before, false);
    let (state, outcome) = stage.run(60 * SECOND, false);
    let mut found = Findings::default();
    found.must(outcome.is_ok(), || format!("{outcome:?}"));
    found.must(stage.cast.asks.lock().unwrap().is_empty(), || {
        "something was started".to_owned()
    });
    let expected = Expected {
        case,
        config: &config,
        before: &before,
    };
    let observed = stage.observed.lock().unwrap();
    settled(&mut found, &expected, &state, Some(&sosws), &observed);
    if case.0["error"].is_object() {
        let tags = [ENDS_A_RUN, &["D20", "D25"]].concat();
        found.differs(case, &tags, || format!("sosw ends with {}", case.0["error"]));
    }
    found.of()
}

/// What the assistant wrote, on a deployment with the labourers of its rows.
fn assistant(case: &Case) -> Result<Compared, Vec<String>> {
    let mut labourers = Map::new();
    for row in ["tasks", "retry", "closed"]
        .iter()
        .flat_map(|table| case.rows("tables_after", table))
    {
        let labourer_id = row
            .iter()
            .find(|(name, _)| name.starts_with("labourer_id"))
            .and_then(|(_, id)| id.as_text());
        if let Some(labourer_id) = labourer_id.filter(|id| !id.ends_with("_0") && !id.ends_with("_1")) {
            let settings = json!({
                "arn": "f", "completion": "report", "max_duration": 300, "cooldown": SOSWS_EXPIRY - 301,
            });
            labourers.insert(labourer_id.to_owned(), settings);
        }
    }
    labourers
        .entry("f")
        .or_insert(json!({ "arn": "f", "completion": "report", "max_duration": 300 }));
    let names = case.0["config"]["dynamo_db_config"].clone();
    let task_config = json!({ "labourers": labourers, "dynamo_db_config": names });
    let config = Config::read(&json!({ "queue_bucket": "b", "task_config": task_config }));
    let mut config = config.map_err(|refused| vec![format!("{:?}", refused.problems)])?;
    for labourer in config.labourers.values_mut() {
        labourer.max_simultaneous = 0;
    }
    let names = plain_tables(&config);
    let before = State::recorded(case, "tables_after", |row| names.plain(row));
    let stage = Stage::new(case, config.clone(), &before, false);
    let (state, outcome) = stage.run(60 * SECOND, false);
    let mut found = Findings::default();
    found.must(outcome.is_ok(), || format!("{outcome:?}"));
    let expected = Expected {
        case,
        config: &config,
        before: &before,
    };
    let observed = stage.observed.lock().unwrap();
    settled(&mut found, &expected, &state, None, &observed);
    // The one that was just marked is closed with all that was said of it.
    let event = &case.0["event"];
    let task_id = event["task_id"].as_str().unwrap_or_default();
    let marked = before.tasks.get(task_id).is_some_and(|row| {
        row.contains_key("completed_at")
            && row.contains_key("labourer_id")
            && expected.kind(row) == Kind::Completed
    });
    if event["action"] == "mark_task_as_completed" && case.0["error"].is_null() && marked {
        let closed = state.closed.get(task_id);
        let of = |kind: &str| event[kind].as_object().into_iter().flat_map(Map::keys).cloned();
        let said = of("stats")
            .map(|key| format!("stat_{key}"))
            .chain(of("result").map(|key| format!("result_{key}")));
        for name in said {
            found.must(closed.is_some_and(|closed| closed.contains_key(&name)), || {
                format!("{task_id} is closed without `{name}`: {closed:?}")
            });
        }
    }
    found.of()
}

/// What the worker was called with is what jobmill starts a worker with, if it comes from a task.
fn worker(case: &Case) -> Result<Compared, Vec<String>> {
    let mut found = Findings::default();
    let event = &case.0["event"];
    let sent = case.0["invocations"].as_array().unwrap();
    let Some(task_id) = event["task_id"].as_str().filter(|id| !id.is_empty()) else {
        found.must(sent.is_empty(), || {
            "a worker without a task has nothing to report".to_owned()
        });
        return found.of();
    };
    let of = |name: &str, otherwise: i64| match &event[name] {
        Value::Number(number) => Attribute::number(number),
        _ => Attribute::number(otherwise),
    };
    let row = Item::from([
        ("task_id".to_owned(), Attribute::text(task_id)),
        (
            "labourer_id".to_owned(),
            Attribute::text(event["labourer_id"].as_str().unwrap_or("f")),
        ),
        ("created_at".to_owned(), of("created_at", 1_699_995_000)),
        ("greenfield".to_owned(), of("greenfield", 1000)),
        ("attempts".to_owned(), of("attempts", 0)),
        ("payload".to_owned(), Attribute::text(event.to_string())),
    ]);
    let arn = case.0["functions"].as_object().unwrap().keys().next().unwrap();
    let labourer = json!({ "arn": arn, "completion": "report" });
    let labourers = json!({ event["labourer_id"].as_str().unwrap_or("f"): labourer });
    let config = json!({ "queue_bucket": "b", "task_config": { "labourers": labourers } });
    let before = State {
        tasks: BTreeMap::from([(task_id.to_owned(), row)]),
        ..State::default()
    };
    let mut untroubled = case.0.clone();
    untroubled["faults"] = Value::Null;
    let stage = Stage::new(&Case(untroubled), Config::read(&config).unwrap(), &before, false);
    stage.run(60 * SECOND, false).1.unwrap();
    let asks = stage.cast.asks.lock().unwrap();
    let payload = &asks[0].payload;
    for (name, value) in event.as_object().unwrap() {
        found.must(same_json(&payload[name], value), || {
            format!("`{name}` is {}, and not {value}", payload[name])
        });
    }
    for report in sent.iter().filter(|sent| sent["payload"]["task_id"].is_string()) {
        found.must(report["payload"]["task_id"] == payload["task_id"], || {
            format!("reported: {report}")
        });
    }
    found.of()
}

fn compare(case: &Case) -> Result<Compared, Vec<String>> {
    match case.action() {
        "orchestrate" => orchestrate(case),
        "scavenge" => scavenge(case),
        "assistant" => assistant(case),
        _ => worker(case),
    }
}

// ------------------------------------------------------------------------------------------------------- the tests

#[test]
fn jobmill_does_what_sosw_did_or_what_is_meant() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in cases() {
        match compare(&case) {
            Ok(compared) => *counts.entry(format!("{} {compared}", case.action())).or_default() += 1,
            Err(what) => {
                let (action, name, tags) = (case.action(), case.name(), case.tags());
                wrong.push(format!("{action} {name} {tags:?}:\n    {}", what.join("\n    ")));
            }
        }
    }
    let counts: Vec<String> = counts
        .into_iter()
        .map(|(how, count)| format!("{how}: {count}"))
        .collect();
    println!("{}", counts.join("\n"));
    let tags: BTreeSet<String> = cases()
        .iter()
        .flat_map(|case| case.tags().into_iter().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    for (tag, why) in MEANT.iter().filter(|(tag, _)| tags.contains(*tag)) {
        println!("{tag}: {why}");
        assert!(
            counts.iter().any(|how| how.contains(tag)),
            "a difference that is meant and shows in no case: {tag}"
        );
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(counts, COUNTS, "how many cases are compared in which way");
}

/// Whatever sosw has left, also when it was killed in the middle, jobmill works off: each task is closed once, with its
/// payload, and what was closed stays as it was.
#[test]
fn jobmill_takes_over_what_sosw_has_left() {
    let (mut taken_over, mut closed) = (0, 0);
    for case in cases() {
        if !["orchestrate", "scavenge"].contains(&case.action()) {
            continue;
        }
        let Ok(mut config) = Config::read(&case.config(SOSWS_EXPIRY)) else {
            continue;
        };
        for labourer in config.labourers.values_mut() {
            labourer.max_simultaneous = labourer.max_simultaneous.max(1);
            labourer.health.clear();
        }
        config.coefficients = health::Coefficients::default();
        config
            .labourers
            .retain(|_, labourer| case.time_out(labourer.arn.as_deref()).is_some());
        if config.labourers.is_empty() {
            continue;
        }
        let plain = plain_tables(&config);
        let before = State::recorded(&case, "tables_after", |row| plain.plain(row));
        let mut untroubled = case.0.clone();
        untroubled["faults"] = Value::Null;
        let untroubled = Case(untroubled);
        let stage = Stage::new(&untroubled, config.clone(), &before, true);
        let (_, outcome) = stage.run(SECOND * 20_000, true);
        let name = case.name();
        assert!(
            matches!(outcome, Ok(Outcome::Dispatched(_) | Outcome::NothingToDo)),
            "{name}: {outcome:?}"
        );
        let state = State::of(&stage.cast.tasks);
        let expected = Expected {
            case: &untroubled,
            config: &config,
            before: &before,
        };
        taken_over += 1;
        for task_id in before.ids() {
            if let Some(row) = before.closed.get(task_id) {
                let differs = same_items(row, &state.closed[task_id], &[]);
                assert!(differs.is_none(), "{name}: {task_id} was closed: {differs:?}");
            }
            let live = [&before.retry, &before.tasks]
                .into_iter()
                .filter_map(|table| table.get(task_id));
            let live: Vec<&Item> = live
                .filter(|row| config.labourers.contains_key(text(row, "labourer_id")))
                .collect();
            let in_limbo =
                |row: &&Item| before.tasks.contains_key(task_id) && expected.kind(row) == Kind::Limbo;
            if live.is_empty() || live.iter().any(in_limbo) {
                continue;
            }
            let stands = state
                .tasks
                .get(task_id)
                .is_some_and(|row| row.contains_key("labourer_id"));
            assert!(
                !stands && !state.retry.contains_key(task_id),
                "{name}: {task_id} is not closed"
            );
            if !before.closed.contains_key(task_id) {
                closed += 1;
                let payloads: Vec<_> = live.iter().map(|row| row.get("payload")).collect();
                assert!(
                    payloads.contains(&state.closed[task_id].get("payload")),
                    "{name}: {task_id}"
                );
                let attempts = |row: &Item| number(row, "attempts");
                let tried = live.iter().map(|row| attempts(row)).min().unwrap();
                assert!(attempts(&state.closed[task_id]) >= tried, "{name}: {task_id}");
            }
        }
        // One start an attempt.
        let asks = stage.cast.asks.lock().unwrap();
        let names = &config.tables.fields;
        let attempts: BTreeSet<String> = asks
            .iter()
            .map(|ask| format!("{} {}", ask.payload["task_id"], ask.payload[&names.attempts]))
            .collect();
        assert_eq!(attempts.len(), asks.len(), "{name}: an attempt was started twice");
    }
    println!("{taken_over} states taken over, {closed} tasks closed");
    assert_eq!((taken_over, closed), (267, 1336));
}
