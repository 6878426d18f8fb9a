//! The real bootstrap, killed with SIGKILL at moments that a seed picks: between two requests, in the middle of one, and
//! with writes that land after the death of their sender. Then the tables and the bucket are audited.
//!
//! `JOBMILL_KILLS` sets how many kills there are at least, `JOBMILL_SEED` where chance begins.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use jobmill_core::task::TaskIds;
use jobmill_local::{Effect, FunctionSpec, InvocationOutcome, Rule, Service, WriteRate};
use jobmill_tests::memory::Dice;
use jobmill_tests::world::{FUNCTION, World, config, flat_job};
use serde_json::{Value, json};

const BOOTSTRAP: &str = env!("CARGO_BIN_EXE_bootstrap");
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any lease, and than rows without a lock are left alone.
const PAST_EVERY_LEASE: Duration = Duration::from_secs(70);
/// So many sweeps complete a run, or something is stuck.
const MOST_ROUNDS: usize = 60;

fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().expect("a whole number"),
        Err(_) => default,
    }
}

/// A job, and what must come of it.
struct Given {
    run_id: String,
    job: Value,
    rows: usize,
    /// The values of `products` (or `sections`) that the tasks name together, in the order of the queue.
    values: Vec<String>,
    /// Under which key.
    key: &'static str,
}

impl Given {
    /// `rows` sections, each on its own.
    fn flat(run_id: &str, rows: usize) -> Self {
        Self {
            run_id: run_id.to_owned(),
            job: flat_job(rows),
            rows,
            values: (0..rows).map(|row| format!("section-{row}")).collect(),
            key: "sections",
        }
    }

    /// Two stores; batches of seven products in one of them, of three in the other.
    fn batched(run_id: &str, products: usize) -> Self {
        let names = |store: &str| -> Vec<String> {
            (0..products)
                .map(|product| format!("{store}-{product}"))
                .collect()
        };
        let (x, y) = (names("x"), names("y"));
        let stores = json!({
            "x": { "products": x, "max_products_per_batch": 7 },
            "y": { "products": y, "max_products_per_batch": 3, "note": "in threes" },
        });
        Self {
            run_id: run_id.to_owned(),
            job: json!({ "lambda_name": "worker", "isolate_stores": true, "sections": { "a": { "stores": stores } } }),
            rows: products.div_ceil(7) + products.div_ceil(3),
            values: [x, y].concat(),
            key: "products",
        }
    }

    fn event(&self) -> Value {
        json!({ "job": self.job, "run_id": self.run_id, "as_of": "2024-03-06" })
    }

    fn file_name(&self) -> String {
        format!("tasks_queue_{}.txt", self.run_id)
    }

    fn receipt(&self) -> String {
        format!("done/{}.json", self.file_name())
    }
}

/// A run under attack.
struct Attack {
    world: World,
    dice: Dice,
    /// Kills that are still to come.
    kills: u64,
    /// Whether requests of the dead may land after the death. Not where tasks are archived: the clock of the store
    /// jumps, so they would land after a whole lease and more, which no request does.
    late: bool,
}

impl Attack {
    async fn begin(seed: u64, kills: u64, late: bool, more: Value, timeout: Duration) -> Self {
        let world = World::start(Path::new(BOOTSTRAP), &config(more.clone()), timeout).await;
        // As in Lambda, an event whose invocation failed is tried twice more, only sooner.
        world.cloud.register_function(
            FunctionSpec::new(FUNCTION, BOOTSTRAP)
                .env("JOBMILL_CONFIG", config(more).to_string())
                .timeout(timeout)
                .retry_delays([Duration::from_millis(10), Duration::from_millis(50)]),
        );
        world.cloud.faults().reseed(seed);
        Self {
            world,
            dice: Dice::new(seed),
            kills,
            late,
        }
    }

    /// What goes wrong all the time, beside the kills.
    fn bad_weather(&self) {
        let faults = self.world.cloud.faults();
        faults.limit_writes(
            "sosw_tasks",
            WriteRate {
                units_per_second: 3_000.0,
                burst: 300.0,
            },
        );
        let tasks = |effect| Rule::new(Service::DynamoDb, effect).on("BatchExecuteStatement");
        faults.add(tasks(Effect::Unprocessed(0.3)).chance(0.05));
        faults.add(tasks(Effect::LoseAnswer).chance(0.03));
        faults.add(tasks(Effect::Throttle).chance(0.03));
        let in_doubt = Rule::new(Service::DynamoDb, Effect::LoseAnswer).on("TransactWriteItems");
        faults.add(in_doubt.chance(0.02));
        faults.add(
            Rule::new(Service::S3, Effect::LoseAnswer)
                .on("PutObject")
                .chance(0.05),
        );
        faults.add(Rule::new(Service::Lambda, Effect::DoubleInvoke).chance(0.2));
        faults.add(Rule::new(Service::Lambda, Effect::LoseInvoke).chance(0.1));
    }

    /// A moment for a kill: when a request that fits is seen.
    fn moment(&self) -> Rule {
        let at_once = Effect::Delay {
            min: Duration::ZERO,
            max: Duration::ZERO,
        };
        let soon = Duration::from_millis(5 + self.dice.below(100));
        // It is held and dies with its sender; it is carried out while its sender dies; or it lands later.
        let effect = match self.dice.below(if self.late { 5 } else { 4 }) {
            0 | 1 => Effect::Hold,
            2 => at_once.clone(),
            3 => Effect::LoseAnswer,
            _ => Effect::Late(soon),
        };
        let (s3, tables) = (Service::S3, Service::DynamoDb);
        match self.dice.below(20) {
            0 => Rule::new(s3, effect).after(self.dice.below(8)),
            1..=3 => Rule::new(s3, effect).on("PutObject").after(self.dice.below(3)),
            4 | 5 => Rule::new(s3, effect).on("GetObject").after(self.dice.below(3)),
            6 => Rule::new(s3, effect).on("DeleteObject").after(self.dice.below(2)),
            7 => Rule::new(tables, effect).on("Query"),
            8..=10 => Rule::new(tables, effect)
                .on("TransactWriteItems")
                .after(self.dice.below(60)),
            11 => Rule::new(
                Service::Lambda,
                if effect == Effect::Hold { effect } else { at_once },
            ),
            _ => Rule::new(tables, effect)
                .on("BatchExecuteStatement")
                .after(self.dice.below(30)),
        }
    }

    /// Kills until nothing runs any more.
    async fn strike(&mut self) {
        let cloud = &self.world.cloud;
        loop {
            if self.kills == 0 {
                return cloud.wait_idle(PATIENCE).await.unwrap();
            }
            let rule = cloud.faults().add(self.moment());
            let struck = tokio::select! {
                biased;
                struck = cloud.faults().wait_fired(rule, 1) => struck,
                idle = cloud.wait_idle(PATIENCE) => { idle.unwrap(); false }
            };
            let killed = struck && cloud.kill_random().is_some();
            cloud.faults().remove(rule);
            if killed {
                self.kills -= 1;
            }
            if !struck {
                return;
            }
        }
    }

    /// Whether the run has its receipt, and nothing else is left.
    fn clean(&self, given: &Given) -> bool {
        self.world.objects() == [given.receipt()]
    }

    /// Somebody starts an invocation for what is left; leases have run out.
    fn again(&self, given: &Given) {
        self.world.cloud.advance_clock(PAST_EVERY_LEASE);
        let event = match self.dice.below(4) {
            0 => given.event(),
            1 => json!({ "file_name": given.file_name(), "hop": self.dice.below(3) }),
            _ => json!({ "sweep": true }),
        };
        self.world
            .cloud
            .invoke_event(FUNCTION, event.to_string())
            .unwrap();
    }

    /// Drives a run to its end through all kills. `meanwhile` is called whenever nobody is at work.
    async fn drive(&mut self, given: &Given, deliveries: usize, mut meanwhile: impl FnMut(&World)) {
        for _ in 0..deliveries {
            self.world
                .cloud
                .invoke_event(FUNCTION, given.event().to_string())
                .unwrap();
        }
        self.strike().await;
        let mut rounds = 0;
        while !self.clean(given) {
            meanwhile(&self.world);
            rounds += 1;
            assert!(
                rounds <= MOST_ROUNDS,
                "not completed: {:?}",
                self.world.outcomes()
            );
            self.again(given);
            self.strike().await;
        }
    }

    /// Invocations that a kill ended.
    fn killed(&self) -> u64 {
        let crashed =
            |outcome: &Option<InvocationOutcome>| matches!(outcome, Some(InvocationOutcome::Crashed(_)));
        let records = self.world.cloud.invocations();
        records.iter().filter(|record| crashed(&record.outcome)).count() as u64
    }

    fn in_doubt(&self) -> u64 {
        self.world
            .cloud
            .stats()
            .requests(Service::DynamoDb, "TransactWriteItems")
    }
}

/// The tasks, taken together, name every value once, in order.
fn assert_values<'a>(given: &Given, payloads: impl Iterator<Item = &'a Value>) {
    let named: Vec<&str> = payloads
        .flat_map(|payload| payload[given.key].as_array().expect("a list"))
        .map(|value| value.as_str().expect("text"))
        .collect();
    assert_eq!(named, given.values);
}

/// Jobs of several sizes, one world each, until enough were killed.
#[tokio::test]
async fn a_hundred_kills_lose_nothing_and_double_nothing() {
    let (wanted, seed) = (
        from_environment("JOBMILL_KILLS", 100),
        from_environment("JOBMILL_SEED", 1),
    );
    let begun = Instant::now();
    let (mut killed, mut in_doubt, mut throttled, mut jobs) = (0, 0, 0, 0);
    while killed < wanted || jobs < 7 {
        let run_id = format!("kills-{jobs}");
        let given = match jobs % 7 {
            0 => Given::flat(&run_id, 1),
            1 => Given::flat(&run_id, 60),
            2 => Given::batched(&run_id, 900),
            3 => Given::flat(&run_id, 700),
            4 => Given::batched(&run_id, 2_500),
            5 => Given::flat(&run_id, 2_600),
            _ => Given::flat(&run_id, 5_300),
        };
        let budget = 8 + given.rows as u64 / 250;
        let mut attack = Attack::begin(seed + jobs, budget, true, json!({}), Duration::from_secs(60)).await;
        attack.bad_weather();
        attack.drive(&given, 1, |_| {}).await;
        let tasks = attack.world.assert_whole(&run_id, given.rows);
        assert_values(&given, tasks.iter().map(|task| &task.payload));
        println!(
            "{run_id}: {} rows, {} kills, {} invocations, {} in doubt, {:?}",
            given.rows,
            attack.killed(),
            attack.world.outcomes().len(),
            attack.in_doubt(),
            begun.elapsed()
        );
        killed += attack.killed();
        in_doubt += attack.in_doubt();
        throttled += attack.world.cloud.stats().throttled;
        jobs += 1;
    }
    println!(
        "{killed} kills survived by {jobs} jobs, {in_doubt} rows asked for in doubt, {throttled} throttled"
    );
    assert!(in_doubt > 0 && throttled > 0);
}
