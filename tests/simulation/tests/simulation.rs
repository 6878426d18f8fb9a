//! The engine under every fault: each crash point, each pair of them, and chance. And the simulation itself under test:
//! engines that are broken on purpose must not pass.
//!
//! `JOBMILL_SEEDS=100000` plays more seeds, `JOBMILL_SEED=17` replays one with its story, `JOBMILL_MATRIX=full` leaves
//! no pair out, `JOBMILL_SCRIPT="30: 3 Twice, 6 Frozen"` replays a point of the matrix.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use jobmill_simulation::{Blow, Scenario, Story, run};

#[allow(
    clippy::disallowed_methods,
    reason = "the root of a test: how much to play is asked of its caller"
)]
fn env<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays a scenario and fails with its story and the command that replays it.
fn must_hold(scenario: &Scenario, replay: &str) -> Story {
    let story = run(scenario);
    if story.violations.is_empty() {
        return story;
    }
    let told = run(&Scenario {
        traced: true,
        ..scenario.clone()
    });
    for line in &told.trace {
        println!("{line}");
    }
    for violation in &told.violations {
        println!("{violation}");
    }
    println!("{scenario:?}");
    panic!(
        "{}\nreplay: {replay} cargo test --workspace --test simulation -- replay --nocapture",
        story.violations[0]
    );
}

fn script_must_hold(rows: usize, blows: &[(u64, Blow)]) -> Story {
    let script: Vec<String> = blows
        .iter()
        .map(|(call, blow)| format!("{call} {blow:?}"))
        .collect();
    must_hold(
        &Scenario::scripted(rows, blows),
        &format!("JOBMILL_SCRIPT=\"{rows}: {}\"", script.join(", ")),
    )
}

/// Every pair of calls, with every pair of blows; one in `share` of them.
fn pairs(rows: usize, blows: &[Blow], share: u64) {
    let share = if env::<String>("JOBMILL_MATRIX").is_some() {
        1
    } else {
        share
    };
    let calls = script_must_hold(rows, &[]).calls;
    let (mut points, mut played) = (0, 0);
    for first in 0..calls {
        for blow in blows {
            let alone = script_must_hold(rows, &[(first, *blow)]);
            points += 1;
            for second in first + 1..alone.calls {
                for other in blows {
                    played += 1;
                    if played % share == 0 {
                        script_must_hold(rows, &[(first, *blow), (second, *other)]);
                        points += 1;
                    }
                }
            }
        }
    }
    println!("{rows} rows, {blows:?}: {calls} calls, {points} scripts");
}

#[test]
fn replay() {
    if let Some(seed) = env("JOBMILL_SEED") {
        let story = must_hold(
            &Scenario {
                traced: true,
                ..Scenario::random(seed)
            },
            &format!("JOBMILL_SEED={seed}"),
        );
        println!("{}", story.trace.join("\n"));
    }
    if let Some(script) = env::<String>("JOBMILL_SCRIPT") {
        let (rows, blows) = script.split_once(':').expect("rows: call blow, call blow");
        let blows: Vec<(u64, Blow)> = blows
            .split(',')
            .map(|blow| {
                let (call, name) = blow.trim().split_once(' ').expect("call blow");
                let blow = Blow::ALL.into_iter().find(|blow| format!("{blow:?}") == name);
                (call.parse().unwrap(), blow.expect("the name of a blow"))
            })
            .collect();
        script_must_hold(rows.trim().parse().unwrap(), &blows);
    }
}

#[test]
fn a_calm_day_needs_nobody() {
    for rows in [1, 3, 30, 60] {
        let story = script_must_hold(rows, &[]);
        assert!(story.calls < 60, "{rows} rows took {} calls", story.calls);
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in 0..20 {
        let scenario = Scenario {
            traced: true,
            ..Scenario::random(seed)
        };
        let (one, other) = (run(&scenario), run(&scenario));
        assert!(one.trace.len() > 10);
        assert_eq!(one.trace, other.trace, "seed {seed}");
    }
}

#[test]
fn every_call_may_go_wrong_in_every_way() {
    let mut scripts = 0;
    for rows in [3, 30, 60] {
        for call in 0..script_must_hold(rows, &[]).calls {
            for blow in Blow::ALL {
                script_must_hold(rows, &[(call, blow)]);
                scripts += 1;
            }
        }
    }
    println!("{scripts} scripts of one blow");
}

#[test]
fn every_pair_of_deaths_with_3_rows() {
    pairs(3, &Blow::DEATHS, 1);
}

#[test]
fn every_pair_of_deaths_with_30_rows() {
    pairs(30, &Blow::DEATHS, 1);
}

#[test]
fn pairs_of_deaths_with_60_rows() {
    pairs(60, &Blow::DEATHS, 11);
}

#[test]
fn pairs_of_late_copies_and_sleep() {
    pairs(3, &[Blow::Twice, Blow::AnswerLostLate, Blow::Frozen], 1);
}

#[test]
fn pairs_of_everything() {
    pairs(3, &Blow::ALL, 23);
}

#[test]
fn random_seeds() {
    let seeds = env("JOBMILL_SEEDS").unwrap_or(1500);
    let (mut calls, mut invocations, mut ends) = (0, 0, BTreeMap::<&str, u64>::new());
    for seed in 0..seeds {
        let story = must_hold(&Scenario::random(seed), &format!("JOBMILL_SEED={seed}"));
        calls += story.calls;
        invocations += story.invocations;
        for (end, times) in story.ends {
            *ends.entry(end).or_default() += times;
        }
    }
    println!("{seeds} seeds, {invocations} invocations, {calls} calls; they ended: {ends:?}");
}

/// `task_writes: overwrite`, where every request lands or dies within the time that a request may take.
#[test]
fn overwriting_is_safe_while_requests_are_in_time() {
    for seed in 0..300 {
        let scenario = Scenario {
            overwrite: true,
            ..Scenario::random(seed)
        };
        must_hold(&scenario, &format!("JOBMILL_SEED={seed} (overwrite)"));
    }
}

/// Requests that create tasks may come minutes late: a task that was archived meanwhile may come to life again, and that
/// is all. Nothing is ever overwritten.
#[test]
fn late_inserts_overwrite_nothing() {
    for seed in 0..300 {
        let mut scenario = Scenario::random(seed);
        scenario.unbounded = true;
        scenario.climate.latest_task = Duration::from_secs(600);
        must_hold(&scenario, &format!("JOBMILL_SEED={seed} (unbounded)"));
    }
}

/// The holder dies with its batches sent and unconfirmed; before the resume every task of them was worked off and
/// archived. The resume must find that out, and not begin them anew.
#[test]
fn an_archived_task_in_doubt_stays_archived() {
    let calls = script_must_hold(30, &[]).calls;
    let mut found = 0;
    for call in 0..calls {
        let mut scenario = Scenario::scripted(30, &[(call, Blow::DiesAfter)]);
        // Long before the lease has run out.
        scenario.climate.orchestrator = Duration::from_millis(200);
        let story = must_hold(&scenario, &format!("JOBMILL_SCRIPT=\"30: {call} DiesAfter\""));
        found += story.already_there;
    }
    assert!(found > 20, "{found} tasks in doubt were found to be there");
}
