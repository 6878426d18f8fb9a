//! A sandbox: a future on a machine that is polled, frozen and killed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use jobmill_memory::VirtualHost;

use super::faults::{Connection, Network};

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An invocation under way.
pub(super) struct Machine<T> {
    running: Pin<Box<dyn Future<Output = T>>>,
    pub(super) connection: Arc<Connection>,
    host: VirtualHost,
    woken: Arc<Woken>,
    thaws_at: Option<Duration>,
    killed_at: Duration,
}

/// What came of a turn.
pub(super) enum Turn<T> {
    /// It can't go on for now.
    Waits,
    /// It has gone on.
    Moved,
    /// It is over; none: it died, or was killed.
    Over(Option<T>),
}

impl<T> Machine<T> {
    pub(super) fn new(
        running: Pin<Box<dyn Future<Output = T>>>,
        connection: Arc<Connection>,
        host: VirtualHost,
        lifetime: Duration,
    ) -> Self {
        let clock = &connection.network.clock;
        let killed_at = clock.now() + lifetime;
        clock.schedule(killed_at, || {});
        Self {
            running,
            connection,
            host,
            woken: Arc::new(Woken(AtomicBool::new(true))),
            thaws_at: None,
            killed_at,
        }
    }

    /// Lets it go on, if it can.
    pub(super) fn turn(&mut self, frozen_rate: u64) -> Turn<T> {
        let network = Arc::clone(&self.connection.network);
        let now = network.clock.now();
        let frozen = self.thaws_at.is_some_and(|thaw| now < thaw);
        let killed = self.killed_at <= now;
        if frozen || !(killed || self.woken.0.swap(false, Ordering::Relaxed)) {
            return Turn::Waits;
        }
        // One that has just woken up is not frozen again before it has done something.
        let thawed = self.thaws_at.take().is_some();
        if !thawed && !killed && network.strikes(frozen_rate) {
            let frozen_for = network.freeze();
            self.freeze(&network, frozen_for);
            return Turn::Moved;
        }
        if killed {
            return Turn::Over(None);
        }
        let waker = Waker::from(Arc::clone(&self.woken));
        let polled = self.running.as_mut().poll(&mut Context::from_waker(&waker));
        if self.connection.dead.load(Ordering::Relaxed) {
            return Turn::Over(None);
        }
        if let Poll::Ready(answer) = polled {
            return Turn::Over(Some(answer));
        }
        if let Some(frozen_for) = self.connection.take_freeze() {
            self.freeze(&network, frozen_for);
        }
        Turn::Moved
    }

    fn freeze(&mut self, network: &Network, frozen_for: Duration) {
        let now = network.clock.now();
        match network.rng.below(3) {
            0 => self.host.miss_monotonic(frozen_for),
            1 => self.host.miss_wall(frozen_for),
            _ => {}
        }
        self.thaws_at = Some(now + frozen_for);
        self.killed_at += frozen_for;
        self.woken.0.store(true, Ordering::Relaxed);
        for moment in [now + frozen_for, self.killed_at] {
            network.clock.schedule(moment, || {});
        }
        network.log.tell(now, || {
            format!("#{} is frozen for {frozen_for:?}", self.connection.invocation)
        });
    }
}
