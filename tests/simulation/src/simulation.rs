//! The stage: sandboxes on one thread, what is delivered to them, and when it is over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jobmill_core::config::Config;
use jobmill_core::queue::receipt::Receipt;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::item::Task;
use jobmill_core::task::record::record_of;
use jobmill_core::task::tables::FieldNames;
use jobmill_core::task::write::Table;
use jobmill_engine::EngineError;
#[cfg(jobmill_mutants)]
use jobmill_engine::mutants;
use jobmill_engine::ports::{Metadata, PutIf};
use jobmill_engine::schedule::Outcome;
use jobmill_memory::{Capacity, MemorySiblings, MemoryStore, MemoryTasks, Rng, VirtualClock};
use serde_json::{Value, json};

use super::auditor::{self, Violation};
use super::expected::ExpectedRun;
use super::faults::{Log, Network};
use super::orchestrator;
use super::sandbox::Sandbox;
use super::scenario::{DeploymentSpec, Scenario};

/// The labourer of tasks that no orchestrator takes.
pub(super) const NOBODY: &str = "nobody";
/// Between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(180);
/// After so many sweeps without trouble everything must be done.
const ENOUGH_SWEEPS: u32 = 60;
/// A run that needs more steps than these spins. One needs some ten thousand.
const ENOUGH_STEPS: u64 = 600_000;

/// How a run of the simulation went.
#[derive(Debug)]
pub struct Trace {
    /// What must not have happened.
    pub violations: Vec<Violation>,
    /// Calls of all invocations.
    pub calls: u64,
    /// Invocations.
    pub invocations: u64,
    /// How often an invocation ended in which way: the name of its outcome, `error` or `dead`.
    pub ends: BTreeMap<&'static str, u64>,
    /// Tasks in doubt that turned out to be there, by the receipts.
    pub already_there: u64,
    /// Rows that were passed over because somebody asked for it, by the receipts.
    pub skipped: u64,
    /// Inserts of a batch that met a task of their id.
    pub duplicates: u64,
    /// Requests that failed, the most of one invocation within ten seconds.
    pub most_failures: usize,
    /// What happened, if the scenario is traced.
    pub log: Vec<String>,
}

/// Why an invocation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The event of a job.
    Event(usize),
    /// A run that is completed is asked for again.
    Again(usize),
    Continuation,
    /// Somebody sends a continuation by hand.
    Operator,
    Sweep,
}

#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) deployment: usize,
    pub(super) kind: Kind,
    pub(super) event: Value,
    pub(super) request_id: String,
    pub(super) attempt: usize,
}

impl Delivery {
    fn new(deployment: usize, kind: Kind, event: Value, request_id: String) -> Self {
        Self {
            deployment,
            kind,
            event,
            request_id,
            attempt: 0,
        }
    }
}

/// How an invocation ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) invocation: u64,
    pub(super) kind: Kind,
    /// None: it died, or was killed.
    pub(super) answer: Option<Result<Outcome, EngineError>>,
    pub(super) unanswered: u64,
}

enum Happening {
    Deliver(Delivery),
    PutBack(usize),
    SweepTick,
    Orchestrate,
}

impl Happening {
    /// One, if there is an end to it: sweeps and rounds of the orchestrator come again and again.
    fn counts(&self) -> usize {
        match self {
            Self::Deliver(delivery) => usize::from(delivery.kind != Kind::Sweep),
            Self::PutBack(_) => 1,
            Self::SweepTick | Self::Orchestrate => 0,
        }
    }
}

type Inbox = Arc<Mutex<VecDeque<Happening>>>;
/// A queue, and who works on it.
pub(super) struct Deployment {
    spec: DeploymentSpec,
    pub(super) config: Arc<Config>,
    pub(super) store: MemoryStore,
    pub(super) siblings: MemorySiblings,
}

impl Deployment {
    /// The keys below its prefix, but those of other deployments.
    fn keys(&self, scenario: &Scenario) -> Vec<String> {
        let others = scenario
            .deployments
            .iter()
            .filter(|other| **other != self.spec && other.bucket == self.spec.bucket);
        let inner: Vec<String> = others
            .map(|other| format!("{}/", other.prefix))
            .filter(|other| other.starts_with(&self.config.key("")))
            .collect();
        let mut keys = self.store.keys();
        keys.retain(|key| {
            key.starts_with(&self.config.key("")) && !inner.iter().any(|inner| key.starts_with(inner))
        });
        keys
    }
}

/// Everything there is.
pub(super) struct Simulation<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) deployments: Vec<Deployment>,
    pub(super) tasks: MemoryTasks,
    pub(super) network: Arc<Network>,
    pub(super) runs: Vec<ExpectedRun>,
    /// Objects of others, by deployment and key, as they were put there.
    pub(super) foreign: BTreeMap<(usize, String), Option<Bytes>>,
    /// Chance of what is not the network, so that a script does not change it.
    pub(super) rng: Rng,
    inbox: Inbox,
    pub(super) sandboxes: Vec<Sandbox>,
    /// What is on its way, beside what happens again and again.
    pub(super) due: usize,
    pub(super) invocations: u64,
    pub(super) ended: Vec<Ended>,
    /// Lines that somebody had a run pass over, by run and row.
    pub(super) passed_over: BTreeSet<(usize, u64)>,
    /// Whether somebody mends the rows of a run, and does not have it pass over them.
    pub(super) mends: BTreeMap<usize, bool>,
    /// Who started siblings.
    pub(super) spawners: BTreeSet<u64>,
    sweeps: u32,
    /// How often everything was asked for once more.
    rounds: u32,
    over: bool,
    pub(super) stranded: Option<String>,
    /// What was seen while it happened.
    pub(super) violations: Vec<Violation>,
}

/// Plays a scenario and audits what came of it.
pub fn run(scenario: &Scenario) -> Trace {
    #[cfg(jobmill_mutants)]
    mutants::choose(scenario.mutant);
    let mut simulation = Simulation::new(scenario);
    simulation.play();
    #[cfg(jobmill_mutants)]
    mutants::choose(None);
    simulation.tell_history();
    let receipts = simulation.receipts();
    let sum = |count: fn(&Receipt) -> u64| receipts.iter().map(count).sum();
    Trace {
        violations: auditor::audit(&simulation),
        calls: simulation.network.calls.load(Ordering::Relaxed),
        invocations: simulation.invocations,
        ends: simulation.ends(),
        already_there: sum(|receipt| receipt.counters.already_there),
        skipped: sum(|receipt| receipt.counters.skipped),
        duplicates: simulation.tasks.with(|tables, _| tables.duplicates),
        most_failures: auditor::most_failures(&simulation.network.failures()),
        log: simulation.network.log.take(),
    }
}

fn config(spec: &DeploymentSpec) -> Config {
    let labourer = json!({});
    let config = json!({
        "queue_bucket": spec.bucket,
        "s3_prefix": spec.prefix,
        "shutdown_period": 10,
        "job_schema": { "chunkable_attrs": [["section", {}]] },
        "task_config": { "labourers": { "worker": labourer, "other": labourer } },
    });
    match Config::read(&config) {
        Ok(config) => config,
        Err(problems) => unreachable!("the configuration of the simulation is right: {problems:?}"),
    }
}

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let clock = VirtualClock::default();
        let tasks = MemoryTasks::new(clock.clone());
        let rates = &scenario.rates;
        let mut buckets: BTreeMap<&str, MemoryStore> = BTreeMap::new();
        let deployments: Vec<Deployment> = scenario
            .deployments
            .iter()
            .map(|spec| Deployment {
                spec: *spec,
                config: Arc::new(config(spec)),
                store: buckets
                    .entry(spec.bucket)
                    .or_insert_with(|| MemoryStore::new(clock.clone()))
                    .clone(),
                siblings: MemorySiblings::default(),
            })
            .collect();
        for store in buckets.values() {
            store.with(|bucket, _| bucket.any_part = true);
        }
        let mut simulation = Self {
            scenario,
            deployments,
            tasks,
            network: Arc::new(Network {
                clock,
                rng: Rng::new(scenario.seed ^ 0xfa7e),
                rates: rates.clone(),
                script: scenario.script.clone(),
                overwrite: scenario.overwrite,
                calls: AtomicU64::new(0),
                log: Log::new(scenario.traced),
                sendings: Mutex::default(),
                failures: Mutex::default(),
            }),
            runs: Vec::new(),
            foreign: BTreeMap::new(),
            rng: Rng::new(scenario.seed ^ 0x5eed),
            inbox: Inbox::default(),
            sandboxes: Vec::new(),
            due: 0,
            invocations: 0,
            ended: Vec::new(),
            passed_over: BTreeSet::new(),
            mends: BTreeMap::new(),
            spawners: BTreeSet::new(),
            sweeps: 0,
            rounds: 0,
            over: false,
            stranded: None,
            violations: Vec::new(),
        };
        simulation.place();
        simulation
    }

    /// What stands there before anything happens.
    fn place(&mut self) {
        for job in &self.scenario.jobs {
            if let Some(deployment) = self.deployments.get(job.deployment) {
                self.runs.push(ExpectedRun::of_job(&deployment.config, job));
            }
        }
        for number in 0..self.scenario.left_by_sosw.len() {
            self.put_sosw_file(number);
        }
        if let Some(first) = self.deployments.first() {
            for file in &self.scenario.left_by_sosw {
                let key = first.config.key(&file.name);
                if let Ok(Some(head)) = first.store.with(|bucket, now| bucket.head(now, &key)) {
                    self.runs
                        .extend(ExpectedRun::of_file(&first.config, file, &head.etag.0));
                }
            }
        }
        for (number, deployment) in self.deployments.iter().enumerate() {
            for foreign in &self.scenario.foreign {
                for key in foreign.place(&deployment.config, &deployment.store) {
                    let body = deployment.store.body(&key);
                    self.foreign.insert((number, key), body);
                }
            }
        }
        let (runs, rates) = (&self.runs, &self.scenario.rates);
        self.tasks.with(|tables, now| {
            tables.overwrites = self.scenario.overwrite;
            tables.index_lag = rates.index_lag;
            tables.capacity = (rates.capacity > 0).then(|| Capacity::per_second(rates.capacity));
            for run in runs {
                tables.invalid.extend(run.invalid.iter().cloned());
                tables.hot.extend(run.hot.clone());
                if let Some((_, id)) = &run.taken {
                    let task = Task {
                        task_id: id.clone(),
                        labourer_id: NOBODY.to_owned(),
                        created_at: "0".to_owned(),
                        greenfield: Greenfield::ZERO,
                        payload: "{}".to_owned(),
                    };
                    tables.put(now, Table::Tasks, record_of(&FieldNames::default(), &task));
                }
            }
        });
    }

    /// Puts a file of sosw where its Scheduler left it, unless it stands there.
    fn put_sosw_file(&self, number: usize) {
        if let Some(file) = self.scenario.left_by_sosw.get(number)
            && let Some(first) = self.deployments.first()
        {
            let (key, body) = (first.config.key(&file.name), Bytes::from(file.text()));
            let put = first
                .store
                .with(|bucket, now| bucket.put(now, &key, body, &Metadata::new(), &PutIf::Absent));
            self.tell(|| format!("the file {:?} of sosw is put there: {}", file.name, put.is_ok()));
        }
    }

    fn ends(&self) -> BTreeMap<&'static str, u64> {
        let mut ends = BTreeMap::new();
        for ended in &self.ended {
            let end = match &ended.answer {
                Some(Ok(outcome)) => outcome.name(),
                Some(Err(_)) => "error",
                None => "dead",
            };
            *ends.entry(end).or_default() += 1;
        }
        ends
    }

    /// Writes down what became of the buckets.
    fn tell_history(&self) {
        let mut told = BTreeSet::new();
        for deployment in &self.deployments {
            if !told.insert(deployment.spec.bucket) {
                continue;
            }
            for change in deployment.store.with(|bucket, _| bucket.history().to_vec()) {
                self.network.log.tell(change.at, || {
                    let (bucket, key) = (deployment.spec.bucket, &change.key);
                    match change.body {
                        Some(body) => {
                            let body = String::from_utf8_lossy(&body);
                            let shown: String = body.chars().take(600).collect();
                            format!("#{} put {bucket}/{key}: {shown}", change.actor)
                        }
                        None => format!("#{} deleted {bucket}/{key}", change.actor),
                    }
                });
            }
        }
    }

    fn receipts(&self) -> Vec<Receipt> {
        let receipt = |run: &ExpectedRun| {
            let body = self
                .deployments
                .get(run.deployment)?
                .store
                .body(&run.keys.receipt)?;
            Receipt::parse(&run.keys.receipt, &body).ok()
        };
        self.runs.iter().filter_map(receipt).collect()
    }

    pub(super) fn now(&self) -> Duration {
        self.network.clock.now()
    }

    pub(super) fn tell(&self, line: impl FnOnce() -> String) {
        self.network.log.tell(self.now(), line);
    }

    fn later(&mut self, after: Duration, happening: Happening) {
        self.due += happening.counts();
        let inbox = Arc::clone(&self.inbox);
        self.network.clock.schedule(self.now() + after, move || {
            inbox
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_back(happening);
        });
    }

    pub(super) fn deliver(&mut self, after: Duration, delivery: Delivery) {
        self.later(after, Happening::Deliver(delivery));
    }

    /// Somebody asks to go on with a file.
    pub(super) fn ask(&mut self, after: Duration, deployment: usize, event: Value) {
        let request_id = format!("{:032x}", self.rng.bits());
        self.deliver(
            after,
            Delivery::new(deployment, Kind::Operator, event, request_id),
        );
    }

    fn play(&mut self) {
        for (number, job) in self.scenario.jobs.iter().enumerate() {
            for at in &job.deliveries {
                let delivery = Delivery::new(
                    job.deployment,
                    Kind::Event(number),
                    job.event(),
                    job.run_id.clone(),
                );
                self.deliver(*at, delivery);
            }
        }
        for (number, file) in self.scenario.left_by_sosw.iter().enumerate() {
            for at in &file.deliveries {
                self.ask(*at, 0, json!({ "file_name": file.name }));
            }
            if let Some(at) = file.put_back {
                self.later(at, Happening::PutBack(number));
                self.ask(at + Duration::from_secs(1), 0, json!({ "file_name": file.name }));
            }
        }
        self.later(SWEEP_EVERY, Happening::SweepTick);
        self.later(Duration::ZERO, Happening::Orchestrate);
        for step in 0.. {
            if self.over {
                return;
            }
            if step > ENOUGH_STEPS {
                self.stranded = Some("it never ends: something spins".to_owned());
                return;
            }
            let next = self
                .inbox
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            self.due -= next.as_ref().map_or(0, Happening::counts);
            match next {
                Some(Happening::Deliver(delivery)) => self.start(delivery),
                Some(Happening::PutBack(number)) => self.put_sosw_file(number),
                Some(Happening::SweepTick) => self.sweep_tick(),
                Some(Happening::Orchestrate) => {
                    orchestrator::step(&self.tasks, &self.rng);
                    self.later(self.scenario.rates.orchestrator, Happening::Orchestrate);
                }
                None => {
                    self.spawned();
                    if !self.poll() && !self.network.clock.step() {
                        self.stranded = Some("nothing is left that could ever happen".to_owned());
                        return;
                    }
                }
            }
        }
    }

    fn sweep_tick(&mut self) {
        self.later(SWEEP_EVERY, Happening::SweepTick);
        let rates = &self.scenario.rates;
        let quiet = self.now() > rates.until + rates.latest_object;
        let left = self.left();
        let busy = self
            .sandboxes
            .iter()
            .any(|sandbox| sandbox.delivery.kind != Kind::Sweep);
        if quiet && !busy && self.due == 0 && left.is_empty() {
            self.ask_again();
            return;
        }
        if quiet {
            self.sweeps += 1;
            if self.sweeps > ENOUGH_SWEEPS {
                self.stranded = Some(format!("after {ENOUGH_SWEEPS} sweeps there is still {left:?}"));
                self.over = true;
                return;
            }
        }
        self.look_at_files(quiet);
        for number in 0..self.deployments.len() {
            let request_id = format!("sweep-{}", self.now().as_secs());
            let delivery = Delivery::new(number, Kind::Sweep, json!({ "sweep": true }), request_id);
            self.deliver(Duration::ZERO, delivery);
        }
    }

    /// Objects that wait for somebody.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (number, deployment) in self.deployments.iter().enumerate() {
            let done = deployment.config.key("done/");
            // There is nothing to adopt in an empty file: it may go or stay.
            let empty: Vec<String> = self
                .scenario
                .left_by_sosw
                .iter()
                .filter(|file| file.rows == 0)
                .map(|file| deployment.config.key(&file.name))
                .collect();
            left.extend(deployment.keys(self.scenario).into_iter().filter(|key| {
                let foreign = self.foreign.contains_key(&(number, key.clone()));
                !key.starts_with(&done) && !foreign && !empty.contains(key)
            }));
        }
        left
    }

    /// Everything is done. A run whose every delivery died before its rows stood was never promised: the first time it
    /// is made now. The second time each run is completed.
    fn ask_again(&mut self) {
        if self.rounds == 2 {
            self.over = true;
            return;
        }
        self.rounds += 1;
        let mut deliveries = Vec::new();
        for (number, run) in self.runs.iter().enumerate() {
            let kind = match self.rounds {
                1 => Kind::Event(number),
                _ => Kind::Again(number),
            };
            let event = match self.scenario.jobs.get(number) {
                Some(job) => job.event(),
                // A file that was adopted.
                None => json!({ "file_name": run.keys.file_name }),
            };
            deliveries.push(Delivery::new(run.deployment, kind, event, run.run_id.clone()));
        }
        for delivery in deliveries {
            self.deliver(Duration::ZERO, delivery);
        }
    }

    /// Siblings that were started since.
    fn spawned(&mut self) {
        for number in 0..self.deployments.len() {
            while let Some((spawner, payload)) = self
                .deployments
                .get(number)
                .and_then(|deployment| deployment.siblings.next_with_spawner())
            {
                self.spawners.insert(spawner);
                self.spawn(number, spawner, &payload);
            }
        }
    }

    fn spawn(&mut self, deployment: usize, spawner: u64, payload: &str) {
        let event: Value = serde_json::from_str(payload).unwrap_or_default();
        let (network, rates) = (Arc::clone(&self.network), &self.scenario.rates);
        if network.strikes(rates.spawn_lost) {
            self.tell(|| format!("the sibling that #{spawner} started is lost"));
            return;
        }
        let copies = if network.strikes(rates.spawn_doubled) {
            2
        } else {
            1
        };
        let late = match network.strikes(rates.spawn_late) {
            true => network.up_to(Duration::from_secs(300)),
            false => Duration::from_millis(50),
        };
        let request_id = format!("{:032x}", self.rng.bits());
        for _ in 0..copies {
            let delivery = Delivery::new(deployment, Kind::Continuation, event.clone(), request_id.clone());
            self.deliver(late, delivery);
        }
    }
}
