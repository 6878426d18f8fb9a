//! Virtual time, and machines on it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use jobmill_engine::ports::{Clock, Random};

use crate::{EPOCH_MS, Rng, locked};

/// Virtual time and what is to happen in it. Clones share it. It moves only when it is told to.
#[derive(Clone, Default)]
pub struct VirtualClock(Arc<Mutex<Timeline>>);

#[derive(Default)]
struct Timeline {
    now: Duration,
    scheduled: u64,
    stamps: u64,
    /// By moment, then in the order of scheduling.
    events: BTreeMap<(Duration, u64), Event>,
}

enum Event {
    Wake(Waker),
    Run(Box<dyn FnOnce() + Send>),
}

/// Nothing is left that could ever wake the future that was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the future waits for something that will never happen")]
pub struct Stuck;

impl VirtualClock {
    /// Time since the beginning of virtual time.
    pub fn now(&self) -> Duration {
        locked(&self.0).now
    }

    /// A number larger than any that was given before: it orders what happens at the same moment.
    pub fn stamp(&self) -> u64 {
        let mut timeline = locked(&self.0);
        timeline.stamps += 1;
        timeline.stamps
    }

    /// Lets `event` happen at `at`, or at the next step if that is past. It happens whoever is still waiting for it:
    /// a request that is under way outlives its sender.
    pub fn schedule(&self, at: Duration, event: impl FnOnce() + Send + 'static) {
        locked(&self.0).add(at, Event::Run(Box::new(event)));
    }

    /// Resolves once virtual time is at least `deadline`.
    pub fn sleep_until(&self, deadline: Duration) -> VirtualSleep {
        VirtualSleep {
            clock: self.clone(),
            deadline,
            place: None,
        }
    }

    /// Moves on to the next event and lets it happen. `false` if there is none.
    pub fn step(&self) -> bool {
        let event = {
            let mut timeline = locked(&self.0);
            let Some(((at, _), event)) = timeline.events.pop_first() else {
                return false;
            };
            timeline.now = timeline.now.max(at);
            event
        };
        match event {
            Event::Wake(waker) => waker.wake(),
            Event::Run(event) => event(),
        }
        true
    }

    /// Moves on by `by`, with all that happens on the way.
    pub fn advance(&self, by: Duration) {
        let until = self.now() + by;
        while self.next_event().is_some_and(|at| at <= until) {
            self.step();
        }
        locked(&self.0).now = until;
    }

    /// The moment of the next event.
    pub fn next_event(&self) -> Option<Duration> {
        locked(&self.0).events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Drives a future on this thread, moving on whenever it can't. Several futures run together as one (`join!`,
    /// `FuturesUnordered`); dropping one is its crash.
    ///
    /// # Errors
    /// [`Stuck`] if it waits and no event is left.
    pub fn run<F: Future>(&self, future: F) -> Result<F::Output, Stuck> {
        let mut future = pin!(future);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            while woken.0.swap(false, Ordering::Relaxed) {
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return Ok(output);
                }
            }
            if !self.step() {
                return Err(Stuck);
            }
        }
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timeline = locked(&self.0);
        f.debug_struct("VirtualClock")
            .field("now", &timeline.now)
            .field("events", &timeline.events.len())
            .finish()
    }
}

impl Timeline {
    fn add(&mut self, at: Duration, event: Event) -> (Duration, u64) {
        let place = (at.max(self.now), self.scheduled);
        self.scheduled += 1;
        self.events.insert(place, event);
        place
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A sleep in virtual time. Leaves nothing behind when dropped.
#[derive(Debug)]
pub struct VirtualSleep {
    clock: VirtualClock,
    deadline: Duration,
    place: Option<(Duration, u64)>,
}

impl Future for VirtualSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut timeline = locked(&clock.0);
        if let Some(place) = self.place.take() {
            timeline.events.remove(&place);
        }
        if timeline.now >= self.deadline {
            return Poll::Ready(());
        }
        self.place = Some(timeline.add(self.deadline, Event::Wake(context.waker().clone())));
        Poll::Pending
    }
}

impl Drop for VirtualSleep {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            locked(&self.clock.0).events.remove(&place);
        }
    }
}

/// A machine on virtual time.
#[derive(Debug, Clone)]
pub struct VirtualHost {
    clock: VirtualClock,
    rng: Rng,
    skew_ms: i64,
    missed: Arc<Mutex<Missed>>,
}

/// How much time each clock of a machine has missed while the machine was frozen.
#[derive(Debug, Clone, Copy, Default)]
struct Missed {
    wall: Duration,
    monotonic: Duration,
}

impl VirtualHost {
    /// A machine whose wall clock is right and whose chance comes from `seed`.
    pub fn new(clock: VirtualClock, seed: u64) -> Self {
        Self {
            clock,
            rng: Rng::new(seed),
            skew_ms: 0,
            missed: Arc::default(),
        }
    }

    /// A machine whose wall clock is wrong by so many milliseconds.
    pub fn with_skew_ms(self, skew_ms: i64) -> Self {
        Self { skew_ms, ..self }
    }

    /// The monotonic clock has stood still for so long.
    pub fn miss_monotonic(&self, for_so_long: Duration) {
        locked(&self.missed).monotonic += for_so_long;
    }

    /// The wall clock has stood still for so long.
    pub fn miss_wall(&self, for_so_long: Duration) {
        locked(&self.missed).wall += for_so_long;
    }
}

impl Clock for VirtualHost {
    fn wall_ms(&self) -> i64 {
        let elapsed = self.clock.now().saturating_sub(locked(&self.missed).wall);
        let elapsed = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
        EPOCH_MS.saturating_add(elapsed).saturating_add(self.skew_ms)
    }

    fn monotonic(&self) -> Duration {
        self.clock.now().saturating_sub(locked(&self.missed).monotonic)
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        self.clock.sleep_until(self.clock.now() + duration)
    }
}

impl Random for VirtualHost {
    fn random(&self) -> u128 {
        u128::from(self.rng.bits()) << 64 | u128::from(self.rng.bits())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures_util::future::{join, join_all, pending};

    use super::*;

    #[test]
    fn sleeps_end_in_the_order_of_their_deadlines() {
        let clock = VirtualClock::default();
        let host = VirtualHost::new(clock.clone(), 0);
        let order = RefCell::new(Vec::new());
        let sleeper = |seconds: u64| {
            let (host, order) = (&host, &order);
            async move {
                host.sleep(Duration::from_secs(seconds)).await;
                order.borrow_mut().push((seconds, host.monotonic().as_secs()));
            }
        };
        clock.run(join_all([3, 1, 2].map(sleeper))).unwrap();
        assert_eq!(order.into_inner(), [(1, 1), (2, 2), (3, 3)]);
        assert_eq!(host.wall_ms(), EPOCH_MS + 3000);
    }

    #[test]
    fn a_future_that_waits_for_nothing_is_stuck() {
        assert_eq!(VirtualClock::default().run(pending::<()>()), Err(Stuck));
    }

    #[test]
    fn what_is_scheduled_happens_though_its_sender_is_gone() {
        let clock = VirtualClock::default();
        let happened = Arc::new(AtomicBool::new(false));
        let late = Arc::clone(&happened);
        clock.schedule(Duration::from_secs(5), move || {
            late.store(true, Ordering::Relaxed)
        });
        clock.advance(Duration::from_secs(4));
        assert!(!happened.load(Ordering::Relaxed));
        clock.advance(Duration::from_secs(1));
        assert!(happened.load(Ordering::Relaxed));
    }

    #[test]
    fn a_dropped_sleep_leaves_nothing_behind() {
        let clock = VirtualClock::default();
        let sleep = clock.sleep_until(Duration::from_secs(9));
        let (_, ()) = clock
            .run(join(
                async { drop(sleep) },
                clock.sleep_until(Duration::from_secs(1)),
            ))
            .unwrap();
        assert_eq!(clock.next_event(), None);
        assert_eq!(clock.now(), Duration::from_secs(1));
    }

    #[test]
    fn the_same_seed_gives_the_same_chance() {
        let host = |seed| VirtualHost::new(VirtualClock::default(), seed);
        let (one, same, other) = (host(1), host(1), host(2));
        let (first, second) = (one.random(), one.random());
        assert_eq!((first, second), (same.random(), same.random()));
        assert_ne!(first, second);
        assert_ne!(first, other.random());
    }
}
