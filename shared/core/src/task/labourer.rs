//! A worker and how its tasks are to be dispatched.

use std::collections::BTreeMap;
use std::time::Duration;

/// A worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Labourer {
    /// `arn`: its function, a name or an ARN. Without one nobody can start its tasks.
    pub arn: Option<String>,
    /// `group`: the labourers of a group are dispatched by one invocation at a time.
    pub group: String,
    /// `completion`: how the end of a task is learnt; none: by the longest duration, see [`Labourer::completion_for`].
    pub completion: Option<Completion>,
    /// `max_simultaneous_invocations`: so many tasks at once at most.
    pub max_simultaneous: u32,
    /// `max_attempts`: a task that failed so often is closed as failed.
    pub max_attempts: u32,
    /// `max_duration`: how long a task may run; none: as long as its function may.
    pub max_duration: Option<Duration>,
    /// `cooldown`: so much longer a task counts as running at least, beyond its longest duration.
    pub cooldown: Duration,
    /// `retry_delay`, `retry_backoff`, `max_retry_delay`.
    pub retry: RetryPolicy,
    /// `rate`: so many starts in so long at most; none: as fast as it goes.
    pub rate: Option<Rate>,
    /// `concurrency`: so many at once at most for each value of something in the payload.
    pub concurrency: Vec<KeyCap>,
    /// `suspend_after`: so many failures and nothing is started for a while; none: never.
    pub suspend_after: Option<SuspendAfter>,
    /// `paused`: nothing of it is started.
    pub paused: bool,
    /// `health_metrics`: what its strength depends on.
    pub health: Vec<HealthMetric>,
}

/// The workers by name.
pub type Labourers = BTreeMap<String, Labourer>;

/// The group of labourers that name none.
pub const MAIN_GROUP: &str = "main";

/// The longest duration for which an answer is waited for unless configured otherwise.
pub const LONGEST_RESPONSE: Duration = Duration::from_secs(300);

impl Default for Labourer {
    fn default() -> Self {
        Self {
            arn: None,
            group: MAIN_GROUP.to_owned(),
            completion: None,
            max_simultaneous: 1,
            max_attempts: 3,
            max_duration: None,
            cooldown: Duration::ZERO,
            retry: RetryPolicy::default(),
            rate: None,
            concurrency: Vec::new(),
            suspend_after: Some(SuspendAfter::default()),
            paused: false,
            health: Vec::new(),
        }
    }
}

/// How the end of a task is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// `response`: the function is invoked and its answer is waited for.
    Response,
    /// `destination`: the function is invoked asynchronously, and its destinations send the outcome to a queue.
    Destination,
    /// `report`: the function is invoked asynchronously, and the worker marks its task itself, as sosw's do.
    Report,
}

/// How long a failed task waits for its next attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// After the first attempt.
    pub delay: Duration,
    /// Each further attempt waits so many times longer, at least 1.
    pub backoff: f64,
    /// It never waits longer.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(10),
            backoff: 2.0,
            longest: Duration::from_secs(900),
        }
    }
}

/// A bound on starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// So many, at least 1 ...
    pub starts: u32,
    /// ... in so long.
    pub per: Duration,
}

/// A bound on tasks at once for each value of something in the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCap {
    /// Where the value is: names of nested objects, from the outside in; at least one.
    pub by: Vec<String>,
    /// So many at once for each value, at least 1. A task that has no such value is not bound.
    pub max: u32,
}

/// When a worker is taken for broken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SuspendAfter {
    /// This share of failures, above 0, at most 1 ...
    pub share: f64,
    /// ... among so many of the last attempts, at least 1.
    pub of: u32,
}

impl Default for SuspendAfter {
    fn default() -> Self {
        Self { share: 1.0, of: 100 }
    }
}

/// Something measured that says how well a worker, or what it depends on, is.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthMetric {
    /// What it is called in the configuration.
    pub name: String,
    /// The metric in CloudWatch.
    pub source: MetricSource,
    /// Targets by status, from the highest status down; each status is 0 to 4.
    pub feelings: Vec<(u8, f64)>,
    /// How a value is compared with a target: the value `operator` target.
    pub operator: Comparison,
    /// `status_without_data`: the status where nothing was measured.
    pub status_without_data: u8,
}

/// Where a metric is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricSource {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub metric: String,
    /// Its dimensions by name.
    pub dimensions: BTreeMap<String, String>,
    /// `Average`, `Maximum` or `Minimum`.
    pub statistic: Statistic,
    /// Seconds a datapoint.
    pub period: u32,
    /// The last so many seconds are looked at.
    pub window: u32,
}

/// What is made of the values of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// Their mean.
    Average,
    /// The largest one.
    Maximum,
    /// The smallest one.
    Minimum,
}

/// How two numbers are compared, as Python's `operator` module calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `lt`: below.
    Lt,
    /// `le`: at most.
    Le,
    /// `gt`: above.
    Gt,
    /// `ge`: at least.
    Ge,
}

impl Labourer {
    /// Whether nothing of it may be started, by the configuration.
    pub fn is_held(&self) -> bool {
        self.paused || self.max_simultaneous == 0
    }

    /// How the end of a task is learnt, given how long one may run; none: it has to be configured, since nobody can
    /// wait so long for an answer.
    pub fn completion_for(&self, max_duration: Duration) -> Option<Completion> {
        let waited_for = || (max_duration <= LONGEST_RESPONSE).then_some(Completion::Response);
        self.completion.or_else(waited_for)
    }
}
