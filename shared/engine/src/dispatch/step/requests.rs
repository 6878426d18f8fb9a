//! What goes out next: what is read, claimed, started, given back and settled.

use std::collections::VecDeque;

use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::labourer::Completion;
use jobmill_core::task::life::{Closing, LastError, Marks, StoredTask, payload_of};
use jobmill_core::task::outcome::Ending;
use jobmill_core::task::tables::FieldNames;
use jobmill_core::task::write::{Index, MOST_UPDATES, MOST_WRITES, Test, Update, Write};
use serde_json::Value;

use super::desk::{Desk, Function, START_PATIENCE};
use super::{
    Action, BYTES_A_SETTLE, Dispatch, Held, MOST_BYTES_READY, MOST_WAITED_FOR, Now, Phase, Purpose,
    RETRY_PAGE, SETTLES_IN_FLIGHT, SURVEY_PAGE, Stage, TASKS_A_SETTLE, UPDATES_IN_FLIGHT, Verdict, bytes_of,
};
use crate::dispatch::ports::Asking;
use crate::mutants::{self, Mutant};

/// What becomes of a claim that is to go out.
enum Outlook {
    Goes,
    /// The lease may run out before it lands.
    Waits,
    Dropped,
}

impl Dispatch {
    /// Reads what is wanted and claims what may be, labourer by labourer.
    pub(super) fn tend(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.tables.until(now.at).is_some() {
            return;
        }
        let mut again = Vec::new();
        let tended: Vec<usize> = self.dirty.iter().copied().collect();
        // One task a labourer and round, so that each gets its share of what all have in common.
        let mut round: VecDeque<usize> = std::mem::take(&mut self.dirty);
        for desk in &round {
            if let Some(dirty) = self.is_dirty.get_mut(*desk) {
                *dirty = false;
            }
            self.read(*desk, now, actions);
        }
        while let Some(desk) = round.pop_front() {
            if self.updates.len() + 1 > MOST_UPDATES * UPDATES_IN_FLIGHT
                || !self.lease_is_good(now)
                || self.too_many_are_waited_for(desk)
            {
                again.push(desk);
                continue;
            }
            if self.claim_one(desk, now) {
                round.push_back(desk);
            }
        }
        for desk in tended {
            // What was claimed may have made room.
            self.read(desk, now, actions);
            self.note_wake(desk, now.at);
        }
        for desk in again {
            self.touch(desk);
        }
    }

    /// Whether a labourer has to wait until others' answers are there.
    fn too_many_are_waited_for(&self, at: usize) -> bool {
        let completion = self.desks.get(at).and_then(Desk::completion);
        completion == Some(Completion::Response) && self.waited_for >= MOST_WAITED_FOR
    }

    /// Asks for what a labourer's part of the tables has to tell.
    pub(super) fn read(&mut self, at: usize, now: Now, actions: &mut Vec<Action>) {
        let marks = self.marks(now);
        let too_much = self.bytes_ready > MOST_BYTES_READY;
        let Some(desk) = self.desks.get_mut(at) else {
            return;
        };
        if desk.health.is_due(now.at) {
            desk.health.begin(now.at);
            for (metric, known) in desk.labourer.health.iter().enumerate() {
                actions.push(Action::Measure(at, metric, known.source.clone()));
            }
        }
        if desk.survey.is_due(now.at) && desk.slots.unseen_until().is_none_or(|until| until <= now.at) {
            desk.survey.begin(now.at);
            let after = desk.survey.after.clone();
            let range = desk.range(
                Index::Queue,
                marks.first_running(),
                Greenfield::LAST,
                SURVEY_PAGE,
                after,
            );
            actions.push(Action::Read(at, range));
        }
        if desk.retry.is_due(now.at) {
            desk.retry.begin(now.at);
            let range = desk.range(
                Index::Waiting,
                Greenfield::FIRST,
                Greenfield::LAST,
                RETRY_PAGE,
                None,
            );
            actions.push(Action::Read(at, range));
        }
        let mut wanted = desk.wanted(now.at);
        if too_much && desk.line.ready() > 0 {
            wanted = 0;
        }
        if desk.wants_front {
            desk.look_at_front(now.at);
            wanted = wanted.max(1);
        }
        if wanted > 0 && desk.look.is_due(now.at) {
            desk.look.begin(now.at);
            let limit = u32::try_from(wanted).unwrap_or(u32::MAX);
            let after = desk.look.after.clone();
            let range = desk.range(Index::Queue, Greenfield::FIRST, marks.last_queued(), limit, after);
            actions.push(Action::Read(at, range));
        }
        let asks_for_fit = desk.function == Function::Unasked
            && (desk.line.ready() > 0 || desk.slots.foreign() > 0)
            && desk.suspension.as_ref().is_none_or(|known| known.until <= now.at);
        if asks_for_fit && let Some(function) = desk.labourer.arn.clone() {
            desk.function = Function::Asking;
            actions.push(Action::Fit(at, function));
        }
    }

    /// Claims the next task of a labourer, if one may be. Whether it did.
    pub(super) fn claim_one(&mut self, at: usize, now: Now) -> bool {
        let marks = self.marks(now);
        let chance = self.random();
        let Some(desk) = self.desks.get_mut(at) else {
            return false;
        };
        let is_waited_for = desk.completion() == Some(Completion::Response);
        if desk.may_claim(now.at) == 0 {
            return false;
        }
        let Desk {
            line,
            slots,
            labourer,
            ..
        } = desk;
        let full = |bound: usize, value: &str| {
            let max = labourer.concurrency.get(bound).map_or(u32::MAX, |cap| cap.max);
            slots.with_value(bound, value) >= max
        };
        let Some((task, values)) = line.take(full) else {
            return false;
        };
        if self.tasks.contains_key(&task.task_id) {
            // It is in our hands already, by what the index or the retry table has shown meanwhile.
            return true;
        }
        slots.take(&values);
        desk.takes(now.at);
        self.bytes_ready = self.bytes_ready.saturating_sub(bytes_of(&task.record));
        self.waited_for += usize::from(is_waited_for);
        let (claim, claimed) = task.claim(&self.settings.names, marks.ticket(chance));
        let task_id = claimed.task_id.clone();
        self.remember(&task_id, claimed.attempts, claimed.greenfield, now.at);
        self.tasks.insert(
            task_id.clone(),
            Held {
                desk: at,
                task: claimed,
                values,
                claim: Some(claim),
                stage: Stage::Claiming,
                counted: true,
                since: now.at,
                asked_at: None,
                waited_for: is_waited_for,
                in_doubt: false,
                alone: false,
                never_started: false,
                bare: false,
                verdict: None,
                handles: Vec::new(),
                timer: None,
            },
        );
        self.updates.push_back((task_id, Purpose::Claim));
        true
    }

    pub(super) fn send_updates(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.tables.until(now.at).is_some() {
            return;
        }
        while self.updates_in_flight < UPDATES_IN_FLIGHT && !self.updates.is_empty() {
            // While others are under way it is worth waiting for a whole request.
            if self.updates_in_flight >= UPDATES_IN_FLIGHT / 2 && self.updates.len() < MOST_UPDATES {
                break;
            }
            let (mut what, mut updates, mut later) = (Vec::new(), Vec::new(), Vec::new());
            while let Some((task_id, purpose)) = self.updates.pop_front() {
                if purpose == Purpose::Claim {
                    match self.outlook(&task_id, now) {
                        Outlook::Goes => {}
                        Outlook::Waits => {
                            later.push((task_id, purpose));
                            continue;
                        }
                        Outlook::Dropped => continue,
                    }
                }
                if let Some(update) = self.update(&task_id, purpose) {
                    what.push((task_id, purpose));
                    updates.push(update);
                }
                if updates.len() == MOST_UPDATES {
                    break;
                }
            }
            let nothing = updates.is_empty();
            if !nothing {
                self.updates_in_flight += 1;
                actions.push(Action::Update(what, updates));
            }
            for (task_id, purpose) in later.into_iter().rev() {
                self.updates.push_front((task_id, purpose));
            }
            if nothing {
                break;
            }
        }
    }

    /// What becomes of a claim that is to go out. One that is dropped is given back, if it may have landed.
    fn outlook(&mut self, task_id: &str, now: Now) -> Outlook {
        let Some(held) = self.tasks.get(task_id) else {
            return Outlook::Dropped;
        };
        if !held.in_doubt && self.phase != Phase::Claiming {
            self.was_not_ours(task_id);
            return Outlook::Dropped;
        }
        if self.phase == Phase::Released {
            // A copy of it may have landed, or may land yet: this takes it back if it has.
            self.give_back(task_id);
            return Outlook::Dropped;
        }
        match self.lease_is_good(now) {
            true => Outlook::Goes,
            false => Outlook::Waits,
        }
    }

    /// The update of a task, as it was decided: the same one each time.
    pub(super) fn update(&mut self, task_id: &str, purpose: Purpose) -> Option<Update> {
        let names = &self.settings.names;
        let held = self.tasks.get_mut(task_id)?;
        match purpose {
            Purpose::Claim => {
                let mut update = held.claim.take().unwrap_or_else(|| {
                    let queued = held.task.clone().unclaimed(names);
                    queued.claim(names, held.task.greenfield).0
                });
                if mutants::is(Mutant::ClaimBlindly) {
                    update.when = whatever_it_is(names, &held.task);
                }
                Some(update)
            }
            Purpose::GiveBack => {
                let chance = self.random();
                let held = self.tasks.get(task_id)?;
                let task = &held.task;
                let (mut update, _) = match held.never_started {
                    true => task.put_back(&self.settings.names, chance),
                    false => task.give_back(&self.settings.names, chance),
                };
                if mutants::is(Mutant::GiveBackBlindly) {
                    update.when = whatever_it_is(&self.settings.names, task);
                }
                Some(update)
            }
        }
    }

    pub(super) fn check(&mut self, actions: &mut Vec<Action>) {
        while self.checks_in_flight < UPDATES_IN_FLIGHT
            && let Some(task_id) = self.to_check.pop_front()
        {
            self.checks_in_flight += 1;
            actions.push(Action::Check(task_id));
        }
    }

    /// Asks the workers of tasks that are ours.
    pub(super) fn ask(&mut self, now: Now, actions: &mut Vec<Action>) {
        for task_id in std::mem::take(&mut self.to_ask) {
            let Some(held) = self
                .tasks
                .get(&task_id)
                .filter(|held| held.stage == Stage::Starting)
            else {
                continue;
            };
            let lease_is_over = now.held_for >= self.settings.lease && !mutants::is(Mutant::StartUnleased);
            let too_late = now.at.saturating_sub(held.since) >= START_PATIENCE;
            let Some(desk) = self.desks.get(held.desk) else {
                continue;
            };
            let (
                Function::Known {
                    max_duration,
                    completion,
                },
                Some(function),
            ) = (desk.function, desk.labourer.arn.clone())
            else {
                self.give_back(&task_id);
                continue;
            };
            if lease_is_over || too_late || self.phase == Phase::Released {
                self.give_back(&task_id);
                continue;
            }
            // In the throes of throttling the others wait their turn too.
            if let Some(until) = desk.throttled.until(now.at) {
                self.set_timer(&task_id, until);
                continue;
            }
            let patience = desk.patience().unwrap_or(max_duration);
            let not_after = now.wall_ms / 1000 + i64::try_from(patience.as_secs()).unwrap_or(0);
            let payload = payload_of(
                &self.settings.names,
                &held.task,
                &[("not_after", Value::from(not_after))],
            );
            let asking = match completion {
                Completion::Response => Asking::Wait(max_duration),
                Completion::Destination | Completion::Report => Asking::Event,
            };
            match payload {
                Ok(payload) => {
                    if let Some(held) = self.tasks.get_mut(&task_id) {
                        held.stage = Stage::Asking;
                        held.asked_at = Some(now.at);
                    }
                    actions.push(Action::Ask {
                        task_id,
                        function,
                        payload,
                        asking,
                    });
                }
                Err(why) => {
                    let error = LastError {
                        kind: "InvalidPayload".to_owned(),
                        message: format!("the task can't be started: {why}"),
                    };
                    self.ends(&task_id, Ending::Failed { error, retry: false }, now);
                }
            }
        }
    }

    /// The platform was to start its worker, and says that it never did.
    pub(super) fn was_never_started(&mut self, task_id: &str) {
        if let Some(held) = self.tasks.get_mut(task_id) {
            held.never_started = true;
        }
        self.give_back(task_id);
    }

    pub(super) fn give_back(&mut self, task_id: &str) {
        self.drop_timer(task_id);
        self.no_longer_waited_for(task_id);
        if let Some(held) = self.tasks.get_mut(task_id) {
            held.stage = Stage::Returning;
            held.in_doubt = false;
            self.updates.push_back((task_id.to_owned(), Purpose::GiveBack));
        }
    }

    /// Settles what has ended.
    pub(super) fn settle(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.tables.until(now.at).is_some() {
            return;
        }
        let marks = self.marks(now);
        while self.settles_in_flight < SETTLES_IN_FLIGHT && !self.to_settle.is_empty() {
            if self.settles_in_flight >= SETTLES_IN_FLIGHT / 2 && self.to_settle.len() < TASKS_A_SETTLE {
                break;
            }
            let (mut tasks, mut writes, mut bytes) = (Vec::new(), Vec::new(), 0);
            while let Some(task_id) = self.to_settle.pop_front() {
                let settling = |held: &&Held| held.stage == Stage::Settling && held.verdict.is_some();
                let Some(held) = self.tasks.get(&task_id).filter(settling) else {
                    continue;
                };
                let more = self.writes(held, marks);
                bytes += bytes_of(&held.task.record);
                let full = writes.len() + more.len() > MOST_WRITES || bytes > BYTES_A_SETTLE;
                if full && !writes.is_empty() {
                    self.to_settle.push_front(task_id);
                    break;
                }
                let alone = held.alone;
                if alone && !writes.is_empty() {
                    self.to_settle.push_front(task_id);
                    break;
                }
                writes.extend(more);
                tasks.push(task_id);
                if alone || tasks.len() == TASKS_A_SETTLE {
                    break;
                }
            }
            if !writes.is_empty() {
                self.settles_in_flight += 1;
                actions.push(Action::Settle(tasks, writes));
            }
        }
    }

    pub(super) fn writes(&self, held: &Held, marks: Marks) -> Vec<Write> {
        let names = &self.settings.names;
        let mut writes = match &held.verdict {
            Some(Verdict::Close(closing)) if held.bare => {
                let bare = Closing {
                    result: None,
                    error: closing.error.clone().map(|error| LastError {
                        message: String::new(),
                        ..error
                    }),
                    ..closing.clone()
                };
                held.task.close(names, &bare, marks).to_vec()
            }
            Some(Verdict::Close(closing)) => held.task.close(names, closing, marks).to_vec(),
            Some(Verdict::Park { due_ms, error }) => {
                let error = error.as_ref().filter(|_| !held.bare);
                held.task.park(names, *due_ms, error).to_vec()
            }
            Some(Verdict::Discard) => vec![held.task.discard(names)],
            None => Vec::new(),
        };
        if mutants::is(Mutant::SettleBlindly) {
            for write in &mut writes {
                if let Write::Delete { when, .. } = write {
                    *when = whatever_it_is(names, &held.task);
                }
            }
        }
        writes
    }

    /// Waits for outcomes while any may come, and acknowledges those that are done with.
    pub(super) fn listen(&mut self, now: Now, actions: &mut Vec<Action>) {
        if !self.settings.has_outcomes || self.outcomes.until(now.at).is_some() {
            return;
        }
        if !self.acknowledging && !self.to_acknowledge.is_empty() {
            let some = self.to_acknowledge.len().min(10);
            self.acknowledging = true;
            actions.push(Action::Acknowledge(self.to_acknowledge.drain(..some).collect()));
        }
        let listens = |desk: &Desk| {
            desk.labourer.completion == Some(Completion::Destination)
                && (desk.slots.own() > 0 || desk.slots.foreign() > 0)
        };
        let may_come =
            matches!(self.phase, Phase::Claiming | Phase::Stopping) && self.desks.iter().any(listens);
        if !self.receiving && may_come {
            self.receiving = true;
            actions.push(Action::Receive);
        }
    }
}

/// That there is a task, whoever holds it: for engines that are broken on purpose.
fn whatever_it_is(names: &FieldNames, task: &StoredTask) -> Vec<Test> {
    let labourer = task.record.get(&names.labourer_id).cloned();
    let test = |labourer| Test::Equals(names.labourer_id.clone(), labourer);
    labourer.map(test).into_iter().collect()
}
