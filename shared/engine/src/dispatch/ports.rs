//! What dispatching needs beside the ports that all use cases share: the tables, the workers, and news of their ends.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use jobmill_core::task::labourer::MetricSource;
use jobmill_core::task::record::Record;
use jobmill_core::task::write::{Page, Range, Update, Write};
use serde::Serialize;

use crate::ports::PortResult;

/// What became of one update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Updated {
    /// It was carried out by this request.
    Done,
    /// Its condition does not hold: nothing was changed by this request. An earlier copy of it may have been carried out.
    Refused,
    /// Nothing was changed, for want of capacity or because of a concurrent transaction; send it again.
    Throttled,
    /// Nobody knows.
    Unknown,
    /// It can never be carried out: the service says why.
    Invalid(String),
}

/// What became of a transaction: of all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transacted {
    /// It was carried out.
    Done,
    /// Nothing was changed: what each part has to do with that, in their order.
    Refused(Vec<Fate>),
}

/// What a part of a transaction has to do with its being refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Fine,
    /// Its condition does not hold.
    Failed,
    /// There was no capacity for it, or a concurrent request at its item; send it again.
    Busy,
    /// It can never be carried out: the service says why.
    Invalid(String),
}

/// The three tables of tasks.
pub trait Tables: Send + Sync {
    /// Reads a part of an index. It may lag behind.
    fn read(&self, range: &Range) -> impl Future<Output = PortResult<Page>> + Send;

    /// Reads one item of the tasks table, as it is (strongly consistent). `None` if it is not there.
    fn task(&self, task_id: &str) -> impl Future<Output = PortResult<Option<Record>>> + Send;

    /// Carries out up to 25 updates of different items, each by itself, in one request, and answers for each, in their
    /// order. No retry inside, and none goes out later than it was asked for.
    ///
    /// # Errors
    /// `Throttled`: none was carried out. `Unknown`: nobody knows of any. `Refused`, `Environment`: none can be.
    fn update(&self, updates: &[Update]) -> impl Future<Output = PortResult<Vec<Updated>>> + Send;

    /// Carries out up to 100 writes of different items, all or none (one `TransactWriteItems`). No retry inside.
    ///
    /// # Errors
    /// As [`Tables::update`].
    fn transact(&self, writes: &[Write]) -> impl Future<Output = PortResult<Transacted>> + Send;
}

/// How a worker is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// The answer is waited for: the run may take so long, and the request a little more.
    Wait(Duration),
    /// The platform queues the request and answers at once.
    Event,
}

/// What came of asking a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It is queued: the platform will start it.
    Queued,
    /// It has run, and this is its answer.
    Answered(Answer),
    /// It was not started, for want of concurrency or because of a rate; ask again later.
    Throttled(String),
    /// It was not started, and never will be with this payload: the service says why.
    PayloadRefused(String),
    /// It was not started, and no task of this worker will be until somebody mends it: missing, forbidden, disabled.
    WorkerUnfit(Unfit),
    /// Nobody knows whether it was started, or how it ended.
    Unknown(String),
}

/// Why a worker can't be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unfit {
    /// The stable type, e.g. `FunctionNotFound`, `AccessDenied`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What the service said, and what to do.
    pub message: String,
}

/// What a worker answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its payload, at most 6 MB: what it returned, or the description of its error.
    pub payload: Bytes,
    /// Whether the platform calls it an error (`X-Amz-Function-Error`).
    pub is_error: bool,
}

/// The workers' functions.
pub trait Workers: Send + Sync {
    /// Starts `function` (a name or an ARN) with `payload`, JSON text. No retry inside: at most one start.
    fn ask(&self, function: &str, payload: String, asking: Asking) -> impl Future<Output = Asked> + Send;

    /// How long the function may run, as it is configured.
    ///
    /// # Errors
    /// `Ok(Err)`: there is no such function, or it may not be asked.
    fn longest_run(&self, function: &str)
    -> impl Future<Output = PortResult<Result<Duration, Unfit>>> + Send;

    /// The datapoints of a metric that says how well a worker is, those of its window. None: nothing was measured.
    fn datapoints(&self, source: &MetricSource) -> impl Future<Output = PortResult<Vec<f64>>> + Send;
}

/// News from the queue of outcomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The message.
    pub body: String,
    /// What acknowledges it.
    pub handle: String,
}

/// The queue to which workers' destinations send their outcomes.
pub trait Outcomes: Send + Sync {
    /// Whether there is a queue at all.
    fn is_there(&self) -> bool;

    /// Waits for news, up to 20 s, and returns at most 10 messages. They come again unless acknowledged.
    fn receive(&self) -> impl Future<Output = PortResult<Vec<News>>> + Send;

    /// Takes up to 10 messages off the queue. What fails comes again: that is harmless.
    fn acknowledge(&self, handles: &[String]) -> impl Future<Output = PortResult<()>> + Send;
}
