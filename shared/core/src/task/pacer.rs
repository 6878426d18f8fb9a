//! How fast to write: a decision made from what the table answered, without a clock of its own.
//!
//! Two bounds at once. The *limit* is how many requests may be under way: up by one when it was reached and answers are
//! healthy, halved on back-pressure. The *rate* is how many write units a second may be sent: unknown until the table
//! pushes back for the first time, then what it took, a little less at once and a little more each second. The limit
//! alone could not do it: at 5 ms a request even one request at a time is more than a partition takes.

use std::time::Duration;

/// A bound on what is under way at most: enough for 40,000 tasks a second at 40 ms a request.
pub const MAX_LIMIT: u32 = 64;
const FIRST_LIMIT: u32 = 4;
/// What is left of the rate after back-pressure.
const CUT: f64 = 0.9;
/// By how much the rate grows each second while the table takes everything.
const GROWTH: f64 = 0.04;
/// Slower than this the rate is never cut: one batch in a few seconds finds out when the table takes more.
const LOWEST_RATE: f64 = 5.0;
/// Over what time the accepted rate is measured.
const WINDOW: Duration = Duration::from_secs(1);
/// How much may be sent at once after a pause, in seconds of the rate.
const BURST_SECONDS: f64 = 0.05;

/// When the next request may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Send {
    /// Now.
    Now,
    /// Not before that moment.
    At(Duration),
    /// When one of those under way was answered.
    AfterAnAnswer,
}

/// Decides the pace of writes. Times are monotonic, from any fixed moment.
#[derive(Debug, Clone)]
pub struct Pacer {
    limit: f64,
    max_limit: f64,
    /// Units a second; none: only the limit counts.
    rate: Option<f64>,
    /// Units that may be sent now; negative: owed.
    tokens: f64,
    filled_at: Duration,
    last_cut: Option<Duration>,
    accepted: Meter,
    backoff: u32,
    /// Cuts in a row for want of a definite answer.
    failures: u32,
    last_failure: Option<Duration>,
    /// Nothing goes out before then.
    paused_until: Duration,
}

impl Pacer {
    /// A pace with at most `max_limit` requests under way.
    pub fn new(max_limit: u32, now: Duration) -> Self {
        let max_limit = f64::from(max_limit.max(1));
        Self {
            limit: f64::from(FIRST_LIMIT).min(max_limit),
            max_limit,
            rate: None,
            tokens: 0.0,
            filled_at: now,
            last_cut: None,
            accepted: Meter::new(now),
            backoff: 0,
            failures: 0,
            last_failure: None,
            paused_until: Duration::ZERO,
        }
    }

    /// Whether another request may go out, with `in_flight` under way.
    pub fn may_send(&mut self, now: Duration, in_flight: usize) -> Send {
        if in_flight as f64 >= self.limit.floor().max(1.0) {
            return Send::AfterAnAnswer;
        }
        if now < self.paused_until {
            return Send::At(self.paused_until);
        }
        let Some(rate) = self.rate else { return Send::Now };
        let elapsed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        self.tokens = (self.tokens + elapsed * rate).min((rate * BURST_SECONDS).max(1.0));
        if self.tokens > 0.0 {
            Send::Now
        } else {
            Send::At(now + Duration::from_secs_f64((-self.tokens / rate).max(0.000_5)))
        }
    }

    /// A request of `units` write units goes out.
    pub fn sent(&mut self, units: u64) {
        if self.rate.is_some() {
            // What does not fit is owed: a batch larger than the burst still goes out, and the next one waits longer.
            self.tokens -= units as f64;
        }
    }

    /// A request that went out at `sent_at` was answered: so many units were taken, so many pushed back.
    /// `in_flight` is how many were under way with it.
    pub fn answered(
        &mut self,
        now: Duration,
        sent_at: Duration,
        in_flight: usize,
        taken: u64,
        pushed_back: u64,
    ) {
        self.accepted.add(now, taken as f64);
        if taken > 0 || pushed_back > 0 {
            // The service answers again.
            self.failures = 0;
            self.paused_until = Duration::ZERO;
        }
        if pushed_back > 0 {
            // Answers to what was sent before the last cut say nothing of the pace after it.
            if self.last_cut.is_none_or(|cut| sent_at > cut) {
                self.cut(now);
            }
            return;
        }
        if taken == 0 {
            return;
        }
        self.backoff = 0;
        if in_flight as f64 >= self.limit.floor() {
            self.limit = (self.limit + 1.0).min(self.max_limit);
        }
        if let Some(rate) = self.rate {
            // Units taken, as a share of a second's worth: so much of a second's growth.
            self.rate = Some(rate * (1.0 + GROWTH * (taken as f64 / rate).min(1.0)));
        }
    }

    /// A request that went out at `sent_at` got no definite answer: a service that fails at once must not be asked more
    /// and more often. Half as many go out at once, and none before a pause that grows with each failure in a row;
    /// `jitter` is from 0 to 1.
    pub fn unanswered(&mut self, now: Duration, sent_at: Duration, jitter: f64) {
        if self.last_failure.is_some_and(|failure| sent_at <= failure) {
            return;
        }
        self.last_failure = Some(now);
        self.failures = (self.failures + 1).min(8);
        self.limit = (self.limit / 2.0).max(1.0);
        self.paused_until = self.paused_until.max(now + self.backoff(jitter));
    }

    fn cut(&mut self, now: Duration) {
        self.last_cut = Some(now);
        self.backoff = (self.backoff + 1).min(8);
        self.limit = (self.limit / 2.0).max(1.0);
        let measured = self.accepted.rate(now);
        // Before anything was measured the known rate is all there is to cut.
        let known = self.rate.unwrap_or(f64::INFINITY);
        let base = if measured > 0.0 {
            measured.min(known)
        } else {
            known / 2.0
        };
        let rate = (base * CUT).max(LOWEST_RATE);
        if rate.is_finite() {
            self.rate = Some(rate);
            self.tokens = self.tokens.min(0.0);
            self.filled_at = self.filled_at.max(now);
        }
    }

    /// How long what was pushed back should wait before it is sent again; `jitter` is from 0 to 1.
    pub fn backoff(&self, jitter: f64) -> Duration {
        let longest = 0.025 * f64::from(1_u32 << self.backoff.max(self.failures).min(8));
        Duration::from_secs_f64(longest * (0.5 + jitter.clamp(0.0, 1.0) / 2.0))
    }

    /// Requests under way at most.
    pub fn limit(&self) -> u32 {
        // Between 1 and `MAX_LIMIT`.
        self.limit as u32
    }

    /// Units a second at most, if that is known.
    pub const fn rate(&self) -> Option<f64> {
        self.rate
    }
}

/// What was accepted in the last window.
#[derive(Debug, Clone)]
struct Meter {
    since: Duration,
    units: f64,
    before: f64,
}

impl Meter {
    const fn new(now: Duration) -> Self {
        Self {
            since: now,
            units: 0.0,
            before: 0.0,
        }
    }

    fn roll(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.since);
        if passed >= WINDOW {
            // A window and more without an answer: what was measured before it is too old to count.
            self.before = if passed < WINDOW * 2 {
                self.units / passed.as_secs_f64()
            } else {
                0.0
            };
            self.units = 0.0;
            self.since = now;
        }
    }

    fn add(&mut self, now: Duration, units: f64) {
        self.roll(now);
        self.units += units;
    }

    fn rate(&mut self, now: Duration) -> f64 {
        self.roll(now);
        let passed = now.saturating_sub(self.since).as_secs_f64();
        if self.before > 0.0 {
            // The part of the window that has passed counts for itself, the last window for the rest.
            let share = passed / WINDOW.as_secs_f64();
            self.units + self.before * (1.0 - share)
        } else {
            self.units / passed.max(0.05)
        }
    }
}
