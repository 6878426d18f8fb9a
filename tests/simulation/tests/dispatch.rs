//! Dispatching under every fault: each call of each way to learn of an end, pairs of calls, and chance.
//!
//! `JOBMILL_SEEDS=100000` plays more seeds, `JOBMILL_SEED=17` replays one with its log, `JOBMILL_MATRIX=full` leaves no
//! pair out, `JOBMILL_SCRIPT="Response 3: 7 Twice"` replays a point of the matrix.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::str::FromStr;
use std::time::Duration;

use jobmill_core::task::labourer::Completion;
use jobmill_simulation::Fault;
use jobmill_simulation::dispatch::{Crew, DispatchScenario, DispatchTrace, play};

const ALL: [Completion; 3] = [Completion::Response, Completion::Destination, Completion::Report];

#[allow(
    clippy::disallowed_methods,
    reason = "the root of a test: how much to play is asked of its caller"
)]
fn env<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays a scenario and fails with its log and the command that replays it.
fn must_hold(scenario: &DispatchScenario, replay: &str) -> DispatchTrace {
    let trace = play(scenario);
    if trace.violations.is_empty() {
        return trace;
    }
    let told = play(&DispatchScenario {
        traced: true,
        ..scenario.clone()
    });
    for line in &told.log {
        println!("{line}");
    }
    for violation in &told.violations {
        println!("{violation}");
    }
    println!("{scenario:?}");
    panic!(
        "{}\nreplay: {replay} cargo test -p jobmill-simulation --test dispatch -- replay --nocapture",
        trace.violations[0]
    );
}

fn script_must_hold(completion: Completion, tasks: usize, faults: &[(u64, Fault)]) -> DispatchTrace {
    let script: Vec<String> = faults
        .iter()
        .map(|(call, fault)| format!("{call} {fault:?}"))
        .collect();
    must_hold(
        &DispatchScenario::scripted(completion, tasks, faults),
        &format!("JOBMILL_SCRIPT=\"{completion:?} {tasks}: {}\"", script.join(", ")),
    )
}

#[test]
fn replay() {
    if let Some(seed) = env("JOBMILL_SEED") {
        let scenario = DispatchScenario {
            traced: true,
            ..DispatchScenario::random(seed)
        };
        let trace = must_hold(&scenario, &format!("JOBMILL_SEED={seed}"));
        println!("{}", trace.log.join("\n"));
    }
    if let Some(script) = env::<String>("JOBMILL_SCRIPT") {
        let form = "completion tasks: call fault, call fault";
        let (setting, faults) = script.split_once(':').expect(form);
        let (completion, tasks) = setting.split_once(' ').expect(form);
        let completion = ALL
            .into_iter()
            .find(|known| format!("{known:?}") == completion)
            .expect(form);
        let faults: Vec<(u64, Fault)> = faults
            .split(',')
            .filter(|fault| !fault.trim().is_empty())
            .map(|fault| {
                let (call, name) = fault.trim().split_once(' ').expect(form);
                let fault = Fault::ALL.into_iter().find(|known| format!("{known:?}") == name);
                (call.parse().unwrap(), fault.expect("the name of a fault"))
            })
            .collect();
        let tasks = tasks.trim().parse().unwrap();
        let trace = play(&DispatchScenario {
            traced: true,
            ..DispatchScenario::scripted(completion, tasks, &faults)
        });
        println!("{}", trace.log.join("\n"));
        script_must_hold(completion, tasks, &faults);
    }
}

#[test]
fn a_calm_day_needs_one_holder() {
    for completion in ALL {
        let trace = must_hold(
            &DispatchScenario::calm(vec![Crew::new(completion, 20, 4)]),
            "no fault at all",
        );
        assert_eq!(trace.starts, 20, "{completion:?}");
        assert_eq!(trace.outcomes["succeeded"], 20, "{completion:?}");
        assert_eq!(trace.ends.get("dispatched"), Some(&1), "{:?}", trace.ends);
    }
}

#[test]
fn the_same_seed_leaves_the_same_trace() {
    for seed in 0..10 {
        let scenario = DispatchScenario {
            traced: true,
            ..DispatchScenario::random(seed)
        };
        let (one, other) = (play(&scenario), play(&scenario));
        assert!(one.log.len() > 10);
        assert_eq!(one.log, other.log, "seed {seed}");
    }
}

#[test]
fn every_call_may_go_wrong_in_every_way() {
    for completion in ALL {
        for tasks in [1, 4] {
            let calls = script_must_hold(completion, tasks, &[]).calls;
            for call in 0..calls {
                for fault in Fault::ALL {
                    script_must_hold(completion, tasks, &[(call, fault)]);
                }
            }
            println!("{completion:?}, {tasks} tasks: {calls} calls");
        }
    }
}

#[test]
fn random_seeds() {
    let seeds = env("JOBMILL_SEEDS").unwrap_or(300);
    let (mut starts, mut invocations) = (0, 0);
    for seed in 0..seeds {
        let trace = must_hold(&DispatchScenario::random(seed), &format!("JOBMILL_SEED={seed}"));
        starts += trace.starts;
        invocations += trace.invocations;
        assert!(
            trace.took < Duration::from_secs(7200),
            "seed {seed} took {:?}",
            trace.took
        );
    }
    println!("{seeds} seeds, {invocations} invocations, {starts} starts");
}

#[test]
fn random_seeds_beside_the_scheduler() {
    if let Some(seed) = env("JOBMILL_SEED") {
        let scenario = DispatchScenario::random_with_scheduler(seed);
        must_hold(&scenario, &format!("JOBMILL_SEED={seed}"));
        return;
    }
    let seeds = env("JOBMILL_SEEDS").unwrap_or(200);
    let mut starts = 0;
    for seed in 0..seeds {
        let scenario = DispatchScenario::random_with_scheduler(seed);
        starts += must_hold(&scenario, &format!("JOBMILL_SEED={seed}")).starts;
    }
    println!("{seeds} seeds, {starts} starts");
}

/// Every pair of calls goes wrong in every pair of ways; one in so many.
#[test]
fn pairs_of_faults() {
    let share = if env::<String>("JOBMILL_MATRIX").is_some() {
        1
    } else {
        97
    };
    let (mut points, mut played) = (0, 0_u64);
    for completion in ALL {
        let calls = script_must_hold(completion, 3, &[]).calls;
        for first in 0..calls {
            for fault in Fault::ALL {
                for second in first + 1..calls + 4 {
                    for other in Fault::ALL {
                        played += 1;
                        if played % share == 0 {
                            script_must_hold(completion, 3, &[(first, fault), (second, other)]);
                            points += 1;
                        }
                    }
                }
            }
        }
    }
    println!("{points} pairs");
}
