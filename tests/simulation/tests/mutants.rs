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

use jobmill_core::task::labourer::Completion;
use jobmill_engine::mutants::Mutant;
use jobmill_simulation::dispatch::{Crew, DispatchScenario, play};
use jobmill_simulation::{Fault, Outage, Scenario, Setting, Violation, Weight, run};

const SECOND: Duration = Duration::from_secs(1);

/// Where a broken engine is looked for: the setting, the faults in their order, and whom it hurts.
struct Hunt {
    scenario: Scenario,
    faults: &'static [Fault],
    weight: Weight,
}

impl Hunt {
    /// A broken engine that hurts its user in a setting.
    fn hurts(setting: Setting, rows: usize, faults: &'static [Fault]) -> Self {
        Self {
            scenario: Scenario::set(setting, rows),
            faults,
            weight: Weight::Outcome,
        }
    }

    /// A broken engine that hurts nobody yet.
    fn breaks_protocol(self) -> Self {
        Self {
            weight: Weight::Protocol,
            ..self
        }
    }

    /// The same with another scenario.
    fn with(mut self, change: impl FnOnce(&mut Scenario)) -> Self {
        change(&mut self.scenario);
        self
    }
}

/// How each broken engine is caught. Every one of them has to be here.
fn hunt(mutant: Mutant) -> Hunt {
    match mutant {
        Mutant::NoClaim => Hunt::hurts(Setting::Plain, 3, &[Fault::DiesAfter]),
        Mutant::InDoubtByBatch => Hunt::hurts(Setting::Plain, 3, &[Fault::DiesAfter]),
        Mutant::UnknownSentAgain => Hunt::hurts(Setting::Plain, 3, &[Fault::AnswerLost]),
        // The row that lags keeps the next holder at work until this one wakes up.
        Mutant::NoEpochCheck => Hunt::hurts(Setting::Plain, 30, &[Fault::Frozen])
            .with(|scenario| scenario.jobs[0].hot = Some((29, 220 * SECOND))),
        Mutant::CursorEarly => Hunt::hurts(Setting::Plain, 30, &[Fault::Refused]),
        Mutant::ReceiptEarly => Hunt::hurts(Setting::Plain, 3, &[Fault::Throttled]),
        Mutant::NoGate => Hunt::hurts(Setting::Plain, 3, &[Fault::DiesBefore]),
        Mutant::LiveLeaseTaken => Hunt::hurts(Setting::Twice, 3, &[Fault::Paused]),
        Mutant::LeaseIgnored => Hunt::hurts(Setting::Plain, 3, &[Fault::Frozen]),
        Mutant::DeletedEarly => Hunt::hurts(Setting::Plain, 3, &[Fault::DiesBefore]),
        Mutant::ClaimForgotten => Hunt::hurts(Setting::Plain, 30, &[Fault::Refused]),
        // No row moves while the first one lags, and the time of an invocation is short.
        Mutant::IdleSpawn => Hunt::hurts(Setting::Hot, 3, &[])
            .with(|scenario| {
                scenario.rates.until = 100 * SECOND;
                scenario.rates.lifetime = (30 * SECOND, 30 * SECOND);
            })
            .breaks_protocol(),
        // A copy of the put that created the lock comes when the lock was deleted, and its creator wakes up.
        Mutant::LeaseRevived => Hunt::hurts(Setting::Plain, 3, &[Fault::Twice, Fault::Frozen]),
        Mutant::TakenForOurs => Hunt::hurts(Setting::Taken, 3, &[]),
        Mutant::UnknownAtOnce => Hunt::hurts(Setting::Plain, 2_000, &[]).with(|scenario| {
            scenario.rates.until = 20 * SECOND;
            scenario.rates.outage = Some(Outage {
                from: SECOND / 10,
                until: 20 * SECOND,
            });
        }),
        Mutant::ClaimUnbounded => Hunt::hurts(Setting::Hot, 30, &[]).breaks_protocol(),
        Mutant::SweepStops => Hunt::hurts(Setting::Foreign, 3, &[Fault::DiesBefore]),
        Mutant::RefusedInDoubtFails => Hunt::hurts(Setting::Invalid, 3, &[]),
        Mutant::StopPassed => Hunt::hurts(Setting::AdoptedMended, 3, &[]),
        Mutant::IdsWithoutQueue => Hunt::hurts(Setting::TwoDeployments, 3, &[]),
        other => panic!("{other:?} is none of scheduling"),
    }
}

fn with_script(scenario: &Scenario, mutant: Option<Mutant>, script: &[(u64, Fault)]) -> Vec<Violation> {
    run(&Scenario {
        mutant,
        script: script.iter().copied().collect(),
        ..scenario.clone()
    })
    .violations
}

/// The calls at which the faults strike, each behind the one before, as far as the calm run has calls.
fn scripts(calls: u64, faults: &[Fault]) -> Vec<Vec<(u64, Fault)>> {
    let mut scripts = vec![Vec::new()];
    for fault in faults {
        let longer = |script: &Vec<(u64, Fault)>| {
            let from = script.last().map_or(0, |(call, _)| call + 1);
            let script = script.clone();
            (from..calls).map(move |call| [script.as_slice(), &[(call, *fault)]].concat())
        };
        scripts = scripts.iter().flat_map(longer).collect();
    }
    scripts
}

/// Each broken engine is caught by a script, which the right one survives.
#[test]
fn every_broken_engine_is_caught_by_a_script() {
    for mutant in Mutant::OF_SCHEDULE {
        let Hunt {
            scenario,
            faults,
            weight,
        } = hunt(mutant);
        let calls = run(&scenario).calls;
        let caught = |script: &Vec<(u64, Fault)>| {
            let violations = with_script(&scenario, Some(mutant), script);
            violations
                .into_iter()
                .find(|violation| violation.weight == weight)
        };
        let found = scripts(calls, faults)
            .into_iter()
            .find_map(|script| Some((caught(&script)?, script)));
        let Some((violation, script)) = found else {
            panic!(
                "{mutant:?} was not caught by {faults:?} at any of {calls} calls: the simulation is blind"
            );
        };
        println!("{mutant:?}, {script:?}: {}", violation.what);
        assert_eq!(
            with_script(&scenario, None, &script),
            [],
            "the right engine, {script:?}"
        );
    }
}

/// Where a broken dispatcher is looked for: who works, when others wake up, and the faults in their order.
fn dispatch_hunt(mutant: Mutant) -> (DispatchScenario, &'static [Fault]) {
    let scenario = |crew: Crew| DispatchScenario {
        crews: vec![crew],
        ..DispatchScenario::scripted(crew_completion(mutant), 0, &[])
    };
    let plain = || Crew::new(crew_completion(mutant), 6, 2);
    let slow = || Crew {
        slowest: 19 * SECOND,
        ..plain()
    };
    match mutant {
        Mutant::ClaimBlindly => (scenario(Crew { fails: 1, ..plain() }), &[Fault::Twice]),
        Mutant::ClaimForgottenInDoubt => (scenario(slow()), &[Fault::AnswerLost]),
        Mutant::StartUnleased => (scenario(plain()), &[Fault::Frozen]),
        Mutant::StartAgain => (scenario(plain()), &[Fault::AnswerLost]),
        // The copy comes when the task was started again.
        Mutant::GiveBackBlindly => {
            let mut scenario = scenario(Crew {
                unfit_until: 5 * SECOND,
                hangs: 1,
                ..plain()
            });
            scenario.wakes = vec![2 * SECOND];
            scenario.rates.index_lag = Duration::ZERO;
            scenario.rates.latest_task = 13 * SECOND;
            scenario.caps_hold = false;
            (scenario, &[Fault::Twice])
        }
        // The copy comes when the task makes its next attempt.
        Mutant::SettleBlindly => {
            let mut scenario = scenario(Crew { fails: 1, ..slow() });
            scenario.rates.latest_object = 10 * SECOND;
            (scenario, &[Fault::Twice])
        }
        Mutant::TakenOverBlindly => (
            DispatchScenario {
                wakes: (20..80).map(|second| second * SECOND).collect(),
                ..scenario(Crew { tasks: 60, ..slow() })
            },
            &[Fault::DiesAfter],
        ),
        other => panic!("{other:?} is none of dispatching"),
    }
}

fn crew_completion(mutant: Mutant) -> Completion {
    match mutant {
        Mutant::TakenOverBlindly => Completion::Report,
        _ => Completion::Response,
    }
}

/// Each broken dispatcher is caught by a script, which the right one survives.
#[test]
fn every_broken_dispatcher_is_caught_by_a_script() {
    for mutant in Mutant::OF_DISPATCH {
        let (scenario, faults) = dispatch_hunt(mutant);
        let played = |mutant: Option<Mutant>, script: &[(u64, Fault)]| {
            play(&DispatchScenario {
                mutant,
                script: script.iter().copied().collect(),
                ..scenario.clone()
            })
        };
        let calls = played(None, &[]).calls;
        let found = scripts(calls.min(400), faults).into_iter().find_map(|script| {
            let violation = played(Some(mutant), &script).violations.into_iter().next()?;
            Some((violation, script))
        });
        let Some((violation, script)) = found else {
            panic!(
                "{mutant:?} was not caught by {faults:?} at any of {calls} calls: the simulation is blind"
            );
        };
        println!("{mutant:?}, {script:?}: {}", violation.what);
        assert_eq!(
            played(None, &script).violations,
            [],
            "the right engine, {script:?}"
        );
    }
}

/// What the tests of the other builds look for is there to be found in this one: the text of the engine, which is not in
/// here as well, since it is written backwards.
#[test]
fn this_build_says_that_it_is_broken() {
    const BACKWARDS: &[u8] = b"esoprup no nekorb si llimboj siht";
    let binary = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let says_so = |text: &[u8]| text.iter().rev().eq(BACKWARDS);
    assert!(binary.windows(BACKWARDS.len()).any(says_so));
}

/// For people: how many of so many seeds catch each mutant.
#[test]
#[ignore = "a census, not a check"]
fn census_of_mutants() {
    for mutant in Mutant::OF_SCHEDULE {
        let (mut any, mut hurt) = (0, 0);
        for seed in 0..1000 {
            let violations = with_script(&Scenario::random(seed), Some(mutant), &[]);
            any += u64::from(!violations.is_empty());
            let hurts = |violation: &Violation| violation.weight == Weight::Outcome;
            hurt += u64::from(violations.iter().any(hurts));
        }
        println!("{mutant:?}: caught by {any} of 1000 seeds, by {hurt} through what the user sees");
    }
}
