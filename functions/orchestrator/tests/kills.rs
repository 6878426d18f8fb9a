//! The real orchestrator, killed with SIGKILL at moments that a seed picks while it works off many tasks: between two
//! requests, in the middle of one, and with writes that land after the death of their sender. Then the tables are audited,
//! and the starts of the workers counted.
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

mod stage;

use std::collections::BTreeSet;
use std::time::Duration;

use jobmill_local::{Effect, InvocationOutcome, Rule, Service};
use jobmill_memory::Rng;
use jobmill_tests::world::FUNCTION;
use serde_json::json;
use stage::{Stage, WORKER};
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(600);
/// Longer than any lease: the clock of the store is put forward after a kill.
const PAST_EVERY_LEASE: Duration = Duration::from_secs(70);
/// A wake-up behind a dead one claims nothing for 10 s. Whoever is still alive after so long is killed without ado.
const LONGEST_LIFE: Duration = Duration::from_secs(14);
/// Deployments that are attacked side by side: each spends most of its time waiting.
const SIDE_BY_SIDE: u64 = 20;
/// So many wake-ups without kills close everything, or something is stuck.
const MOST_ROUNDS: usize = 5;
/// So many tasks come before each wake-up: there is always work.
const TASKS_A_ROUND: usize = 40;

fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().expect("a whole number"),
        Err(_) => default,
    }
}

/// When it dies: at a request that fits, which is held, carried out unanswered, or lands later.
fn moment(rng: &Rng) -> Rule {
    let (s3, tables, workers) = (Service::S3, Service::DynamoDb, Service::Lambda);
    let (service, operation, within) = match rng.below(10) {
        0 => (s3, "GetObject", 2),
        1 => (s3, "PutObject", 2),
        2 | 3 => (tables, "Query", 6),
        4 | 5 => (tables, "BatchExecuteStatement", 4),
        6 | 7 => (tables, "TransactWriteItems", 4),
        _ => (workers, "Invoke", 12),
    };
    let effect = match rng.below(4) {
        _ if service == workers => Effect::Hold,
        0 => Effect::Hold,
        1 => Effect::LoseAnswer,
        2 => Effect::Delay {
            min: Duration::ZERO,
            max: Duration::ZERO,
        },
        _ => Effect::Late(Duration::from_millis(5 + rng.below(100))),
    };
    Rule::new(service, effect).on(operation).after(rng.below(within))
}

/// What goes wrong all the time, beside the kills.
fn bad_weather(stage: &Stage) {
    let faults = stage.world.cloud.faults();
    let tables = |operation, effect| Rule::new(Service::DynamoDb, effect).on(operation).chance(0.04);
    faults.add(tables("BatchExecuteStatement", Effect::LoseAnswer));
    faults.add(tables("BatchExecuteStatement", Effect::Throttle));
    faults.add(tables("TransactWriteItems", Effect::LoseAnswer));
    faults.add(tables("TransactWriteItems", Effect::Throttle));
    faults.add(
        Rule::new(Service::Lambda, Effect::LoseAnswer)
            .on("Invoke")
            .chance(0.02),
    );
}

/// Wakes up until all is closed, as the schedule does. More than once where a late write of a dead holder looks like one of a
/// living one, until its lease has run out.
async fn finish(stage: &Stage, tasks: usize) {
    let is_done = |stage: &Stage| stage.len("sosw_closed_tasks") == tasks;
    for _ in 0..MOST_ROUNDS {
        let before = stage.invocations_of(FUNCTION).len();
        stage.wake();
        let has_ended = |stage: &Stage| {
            let records = stage.invocations_of(FUNCTION);
            records.len() > before && records.iter().all(|record| record.ended.is_some())
        };
        stage
            .until("all are closed, or the wake-up has ended", |stage| {
                is_done(stage) || has_ended(stage)
            })
            .await;
        if is_done(stage) {
            return stage.until_closed(tasks).await;
        }
        stage.world.cloud.advance_clock(PAST_EVERY_LEASE);
    }
    panic!("not all are closed: {:?}", stage.outcomes());
}

/// One deployment through `kills` kills until all of its tasks are closed. Returns how many kills there were.
async fn attack(seed: u64, kills: u64) -> u64 {
    let completion = ["response", "destination"][(seed % 2) as usize];
    let labourer = json!({
        "completion": completion, "max_duration": 2, "max_simultaneous_invocations": 12, "max_attempts": 100,
        "suspend_after": false,
    });
    let stage = Stage::start(labourer, TIMEOUT).await;
    if completion == "destination" {
        stage.connect().await;
    }
    let (cloud, rng) = (&stage.world.cloud, Rng::new(seed));
    cloud.faults().reseed(seed);
    bad_weather(&stage);
    let (mut killed, mut at_a_request, mut tasks) = (0, 0, 0);
    while killed < kills {
        for task in tasks..tasks + TASKS_A_ROUND {
            let told = json!({ "sleep_ms": 150 + task % 7 * 100, "fail_until": u64::from(task % 5 == 0) });
            stage.queue(&format!("t-{task:04}"), &told.to_string());
        }
        tasks += TASKS_A_ROUND;
        stage.wake();
        let rule = cloud.faults().add(moment(&rng));
        let struck = timeout(LONGEST_LIFE, cloud.faults().wait_fired(rule, 1)).await;
        at_a_request += u64::from(struck.is_ok());
        // The workers live on: what they were started for they do.
        killed += u64::from(cloud.kill_random_of(FUNCTION).is_some());
        cloud.faults().remove(rule);
        cloud.advance_clock(PAST_EVERY_LEASE);
    }
    cloud.faults().clear();
    finish(&stage, tasks).await;
    let closed = stage.closed();
    let ids: BTreeSet<String> = (0..tasks).map(|task| format!("t-{task:04}")).collect();
    assert!(closed.keys().eq(ids.iter()), "each task is closed, and no other");
    for (id, closed) in &closed {
        assert_eq!(closed.outcome, "succeeded", "{id}: {closed:?}");
    }
    let starts = stage.starts();
    for (attempt, count) in &starts {
        assert_eq!(*count, 1, "{attempt:?} was started {count} times (seed {seed})");
    }
    let crashed =
        |outcome: &Option<InvocationOutcome>| matches!(outcome, Some(InvocationOutcome::Crashed(_)));
    let records = stage.invocations_of(FUNCTION);
    let crashed = records.iter().filter(|record| crashed(&record.outcome)).count() as u64;
    println!(
        "seed {seed}, {completion}: {killed} kills, {at_a_request} at a request, {crashed} of {} invocations crashed, {} starts for {tasks} tasks, \
         {} ran twice or more",
        records.len(),
        starts.len(),
        starts.keys().filter(|(_, attempts)| *attempts > 0).count(),
    );
    assert_eq!(stage.invocations_of(WORKER).len(), starts.len());
    crashed
}

#[tokio::test]
async fn a_hundred_kills_lose_nothing_and_start_no_attempt_twice() {
    let (wanted, seed) = (
        from_environment("JOBMILL_KILLS", 100),
        from_environment("JOBMILL_SEED", 1),
    );
    let each = wanted.div_ceil(SIDE_BY_SIDE);
    let attacks = (0..SIDE_BY_SIDE).map(|one| attack(seed + one, each));
    let killed: u64 = futures_util::future::join_all(attacks).await.into_iter().sum();
    println!("{killed} kills survived");
    assert!(killed >= wanted, "{killed} kills");
}
