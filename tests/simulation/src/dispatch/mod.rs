//! Dispatching under every fault there is: holders that die, freeze, meet one another, and workers that do what they like.

mod auditor;
mod recorded;
mod scenario;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jobmill_core::config::Config;
use jobmill_core::job::event;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::item::Task;
use jobmill_core::task::labourer::Completion;
use jobmill_core::task::record::record_of;
use jobmill_core::task::tables::FieldNames;
use jobmill_core::task::write::Table;
use jobmill_engine::dispatch::{Dispatcher, Observation, Outcome, WakeUp};
#[cfg(jobmill_mutants)]
use jobmill_engine::mutants;
use jobmill_engine::ports::Clock as _;
use jobmill_engine::schedule;
use jobmill_engine::{EngineError, Limits};
use jobmill_memory::faulty::Faulty;
use jobmill_memory::{
    Behaviour, Ending, Function, MemoryOutcomes, MemorySiblings, MemoryStore, MemoryTasks, MemoryWorkers,
    Rng, Start, VirtualClock, VirtualHost,
};
use serde_json::{Value, json};

use crate::Violation;
use crate::faults::{Connection, Log, Network};
use crate::machine::{Machine, Turn};
use crate::scenario::REQUEST_TIME;

use recorded::{Asks, Recorded};
pub use scenario::{Crew, DispatchScenario};

/// Between two wake-ups of the schedule.
const TICK: Duration = Duration::from_secs(60);
/// After so many without trouble everything must be closed.
const ENOUGH_TICKS: u32 = 80;
/// A play that needs more steps than these spins.
const ENOUGH_STEPS: u64 = 3_000_000;

/// How a play went.
#[derive(Debug)]
pub struct DispatchTrace {
    /// What must not have happened.
    pub violations: Vec<Violation>,
    /// Calls of all invocations.
    pub calls: u64,
    /// Invocations.
    pub invocations: u64,
    /// How often an invocation ended in which way: the name of its outcome, `error` or `dead`.
    pub ends: BTreeMap<&'static str, u64>,
    /// How often workers were started.
    pub starts: usize,
    /// Tasks by outcome.
    pub outcomes: BTreeMap<String, usize>,
    /// When it was over.
    pub took: Duration,
    /// What happened, if the scenario is traced.
    pub log: Vec<String>,
}

type Inbox = Arc<Mutex<VecDeque<()>>>;

struct Stage<'a> {
    scenario: &'a DispatchScenario,
    config: Arc<Config>,
    network: Arc<Network>,
    store: MemoryStore,
    tasks: MemoryTasks,
    outcomes: MemoryOutcomes,
    workers: MemoryWorkers,
    asks: Asks,
    born: BTreeSet<String>,
    rng: Rng,
    inbox: Inbox,
    machines: Vec<Machine<Result<Outcome, EngineError>>>,
    /// Invocations of the scheduler.
    schedulers: Vec<Machine<Result<schedule::Outcome, EngineError>>>,
    siblings: MemorySiblings,
    invocations: u64,
    ends: BTreeMap<&'static str, u64>,
    violations: Vec<Violation>,
}

/// Plays a scenario and audits what came of it.
pub fn play(scenario: &DispatchScenario) -> DispatchTrace {
    #[cfg(jobmill_mutants)]
    mutants::choose(scenario.mutant);
    let mut stage = Stage::new(scenario);
    stage.play();
    #[cfg(jobmill_mutants)]
    mutants::choose(None);
    let asks = stage.asks.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let born: BTreeSet<String> = stage.tasks.with(|tables, _| {
        let births = tables.births.iter().map(|birth| birth.task.task_id.clone());
        stage.born.iter().cloned().chain(births).collect()
    });
    let runs = stage.workers.with(|state| state.starts.clone());
    let (changes, outcomes) = stage.tasks.with(|tables, _| {
        let mut outcomes = BTreeMap::new();
        for item in tables.closed.items() {
            *outcomes.entry(item.text("outcome").to_owned()).or_default() += 1;
        }
        (std::mem::take(&mut tables.changes), outcomes)
    });
    if scenario.traced {
        for change in &changes {
            stage.network.log.tell(change.at, || {
                let brief = |record: &Option<jobmill_core::task::record::Record>| {
                    record.as_ref().map(|record| {
                        let number =
                            |name| jobmill_core::task::record::number_of(record, name).map(|n| n.to_string());
                        format!(
                            "greenfield {:?} attempts {:?}",
                            number("greenfield"),
                            number("attempts")
                        )
                    })
                };
                format!(
                    "{:?} {}: {:?} -> {:?}",
                    change.table,
                    change.task_id,
                    brief(&change.before),
                    brief(&change.after)
                )
            });
        }
    }
    let mut violations = std::mem::take(&mut stage.violations);
    if born.len() != stage.born.len() + scenario.job {
        violations.push(Violation::outcome(format!(
            "a job of {} rows became {} tasks",
            scenario.job,
            born.len() - stage.born.len()
        )));
    }
    violations.extend(auditor::audit(scenario, &born, &changes, &asks));
    DispatchTrace {
        violations,
        calls: stage.network.calls.load(Ordering::Relaxed),
        invocations: stage.invocations,
        ends: stage.ends,
        starts: runs.len(),
        outcomes,
        took: stage.network.clock.now(),
        log: {
            let mut log = stage.network.log.take();
            log.sort_by(|one, other| one.get(..11).cmp(&other.get(..11)));
            log
        },
    }
}

impl<'a> Stage<'a> {
    fn new(scenario: &'a DispatchScenario) -> Self {
        let clock = VirtualClock::default();
        let tasks = MemoryTasks::new(clock.clone());
        let outcomes = MemoryOutcomes::new(clock.clone());
        let workers = MemoryWorkers::new(clock.clone(), tasks.clone(), outcomes.clone());
        let labourers: serde_json::Map<String, serde_json::Value> = scenario
            .crews
            .iter()
            .map(|crew| (crew.name.to_owned(), json!({})))
            .collect();
        let config = json!({
            "queue_bucket": "bucket", "s3_prefix": "p",
            "task_config": { "labourers": labourers },
            "shutdown_period": 10,
            "job_schema": { "chunkable_attrs": [["section", {}]] },
        });
        let mut config = match Config::read(&config) {
            Ok(config) => config,
            Err(problems) => unreachable!("the configuration of the simulation is right: {problems:?}"),
        };
        for crew in &scenario.crews {
            config.labourers.insert(crew.name.to_owned(), crew.labourer());
        }
        let mut stage = Self {
            scenario,
            config: Arc::new(config),
            store: MemoryStore::new(clock.clone()),
            tasks,
            outcomes,
            workers,
            asks: Asks::default(),
            born: BTreeSet::new(),
            network: Arc::new(Network {
                clock,
                rng: Rng::new(scenario.seed ^ 0xfa7e),
                rates: scenario.rates.clone(),
                script: scenario.script.clone(),
                overwrite: false,
                calls: AtomicU64::new(0),
                log: Log::new(scenario.traced),
                sendings: Mutex::default(),
                failures: Mutex::default(),
            }),
            rng: Rng::new(scenario.seed ^ 0x5eed),
            inbox: Inbox::default(),
            machines: Vec::new(),
            schedulers: Vec::new(),
            siblings: MemorySiblings::default(),
            invocations: 0,
            ends: BTreeMap::new(),
            violations: Vec::new(),
        };
        stage.place();
        stage
    }

    /// The queued tasks, and the functions.
    fn place(&mut self) {
        let scenario = self.scenario;
        let born = &mut self.born;
        self.tasks.with(|tables, now| {
            tables.keeps_changes = true;
            tables.index_lag = scenario.rates.index_lag;
            for crew in &scenario.crews {
                for number in 0..crew.tasks {
                    let task = Task {
                        task_id: format!("{}-{number:03}", crew.name),
                        labourer_id: crew.name.to_owned(),
                        created_at: "1709701000".to_owned(),
                        greenfield: Greenfield::from_millis(1_000_000 + number as i64 * 1000),
                        payload: json!({ "n": number, "store": number % 3 }).to_string(),
                    };
                    born.insert(task.task_id.clone());
                    tables.put(now, Table::Tasks, record_of(&FieldNames::default(), &task));
                }
            }
        });
        let (rng, network) = (Rng::new(scenario.seed ^ 0x303), Arc::clone(&self.network));
        let twice = scenario.crews.iter().map(|crew| crew.doubles).max().unwrap_or(0);
        let deliveries = |rng: Rng, network: Arc<Network>| {
            move || match network.troubled() && rng.once_in(twice) {
                true => vec![Duration::ZERO, Duration::from_millis(rng.below(30_000))],
                false => vec![Duration::ZERO],
            }
        };
        self.workers.with(|state| {
            state.deliveries = Box::new(deliveries(rng.clone(), Arc::clone(&network)));
            state.outcome_deliveries = Box::new(deliveries(rng.clone(), Arc::clone(&network)));
        });
        for crew in &scenario.crews {
            let ending = match crew.completion {
                Completion::Response => Ending::Silent,
                Completion::Destination => Ending::Destination,
                Completion::Report => Ending::Report(match network.rng.once_in(crew.late) {
                    true => Duration::from_secs(50),
                    false => Duration::from_millis(20),
                }),
            };
            let name = crew.name;
            let (crew, rng, network) = (crew.clone(), rng.clone(), Arc::clone(&network));
            let function = Function::new(Duration::from_secs(20), ending, move |start: &Start| {
                let troubled = network.troubled();
                let strikes = |one_in| troubled && rng.once_in(one_in);
                let more = crew.slowest.saturating_sub(crew.fastest).as_micros() as u64;
                let after = crew.fastest + Duration::from_micros(rng.below(more + 1));
                if start.at < crew.unfit_until && troubled {
                    return Behaviour::Unfit("AccessDenied");
                }
                if strikes(crew.throttles) {
                    return Behaviour::Throttled;
                }
                if strikes(crew.hangs) {
                    return Behaviour::Hangs;
                }
                if strikes(crew.fails) {
                    return Behaviour::Fails(
                        after,
                        json!({ "errorType": "Oops", "errorMessage": "by chance" }),
                    );
                }
                Behaviour::Answers(after, json!({ "n": 1 }))
            });
            self.workers.add(name, function);
        }
    }

    fn now(&self) -> Duration {
        self.network.clock.now()
    }

    fn tell(&self, line: impl FnOnce() -> String) {
        self.network.log.tell(self.now(), line);
    }

    fn wake_later(&self, after: Duration) {
        let inbox = Arc::clone(&self.inbox);
        self.network.clock.schedule(self.now() + after, move || {
            inbox.lock().unwrap_or_else(PoisonError::into_inner).push_back(());
        });
    }

    fn play(&mut self) {
        for after in &self.scenario.wakes {
            self.wake_later(*after);
        }
        self.wake_later(Duration::ZERO);
        if self.scenario.job > 0 {
            self.schedule(&self.job_event());
        }
        let mut quiet_ticks = 0;
        let mut next_tick = TICK;
        self.network.clock.schedule(next_tick, || {});
        for step in 0.. {
            if step > ENOUGH_STEPS {
                self.violations
                    .push(Violation::outcome("it never ends: something spins".to_owned()));
                return;
            }
            if self.now() >= next_tick {
                next_tick += TICK;
                self.network.clock.schedule(next_tick, || {});
                let quiet = self.now() > self.scenario.rates.until + self.scenario.rates.latest_object;
                if quiet && self.all_closed() && self.machines.is_empty() {
                    return;
                }
                if self.scenario.job > 0 {
                    self.tick_scheduler();
                }
                quiet_ticks += u32::from(quiet);
                if quiet_ticks > ENOUGH_TICKS {
                    self.violations.push(Violation::outcome(format!(
                        "after {ENOUGH_TICKS} wake-ups not everything is closed"
                    )));
                    return;
                }
                self.start();
            }
            if self
                .inbox
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front()
                .is_some()
            {
                self.start();
            } else if !self.poll() && !self.network.clock.step() {
                self.violations.push(Violation::outcome(
                    "nothing is left that could ever happen".to_owned(),
                ));
                return;
            }
        }
    }

    fn all_closed(&self) -> bool {
        self.tasks.with(|tables, _| {
            let is_task = |item: &jobmill_memory::Item| item.record.contains_key("labourer_id");
            tables.closed.len() >= self.born.len() + self.scenario.job
                && !tables.tasks.items().any(is_task)
                && tables.retry.is_empty()
        })
    }

    /// The event of the job.
    fn job_event(&self) -> Value {
        let labourer = self.scenario.crews.first().map_or("nobody", |crew| crew.name);
        let sections: Vec<String> = (0..self.scenario.job).map(|row| format!("row-{row}")).collect();
        let job = json!({ "lambda_name": labourer, "isolate_sections": true, "sections": sections });
        json!({ "job": job, "run_id": "nightly" })
    }

    /// Siblings that were started, and what comes each minute: the event again until its receipt stands, and a sweep.
    fn tick_scheduler(&mut self) {
        while let Some((_, payload)) = self.siblings.next_with_spawner() {
            let event: Value = serde_json::from_str(&payload).unwrap_or_default();
            self.schedule(&event);
        }
        let receipt = self.config.keys(self.config.file_name("nightly")).receipt;
        if self.store.body(&receipt).is_none() {
            let event = self.job_event();
            self.schedule(&event);
        }
        self.schedule(&json!({ "sweep": true }));
    }

    /// An invocation of the scheduler.
    fn schedule(&mut self, event: &Value) {
        self.invocations += 1;
        let id = self.invocations;
        self.tell(|| format!("#{id} starts, a scheduler: {event}"));
        let clock = self.network.clock.clone();
        let connection = Arc::new(Connection::new(Arc::clone(&self.network), id));
        let host = VirtualHost::new(clock.clone(), self.rng.bits());
        let lifetime = Duration::from_secs(300);
        let context = schedule::Context {
            request_id: format!("request-{id}"),
            deadline: host.monotonic() + lifetime,
        };
        let store = Faulty::new(self.store.seen_by(id), clock.clone(), Arc::clone(&connection));
        let tasks = Faulty::new(self.tasks.clone(), clock.clone(), Arc::clone(&connection));
        let siblings = Faulty::new(self.siblings.seen_by(id), clock, Arc::clone(&connection));
        let (config, machine, event) = (Arc::clone(&self.config), host.clone(), event.clone());
        let running = Box::pin(async move {
            let observer = |_: schedule::Observation<'_>| {};
            let engine = schedule::Engine {
                store: &store,
                tasks: &tasks,
                siblings: &siblings,
                host: &machine,
                config: &config,
                limits: Limits {
                    batch: 5,
                    first_window: 8,
                    last_window: 20,
                    ..Limits::default()
                },
                request_time: REQUEST_TIME,
                observer: &observer,
            };
            engine.run(event::read(event)?, &context).await
        });
        self.schedulers
            .push(Machine::new(running, connection, host, lifetime));
    }

    /// A wake-up, of the schedule or of a scheduler.
    fn start(&mut self) {
        self.invocations += 1;
        let id = self.invocations;
        self.tell(|| format!("#{id} starts"));
        let clock = self.network.clock.clone();
        let connection = Arc::new(Connection::new(Arc::clone(&self.network), id));
        let skew = self.scenario.rates.skew.as_millis() as u64;
        let skew_ms = self.rng.below(2 * skew + 1) as i64 - skew as i64;
        let host = VirtualHost::new(clock.clone(), self.rng.bits()).with_skew_ms(skew_ms);
        let (shortest, longest) = match self.network.troubled() {
            true => self.scenario.rates.lifetime,
            false => (Duration::from_secs(300), Duration::from_secs(300)),
        };
        let more = longest.saturating_sub(shortest).as_millis() as u64;
        let lifetime = shortest + Duration::from_millis(self.rng.below(more + 1));
        let wake_up = WakeUp {
            group: "main".to_owned(),
            owner: format!("#{id}"),
            deadline: host.monotonic() + lifetime,
            idle: Duration::from_secs(20),
            waits_for_retries: false,
        };
        let store = Faulty::new(self.store.seen_by(id), clock.clone(), Arc::clone(&connection));
        let tables = Faulty::new(self.tasks.clone(), clock.clone(), Arc::clone(&connection));
        let outcomes = Faulty::new(self.outcomes.clone(), clock.clone(), Arc::clone(&connection));
        let workers = Recorded {
            workers: Faulty::new(self.workers.clone(), clock.clone(), Arc::clone(&connection)),
            invocation: id,
            clock: clock.clone(),
            asks: Arc::clone(&self.asks),
        };
        let (config, machine, network) = (Arc::clone(&self.config), host.clone(), Arc::clone(&self.network));
        let running = Box::pin(async move {
            let observer = |observation: Observation| {
                network
                    .log
                    .tell(network.clock.now(), || format!("#{id} {observation:?}"));
            };
            let dispatcher = Dispatcher {
                store: &store,
                tables: &tables,
                workers: &workers,
                outcomes: &outcomes,
                host: &machine,
                config: &config,
                request_time: REQUEST_TIME,
                observer: &observer,
            };
            dispatcher.run(&wake_up).await
        });
        self.machines
            .push(Machine::new(running, connection, host, lifetime));
    }

    /// Lets every invocation go on that can. `false` if none can.
    fn poll(&mut self) -> bool {
        let mut moved = false;
        let mut at = 0;
        while let Some(machine) = self.schedulers.get_mut(at) {
            match machine.turn(self.scenario.rates.frozen) {
                Turn::Waits => at += 1,
                Turn::Moved => {
                    moved = true;
                    at += 1;
                }
                Turn::Over(answer) => {
                    moved = true;
                    let id = machine.connection.invocation;
                    self.schedulers.remove(at);
                    self.tell(|| format!("#{id} ends, a scheduler: {answer:?}"));
                }
            }
        }
        at = 0;
        while let Some(machine) = self.machines.get_mut(at) {
            match machine.turn(self.scenario.rates.frozen) {
                Turn::Waits => at += 1,
                Turn::Moved => {
                    moved = true;
                    at += 1;
                }
                Turn::Over(answer) => {
                    moved = true;
                    let id = machine.connection.invocation;
                    self.machines.remove(at);
                    self.tell(|| format!("#{id} ends: {answer:?}"));
                    let end = match &answer {
                        Some(Ok(outcome)) => outcome.name(),
                        Some(Err(_)) => "error",
                        None => "dead",
                    };
                    *self.ends.entry(end).or_default() += 1;
                }
            }
        }
        moved
    }
}
