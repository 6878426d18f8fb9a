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
use std::time::Duration;

use jobmill_core::task::identity::TaskIds;
use jobmill_local::{Effect, FunctionSpec, InvocationOutcome, Rule, Service, WriteRate};
use jobmill_memory::Rng;
use jobmill_tests::world::{BUCKET, FUNCTION, PREFIX, World, config, flat_job};
use serde_json::{Value, json};

const BOOTSTRAP: &str = env!("CARGO_BIN_EXE_bootstrap");
/// Only a hang takes longer, also on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(300);
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
    rng: Rng,
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
            rng: Rng::new(seed),
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
    fn moment(&self, service: Service, operation: Option<&str>, within: u64) -> Rule {
        // Held, it dies with its sender; or it is carried out while its sender dies; or it lands later.
        let effect = match self.rng.below(if self.late { 5 } else { 4 }) {
            _ if service == Service::Lambda => Effect::Hold,
            0 | 1 => Effect::Hold,
            2 => Effect::Delay {
                min: Duration::ZERO,
                max: Duration::ZERO,
            },
            3 => Effect::LoseAnswer,
            _ => Effect::Late(Duration::from_millis(5 + self.rng.below(100))),
        };
        let rule = Rule::new(service, effect).after(self.rng.below(within));
        match operation {
            Some(operation) => rule.on(operation),
            None => rule,
        }
    }

    /// Three moments, of which the first to come is the one.
    fn moments(&self, rows: usize) -> [Rule; 3] {
        let (s3, tables) = (Service::S3, Service::DynamoDb);
        let batches = (rows as u64 / 25).clamp(1, 30);
        [
            // New rows or rows in doubt: as long as there is work there is one of the two.
            self.moment(tables, Some("BatchExecuteStatement"), batches),
            self.moment(tables, Some("TransactWriteItems"), rows as u64 / 4 + 1),
            match self.rng.below(12) {
                0 => self.moment(s3, None, 10),
                1 | 2 => self.moment(s3, Some("PutObject"), 3),
                3 => self.moment(s3, Some("GetObject"), 3),
                4 => self.moment(s3, Some("DeleteObject"), 2),
                5 => self.moment(tables, Some("Query"), 1),
                6 => self.moment(Service::Lambda, None, 1),
                _ => self.moment(tables, None, batches),
            },
        ]
    }

    /// Kills until nothing runs any more.
    async fn strike(&mut self, rows: usize) {
        let cloud = &self.world.cloud;
        let faults = cloud.faults();
        while self.kills > 0 {
            let rules = self.moments(rows).map(|rule| faults.add(rule));
            let struck = tokio::select! {
                biased;
                struck = faults.wait_fired(rules[0], 1) => struck,
                struck = faults.wait_fired(rules[1], 1) => struck,
                struck = faults.wait_fired(rules[2], 1) => struck,
                idle = cloud.wait_idle(PATIENCE) => { idle.unwrap(); false }
            };
            if struck && cloud.kill_random().is_some() {
                self.kills -= 1;
            }
            rules.into_iter().for_each(|rule| faults.remove(rule));
            if !struck {
                return;
            }
        }
        cloud.wait_idle(PATIENCE).await.unwrap();
    }

    /// Whether the run has its receipt, and nothing else is left.
    fn clean(&self, given: &Given) -> bool {
        self.world.objects() == [given.receipt()]
    }

    /// Somebody starts an invocation for what is left; leases have run out.
    fn again(&self, given: &Given) {
        self.world.cloud.advance_clock(PAST_EVERY_LEASE);
        let event = match self.rng.below(4) {
            0 => given.event(),
            1 => json!({ "file_name": given.file_name(), "hop": self.rng.below(3) }),
            _ => json!({ "sweep": true }),
        };
        self.world
            .cloud
            .invoke_event(FUNCTION, event.to_string())
            .unwrap();
    }

    /// Drives a run to its end through all kills, until nothing but its receipt is left. `meanwhile` is called whenever
    /// nobody is at work. (A late copy of a put may bring rows or lock back after that, for the next sweep to delete; tasks
    /// it can't touch.)
    async fn drive(&mut self, given: &Given, deliveries: usize, mut meanwhile: impl FnMut(&World)) {
        for _ in 0..deliveries {
            self.world
                .cloud
                .invoke_event(FUNCTION, given.event().to_string())
                .unwrap();
        }
        self.strike(given.rows).await;
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
            self.strike(given.rows).await;
        }
    }

    /// Invocations that a kill ended.
    fn killed(&self) -> u64 {
        let crashed =
            |outcome: &Option<InvocationOutcome>| matches!(outcome, Some(InvocationOutcome::Crashed(_)));
        let records = self.world.cloud.invocations();
        records.iter().filter(|record| crashed(&record.outcome)).count() as u64
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

/// What a test has seen.
#[derive(Default)]
struct Tally {
    jobs: u64,
    killed: u64,
    in_doubt: u64,
    throttled: u64,
}

impl Tally {
    fn add(&mut self, attack: &Attack, given: &Given) {
        let stats = attack.world.cloud.stats();
        let in_doubt = stats.requests(Service::DynamoDb, "TransactWriteItems");
        println!(
            "{}: {} rows, {} kills, {} invocations, {in_doubt} in doubt",
            given.run_id,
            given.rows,
            attack.killed(),
            attack.world.outcomes().len(),
        );
        self.jobs += 1;
        self.killed += attack.killed();
        self.in_doubt += in_doubt;
        self.throttled += stats.throttled;
    }

    fn report(&self) {
        println!(
            "{} kills survived by {} jobs, {} rows asked for in doubt, {} throttled",
            self.killed, self.jobs, self.in_doubt, self.throttled
        );
        assert!(self.in_doubt > 0, "rows were in doubt");
    }
}

/// Jobs of several sizes, one world each, until enough were killed.
#[tokio::test]
async fn a_hundred_kills_lose_nothing_and_double_nothing() {
    let (wanted, seed) = (
        from_environment("JOBMILL_KILLS", 100),
        from_environment("JOBMILL_SEED", 1),
    );
    let mut tally = Tally::default();
    while tally.killed < wanted || tally.jobs < 7 {
        let run_id = format!("kills-{}", tally.jobs);
        let (given, kills) = match tally.jobs % 7 {
            0 => (Given::flat(&run_id, 1), 8),
            1 => (Given::flat(&run_id, 60), 20),
            2 => (Given::batched(&run_id, 200), 20),
            3 => (Given::flat(&run_id, 130), 20),
            4 => (Given::batched(&run_id, 700), 20),
            5 => (Given::flat(&run_id, 500), 20),
            // More than a lock claims at first.
            _ => (Given::flat(&run_id, 2_700), 3),
        };
        let seed = seed + tally.jobs;
        let mut attack = Attack::begin(seed, kills, true, json!({}), Duration::from_secs(60)).await;
        attack.bad_weather();
        attack.drive(&given, 1, |_| {}).await;
        let tasks = attack.world.assert_tasks(&run_id, given.rows);
        assert_values(&given, tasks.iter().map(|task| &task.payload));
        tally.add(&attack, &given);
    }
    tally.report();
    assert!(tally.throttled > 0);
}

#[tokio::test]
async fn eight_deliveries_at_once_under_fire_are_one_run() {
    let mut tally = Tally::default();
    for seed in 100..102 {
        let given = Given::flat(&format!("eight-{seed}"), 200);
        let mut attack = Attack::begin(seed, 10, true, json!({}), Duration::from_secs(60)).await;
        attack.bad_weather();
        attack.drive(&given, 8, |_| {}).await;
        let tasks = attack.world.assert_tasks(&given.run_id, given.rows);
        assert_values(&given, tasks.iter().map(|task| &task.payload));
        tally.add(&attack, &given);
    }
    tally.report();
}

/// A chain of invocations whose links are killed, lost and doubled.
#[tokio::test]
async fn a_chain_under_fire_is_one_run() {
    let mut tally = Tally::default();
    let given = Given::flat("chain", 600);
    let short = json!({ "shutdown_period": 1 });
    let mut attack = Attack::begin(200, 6, true, short, Duration::from_millis(1_500)).await;
    attack.bad_weather();
    attack.world.cloud.faults().limit_writes(
        "sosw_tasks",
        WriteRate {
            units_per_second: 250.0,
            burst: 25.0,
        },
    );
    attack.drive(&given, 1, |_| {}).await;
    let tasks = attack.world.assert_tasks(&given.run_id, given.rows);
    assert_values(&given, tasks.iter().map(|task| &task.payload));
    let outcomes = attack.world.outcomes();
    assert!(
        outcomes.iter().any(|outcome| outcome == "handed_off"),
        "{outcomes:?}"
    );
    tally.add(&attack, &given);
    tally.report();
}

/// Takes tasks as sosw's Orchestrator does: starts some, archives some, puts some off.
#[derive(Default)]
struct Orchestrator {
    /// What it did to whom: the table in which the task must stand at the end, and how.
    touched: BTreeMap<String, (&'static str, Value)>,
}

impl Orchestrator {
    fn work(&mut self, world: &World, rng: &Rng) {
        let cloud = &world.cloud;
        for mut item in cloud.scan_table("sosw_tasks").unwrap() {
            let id = item["task_id"]["S"].as_str().unwrap().to_owned();
            if self.touched.contains_key(&id) || rng.below(3) > 0 {
                continue;
            }
            item["attempts"] = json!({ "N": "1" });
            item["greenfield"] = json!({ "N": "4102444800" });
            let table = match rng.below(3) {
                0 => "sosw_tasks",
                1 => {
                    item["closed_at"] = json!({ "N": "1709700000" });
                    item["labourer_id_task_status"] = json!({ "S": "worker_1" });
                    "sosw_closed_tasks"
                }
                _ => {
                    item["desired_launch_time"] = json!({ "N": "1709700000" });
                    "sosw_retry_tasks"
                }
            };
            cloud.put_item(table, item.clone()).unwrap();
            if table != "sosw_tasks" {
                cloud
                    .delete_item("sosw_tasks", json!({ "task_id": { "S": id } }))
                    .unwrap();
            }
            self.touched.insert(id, (table, item));
        }
    }

    /// Each row is one task in one table; what was touched stands as it was left.
    fn audit(&self, world: &World, given: &Given) {
        let mut found = BTreeMap::new();
        for table in ["sosw_tasks", "sosw_closed_tasks", "sosw_retry_tasks"] {
            for item in world.cloud.scan_table(table).unwrap() {
                let id = item["task_id"]["S"].as_str().unwrap().to_owned();
                let twice = found.insert(id.clone(), (table, item));
                assert!(
                    twice.is_none(),
                    "{id} stands in {table} and in {}",
                    twice.unwrap().0
                );
            }
        }
        let ids = TaskIds::new(BUCKET, PREFIX, &given.run_id);
        let expected: BTreeSet<String> = (0..given.rows as u64).map(|row| ids.at(row)).collect();
        assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), expected);
        for (id, (table, item)) in &found {
            match self.touched.get(id) {
                Some((left_in, left)) => assert_eq!((table, item), (left_in, left), "was touched after that"),
                None => assert_eq!(item["attempts"]["N"], "0"),
            }
        }
        let payloads: Vec<Value> = (0..given.rows as u64)
            .map(|row| serde_json::from_str(found[&ids.at(row)].1["payload"]["S"].as_str().unwrap()).unwrap())
            .collect();
        assert_values(given, payloads.iter());
    }
}

#[tokio::test]
async fn what_an_orchestrator_has_taken_is_never_reset_or_made_again() {
    let mut tally = Tally::default();
    let mut taken = 0;
    for (seed, rows) in [(300, 90), (301, 250), (302, 400)] {
        let given = Given::flat(&format!("taken-{seed}"), rows);
        let mut attack = Attack::begin(seed, 10, false, json!({}), Duration::from_secs(60)).await;
        attack.bad_weather();
        let rng = Rng::new(seed);
        let mut orchestrator = Orchestrator::default();
        attack
            .drive(&given, 1, |world| orchestrator.work(world, &rng))
            .await;
        orchestrator.audit(&attack.world, &given);
        taken += orchestrator.touched.len();
        tally.add(&attack, &given);
    }
    println!("{taken} tasks were taken meanwhile");
    assert!(taken > 0);
    tally.report();
}

/// A file of a sosw Scheduler with these rows is named in a continuation: the type and the sentence of the error.
async fn refusal_of(rows: &str) -> (World, String, String) {
    let world = World::start(Path::new(BOOTSTRAP), &config(json!({})), Duration::from_secs(60)).await;
    world
        .cloud
        .put_object(BUCKET, &format!("{PREFIX}/tasks_queue_odd.txt"), rows.to_owned())
        .unwrap();
    let answer = world.invoke(&json!({ "file_name": "tasks_queue_odd.txt" })).await;
    let (kind, sentence) = answer.unwrap_err();
    (world, kind, sentence)
}

/// The id of row 0 of the run that an adopted file became.
fn first_task(world: &World) -> String {
    let objects = world.objects();
    let name = objects
        .iter()
        .find_map(|name| name.strip_prefix("tasks_queue_"))
        .unwrap();
    TaskIds::new(BUCKET, PREFIX, name.strip_suffix(".txt").unwrap()).at(0)
}

#[tokio::test]
async fn a_row_that_no_item_can_hold_stops_there_with_its_line() {
    let row = |fill: usize| format!("{}\n", json!({ "labourer_id": "worker", "x": "x".repeat(fill) }));
    let (world, kind, sentence) = refusal_of(&(row(1) + &row(500_000) + &row(1))).await;
    assert_eq!(kind, "DamagedQueue", "{sentence}");
    assert!(sentence.contains("line 2"), "{sentence}");
    // The row before it is a task; the one behind it may be.
    assert_eq!(world.tasks()[0].task_id, first_task(&world));
    assert!(world.tasks().len() <= 2);
    let answer = world.invoke(&json!({ "sweep": true })).await.unwrap();
    assert_eq!(answer["stopped"].as_array().unwrap().len(), 1, "{answer}");
}

#[tokio::test]
async fn a_line_that_is_too_long_is_refused_before_anything_is_moved() {
    let row = json!({ "labourer_id": "worker", "x": 1 });
    let (world, kind, sentence) = refusal_of(&format!("{row}\n{}\n{row}\n", "x".repeat(5 << 20))).await;
    assert_eq!(kind, "DamagedQueue", "{sentence}");
    assert!(sentence.contains("line 2"), "{sentence}");
    assert_eq!(world.objects(), ["tasks_queue_odd.txt"]);
}

/// Foreign, newer and impossible locks are left as they are, with an error of a type.
#[tokio::test]
async fn a_lock_of_another_make_is_refused_and_left_alone() {
    let corpus = include_str!("../../../tests/fuzz/corpus/lock.txt");
    let world = World::start(Path::new(BOOTSTRAP), &config(json!({})), Duration::from_secs(60)).await;
    world.cloud.advance_clock(PAST_EVERY_LEASE);
    for (at, lock) in corpus.lines().enumerate() {
        let key = format!("{PREFIX}/locked_tasks_queue_{at}.txt");
        world.cloud.put_object(BUCKET, &key, lock.to_owned()).unwrap();
    }
    world.cloud.advance_clock(Duration::from_secs(10_000_000_000));
    for (at, lock) in corpus.lines().enumerate() {
        let event = json!({ "file_name": format!("tasks_queue_{at}.txt") });
        let (kind, sentence) = world.invoke(&event).await.unwrap_err();
        println!("{at}: {kind}: {sentence}");
        if jobmill_core::queue::lock::Lock::parse("x", lock.as_bytes()).is_err() {
            assert_eq!(kind, "DamagedQueue", "{sentence}");
            let key = format!("{PREFIX}/locked_tasks_queue_{at}.txt");
            assert_eq!(world.cloud.object(BUCKET, &key).unwrap().body, lock.as_bytes());
        } else {
            assert!(
                ["UnknownQueueFile", "DamagedQueue"].contains(&kind.as_str()),
                "{kind}: {sentence}"
            );
        }
    }
    assert_eq!(world.tasks(), []);
}

/// Or a run that was begun could never be handed on.
#[tokio::test]
async fn a_run_id_with_dots_can_be_continued() {
    for run_id in ["a.", "a..b", "..", "."] {
        let given = Given::flat(run_id, 50);
        let mut attack = Attack::begin(1, 1, false, json!({}), Duration::from_secs(60)).await;
        let world = &attack.world;
        let rule = Rule::new(Service::DynamoDb, Effect::Hold).on("BatchExecuteStatement");
        let held = world.cloud.faults().add(rule);
        world
            .cloud
            .invoke_event(FUNCTION, given.event().to_string())
            .unwrap();
        let begun = tokio::select! {
            fired = world.cloud.faults().wait_fired(held, 1) => fired,
            idle = world.cloud.wait_idle(PATIENCE) => { idle.unwrap(); false }
        };
        if !begun {
            // Refused at once is as good.
            assert_eq!(world.objects(), Vec::<String>::new());
            continue;
        }
        world.cloud.kill_all_instances();
        world.cloud.faults().remove(held);
        world.cloud.wait_idle(PATIENCE).await.unwrap();
        world.cloud.advance_clock(PAST_EVERY_LEASE);
        world.invoke(&json!({ "sweep": true })).await.unwrap();
        attack.kills = 0;
        attack.strike(given.rows).await;
        assert!(attack.clean(&given), "{:?}", attack.world.outcomes());
    }
}
