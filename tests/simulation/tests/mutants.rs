//! The simulation itself under test: engines that are broken on purpose must not pass. Only in the build that has them:
//! `RUSTFLAGS="--cfg jobmill_mutants" cargo test --target-dir target/mutants -p jobmill-simulation --test mutants`.

#![cfg(jobmill_mutants)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::time::Duration;

use jobmill_engine::mutants::Mutant;
use jobmill_simulation::{Blow, Scenario, Story, Violation, Weight, run};

/// The holder dies with its batches sent and unconfirmed, and every task of them was worked off and archived before the
/// resume: without the look at the other tables they would begin anew.
#[test]
fn an_archived_task_in_doubt_that_goes_by_batch_is_caught() {
    let calls = run(&Scenario::scripted(30, &[])).calls;
    let mut caught = 0;
    for call in 0..calls {
        let mut scenario = Scenario::scripted(30, &[(call, Blow::DiesAfter)]);
        scenario.climate.orchestrator = Duration::from_millis(200);
        let found = run(&scenario).already_there;
        scenario.mutant = Some(Mutant::InDoubtByBatch);
        if found > 0 {
            let story = run(&scenario);
            assert!(
                story
                    .violations
                    .iter()
                    .any(|violation| violation.what.contains("created once more"))
            );
            caught += 1;
        }
    }
    assert!(caught > 0);
}

/// Whether the seeds of CI find a mutant, by what weight of violation.
fn is_caught(mutant: Mutant, weight: Weight) {
    let found = (0..3000).find(|seed| {
        let story = run(&Scenario {
            mutant: Some(mutant),
            ..Scenario::random(*seed)
        });
        story
            .violations
            .iter()
            .any(|violation| violation.weight == weight)
    });
    println!("{mutant:?}: caught by seed {found:?}");
    assert!(
        found.is_some(),
        "{mutant:?} was not caught: the simulation is blind"
    );
}

#[test]
fn broken_engines_hurt_their_users_and_are_caught() {
    for mutant in [
        Mutant::NoClaim,
        Mutant::InDoubtByBatch,
        Mutant::UnknownSentAgain,
        Mutant::NoEpochCheck,
        Mutant::CursorEarly,
        Mutant::ReceiptEarly,
        Mutant::NoGate,
        Mutant::LiveLeaseTaken,
        Mutant::LeaseIgnored,
        Mutant::DeletedEarly,
        Mutant::ClaimForgotten,
    ] {
        is_caught(mutant, Weight::Outcome);
    }
}

#[test]
fn an_idle_spawn_is_caught() {
    is_caught(Mutant::IdleSpawn, Weight::Protocol);
}

/// Too rare for chance: a copy of the put that created the lock comes when the lock was deleted, and its creator wakes
/// up. The pairs of late copies and sleep find it.
#[test]
fn a_revived_lease_is_caught() {
    let calls = run(&Scenario::scripted(3, &[])).calls;
    let mut caught: Vec<String> = Vec::new();
    for first in 0..calls {
        for second in first + 1..calls {
            let story = run(&Scenario {
                mutant: Some(Mutant::LeaseRevived),
                ..Scenario::scripted(3, &[(first, Blow::Twice), (second, Blow::Frozen)])
            });
            if outcomes(&story) > 0 {
                caught.push(format!("{first} Twice, {second} Frozen"));
            }
        }
    }
    println!("LeaseRevived: caught by {caught:?}");
    assert!(!caught.is_empty());
}

fn outcomes(story: &Story) -> usize {
    let hurts = |violation: &&Violation| violation.weight == Weight::Outcome;
    story.violations.iter().filter(hurts).count()
}

/// For people: how many of so many seeds catch each mutant.
#[test]
#[ignore = "a census, not a check"]
fn census_of_mutants() {
    for mutant in Mutant::ALL {
        let (mut any, mut hurt) = (0, 0);
        for seed in 0..1000 {
            let story = run(&Scenario {
                mutant: Some(mutant),
                ..Scenario::random(seed)
            });
            any += u64::from(!story.violations.is_empty());
            hurt += u64::from(outcomes(&story) > 0);
        }
        println!("{mutant:?}: caught by {any} of 1000 seeds, by {hurt} through what the user sees");
    }
}
