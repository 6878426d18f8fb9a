//! Dispatching on the ports in memory: what becomes of tasks, whatever their workers do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use jobmill_core::config::Config;
use jobmill_core::queue::group::GroupLock;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::item::Task;
use jobmill_core::task::labourer::{
    Comparison, Completion, HealthMetric, KeyCap, Labourer, MetricSource, Statistic,
};
use jobmill_core::task::record::{Attribute, Record, record_of, text_of};
use jobmill_core::task::tables::FieldNames;
use jobmill_core::task::write::Table;
use jobmill_core::task::write::{Page, Range, Update, Write};
use jobmill_engine::EngineError;
use jobmill_engine::dispatch::ports::{Tables, Transacted, Updated};
use jobmill_engine::dispatch::{Dispatcher, Ended, Observation, Outcome, Summary, WakeUp};
use jobmill_engine::ports::{Clock as _, PortError, PortResult};
use jobmill_memory::dispatch::{Behaviour, Ending, Function, MemoryOutcomes, MemoryWorkers, Start};
use jobmill_memory::{MemoryStore, MemoryTasks, VirtualClock, VirtualHost};
use serde_json::{Value, json};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A deployment in memory with one labourer, `worker`.
struct Stage {
    clock: VirtualClock,
    host: VirtualHost,
    store: MemoryStore,
    tasks: MemoryTasks,
    outcomes: MemoryOutcomes,
    workers: MemoryWorkers,
    config: Config,
    observed: Mutex<Vec<Observation>>,
    lifetime: Duration,
    waits_for_retries: bool,
}

impl Stage {
    fn new(labourer: Labourer) -> Self {
        let clock = VirtualClock::default();
        let tasks = MemoryTasks::new(clock.clone());
        let outcomes = MemoryOutcomes::new(clock.clone());
        let mut config = Config::read(&json!({
            "queue_bucket": "b", "task_config": { "labourers": { "worker": {} } },
        }))
        .unwrap();
        config.labourers.insert("worker".to_owned(), labourer);
        Self {
            host: VirtualHost::new(clock.clone(), 1),
            store: MemoryStore::new(clock.clone()),
            workers: MemoryWorkers::new(clock.clone(), tasks.clone(), outcomes.clone()),
            tasks,
            outcomes,
            clock,
            config,
            observed: Mutex::default(),
            lifetime: Duration::from_secs(900),
            waits_for_retries: true,
        }
    }

    fn works(self, ending: Ending, behaviour: impl Fn(&Start) -> Behaviour + Send + Sync + 'static) -> Self {
        self.workers
            .add("f", Function::new(60 * SECOND, ending, behaviour));
        self
    }

    fn queue(&self, ids: impl IntoIterator<Item = usize>) {
        self.queue_with(ids, |id| json!({ "n": id }).to_string());
    }

    fn queue_with(&self, ids: impl IntoIterator<Item = usize>, payload: impl Fn(usize) -> String) {
        self.tasks.with(|tables, now| {
            for id in ids {
                let task = Task {
                    task_id: format!("{id:032x}"),
                    labourer_id: "worker".to_owned(),
                    created_at: "1709701000".to_owned(),
                    greenfield: Greenfield::from_millis(1_000_000 + id as i64 * 1000),
                    payload: payload(id),
                };
                tables.put(now, Table::Tasks, record_of(&FieldNames::default(), &task));
            }
        });
    }

    fn put(&self, table: Table, record: Record) {
        self.tasks.with(|tables, now| tables.put(now, table, record));
    }

    fn wake(&self) -> Result<Outcome, EngineError> {
        let observer = |observation| self.observed.lock().unwrap().push(observation);
        let dispatcher = Dispatcher {
            store: &self.store,
            tables: &self.tasks,
            workers: &self.workers,
            outcomes: &self.outcomes,
            host: &self.host,
            config: &self.config,
            request_time: 5 * SECOND,
            observer: &observer,
        };
        let wake_up = WakeUp {
            group: "main".to_owned(),
            owner: "a test".to_owned(),
            deadline: self.host.monotonic() + self.lifetime,
            idle: Duration::ZERO,
            waits_for_retries: self.waits_for_retries,
        };
        self.clock
            .run(dispatcher.run(&wake_up))
            .expect("it waits for nothing")
    }

    fn dispatched(&self) -> Summary {
        match self.wake() {
            Ok(Outcome::Dispatched(summary)) => summary,
            other => panic!("{other:?}"),
        }
    }

    /// How many closed tasks have which outcome.
    fn closed(&self) -> BTreeMap<String, usize> {
        self.tasks.with(|tables, _| {
            let mut counts = BTreeMap::new();
            for item in tables.closed.items() {
                *counts.entry(item.text("outcome").to_owned()).or_default() += 1;
            }
            counts
        })
    }

    fn left(&self) -> (usize, usize) {
        self.tasks
            .with(|tables, _| (tables.tasks.len(), tables.retry.len()))
    }

    fn starts(&self) -> Vec<Start> {
        self.workers.with(|state| state.starts.clone())
    }

    /// The most that ran at once.
    fn most_at_once(&self) -> usize {
        let starts = self.starts();
        let running = |at: Duration| {
            starts
                .iter()
                .filter(|start| start.at <= at && at < start.ends)
                .count()
        };
        starts.iter().map(|start| running(start.at)).max().unwrap_or(0)
    }
}

fn labourer(max: u32) -> Labourer {
    Labourer {
        arn: Some("f".to_owned()),
        max_simultaneous: max,
        ..Labourer::default()
    }
}

fn counts(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

fn succeeds(_: &Start) -> Behaviour {
    Behaviour::Answers(100 * MS, json!({ "rows": 3 }))
}

#[test]
fn every_queued_task_is_worked_off_once_and_closed() {
    let stage = Stage::new(labourer(5)).works(Ending::Silent, succeeds);
    stage.queue(0..100);
    let summary = stage.dispatched();
    assert_eq!(
        (summary.ended, summary.tally.started, summary.tally.succeeded),
        (Ended::Idle, 100, 100)
    );
    assert_eq!(
        (stage.closed(), stage.left()),
        (counts(&[("succeeded", 100)]), (0, 0))
    );
    assert_eq!((stage.starts().len(), stage.most_at_once()), (100, 5));
    // A hundred tasks of 100 ms, five at once.
    assert!(stage.clock.now() < 3 * SECOND, "{:?}", stage.clock.now());
    let item = stage
        .tasks
        .with(|tables, _| tables.closed.get(&format!("{:032x}", 7)).unwrap().clone());
    assert_eq!(text_of(&item.record, "labourer_id_task_status"), Some("worker_1"));
    assert_eq!(text_of(&item.record, "result"), Some("{\"rows\":3}"));
    assert_eq!(text_of(&item.record, "payload"), Some("{\"n\":7}"));
}

#[test]
fn tasks_start_in_the_order_of_their_places() {
    let stage = Stage::new(labourer(1)).works(Ending::Silent, succeeds);
    stage.queue(0..20);
    stage.dispatched();
    let order: Vec<u64> = stage
        .starts()
        .iter()
        .map(|start| start.payload["n"].as_u64().unwrap())
        .collect();
    assert_eq!(order, (0..20).collect::<Vec<u64>>());
}

#[test]
fn what_fails_is_tried_again_and_then_closed_with_its_error() {
    let stage = Stage::new(labourer(10)).works(Ending::Silent, |start| {
        let n = start.payload["n"].as_u64().unwrap();
        match (n % 3, start.before) {
            (1, 0) | (2, _) => Behaviour::Fails(
                10 * MS,
                json!({ "errorType": "ValueError", "errorMessage": "no" }),
            ),
            _ => Behaviour::Answers(10 * MS, Value::Null),
        }
    });
    stage.queue(0..30);
    let summary = stage.dispatched();
    assert_eq!(stage.closed(), counts(&[("succeeded", 20), ("failed", 10)]));
    assert_eq!(stage.left(), (0, 0));
    assert_eq!((summary.tally.retried, summary.tally.requeued), (10 + 20, 30));
    // Ten that fail always, three times each.
    assert_eq!(stage.starts().len(), 10 + 20 + 30);
    let item = stage
        .tasks
        .with(|tables, _| tables.closed.get(&format!("{:032x}", 2)).unwrap().clone());
    assert_eq!(text_of(&item.record, "labourer_id_task_status"), Some("worker_0"));
    let Some(Attribute::M(error)) = item.record.get("last_error") else {
        panic!("{item:?}");
    };
    assert_eq!(text_of(error, "type"), Some("ValueError"));
    let attempts: Vec<u64> = stage
        .starts()
        .iter()
        .filter(|start| start.payload["n"] == 2)
        .map(|start| start.attempts.unwrap())
        .collect();
    assert_eq!(
        attempts,
        [0, 1, 2],
        "as sosw gives them: how often it was tried before"
    );
}

#[test]
fn a_worker_that_never_answers_is_given_up_when_its_time_is_over() {
    let stage = Stage::new(Labourer {
        max_attempts: 1,
        ..labourer(10)
    })
    .works(Ending::Silent, |_| Behaviour::Hangs);
    stage.queue(0..3);
    stage.dispatched();
    assert_eq!(stage.left(), (0, 0));
    assert_eq!(stage.closed().values().sum::<usize>(), 3);
    assert!(
        stage.closed().keys().all(|outcome| outcome != "succeeded"),
        "{:?}",
        stage.closed()
    );
}

#[test]
fn outcomes_come_by_the_queue_of_destinations() {
    let stage = Stage::new(Labourer {
        completion: Some(Completion::Destination),
        ..labourer(4)
    })
    .works(Ending::Destination, |start| {
        match start.payload["n"].as_u64().unwrap() {
            3 => Behaviour::Fails(SECOND, json!({ "errorType": "Oops", "errorMessage": "!" })),
            _ => Behaviour::Answers(SECOND, json!("done")),
        }
    });
    stage.queue(0..12);
    stage.dispatched();
    assert_eq!(stage.closed(), counts(&[("succeeded", 11), ("failed", 1)]));
    assert_eq!((stage.left(), stage.starts().len()), ((0, 0), 14));
    assert_eq!(
        stage.outcomes.with(|queue, _| queue.len()),
        Some(0),
        "all acknowledged"
    );
}

#[test]
fn workers_of_sosw_mark_their_tasks_themselves() {
    let stage = Stage::new(Labourer {
        completion: Some(Completion::Report),
        ..labourer(4)
    })
    .works(Ending::Report(50 * MS), succeeds);
    stage.queue(0..10);
    stage.dispatched();
    assert_eq!(
        (stage.closed(), stage.left()),
        (counts(&[("succeeded", 10)]), (0, 0))
    );
}

#[test]
fn a_payload_that_is_no_object_fails_for_good_without_a_start() {
    let stage = Stage::new(labourer(4)).works(Ending::Silent, succeeds);
    let payloads = ["[1]", "\"text\"", "null", "nonsense", "{\"n\": 1}"];
    stage.queue_with(0..5, |id| payloads[id].to_owned());
    stage.dispatched();
    assert_eq!(stage.closed(), counts(&[("succeeded", 1), ("failed", 4)]));
    assert_eq!((stage.left(), stage.starts().len()), ((0, 0), 1));
}

#[test]
fn a_missing_function_costs_no_attempts_and_is_reported_by_name() {
    let mut stage = Stage::new(labourer(4));
    stage.lifetime = 400 * SECOND;
    stage.queue(0..10);
    let summary = stage.dispatched();
    assert_eq!(summary.ended, Ended::TimeShort);
    assert_eq!(summary.suspended.keys().collect::<Vec<_>>(), ["worker"]);
    assert_eq!((stage.closed(), stage.left()), (counts(&[]), (10, 0)));
    let attempts = stage.tasks.with(|tables, _| {
        tables
            .tasks
            .items()
            .map(|item| item.number("attempts").unwrap().nanos())
            .sum::<i128>()
    });
    assert_eq!(attempts, 0);
}

#[test]
fn a_worker_that_is_throttled_is_asked_again_and_costs_no_attempts() {
    let stage = Stage::new(labourer(4)).works(Ending::Silent, |start| match start.at < 30 * SECOND {
        true => Behaviour::Throttled,
        false => Behaviour::Answers(10 * MS, Value::Null),
    });
    stage.queue(0..10);
    let summary = stage.dispatched();
    assert_eq!(
        (stage.closed(), stage.left()),
        (counts(&[("succeeded", 10)]), (0, 0))
    );
    assert!(summary.tally.given_back > 0, "{summary:?}");
    let attempts = stage.tasks.with(|tables, _| {
        tables
            .closed
            .items()
            .map(|item| item.number("attempts").unwrap().nanos() / 1_000_000_000)
            .max()
    });
    assert_eq!(attempts, Some(1));
}

#[test]
fn a_worker_that_only_fails_is_suspended_before_it_burns_every_attempt() {
    let mut stage = Stage::new(labourer(10)).works(Ending::Silent, |_| {
        Behaviour::Fails(MS, json!({ "errorType": "Broken", "errorMessage": "" }))
    });
    stage.lifetime = 800 * SECOND;
    stage.queue(0..10_000);
    let summary = stage.dispatched();
    assert!(summary.tally.started < 200, "{summary:?}");
    assert_eq!(summary.suspended["worker"].kind, "TooManyFailures");
}

#[test]
fn one_busy_value_does_not_block_the_rest() {
    let stage = Stage::new(Labourer {
        concurrency: vec![KeyCap {
            by: vec!["store".to_owned()],
            max: 2,
        }],
        ..labourer(10)
    })
    .works(Ending::Silent, |start| match start.payload["store"].as_str() {
        Some("roma") => Behaviour::Answers(10 * SECOND, Value::Null),
        _ => Behaviour::Answers(SECOND, Value::Null),
    });
    stage.queue_with(0..60, |id| match id {
        0..20 => json!({ "store": "roma" }).to_string(),
        _ => json!({ "store": format!("s{id}") }).to_string(),
    });
    stage.dispatched();
    assert_eq!(stage.closed(), counts(&[("succeeded", 60)]));
    let starts = stage.starts();
    let roma: Vec<&Start> = starts
        .iter()
        .filter(|start| start.payload["store"] == "roma")
        .collect();
    for start in &roma {
        let at_once = roma
            .iter()
            .filter(|other| other.at <= start.at && start.at < other.ends)
            .count();
        assert!(at_once <= 2, "{at_once} of roma at once");
    }
    let last_other = starts
        .iter()
        .filter(|start| start.payload["store"] != "roma")
        .map(|start| start.at)
        .max();
    assert!(
        last_other.unwrap() < 10 * SECOND,
        "the others went on beside: {last_other:?}"
    );
}

#[test]
fn an_idle_deployment_asks_three_requests_and_no_lock() {
    let stage = Stage::new(labourer(1));
    assert_eq!(stage.wake().unwrap(), Outcome::NothingToDo);
    assert!(stage.store.keys().is_empty());
}

#[test]
fn a_released_lock_says_what_is_running() {
    let stage = Stage::new(labourer(3)).works(Ending::Silent, succeeds);
    stage.queue(0..5);
    stage.dispatched();
    let body = stage.store.body("sosw/scheduler/dispatch/main.json").unwrap();
    let lock = GroupLock::parse("k", &body).unwrap();
    assert_eq!((lock.holder, lock.used.unwrap()["worker"].tasks), (None, 0));
}

#[test]
fn what_others_have_left_running_is_given_up_when_its_time_is_over() {
    let stage = Stage::new(labourer(3)).works(Ending::Silent, succeeds);
    stage.queue(0..2);
    // One that somebody claimed an hour ago and never settled.
    let claimed = (1_709_701_600 - 3600 + 31_557_600).to_string();
    stage.put(
        Table::Tasks,
        Record::from([
            ("task_id".to_owned(), Attribute::text("old")),
            ("labourer_id".to_owned(), Attribute::text("worker")),
            ("created_at".to_owned(), Attribute::number(1)),
            ("greenfield".to_owned(), Attribute::number(claimed)),
            ("attempts".to_owned(), Attribute::number(1)),
            ("payload".to_owned(), Attribute::text("{\"n\":9}")),
        ]),
    );
    stage.dispatched();
    assert_eq!(
        (stage.closed(), stage.left()),
        (counts(&[("succeeded", 3)]), (0, 0))
    );
}

#[test]
fn an_item_that_is_no_task_is_closed_with_the_reason() {
    let stage = Stage::new(labourer(3)).works(Ending::Silent, succeeds);
    stage.queue(0..2);
    stage.put(
        Table::Tasks,
        Record::from([
            ("task_id".to_owned(), Attribute::text("odd")),
            ("labourer_id".to_owned(), Attribute::text("worker")),
            ("greenfield".to_owned(), Attribute::number(5)),
            ("attempts".to_owned(), Attribute::text("three")),
        ]),
    );
    stage.dispatched();
    assert_eq!(
        (stage.closed(), stage.left()),
        (counts(&[("succeeded", 2), ("failed", 1)]), (0, 0))
    );
}

#[test]
fn it_is_told_now_and_then_how_labourers_are_doing_and_once_more_at_the_end() {
    let mut slow = labourer(2);
    slow.completion = Some(Completion::Response);
    let stage = Stage::new(slow).works(Ending::Silent, |_| Behaviour::Answers(20 * SECOND, json!(null)));
    stage.queue(0..5);
    stage.dispatched();
    let observed = stage.observed.lock().unwrap();
    let samples: Vec<_> = observed
        .iter()
        .filter_map(|observation| match observation {
            Observation::Sampled(samples) => Some((samples[0].running, samples[0].oldest.is_some())),
            _ => None,
        })
        .collect();
    // Five tasks of 20 s, two at once, looked at every 15 s: three rounds, in the last of which nothing is queued.
    assert_eq!(samples.first(), Some(&(2, true)), "{samples:?}");
    assert!(samples.contains(&(1, false)), "{samples:?}");
    assert_eq!(samples.last(), Some(&(0, false)), "{samples:?}");
    assert!((4..=6).contains(&samples.len()), "{samples:?}");
}

#[test]
fn a_labourer_that_is_held_up_is_told_with_the_reason_as_long_as_tasks_are_queued() {
    // Its function is not there.
    let stage = Stage::new(labourer(2));
    stage.queue(0..3);
    stage.dispatched();
    let observed = stage.observed.lock().unwrap();
    let mut held_up = observed.iter().filter_map(|observation| match observation {
        Observation::Sampled(samples) => Some(samples[0].held_up.as_ref().map(|why| why.kind)),
        _ => None,
    });
    assert_eq!(held_up.next().flatten(), Some("FunctionNotFound"));
    assert_eq!(stage.left(), (3, 0));
}

/// A metric of the processor of a database: above 50 is bad.
fn busy_database() -> HealthMetric {
    HealthMetric {
        name: "database".to_owned(),
        source: MetricSource {
            namespace: "AWS/RDS".to_owned(),
            metric: "CPUUtilization".to_owned(),
            dimensions: BTreeMap::new(),
            statistic: Statistic::Average,
            period: 60,
            window: 300,
        },
        feelings: vec![(4, 25.0), (2, 50.0)],
        operator: Comparison::Le,
        status_without_data: 4,
    }
}

#[test]
fn a_labourer_whose_health_is_poor_gets_a_share_of_its_slots() {
    for (measured, most) in [(None, 8), (Some(20.0), 8), (Some(40.0), 4)] {
        let stage = Stage::new(Labourer {
            health: vec![busy_database()],
            ..labourer(8)
        })
        .works(Ending::Silent, succeeds);
        stage.workers.with(|state| {
            let source = busy_database().source;
            state
                .measured
                .extend(measured.map(|value| (source, Duration::ZERO, value)));
        });
        stage.queue(0..40);
        stage.dispatched();
        assert_eq!(stage.closed(), counts(&[("succeeded", 40)]));
        assert_eq!(stage.most_at_once(), most, "{measured:?}");
    }
}

#[test]
fn health_is_looked_at_again_every_minute() {
    let stage = Stage::new(Labourer {
        health: vec![busy_database()],
        ..labourer(8)
    })
    .works(Ending::Silent, succeeds);
    stage.workers.with(|state| {
        let source = busy_database().source;
        state.measured.push((source, Duration::ZERO, 90.0));
    });
    stage.queue(0..10);
    stage.dispatched();
    assert_eq!(stage.closed(), counts(&[("succeeded", 10)]));
    let first = stage.starts().iter().map(|start| start.at).min().unwrap();
    // What was measured at the beginning is out of the window after five minutes, and is looked for once a minute.
    assert!((300 * SECOND..=361 * SECOND).contains(&first), "{first:?}");
}

#[test]
fn what_others_have_put_into_the_retry_table_comes_back_in_front_of_the_whole_queue() {
    let stage = Stage::new(labourer(1)).works(Ending::Silent, succeeds);
    stage.queue(0..40);
    // A queue in front of which something was put before: its places are below nothing.
    let row = |id: &str, greenfield: i64| {
        Record::from([
            ("task_id".to_owned(), Attribute::text(id)),
            ("labourer_id".to_owned(), Attribute::text("worker")),
            ("created_at".to_owned(), Attribute::number(1)),
            ("greenfield".to_owned(), Attribute::number(greenfield)),
            ("attempts".to_owned(), Attribute::number(1)),
            (
                "payload".to_owned(),
                Attribute::text(json!({ "id": id }).to_string()),
            ),
        ])
    };
    stage.put(Table::Tasks, row("front", -7));
    for (id, due) in [("second", 1_709_701_000), ("first", 1_709_700_000)] {
        let mut waiting = row(id, 1_741_258_600);
        waiting.insert("desired_launch_time".to_owned(), Attribute::number(due));
        stage.put(Table::Retry, waiting);
    }
    stage.tasks.with(|tables, _| tables.keeps_changes = true);
    stage.dispatched();
    let places: BTreeMap<String, String> = stage.tasks.with(|tables, _| {
        let changes = tables.changes.iter();
        let put_back = changes.filter(|change| change.table == Table::Tasks && change.before.is_none());
        let place = |record: &Record| record["greenfield"].as_number().unwrap().to_owned();
        put_back
            .filter_map(|change| Some((change.task_id.clone(), place(change.after.as_ref()?))))
            .collect()
    });
    let expected = [("first", "-9"), ("second", "-8")].map(|(id, place)| (id.to_owned(), place.to_owned()));
    assert_eq!(places, BTreeMap::from(expected));
}

#[test]
fn what_is_held_keeps_nobody_busy_and_nothing_is_started() {
    for held in [
        Labourer {
            paused: true,
            ..labourer(3)
        },
        labourer(0),
    ] {
        let stage = Stage::new(held).works(Ending::Silent, succeeds);
        stage.queue(0..10);
        assert_eq!(stage.wake().unwrap(), Outcome::NothingToDo);
        // What waits goes back into the queue all the same, and then there is nothing to do.
        stage.tasks.with(|tables, now| {
            let mut record = tables
                .take(now, Table::Tasks, &format!("{:032x}", 0))
                .unwrap()
                .record;
            record.insert("desired_launch_time".to_owned(), Attribute::number(1));
            tables.put(now, Table::Retry, record);
        });
        let summary = stage.dispatched();
        assert_eq!((summary.ended, summary.tally.started), (Ended::Idle, 0));
        assert_eq!((stage.left(), stage.starts().len()), ((10, 0), 0));
        assert!(stage.clock.now() < 60 * SECOND, "{:?}", stage.clock.now());
    }
}

/// Tables that refuse every transaction with a certain task in it, as a whole.
struct Picky<'a>(&'a MemoryTasks, &'a str);

impl Tables for Picky<'_> {
    async fn read(&self, range: &Range) -> PortResult<Page> {
        self.0.read(range).await
    }

    async fn task(&self, task_id: &str) -> PortResult<Option<Record>> {
        self.0.task(task_id).await
    }

    async fn update(&self, updates: &[Update]) -> PortResult<Vec<Updated>> {
        self.0.update(updates).await
    }

    async fn transact(&self, writes: &[Write]) -> PortResult<Transacted> {
        if format!("{writes:?}").contains(self.1) {
            return Err(PortError::Refused {
                operation: "dynamodb:TransactWriteItems",
                code: "ValidationException".to_owned(),
                message: "not this one".to_owned(),
            });
        }
        self.0.transact(writes).await
    }
}

#[test]
fn a_task_that_no_transaction_takes_stops_no_other() {
    let stage = Stage::new(labourer(8)).works(Ending::Silent, |start| match start.payload["n"].as_u64() {
        Some(0..20) => succeeds(start),
        _ => Behaviour::Fails(MS, json!({ "errorType": "Oops", "errorMessage": "" })),
    });
    stage.queue(0..30);
    let bad = format!("{:032x}", 7);
    let tables = Picky(&stage.tasks, &bad);
    let observer = |observation| stage.observed.lock().unwrap().push(observation);
    let dispatcher = Dispatcher {
        store: &stage.store,
        tables: &tables,
        workers: &stage.workers,
        outcomes: &stage.outcomes,
        host: &stage.host,
        config: &stage.config,
        request_time: 5 * SECOND,
        observer: &observer,
    };
    let wake_up = WakeUp {
        group: "main".to_owned(),
        owner: "a test".to_owned(),
        deadline: stage.host.monotonic() + 450 * SECOND,
        idle: Duration::ZERO,
        waits_for_retries: true,
    };
    let outcome = stage.clock.run(dispatcher.run(&wake_up)).unwrap();
    assert!(matches!(outcome, Ok(Outcome::Dispatched(_))), "{outcome:?}");
    assert_eq!(stage.closed(), counts(&[("succeeded", 19), ("failed", 10)]));
    assert_eq!(stage.left(), (1, 0), "it is left where it is");
    let observed = stage.observed.lock().unwrap();
    let said = |observation: &&Observation| matches!(observation, Observation::Unreadable { task_id, .. } if *task_id == bad);
    assert!(observed.iter().any(|observation| said(&observation)));
}
