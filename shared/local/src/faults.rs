//! What goes wrong, on purpose: rules that pick requests and say what happens to them, and write rates of tables.
//! Everything can be changed while the cloud runs; the choice by chance is seeded.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock;
use crate::random::Random;

/// A service of the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Objects.
    S3,
    /// Tables.
    DynamoDb,
    /// Functions.
    Lambda,
    /// Queues.
    Sqs,
}

/// What happens to a request that a rule picks.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Effect {
    /// Waits between `min` and `max` before it is executed. Delays of several rules add up.
    Delay {
        /// The shortest delay.
        min: Duration,
        /// The longest delay.
        max: Duration,
    },
    /// Waits until the rule is removed, then goes on: lets a test choose the order of what races.
    Hold,
    /// Answers with status 500; nothing is executed.
    Error,
    /// The connection is closed; nothing is executed.
    Refuse,
    /// Is executed, then the connection is closed without an answer.
    LoseAnswer,
    /// The connection is closed at once, and the request is executed after the delay.
    Late(Duration),
    /// S3: 503 `SlowDown`. DynamoDB: `ProvisionedThroughputExceededException`; in BatchExecuteStatement
    /// `ThrottlingError` for each statement, in TransactWriteItems a cancellation with reason `ThrottlingError`.
    /// Lambda: 429 `TooManyRequestsException`. SQS: `RequestThrottled`.
    Throttle,
    /// DynamoDB batches: this share of the items, picked by chance, comes back as unprocessed (BatchWriteItem) or
    /// with `ThrottlingError` (BatchExecuteStatement); the others are executed.
    Unprocessed(f64),
    /// S3: a conditional write is answered with 409 `ConditionalRequestConflict`; others go on.
    Conflict,
    /// Lambda: an `Event` invocation is answered with 202, and nothing runs.
    LoseInvoke,
    /// Lambda: an `Event` invocation runs twice, at once, with the same request id.
    DoubleInvoke,
}

/// Which requests, how often, and what happens to them.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    service: Service,
    operation: Option<String>,
    resource: Option<String>,
    chance: f64,
    skip: u64,
    times: Option<u64>,
    effect: Effect,
}

impl Rule {
    /// A rule for each request to `service`.
    #[must_use]
    pub fn new(service: Service, effect: Effect) -> Self {
        Self {
            service,
            operation: None,
            resource: None,
            chance: 1.0,
            skip: 0,
            times: None,
            effect,
        }
    }

    /// Only this operation, as the API reference names it: `PutObject`, `BatchExecuteStatement`, `Invoke`.
    #[must_use]
    pub fn on(mut self, operation: impl Into<String>) -> Self {
        self.operation = Some(operation.into());
        self
    }

    /// Only requests that name this: a part of the path (S3: `/bucket/key`; Lambda: the function) or of the body
    /// (DynamoDB: a table, a key; SQS: a queue).
    #[must_use]
    pub fn naming(mut self, part: impl Into<String>) -> Self {
        self.resource = Some(part.into());
        self
    }

    /// With this probability, between 0 and 1. Default: always.
    #[must_use]
    pub fn chance(mut self, chance: f64) -> Self {
        self.chance = chance;
        self
    }

    /// Lets the first `count` of these requests pass.
    #[must_use]
    pub fn after(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// At most so many times. Default: without end.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.times = Some(count);
        self
    }
}

/// Names a rule, to remove it or to ask how often it fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleId(u64);

/// How fast a table takes writes: a token bucket, as DynamoDB keeps one per table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WriteRate {
    /// Write units (1 KB each, begun ones count) that come back per second.
    pub units_per_second: f64,
    /// Write units that are there at the start, and at most.
    pub burst: f64,
}

#[derive(Debug)]
struct Bucket {
    rate: WriteRate,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn take(&mut self, units: f64, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * self.rate.units_per_second;
        self.tokens = (self.tokens + gained).min(self.rate.burst);
        self.filled = now;
        // An item that is larger than the whole burst passes when the bucket is full, or it never would.
        let enough = self.tokens >= units.min(self.rate.burst);
        if enough {
            self.tokens -= units;
        }
        enough
    }
}

#[derive(Debug)]
struct Active {
    id: RuleId,
    rule: Rule,
    seen: u64,
    fired: watch::Sender<u64>,
    /// Dropped with the rule: requests that it holds wait for that.
    alive: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Rules {
    next: u64,
    rules: Vec<Active>,
    /// How often removed rules had fired.
    gone: HashMap<RuleId, u64>,
    buckets: HashMap<String, Bucket>,
}

#[derive(Debug)]
struct Inner {
    active: AtomicBool,
    rules: Mutex<Rules>,
    random: Random,
}

/// The injector of faults. Cheap to clone; all clones share one state.
#[derive(Debug, Clone)]
pub struct Faults(Arc<Inner>);

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        let inner = Inner {
            active: AtomicBool::new(false),
            rules: Mutex::default(),
            random: Random::new(seed),
        };
        Self(Arc::new(inner))
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.0.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update<T>(&self, change: impl FnOnce(&mut Rules) -> T) -> T {
        let mut rules = self.rules();
        let result = change(&mut rules);
        self.0.active.store(
            !rules.rules.is_empty() || !rules.buckets.is_empty(),
            Ordering::Release,
        );
        result
    }

    /// Adds a rule. Rules are asked in the order in which they were added; the first that ends a request wins.
    pub fn add(&self, rule: Rule) -> RuleId {
        self.update(|rules| {
            rules.next += 1;
            let id = RuleId(rules.next);
            let active = Active {
                id,
                rule,
                seen: 0,
                fired: watch::Sender::new(0),
                alive: watch::Sender::new(()),
            };
            rules.rules.push(active);
            id
        })
    }

    /// Removes a rule; requests that it holds go on.
    pub fn remove(&self, id: RuleId) {
        self.update(|rules| {
            if let Some(index) = rules.rules.iter().position(|active| active.id == id) {
                let active = rules.rules.remove(index);
                rules.gone.insert(id, *active.fired.borrow());
            }
        });
    }

    /// Removes all rules and write rates.
    pub fn clear(&self) {
        self.update(|rules| {
            let gone: Vec<_> = rules
                .rules
                .drain(..)
                .map(|active| (active.id, *active.fired.borrow()))
                .collect();
            rules.gone.extend(gone);
            rules.buckets.clear();
        });
    }

    /// How often a rule has fired, also after it was removed.
    #[must_use]
    pub fn fired(&self, id: RuleId) -> u64 {
        let rules = self.rules();
        let active = rules
            .rules
            .iter()
            .find(|active| active.id == id)
            .map(|active| *active.fired.borrow());
        active.or_else(|| rules.gone.get(&id).copied()).unwrap_or(0)
    }

    /// Waits until a rule has fired at least `count` times. Returns false if the rule was removed before.
    pub async fn wait_fired(&self, id: RuleId, count: u64) -> bool {
        let fired = self
            .rules()
            .rules
            .iter()
            .find(|active| active.id == id)
            .map(|active| active.fired.subscribe());
        match fired {
            Some(mut fired) => fired.wait_for(|fired| *fired >= count).await.is_ok(),
            None => self.fired(id) >= count,
        }
    }

    /// Limits the writes of a table; a later call replaces the rate and fills the bucket.
    pub fn limit_writes(&self, table: impl Into<String>, rate: WriteRate) {
        let bucket = Bucket {
            rate,
            tokens: rate.burst,
            filled: clock::instant(),
        };
        self.update(|rules| rules.buckets.insert(table.into(), bucket));
    }

    /// Takes the limit off a table.
    pub fn unlimit_writes(&self, table: &str) {
        self.update(|rules| rules.buckets.remove(table));
    }

    /// Starts the sequence of choices anew.
    pub fn reseed(&self, seed: u64) {
        self.0.random.reseed(seed);
    }

    pub(crate) fn is_active(&self) -> bool {
        self.0.active.load(Ordering::Acquire)
    }

    pub(crate) fn random(&self) -> &Random {
        &self.0.random
    }

    /// Takes write units from a table's bucket; true if the table has none or has enough.
    pub(crate) fn take_units(&self, table: &str, units: f64) -> bool {
        let now = clock::instant();
        self.rules()
            .buckets
            .get_mut(table)
            .is_none_or(|bucket| bucket.take(units, now))
    }

    /// What happens to a request. `names` tells whether it names a part; `applies` whether an effect has a meaning
    /// for it (a rule whose effect has none is not counted).
    pub(crate) fn decide(
        &self,
        service: Service,
        operation: &str,
        names: impl Fn(&str) -> bool,
        applies: impl Fn(&Effect) -> bool,
    ) -> Decision {
        let mut decision = Decision::default();
        for active in &mut self.rules().rules {
            let rule = &active.rule;
            let meant = rule.service == service
                && rule.operation.as_deref().is_none_or(|wanted| wanted == operation)
                && rule.resource.as_deref().is_none_or(&names)
                && applies(&rule.effect);
            if !meant {
                continue;
            }
            active.seen += 1;
            let spent = rule.times.is_some_and(|times| *active.fired.borrow() >= times);
            if active.seen <= rule.skip || spent || self.0.random.unit() >= rule.chance {
                continue;
            }
            active.fired.send_modify(|fired| *fired += 1);
            match rule.effect.clone() {
                Effect::Delay { min, max } => {
                    decision.delay += min + max.saturating_sub(min).mul_f64(self.0.random.unit());
                }
                Effect::Hold => decision.holds.push(active.alive.subscribe()),
                effect => {
                    decision.effect = Some(effect);
                    break;
                }
            }
        }
        decision
    }
}

/// What happens to one request.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    delay: Duration,
    holds: Vec<watch::Receiver<()>>,
    pub(crate) effect: Option<Effect>,
}

impl Decision {
    /// Waits until all delays and holds are over.
    pub(crate) async fn wait(&self) {
        if !self.delay.is_zero() {
            clock::sleep(self.delay).await;
        }
        for hold in &self.holds {
            // Nothing is ever sent: the wait ends when the rule, and with it the sender, is gone.
            while hold.clone().changed().await.is_ok() {}
        }
    }
}
