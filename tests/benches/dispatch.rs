//! What dispatching costs: the orchestrator's real bootstrap as a process, S3 and Lambda's runtime of the local cloud, and
//! queues and workers that answer after a fixed time and keep only the state of a task.
//!
//!     cargo bench --bench dispatch -- lives|pace|under-way|shares|growth|idle|sosw|engine [--tasks N]... [--labourers N]
//!         [--slots N] [--latency MS] [--work MS]
//!
//! `lives`: tasks claimed, started and settled a second, CPU of the bootstrap alone, its peak memory; from a slot that is
//! free to the next start. `pace`: the same where workers and slots allow about 2,000 a second, and no more.
//! `under-way`: as many answers waited for at once as there may be.
//! `shares`: what each of a hundred labourers has got when half of all is done.
//! `growth`: the same number of lives, from ever longer queues.
//! `idle`: a wake-up that finds nothing to do.
//! `sosw`: sosw's Orchestrator and Scavenger on a table of the local cloud, and jobmill on queues that count, both with the
//! same time a request. `SOSW_PYTHON` is a Python that has sosw 0.7.51: `tests/venv` makes one.
//! `engine`: the decisions and the loop that performs them, on ports that answer at once, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

mod usage;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jobmill_core::config::Config;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::item::Task;
use jobmill_core::task::record::{Attribute, Record, record_of};
use jobmill_core::task::tables::Tables as TableNames;
use jobmill_core::task::write::{Index, Page, Range, Update, Write};
use jobmill_engine::dispatch::ports::{
    Answer, Asked, Asking, News, Outcomes, Tables, Transacted, Unfit, Updated, Workers,
};
use jobmill_engine::dispatch::{Dispatcher, Observation, Outcome, WakeUp};
use jobmill_engine::ports::{Clock as _, PortResult};
use jobmill_local::{CountingQueue, FunctionSpec, LocalCloud, LocalCloudOptions, QueueOptions, QueueStats};
use jobmill_memory::{MemoryStore, VirtualClock, VirtualHost};
use serde_json::{Map, Value, json};

use usage::Usage;

/// As in the Lambda: what the engine costs is allocating, mostly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BUCKET: &str = "jobmill-queue";
const MS: Duration = Duration::from_millis(1);
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(600);

/// The bootstrap of the same build, or that of `JOBMILL_BOOTSTRAP`.
fn bootstrap() -> String {
    std::env::var("JOBMILL_BOOTSTRAP").unwrap_or_else(|_| env!("CARGO_BIN_EXE_orchestrator").to_owned())
}

fn main() {
    let arguments = Arguments::read();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    match arguments.case.as_str() {
        "lives" => runtime.block_on(lives(&arguments, (10, 40))),
        "pace" => runtime.block_on(lives(&arguments, (10, 13))),
        "under-way" => runtime.block_on(under_way(&arguments)),
        "shares" => runtime.block_on(shares(&arguments)),
        "growth" => runtime.block_on(growth(&arguments)),
        "idle" => runtime.block_on(idle(&arguments)),
        "sosw" => runtime.block_on(sosw(&arguments)),
        "engine" => engine(&arguments),
        other => panic!("no case {other:?}: lives, pace, under-way, shares, growth, idle, sosw or engine"),
    }
}

struct Arguments {
    case: String,
    tasks: Vec<u64>,
    labourers: Option<usize>,
    slots: Option<usize>,
    latency: Duration,
    work: Option<Duration>,
}

impl Arguments {
    fn read() -> Self {
        let mut read = Self {
            case: "lives".to_owned(),
            tasks: Vec::new(),
            labourers: None,
            slots: None,
            latency: 5 * MS,
            work: None,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
            match word.as_str() {
                // Cargo says so.
                "--bench" => {}
                "--tasks" => read.tasks.push(number()),
                "--labourers" => read.labourers = Some(number() as usize),
                "--slots" => read.slots = Some(number() as usize),
                "--latency" => read.latency = Duration::from_millis(number()),
                "--work" => read.work = Some(Duration::from_millis(number())),
                _ => read.case = word,
            }
        }
        read
    }

    /// So many tasks in all, for so many labourers, each with so many slots.
    fn queue(&self, tasks: u64, (labourers, slots): (usize, usize)) -> QueueOptions {
        let labourers = self.labourers.unwrap_or(labourers);
        QueueOptions {
            latency: self.latency,
            labourers,
            tasks: tasks / labourers as u64,
            work: (Duration::ZERO, self.work.unwrap_or(100 * MS)),
            slots: self.slots.unwrap_or(slots),
        }
    }
}

/// A fresh process of the orchestrator that has been woken.
struct Bench {
    cloud: LocalCloud,
    queue: CountingQueue,
}

impl Bench {
    async fn start(options: QueueOptions) -> Self {
        let cloud = LocalCloud::start(LocalCloudOptions::default().threads(1))
            .await
            .unwrap();
        cloud.create_bucket(BUCKET);
        let labourer = |at: usize| {
            let id = CountingQueue::labourer_id(at);
            let labourer = json!({
                "arn": format!("arn:aws:lambda:us-east-1:000000000000:function:{id}"),
                "max_simultaneous_invocations": options.slots,
                "max_duration": 10,
            });
            (id, labourer)
        };
        let labourers: Map<String, Value> = (0..options.labourers).map(labourer).collect();
        let config = json!({ "queue_bucket": BUCKET, "task_config": { "labourers": labourers } });
        let queue = CountingQueue::start(options).unwrap();
        let function = FunctionSpec::new("orchestrator", bootstrap())
            .env("JOBMILL_CONFIG", config.to_string())
            .env("AWS_ENDPOINT_URL_DYNAMODB", queue.endpoint())
            .env("AWS_ENDPOINT_URL_LAMBDA", queue.endpoint())
            .env("AWS_LAMBDA_LOG_LEVEL", "WARN")
            .timeout(Duration::from_secs(900))
            .retry_delays([]);
        cloud.register_function(function);
        Self { cloud, queue }
    }

    fn wake(&self) {
        self.cloud.invoke_event("orchestrator", "{}").unwrap();
    }

    /// Until so many tasks are closed.
    async fn closed(&self, tasks: u64) {
        let started = Instant::now();
        while self.queue.closed() < tasks {
            assert!(started.elapsed() < PATIENCE, "{:?}", self.queue.stats().requests);
            tokio::time::sleep(10 * MS).await;
        }
    }

    /// So many lives: a line of figures.
    async fn live(&self, tasks: u64) -> String {
        self.wake();
        self.closed(tasks).await;
        let (usage, stats) = (Usage::of_instances(), self.queue.stats());
        assert_eq!(stats.wrong_starts, 0, "starts of what was not claimed, or again");
        figures(&stats, usage)
    }
}

const HEADER: &str = "lives | lives/s | CPU µs/life | peak MiB | most at once | free slot to start, ms: median, 99 % | \
                      lives a request: claims, settles | claims refused";

fn figures(stats: &QueueStats, usage: Usage) -> String {
    let lives = stats.all_closed() as f64;
    let seconds = (stats.last_closed.unwrap() - stats.first_start.unwrap()).as_secs_f64();
    let mut waits = stats.waits.clone();
    waits.sort_unstable();
    let wait = |share: f64| {
        let at = (waits.len() as f64 * share) as usize;
        waits.get(at).map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
    };
    let each = |operation: &str| lives / stats.requests.get(operation).copied().unwrap_or(0).max(1) as f64;
    format!(
        "{lives} | {:.0} | {:.1} | {:.1} | {} | {:.1} {:.1} | {:.1} {:.1} | {}",
        lives / seconds,
        usage.cpu * 1e6 / lives,
        usage.peak,
        stats.most_running,
        wait(0.5),
        wait(0.99),
        each("BatchExecuteStatement"),
        each("TransactWriteItems"),
        stats.claims.1,
    )
}

async fn lives(arguments: &Arguments, usual: (usize, usize)) {
    println!("{HEADER}");
    let tasks = arguments.tasks.first().copied().unwrap_or(50_000);
    let bench = Bench::start(arguments.queue(tasks, usual)).await;
    println!("{}", bench.live(tasks).await);
}

/// One labourer whose workers take two seconds each.
async fn under_way(arguments: &Arguments) {
    println!("{HEADER}");
    let tasks = arguments.tasks.first().copied().unwrap_or(5_000);
    let mut options = arguments.queue(tasks, (1, 1_000));
    let work = arguments.work.unwrap_or(2_000 * MS);
    options.work = (work, work);
    let bench = Bench::start(options).await;
    println!("{}", bench.live(tasks).await);
}

async fn shares(arguments: &Arguments) {
    let tasks = arguments.tasks.first().copied().unwrap_or(100_000);
    let options = arguments.queue(tasks, (100, 10));
    let labourers = options.labourers as f64;
    let bench = Bench::start(options).await;
    bench.wake();
    println!("closed of all | the labourer with the fewest | with the most | furthest from its share, %");
    for part in 1..=4 {
        bench.closed(tasks * part / 5).await;
        let closed = bench.queue.stats().closed;
        let share = closed.iter().sum::<u64>() as f64 / labourers;
        let off = |closed: &u64| (*closed as f64 - share).abs() / share * 100.0;
        println!(
            "{} | {} | {} | {:.1}",
            closed.iter().sum::<u64>(),
            closed.iter().min().unwrap(),
            closed.iter().max().unwrap(),
            closed.iter().map(off).fold(0.0, f64::max),
        );
    }
    bench.closed(tasks).await;
    println!(
        "{HEADER}\n{}",
        figures(&bench.queue.stats(), Usage::of_instances())
    );
}

async fn growth(arguments: &Arguments) {
    println!("queued | {HEADER}");
    let all = match arguments.tasks.is_empty() {
        true => vec![10_000, 100_000, 1_000_000, 10_000_000],
        false => arguments.tasks.clone(),
    };
    for tasks in all {
        let bench = Bench::start(arguments.queue(tasks, (10, 40))).await;
        let lives = 10_000.min(tasks);
        println!("{tasks} | {}", bench.live(lives).await);
    }
}

/// Ten wake-ups of one process, one after the other.
async fn idle(arguments: &Arguments) {
    println!("labourers | wake-up | ms | requests to DynamoDB | to S3 | CPU so far, ms");
    for labourers in [1, 10, 100] {
        let bench = Bench::start(arguments.queue(0, (labourers, 1))).await;
        let mut before = 0;
        for wake_up in 1..=10 {
            bench.cloud.reset_stats();
            let started = Instant::now();
            let answer = bench.cloud.invoke("orchestrator", "{}").await.unwrap();
            let took = started.elapsed();
            let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
            assert_eq!(answer["outcome"], "nothing_to_do", "{answer}");
            let operations = bench.cloud.stats().operations;
            let of_s3 = operations
                .iter()
                .filter(|((service, _), _)| *service == jobmill_local::Service::S3);
            let of_s3: u64 = of_s3.map(|(_, stats)| stats.requests).sum();
            let requests = bench.queue.requests();
            println!(
                "{labourers} | {wake_up} | {:.1} | {} | {of_s3} | {:.0}",
                took.as_secs_f64() * 1e3,
                requests - before,
                Usage::of_instances().cpu * 1e3
            );
            before = requests;
        }
    }
}

/// One life after the other: sosw launches all tasks of a labourer, their workers mark them, it archives them.
async fn sosw(arguments: &Arguments) {
    let tasks = arguments.tasks.first().copied().unwrap_or(500);
    let bench = Bench::start(arguments.queue(20_000, (10, 40))).await;
    let lives = bench.live(20_000).await;
    let stats = bench.queue.stats();
    let ours = 20_000.0 / (stats.last_closed.unwrap() - stats.first_start.unwrap()).as_secs_f64();
    println!("jobmill: {HEADER}\n{lives}");
    bench.cloud.kill_all_instances();

    let cloud = &bench.cloud;
    let names = TableNames::default();
    cloud.create_task_tables(&names).unwrap();
    let function = FunctionSpec::new("worker-000", "/bin/true")
        .max_concurrency(0)
        .retry_delays([]);
    cloud.register_function(function);
    for row in 0..tasks {
        let item = json!({
            "task_id": { "S": format!("{row:032x}") }, "labourer_id": { "S": "worker-000" },
            "created_at": { "N": "1709701000" }, "greenfield": { "N": (1_000_000 + row).to_string() },
            "attempts": { "N": "0" }, "payload": { "S": "{\"row\": 7}" },
        });
        cloud.put_item(&names.tasks, item).unwrap();
    }
    let (min, max) = (arguments.latency, arguments.latency);
    for service in [jobmill_local::Service::DynamoDb, jobmill_local::Service::Lambda] {
        cloud.faults().add(jobmill_local::Rule::new(
            service,
            jobmill_local::Effect::Delay { min, max },
        ));
    }
    let python = std::env::var("SOSW_PYTHON").expect("SOSW_PYTHON");
    let run = async |which: &str| -> f64 {
        let output = tokio::process::Command::new(&python)
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../tests/compare/sosw_dispatch.py"
            ))
            .args([which, "worker-000"])
            .arg("arn:aws:lambda:us-east-1:000000000000:function:worker-000")
            .arg(tasks.to_string())
            .env_clear()
            .envs(cloud.environment())
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        let line: Value =
            serde_json::from_str(text.trim()).unwrap_or_else(|why| panic!("{why}: {text}{errors}"));
        println!("sosw's {which}: {line}");
        line["seconds"].as_f64().unwrap()
    };
    let launched = run("orchestrator").await;
    for mut item in cloud.scan_table(&names.tasks).unwrap() {
        let greenfield: f64 = item["greenfield"]["N"].as_str().unwrap().parse().unwrap();
        assert!(greenfield > 1.72e9, "launched: {item}");
        item["completed_at"] = json!({ "N": "1732500000" });
        cloud.put_item(&names.tasks, item).unwrap();
    }
    let mut archived = 0.0;
    while !cloud.scan_table(&names.tasks).unwrap().is_empty() {
        archived += run("scavenger").await;
    }
    assert_eq!(cloud.scan_table(&names.closed).unwrap().len() as u64, tasks);
    let theirs = tasks as f64 / (launched + archived);
    println!(
        "lives/s: sosw {theirs:.1}, jobmill {ours:.0}: {:.0} times",
        ours / theirs
    );
}

// ------------------------------------------------------------------------------------------- the engine alone

/// Tables, workers and outcomes that answer at once.
struct AtOnce {
    record: Record,
    left: BTreeMap<String, AtomicU64>,
    /// Spent on making records.
    making: AtomicU64,
}

impl Tables for AtOnce {
    async fn read(&self, range: &Range) -> PortResult<Page> {
        if range.index != Index::Queue || range.from != Greenfield::FIRST {
            return Ok(Page::default());
        }
        let begun = Instant::now();
        let left = &self.left[&range.labourer_id];
        let before = left.load(Ordering::Relaxed);
        let after = before.saturating_sub(range.limit.into());
        left.store(after, Ordering::Relaxed);
        let record = |row: u64| {
            let mut record = self.record.clone();
            record.insert(
                "task_id".to_owned(),
                Attribute::S(format!("{}-{row:020}", range.labourer_id)),
            );
            record.insert("labourer_id".to_owned(), Attribute::text(&range.labourer_id));
            record
        };
        let page = Page {
            records: (after..before).map(record).collect(),
            next: (after > 0).then(Record::new),
        };
        self.making
            .fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        Ok(page)
    }

    async fn task(&self, _: &str) -> PortResult<Option<Record>> {
        Ok(None)
    }

    async fn update(&self, updates: &[Update]) -> PortResult<Vec<Updated>> {
        Ok(vec![Updated::Done; updates.len()])
    }

    async fn transact(&self, _: &[Write]) -> PortResult<Transacted> {
        Ok(Transacted::Done)
    }
}

impl Workers for AtOnce {
    async fn ask(&self, _: &str, _: String, _: Asking) -> Asked {
        Asked::Answered(Answer {
            payload: bytes::Bytes::from_static(br#"{"rows": 3}"#),
            is_error: false,
        })
    }

    async fn longest_run(&self, _: &str) -> PortResult<Result<Duration, Unfit>> {
        Ok(Ok(Duration::from_secs(10)))
    }

    async fn datapoints(&self, _: &jobmill_core::task::labourer::MetricSource) -> PortResult<Vec<f64>> {
        Ok(Vec::new())
    }
}

impl Outcomes for AtOnce {
    fn is_there(&self) -> bool {
        false
    }

    async fn receive(&self) -> PortResult<Vec<News>> {
        Ok(Vec::new())
    }

    async fn acknowledge(&self, _: &[String]) -> PortResult<()> {
        Ok(())
    }
}

/// Seconds of CPU of this thread.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn engine(arguments: &Arguments) {
    println!("labourers | lives | CPU ns/life | of these for making the tasks");
    let tasks = arguments.tasks.first().copied().unwrap_or(200_000);
    for labourers in [1, 10, 100] {
        let options = arguments.queue(tasks, (labourers, 40));
        let mut configured = Map::new();
        for at in 0..options.labourers {
            let labourer =
                json!({ "arn": "f", "max_simultaneous_invocations": options.slots, "max_duration": 10 });
            configured.insert(CountingQueue::labourer_id(at), labourer);
        }
        let config = json!({ "queue_bucket": "b", "task_config": { "labourers": configured } });
        let config = Config::read(&config).unwrap();
        let task = Task {
            task_id: String::new(),
            labourer_id: String::new(),
            created_at: "1709701000".to_owned(),
            greenfield: Greenfield::from_millis(1_000_000),
            payload: json!({
                "lambda_name": "worker", "start_date": "2024-03-05", "end_date": "2024-03-05",
                "sections": ["section-3"], "stores": ["store-0042"], "products": ["product-0000"], "row": 7,
            })
            .to_string(),
        };
        let left = config
            .labourers
            .keys()
            .map(|id| (id.clone(), AtomicU64::new(options.tasks)));
        let ports = AtOnce {
            record: record_of(&config.tables.fields, &task),
            left: left.collect(),
            making: AtomicU64::new(0),
        };
        let clock = VirtualClock::default();
        let host = VirtualHost::new(clock.clone(), 1);
        let store = MemoryStore::new(clock.clone());
        let dispatcher = Dispatcher {
            store: &store,
            tables: &ports,
            workers: &ports,
            outcomes: &ports,
            host: &host,
            config: &config,
            request_time: Duration::from_secs(5),
            observer: &|_: Observation| {},
        };
        let wake_up = WakeUp {
            group: "main".to_owned(),
            owner: "a benchmark".to_owned(),
            deadline: host.monotonic() + Duration::from_secs(900),
            idle: Duration::ZERO,
            waits_for_retries: false,
        };
        let begun = cpu();
        let outcome = clock.run(dispatcher.run(&wake_up)).unwrap().unwrap();
        let used = cpu() - begun;
        let Outcome::Dispatched(summary) = outcome else {
            panic!("{outcome:?}");
        };
        let lives = options.tasks * options.labourers as u64;
        // The look before the lock takes one task of the first labourer.
        assert!(summary.tally.succeeded + 1 >= lives, "{summary:?}");
        println!(
            "{labourers} | {lives} | {:.0} | {:.0}",
            used * 1e9 / lives as f64,
            ports.making.load(Ordering::Relaxed) as f64 / lives as f64
        );
    }
}
