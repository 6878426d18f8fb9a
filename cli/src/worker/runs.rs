//! The runs under way, so that none is left behind.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::process::{Child, Command};

/// The runs under way. Cheap to clone; all clones share one state.
#[derive(Debug, Clone, Default)]
pub(super) struct Runs(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// By the number of their process, which is that of their group.
    groups: BTreeSet<u32>,
    is_over: bool,
}

impl Runs {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a run, in a group of its own, unless all runs are over.
    pub(super) fn start(&self, command: &mut Command) -> io::Result<(Child, Run)> {
        // Held over the start, so that no run begins behind the back of `kill_all`.
        let mut state = self.lock();
        if state.is_over {
            return Err(io::Error::other("this process is about to end"));
        }
        let child = command.spawn()?;
        let group = child.id();
        state.groups.extend(group);
        let runs = self.clone();
        Ok((child, Run { runs, group }))
    }

    /// Kills all runs and starts no more.
    pub(super) fn kill_all(&self) {
        let mut state = self.lock();
        state.is_over = true;
        for group in std::mem::take(&mut state.groups) {
            kill(group);
        }
    }
}

/// A run under way. When it is dropped its group is killed, or what is left of it.
#[derive(Debug)]
pub(super) struct Run {
    runs: Runs,
    group: Option<u32>,
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(group) = self.group
            && self.runs.lock().groups.remove(&group)
        {
            kill(group);
        }
    }
}

/// Kills a group. One that has ended is no error.
#[cfg(unix)]
fn kill(group: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};
    if let Some(group) = i32::try_from(group).ok().and_then(Pid::from_raw) {
        kill_process_group(group, Signal::KILL).ok();
    }
}

/// Without groups there is the process alone, which is killed when its `Child` is dropped.
#[cfg(not(unix))]
fn kill(_group: u32) {}
