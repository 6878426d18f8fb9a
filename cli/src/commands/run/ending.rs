//! Runs that did not come to their end: why, and what to do.

use jobmill_core::job::period::AsOf;
use jobmill_core::job::plan::today;

use super::prepare::PreparedRun;
use super::report::{RunOutcome, RunReport};
use crate::failure::Failure;
use crate::figures::{count, counted};
use crate::stop::Signal;

/// Why the tasks of a run can't be written, if they can't: either all of them are known, or none is written.
pub(super) fn why_no_tasks(report: &RunReport, run: &PreparedRun) -> Option<String> {
    if !report.is_whole() {
        return Some("the run is not done".to_owned());
    }
    if report.skipped > 0 {
        return Some(format!(
            "rows of the run were passed over ({}), and it is not known here which",
            count(report.skipped)
        ));
    }
    let planned_alike = match run.dates_of {
        None => true,
        Some(now) => {
            let schema = run.config.schemas.get(&run.plan.schema);
            let same_day =
                |moment: AsOf| schema.is_some_and(|schema| today(schema, moment) == today(schema, now));
            report.planned_here.is_some_and(same_day)
        }
    };
    if planned_alike && report.rows == run.plan.chunks.row_count() {
        return None;
    }
    let why = "the run began earlier, perhaps with the dates of another day; name the day of a run with --as-of from its \
               first try on";
    Some(why.to_owned())
}

/// A run that is not done: why, and what to do.
pub(super) fn not_whole(report: &RunReport, run: &PreparedRun) -> Failure {
    let run_id = &run.run_id;
    let tasks = format!(
        "{} of {} are tasks",
        count(report.done),
        counted(report.rows, "row", "rows")
    );
    let mut continue_with = run.continue_with.clone();
    let failure = match (report.outcome, report.signal) {
        (RunOutcome::HeldElsewhere, Some(signal)) => {
            interrupted(signal, &format!("another invocation still works on run {run_id}"))
        }
        (_, Some(signal)) if run.cloud.outlives_process() => interrupted(
            signal,
            &format!("{tasks}, and the lock of run {run_id} is released"),
        ),
        (_, Some(signal)) => interrupted(signal, &format!("{tasks}, and the local cloud is gone with them")),
        (RunOutcome::HeldElsewhere, None) if run.wait => Failure::failed(
            "HeldElsewhere",
            format!(
                "another invocation still works on run {run_id} after {} of waiting",
                counted(run.timeout.into(), "second", "seconds")
            ),
        ),
        (RunOutcome::HeldElsewhere, None) => {
            continue_with = continue_with.map(|command| command.with(["--wait"]));
            Failure::failed(
                "HeldElsewhere",
                format!(
                    "another invocation works on run {run_id}: it was left to it. With --wait this command waits until \
                     it is done; if it has died, its lock is free {} seconds after its last renewal",
                    run.config.lease_seconds
                ),
            )
        }
        _ => Failure::failed(
            "NoProgress",
            format!(
                "{tasks}, and several invocations in a row created none: the table pushes everything back, or --timeout \
                 is too short. The lock of run {run_id} is released"
            ),
        ),
    };
    failure
        .with(report.keys())
        .about_run(run_id, continue_with.as_ref())
}

/// A run whose tasks were worked off, and not all of them succeeded.
pub(super) fn not_all_done(report: &RunReport, run: &PreparedRun) -> Option<Failure> {
    let work = report.work.as_ref().filter(|work| !work.is_success())?;
    let headline = work.headline(report.rows);
    let failure = match (report.signal, &work.suspended) {
        (Some(signal), _) => interrupted(signal, &format!("{headline}; the local cloud is gone with them")),
        (None, Some(why)) => Failure::failed(why.kind, format!("{headline}: {}", why.message)),
        (None, None) => Failure::failed("TasksFailed", headline),
    };
    Some(
        failure
            .with(report.keys())
            .about_run(&run.run_id, run.continue_with.as_ref()),
    )
}

pub(super) fn interrupted(signal: Signal, state: &str) -> Failure {
    Failure::new(
        signal.exit_code(),
        "Interrupted",
        format!("ended by {}: {state}", signal.name()),
    )
}
