//! The sweep: finds queue files that nobody works on, and starts a sibling for each. It holds nothing itself.

use std::collections::BTreeSet;
use std::time::Duration;

use jobmill_core::queue::names::LOCK_PREFIX;

use crate::error::{During as _, EngineError};
use crate::lease::find;
use crate::ports::{Clock, ObjectStore, Random};
use crate::schedule::Engine;
use crate::schedule::observe::Observation;
use crate::schedule::outcome::Outcome;
use crate::schedule::ports::{Siblings, TaskTable};
use crate::schedule::spool::Label;

/// Rows without a lock that are younger than this are about to get one.
const ORPHAN_AGE: Duration = Duration::from_secs(60);

/// A sweep starts so many siblings at most; the next one goes on.
const MAX_SIBLINGS: usize = 500;

impl<S: ObjectStore, T: TaskTable, I: Siblings, H: Clock + Random> Engine<'_, S, T, I, H> {
    /// Starts a sibling for each file of ours whose lock is released or expired, or that has none.
    pub(crate) async fn sweep(&self) -> Result<Outcome, EngineError> {
        let locks = self.names_below(LOCK_PREFIX).await?;
        let (mut files, mut stopped) = (Vec::new(), Vec::new());
        let (mut open, mut oldest) = (0_u64, Duration::ZERO);
        let now_ms = self.host.wall_ms();
        for name in &locks {
            let Some(file) = name.strip_prefix(LOCK_PREFIX) else {
                continue;
            };
            match find(self.store, self.host, &self.config.key(name)).await {
                Ok(Some(found)) if found.lock.stopped.is_some() => stopped.push(file.to_owned()),
                Ok(Some(found)) => {
                    open += 1;
                    let age = u64::try_from(now_ms.saturating_sub(found.lock.started_ms)).unwrap_or_default();
                    oldest = oldest.max(Duration::from_millis(age));
                    if found.lock.is_free(found.age) {
                        files.push(file.to_owned());
                    }
                }
                // Completed since it was listed.
                Ok(None) => {}
                // Rows that a sosw Scheduler has locked, or a lock of ours that is damaged: either way not for the sweep,
                // but the latter should be looked at.
                Err(EngineError::Input(error)) if self.is_ours(file).await? => {
                    tracing::error!(%error, file_name = file, "the lock can't be read; somebody must look at it");
                    stopped.push(file.to_owned());
                }
                Err(EngineError::Input(error)) => tracing::debug!(%error, "passed over while sweeping"),
                Err(error) => return Err(error),
            }
            if files.len() >= MAX_SIBLINGS {
                break;
            }
        }
        let (stem, _) = &self.config.queue_file;
        for name in self.names_below(&format!("{stem}_")).await? {
            if files.len() >= MAX_SIBLINGS {
                break;
            }
            if locks.contains(&format!("{LOCK_PREFIX}{name}")) {
                continue;
            }
            let head = self
                .store
                .head(&self.config.key(&name))
                .await
                .during("looking at a queue file")?;
            if let Some(head) = head.filter(|head| Label::of(head).is_some()) {
                open += 1;
                oldest = oldest.max(head.age);
                if head.age > ORPHAN_AGE {
                    files.push(name);
                }
            }
        }
        (self.observer)(Observation::Swept {
            open,
            stopped: stopped.len() as u64,
            oldest,
        });
        let mut failed = Vec::new();
        let mut started = Vec::new();
        for file in files {
            match self.spawn(&file, 0).await {
                Ok(()) => started.push(file),
                Err(error) => {
                    tracing::error!(%error, file_name = %file, "could not start a sibling; the next sweep tries again");
                    failed.push(file);
                }
            }
        }
        if started.is_empty() && failed.is_empty() && stopped.is_empty() {
            return Ok(Outcome::NothingToDo {
                reason: "no queue file waits for anybody".to_owned(),
            });
        }
        Ok(Outcome::Swept {
            files: started,
            stopped,
            failed,
        })
    }

    /// Whether the rows of that name are jobmill's.
    async fn is_ours(&self, file: &str) -> Result<bool, EngineError> {
        let head = self
            .store
            .head(&self.config.key(file))
            .await
            .during("looking at a queue file")?;
        Ok(head.is_some_and(|head| Label::of(&head).is_some()))
    }

    /// The names directly below the prefix that begin with `start`.
    async fn names_below(&self, start: &str) -> Result<BTreeSet<String>, EngineError> {
        let prefix = self.config.key("");
        let wanted = format!("{prefix}{start}");
        let mut names = BTreeSet::new();
        let mut after: Option<String> = None;
        loop {
            let page = self
                .store
                .list(&wanted, after.as_deref())
                .await
                .during("listing queue files")?;
            let Some(last) = page.last() else { return Ok(names) };
            after = Some(last.key.clone());
            for listed in page {
                if let Some(name) = listed.key.strip_prefix(&prefix)
                    && !name.contains('/')
                {
                    names.insert(name.to_owned());
                }
            }
        }
    }
}
