//! Deliberately broken variants of the engine, for the simulation to find: a check that never failed proves nothing.
//!
//! They exist only where everything is compiled with `--cfg jobmill_mutants`, which no build that ships or that other
//! tests use does. Without it all of this is constant and compiles to nothing.

#![cfg_attr(
    not(jobmill_mutants),
    allow(unreachable_pub, reason = "it is public for the tests of the broken variants")
)]

/// What a variant does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Tasks are sent before the lock claims their rows.
    NoClaim,
    /// Rows in doubt go out in a batch, like all others.
    InDoubtByBatch,
    /// Tasks whose request got no answer are sent again like new ones.
    UnknownSentAgain,
    /// A lost compare-and-swap is repeated over whoever holds the lock now, whether the lease has run out or not.
    NoEpochCheck,
    /// The cursor says what was sent, not what was confirmed.
    CursorEarly,
    /// The receipt is written when every row was sent, not when every row is a task.
    ReceiptEarly,
    /// Who has won a lock drains at once, without a look for the receipt.
    NoGate,
    /// A lock is taken from a live holder.
    LiveLeaseTaken,
    /// Tasks are sent though the lease may have run out.
    LeaseIgnored,
    /// File and lock are deleted before the receipt stands.
    DeletedEarly,
    /// What was claimed and not confirmed is forgotten on release.
    ClaimForgotten,
    /// A sibling is started though nothing was done.
    IdleSpawn,
    /// A lease that has run out is renewed like a live one.
    LeaseRevived,
    /// A task that is there though it was never sent passes for one of this run.
    TakenForOurs,
    /// What got no definite answer is asked again at once.
    UnknownAtOnce,
    /// The claim goes ahead of a row that lags behind, however far.
    ClaimUnbounded,
    /// The sweep ends at the first object that it can't look at.
    SweepStops,
    /// A task in doubt that the table refuses ends the invocation, and the run does not stop at its row.
    RefusedInDoubtFails,
    /// The ids of tasks do not say their queue.
    IdsWithoutQueue,
    /// The cursor of a run passes the line at which it stops.
    StopPassed,
    /// A claim takes whatever stands at its id.
    ClaimBlindly,
    /// A claim without an answer counts as not made.
    ClaimForgottenInDoubt,
    /// A worker is started though the lease has run out.
    StartUnleased,
    /// A start without an answer is tried again.
    StartAgain,
    /// A claimed task is given back whoever holds it.
    GiveBackBlindly,
    /// A task is settled whoever holds it.
    SettleBlindly,
    /// After a take-over claims go out at once, without a look at what others have left running.
    TakenOverBlindly,
}

#[cfg(jobmill_mutants)]
impl Mutant {
    /// Those of dispatching.
    pub const OF_DISPATCH: [Self; 7] = [
        Self::ClaimBlindly,
        Self::ClaimForgottenInDoubt,
        Self::StartUnleased,
        Self::StartAgain,
        Self::GiveBackBlindly,
        Self::SettleBlindly,
        Self::TakenOverBlindly,
    ];

    /// Those of scheduling.
    pub const OF_SCHEDULE: [Self; 20] = [
        Self::NoClaim,
        Self::InDoubtByBatch,
        Self::UnknownSentAgain,
        Self::NoEpochCheck,
        Self::CursorEarly,
        Self::ReceiptEarly,
        Self::NoGate,
        Self::LiveLeaseTaken,
        Self::LeaseIgnored,
        Self::DeletedEarly,
        Self::ClaimForgotten,
        Self::IdleSpawn,
        Self::LeaseRevived,
        Self::TakenForOurs,
        Self::UnknownAtOnce,
        Self::ClaimUnbounded,
        Self::SweepStops,
        Self::RefusedInDoubtFails,
        Self::IdsWithoutQueue,
        Self::StopPassed,
    ];
}

/// Stands in every binary with broken variants, and in no other one: the tests look for it.
#[cfg(jobmill_mutants)]
const MARKER: &str = "this jobmill is broken on purpose";

#[cfg(jobmill_mutants)]
mod chosen {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static CHOSEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Chooses what every engine of this thread does wrong.
    pub fn choose(mutant: Option<Mutant>) {
        CHOSEN.set(mutant);
    }

    pub(crate) fn is(mutant: Mutant) -> bool {
        let broken = CHOSEN.get() == Some(mutant);
        if broken {
            tracing::warn!("{}", super::MARKER);
        }
        broken
    }
}

#[cfg(jobmill_mutants)]
pub use chosen::choose;
#[cfg(jobmill_mutants)]
pub(crate) use chosen::is;

/// Whether this engine is broken in that way: never.
#[cfg(not(jobmill_mutants))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}
