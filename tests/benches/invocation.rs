//! What an invocation costs: the real bootstrap as a process, S3 and Lambda of the local cloud, and a table that
//! answers after a fixed time, takes everything and keeps only ids.
//!
//!     cargo bench --bench invocation -- spool|drain|resume|cold-start|scale [--rows N]... [--latency MS] [--hop S]
//!
//! `spool`, `drain`: rows or tasks a second, CPU of the bootstrap alone, its peak memory, requests to S3.
//! `resume`: from the invocation of a sibling, in a fresh process, to its first new task.
//! `cold-start`: from the start of the process to its first request to the Runtime API.
//! `scale`: a job end to end through many hops, each id checked. It fails if one is missing or there is one too many.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

mod usage;

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jobmill_core::task::identity::TaskIds;
use jobmill_local::{CountingTable, Effect, FunctionSpec, LocalCloud, LocalCloudOptions, Rule, Service};
use serde_json::{Map, Value, json};

use usage::Usage;

/// The bootstrap of the same build, or that of `JOBMILL_BOOTSTRAP`.
fn bootstrap() -> String {
    std::env::var("JOBMILL_BOOTSTRAP").unwrap_or_else(|_| env!("CARGO_BIN_EXE_bootstrap").to_owned())
}

const BUCKET: &str = "jobmill-queue";

fn main() {
    let arguments = Arguments::read();
    let rows = |usual: &[u64]| match arguments.rows.is_empty() {
        true => usual.to_vec(),
        false => arguments.rows.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    match arguments.case.as_str() {
        "spool" => runtime.block_on(spool(&arguments, &rows(&GROWTH))),
        "drain" => runtime.block_on(drain(&arguments, &rows(&GROWTH))),
        "resume" => runtime.block_on(resume(&arguments, &rows(&[10, 1_000, 100_000, 10_000_000]))),
        "cold-start" => cold_start(),
        "scale" => runtime.block_on(scale(&arguments, rows(&[10_000_000])[0])),
        other => panic!("no case {other:?}: spool, drain, resume, cold-start or scale"),
    }
}

const GROWTH: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];

struct Arguments {
    case: String,
    rows: Vec<u64>,
    latency: Duration,
    hop: Duration,
}

impl Arguments {
    fn read() -> Self {
        let mut read = Self {
            case: "drain".to_owned(),
            rows: Vec::new(),
            latency: Duration::from_millis(5),
            hop: Duration::from_secs(15),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
            match word.as_str() {
                // Cargo says so.
                "--bench" => {}
                "--rows" => read.rows.push(number()),
                "--latency" => read.latency = Duration::from_millis(number()),
                "--hop" => read.hop = Duration::from_secs(number()),
                _ => read.case = word,
            }
        }
        read
    }
}

/// Days, sections, stores, products: a job of about `rows` rows, 130 bytes each, that is small itself.
fn job(rows: u64) -> Value {
    let (days, stores, products) = match rows {
        0..=99 => (rows.max(1), 0, 0),
        100..=99_999 => (10, rows / 1_000, 10),
        100_000..=1_000_000 => (100, rows / 10_000, 10),
        _ => (1_000, rows / 100_000, 10),
    };
    let products: Vec<String> = (0..products)
        .map(|product| format!("product-{product:04}"))
        .collect();
    let sections: Map<String, Value> = (0..if stores > 0 { 10 } else { 1 })
        .map(|section| {
            let stores: Map<String, Value> = (0..stores)
                .map(|store| (format!("store-{store:04}"), json!({ "products": products })))
                .collect();
            let section_value = if stores.is_empty() {
                Value::Null
            } else {
                json!({ "stores": stores })
            };
            (format!("section-{section}"), section_value)
        })
        .collect();
    json!({
        "lambda_name": "worker", "period": format!("last_{days}_days"), "isolate_days": true,
        "isolate_products": stores > 0, "sections": sections,
    })
}

struct Bench {
    cloud: LocalCloud,
    table: CountingTable,
}

impl Bench {
    async fn start(arguments: &Arguments) -> Self {
        let cloud = LocalCloud::start(LocalCloudOptions::default().threads(1))
            .await
            .unwrap();
        cloud.create_bucket(BUCKET);
        let table = CountingTable::start(arguments.latency).unwrap();
        Self { cloud, table }
    }

    /// The bootstrap as a function that is given so long.
    fn function(&self, name: &str, timeout: Duration, shutdown: Duration) {
        let config = json!({
            "queue_bucket": BUCKET,
            "max_tasks_per_job": 100_000_000,
            "shutdown_period": shutdown.as_secs(),
            "task_config": { "labourers": { "worker": { "arn": "arn:aws:lambda:us-east-1:000000000000:function:worker" } } },
            "job_schema_variants": { "default": { "chunkable_attrs": [["section", {}], ["store", {}], ["product", {}]] } },
        });
        let function = FunctionSpec::new(name, bootstrap())
            .env("JOBMILL_CONFIG", config.to_string())
            .env("AWS_ENDPOINT_URL_DYNAMODB", self.table.endpoint())
            .env("AWS_LAMBDA_LOG_LEVEL", "WARN")
            .timeout(timeout)
            .retry_delays([]);
        self.cloud.register_function(function);
    }

    async fn invoke(&self, function: &str, event: Value) -> Value {
        let answer = self.cloud.invoke(function, event.to_string()).await.unwrap();
        let text = String::from_utf8_lossy(&answer.payload).into_owned();
        assert!(answer.function_error.is_none(), "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The next invocation gets a new process.
    async fn fresh(&self) {
        self.cloud.kill_all_instances();
        while self.cloud.instances() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Spools the job and leaves it released, with no task made. Gives its file, the seconds it took, and the usage.
    async fn spooled(&self, run: &str, rows: u64) -> (String, f64, Usage) {
        let time = Duration::from_secs(4) + Duration::from_micros(rows * 4);
        self.function("spooler", time, time / 2);
        self.fresh().await;
        self.table.reset();
        self.table.limit(Some(0));
        let lost = self
            .cloud
            .faults()
            .add(Rule::new(Service::Lambda, Effect::LoseInvoke));
        let event = json!({ "job": job(rows), "run_id": run, "as_of": "2024-03-06" });
        let started = Instant::now();
        let answer = self.invoke("spooler", event).await;
        self.cloud.faults().remove(lost);
        assert_eq!(answer["outcome"], "handed_off", "{answer}");
        assert_eq!(answer["rows"], json!(rows));
        let asked = self.table.stats().first_asked.expect("the first task was sent");
        (
            answer["file_name"].as_str().unwrap().to_owned(),
            asked.duration_since(started).as_secs_f64(),
            Usage::of_instances(),
        )
    }

    fn s3_requests(&self) -> u64 {
        let operations = self.cloud.stats().operations;
        let of_s3 = operations
            .iter()
            .filter(|((service, _), _)| *service == Service::S3);
        of_s3.map(|(_, stats)| stats.requests).sum()
    }

    /// Every task of the run is there, once, and no other.
    fn assert_whole(&self, run: &str, rows: u64) {
        let ids = TaskIds::new(BUCKET, "sosw/scheduler", run);
        let missing = self
            .table
            .missing((0..rows).map(|row| u128::from_str_radix(&ids.at(row), 16).unwrap()));
        assert_eq!(
            (missing, self.table.stats().created),
            (0, rows),
            "missing, created"
        );
    }
}

/// From the event to the first task that is sent, with the start of the process.
async fn spool(arguments: &Arguments, rows: &[u64]) {
    println!("rows | seconds | rows/s | CPU µs/row | peak MiB | requests to S3");
    let bench = Bench::start(arguments).await;
    for &rows in rows {
        bench.cloud.reset_stats();
        let (file, seconds, usage) = bench.spooled(&format!("spool-{rows}"), rows).await;
        println!(
            "{rows} | {seconds:.3} | {:.0} | {:.2} | {:.1} | {}",
            rows as f64 / seconds,
            usage.cpu * 1e6 / rows as f64,
            usage.peak,
            bench.s3_requests(),
        );
        bench.forget(|key| key.ends_with(&file));
    }
}

/// A whole file by one fresh process, from the first task created to the last.
async fn drain(arguments: &Arguments, rows: &[u64]) {
    println!("tasks | seconds | tasks/s | CPU µs/task | peak MiB | requests to DynamoDB | to S3");
    let bench = Bench::start(arguments).await;
    bench.function("drainer", Duration::from_secs(900), Duration::from_secs(5));
    for &rows in rows {
        let run = format!("drain-{rows}");
        let (file, ..) = bench.spooled(&run, rows).await;
        // Without its lock no row is in doubt: the next one begins as if it had spooled the rows itself.
        let lock = format!("locked_{file}");
        bench.forget(|key| key.ends_with(&lock));
        bench.fresh().await;
        bench.cloud.reset_stats();
        bench.table.reset();
        bench.table.limit(None);
        let answer = bench.invoke("drainer", json!({ "file_name": file })).await;
        assert_eq!(answer["outcome"], "completed", "{answer}");
        let (usage, stats) = (Usage::of_instances(), bench.table.stats());
        let seconds = (stats.last_created.unwrap() - stats.first_created.unwrap()).as_secs_f64();
        bench.assert_whole(&run, rows);
        println!(
            "{rows} | {seconds:.3} | {:.0} | {:.2} | {:.1} | {} | {}",
            rows as f64 / seconds,
            usage.cpu * 1e6 / rows as f64,
            usage.peak,
            stats.batches + stats.transactions,
            bench.s3_requests(),
        );
    }
}

/// A sibling goes on in the middle of the file: five times, in a fresh process each, one new task at a time.
async fn resume(arguments: &Arguments, rows: &[u64]) {
    println!("rows in the file | first new task after, ms (five times, sorted)");
    let bench = Bench::start(arguments).await;
    for &rows in rows {
        let (file, ..) = bench.spooled(&format!("resume-{rows}"), rows).await;
        // To the middle of it.
        bench.table.limit(Some(rows / 2));
        bench.function(
            "middle",
            Duration::from_secs(4) + Duration::from_micros(rows * 8),
            Duration::from_secs(1),
        );
        bench.function("sibling", Duration::from_secs(3), Duration::from_secs(2));
        let _lost = bench
            .cloud
            .faults()
            .add(Rule::new(Service::Lambda, Effect::LoseInvoke));
        bench.invoke("middle", json!({ "file_name": file })).await;
        let mut times = Vec::new();
        for one in 1..=5 {
            bench.fresh().await;
            bench.table.mark();
            bench.table.limit(Some(rows / 2 + one));
            let started = Instant::now();
            bench.invoke("sibling", json!({ "file_name": file })).await;
            let created = bench.table.stats().first_created.expect("a new task");
            times.push(created.duration_since(started).as_secs_f64() * 1e3);
        }
        bench.cloud.faults().clear();
        bench.forget(|key| key.ends_with(&file));
        times.sort_by(f64::total_cmp);
        let times: Vec<String> = times.iter().map(|time| format!("{time:.1}")).collect();
        println!("{rows} | {}", times.join(" "));
    }
}

/// To the first request to the Runtime API, with nothing else of the cloud there.
fn cold_start() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut times: Vec<f64> = (0..51)
        .map(|_| {
            let started = Instant::now();
            let mut child = Command::new(bootstrap())
                .env_clear()
                .env("AWS_LAMBDA_RUNTIME_API", &address)
                .env("AWS_LAMBDA_FUNCTION_NAME", "scheduler")
                .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
                .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
                .env("AWS_LAMBDA_LOG_GROUP_NAME", "group")
                .env("AWS_LAMBDA_LOG_STREAM_NAME", "stream")
                .env("AWS_REGION", "us-east-1")
                .env("AWS_ACCESS_KEY_ID", "local")
                .env("AWS_SECRET_ACCESS_KEY", "local")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let (mut connection, _) = listener.accept().unwrap();
            assert!(connection.read(&mut [0; 512]).unwrap() > 0);
            let time = started.elapsed().as_secs_f64() * 1e3;
            child.kill().unwrap();
            child.wait().unwrap();
            time
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let size = fs::metadata(bootstrap()).unwrap().len() as f64 / 1e6;
    println!(
        "first request after {:.1} ms (median of 51; fastest {:.1}, slowest {:.1}); the binary has {size:.1} MB",
        times[25], times[0], times[50]
    );
}

/// The whole way of a large job: one event, a chain of siblings, swept up where the chain ends.
async fn scale(arguments: &Arguments, rows: u64) {
    let bench = Bench::start(arguments).await;
    bench.function("scheduler", arguments.hop, Duration::from_secs(2));
    bench.table.limit(None);
    let started = Instant::now();
    let event = json!({ "job": job(rows), "run_id": "scale", "as_of": "2024-03-06" });
    bench.cloud.invoke_event("scheduler", event.to_string()).unwrap();
    let patience = Duration::from_secs(1_800);
    bench.cloud.wait_idle(patience).await.unwrap();
    let mut sweeps = 0;
    while bench.receipt("scale").is_none() {
        assert!(started.elapsed() < patience, "not done after {patience:?}");
        sweeps += 1;
        bench.invoke("scheduler", json!({ "sweep": true })).await;
        bench.cloud.wait_idle(patience).await.unwrap();
    }
    let seconds = started.elapsed().as_secs_f64();
    bench.assert_whole("scale", rows);
    let (stats, usage) = (bench.table.stats(), Usage::of_instances());
    println!(
        "{rows} tasks, each exactly once, in {seconds:.1} s and {} invocations ({sweeps} sweeps): {} requests to \
         DynamoDB ({} for one task in doubt, {} tasks came again), {} to S3; peak {:.1} MiB",
        bench.cloud.invocations().len(),
        stats.batches + stats.transactions,
        stats.transactions,
        stats.again,
        bench.s3_requests(),
        usage.peak,
    );
    println!("{}", bench.receipt("scale").unwrap());
}

impl Bench {
    fn receipt(&self, run: &str) -> Option<String> {
        let keys = self.cloud.bucket_keys(BUCKET, "");
        let key = keys
            .iter()
            .find(|key| key.contains("done/") && key.contains(run))?;
        let object = self.cloud.object(BUCKET, key)?;
        Some(String::from_utf8_lossy(&object.body).into_owned())
    }

    fn forget(&self, these: impl Fn(&str) -> bool) {
        for key in self.cloud.bucket_keys(BUCKET, "") {
            if these(&key) {
                self.cloud.delete_object(BUCKET, &key);
            }
        }
    }
}
