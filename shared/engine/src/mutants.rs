//! Deliberately broken variants of the engine, for the simulation to find: a check that never failed proves nothing.
//! Without the feature `mutants` all of this is constant and compiles to nothing.

#![cfg_attr(
    not(feature = "mutants"),
    allow(
        unreachable_pub,
        reason = "it is public for the tests, which have the feature"
    )
)]

use crate::drain::{BATCH, FIRST_WINDOW, LAST_WINDOW};
use crate::spool::PART_BYTES;

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
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// All there are.
    pub const ALL: [Self; 13] = [
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
    ];
}

/// How much is done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Tasks a request.
    pub batch: usize,
    /// The claim goes so far ahead at least, in rows.
    pub first_window: u64,
    /// The claim goes so far ahead at most, in rows.
    pub last_window: u64,
    /// A queue file up to this size is one put, a larger one goes up in parts of this size; bytes.
    pub part: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            batch: BATCH,
            first_window: FIRST_WINDOW,
            last_window: LAST_WINDOW,
            part: PART_BYTES,
        }
    }
}

#[cfg(feature = "mutants")]
mod chosen {
    use std::cell::Cell;

    use super::{Mutant, Sizes};

    thread_local! {
        static CHOSEN: Cell<Option<(Option<Mutant>, Sizes)>> = const { Cell::new(None) };
    }

    /// Chooses what every engine of this thread does wrong, and its sizes.
    pub fn choose(mutant: Option<Mutant>, sizes: Sizes) {
        CHOSEN.set(Some((mutant, sizes)));
    }

    pub(crate) fn is(mutant: Mutant) -> bool {
        CHOSEN.get().is_some_and(|(chosen, _)| chosen == Some(mutant))
    }

    pub(crate) fn sizes() -> Sizes {
        CHOSEN.get().map_or_else(Sizes::default, |(_, sizes)| sizes)
    }
}

#[cfg(feature = "mutants")]
pub use chosen::choose;
#[cfg(feature = "mutants")]
pub(crate) use chosen::{is, sizes};

/// Whether this engine is broken in that way: never.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}

/// How much is done at once.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn sizes() -> Sizes {
    Sizes {
        batch: BATCH,
        first_window: FIRST_WINDOW,
        last_window: LAST_WINDOW,
        part: PART_BYTES,
    }
}
