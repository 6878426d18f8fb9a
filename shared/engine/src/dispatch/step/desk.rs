//! What is known of one labourer: whether it can be started, how many of its tasks run, what comes next.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jobmill_core::queue::group::Used;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::health::{Coefficients, allowed, worst};
use jobmill_core::task::labourer::{Completion, Labourer};
use jobmill_core::task::life::Marks;
use jobmill_core::task::rate::Starts;
use jobmill_core::task::record::Record;
use jobmill_core::task::write::{Index, Range};

use super::REMEMBERED;
use super::line::{LOOK_AHEAD, Line};
use super::slots::{Foreign, Slots};
use crate::dispatch::observe::Sample;
use crate::dispatch::ports::Unfit;

/// So many tasks are kept ready at least and at most, whatever may run at once.
const LEAST_READY: usize = 32;
const MOST_READY: usize = 1_000;
/// How often metrics of its health are read.
const MEASURED_EVERY: Duration = Duration::from_secs(60);
/// An empty queue is looked at again after so long, then twice as long, and so on.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A labourer that can't be started, or only fails, is tried again after so long, then twice as long, and so on.
const FIRST_SUSPENSION: Duration = Duration::from_secs(10);
const LONGEST_SUSPENSION: Duration = Duration::from_secs(300);
/// What is waited after a start that was throttled.
const FIRST_THROTTLE: Duration = Duration::from_millis(100);
const LONGEST_THROTTLE: Duration = Duration::from_secs(5);
/// An event may wait so long in the platform's queue before its worker is started.
const EVENT_AGE: Duration = Duration::from_secs(60);
/// A start is tried for so long after the claim.
pub(crate) const START_PATIENCE: Duration = Duration::from_secs(10);
/// The platform ends a worker that is out of time so much later at most.
const LATE_KILL: Duration = Duration::from_secs(10);

/// The type of a suspension because of failures.
const TOO_MANY_FAILURES: &str = "TooManyFailures";

/// What is known of a labourer's function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    /// Nothing yet.
    Unasked,
    /// It is being asked for.
    Asking,
    /// How long a task may run, and how its end is learnt.
    Known {
        max_duration: Duration,
        completion: Completion,
    },
}

/// Why nothing of a labourer is started for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suspension {
    pub(crate) why: Unfit,
    /// When the next task is started to see whether it is over.
    pub(crate) until: Duration,
    pause: Duration,
}

/// A pause that doubles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    until: Duration,
    pause: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            until: Duration::ZERO,
            pause: first,
            first,
            longest,
        }
    }

    /// Longer than the time before, unless it is still going on.
    pub(crate) fn push_back(&mut self, now: Duration) {
        if self.until <= now {
            self.until = now + self.pause;
            self.pause = (self.pause * 2).min(self.longest);
        }
    }

    pub(crate) fn relax(&mut self) {
        self.pause = self.first;
    }

    /// Until when; none: it is over.
    pub(crate) fn until(&self, now: Duration) -> Option<Duration> {
        Some(self.until).filter(|until| *until > now)
    }
}

/// Reading a part of an index: whether it is under way, and when it is due again.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) under_way: bool,
    pub(crate) next_at: Duration,
    /// Where to go on.
    pub(crate) after: Option<Record>,
    /// When its first page was asked for.
    pub(crate) begun_at: Duration,
}

impl Reading {
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        !self.under_way && self.next_at <= now
    }

    /// It is asked for now.
    pub(crate) fn begin(&mut self, now: Duration) {
        self.under_way = true;
        if self.after.is_none() {
            self.begun_at = now;
        }
    }
}

/// How well a labourer is, by what is measured of it every minute.
#[derive(Debug)]
pub(crate) struct Health {
    /// The status by each metric; none: not known yet.
    statuses: Vec<Option<u8>>,
    /// Metrics that are being read.
    under_way: usize,
    next_at: Duration,
    /// The share of its slots that this leaves it; nothing as long as nobody knows.
    strength: f64,
}

impl Health {
    fn new(metrics: usize) -> Self {
        Self {
            statuses: vec![None; metrics],
            under_way: 0,
            next_at: Duration::ZERO,
            strength: 0.0,
        }
    }

    pub(crate) fn is_due(&self, now: Duration) -> bool {
        !self.statuses.is_empty() && self.under_way == 0 && self.next_at <= now
    }

    /// Its metrics are read now.
    pub(crate) fn begin(&mut self, now: Duration) {
        self.under_way = self.statuses.len();
        self.next_at = now + MEASURED_EVERY;
    }

    /// When its metrics are read again.
    fn next_at(&self) -> Option<Duration> {
        (!self.statuses.is_empty()).then_some(self.next_at)
    }

    /// The status by a metric. If it could not be read that of before stands, or else the one without data.
    pub(crate) fn learn(&mut self, metric: usize, status: Option<u8>, without_data: u8) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(known) = self.statuses.get_mut(metric) {
            *known = status.or(*known).or(Some(without_data));
        }
    }

    /// What its statuses leave it.
    pub(crate) fn judge(&mut self, coefficients: Coefficients) {
        let known: Option<Vec<u8>> = self.statuses.iter().copied().collect();
        self.strength = known.map_or(0.0, |statuses| coefficients.strength(worst(statuses)));
    }
}

/// A labourer.
pub(crate) struct Desk {
    pub(crate) id: String,
    pub(crate) labourer: Labourer,
    pub(crate) health: Health,
    pub(crate) function: Function,
    pub(crate) suspension: Option<Suspension>,
    pub(crate) line: Line,
    pub(crate) slots: Slots,
    starts: Option<Starts>,
    pub(crate) throttled: Backoff,
    /// The last outcomes: whether each was a failure.
    lately: VecDeque<bool>,
    failures: u32,
    /// The queue, from its front.
    pub(crate) look: Reading,
    /// The front of the queue was read.
    queue_was_read: bool,
    /// The queue was last read to its end, and nothing new was there.
    pub(crate) queue_is_empty: bool,
    pause: Duration,
    /// What is running by the index.
    pub(crate) survey: Reading,
    /// What the survey under way has found so far.
    pub(crate) found: HashMap<String, super::slots::Values>,
    /// The retry table.
    pub(crate) retry: Reading,
    /// The retry table was last read, and this is when its first task is due, milliseconds since 1970.
    pub(crate) next_due_ms: Option<i64>,
    pub(crate) retry_was_read: bool,
    /// What waited is to come before the whole queue, wherever that begins: it has to be looked at.
    pub(crate) wants_front: bool,
    /// Where the queue begins, if anywhere, with what was put there, and until when that is worth knowing.
    front: Option<(Option<Greenfield>, Duration)>,
    /// Tasks of the retry table that could not be put back, until then.
    pub(crate) postponed: HashMap<String, Duration>,
    /// Requests under way that put tasks back.
    pub(crate) requeueing: usize,
}

impl Desk {
    /// `released` says how long ago a holder has released the lock that says what it left running.
    pub(crate) fn new(
        id: String,
        labourer: Labourer,
        foreign: Foreign,
        released: Duration,
        now: Duration,
    ) -> Self {
        let left = match &foreign {
            Foreign::Counted { used, .. } => used.starts_left,
            _ => None,
        };
        let starts = labourer.rate.map(|rate| match left {
            Some(left) => Starts::resume(rate, now, left, released),
            None => Starts::new(rate, now),
        });
        let mut desk = Self {
            starts,
            slots: Slots::new(labourer.concurrency.len(), foreign),
            health: Health::new(labourer.health.len()),
            function: Function::Unasked,
            suspension: None,
            line: Line::default(),
            throttled: Backoff::new(FIRST_THROTTLE, LONGEST_THROTTLE),
            lately: VecDeque::new(),
            failures: 0,
            look: Reading::default(),
            queue_was_read: false,
            queue_is_empty: false,
            pause: FIRST_PAUSE,
            survey: Reading::default(),
            found: HashMap::new(),
            retry: Reading::default(),
            next_due_ms: None,
            retry_was_read: false,
            wants_front: false,
            front: None,
            postponed: HashMap::new(),
            requeueing: 0,
            id,
            labourer,
        };
        desk.survey.next_at = desk.slots.unseen_until().unwrap_or(now);
        let known = desk.labourer.max_duration.map(|longest| desk.knows(longest));
        let why = match desk.labourer.arn {
            Some(_) => known.and_then(Result::err),
            None => Some(Unfit {
                kind: "NoFunction",
                message: format!(
                    "`task_config.labourers.{}.arn` is not set: name its function there",
                    desk.id
                ),
            }),
        };
        if let Some(why) = why {
            desk.suspend(why, now);
        }
        desk
    }

    /// How long a task of it may run is known.
    ///
    /// # Errors
    /// That is too long for its answer to be waited for, and nothing else was configured.
    pub(crate) fn knows(&mut self, max_duration: Duration) -> Result<(), Unfit> {
        let Some(completion) = self.labourer.completion_for(max_duration) else {
            self.function = Function::Unasked;
            return Err(Unfit {
                kind: "NoCompletion",
                message: format!(
                    "a task of it may run for {} s, too long for its answer to be waited for: set its `completion` to \
                     \"destination\" or \"report\", or its `max_duration` to at most 300",
                    max_duration.as_secs()
                ),
            });
        };
        self.function = Function::Known {
            max_duration,
            completion,
        };
        Ok(())
    }

    /// How the end of its tasks is learnt, if that is known.
    pub(crate) fn completion(&self) -> Option<Completion> {
        match self.function {
            Function::Known { completion, .. } => Some(completion),
            _ => None,
        }
    }

    /// How long after its claim a task is given up; none: not known yet.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let Function::Known {
            max_duration,
            completion,
        } = self.function
        else {
            return None;
        };
        let on_the_way = match completion {
            Completion::Response => START_PATIENCE,
            Completion::Destination | Completion::Report => START_PATIENCE.max(EVENT_AGE),
        };
        Some(max_duration + (on_the_way + LATE_KILL).max(self.labourer.cooldown))
    }

    /// How many of its tasks may run at once now.
    fn allowed(&self, now: Duration) -> u32 {
        match &self.suspension {
            _ if self.labourer.paused => 0,
            Some(suspension) if suspension.until > now => 0,
            // One, to see.
            Some(_) => 1,
            None => allowed(self.labourer.max_simultaneous, self.health.strength),
        }
    }

    /// How many tasks may be claimed now.
    pub(crate) fn may_claim(&mut self, now: Duration) -> u32 {
        if !matches!(self.function, Function::Known { .. }) || self.throttled.until(now).is_some() {
            return 0;
        }
        let free = self.slots.free(self.allowed(now));
        match &mut self.starts {
            Some(starts) if free > 0 => free.min(starts.room(now)),
            _ => free,
        }
    }

    /// A part of an index of it.
    pub(crate) fn range(
        &self,
        index: Index,
        from: Greenfield,
        to: Greenfield,
        limit: u32,
        after: Option<Record>,
    ) -> Range {
        Range {
            index,
            labourer_id: self.id.clone(),
            from,
            to,
            limit,
            after,
        }
    }

    /// When something about starts changes by itself.
    pub(crate) fn wakes_at(&self, now: Duration) -> Option<Duration> {
        let suspended = self.suspension.as_ref().map(|suspension| suspension.until);
        let rate = self.starts.as_ref().and_then(|starts| starts.next(now));
        let readings = [&self.look, &self.survey, &self.retry].map(|reading| Some(reading.next_at));
        [suspended, rate, self.throttled.until(now), self.health.next_at()]
            .into_iter()
            .chain(readings)
            .flatten()
            .filter(|at| *at > now)
            .min()
    }

    /// A task is about to be claimed.
    pub(crate) fn takes(&mut self, now: Duration) {
        if let Some(starts) = &mut self.starts {
            starts.take(now, 1);
        }
    }

    /// A claimed task was not started.
    pub(crate) fn was_not_started(&mut self) {
        if let Some(starts) = &mut self.starts {
            starts.give_back(1);
        }
    }

    /// How many more tasks are wanted in memory.
    pub(crate) fn wanted(&self, now: Duration) -> usize {
        // Of one that is held, too: what its workers have marked in the meantime is settled.
        if self.line.blocked() >= LOOK_AHEAD {
            return 0;
        }
        let allowed = self.allowed(now) as usize;
        let ready = (2 * allowed).clamp(LEAST_READY, MOST_READY);
        match self.line.ready() < ready.div_ceil(2) {
            true => ready + self.line.blocked(),
            false => 0,
        }
    }

    /// A page of the queue was read; whether something new was in it.
    pub(crate) fn looked(&mut self, next: Option<Record>, something_new: bool, now: Duration) {
        let reading = &mut self.look;
        reading.under_way = false;
        if something_new {
            self.pause = FIRST_PAUSE;
        }
        // The front is looked at again every so often: something may have been put back there.
        let goes_on = next.is_some() && now.saturating_sub(reading.begun_at) < LONGEST_PAUSE;
        self.queue_was_read = true;
        self.queue_is_empty = next.is_none() && !something_new;
        reading.next_at = now;
        if self.queue_is_empty {
            reading.next_at = now + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        reading.after = next.filter(|_| goes_on);
    }

    /// The queue may have something at its front that is not known.
    pub(crate) fn look_again(&mut self, at: Duration) {
        self.look.next_at = self.look.next_at.min(at);
        self.look.after = None;
        self.pause = FIRST_PAUSE;
    }

    /// Nothing of it is started for a while. Whether that is news.
    pub(crate) fn suspend(&mut self, why: Unfit, now: Duration) -> bool {
        let pause = match &self.suspension {
            Some(known) if known.until > now => return false,
            Some(known) => (known.pause * 2).min(LONGEST_SUSPENSION),
            None => FIRST_SUSPENSION,
        };
        let is_news = self
            .suspension
            .as_ref()
            .is_none_or(|known| known.why.kind != why.kind);
        self.suspension = Some(Suspension {
            why,
            until: now + pause,
            pause,
        });
        is_news
    }

    /// A task of it has ended. Whether it is suspended because of that, and whether a suspension is over.
    pub(crate) fn ended(&mut self, failed: bool, now: Duration) -> (Option<Unfit>, bool) {
        if self.suspension.is_some() {
            if !failed {
                self.suspension = None;
                self.lately.clear();
                self.failures = 0;
                return (None, true);
            }
            let known = self.suspension.as_ref().map(|known| known.why.clone());
            let why = known.filter(|why| why.kind == TOO_MANY_FAILURES).unwrap_or_else(|| Unfit {
                kind: "StillFailing",
                message: "one task was started to see, and failed: look at its error and mend the worker; it is tried \
                          again, less and less often"
                    .to_owned(),
            });
            let is_news = self.suspend(why.clone(), now);
            return (is_news.then_some(why), false);
        }
        let Some(limit) = self.labourer.suspend_after else {
            return (None, false);
        };
        self.lately.push_back(failed);
        self.failures += u32::from(failed);
        if self.lately.len() > limit.of as usize {
            let oldest = self.lately.pop_front();
            self.failures -= u32::from(oldest == Some(true));
        }
        let is_full = self.lately.len() >= limit.of as usize;
        if !is_full || f64::from(self.failures) < limit.share * f64::from(limit.of) {
            return (None, false);
        }
        let why = self.too_many_failures();
        self.suspend(why.clone(), now);
        (Some(why), false)
    }

    fn too_many_failures(&self) -> Unfit {
        Unfit {
            kind: TOO_MANY_FAILURES,
            message: format!(
                "{} of its last {} attempts failed: look at the errors of its tasks and mend the worker; one task at a \
                 time is started to see",
                self.failures,
                self.lately.len()
            ),
        }
    }

    /// All that runs, and what is left of its rate, for whoever comes next; none as long as nobody knows.
    pub(crate) fn used(&mut self, now: Duration) -> Option<Used> {
        Some(Used {
            starts_left: self.starts.as_mut().map(|starts| starts.left(now)),
            ..self.slots.used()?
        })
    }

    /// Whether there is nothing to do for it.
    pub(crate) fn is_idle(&self, waits_for_retries: bool, until_ms: i64) -> bool {
        let waits = self
            .next_due_ms
            .is_some_and(|due| waits_for_retries || due <= until_ms);
        let queue_is_done = match self.labourer.is_held() {
            true => self.queue_was_read,
            false => self.queue_is_empty && self.line.is_empty(),
        };
        queue_is_done
            && self.slots.own() == 0
            && self.slots.unseen_until().is_none()
            && self.slots.foreign() == 0
            && self.retry_was_read
            && self.requeueing == 0
            && !waits
    }

    /// How it is doing.
    pub(crate) fn sample(&self, marks: Marks) -> Sample {
        let front = self.line.front();
        Sample {
            labourer_id: self.id.clone(),
            running: self.slots.own().saturating_add(self.slots.foreign()),
            oldest: front.map(|front| marks.queued_for(front)),
            held_up: front.and(self.suspension.as_ref().map(|suspension| suspension.why.clone())),
        }
    }

    /// The queue is to be read from its front, now.
    pub(crate) fn look_at_front(&mut self, now: Duration) {
        if !self.look.under_way {
            self.look.after = None;
            self.look.next_at = self.look.next_at.min(now);
        }
    }

    /// Where the queue begins was read.
    pub(crate) fn front_seen(&mut self, first: Option<Greenfield>, now: Duration) {
        if std::mem::take(&mut self.wants_front) {
            self.front = Some((first, now + REMEMBERED));
            self.retry.next_at = now;
        }
    }

    /// The first of so many places in front of the queue, a second apart; none: where it begins has to be looked at,
    /// and the retry table is read again then. `step` is where an empty queue begins.
    pub(crate) fn places_in_front(&mut self, count: i128, step: u64, now: Duration) -> Option<Greenfield> {
        const SECOND: i128 = 1_000_000_000;
        if count == 0 {
            return None;
        }
        let Some((front, _)) = self.front.take().filter(|(_, until)| *until > now) else {
            self.wants_front = true;
            return None;
        };
        // Whole seconds, as sosw has them.
        let front = front.map_or(i128::from(step), |front| front.nanos() / SECOND);
        let first = Greenfield::from_nanos((front - count) * SECOND);
        // The index may not show them yet when more are put there.
        self.front = Some((Some(first), now + REMEMBERED));
        Some(first)
    }
}
