//! The engine under every fault: each crash point, each pair of them, and chance.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use jobmill_tests::simulation::{Scenario, run};

fn whole(scenario: &Scenario) {
    let story = run(scenario);
    if !story.violations.is_empty() {
        let story = run(&Scenario {
            traced: true,
            ..scenario.clone()
        });
        for line in story.trace.iter().take(400) {
            println!("{line}");
        }
        for violation in story.violations.iter().take(20) {
            println!("{violation}");
        }
        panic!("{scenario:?}");
    }
}

#[test]
fn a_calm_day() {
    for rows in [1, 3, 30, 60] {
        whole(&Scenario::calm(rows));
    }
}
#[test]
fn random_seeds() {
    let seeds = std::env::var("JOBMILL_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(100);
    for seed in 0..seeds {
        let scenario = Scenario::random(seed);
        let story = run(&scenario);
        if !story.violations.is_empty() {
            println!("{seed}: {} ", story.violations[0]);
        }
    }
}
