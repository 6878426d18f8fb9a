//! The engine under every fault: each call of each setting, pairs of calls, and chance.
//!
//! `JOBMILL_SEEDS=100000` plays more seeds, `JOBMILL_SEED=17` replays one with its log, `JOBMILL_MATRIX=full` leaves
//! no pair out, `JOBMILL_SCRIPT="Plain 30: 3 Twice, 6 Frozen"` replays a point of the matrix.

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

use jobmill_simulation::{Fault, Outage, Scenario, Setting, Trace, run};

const SECOND: Duration = Duration::from_secs(1);

#[allow(
    clippy::disallowed_methods,
    reason = "the root of a test: how much to play is asked of its caller"
)]
fn env<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays a scenario and fails with its log and the command that replays it.
fn must_hold(scenario: &Scenario, replay: &str) -> Trace {
    let trace = run(scenario);
    if trace.violations.is_empty() {
        return trace;
    }
    let told = run(&Scenario {
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
        "{}\nreplay: {replay} cargo test -p jobmill-simulation --test simulation -- replay --nocapture",
        trace.violations[0]
    );
}

fn script_must_hold(setting: Setting, rows: usize, faults: &[(u64, Fault)]) -> Trace {
    let script: Vec<String> = faults
        .iter()
        .map(|(call, fault)| format!("{call} {fault:?}"))
        .collect();
    must_hold(
        &Scenario::scripted(setting, rows, faults),
        &format!("JOBMILL_SCRIPT=\"{setting:?} {rows}: {}\"", script.join(", ")),
    )
}

/// Every pair of calls, with every pair of faults; one in `share` of them.
fn pairs(rows: usize, faults: &[Fault], share: u64) {
    let share = if env::<String>("JOBMILL_MATRIX").is_some() {
        1
    } else {
        share
    };
    let calls = script_must_hold(Setting::Plain, rows, &[]).calls;
    let (mut points, mut played) = (0, 0);
    for first in 0..calls {
        for fault in faults {
            let alone = script_must_hold(Setting::Plain, rows, &[(first, *fault)]);
            points += 1;
            for second in first + 1..alone.calls {
                for other in faults {
                    played += 1;
                    if played % share == 0 {
                        script_must_hold(Setting::Plain, rows, &[(first, *fault), (second, *other)]);
                        points += 1;
                    }
                }
            }
        }
    }
    println!("{rows} rows, {faults:?}: {calls} calls, {points} scripts");
}

/// Every call of a setting goes wrong in every way; one in `share` of them.
fn every_call(setting: Setting, rows: usize, share: u64) {
    let share = if env::<String>("JOBMILL_MATRIX").is_some() {
        1
    } else {
        share
    };
    let (mut points, mut played) = (0, 0);
    for call in 0..script_must_hold(setting, rows, &[]).calls {
        for fault in Fault::ALL {
            played += 1;
            if played % share == 0 {
                script_must_hold(setting, rows, &[(call, fault)]);
                points += 1;
            }
        }
    }
    println!("{setting:?}, {rows} rows: {points} scripts of one fault");
}

#[test]
fn replay() {
    if let Some(seed) = env("JOBMILL_SEED") {
        let trace = must_hold(
            &Scenario {
                traced: true,
                ..Scenario::random(seed)
            },
            &format!("JOBMILL_SEED={seed}"),
        );
        println!("{}", trace.log.join("\n"));
    }
    if let Some(script) = env::<String>("JOBMILL_SCRIPT") {
        let form = "setting rows: call fault, call fault";
        let (setting, faults) = script.split_once(':').expect(form);
        let (setting, rows) = setting.split_once(' ').expect(form);
        let setting = Setting::ALL
            .into_iter()
            .find(|known| format!("{known:?}") == setting)
            .expect("the name of a setting");
        let faults: Vec<(u64, Fault)> = faults
            .split(',')
            .filter(|fault| !fault.trim().is_empty())
            .map(|fault| {
                let (call, name) = fault.trim().split_once(' ').expect(form);
                let fault = Fault::ALL.into_iter().find(|known| format!("{known:?}") == name);
                (call.parse().unwrap(), fault.expect("the name of a fault"))
            })
            .collect();
        let trace = run(&Scenario {
            traced: true,
            ..Scenario::scripted(setting, rows.trim().parse().unwrap(), &faults)
        });
        println!("{}", trace.log.join("\n"));
        script_must_hold(setting, rows.trim().parse().unwrap(), &faults);
    }
}

#[test]
fn a_calm_day_needs_nobody() {
    for rows in [1, 3, 30, 60] {
        let trace = script_must_hold(Setting::Plain, rows, &[]);
        assert!(trace.calls < 60, "{rows} rows took {} calls", trace.calls);
    }
}

#[test]
fn the_same_seed_leaves_the_same_trace() {
    for seed in 0..20 {
        let scenario = Scenario {
            traced: true,
            ..Scenario::random(seed)
        };
        let (one, other) = (run(&scenario), run(&scenario));
        assert!(one.log.len() > 10);
        assert_eq!(one.log, other.log, "seed {seed}");
    }
}

#[test]
fn every_call_may_go_wrong_in_every_way() {
    every_call(Setting::Plain, 3, 1);
    every_call(Setting::Plain, 30, 1);
    every_call(Setting::Plain, 60, 1);
}

#[test]
fn every_call_of_a_job_that_is_delivered_twice_may_go_wrong() {
    every_call(Setting::Twice, 3, 1);
    every_call(Setting::Twice, 30, 1);
}

#[test]
fn every_call_of_two_deployments_may_go_wrong() {
    every_call(Setting::TwoDeployments, 3, 1);
}

#[test]
fn every_call_among_foreign_objects_may_go_wrong() {
    every_call(Setting::Foreign, 3, 1);
}

#[test]
fn every_call_of_a_run_with_invalid_rows_may_go_wrong() {
    every_call(Setting::Invalid, 3, 1);
    every_call(Setting::Invalid, 30, 3);
}

#[test]
fn every_call_of_a_run_whose_rows_are_mended_may_go_wrong() {
    every_call(Setting::InvalidMended, 3, 1);
    every_call(Setting::InvalidMended, 30, 5);
    every_call(Setting::AdoptedMended, 3, 1);
    every_call(Setting::AdoptedMended, 30, 5);
}

/// While nothing is in doubt, a task of somebody else is not taken for one of the run.
#[test]
fn a_task_id_that_is_taken_stops_the_run() {
    for rows in [3, 30, 60] {
        script_must_hold(Setting::Taken, rows, &[]);
    }
}

#[test]
fn every_call_of_a_run_with_a_row_that_lags_may_go_wrong() {
    every_call(Setting::Hot, 30, 3);
}

#[test]
fn every_call_to_a_table_of_little_capacity_may_go_wrong() {
    every_call(Setting::Provisioned, 60, 1);
}

#[test]
fn every_call_of_an_adoption_may_go_wrong() {
    every_call(Setting::Adopted, 1, 1);
    every_call(Setting::Adopted, 30, 3);
}

#[test]
fn an_empty_file_of_sosw_is_nothing_to_do() {
    every_call(Setting::AdoptedEmpty, 0, 1);
}

#[test]
fn every_pair_of_deaths_with_3_rows() {
    pairs(3, &Fault::DEATHS, 1);
}

#[test]
fn every_pair_of_deaths_with_30_rows() {
    pairs(30, &Fault::DEATHS, 1);
}

#[test]
fn pairs_of_deaths_with_60_rows() {
    pairs(60, &Fault::DEATHS, 11);
}

#[test]
fn pairs_of_late_copies_and_sleep() {
    pairs(3, &[Fault::Twice, Fault::AnswerLostLate, Fault::Frozen], 1);
}

#[test]
fn pairs_of_everything() {
    pairs(3, &Fault::ALL, 47);
}

#[test]
fn random_seeds() {
    let seeds = env("JOBMILL_SEEDS").unwrap_or(1500);
    let (mut calls, mut invocations, mut ends) = (0, 0, BTreeMap::<&str, u64>::new());
    let (mut skipped, mut duplicates, mut failures) = (0, 0, 0);
    for seed in 0..seeds {
        let trace = must_hold(&Scenario::random(seed), &format!("JOBMILL_SEED={seed}"));
        calls += trace.calls;
        invocations += trace.invocations;
        skipped += trace.skipped;
        duplicates += trace.duplicates;
        failures = failures.max(trace.most_failures);
        for (end, times) in trace.ends {
            *ends.entry(end).or_default() += times;
        }
    }
    println!(
        "{seeds} seeds, {invocations} invocations, {calls} calls; they ended: {ends:?}; {skipped} rows were passed over, \
         {duplicates} inserts came behind their own transaction; at most {failures} requests of one invocation failed \
         within ten seconds"
    );
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
        scenario.rates.latest_task = Duration::from_secs(600);
        must_hold(&scenario, &format!("JOBMILL_SEED={seed} (unbounded)"));
    }
}

/// A connection breaks, the rows are settled one by one, and only then the insert that nobody waits for is carried out.
#[test]
fn an_insert_behind_its_own_transaction_changes_nothing() {
    let mut behind = 0;
    for call in 0..script_must_hold(Setting::Plain, 30, &[]).calls {
        behind += script_must_hold(Setting::Plain, 30, &[(call, Fault::Reset)]).duplicates;
    }
    assert!(behind >= 30, "{behind} inserts met the task of their transaction");
}

/// The holder dies with its batches sent and unconfirmed; before the resume every task of them was worked off and
/// archived. The resume must find that out, and not begin them anew.
#[test]
fn an_archived_task_in_doubt_stays_archived() {
    let calls = script_must_hold(Setting::Plain, 30, &[]).calls;
    let mut found = 0;
    for call in 0..calls {
        let mut scenario = Scenario::scripted(Setting::Plain, 30, &[(call, Fault::DiesAfter)]);
        // Long before the lease has run out.
        scenario.rates.orchestrator = Duration::from_millis(200);
        let trace = must_hold(
            &scenario,
            &format!("JOBMILL_SCRIPT=\"Plain 30: {call} DiesAfter\""),
        );
        found += trace.already_there;
    }
    assert!(found > 20, "{found} tasks in doubt were found to be there");
}

/// The run is found by a sweep, and Lambda repeats the continuation that fails: nobody has asked to go on with the task
/// that is there.
#[test]
fn a_task_id_that_is_taken_stops_a_run_that_a_sweep_has_found() {
    // The event dies three times: with its rows, with its rows again, and beside the first sweep.
    let deaths = [2, 5, 9].map(|call| (call, Fault::DiesAfter));
    script_must_hold(Setting::Taken, 3, &deaths);
}

/// For a minute every request to the tables is answered 500 within milliseconds.
#[test]
fn a_server_that_fails_at_once_is_not_stormed() {
    let mut scenario = Scenario::calm(2_000);
    scenario.rates.until = 60 * SECOND;
    scenario.rates.outage = Some(Outage {
        from: SECOND / 10,
        until: 60 * SECOND,
    });
    let trace = must_hold(&scenario, "(the test itself)");
    println!("at most {} failures in ten seconds", trace.most_failures);
    assert!(trace.most_failures > 10, "the outage was met");
}

/// A table of 20 units a second takes a run of 400 rows in its own time, and is not asked much more often than that.
#[test]
fn a_table_of_little_capacity_gets_what_it_takes() {
    let mut scenario = Scenario::calm(400);
    scenario.rates.capacity = 20;
    let trace = must_hold(&scenario, "(the test itself)");
    assert!(trace.calls < 400, "{} calls", trace.calls);
}
