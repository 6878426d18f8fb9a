//! The adapters on emulators of AWS that others wrote: MiniStack and moto, as `tests/compare/install` installs them.
//! Where they are not installed a test says so and passes, unless `JOBMILL_EMULATORS` names the folder.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use jobmill_aws::{ClientOptions, Clients, DynamoTasks, LambdaSiblings, REQUEST_TIME, S3Store, SystemHost};
use jobmill_core::config::{Config, TaskWrites};
use jobmill_core::job::event;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::identity::TaskIds;
use jobmill_core::task::tables::Tables;
use jobmill_engine::Limits;
use jobmill_engine::ports::{Clock, Metadata, ObjectStore as _, PutIf, Random};
use jobmill_engine::schedule::{Context, Engine, NextHolder, Observation, Outcome};
use jobmill_memory::MemorySiblings;
use jobmill_tests::conformance::{self, Exception};
use jobmill_tests::dynamo::{self, DynamoProbe};
use jobmill_tests::world::{BUCKET, PREFIX, config, flat_job};
use serde_json::{Value, json};
use tempfile::TempDir;

// ----------------------------------------------------------------------------------------------------- emulators

/// An emulator, and what of AWS it does not emulate.
struct Emulator {
    /// Its command.
    command: &'static str,
    /// Arguments and environment with which it serves 127.0.0.1 at that port.
    serve: fn(&mut Command, port: u16),
    /// How tasks can be created in it.
    writes: TaskWrites,
    /// What does not hold of its S3.
    store: &'static [Exception],
    /// What does not hold of its DynamoDB, of tasks that are created.
    tasks: &'static [Exception],
    /// The same of tasks that are dispatched.
    tables: &'static [Exception],
}

const MINISTACK: Emulator = Emulator {
    command: "ministack",
    serve: |command, port| {
        command
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("IOT_MTLS_ENABLED", "0") // else it serves MQTT at a fixed port of every address
            .env("SFTP_ENABLED", "0");
    },
    writes: TaskWrites::Insert,
    store: &[],
    tasks: &[],
    tables: &[],
};

const MOTO: Emulator = Emulator {
    command: "moto_server",
    serve: |command, port| {
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    },
    // It answers a PartiQL INSERT with parameters with 500, and lets one without replace what is there.
    writes: TaskWrites::Overwrite,
    // Each request has a thread of its own, and conditions are looked at before what they guard is locked.
    store: &[
        Exception {
            check: "races",
            by_chance: true,
            reason: "of conditional puts that race more than one may win",
        },
        Exception {
            check: "upload_races",
            by_chance: true,
            reason: "of uploads that race more than one may win",
        },
    ],
    tasks: &[Exception {
        check: "in_doubt_races",
        by_chance: true,
        reason: "a transaction copies the tables unlocked and puts the copy back if it fails: of those that race more \
                 than one may win, and one may fail with 500 because a table changed under the copy",
    }],
    tables: &[
        Exception {
            check: "updates_are_refused_each_for_itself",
            by_chance: false,
            reason: "an UpdateItem that is refused for the item's size has set the attributes before",
        },
        Exception {
            check: "updates_race",
            by_chance: true,
            reason: "a condition is looked at before the item is locked: of those that race more than one may win",
        },
        Exception {
            check: "transactions_race",
            by_chance: true,
            reason: "as of tasks: of those that race more than one may win, or one may fail with 500",
        },
    ],
};

/// How long to wait before asking again whether a server answers.
const POLL: Duration = Duration::from_millis(50);
/// Time limit for a server to answer; importing Python modules takes seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many ports are tried.
const PORTS: usize = 3;

/// The command of an emulator, if it is installed.
fn installed(command: &str) -> Option<PathBuf> {
    #[allow(
        clippy::disallowed_methods,
        reason = "a test binary is its own composition root"
    )]
    let named = std::env::var_os("JOBMILL_EMULATORS").map(PathBuf::from);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = match &named {
        Some(folder) => workspace.join(folder),
        None => workspace.join("target/emulators"),
    };
    let path = folder.join("bin").join(command);
    if path.exists() {
        return Some(path);
    }
    assert!(
        named.is_none(),
        "JOBMILL_EMULATORS is set, but there is no {path:?}"
    );
    // Not by `eprintln`, which the test harness captures.
    let notice = format!("skipped: {command} is not installed, see tests/compare/install\n");
    std::io::stderr().write_all(notice.as_bytes()).unwrap();
    None
}

/// An emulator that runs, in a process group of its own, until this is dropped or the test's process ends.
struct Server {
    shell: Child,
    endpoint: String,
    scratch: TempDir,
}

impl Server {
    /// Starts an emulator; nothing if it is not installed.
    async fn start(emulator: &Emulator) -> Option<Self> {
        let path = installed(emulator.command)?;
        for _ in 0..PORTS {
            // Free now; whoever takes it first makes the emulator exit, and another port is tried.
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let mut server = Self::spawn(emulator, &path, port);
            if server.answers(port).await {
                return Some(server);
            }
        }
        panic!("{} ended before it answered", emulator.command);
    }

    /// The shell leads the group and ends it when the emulator exits, or when this end of its standard input closes,
    /// however that comes about.
    fn spawn(emulator: &Emulator, path: &Path, port: u16) -> Self {
        const SCRIPT: &str = r#"("$0" "$@"; kill -KILL 0) </dev/null & read -r _; kill -KILL 0"#;
        let scratch = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT]).arg(path).env_clear();
        (emulator.serve)(&mut command, port);
        let shell = command
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", scratch.path())
            .env("TMPDIR", scratch.path())
            .current_dir(scratch.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            shell,
            endpoint: format!("http://127.0.0.1:{port}"),
            scratch,
        }
    }

    /// Waits until the port is open: false if the emulator exits before.
    async fn answers(&mut self, port: u16) -> bool {
        let host = SystemHost::new();
        while host.monotonic() < PATIENCE {
            if self.shell.try_wait().unwrap().is_some() {
                return false;
            }
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return true;
            }
            host.sleep(POLL).await;
        }
        panic!("{} does not answer within {PATIENCE:?}", self.endpoint);
    }

    fn clients(&self) -> Clients {
        Clients::at_endpoint(&self.endpoint, ClientOptions::default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().unwrap();
    }
}

/// An emulator with bucket and tables; nothing if it is not installed.
async fn prepared(emulator: &Emulator) -> Option<(Server, Clients)> {
    let server = Server::start(emulator).await?;
    let clients = server.clients();
    clients.s3.create_bucket().bucket(BUCKET).send().await.unwrap();
    create_tables(&clients.dynamodb.retrying).await;
    Some((server, clients))
}

/// sosw's tables.
async fn create_tables(client: &aws_sdk_dynamodb::Client) {
    for definition in jobmill_local::table_definitions(&tables()).unwrap() {
        // The definition is the request as it goes over the wire; the client wants to know the table's name.
        let name = definition["TableName"].as_str().unwrap();
        let request = client.create_table().table_name(name).customize();
        let request = request.mutate_request(move |request| {
            let body = definition.to_string();
            let length = body.len().to_string();
            request.headers_mut().insert("content-length", length);
            *request.body_mut() = SdkBody::from(body);
        });
        request.send().await.unwrap();
    }
}

fn tables() -> Tables {
    Tables {
        meta: Some("sosw_tasks_meta".to_owned()),
        ..Tables::default()
    }
}

// --------------------------------------------------------------------------------------------------- conformance

async fn store_conforms(emulator: &Emulator) {
    let Some((_server, clients)) = prepared(emulator).await else {
        return;
    };
    let store = S3Store::new(clients.s3, BUCKET);
    conformance::object_store_except(&store, "a/prefix/", emulator.store).await;
    store_ages(&store).await;
}

/// Leases are counted by ages. The suite of them moves the store's clock on, which can't be done here: this waits.
async fn store_ages(store: &S3Store) {
    let (key, host) = ("age", SystemHost::new());
    let put = async |condition| {
        let body = Bytes::from(host.random().to_string());
        store.put(key, body, &Metadata::new(), condition).await.unwrap()
    };
    let age = async || store.head(key).await.unwrap().unwrap().age;
    let first = put(PutIf::Absent).await;
    let begun = host.monotonic();
    while age().await < Duration::from_secs(3) {
        assert!(host.monotonic() - begun < PATIENCE, "an object does not age");
        host.sleep(POLL).await;
    }
    // Both ends of an age are whole seconds.
    assert!(
        host.monotonic() - begun > Duration::from_secs(1),
        "an object ages too fast"
    );
    put(PutIf::Matches(first)).await;
    assert!(
        age().await < Duration::from_secs(3),
        "what is written again is new"
    );
}

async fn tasks_conform(emulator: &Emulator) {
    let Some((_server, clients)) = prepared(emulator).await else {
        return;
    };
    dynamo::tasks_conform(clients.dynamodb, &tables(), emulator.writes, emulator.tasks).await;
}

async fn tables_conform(emulator: &Emulator) {
    let Some((_server, clients)) = prepared(emulator).await else {
        return;
    };
    dynamo::tables_conform(clients.dynamodb, &tables(), emulator.writes, emulator.tables).await;
}

#[tokio::test]
async fn ministack_lambda_conforms() {
    const ALIAS: &str = "arn:aws:lambda:us-east-1:000000000000:function:scheduler:live";
    let Some(server) = Server::start(&MINISTACK).await else {
        return;
    };
    let records = server.scratch.path().join("records");
    std::fs::write(&records, "").unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("compare/record_invocations.py");
    let created = Command::new(installed("python").unwrap())
        .args([script.as_os_str(), server.endpoint.as_ref(), records.as_os_str()])
        .output()
        .unwrap();
    assert!(created.status.success(), "{created:?}");
    // The suite asks before it spawns two and after.
    let asked = AtomicU64::new(0);
    let arrived = async || {
        let expected = match asked.fetch_add(1, Ordering::Relaxed) {
            0 => 0,
            _ => 2,
        };
        let host = SystemHost::new();
        loop {
            let text = std::fs::read_to_string(&records).unwrap();
            let mut lines: Vec<&str> = text.split_terminator('\n').collect();
            if lines.len() >= expected {
                // Asynchronous invocations arrive in any order; in that of the alphabet they were sent.
                lines.sort_unstable();
                let payload = |line: &str| line.strip_prefix(ALIAS).unwrap().trim_start().to_owned();
                break lines.into_iter().map(payload).collect::<Vec<_>>();
            }
            assert!(host.monotonic() < PATIENCE, "arrived: {lines:?}");
            host.sleep(POLL).await;
        }
    };
    conformance::siblings(&LambdaSiblings::new(server.clients().lambda, ALIAS), arrived).await;
}

#[tokio::test]
async fn ministack_s3_conforms() {
    store_conforms(&MINISTACK).await;
}

#[tokio::test]
async fn ministack_dynamodb_conforms() {
    tasks_conform(&MINISTACK).await;
}

#[tokio::test]
async fn ministack_tables_conform() {
    tables_conform(&MINISTACK).await;
}

#[tokio::test]
async fn moto_tables_conform() {
    tables_conform(&MOTO).await;
}

#[tokio::test]
async fn moto_s3_conforms() {
    store_conforms(&MOTO).await;
}

#[tokio::test]
async fn moto_dynamodb_conforms() {
    tasks_conform(&MOTO).await;
}

// ---------------------------------------------------------------------------------------------------- whole runs

/// Rows of a job, in twenty batches.
const ROWS: usize = 500;
/// What an invocation has left at its beginning, and how far the clock jumps: nearly to the end, less than a lease.
const INVOCATION: Duration = Duration::from_secs(25);
const JUMP: Duration = Duration::from_secs(24);

/// The machine, whose monotonic clock can jump.
struct JumpingHost {
    machine: SystemHost,
    ahead_ms: AtomicU64,
}

impl JumpingHost {
    fn new() -> Self {
        Self {
            machine: SystemHost::new(),
            ahead_ms: AtomicU64::new(0),
        }
    }

    fn jump(&self) {
        self.ahead_ms
            .store(u64::try_from(JUMP.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for JumpingHost {
    fn wall_ms(&self) -> i64 {
        self.machine.wall_ms()
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic() + Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed))
    }

    async fn sleep(&self, duration: Duration) {
        self.machine.sleep(duration).await;
    }
}

impl Random for JumpingHost {
    fn random(&self) -> u128 {
        self.machine.random()
    }
}

/// An emulator as the engine's cloud; siblings wait in memory.
struct Cloud {
    clients: Clients,
    config: Config,
    siblings: MemorySiblings,
    _server: Server,
}

impl Cloud {
    async fn start(emulator: &Emulator) -> Option<Self> {
        let (server, clients) = prepared(emulator).await?;
        let writes = match emulator.writes {
            TaskWrites::Insert => "insert",
            TaskWrites::Overwrite => "overwrite",
        };
        let config = config(json!({ "task_writes": writes, "shutdown_period": 1 }));
        Some(Self {
            clients,
            config: Config::parse(&config.to_string()).unwrap(),
            siblings: MemorySiblings::default(),
            _server: server,
        })
    }

    /// One invocation. With `interrupted` the time is short as soon as a row is a task.
    async fn invoke(&self, event: Value, interrupted: bool) -> Outcome {
        let store = S3Store::new(self.clients.s3.clone(), BUCKET);
        let (tables, writes) = (self.config.tables.clone(), self.config.task_writes);
        let tasks = DynamoTasks::new(self.clients.dynamodb.clone(), tables, writes);
        let host = JumpingHost::new();
        let observer = |observation: Observation<'_>| {
            if interrupted && matches!(observation, Observation::Progress { done, .. } if done > 0) {
                host.jump();
            }
        };
        let engine = Engine {
            store: &store,
            tasks: &tasks,
            siblings: &self.siblings,
            host: &host,
            config: &self.config,
            limits: Limits::default(),
            request_time: REQUEST_TIME,
            observer: &observer,
        };
        let context = Context {
            request_id: "request".to_owned(),
            deadline: host.monotonic() + INVOCATION,
        };
        engine.run(event::read(event).unwrap(), &context).await.unwrap()
    }

    /// Ids and payloads of the tasks, in the order of the queue.
    async fn tasks(&self) -> Vec<(Greenfield, String, Value)> {
        let probe = DynamoProbe {
            client: self.clients.dynamodb.retrying.clone(),
            names: self.config.tables.clone(),
        };
        let mut tasks = Vec::new();
        for item in probe.scan().await {
            assert_eq!((&*item["attempts"], &*item["labourer_id"]), ("0", "worker"));
            let greenfield = Greenfield::parse(&item["greenfield"]).unwrap();
            let payload = serde_json::from_str(&item["payload"]).unwrap();
            tasks.push((greenfield, item["task_id"].clone(), payload));
        }
        tasks.sort_by_key(|(greenfield, _, _)| *greenfield);
        tasks
    }

    /// Asserts that a run is whole: each row is one task, in the order of the rows, and only the receipt is left.
    async fn assert_whole(&self, run_id: &str) {
        let tasks = self.tasks().await;
        assert_eq!(tasks.len(), ROWS);
        let ids = TaskIds::new(BUCKET, PREFIX, run_id);
        for (row, (_, id, payload)) in tasks.iter().enumerate() {
            assert_eq!(*id, ids.at(row as u64), "the id of row {row}");
            assert_eq!(payload["sections"], json!([format!("section-{row}")]));
        }
        let greenfields: BTreeSet<Greenfield> = tasks.iter().map(|(greenfield, _, _)| *greenfield).collect();
        assert_eq!(greenfields.len(), ROWS, "a greenfield for each row");
        let left = S3Store::new(self.clients.s3.clone(), BUCKET)
            .list(PREFIX, None)
            .await
            .unwrap();
        let left: Vec<String> = left;
        assert_eq!(left, [format!("{PREFIX}/done/tasks_queue_{run_id}.txt.json")]);
    }
}

/// A job is completed, and completed already when it comes again.
async fn a_job_is_done_once(emulator: &Emulator) {
    let Some(cloud) = Cloud::start(emulator).await else {
        return;
    };
    let event = json!({ "job": flat_job(ROWS), "run_id": "once" });
    let outcome = cloud.invoke(event.clone(), false).await;
    let Outcome::Completed(summary) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (summary.rows, summary.done, summary.counters.created),
        (500, 500, 500)
    );
    cloud.assert_whole("once").await;
    let before = cloud.tasks().await;
    let again = Outcome::AlreadyCompleted {
        run_id: "once".to_owned(),
        rows: 500,
        counters: summary.counters,
    };
    assert_eq!(cloud.invoke(event, false).await, again);
    cloud.assert_whole("once").await;
    assert_eq!(cloud.tasks().await, before);
}

/// A job that is interrupted releases its file, and a sibling goes on with it.
async fn a_released_file_is_continued(emulator: &Emulator) {
    let Some(cloud) = Cloud::start(emulator).await else {
        return;
    };
    let outcome = cloud
        .invoke(json!({ "job": flat_job(ROWS), "run_id": "hops" }), true)
        .await;
    let Outcome::HandedOff {
        summary,
        to: NextHolder::Sibling,
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert!((1..500).contains(&summary.done), "{summary:?}");
    assert_eq!(
        cloud.tasks().await.len() as u64,
        summary.done,
        "what was sent was awaited"
    );
    let payload = cloud.siblings.next().unwrap();
    let outcome = cloud.invoke(serde_json::from_str(&payload).unwrap(), false).await;
    let Outcome::Completed(summary) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (summary.rows, summary.hop, summary.counters.created),
        (500, 1, 500)
    );
    cloud.assert_whole("hops").await;
    assert_eq!(cloud.siblings.next(), None);
}

#[tokio::test]
async fn ministack_does_a_job_once() {
    a_job_is_done_once(&MINISTACK).await;
}

#[tokio::test]
async fn ministack_continues_a_released_file() {
    a_released_file_is_continued(&MINISTACK).await;
}

#[tokio::test]
async fn moto_does_a_job_once() {
    a_job_is_done_once(&MOTO).await;
}

#[tokio::test]
async fn moto_continues_a_released_file() {
    a_released_file_is_continued(&MOTO).await;
}
