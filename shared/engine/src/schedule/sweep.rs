//! The sweep: finds queue files that nobody works on, and starts a sibling for each. It holds nothing itself.
//!
//! An object that can't be looked at is that object's trouble: the others get their siblings all the same.

use std::collections::BTreeSet;
use std::time::Duration;

use jobmill_core::queue::lock::Lock;
use jobmill_core::queue::names::LOCK_PREFIX;

use super::{Context, Engine};
use crate::error::{During as _, EngineError};
use crate::lease::find;
use crate::mutants::{self, Mutant};
use crate::ports::{Clock, ObjectStore, PortError, Random};
use crate::retry::retry;
use crate::schedule::observe::Observation;
use crate::schedule::outcome::Outcome;
use crate::schedule::ports::{Siblings, TaskTable};
use crate::schedule::spool::Label;

/// Rows without a lock that are younger than this are about to get one.
const ORPHAN_AGE: Duration = Duration::from_secs(60);

/// A sweep starts so many siblings at most; the next one goes on.
const MAX_SIBLINGS: usize = 500;

/// What a sweep has seen so far.
#[derive(Default)]
struct Seen {
    /// Files that wait for a sibling.
    waiting: Vec<String>,
    /// Runs that wait for somebody.
    stopped: Vec<String>,
    /// Files that could not be looked at, and the first reason.
    unreadable: Vec<String>,
    reason: Option<EngineError>,
    /// Runs that are neither completed nor stopped, and the age of the oldest.
    open: u64,
    oldest: Duration,
    /// Objects that could be looked at.
    looked: u64,
}

/// What an object below the prefix turned out to be.
enum Look {
    /// A run under way, of that age; whether anybody may go on with it.
    Open { age: Duration, free: bool },
    /// A run that stopped and waits for somebody.
    Stopped,
    /// None of ours, or gone.
    Nothing,
}

impl<S: ObjectStore, T: TaskTable, I: Siblings, H: Clock + Random> Engine<'_, S, T, I, H> {
    /// Starts a sibling for each file of ours whose lock is released or expired, or that has none.
    ///
    /// # Errors
    /// A listing that fails; or not one object could be looked at.
    pub(super) async fn sweep(&self, context: &Context, started: Duration) -> Result<Outcome, EngineError> {
        let locks = self.names_below(LOCK_PREFIX).await?;
        let (stem, _) = &self.config.queue_file;
        let mut names: Vec<(String, bool)> = locks
            .iter()
            .filter_map(|name| Some((name.strip_prefix(LOCK_PREFIX)?.to_owned(), true)))
            .collect();
        for name in self.names_below(&format!("{stem}_")).await? {
            if !locks.contains(&format!("{LOCK_PREFIX}{name}")) {
                names.push((name, false));
            }
        }
        // Where there is more than one sweep gets through, each begins at another place.
        if let Some(last) = names.len().checked_sub(1) {
            let first = self.host.random() % (last as u128 + 1);
            names.rotate_left(usize::try_from(first).unwrap_or(0));
        }
        let stop_at = self.stop_at(context, started);
        let mut seen = Seen::default();
        for (name, locked) in names {
            if seen.waiting.len() >= MAX_SIBLINGS || self.host.monotonic() >= stop_at {
                break;
            }
            let look = match locked {
                true => self.look_at_lock(&name).await,
                false => self.look_at_rows(&name).await,
            };
            self.note(&mut seen, name, look)?;
        }
        if seen.looked == 0
            && let Some(error) = seen.reason
        {
            return Err(error);
        }
        (self.observer)(Observation::Swept {
            open: seen.open,
            stopped: (seen.stopped.len() + seen.unreadable.len()) as u64,
            oldest: seen.oldest,
        });
        let (mut files, mut failed) = (Vec::new(), Vec::new());
        for file in seen.waiting {
            match self.spawn(&file, 0).await {
                Ok(()) => files.push(file),
                Err(error) => {
                    tracing::error!(%error, file_name = %file, "could not start a sibling; the next sweep tries again");
                    failed.push(file);
                }
            }
        }
        if files.is_empty() && failed.is_empty() && seen.stopped.is_empty() && seen.unreadable.is_empty() {
            return Ok(Outcome::NothingToDo {
                reason: "no queue file waits for anybody".to_owned(),
                warnings: Vec::new(),
            });
        }
        Ok(Outcome::Swept {
            files,
            stopped: seen.stopped,
            unreadable: seen.unreadable,
            failed,
        })
    }

    /// Takes in what an object turned out to be.
    fn note(
        &self,
        seen: &mut Seen,
        name: String,
        look: Result<Look, EngineError>,
    ) -> Result<(), EngineError> {
        match look {
            Ok(look) => {
                seen.looked += 1;
                match look {
                    Look::Open { age, free } => {
                        seen.open += 1;
                        seen.oldest = seen.oldest.max(age);
                        if free {
                            seen.waiting.push(name);
                        }
                    }
                    Look::Stopped => seen.stopped.push(name),
                    Look::Nothing => {}
                }
            }
            Err(error) if mutants::is(Mutant::SweepStops) => return Err(error),
            Err(error) => {
                tracing::error!(%error, file_name = %name, "could not be looked at; the sweep goes on with the others");
                seen.unreadable.push(name);
                seen.reason.get_or_insert(error);
            }
        }
        Ok(())
    }

    /// Looks at the lock of a queue file.
    async fn look_at_lock(&self, file: &str) -> Result<Look, EngineError> {
        let key = self.config.key(&format!("{LOCK_PREFIX}{file}"));
        match find::<Lock>(self.store, self.host, &key).await {
            Ok(Some(found)) if found.lock.stopped.is_some() => Ok(Look::Stopped),
            Ok(Some(found)) => {
                let age = self.host.wall_ms().saturating_sub(found.lock.started_ms);
                Ok(Look::Open {
                    age: Duration::from_millis(u64::try_from(age).unwrap_or_default()),
                    free: found.lock.is_free(found.age),
                })
            }
            // Completed since it was listed.
            Ok(None) => Ok(Look::Nothing),
            // Rows that a sosw Scheduler has locked, however many, or a lock of ours that is damaged: either way not for
            // the sweep, but the latter should be looked at.
            Err(error) if is_no_lock(&error) => {
                let ours = self.age_of_rows(file).await?.is_some();
                if ours {
                    tracing::error!(%error, file_name = file, "the lock can't be read; somebody must look at it");
                    return Ok(Look::Stopped);
                }
                tracing::debug!(%error, "passed over while sweeping");
                Ok(Look::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    /// Looks at a queue file without a lock.
    async fn look_at_rows(&self, file: &str) -> Result<Look, EngineError> {
        Ok(match self.age_of_rows(file).await? {
            Some(age) => Look::Open {
                age,
                free: age > ORPHAN_AGE,
            },
            None => Look::Nothing,
        })
    }

    /// The age of the rows of that name, if they are jobmill's.
    async fn age_of_rows(&self, file: &str) -> Result<Option<Duration>, EngineError> {
        let key = self.config.key(file);
        let head = retry(self.host, || self.store.head(&key))
            .await
            .during("looking at a queue file")?;
        Ok(head.filter(|head| Label::of(head).is_some()).map(|head| head.age))
    }

    /// The names directly below the prefix that begin with `start`.
    async fn names_below(&self, start: &str) -> Result<BTreeSet<String>, EngineError> {
        let prefix = self.config.key("");
        let wanted = format!("{prefix}{start}");
        let mut names = BTreeSet::new();
        let mut after: Option<String> = None;
        loop {
            let page = retry(self.host, || self.store.list(&wanted, after.as_deref()))
                .await
                .during("listing queue files")?;
            let Some(last) = page.last() else { return Ok(names) };
            let next = last.clone();
            for key in page {
                if let Some(name) = key.strip_prefix(&prefix)
                    && !name.contains('/')
                {
                    names.insert(name.to_owned());
                }
            }
            after = Some(next);
        }
    }
}

/// Whether what stands at the key of a lock can't be one of ours: no document of this make, or larger than any.
fn is_no_lock(error: &EngineError) -> bool {
    match error {
        EngineError::Input(_) => true,
        EngineError::Port {
            source: PortError::Refused { code, .. },
            ..
        } => code == crate::ports::OBJECT_TOO_LARGE,
        _ => false,
    }
}
