//! What is asked for and what goes wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use jobmill_engine::Limits;
#[cfg(jobmill_mutants)]
use jobmill_engine::mutants::Mutant;
use jobmill_memory::Rng;
use serde_json::{Value, json};

use super::{Fault, Foreign};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// No task leaves the tasks table sooner after its creation: dispatch, work and archiving take their time.
pub(crate) const FASTEST_MOVE: Duration = Duration::from_secs(3);
/// How long a sender waits for an answer at most; the engine's `request_time` is a little more.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// The engine's `request_time`.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(6);

/// A job, and when its event is delivered.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// The deployment that gets it, an index into [`Scenario::deployments`].
    pub deployment: usize,
    /// Its run id is the request id of its deliveries.
    pub run_id: String,
    /// How many rows it has.
    pub rows: usize,
    /// Its labourer, one of `worker`, `other`.
    pub labourer: &'static str,
    /// When the event arrives. A delivery that fails is repeated as Lambda does: after one minute and after two more.
    pub deliveries: Vec<Duration>,
    /// Rows whose tasks DynamoDB refuses as invalid: the run stops there until somebody has it pass over them.
    pub invalid: Vec<u64>,
    /// A row whose partition takes no writes before that moment.
    pub hot: Option<(u64, Duration)>,
    /// A row whose task id is taken by a task of somebody else: the run stops there until somebody has removed that.
    /// Only promised while nothing goes wrong: a row in doubt that is there passes for one that was sent.
    pub taken: Option<u64>,
}

impl JobSpec {
    /// A job of so many rows for `worker`, delivered once at the beginning.
    pub fn new(deployment: usize, run_id: &str, rows: usize) -> Self {
        Self {
            deployment,
            run_id: run_id.to_owned(),
            rows,
            labourer: "worker",
            deliveries: vec![Duration::ZERO],
            invalid: Vec::new(),
            hot: None,
            taken: None,
        }
    }

    /// The event: the job without an envelope. No two rows of a simulation have the same payload.
    pub fn event(&self) -> Value {
        let name = |row| format!("{}-{}-{row}", self.deployment, self.run_id);
        let sections: Vec<String> = (0..self.rows).map(name).collect();
        json!({ "lambda_name": self.labourer, "isolate_sections": true, "sections": sections })
    }
}

/// A queue file that a sosw Scheduler has left, and when somebody asks to go on with it.
#[derive(Debug, Clone)]
pub struct SoswFile {
    /// Its name.
    pub name: String,
    /// How many rows it has; none: it is empty.
    pub rows: u64,
    /// A line, counted from 0, that is no row.
    pub damaged: Option<u64>,
    /// When `{"file_name": ...}` arrives.
    pub deliveries: Vec<Duration>,
    /// When the same file is put there once more, under the same name.
    pub put_back: Option<Duration>,
}

impl SoswFile {
    /// What stands in the file: rows in the forms that sosw writes, a line without one here and there, and no line feed
    /// at the end.
    pub fn text(&self) -> String {
        let line = |row: u64| {
            let section = format!("{}-{row}", self.name);
            if self.damaged == Some(row) {
                return json!({ "sections": [section] }).to_string();
            }
            match row % 3 {
                0 => json!({ "sections": [section], "labourer_id": "worker" }),
                1 => json!({ "labourer_id": "other", "payload": { "sections": [section] } }),
                _ => json!({ "labourer_id": "worker", "payload": json!({ "sections": [section] }).to_string() }),
            }
            .to_string()
        };
        let lines: Vec<String> = (0..self.rows).map(line).collect();
        let mut text = lines.join("\n");
        if self.rows > 3 {
            // Empty lines are none.
            text = text.replacen('\n', "\n\n", 2);
        }
        text
    }
}

/// Where a deployment keeps its queue. All deployments share the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeploymentSpec {
    /// Its bucket.
    pub bucket: &'static str,
    /// The prefix in it.
    pub prefix: &'static str,
}

/// A time in which every request to the tables is answered 500 at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// When it begins.
    pub from: Duration,
    /// When it is over.
    pub until: Duration,
}

/// Everything that decides a run of the simulation.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Where chance comes from.
    pub seed: u64,
    /// Who works here.
    pub deployments: Vec<DeploymentSpec>,
    /// What is asked for.
    pub jobs: Vec<JobSpec>,
    /// Files of sosw that are to be adopted by the first deployment.
    pub left_by_sosw: Vec<SoswFile>,
    /// Objects of others, below the prefix of each deployment.
    pub foreign: Vec<Foreign>,
    /// How much the engine does at once.
    pub limits: Limits,
    /// What the engine does wrong.
    #[cfg(jobmill_mutants)]
    pub mutant: Option<Mutant>,
    /// What goes wrong by chance.
    pub rates: FaultRates,
    /// What goes wrong at which call, counted from 0 over all invocations.
    pub script: BTreeMap<u64, Fault>,
    /// Whether batches overwrite (`task_writes: overwrite`).
    pub overwrite: bool,
    /// Task writes may arrive arbitrarily late: only the promise that nothing is overwritten is left.
    pub unbounded: bool,
    /// Whether every step is written down for people.
    pub traced: bool,
}

/// What goes wrong by chance. Each count is once in so many, 0 for never.
#[derive(Debug, Clone)]
pub struct FaultRates {
    /// When the trouble is over. After that requests are answered, nothing dies, and the sweeps put things right.
    pub until: Duration,
    /// The longest way of a request, there and back each.
    pub latency: Duration,
    /// How late a request to the bucket may be carried out.
    pub latest_object: Duration,
    /// How late a request that creates tasks may be carried out.
    pub latest_task: Duration,
    /// Requests whose answer is lost: their sender gives up after its patience.
    pub answer_lost: u64,
    /// Requests whose connection breaks at once; they are carried out all the same, perhaps late.
    pub reset: u64,
    /// Requests that never arrive.
    pub lost: u64,
    /// Requests that are answered 500 at once, and not carried out.
    pub server_error: u64,
    /// A time in which that happens to every request to the tables.
    pub outage: Option<Outage>,
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
    /// Requests that a sandbox is frozen with: before they leave, or before their answer is read.
    pub frozen_request: u64,
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
    /// Write units a second that the tables take; 0: as much as is asked.
    pub capacity: u32,
    /// Runs that stopped at a line, whose file is mended; the others are sent on without it.
    pub operator_mends: u64,
    /// Whoever looks at a stopped run sends it on without a word, or names another line.
    pub operator_errs: u64,
}

impl FaultRates {
    /// Nothing goes wrong; the orchestrator is as fast as can be.
    pub fn calm() -> Self {
        Self {
            until: Duration::ZERO,
            latency: 20 * MS,
            latest_object: SECOND,
            latest_task: SECOND,
            answer_lost: 0,
            reset: 0,
            lost: 0,
            server_error: 0,
            outage: None,
            throttled: 0,
            conflict: 0,
            own_412: 0,
            refused: 0,
            task_throttled: 0,
            task_unknown: 0,
            death: 0,
            frozen: 0,
            frozen_request: 0,
            frozen_for: Duration::ZERO,
            skew: Duration::ZERO,
            index_lag: Duration::ZERO,
            spawn_lost: 0,
            spawn_doubled: 0,
            spawn_late: 0,
            lifetime: (900 * SECOND, 900 * SECOND),
            orchestrator: SECOND,
            capacity: 0,
            operator_mends: 0,
            operator_errs: 0,
        }
    }
}

/// What a script begins with: what is asked for, and who else is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// One job, delivered once.
    Plain,
    /// One job, delivered twice within a second.
    Twice,
    /// The same run id in two deployments that share the tables.
    TwoDeployments,
    /// One job among objects of others.
    Foreign,
    /// One job with two rows that DynamoDB refuses, and somebody who has it pass over them.
    Invalid,
    /// The same, and somebody who mends them.
    InvalidMended,
    /// One job, and a task of somebody else under the id of one of its rows.
    Taken,
    /// One job with a row that is throttled for minutes.
    Hot,
    /// One job and a table of 20 write units a second.
    Provisioned,
    /// A file of sosw, asked for twice, and put back when it is done.
    Adopted,
    /// A file of sosw with a line that is no row, and somebody who mends it.
    AdoptedMended,
    /// An empty file of sosw.
    AdoptedEmpty,
}

impl Setting {
    /// All there are.
    pub const ALL: [Self; 12] = [
        Self::Plain,
        Self::Twice,
        Self::TwoDeployments,
        Self::Foreign,
        Self::Invalid,
        Self::InvalidMended,
        Self::Taken,
        Self::Hot,
        Self::Provisioned,
        Self::Adopted,
        Self::AdoptedMended,
        Self::AdoptedEmpty,
    ];
}

const FIRST: DeploymentSpec = DeploymentSpec {
    bucket: "queue",
    prefix: "p",
};

impl Scenario {
    /// A setting with so many rows and nothing that goes wrong: small batches and claims, so that there are several
    /// checkpoints.
    pub fn set(setting: Setting, rows: usize) -> Self {
        let mut scenario = Self::calm(rows);
        if (4..=40).contains(&rows) {
            scenario.limits = Limits {
                batch: 5,
                batch_bytes: 1 << 20,
                first_window: 10,
                last_window: 10,
                // Three parts of 30 rows.
                part: 1200,
            };
        }
        // A late request comes after the next sweep has put things right, and before a frozen sandbox thaws.
        scenario.rates.latest_object = Duration::from_secs(200);
        let Some(job) = scenario.jobs.first_mut() else {
            return scenario;
        };
        match setting {
            Setting::Plain => {}
            Setting::Twice => job.deliveries.push(SECOND),
            Setting::TwoDeployments => {
                scenario.deployments.push(DeploymentSpec { prefix: "q", ..FIRST });
                scenario.jobs.push(JobSpec::new(1, "run-0", rows));
            }
            Setting::Foreign => scenario.foreign = Foreign::ALL.to_vec(),
            Setting::Invalid | Setting::InvalidMended => {
                job.invalid = vec![1, rows as u64 / 2];
                scenario.rates.operator_mends = u64::from(setting == Setting::InvalidMended);
            }
            Setting::Taken => job.taken = Some(rows as u64 / 2),
            Setting::Hot => job.hot = Some((0, 100 * SECOND)),
            Setting::Provisioned => scenario.rates.capacity = 20,
            Setting::Adopted | Setting::AdoptedMended | Setting::AdoptedEmpty => {
                scenario.jobs.clear();
                scenario.rates.operator_mends = 1;
                let empty = setting == Setting::AdoptedEmpty;
                scenario.left_by_sosw.push(SoswFile {
                    name: "tasks_queue_left.txt".to_owned(),
                    rows: if empty { 0 } else { rows as u64 },
                    damaged: (setting == Setting::AdoptedMended).then_some(rows as u64 / 2),
                    deliveries: vec![Duration::ZERO, SECOND],
                    put_back: (!empty).then_some(400 * SECOND),
                });
            }
        }
        scenario
    }

    /// The same, with faults at numbered calls.
    pub fn scripted(setting: Setting, rows: usize, faults: &[(u64, Fault)]) -> Self {
        Self {
            script: faults.iter().copied().collect(),
            ..Self::set(setting, rows)
        }
    }

    /// One job of `rows` rows, delivered once, and nothing goes wrong.
    pub fn calm(rows: usize) -> Self {
        Self {
            seed: 0,
            deployments: vec![FIRST],
            jobs: vec![JobSpec::new(0, "run-0", rows)],
            left_by_sosw: Vec::new(),
            foreign: Vec::new(),
            limits: Limits::default(),
            #[cfg(jobmill_mutants)]
            mutant: None,
            rates: FaultRates::calm(),
            script: BTreeMap::new(),
            overwrite: false,
            unbounded: false,
            traced: false,
        }
    }

    /// The scenario of a seed.
    pub fn random(seed: u64) -> Self {
        let rng = Rng::new(seed);
        let pick = |choices: &[u64]| {
            let at = rng.below(choices.len() as u64);
            choices.get(at as usize).copied().unwrap_or_default()
        };
        let millis = |choices: &[u64]| Duration::from_millis(pick(choices));
        let seconds = |choices: &[u64]| Duration::from_secs(pick(choices));
        let mut deployments = vec![FIRST];
        match rng.below(8) {
            0 => deployments.push(DeploymentSpec {
                prefix: "p/q",
                ..FIRST
            }),
            1 => deployments.push(DeploymentSpec {
                bucket: "queue-2",
                ..FIRST
            }),
            _ => {}
        }
        let job = |deployment: usize, number: u64| {
            let rows = pick(&[1, 3, 8, 20, 30, 60]);
            JobSpec {
                labourer: if rng.once_in(2) { "other" } else { "worker" },
                deliveries: (0..1 + pick(&[0, 0, 1, 2]))
                    .map(|_| millis(&[0, 0, 40, 400, 60_000, 400_000]))
                    .collect(),
                invalid: match rng.below(6) {
                    0 => (0..1 + rng.below(2)).map(|_| rng.below(rows)).collect(),
                    _ => Vec::new(),
                },
                hot: rng
                    .once_in(8)
                    .then(|| (rng.below(rows), seconds(&[10, 100, 400]))),
                ..JobSpec::new(deployment, &format!("run-{number}"), rows as usize)
            }
        };
        let mut jobs = Vec::new();
        for deployment in 0..deployments.len() {
            jobs.extend((0..pick(&[1, 1, 1, 2, 3])).map(|number| job(deployment, number)));
        }
        let left_by_sosw = match rng.below(6) {
            0 => (0..pick(&[1, 1, 2]))
                .map(|number| {
                    let rows = pick(&[0, 1, 3, 20, 40]);
                    SoswFile {
                        name: format!("tasks_queue_left-{number}.txt"),
                        rows,
                        damaged: (rng.once_in(4) && rows > 0).then(|| rng.below(rows)),
                        deliveries: (0..1 + pick(&[0, 0, 1, 2]))
                            .map(|_| millis(&[0, 0, 40, 400, 60_000]))
                            .collect(),
                        put_back: (rng.once_in(3) && rows > 0).then(|| seconds(&[1, 20, 300])),
                    }
                })
                .collect(),
            _ => Vec::new(),
        };
        let foreign = match rng.below(4) {
            0 => Foreign::ALL.into_iter().filter(|_| rng.once_in(3)).collect(),
            _ => Vec::new(),
        };
        let limits = match rng.below(3) {
            0 => Limits::default(),
            _ => Limits {
                batch: pick(&[1, 2, 5, 25]) as usize,
                batch_bytes: pick(&[200, 1 << 20, 1 << 20]),
                first_window: pick(&[3, 8, 20]),
                last_window: pick(&[20, 40]),
                part: pick(&[400, 8 << 20, 8 << 20]) as usize,
            },
        };
        // Each trouble is away, rare or frequent, so that each is also met without the others.
        let trouble = |rare: u64| pick(&[0, 0, rare, rare / 5]);
        let lives = match rng.below(4) {
            0 => (900, 900),
            1 => (60, 300),
            2 => (8, 30),
            _ => (3, 20),
        };
        let rates = FaultRates {
            until: seconds(&[120, 400, 900]),
            latency: millis(&[5, 50, 400, 1500]),
            latest_object: seconds(&[1, 20, 100, 600]),
            latest_task: FASTEST_MOVE - 10 * MS,
            answer_lost: trouble(50),
            reset: trouble(50),
            lost: trouble(50),
            server_error: trouble(50),
            outage: rng.once_in(6).then(|| {
                let from = millis(&[0, 100, 1000, 30_000]);
                let until = from + seconds(&[2, 20, 100]);
                Outage { from, until }
            }),
            throttled: trouble(40),
            conflict: trouble(30),
            own_412: trouble(30),
            refused: trouble(400),
            task_throttled: trouble(40),
            task_unknown: trouble(40),
            death: trouble(60),
            frozen: trouble(60),
            frozen_request: trouble(60),
            frozen_for: seconds(&[10, 45, 200]),
            skew: seconds(&[0, 2, 10]),
            index_lag: seconds(&[0, 2, 60]),
            spawn_lost: trouble(10),
            spawn_doubled: trouble(10),
            spawn_late: trouble(10),
            lifetime: (Duration::from_secs(lives.0), Duration::from_secs(lives.1)),
            orchestrator: millis(&[300, 1000, 5000, 30_000]),
            capacity: pick(&[0, 0, 0, 20]) as u32,
            operator_mends: pick(&[0, 2]),
            operator_errs: pick(&[0, 4]),
        };
        Self {
            seed,
            deployments,
            jobs,
            left_by_sosw,
            foreign,
            limits,
            rates,
            ..Self::calm(0)
        }
    }
}
