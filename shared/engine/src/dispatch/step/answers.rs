//! What came back, and what it means.

use std::time::Duration;

use jobmill_core::json::Document;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::health;
use jobmill_core::task::key_cap::key_of;
use jobmill_core::task::labourer::{Completion, Labourer};
use jobmill_core::task::life::{Closing, LastError, Outcome, StoredTask, Waiting};
use jobmill_core::task::outcome::{self, Ending, of_answer, of_destination};
use jobmill_core::task::record::{Attribute, Record, number_of, text_of};
use jobmill_core::task::write::{Index, Page, Range};

use super::desk::{Desk, Function};
use super::slots::{Foreign, Values};
use super::{
    Action, BUSY_SURVEY, CALM_SURVEY, Dispatch, End, Held, Now, POSTPONED, Phase, Purpose, REQUEUED_AT_ONCE,
    RETRY_PAUSE, Requeued, Stage, Verdict, bytes_of,
};
use crate::dispatch::observe::Observation;
use crate::dispatch::ports::{Asked, Fate, News, Transacted, Unfit, Updated};
use crate::error::EngineError;
use crate::lease::Written;
use crate::mutants::{self, Mutant};
use crate::ports::{PortError, PortResult};

const MILLIS: i128 = 1_000_000;

impl Dispatch {
    /// A request to the tables failed. Whether it may be sent again: one that is refused for good ends the claims.
    fn may_go_again(&mut self, step: &'static str, error: PortError, now: Now) -> bool {
        let is_final = error.is_final();
        if is_final {
            self.fails(EngineError::Port { step, source: error });
        } else {
            self.tables.push_back(now.at);
        }
        !is_final
    }

    fn fails(&mut self, error: EngineError) {
        if self.phase == Phase::Claiming {
            self.phase = Phase::Stopping;
        }
        if !matches!(self.end, Some(End::Failed(_) | End::LockLost)) {
            self.end = Some(End::Failed(error));
        }
    }

    /// A part of an index was read for a labourer.
    pub(crate) fn read_answered(&mut self, at: usize, range: &Range, answer: PortResult<Page>, now: Now) {
        self.touch(at);
        let is_look = range.index == Index::Queue && range.from == Greenfield::FIRST;
        let page = match answer {
            Ok(page) => page,
            Err(error) => {
                if let Some(desk) = self.desks.get_mut(at) {
                    let reading = match range.index {
                        Index::Waiting => &mut desk.retry,
                        Index::Queue if is_look => &mut desk.look,
                        Index::Queue => &mut desk.survey,
                    };
                    reading.under_way = false;
                }
                self.may_go_again("reading the tables of tasks", error, now);
                return;
            }
        };
        match range.index {
            Index::Waiting => self.waiting_read(at, page, now),
            Index::Queue if is_look => self.queue_read(at, page, range.after.is_none(), now),
            Index::Queue => self.running_read(at, page, now),
        }
    }

    /// A page of a queue, its front or what comes behind.
    fn queue_read(&mut self, at: usize, page: Page, is_front: bool, now: Now) {
        if is_front && let Some(desk) = self.desks.get_mut(at) {
            let first = page.records.first();
            let first = first.and_then(|record| number_of(record, &self.settings.names.greenfield));
            desk.front_seen(first, now.at);
        }
        let mut something_new = false;
        for record in page.records {
            let size = bytes_of(&record);
            let task = match StoredTask::read(&self.settings.names, record) {
                Ok(task) => task,
                Err((why, record)) => {
                    self.malformed(at, record, why.0);
                    continue;
                }
            };
            let Some(desk) = self.desks.get_mut(at) else {
                return;
            };
            // The index may still show what was claimed a moment ago.
            let is_stale = self.tasks.contains_key(&task.task_id)
                || self
                    .recent
                    .get(&task.task_id)
                    .is_some_and(|recent| recent.attempts > task.attempts);
            if is_stale || desk.line.knows(&task.task_id) {
                continue;
            }
            if task.is_completed(&self.settings.names) {
                self.settle_found(at, task, succeeded());
                continue;
            }
            let values = values_of(&self.settings.names.payload, &desk.labourer, &task.record);
            desk.line.add(task, values);
            self.bytes_ready += size;
            something_new = true;
        }
        if let Some(desk) = self.desks.get_mut(at) {
            desk.looked(page.next, something_new, now.at);
        }
    }

    /// An item of the queue that is no task: it is closed as failed, as it is.
    fn malformed(&mut self, at: usize, record: Record, why: String) {
        let names = &self.settings.names;
        let (Some(task_id), Some(greenfield)) = (
            text_of(&record, &names.task_id).map(str::to_owned),
            number_of(&record, &names.greenfield),
        ) else {
            return;
        };
        let is_stale = self.tasks.contains_key(&task_id) || self.recent.contains_key(&task_id);
        if is_stale || self.unreadable.contains(&task_id) {
            return;
        }
        let task = StoredTask {
            task_id,
            greenfield,
            attempts: 0,
            record,
        };
        let message = format!("the item is no task that can be started: {why}");
        self.observe(Observation::Unreadable {
            task_id: task.task_id.clone(),
            why: message.clone(),
        });
        let error = LastError {
            kind: "InvalidTask".to_owned(),
            message,
        };
        self.settle_found(at, task, failed_for_good(error));
    }

    /// Nothing can be done about a task: it is left where it is, and said once.
    fn is_unreadable(&mut self, task_id: String, why: String) {
        self.unreadable.insert(task_id.clone());
        self.observe(Observation::Unreadable { task_id, why });
    }

    /// A task of somebody else, or of nobody, is settled.
    fn settle_found(&mut self, at: usize, task: StoredTask, verdict: Verdict) {
        let task_id = task.task_id.clone();
        self.take_in(at, task);
        self.decide(&task_id, verdict);
    }

    /// A task of somebody else, or of nobody, comes into our hands.
    fn take_in(&mut self, at: usize, task: StoredTask) {
        self.tasks.insert(
            task.task_id.clone(),
            Held {
                desk: at,
                task,
                values: Values::new(),
                claim: None,
                stage: Stage::Away,
                counted: false,
                since: Duration::ZERO,
                asked_at: None,
                waited_for: false,
                in_doubt: false,
                alone: false,
                never_started: false,
                bare: false,
                verdict: None,
                handles: Vec::new(),
                timer: None,
            },
        );
    }

    /// What is running by the index.
    fn running_read(&mut self, at: usize, page: Page, now: Now) {
        let marks = self.marks(now);
        let mut expired = Vec::new();
        for record in page.records {
            let Ok(task) = StoredTask::read(&self.settings.names, record) else {
                continue;
            };
            if self.unreadable.contains(&task.task_id) {
                continue;
            }
            let is_completed = task.is_completed(&self.settings.names);
            if let Some(held) = self.tasks.get_mut(&task.task_id) {
                if (!held.counted || held.task.greenfield != task.greenfield)
                    && !is_completed
                    && let Some(desk) = self.desks.get_mut(at)
                {
                    // Somebody else's, which is being settled, or which is claimed here in vain: it takes its slot.
                    let values = values_of(&self.settings.names.payload, &desk.labourer, &task.record);
                    desk.found.insert(task.task_id.clone(), values);
                    continue;
                }
                if held.task.greenfield == task.greenfield && is_completed && held.stage == Stage::Away {
                    // With all that its worker has written down.
                    held.task = task;
                    let (desk, task_id) = (held.desk, held.task.task_id.clone());
                    let closing = Closing {
                        duration: held.asked_at.map(|asked| now.at.saturating_sub(asked)),
                        ..success()
                    };
                    self.has_ended(desk, false, now);
                    self.decide(&task_id, Verdict::Close(closing));
                }
                continue;
            }
            let is_stale = self
                .recent
                .get(&task.task_id)
                .is_some_and(|recent| recent.ticket == task.greenfield);
            if is_stale {
                continue;
            }
            if is_completed {
                self.settle_found(at, task, succeeded());
                continue;
            }
            let Some(desk) = self.desks.get_mut(at) else {
                return;
            };
            let values = values_of(&self.settings.names.payload, &desk.labourer, &task.record);
            desk.found.insert(task.task_id.clone(), values);
            if desk
                .patience()
                .is_some_and(|patience| marks.running_for(task.greenfield) > patience)
            {
                expired.push(task);
            }
        }
        for task in expired {
            let task_id = task.task_id.clone();
            self.take_in(at, task);
            self.expire(&task_id, now);
        }
        let Some(desk) = self.desks.get_mut(at) else {
            return;
        };
        desk.survey.under_way = false;
        desk.survey.after = page.next;
        if desk.survey.after.is_some() {
            return;
        }
        let found = std::mem::take(&mut desk.found);
        desk.slots.learn(Foreign::Seen(found));
        desk.line.freed_all();
        let reports = desk.completion() == Some(Completion::Report) && desk.slots.own() > 0;
        let busy = reports || desk.slots.foreign() > 0;
        desk.survey.next_at = now.at + if busy { BUSY_SURVEY } else { CALM_SURVEY };
    }

    /// The front of the retry table: what is due goes back into the queue.
    fn waiting_read(&mut self, at: usize, page: Page, now: Now) {
        let names = self.settings.names.clone();
        let Some(desk) = self.desks.get_mut(at) else {
            return;
        };
        desk.retry.under_way = false;
        desk.retry_was_read = true;
        desk.postponed.retain(|_, until| *until > now.at);
        desk.next_due_ms = None;
        let (mut due, mut all_due) = (Vec::new(), true);
        for record in page.records {
            let due_ms = number_of(&record, &names.desired_launch_time)
                .map_or(0, |due| i64::try_from(due.nanos() / MILLIS).unwrap_or(i64::MAX));
            let Some(waiting) = Waiting::read(&names, record) else {
                continue;
            };
            if self.unreadable.contains(&waiting.task_id) {
                continue;
            }
            if desk.postponed.contains_key(&waiting.task_id) {
                desk.next_due_ms
                    .get_or_insert(now.wall_ms + i64::try_from(POSTPONED.as_millis()).unwrap_or(0));
                continue;
            }
            if due_ms > now.wall_ms {
                desk.next_due_ms.get_or_insert(due_ms);
                all_due = false;
                break;
            }
            // Not again by the next page, which may lag.
            desk.postponed.insert(waiting.task_id.clone(), now.at + POSTPONED);
            due.push(waiting);
        }
        let until_next = desk
            .next_due_ms
            .map(|due| Duration::from_millis(u64::try_from(due.saturating_sub(now.wall_ms)).unwrap_or(0)));
        let more = page.next.is_some() && all_due && !due.is_empty();
        desk.retry.next_at = now.at
            + if more {
                Duration::ZERO
            } else {
                until_next.map_or(RETRY_PAUSE, |next| next.min(RETRY_PAUSE))
            };
        // Those whose place nobody has written down come before the whole queue, as in sosw, the first due first.
        let foreign = due.iter().filter(|waiting| waiting.place().is_none()).count() as i128;
        let mut next_place = desk.places_in_front(foreign, self.settings.step, now.at);
        if next_place.is_none() {
            // Once its front was looked at.
            due.retain(|waiting| {
                let has_place = waiting.place().is_some();
                if !has_place {
                    desk.postponed.remove(&waiting.task_id);
                }
                has_place
            });
        }
        let mut rest = due.into_iter();
        loop {
            let (mut what, mut writes) = (Vec::new(), Vec::new());
            for waiting in rest.by_ref().take(REQUEUED_AT_ONCE) {
                let place = waiting.place().unwrap_or_else(|| {
                    let place = next_place.unwrap_or(Greenfield::ZERO);
                    next_place = Some(Greenfield::from_nanos(place.nanos() + 1_000_000_000));
                    place
                });
                let (more, queued) = waiting.requeue(&names, place);
                writes.extend(more);
                what.push(Requeued {
                    waiting,
                    queued: Some(queued),
                });
            }
            if what.is_empty() {
                return;
            }
            desk.requeueing += 1;
            self.pending.push(Action::Requeue(at, what, writes));
        }
    }

    /// Waiting tasks were put back, or not.
    pub(crate) fn requeued(
        &mut self,
        at: usize,
        what: Vec<Requeued>,
        answer: PortResult<Transacted>,
        now: Now,
    ) {
        self.touch(at);
        let names = self.settings.names.clone();
        let Some(desk) = self.desks.get_mut(at) else {
            return;
        };
        desk.requeueing -= 1;
        let fates = match answer {
            Ok(Transacted::Done) => {
                for Requeued { waiting, queued } in what {
                    desk.postponed.remove(&waiting.task_id);
                    let Some(Ok(task)) = queued.map(|queued| StoredTask::read(&names, queued)) else {
                        continue;
                    };
                    self.tally.requeued += 1;
                    self.recent.remove(&task.task_id);
                    if self.tasks.contains_key(&task.task_id) {
                        // It was parked by a request of which we have not heard yet: the queue is looked at once we have.
                        desk.look_again(now.at);
                        continue;
                    }
                    self.bytes_ready += bytes_of(&task.record);
                    let values = values_of(&names.payload, &desk.labourer, &task.record);
                    desk.line.add(task, values);
                }
                return;
            }
            Ok(Transacted::Refused(fates)) => fates,
            Err(error) if is_about_items(&error) && what.len() > 1 => {
                for what in what {
                    let place = what
                        .queued
                        .as_ref()
                        .and_then(|queued| number_of(queued, &names.greenfield));
                    let (writes, _) = what.waiting.requeue(&names, place.unwrap_or(Greenfield::ZERO));
                    desk.requeueing += 1;
                    self.pending
                        .push(Action::Requeue(at, vec![what], writes.to_vec()));
                }
                return;
            }
            Err(error) if is_about_items(&error) => {
                // Left where it is, and said.
                for Requeued { waiting, .. } in what {
                    self.is_unreadable(waiting.task_id, error.to_string());
                }
                return;
            }
            Err(error) => {
                // Read again, and decided anew.
                for Requeued { waiting, .. } in what {
                    desk.postponed.remove(&waiting.task_id);
                }
                desk.retry.next_at = now.at;
                self.may_go_again("putting waiting tasks back", error, now);
                return;
            }
        };
        let parts = fates.len() / what.len().max(1);
        let mut fates = fates.chunks(parts.max(1));
        let (mut again, mut closed) = (Vec::new(), Vec::new());
        let company = what.len() > 1;
        for Requeued { waiting, queued } in what {
            let fates = fates.next().unwrap_or_default();
            let task_is_closed = fates.get(2) == Some(&Fate::Failed);
            if task_is_closed {
                // It needs no other attempt.
                closed.push(Requeued {
                    waiting,
                    queued: None,
                });
            } else if fates.iter().all(|fate| *fate == Fate::Fine) && company {
                again.push(Requeued { waiting, queued });
            } else if fates.contains(&Fate::Busy) {
                desk.postponed.remove(&waiting.task_id);
                desk.retry.next_at = now.at;
                self.tables.push_back(now.at);
            }
            // Otherwise somebody else was faster, or it is in the tasks table as well: left alone for a while.
        }
        for what in closed {
            let writes = vec![what.waiting.discard(&names)];
            desk.requeueing += 1;
            self.pending.push(Action::Requeue(at, vec![what], writes));
        }
        if !again.is_empty() {
            let writes = again.iter().flat_map(|what: &Requeued| {
                let place = what
                    .queued
                    .as_ref()
                    .and_then(|queued| number_of(queued, &names.greenfield));
                what.waiting.requeue(&names, place.unwrap_or(Greenfield::ZERO)).0
            });
            let writes = writes.collect();
            desk.requeueing += 1;
            self.pending.push(Action::Requeue(at, again, writes));
        }
    }

    /// Updates were answered.
    pub(crate) fn updated(
        &mut self,
        what: Vec<(String, Purpose)>,
        answer: PortResult<Vec<Updated>>,
        now: Now,
    ) {
        self.updates_in_flight -= 1;
        let answers = match answer {
            Ok(answers) => {
                if !answers.contains(&Updated::Throttled) {
                    self.tables.relax();
                }
                answers
            }
            Err(PortError::Throttled { .. } | PortError::Conflict { .. }) => {
                vec![Updated::Throttled; what.len()]
            }
            Err(error) if error.is_final() => {
                self.fails(EngineError::Port {
                    step: "claiming tasks",
                    source: error,
                });
                // Whoever comes next finds them as they stand, in the queue or claimed.
                what.iter().for_each(|(task_id, _)| self.let_go(task_id));
                return;
            }
            Err(_) => vec![Updated::Unknown; what.len()],
        };
        let mut answers = answers.into_iter();
        for (task_id, purpose) in what {
            let answer = answers.next().unwrap_or(Updated::Unknown);
            self.update_answered(&task_id, purpose, answer, now);
        }
    }

    fn update_answered(&mut self, task_id: &str, purpose: Purpose, answer: Updated, now: Now) {
        let Some(held) = self.tasks.get_mut(task_id) else {
            return;
        };
        match (purpose, answer) {
            (Purpose::Claim, Updated::Done) => self.is_ours(task_id),
            // Somebody else has it, or it is gone; or a copy of the request was carried out before.
            (Purpose::Claim, Updated::Refused) => {
                held.stage = Stage::Checking;
                self.to_check.push_back(task_id.to_owned());
            }
            (Purpose::Claim, Updated::Throttled) if !held.in_doubt => {
                self.tables.push_back(now.at);
                self.was_not_ours(task_id);
            }
            (purpose, Updated::Throttled) => {
                self.tables.push_back(now.at);
                self.updates.push_back((task_id.to_owned(), purpose));
            }
            (purpose, Updated::Unknown) => {
                self.tables.push_back(now.at);
                held.in_doubt = true;
                if mutants::is(Mutant::ClaimForgottenInDoubt) && purpose == Purpose::Claim {
                    self.was_not_ours(task_id);
                    return;
                }
                self.updates.push_back((task_id.to_owned(), purpose));
            }
            (Purpose::Claim, Updated::Invalid(why)) => {
                let names = &self.settings.names;
                held.task = held.task.clone().unclaimed(names);
                let error = LastError {
                    kind: "InvalidTask".to_owned(),
                    message: format!("the task can't be claimed: {why}"),
                };
                self.decide(task_id, failed_for_good(error));
            }
            // Carried out by this request, or by an earlier copy of it; or somebody else has moved the task on.
            (Purpose::GiveBack, answer @ (Updated::Done | Updated::Refused | Updated::Invalid(_))) => {
                self.tally.given_back += u64::from(answer == Updated::Done);
                self.given_back(task_id, now);
            }
        }
    }

    fn given_back(&mut self, task_id: &str, now: Now) {
        let Some(held) = self.tasks.get(task_id) else {
            return;
        };
        let at = held.desk;
        self.recent.remove(task_id);
        self.let_go(task_id);
        if let Some(desk) = self.desks.get_mut(at) {
            desk.was_not_started();
            desk.look_again(now.at);
        }
    }

    pub(super) fn was_not_ours(&mut self, task_id: &str) {
        let at = self.tasks.get(task_id).map(|held| held.desk);
        self.recent.remove(task_id);
        self.let_go(task_id);
        if let Some(desk) = at.and_then(|at| self.desks.get_mut(at)) {
            desk.was_not_started();
        }
    }

    fn is_ours(&mut self, task_id: &str) {
        if let Some(held) = self.tasks.get_mut(task_id) {
            held.stage = Stage::Starting;
            held.in_doubt = false;
            self.to_ask.push_back(task_id.to_owned());
        }
    }

    /// A task was read as it is.
    pub(crate) fn checked(&mut self, task_id: &str, answer: PortResult<Option<Record>>, now: Now) {
        self.checks_in_flight -= 1;
        let record = match answer {
            Ok(record) => record,
            Err(error) => {
                if self.may_go_again("reading a task", error, now) {
                    self.to_check.push_back(task_id.to_owned());
                } else {
                    self.news.remove(task_id);
                    self.let_go(task_id);
                }
                return;
            }
        };
        let Some(held) = self.tasks.get_mut(task_id) else {
            self.other_read(task_id, record, now);
            return;
        };
        let task = record.and_then(|record| StoredTask::read(&self.settings.names, record).ok());
        // As it was claimed: by nobody else.
        let task = task.filter(|task| task.greenfield == held.task.greenfield);
        match (held.stage, task) {
            (Stage::Checking, Some(_)) => self.is_ours(task_id),
            (Stage::Checking, None) => self.was_not_ours(task_id),
            (Stage::Rereading, Some(task)) if task.is_completed(&self.settings.names) => {
                // Its worker has marked it as done with, after all.
                held.task = task;
                self.decide(task_id, succeeded());
            }
            (Stage::Rereading, Some(task)) => {
                held.task = task;
                held.stage = Stage::Settling;
                held.alone = true;
                self.to_settle.push_back(task_id.to_owned());
            }
            // Settled by an earlier copy of the request, or by somebody else.
            (Stage::Rereading, None) => self.settled_by(task_id, true, now),
            _ => {}
        }
    }

    /// The worker of a task was asked.
    pub(crate) fn asked(&mut self, task_id: &str, answer: Asked, now: Now) {
        let Some(held) = self.tasks.get(task_id).filter(|held| held.stage == Stage::Asking) else {
            return;
        };
        let at = held.desk;
        let (since, attempts) = (held.since, held.task.attempts);
        self.touch(at);
        match answer {
            Asked::Queued => {
                self.was_started(task_id, now);
                self.goes_away(task_id);
            }
            Asked::Answered(answer) => {
                self.was_started(task_id, now);
                let ending = of_answer(&answer.payload, answer.is_error);
                self.ends(task_id, ending, now);
            }
            Asked::Unknown(message) => {
                self.was_started(task_id, now);
                self.observe(Observation::NoAnswer {
                    task_id: task_id.to_owned(),
                    attempts,
                    message,
                });
                if mutants::is(Mutant::StartAgain) {
                    self.starts_again(task_id, now.at);
                    return;
                }
                self.goes_away(task_id);
            }
            Asked::Throttled(_) => {
                let Some(desk) = self.desks.get_mut(at) else {
                    return;
                };
                desk.throttled.push_back(now.at);
                let until = desk.throttled.until(now.at).unwrap_or(now.at);
                let labourer_id = desk.id.clone();
                self.observe(Observation::Throttled { labourer_id });
                match now.at.saturating_sub(since) >= super::START_PATIENCE {
                    true => self.give_back(task_id),
                    false => self.starts_again(task_id, until),
                }
            }
            Asked::PayloadRefused(message) => {
                let error = LastError {
                    kind: "PayloadRefused".to_owned(),
                    message,
                };
                self.ends(task_id, Ending::Failed { error, retry: false }, now);
            }
            Asked::WorkerUnfit(why) => {
                self.suspend(at, why, now);
                self.give_back(task_id);
            }
        }
    }

    fn suspend(&mut self, at: usize, why: Unfit, now: Now) {
        let Some(desk) = self.desks.get_mut(at) else {
            return;
        };
        if desk.suspend(why.clone(), now.at) {
            let labourer_id = desk.id.clone();
            self.observe(Observation::Suspended { labourer_id, why });
        }
    }

    fn starts_again(&mut self, task_id: &str, at: Duration) {
        if let Some(held) = self.tasks.get_mut(task_id) {
            held.stage = Stage::Starting;
            self.set_timer(task_id, at);
        }
    }

    fn was_started(&mut self, task_id: &str, now: Now) {
        self.tally.started += 1;
        let Some(held) = self.tasks.get(task_id) else {
            return;
        };
        if let Some(desk) = self.desks.get_mut(held.desk) {
            desk.throttled.relax();
            let observation = Observation::Started {
                labourer_id: desk.id.clone(),
                waited: held.asked_at.unwrap_or(now.at).saturating_sub(held.since),
            };
            self.observe(observation);
        }
    }

    /// Its outcome will come by another way, or it expires.
    fn goes_away(&mut self, task_id: &str) {
        self.no_longer_waited_for(task_id);
        let Some(held) = self.tasks.get_mut(task_id) else {
            return;
        };
        held.stage = Stage::Away;
        let since = held.since;
        let desk = self.desks.get_mut(held.desk);
        let patience = desk.as_ref().and_then(|desk| desk.patience());
        if let Some(desk) = desk
            && desk.completion() == Some(Completion::Report)
        {
            desk.survey.next_at = desk.survey.next_at.min(since + BUSY_SURVEY);
        }
        self.set_timer(task_id, since + patience.unwrap_or(super::INDEX_LAG));
    }

    /// A transaction that settles tasks was answered.
    pub(crate) fn settled(&mut self, what: Vec<String>, answer: PortResult<Transacted>, now: Now) {
        self.settles_in_flight -= 1;
        let fates = match answer {
            Ok(Transacted::Done) => {
                self.tables.relax();
                what.iter()
                    .for_each(|task_id| self.settled_by(task_id, false, now));
                return;
            }
            Ok(Transacted::Refused(fates)) => fates,
            // One of them makes the whole impossible: each goes by itself, and that one is found.
            Err(error) if is_about_items(&error) && what.len() > 1 => {
                for task_id in what {
                    if let Some(held) = self.tasks.get_mut(&task_id) {
                        held.alone = true;
                    }
                    self.to_settle.push_back(task_id);
                }
                return;
            }
            Err(error) if is_about_items(&error) => vec![Fate::Invalid(error.to_string())],
            Err(error) => {
                let in_doubt = matches!(error, PortError::Unknown { .. });
                let again = self.may_go_again("settling tasks", error, now);
                for task_id in what {
                    if !again {
                        // It expires.
                        self.let_go(&task_id);
                    } else if let Some(held) = self.tasks.get_mut(&task_id) {
                        held.in_doubt |= in_doubt;
                        self.to_settle.push_back(task_id);
                    }
                }
                return;
            }
        };
        let mut fates = fates.into_iter();
        for task_id in what {
            let Some(held) = self.tasks.get_mut(&task_id) else {
                continue;
            };
            let parts = match held.verdict {
                Some(Verdict::Close(_)) => 2,
                Some(Verdict::Park { .. }) => 3,
                Some(Verdict::Discard) | None => 1,
            };
            let own: Vec<Fate> = fates.by_ref().take(parts).collect();
            if own.iter().any(|fate| matches!(fate, Fate::Invalid(_))) {
                if std::mem::replace(&mut held.bare, true) {
                    // Not even with less: it is left as it is, and said.
                    let why = own.iter().find_map(|fate| match fate {
                        Fate::Invalid(why) => Some(why.clone()),
                        _ => None,
                    });
                    self.let_go(&task_id);
                    self.is_unreadable(task_id, why.unwrap_or_default());
                    continue;
                }
                held.alone = true;
                self.to_settle.push_back(task_id);
            } else if own.first() == Some(&Fate::Failed) {
                held.stage = Stage::Rereading;
                self.to_check.push_back(task_id);
            } else if own.contains(&Fate::Failed) {
                // The closed table has it already.
                held.verdict = Some(Verdict::Discard);
                held.alone = true;
                self.to_settle.push_back(task_id);
            } else {
                if own.contains(&Fate::Busy) {
                    self.tables.push_back(now.at);
                    held.alone = true;
                }
                self.to_settle.push_back(task_id);
            }
        }
    }

    /// A task is settled: by us, or perhaps by somebody else.
    fn settled_by(&mut self, task_id: &str, perhaps: bool, now: Now) {
        let Some(held) = self.tasks.get(task_id) else {
            return;
        };
        let (attempts, ticket) = (held.task.attempts, held.task.greenfield);
        let labourer_id = self
            .desks
            .get(held.desk)
            .map(|desk| desk.id.clone())
            .unwrap_or_default();
        let verdict = held.verdict.clone().filter(|_| !perhaps || held.in_doubt);
        let desk = held.desk;
        match verdict {
            Some(Verdict::Close(closing)) => {
                match closing.outcome {
                    Outcome::Succeeded => self.tally.succeeded += 1,
                    Outcome::Failed => self.tally.failed += 1,
                    Outcome::Expired => self.tally.expired += 1,
                }
                self.observe(Observation::Closed {
                    task_id: task_id.to_owned(),
                    labourer_id,
                    outcome: closing.outcome,
                    duration: closing.duration,
                    error: closing.error,
                });
            }
            Some(Verdict::Park { error, due_ms }) => {
                self.tally.retried += 1;
                if let Some(desk) = self.desks.get_mut(desk) {
                    desk.next_due_ms = Some(desk.next_due_ms.map_or(due_ms, |next| next.min(due_ms)));
                    let wait = u64::try_from(due_ms.saturating_sub(now.wall_ms)).unwrap_or(0);
                    desk.retry.next_at = desk.retry.next_at.min(now.at + Duration::from_millis(wait));
                    desk.postponed.remove(task_id);
                }
                self.observe(Observation::Parked {
                    task_id: task_id.to_owned(),
                    labourer_id,
                    error,
                });
            }
            Some(Verdict::Discard) | None => {}
        }
        // The index may show its claim for a while.
        self.remember(task_id, attempts, ticket, now.at);
        self.let_go(task_id);
    }

    /// It is known, or not, how long a function may run.
    pub(crate) fn fit(&mut self, at: usize, answer: PortResult<Result<Duration, Unfit>>, now: Now) {
        self.touch(at);
        let Some(desk) = self.desks.get_mut(at) else {
            return;
        };
        let why = match answer {
            Ok(Ok(longest)) => {
                if let Err(why) = desk.knows(longest) {
                    self.suspend(at, why, now);
                }
                return;
            }
            Ok(Err(why)) => why,
            Err(error) => Unfit {
                kind: "FunctionUnknown",
                message: error.to_string(),
            },
        };
        desk.function = Function::Unasked;
        self.suspend(at, why, now);
    }

    /// A metric of a labourer was read, or not.
    pub(crate) fn measured(&mut self, at: usize, metric: usize, answer: PortResult<Vec<f64>>) {
        self.touch(at);
        let coefficients = self.settings.coefficients;
        let Some(desk) = self.desks.get_mut(at) else {
            return;
        };
        let Some(known) = desk.labourer.health.get(metric) else {
            return;
        };
        let status = match answer {
            Ok(datapoints) => Some(health::status(
                known,
                health::combine(known.source.statistic, &datapoints),
            )),
            Err(error) => {
                tracing::warn!(labourer_id = desk.id, metric = known.name, %error, "a health metric can't be read");
                None
            }
        };
        desk.health.learn(metric, status, known.status_without_data);
        desk.health.judge(coefficients);
    }

    /// Outcomes came.
    pub(crate) fn received(&mut self, answer: PortResult<Vec<News>>, now: Now) {
        self.receiving = false;
        let news = match answer {
            Ok(news) => news,
            Err(error) => {
                self.hears_nothing(&error, now);
                return;
            }
        };
        self.outcomes.relax();
        for News { body, handle } in news {
            let known = of_destination(&body, &self.settings.names.attempts);
            let news = match known {
                Ok(news) => news,
                Err(why) => {
                    self.observe(Observation::UnreadableOutcome { why });
                    self.to_acknowledge.push(handle);
                    continue;
                }
            };
            // The payload says how often it was tried before.
            let attempts = news.attempts.saturating_add(1);
            let Some(held) = self.tasks.get_mut(&news.task_id) else {
                self.outcome_of_another(news, handle);
                continue;
            };
            if held.task.attempts != attempts {
                // Of an older attempt.
                self.to_acknowledge.push(handle);
                continue;
            }
            held.handles.push(handle);
            if matches!(held.stage, Stage::Away | Stage::Asking) {
                self.ends(&news.task_id, news.ending, now);
            }
        }
    }

    /// The queue of outcomes did not answer. Only those who send them there have to wait for that.
    fn hears_nothing(&mut self, error: &PortError, now: Now) {
        self.outcomes.push_back(now.at);
        if !error.is_final() {
            return;
        }
        let senders = |desk: &Desk| desk.labourer.completion == Some(Completion::Destination);
        let senders: Vec<usize> = (0..self.desks.len())
            .filter(|at| self.desks.get(*at).is_some_and(senders))
            .collect();
        for at in senders {
            let why = Unfit {
                kind: "OutcomesUnreadable",
                message: format!("its outcomes can't be learnt: {error}"),
            };
            self.suspend(at, why, now);
        }
    }

    /// An outcome of a task that is not in our hands: of somebody else's, or of one that is settled.
    fn outcome_of_another(&mut self, news: outcome::News, handle: String) {
        let attempts = news.attempts.saturating_add(1);
        let recent = self.recent.get(&news.task_id);
        if recent.is_some_and(|recent| recent.attempts >= attempts) {
            self.to_acknowledge.push(handle);
            return;
        }
        self.to_check.push_back(news.task_id.clone());
        self.news.insert(news.task_id.clone(), (news, handle));
    }

    /// A task of which there is an outcome, and which is not in our hands, was read.
    fn other_read(&mut self, task_id: &str, record: Option<Record>, now: Now) {
        let Some((news, handle)) = self.news.remove(task_id) else {
            return;
        };
        let names = &self.settings.names;
        let first_running = self.marks(now).first_running();
        let desk = record
            .as_ref()
            .and_then(|record| text_of(record, &names.labourer_id))
            .map(str::to_owned);
        let task = record
            .and_then(|record| StoredTask::read(names, record).ok())
            .filter(|task| {
                task.attempts == news.attempts.saturating_add(1) && task.greenfield >= first_running
            });
        let Some(task) = task else {
            // It is settled, or this was an older attempt.
            self.to_acknowledge.push(handle);
            return;
        };
        let Some(at) = self
            .desks
            .iter()
            .position(|known| Some(&known.id) == desk.as_ref())
        else {
            // Of another group: it comes again, for whoever dispatches that.
            return;
        };
        self.take_in(at, task);
        if let Some(held) = self.tasks.get_mut(task_id) {
            held.handles.push(handle);
        }
        self.ends(task_id, news.ending, now);
    }

    /// Outcomes were acknowledged, or will come again.
    pub(crate) fn acknowledged(&mut self, answer: &PortResult<()>, now: Now) {
        self.acknowledging = false;
        if answer.is_err() {
            self.outcomes.push_back(now.at);
        }
    }

    /// The lease was renewed, or not.
    pub(crate) fn renewed(&mut self, written: Result<Written, EngineError>) {
        self.renewing = false;
        match written {
            Ok(Written::Stands) => {}
            Ok(Written::TakenOver | Written::RanOut) => self.lost(),
            Err(error) => {
                // It may be renewed a moment later, as long as the lease lasts.
                tracing::warn!(%error, "the lease could not be renewed");
                let is_final = matches!(&error, EngineError::Port { source, .. } if source.is_final());
                if is_final || matches!(error, EngineError::Input(_)) {
                    self.fails(error);
                    self.lost();
                }
            }
        }
    }

    /// Somebody else may hold the lock.
    fn lost(&mut self) {
        self.phase = Phase::Released;
        if !matches!(self.end, Some(End::Failed(_))) {
            self.end = Some(End::LockLost);
        }
    }

    /// The lock was given back, or not: nobody waits for it.
    pub(crate) fn released(&mut self, written: Result<Written, EngineError>) {
        self.phase = Phase::Released;
        if let Err(error) = written {
            tracing::warn!(%error, "the lock could not be released: it is free when its lease has run out");
        }
    }
}

/// Whether a transaction was refused because of what one of its items is, and would be without it.
fn is_about_items(error: &PortError) -> bool {
    matches!(error, PortError::Refused { code, .. } if code == "ValidationException")
}

fn success() -> Closing {
    Closing {
        outcome: Outcome::Succeeded,
        duration: None,
        error: None,
        result: None,
    }
}

fn succeeded() -> Verdict {
    Verdict::Close(success())
}

fn failed_for_good(error: LastError) -> Verdict {
    Verdict::Close(Closing {
        outcome: Outcome::Failed,
        duration: None,
        error: Some(error),
        result: None,
    })
}

/// The values of a task that its labourer's `concurrency` bounds.
fn values_of(payload: &str, labourer: &Labourer, record: &Record) -> Values {
    if labourer.concurrency.is_empty() {
        return Values::new();
    }
    let payload = record.get(payload).and_then(Attribute::as_text);
    let payload = payload.and_then(|text| Document::parse(text).ok());
    let of = |by: &[String]| key_of(payload.as_ref()?.root(), by);
    labourer.concurrency.iter().map(|cap| of(&cap.by)).collect()
}
