//! One queue: messages that can be received, and messages that can't just now.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock;
use crate::random::request_id;

/// What a queue is told when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    /// How long a message that was received is hidden.
    pub(super) visibility: Duration,
    /// How long a message that was sent is hidden.
    pub(super) delay: Duration,
    /// How long a receiver waits who does not say so himself.
    pub(super) wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            visibility: Duration::from_secs(30),
            delay: Duration::ZERO,
            wait: Duration::ZERO,
        }
    }
}

/// How many messages there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// That can be received.
    pub(super) visible: usize,
    /// That were received and not deleted.
    pub(super) in_flight: usize,
    /// That were sent with a delay.
    pub(super) delayed: usize,
}

/// A message as a receiver gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) id: String,
    pub(super) handle: String,
    pub(super) body: String,
    pub(super) sent_ms: u128,
    pub(super) first_received_ms: u128,
    pub(super) count: u64,
}

/// What a receipt handle can be wrong in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHandle {
    /// It is none of this queue.
    Invalid,
    /// Its message is not hidden now, or is gone.
    NotInFlight,
}

#[derive(Debug)]
struct Message {
    id: String,
    body: String,
    sent_ms: u128,
    first_received_ms: u128,
    /// How often it was received; names the last receipt.
    count: u64,
    /// Until when it is hidden, if it is.
    hidden: Option<Instant>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By the number under which they were sent.
    messages: HashMap<u64, Message>,
    visible: VecDeque<u64>,
    hidden: BTreeSet<(Instant, u64)>,
    sent: u64,
}

impl Inner {
    /// Shows what has been hidden long enough.
    fn show(&mut self, now: Instant) {
        while let Some(&(until, number)) = self.hidden.first() {
            if until > now {
                break;
            }
            self.hidden.pop_first();
            if let Some(message) = self.messages.get_mut(&number) {
                message.hidden = None;
                self.visible.push_back(number);
            }
        }
    }

    /// Hides a message from now on; for no time at all it is visible at once.
    fn hide(&mut self, number: u64, now: Instant, time: Duration) {
        let Some(message) = self.messages.get_mut(&number) else {
            return;
        };
        if let Some(until) = message.hidden.take() {
            self.hidden.remove(&(until, number));
        }
        if time.is_zero() {
            self.visible.push_back(number);
        } else {
            message.hidden = Some(now + time);
            self.hidden.insert((now + time, number));
        }
    }
}

/// A queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) settings: Settings,
    /// Seconds since 1970.
    pub(super) created: u64,
    inner: Mutex<Inner>,
    /// Something became visible, or is hidden for another time.
    changed: Notify,
}

impl Queue {
    pub(super) fn new(settings: Settings, created: u64) -> Self {
        Self {
            settings,
            created,
            inner: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message; returns its id.
    pub(super) fn send(&self, body: String, delay: Option<Duration>) -> String {
        let id = request_id();
        let message = Message {
            id: id.clone(),
            body,
            sent_ms: now_ms(),
            first_received_ms: 0,
            count: 0,
            hidden: None,
        };
        {
            let mut inner = self.lock();
            inner.sent += 1;
            let number = inner.sent;
            inner.messages.insert(number, message);
            inner.hide(number, clock::instant(), delay.unwrap_or(self.settings.delay));
        }
        self.changed.notify_waiters();
        id
    }

    /// Up to `most` messages; waits up to `wait` for the first one.
    pub(super) async fn receive(&self, most: usize, visibility: Duration, wait: Duration) -> Vec<Received> {
        let until = clock::instant() + wait;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Listens before it looks, so that what comes in between is not missed.
            changed.as_mut().enable();
            let now = clock::instant();
            let (found, next) = self.take(most, visibility, now);
            if !found.is_empty() || now >= until {
                return found;
            }
            let wake = next.map_or(until, |next| next.min(until));
            tokio::select! {
                () = &mut changed => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// Up to `most` messages, and when the next hidden one can be seen again.
    fn take(&self, most: usize, visibility: Duration, now: Instant) -> (Vec<Received>, Option<Instant>) {
        let mut inner = self.lock();
        inner.show(now);
        let (mut found, mut numbers) = (Vec::new(), Vec::new());
        while found.len() < most {
            let Some(number) = inner.visible.pop_front() else {
                break;
            };
            // Deleted ones leave their number behind.
            let Some(message) = inner.messages.get_mut(&number) else {
                continue;
            };
            message.count += 1;
            if message.count == 1 {
                message.first_received_ms = now_ms();
            }
            found.push(Received {
                id: message.id.clone(),
                handle: format!("{number}.{}", message.count),
                body: message.body.clone(),
                sent_ms: message.sent_ms,
                first_received_ms: message.first_received_ms,
                count: message.count,
            });
            numbers.push(number);
        }
        // Only now: what is hidden for no time at all would come again.
        for number in numbers {
            inner.hide(number, now, visibility);
        }
        (found, inner.hidden.first().map(|&(until, _)| until))
    }

    /// Deletes a message. A message that is gone is deleted already; an old receipt of one that was received again does
    /// not delete it, as SQS says of standard queues.
    pub(super) fn delete(&self, handle: &str) -> Result<(), BadHandle> {
        let mut inner = self.lock();
        inner.show(clock::instant());
        let (number, count) = parse(handle, inner.sent)?;
        if inner
            .messages
            .get(&number)
            .is_some_and(|message| message.count == count)
            && let Some(message) = inner.messages.remove(&number)
        {
            match message.hidden {
                Some(until) => {
                    inner.hidden.remove(&(until, number));
                }
                None => inner.visible.retain(|visible| *visible != number),
            }
        }
        Ok(())
    }

    /// Hides a message that was received for another time, from now on.
    pub(super) fn change_visibility(&self, handle: &str, time: Duration) -> Result<(), BadHandle> {
        {
            let mut inner = self.lock();
            let now = clock::instant();
            inner.show(now);
            let (number, count) = parse(handle, inner.sent)?;
            let in_flight = inner
                .messages
                .get(&number)
                .is_some_and(|message| message.count == count && message.hidden.is_some());
            if !in_flight {
                return Err(BadHandle::NotInFlight);
            }
            inner.hide(number, now, time);
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// Deletes everything.
    pub(super) fn purge(&self) {
        let mut inner = self.lock();
        inner.messages.clear();
        inner.visible.clear();
        inner.hidden.clear();
    }

    pub(super) fn counts(&self) -> Counts {
        let mut inner = self.lock();
        inner.show(clock::instant());
        let hidden = inner.hidden.len();
        let received = |(_, number): &&(Instant, u64)| {
            let message = inner.messages.get(number);
            message.is_some_and(|message| message.count > 0)
        };
        let in_flight = inner.hidden.iter().filter(received).count();
        Counts {
            visible: inner.visible.len(),
            in_flight,
            delayed: hidden - in_flight,
        }
    }
}

/// A handle is the number of its message and which receipt it was.
fn parse(handle: &str, sent: u64) -> Result<(u64, u64), BadHandle> {
    let parts = handle.split_once('.').and_then(|(number, count)| {
        let number: u64 = number.parse().ok()?;
        Some((number, count.parse().ok()?))
    });
    let valid = |(number, count): &(u64, u64)| (1..=sent).contains(number) && *count > 0;
    parts.filter(valid).ok_or(BadHandle::Invalid)
}

fn now_ms() -> u128 {
    let now = clock::system_time().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_millis()
}
