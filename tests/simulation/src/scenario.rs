//! What is asked for and what goes wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use jobmill_engine::Limits;
#[cfg(jobmill_mutants)]
use jobmill_engine::mutants::Mutant;
use serde_json::{Value, json};

use super::Blow;
use jobmill_memory::Dice;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// No task leaves the tasks table sooner after its creation: dispatch, work and archiving take their time.
pub(super) const FASTEST_MOVE: Duration = Duration::from_secs(3);
/// How long a sender waits for an answer at most; the engine's `request_time` is a little more.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// The engine's `request_time`.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(6);

/// A job, and when its event is delivered.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// Its run id is the request id of its deliveries.
    pub run_id: String,
    /// How many rows it has.
    pub rows: usize,
    /// Its labourer, one of `worker`, `other`.
    pub labourer: &'static str,
    /// When the event arrives. A delivery that fails is repeated as Lambda does: after one minute and after two more.
    pub deliveries: Vec<Duration>,
}

impl JobSpec {
    /// The event: the job without an envelope.
    pub fn event(&self) -> Value {
        let sections: Vec<String> = (0..self.rows).map(|row| format!("section-{row}")).collect();
        json!({ "lambda_name": self.labourer, "isolate_sections": true, "sections": sections })
    }
}

/// Everything that decides a run of the simulation.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Where chance comes from.
    pub seed: u64,
    /// What is asked for.
    pub jobs: Vec<JobSpec>,
    /// How much the engine does at once.
    pub limits: Limits,
    /// What the engine does wrong.
    #[cfg(jobmill_mutants)]
    pub mutant: Option<Mutant>,
    /// What goes wrong by chance.
    pub climate: Climate,
    /// What goes wrong at which call, counted from 0 over all invocations.
    pub script: BTreeMap<u64, Blow>,
    /// Whether batches overwrite (`task_writes: overwrite`).
    pub overwrite: bool,
    /// Task writes may arrive arbitrarily late: only the promise that nothing is overwritten is left.
    pub unbounded: bool,
    /// Whether every step is written down for people.
    pub traced: bool,
}

/// What goes wrong by chance. Each `one_in` is once in so many, 0 for never.
#[derive(Debug, Clone)]
pub struct Climate {
    /// When the trouble is over. After that requests are answered, nothing dies, and the sweeps put things right.
    pub until: Duration,
    /// The longest way of a request, there and back each.
    pub latency: Duration,
    /// How late a request to the bucket may be carried out.
    pub latest_object: Duration,
    /// How late a request that creates tasks may be carried out.
    pub latest_task: Duration,
    /// Requests whose answer is lost.
    pub answer_lost: u64,
    /// Requests that never arrive.
    pub lost: u64,
    /// Requests that are throttled.
    pub throttled: u64,
    /// Puts that give way to another (409).
    pub conflict: u64,
    /// Puts that are carried out and answered with 412, because a client repeated them.
    pub own_412: u64,
    /// Requests that are refused for good.
    pub refused: u64,
    /// Tasks of a batch that are throttled.
    pub task_throttled: u64,
    /// Tasks of a batch of which the answer says nothing.
    pub task_unknown: u64,
    /// Requests with which their sender dies; before or after they were sent.
    pub death: u64,
    /// Steps of an invocation before which its sandbox is frozen.
    pub frozen: u64,
    /// How long it is frozen at most.
    pub frozen_for: Duration,
    /// By how much wall clocks are wrong at most, both ways.
    pub skew: Duration,
    /// By how much the greenfield index lags behind the table at most.
    pub index_lag: Duration,
    /// Siblings that never start.
    pub spawn_lost: u64,
    /// Siblings that start twice.
    pub spawn_doubled: u64,
    /// Siblings that start late.
    pub spawn_late: u64,
    /// How long an invocation may take, at least and at most.
    pub lifetime: (Duration, Duration),
    /// The orchestrator's steps: a task is taken, moved on or archived so often.
    pub orchestrator: Duration,
    /// Write units a second that the table has and enforces; 0: on demand.
    pub capacity: u64,
}

impl Climate {
    /// Nothing goes wrong; the orchestrator is as fast as can be.
    pub fn calm() -> Self {
        Self {
            until: Duration::ZERO,
            latency: 20 * MS,
            latest_object: SECOND,
            latest_task: SECOND,
            answer_lost: 0,
            lost: 0,
            throttled: 0,
            conflict: 0,
            own_412: 0,
            refused: 0,
            task_throttled: 0,
            task_unknown: 0,
            death: 0,
            frozen: 0,
            frozen_for: Duration::ZERO,
            skew: Duration::ZERO,
            index_lag: Duration::ZERO,
            spawn_lost: 0,
            spawn_doubled: 0,
            spawn_late: 0,
            lifetime: (900 * SECOND, 900 * SECOND),
            orchestrator: SECOND,
            capacity: 0,
        }
    }
}

impl Scenario {
    /// One job of so many rows, for the crash matrix: small batches and claims, so that there are several checkpoints.
    pub fn small(rows: usize) -> Self {
        let mut scenario = Self::calm(rows);
        if rows == 30 {
            scenario.limits = Limits {
                batch: 5,
                batch_bytes: 1 << 20,
                first_window: 10,
                last_window: 10,
                // Three parts.
                part: 1000,
            };
        }
        // A late request comes after the next sweep has put things right, and before a frozen sandbox thaws.
        scenario.climate.latest_object = Duration::from_secs(200);
        scenario
    }

    /// The same, with blows at numbered calls.
    pub fn scripted(rows: usize, blows: &[(u64, Blow)]) -> Self {
        Self {
            script: blows.iter().copied().collect(),
            ..Self::small(rows)
        }
    }

    /// One job of `rows` rows, delivered once, in a calm world.
    pub fn calm(rows: usize) -> Self {
        Self {
            seed: 0,
            jobs: vec![JobSpec {
                run_id: "run-0".to_owned(),
                rows,
                labourer: "worker",
                deliveries: vec![Duration::ZERO],
            }],
            limits: Limits::default(),
            #[cfg(jobmill_mutants)]
            mutant: None,
            climate: Climate::calm(),
            script: BTreeMap::new(),
            overwrite: false,
            unbounded: false,
            traced: false,
        }
    }

    /// The scenario of a seed.
    pub fn random(seed: u64) -> Self {
        let dice = Dice::new(seed);
        let pick = |choices: &[u64]| {
            let at = dice.below(choices.len() as u64);
            choices.get(at as usize).copied().unwrap_or_default()
        };
        let seconds = |choices: &[u64]| Duration::from_secs(pick(choices));
        let jobs = (0..pick(&[1, 1, 1, 2, 3]))
            .map(|number| JobSpec {
                run_id: format!("run-{number}"),
                rows: pick(&[1, 3, 8, 20, 30, 60]) as usize,
                labourer: if dice.once_in(2) { "other" } else { "worker" },
                deliveries: (0..1 + pick(&[0, 0, 1, 2]))
                    .map(|_| pick(&[0, 0, 40, 400, 60_000, 400_000]) as u32 * MS)
                    .collect(),
            })
            .collect();
        let limits = match dice.below(3) {
            0 => Limits::default(),
            _ => Limits {
                batch: pick(&[1, 2, 5, 25]) as usize,
                batch_bytes: 1 << 20,
                first_window: pick(&[3, 8, 20]),
                last_window: 40,
                part: pick(&[400, 8 << 20, 8 << 20]) as usize,
            },
        };
        // Each trouble is away, rare or frequent, so that each is also met without the others.
        let trouble = |rare: u64| pick(&[0, 0, rare, rare / 5]);
        let lives = match dice.below(4) {
            0 => (900, 900),
            1 => (60, 300),
            2 => (8, 30),
            _ => (3, 20),
        };
        let climate = Climate {
            until: seconds(&[120, 400, 900]),
            latency: pick(&[5, 50, 400, 1500]) as u32 * MS,
            latest_object: seconds(&[1, 20, 100, 600]),
            latest_task: FASTEST_MOVE - 10 * MS,
            answer_lost: trouble(50),
            lost: trouble(50),
            throttled: trouble(40),
            conflict: trouble(30),
            own_412: trouble(30),
            refused: trouble(400),
            task_throttled: trouble(40),
            task_unknown: trouble(40),
            death: trouble(60),
            frozen: trouble(60),
            frozen_for: seconds(&[10, 45, 200]),
            skew: seconds(&[0, 2, 10]),
            index_lag: seconds(&[0, 2, 60]),
            spawn_lost: trouble(10),
            spawn_doubled: trouble(10),
            spawn_late: trouble(10),
            lifetime: (Duration::from_secs(lives.0), Duration::from_secs(lives.1)),
            orchestrator: pick(&[300, 1000, 5000, 30_000]) as u32 * MS,
            capacity: pick(&[0, 0, 0, 20]),
        };
        Self {
            seed,
            jobs,
            limits,
            climate,
            ..Self::calm(0)
        }
    }
}
