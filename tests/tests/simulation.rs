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
    if let Some(seed) = std::env::var("JOBMILL_SEED").ok().and_then(|n| n.parse().ok()) {
        return whole(&Scenario::random(seed));
    }
    let seeds = std::env::var("JOBMILL_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(100);
    for seed in 0..seeds {
        let scenario = Scenario::random(seed);
        let t = std::time::Instant::now();
        let story = run(&scenario);
        let t = t.elapsed().as_millis();
        if t > 100 {
            println!("{seed}: {t} ms calls {} inv {}", story.calls, story.invocations);
        }
        if !story.violations.is_empty() {
            println!("{seed}: {} ", story.violations[0]);
        }
    }
}
#[test]
fn mutants_probe() {
    use jobmill_engine::mutants::Mutant::*;
    use jobmill_tests::simulation::Weight;
    for mutant in [
        NoClaim,
        InDoubtByBatch,
        UnknownSentAgain,
        NoEpochCheck,
        CursorEarly,
        ReceiptEarly,
        NoGate,
        LiveLeaseTaken,
        LeaseIgnored,
        DeletedEarly,
        ClaimForgotten,
        IdleSpawn,
    ] {
        for overwrite in [false, true] {
            let t = std::time::Instant::now();
            let (mut any, mut outcome, mut first, mut first_outcome) = (0, 0, None, None);
            for seed in 0..500 {
                let scenario = Scenario {
                    mutant: Some(mutant),
                    overwrite,
                    ..Scenario::random(seed)
                };
                let story = run(&scenario);
                if !story.violations.is_empty() {
                    any += 1;
                    first.get_or_insert(seed);
                }
                if story.violations.iter().any(|v| v.weight == Weight::Outcome) {
                    outcome += 1;
                    first_outcome.get_or_insert(seed);
                }
            }
            println!(
                "{mutant:?} overwrite {overwrite}: any {any} first {first:?} outcome {outcome} first {first_outcome:?} {:?}",
                t.elapsed()
            );
        }
    }
}
#[test]
fn pairs_probe() {
    use jobmill_engine::mutants::Sizes;
    use jobmill_tests::simulation::Blow;
    use std::time::Duration;
    for (rows, sizes) in [
        (3, Sizes::default()),
        (
            30,
            Sizes {
                batch: 5,
                first_window: 10,
                last_window: 10,
            },
        ),
    ] {
        let mut base = Scenario::calm(rows);
        base.sizes = sizes;
        base.climate.latest_object = Duration::from_secs(200);
        let t = std::time::Instant::now();
        let n = run(&base).calls;
        let mut runs = 0;
        let mut bad = std::collections::BTreeMap::new();
        for i in 0..n {
            for a in if std::env::var("DEATHS").is_ok() {
                Blow::DEATHS.to_vec()
            } else {
                vec![Blow::Frozen, Blow::AnswerLostLate, Blow::Twice]
            } {
                let mut one = base.clone();
                one.script.insert(i, a);
                let s = run(&one);
                runs += 1;
                if !s.violations.is_empty() {
                    bad.entry(format!("{a:?}")).or_insert_with(Vec::new).push((
                        i,
                        None,
                        s.violations[0].to_string(),
                    ));
                    continue;
                }
                for j in i + 1..s.calls {
                    for b in if std::env::var("DEATHS").is_ok() {
                        Blow::DEATHS.to_vec()
                    } else {
                        vec![Blow::Frozen, Blow::AnswerLostLate, Blow::Twice]
                    } {
                        let mut two = one.clone();
                        two.script.insert(j, b);
                        let s = run(&two);
                        runs += 1;
                        if !s.violations.is_empty() {
                            bad.entry(format!("{a:?} {b:?}")).or_insert_with(Vec::new).push((
                                i,
                                Some(j),
                                s.violations[0].to_string(),
                            ));
                        }
                    }
                }
            }
        }
        println!("{rows} rows: {n} calls, {runs} runs, {:?}", t.elapsed());
        for (k, v) in bad {
            println!("{k}: {} e.g. {:?}", v.len(), v[0]);
        }
    }
}
