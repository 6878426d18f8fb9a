//! What scheduling needs beside the ports that all use cases share: the tables of tasks, and siblings.

use std::future::Future;

use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::item::Task;

use crate::ports::PortResult;

/// What became of one task of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It was created by this request.
    Now,
    /// An item with its id was there already; it was left as it is.
    AlreadyThere,
    /// It was not created for want of capacity; send it again.
    Throttled,
    /// Nobody knows: it is in doubt and must go through [`TaskTable::create_in_doubt`].
    Unknown,
    /// It can never be created: the service says why.
    Refused(String),
}

/// What a task in doubt turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InDoubt {
    /// It stood in none of the three tables and was created now.
    Created,
    /// It stands in the tasks, retry or closed table: it was created before.
    AlreadyThere,
    /// It can never be created: the service says why.
    Refused(String),
}

/// A meta row of sosw (`sosw_tasks_meta`): who created which task when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaRow {
    /// The task.
    pub task_id: String,
    /// The labourer of the task.
    pub labourer_id: String,
}

/// The tasks table, with the closed and the retry table beside it.
pub trait TaskTable: Send + Sync {
    /// The newest greenfield of that labourer's tasks that is not after `not_after`; `None` if there is none.
    /// Read from the greenfield index, which may lag behind the table.
    fn newest_greenfield(
        &self,
        labourer_id: &str,
        not_after: Greenfield,
    ) -> impl Future<Output = PortResult<Option<Greenfield>>> + Send;

    /// Creates up to 25 tasks in one request and answers for each, in their order. No retry inside.
    ///
    /// # Errors
    /// `Throttled`: none of them was created. `Unknown`: all of them are in doubt. `Refused`: none can be created.
    fn create(&self, tasks: &[Task]) -> impl Future<Output = PortResult<Vec<Created>>> + Send;

    /// Creates one task only if its id stands in none of the tasks, retry and closed tables, all at one moment
    /// (one `TransactWriteItems`). No retry inside. After `Unknown` it may simply be called again.
    fn create_in_doubt(&self, task: &Task) -> impl Future<Output = PortResult<InDoubt>> + Send;

    /// Writes sosw's meta rows, best effort; an empty implementation is a correct one.
    fn record_meta(&self, rows: &[MetaRow]) -> impl Future<Output = PortResult<()>> + Send;
}

/// Starts another invocation of this very function.
pub trait Siblings: Send + Sync {
    /// Invokes asynchronously with `payload`, JSON text; returns when the invocation is queued.
    fn spawn(&self, payload: String) -> impl Future<Output = PortResult<()>> + Send;
}
