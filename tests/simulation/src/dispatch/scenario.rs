//! What is queued, how workers behave, and what goes wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use jobmill_core::task::labourer::{Completion, KeyCap, Labourer, RetryPolicy};
#[cfg(jobmill_mutants)]
use jobmill_engine::mutants::Mutant;
use jobmill_memory::Rng;

use crate::scenario::FASTEST_MOVE;
use crate::{Fault, FaultRates};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A labourer, its tasks, and how its function behaves. Each count is once in so many, 0 for never.
#[derive(Debug, Clone)]
pub struct Crew {
    /// Its name, and that of its function.
    pub name: &'static str,
    /// How the end of its tasks is learnt.
    pub completion: Completion,
    /// How many tasks are queued.
    pub tasks: usize,
    /// How many may run at once.
    pub max: u32,
    /// How many of a store may; none: as many as of all.
    pub max_of_a_store: Option<u32>,
    /// How often a task is tried.
    pub max_attempts: u32,
    /// A run takes as long at least, and at most, if it ends.
    pub fastest: Duration,
    /// See above.
    pub slowest: Duration,
    /// Runs that fail.
    pub fails: u64,
    /// Runs that never end.
    pub hangs: u64,
    /// Starts that the platform pushes back.
    pub throttles: u64,
    /// Events that the platform delivers twice, and outcomes.
    pub doubles: u64,
    /// Outcomes, and marks of workers, that come late.
    pub late: u64,
    /// Before that moment the function can't be started.
    pub unfit_until: Duration,
}

impl Crew {
    /// So many tasks, whose answers are waited for, and which always succeed.
    pub fn new(completion: Completion, tasks: usize, max: u32) -> Self {
        Self {
            name: match completion {
                Completion::Response => "answers",
                Completion::Destination => "sends",
                Completion::Report => "marks",
            },
            completion,
            tasks,
            max,
            max_of_a_store: None,
            max_attempts: 3,
            fastest: Duration::ZERO,
            slowest: SECOND,
            fails: 0,
            hangs: 0,
            throttles: 0,
            doubles: 0,
            late: 0,
            unfit_until: Duration::ZERO,
        }
    }

    pub(super) fn labourer(&self) -> Labourer {
        let cap = |max| KeyCap {
            by: vec!["store".to_owned()],
            max,
        };
        Labourer {
            arn: Some(self.name.to_owned()),
            completion: Some(self.completion),
            max_simultaneous: self.max,
            max_attempts: self.max_attempts,
            max_duration: Some(20 * SECOND),
            retry: RetryPolicy {
                delay: 2 * SECOND,
                backoff: 2.0,
                longest: 60 * SECOND,
            },
            concurrency: self.max_of_a_store.map(cap).into_iter().collect(),
            suspend_after: None,
            ..Labourer::default()
        }
    }
}

/// A scenario of dispatching.
#[derive(Debug, Clone)]
pub struct DispatchScenario {
    /// All chance comes from it.
    pub seed: u64,
    /// The engine with that fault.
    #[cfg(jobmill_mutants)]
    pub mutant: Option<Mutant>,
    /// The labourers.
    pub crews: Vec<Crew>,
    /// What goes wrong by chance.
    pub rates: FaultRates,
    /// What goes wrong at which call, counted from 0 over all invocations.
    pub script: BTreeMap<u64, Fault>,
    /// A job of so many rows for the first labourer, which the real scheduler makes tasks of meanwhile.
    pub job: usize,
    /// Wake-ups beside those of each minute.
    pub wakes: Vec<Duration>,
    /// Claims land within their sender's lease, and the index lags by less than 10 s: then caps hold at every moment.
    pub caps_hold: bool,
    /// Whether every step is written down for people.
    pub traced: bool,
}

impl DispatchScenario {
    /// Nothing goes wrong.
    pub fn calm(crews: Vec<Crew>) -> Self {
        Self {
            seed: 0,
            #[cfg(jobmill_mutants)]
            mutant: None,
            crews,
            rates: FaultRates::calm(),
            script: BTreeMap::new(),
            job: 0,
            wakes: Vec::new(),
            caps_hold: true,
            traced: false,
        }
    }

    /// A scenario for a script of faults.
    pub fn scripted(completion: Completion, tasks: usize, faults: &[(u64, Fault)]) -> Self {
        let mut rates = FaultRates::calm();
        rates.until = 400 * SECOND;
        rates.latency = 5 * MS;
        rates.latest_object = 100 * SECOND;
        rates.latest_task = 5 * SECOND;
        rates.index_lag = SECOND;
        Self {
            rates,
            script: faults.iter().copied().collect(),
            ..Self::calm(vec![Crew::new(completion, tasks, 2)])
        }
    }

    /// A scenario by chance in which the real scheduler is at work beside the dispatcher. Its requests arrive sooner than
    /// a task can be worked off, as is assumed.
    pub fn random_with_scheduler(seed: u64) -> Self {
        let mut scenario = Self::random(seed);
        let rng = Rng::new(seed ^ 0x10b);
        scenario.job = 1 + rng.below(40) as usize;
        scenario.rates.latest_task = FASTEST_MOVE - 10 * MS;
        scenario.rates.lifetime.0 = scenario.rates.lifetime.0.max(60 * SECOND);
        for crew in &mut scenario.crews {
            crew.fastest = FASTEST_MOVE;
            crew.slowest = crew.slowest.max(FASTEST_MOVE);
        }
        scenario
    }

    /// A scenario by chance.
    pub fn random(seed: u64) -> Self {
        let rng = Rng::new(seed);
        let pick = |choices: &[u64]| {
            let at = rng.below(choices.len() as u64) as usize;
            choices.get(at).copied().unwrap_or_default()
        };
        let seconds = |choices: &[u64]| Duration::from_secs(pick(choices));
        let trouble = |rare: u64| pick(&[0, 0, rare, rare / 5]);
        let all = [Completion::Response, Completion::Destination, Completion::Report];
        let first = rng.below(3) as usize;
        let crews = all
            .iter()
            .cycle()
            .skip(first)
            .take(pick(&[1, 1, 2, 3]) as usize)
            .map(|completion| Crew {
                tasks: pick(&[1, 3, 10, 25]) as usize,
                max: pick(&[1, 2, 3, 8]) as u32,
                max_of_a_store: Some(pick(&[0, 0, 1, 2]) as u32).filter(|max| *max > 0),
                max_attempts: pick(&[1, 3]) as u32,
                slowest: Duration::from_millis(pick(&[5, 1000, 15_000])),
                fails: trouble(5),
                hangs: trouble(10),
                throttles: trouble(5),
                doubles: trouble(5),
                late: trouble(5),
                unfit_until: seconds(&[0, 0, 0, 30]),
                ..Crew::new(*completion, 0, 0)
            })
            .collect();
        let lives = match rng.below(3) {
            0 => (900, 900),
            1 => (120, 300),
            _ => (60, 90),
        };
        // Caps hold only while claims land within the lease and the index keeps up.
        let caps_hold = rng.below(4) > 0;
        let rates = FaultRates {
            until: seconds(&[60, 120, 400]),
            latency: Duration::from_millis(pick(&[5, 50, 400])),
            latest_object: seconds(&[1, 20, 100]),
            latest_task: match caps_hold {
                true => 4 * SECOND,
                false => seconds(&[4, 60, 300]),
            },
            answer_lost: trouble(50),
            reset: trouble(50),
            lost: trouble(50),
            server_error: trouble(50),
            throttled: trouble(40),
            conflict: trouble(30),
            own_412: trouble(30),
            task_throttled: trouble(40),
            task_unknown: trouble(40),
            death: trouble(60),
            frozen: match caps_hold {
                true => 0,
                false => trouble(60),
            },
            frozen_request: trouble(60),
            frozen_for: seconds(&[10, 45, 200]),
            skew: seconds(&[0, 1, 2]),
            index_lag: match caps_hold {
                true => seconds(&[0, 2, 8]),
                false => seconds(&[0, 8, 40]),
            },
            lifetime: (Duration::from_secs(lives.0), Duration::from_secs(lives.1)),
            ..FaultRates::calm()
        };
        let wakes = (0..rng.below(4)).map(|_| Duration::from_millis(rng.below(90_000)));
        Self {
            seed,
            wakes: wakes.collect(),
            crews,
            rates,
            caps_hold,
            ..Self::calm(Vec::new())
        }
    }
}
