//! SIGINT and SIGTERM: the first one makes time short for the engine, which gives its lock back; the second one ends
//! the process at once.

use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jobmill_aws::SystemHost;
use jobmill_engine::ports::{Clock, Random};
use tokio::sync::watch;

/// A signal that asks the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// What `kill`, systemd and Kubernetes send.
    Terminate,
}

impl Signal {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// 128 and the number of the signal, as shells count it.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// Whether this process was asked to end.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<Option<Signal>>);

impl Stop {
    /// Listens for signals from now on. `first` is told of the first one; the second one ends the process after
    /// `second` was told of it.
    ///
    /// # Errors
    /// If the system refuses to tell of signals.
    pub(crate) fn listen(
        first: impl FnOnce(Signal) + Send + 'static,
        second: impl FnOnce(Signal) + Send + 'static,
    ) -> io::Result<Self> {
        let mut signals = Signals::listen()?;
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            let signal = signals.next().await;
            first(signal);
            sender.send_replace(Some(signal));
            let signal = signals.next().await;
            second(signal);
            process::exit(signal.exit_code().into());
        });
        Ok(Self(receiver))
    }

    /// The signal that came, if one did.
    pub(crate) fn signal(&self) -> Option<Signal> {
        *self.0.borrow()
    }

    /// Returns when a signal has come.
    pub(crate) async fn requested(&self) -> Signal {
        let mut receiver = self.0.clone();
        let signal = receiver
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|signal| *signal);
        match signal {
            Some(signal) => signal,
            // Nobody listens any more, so none will come.
            None => std::future::pending().await,
        }
    }
}

/// Signals as they come.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Signal::Interrupt,
            Some(()) = self.terminate.recv() => Signal::Terminate,
            else => std::future::pending().await,
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}

/// The machine that this process runs on, until somebody asks the process to end.
pub(crate) struct StoppableHost {
    host: SystemHost,
    stop: Stop,
    /// To go on is of no use.
    given_up: AtomicBool,
}

impl StoppableHost {
    pub(crate) fn new(stop: Stop) -> Self {
        Self {
            host: SystemHost::new(),
            stop,
            given_up: AtomicBool::new(false),
        }
    }

    /// From now on time is short, as after a signal.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

impl Clock for StoppableHost {
    fn wall_ms(&self) -> i64 {
        self.host.wall_ms()
    }

    fn monotonic(&self) -> Duration {
        self.host.monotonic()
    }

    /// A signal cuts short what began before it. What begins after it, such as the pause before the lock is written
    /// again, takes its time.
    async fn sleep(&self, duration: Duration) {
        if self.stop.signal().is_some() {
            return self.host.sleep(duration).await;
        }
        tokio::select! {
            () = self.host.sleep(duration) => {}
            _ = self.stop.requested() => {}
        }
    }

    fn should_stop(&self) -> bool {
        self.stop.signal().is_some() || self.given_up.load(Ordering::Relaxed)
    }
}

impl Random for StoppableHost {
    fn random(&self) -> u128 {
        self.host.random()
    }
}
