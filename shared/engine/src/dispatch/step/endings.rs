//! How attempts end, and what becomes of their tasks.

use std::time::Duration;

use jobmill_core::task::life::{Closing, LastError, Outcome};
use jobmill_core::task::outcome::Ending;

use super::{Dispatch, Held, Now, Stage, Verdict};
use crate::dispatch::observe::Observation;

impl Dispatch {
    /// How an attempt ended.
    pub(super) fn ends(&mut self, task_id: &str, ending: Ending, now: Now) {
        let Some(held) = self.tasks.get(task_id) else {
            return;
        };
        let duration = held.asked_at.map(|asked| now.at.saturating_sub(asked));
        let (verdict, failed) = match ending {
            Ending::Succeeded { result, .. } => (
                Verdict::Close(Closing {
                    outcome: Outcome::Succeeded,
                    duration,
                    error: None,
                    result,
                }),
                false,
            ),
            Ending::Failed { error, retry } => (
                self.failed(held, Outcome::Failed, error, retry, duration, now),
                true,
            ),
            Ending::NotStarted { .. } => return self.was_never_started(task_id),
        };
        let desk = held.desk;
        self.has_ended(desk, failed, now);
        self.decide(task_id, verdict);
    }

    /// What becomes of a task whose attempt failed or expired.
    pub(super) fn failed(
        &self,
        held: &Held,
        outcome: Outcome,
        error: LastError,
        retry: bool,
        duration: Option<Duration>,
        now: Now,
    ) -> Verdict {
        let Some(desk) = self.desks.get(held.desk) else {
            return Verdict::Discard;
        };
        let attempts = held.task.counted_attempts();
        if !retry || attempts >= desk.labourer.max_attempts {
            return Verdict::Close(Closing {
                outcome,
                duration,
                error: Some(error),
                result: None,
            });
        }
        // Chance from the ticket: the same task, the same delay, however often it is asked for.
        let chance = (held.task.greenfield.nanos().rem_euclid(1_000_000_000)) as f64 / 1e9;
        let delay = desk.labourer.retry.delay(attempts, chance);
        Verdict::Park {
            due_ms: now
                .wall_ms
                .saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)),
            error: Some(error),
        }
    }

    pub(super) fn expire(&mut self, task_id: &str, now: Now) {
        let Some(held) = self.tasks.get(task_id) else {
            return;
        };
        let error = LastError {
            kind: "Expired".to_owned(),
            message: "nothing was heard of this attempt in the time that it may take".to_owned(),
        };
        let verdict = self.failed(held, Outcome::Expired, error, true, None, now);
        let desk = held.desk;
        self.has_ended(desk, true, now);
        self.decide(task_id, verdict);
    }

    pub(super) fn has_ended(&mut self, at: usize, failed: bool, now: Now) {
        let Some(desk) = self.desks.get_mut(at) else {
            return;
        };
        let (suspended, resumed) = desk.ended(failed, now.at);
        let labourer_id = desk.id.clone();
        if let Some(why) = suspended {
            self.observe(Observation::Suspended { labourer_id, why });
        } else if resumed {
            self.observe(Observation::Resumed { labourer_id });
        }
        self.touch(at);
    }

    pub(super) fn no_longer_waited_for(&mut self, task_id: &str) {
        if let Some(held) = self.tasks.get_mut(task_id)
            && std::mem::take(&mut held.waited_for)
        {
            self.waited_for = self.waited_for.saturating_sub(1);
        }
    }

    /// A task is out of our hands: its slot is free.
    pub(super) fn let_go(&mut self, task_id: &str) {
        self.drop_timer(task_id);
        self.no_longer_waited_for(task_id);
        let Some(held) = self.tasks.remove(task_id) else {
            return;
        };
        if let Some(desk) = self.desks.get_mut(held.desk) {
            match held.counted {
                true => desk.slots.give_back(&held.values),
                false => desk.slots.forget(task_id),
            }
            desk.line.freed(&held.values);
        }
        self.to_acknowledge.extend(held.handles);
        self.touch(held.desk);
    }

    pub(super) fn decide(&mut self, task_id: &str, verdict: Verdict) {
        self.drop_timer(task_id);
        self.no_longer_waited_for(task_id);
        let Some(held) = self.tasks.get_mut(task_id) else {
            return;
        };
        held.verdict = Some(verdict);
        held.alone = false;
        held.in_doubt = false;
        if std::mem::replace(&mut held.stage, Stage::Settling) != Stage::Settling {
            self.to_settle.push_back(task_id.to_owned());
        }
    }
}
