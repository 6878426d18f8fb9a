//! The stage: sandboxes on one thread, what is delivered to them, and when it is over.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as PollContext, Poll, Wake, Waker};
use std::time::Duration;

use jobmill_core::config::Config;
use jobmill_core::job::event;
use jobmill_core::queue::receipt::Receipt;
use jobmill_engine::EngineError;
#[cfg(jobmill_mutants)]
use jobmill_engine::mutants;
use jobmill_engine::ports::Clock as _;
use jobmill_engine::schedule::{Context, Engine, Observation, Outcome};
use serde_json::{Value, json};

use super::auditor::{self, Violation};
use super::fates::{Network, Trace, Weather};
use super::orchestrator;
use super::scenario::{REQUEST_TIME, Scenario};
use jobmill_memory::faulty::Faulty;
use jobmill_memory::{Dice, MemorySiblings, MemoryStore, MemoryTasks, VirtualClock, VirtualHost};

/// Between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(180);
/// After so many sweeps without trouble everything must be done.
const ENOUGH_SWEEPS: u32 = 60;
/// A run that needs more steps than these spins. One needs some ten thousand.
const ENOUGH_STEPS: u64 = 300_000;
/// Lambda repeats an asynchronous event that failed after one minute, then after two.
const RETRIES: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(120)];
/// How long a sandbox is frozen by [`super::Blow::Frozen`]: until after the next sweep.
const FROZEN_FOR: Duration = Duration::from_secs(205);
/// The prefix of everything in the bucket.
pub(super) const PREFIX: &str = "p";

/// How a run of the simulation went.
#[derive(Debug)]
pub struct Story {
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
    /// What happened, if the scenario is traced.
    pub trace: Vec<String>,
}

/// Why an invocation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The event of a job.
    Event(usize),
    /// The event of a job that is completed.
    Again(usize),
    Continuation,
    Sweep,
}

#[derive(Debug, Clone)]
struct Delivery {
    kind: Kind,
    event: Value,
    request_id: String,
    attempt: usize,
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
    SweepTick,
    Orchestrate,
}

type Inbox = Arc<Mutex<VecDeque<Happening>>>;
type Running = Pin<Box<dyn Future<Output = Result<Outcome, EngineError>>>>;

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Sandbox {
    delivery: Delivery,
    running: Running,
    network: Arc<Network>,
    host: VirtualHost,
    woken: Arc<Woken>,
    thaws_at: Option<Duration>,
    killed_at: Duration,
}

/// Everything there is.
pub(super) struct World<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) config: Arc<Config>,
    pub(super) store: MemoryStore,
    pub(super) tasks: MemoryTasks,
    siblings: MemorySiblings,
    weather: Arc<Weather>,
    /// Chance of what is not the network, so that a script does not change it.
    dice: Dice,
    inbox: Inbox,
    sandboxes: Vec<Sandbox>,
    /// Deliveries that are on their way.
    due: usize,
    invocations: u64,
    pub(super) ended: Vec<Ended>,
    /// Who started siblings, and when.
    pub(super) spawns: Vec<(u64, Duration)>,
    sweeps: u32,
    /// How often the events were delivered once more.
    rounds: u32,
    over: bool,
    pub(super) stranded: Option<String>,
}

/// Plays a scenario and audits what came of it.
pub fn run(scenario: &Scenario) -> Story {
    #[cfg(jobmill_mutants)]
    mutants::choose(scenario.mutant);
    let mut world = World::new(scenario);
    world.play();
    #[cfg(jobmill_mutants)]
    mutants::choose(None);
    Story {
        violations: auditor::audit(&world),
        calls: world.weather.calls.load(Ordering::Relaxed),
        invocations: world.invocations,
        ends: world.ends(),
        already_there: world.already_there(),
        trace: world.weather.trace.take(),
    }
}

fn config() -> Config {
    let labourer = json!({});
    let config = json!({
        "queue_bucket": "queue",
        "s3_prefix": PREFIX,
        "shutdown_period": 10,
        "job_schema": { "chunkable_attrs": [["section", {}]] },
        "task_config": { "labourers": { "worker": labourer, "other": labourer } },
    });
    match Config::read(&config) {
        Ok(config) => config,
        Err(problems) => unreachable!("the configuration of the simulation is right: {problems:?}"),
    }
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let clock = VirtualClock::default();
        let dice = Dice::new(scenario.seed ^ 0x5eed);
        let tasks = MemoryTasks::new(clock.clone());
        let climate = &scenario.climate;
        let store = MemoryStore::new(clock.clone());
        store.with(|bucket, _| bucket.any_part = true);
        tasks.with(|tables, _| {
            tables.overwrites = scenario.overwrite;
            tables.index_lag = climate.index_lag;
        });
        Self {
            scenario,
            config: Arc::new(config()),
            store,
            tasks,
            siblings: MemorySiblings::default(),
            weather: Arc::new(Weather {
                clock,
                dice: Dice::new(scenario.seed ^ 0xfa7e),
                climate: climate.clone(),
                script: scenario.script.clone(),
                calls: AtomicU64::new(0),
                trace: Trace::new(scenario.traced),
            }),
            dice,
            inbox: Inbox::default(),
            sandboxes: Vec::new(),
            due: 0,
            invocations: 0,
            ended: Vec::new(),
            spawns: Vec::new(),
            sweeps: 0,
            rounds: 0,
            over: false,
            stranded: None,
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

    fn already_there(&self) -> u64 {
        let receipt = |key: &String| Receipt::parse(key, &self.store.body(key)?).ok();
        self.store
            .keys()
            .iter()
            .filter_map(receipt)
            .map(|receipt| receipt.counters.already_there)
            .sum()
    }

    fn now(&self) -> Duration {
        self.weather.clock.now()
    }

    fn tell(&self, line: impl FnOnce() -> String) {
        self.weather.trace.tell(self.now(), line);
    }

    fn later(&mut self, after: Duration, happening: Happening) {
        if matches!(happening, Happening::Deliver(_)) {
            self.due += 1;
        }
        let inbox = Arc::clone(&self.inbox);
        self.weather.clock.schedule(self.now() + after, move || {
            inbox
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_back(happening);
        });
    }

    fn play(&mut self) {
        for (number, job) in self.scenario.jobs.iter().enumerate() {
            for at in &job.deliveries {
                self.later(
                    *at,
                    Happening::Deliver(Delivery {
                        kind: Kind::Event(number),
                        event: job.event(),
                        request_id: job.run_id.clone(),
                        attempt: 0,
                    }),
                );
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
            match next {
                Some(Happening::Deliver(delivery)) => {
                    self.due -= 1;
                    self.start(delivery);
                }
                Some(Happening::SweepTick) => self.sweep_tick(),
                Some(Happening::Orchestrate) => {
                    orchestrator::step(&self.tasks, &self.dice);
                    self.later(self.scenario.climate.orchestrator, Happening::Orchestrate);
                }
                None => {
                    self.spawned();
                    if !self.poll() && !self.weather.clock.step() {
                        self.stranded = Some("nothing is left that could ever happen".to_owned());
                        return;
                    }
                }
            }
        }
    }

    fn sweep_tick(&mut self) {
        self.later(SWEEP_EVERY, Happening::SweepTick);
        let climate = &self.scenario.climate;
        let quiet = self.now() > climate.until + climate.latest_object;
        let left: Vec<String> = self
            .store
            .keys()
            .into_iter()
            .filter(|key| !key.starts_with(&format!("{PREFIX}/done/")))
            .collect();
        if quiet && self.sandboxes.is_empty() && self.due == 0 && left.is_empty() {
            if self.rounds == 2 {
                self.over = true;
                return;
            }
            // A run whose every delivery died before its rows stood was never promised; now it is made. The second
            // time each run is completed.
            self.rounds += 1;
            for (number, job) in self.scenario.jobs.iter().enumerate() {
                let kind = match self.rounds {
                    1 => Kind::Event(number),
                    _ => Kind::Again(number),
                };
                let delivery = Delivery {
                    kind,
                    event: job.event(),
                    request_id: job.run_id.clone(),
                    attempt: 0,
                };
                self.later(Duration::ZERO, Happening::Deliver(delivery));
            }
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
        let request_id = format!("sweep-{}", self.now().as_secs());
        self.later(
            Duration::ZERO,
            Happening::Deliver(Delivery {
                kind: Kind::Sweep,
                event: json!({ "sweep": true }),
                request_id,
                attempt: 0,
            }),
        );
    }

    /// Siblings that were started since.
    fn spawned(&mut self) {
        while let Some((spawner, payload)) = self.siblings.next_with_spawner() {
            self.spawns.push((spawner, self.now()));
            let event: Value = serde_json::from_str(&payload).unwrap_or_default();
            let climate = &self.scenario.climate;
            if self.weather.strikes(climate.spawn_lost) {
                self.tell(|| format!("the sibling that #{spawner} started is lost"));
                continue;
            }
            let copies = if self.weather.strikes(climate.spawn_doubled) {
                2
            } else {
                1
            };
            let late = match self.weather.strikes(climate.spawn_late) {
                true => self.weather.up_to(Duration::from_secs(300)),
                false => Duration::from_millis(50),
            };
            let request_id = format!("{:032x}", self.dice.roll());
            for _ in 0..copies {
                let delivery = Delivery {
                    kind: Kind::Continuation,
                    event: event.clone(),
                    request_id: request_id.clone(),
                    attempt: 0,
                };
                self.later(late, Happening::Deliver(delivery));
            }
        }
    }

    fn start(&mut self, delivery: Delivery) {
        self.invocations += 1;
        let id = self.invocations;
        self.tell(|| format!("#{id} starts: {:?} attempt {}", delivery.kind, delivery.attempt));
        let clock = self.weather.clock.clone();
        let network = Arc::new(Network {
            weather: Arc::clone(&self.weather),
            invocation: id,
            dead: AtomicBool::new(false),
            freezes: AtomicBool::new(false),
            unanswered: AtomicU64::new(0),
        });
        let skew = self.scenario.climate.skew.as_millis() as u64;
        let skew_ms = self.dice.below(2 * skew + 1) as i64 - skew as i64;
        let host = VirtualHost::new(clock.clone(), self.dice.roll()).with_skew_ms(skew_ms);
        let (shortest, longest) = match self.weather.troubled() {
            true => self.scenario.climate.lifetime,
            false => (Duration::from_secs(300), Duration::from_secs(300)),
        };
        let lifetime = shortest
            + Duration::from_millis(
                self.dice
                    .below(longest.saturating_sub(shortest).as_millis() as u64 + 1),
            );
        let context = Context {
            request_id: delivery.request_id.clone(),
            deadline: host.monotonic() + lifetime,
        };
        let store = Faulty::new(self.store.seen_by(id), clock.clone(), Arc::clone(&network));
        let tasks = Faulty::new(self.tasks.clone(), clock.clone(), Arc::clone(&network));
        let siblings = Faulty::new(self.siblings.seen_by(id), clock.clone(), Arc::clone(&network));
        let (config, machine) = (Arc::clone(&self.config), host.clone());
        let event = delivery.event.clone();
        let limits = self.scenario.limits;
        let running: Running = Box::pin(async move {
            let observer = |_: Observation<'_>| {};
            let engine = Engine {
                store: &store,
                tasks: &tasks,
                siblings: &siblings,
                host: &machine,
                config: &config,
                limits,
                request_time: REQUEST_TIME,
                observer: &observer,
            };
            engine.run(event::read(event)?, &context).await
        });
        let killed_at = self.now() + lifetime;
        clock.schedule(killed_at, || {});
        self.sandboxes.push(Sandbox {
            delivery,
            running,
            network,
            host,
            woken: Arc::new(Woken(AtomicBool::new(true))),
            thaws_at: None,
            killed_at,
        });
    }

    /// Lets every sandbox go on that can. `false` if none can.
    fn poll(&mut self) -> bool {
        let now = self.now();
        let mut moved = false;
        let mut at = 0;
        while let Some(sandbox) = self.sandboxes.get_mut(at) {
            let id = sandbox.network.invocation;
            let frozen = sandbox.thaws_at.is_some_and(|thaw| now < thaw);
            let killed = sandbox.killed_at <= now;
            if frozen || !(killed || sandbox.woken.0.swap(false, Ordering::Relaxed)) {
                at += 1;
                continue;
            }
            moved = true;
            let frozen_for = if sandbox.thaws_at.take().is_some() || killed {
                None
            } else if sandbox.network.freezes.swap(false, Ordering::Relaxed) {
                Some(FROZEN_FOR)
            } else if self.weather.strikes(self.scenario.climate.frozen) {
                Some(Duration::from_secs(1) + self.weather.up_to(self.scenario.climate.frozen_for))
            } else {
                None
            };
            if let Some(frozen_for) = frozen_for {
                match self.weather.dice.below(3) {
                    0 => sandbox.host.miss_monotonic(frozen_for),
                    1 => sandbox.host.miss_wall(frozen_for),
                    _ => {}
                }
                sandbox.thaws_at = Some(now + frozen_for);
                sandbox.killed_at += frozen_for;
                sandbox.woken.0.store(true, Ordering::Relaxed);
                for moment in [now + frozen_for, sandbox.killed_at] {
                    self.weather.clock.schedule(moment, || {});
                }
                self.weather
                    .trace
                    .tell(now, || format!("#{id} is frozen for {frozen_for:?}"));
                continue;
            }
            let answer = if killed {
                Some(None)
            } else {
                let waker = Waker::from(Arc::clone(&sandbox.woken));
                match sandbox
                    .running
                    .as_mut()
                    .poll(&mut PollContext::from_waker(&waker))
                {
                    _ if sandbox.network.dead.load(Ordering::Relaxed) => Some(None),
                    Poll::Ready(answer) => Some(Some(answer)),
                    Poll::Pending => None,
                }
            };
            match answer {
                Some(answer) => {
                    let sandbox = self.sandboxes.remove(at);
                    self.ended(sandbox, answer);
                }
                None => at += 1,
            }
        }
        moved
    }

    fn ended(&mut self, sandbox: Sandbox, answer: Option<Result<Outcome, EngineError>>) {
        let invocation = sandbox.network.invocation;
        self.tell(|| match &answer {
            None => format!("#{invocation} is dead"),
            Some(Ok(outcome)) => format!("#{invocation} answers: {outcome:?}"),
            Some(Err(error)) => format!("#{invocation} fails: {error}"),
        });
        let delivery = sandbox.delivery;
        let failed = !matches!(answer, Some(Ok(_)));
        if failed && let Some(after) = RETRIES.get(delivery.attempt) {
            let again = Delivery {
                attempt: delivery.attempt + 1,
                ..delivery.clone()
            };
            self.later(*after, Happening::Deliver(again));
        }
        self.ended.push(Ended {
            invocation,
            kind: delivery.kind,
            answer,
            unanswered: sandbox.network.unanswered.load(Ordering::Relaxed),
        });
    }
}
