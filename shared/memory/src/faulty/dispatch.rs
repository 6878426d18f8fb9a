//! The network before the ports of dispatch.

use std::time::Duration;

use jobmill_core::task::record::Record;
use jobmill_core::task::write::{Page, Range, Update, Write};
use jobmill_engine::dispatch::ports::{
    Asked, Asking, News, Outcomes, Tables, Transacted, Unfit, Updated, Workers,
};
use jobmill_engine::ports::{PortError, PortResult};

use super::{Faults, Faulty, Lot};
use crate::{Begun, MemoryOutcomes, MemoryTasks, MemoryWorkers, VirtualClock};

pub use crate::tables::{GET, TRANSACT, UPDATE};

/// The operation that starts a worker and waits for its answer.
pub const ASK: &str = "lambda:Invoke RequestResponse";
/// The answer of such a worker, on its way back.
pub const ANSWER: &str = "lambda:Invoke answer";
/// The operation that has a worker started.
pub const ASK_EVENT: &str = "lambda:Invoke Event";
/// The operation that tells how long a function may run.
pub const CONFIGURATION: &str = "lambda:GetFunctionConfiguration";
/// The operation that receives outcomes.
pub const RECEIVE: &str = "sqs:ReceiveMessage";
/// The operation that acknowledges them.
pub const ACKNOWLEDGE: &str = "sqs:DeleteMessage";

/// Carries out those updates that the table is asked to answer for, and those that it carries out unasked.
fn update_some(
    port: &MemoryTasks,
    clock: &VirtualClock,
    sent: Duration,
    updates: Vec<(Update, Lot)>,
) -> PortResult<Vec<Updated>> {
    let asked: Vec<Update> = updates
        .iter()
        .filter(|(_, lot)| lot.is_answered())
        .map(|(update, _)| update.clone())
        .collect();
    let mut answers = port.with(|tables, now| tables.update(now, &asked))?.into_iter();
    let answer = |(update, lot): (Update, Lot)| {
        if let Some(there) = lot.unasked() {
            let port = port.clone();
            clock.schedule(sent + there, move || {
                // Nobody hears what came of it.
                drop(port.with(|tables, now| tables.update(now, &[update])));
            });
        }
        match lot {
            Lot::Answered | Lot::Twice { .. } => answers.next().unwrap_or(Updated::Unknown),
            Lot::Throttled => Updated::Throttled,
            Lot::Unknown { .. } => Updated::Unknown,
        }
    };
    Ok(updates.into_iter().map(answer).collect())
}

impl<F: Faults> Tables for Faulty<MemoryTasks, F> {
    async fn read(&self, range: &Range) -> PortResult<Page> {
        let range = range.clone();
        self.request(super::QUERY, move |tasks| {
            tasks.with(|tables, now| tables.read(now, &range))
        })
        .await
    }

    async fn task(&self, task_id: &str) -> PortResult<Option<Record>> {
        let task_id = task_id.to_owned();
        self.request(GET, move |tasks| {
            Ok(tasks.with(|tables, _| tables.tasks.get(&task_id).map(|item| item.record.clone())))
        })
        .await
    }

    async fn update(&self, updates: &[Update]) -> PortResult<Vec<Updated>> {
        self.faults.updates(updates);
        let updates = updates
            .iter()
            .map(|update| (update.clone(), self.faults.lot()))
            .collect();
        let (clock, sent) = (self.clock.clone(), self.clock.now());
        self.request(UPDATE, move |port| update_some(port, &clock, sent, updates))
            .await
    }

    async fn transact(&self, writes: &[Write]) -> PortResult<Transacted> {
        self.faults.transacts(writes);
        let writes = writes.to_vec();
        self.request(TRANSACT, move |tasks| {
            tasks.with(|tables, now| tables.transact(now, &writes))
        })
        .await
    }
}

impl<F: Faults> Workers for Faulty<MemoryWorkers, F> {
    async fn ask(&self, function: &str, payload: String, asking: Asking) -> Asked {
        let sent = self.clock.now();
        let (function, operation) = match asking {
            Asking::Wait(_) => (function.to_owned(), ASK),
            Asking::Event => (function.to_owned(), ASK_EVENT),
        };
        let begun = self
            .request(operation, move |workers| {
                Ok(workers.begin(&function, &payload, asking))
            })
            .await;
        let (ends, answer) = match begun {
            Ok(Begun::Said(asked)) => return asked,
            Ok(Begun::Runs { ends, answer }) => (ends, answer),
            Err(PortError::Throttled { message, .. }) => return Asked::Throttled(message),
            Err(error @ (PortError::Refused { .. } | PortError::Environment { .. })) => {
                return Asked::WorkerUnfit(Unfit {
                    kind: "AccessDenied",
                    message: error.to_string(),
                });
            }
            Err(error) => return Asked::Unknown(error.to_string()),
        };
        let patience = match asking {
            Asking::Wait(patience) => sent + patience,
            Asking::Event => ends,
        };
        self.clock.sleep_until(ends.min(patience)).await;
        if ends > patience {
            return Asked::Unknown("no answer came in time".to_owned());
        }
        match self.request(ANSWER, move |_| Ok(answer)).await {
            Ok(answer) => Asked::Answered(answer),
            Err(error) => Asked::Unknown(error.to_string()),
        }
    }

    async fn longest_run(&self, function: &str) -> PortResult<Result<Duration, Unfit>> {
        let function = function.to_owned();
        self.request(
            CONFIGURATION,
            move |workers| Ok(workers.longest_run_of(&function)),
        )
        .await
    }
}

impl<F: Faults> Outcomes for Faulty<MemoryOutcomes, F> {
    fn is_there(&self) -> bool {
        self.port.is_there()
    }

    /// Messages whose answer is lost come again, when they are no longer hidden.
    async fn receive(&self) -> PortResult<Vec<News>> {
        self.port.arrival().await;
        self.request(RECEIVE, |outcomes| {
            Ok(outcomes.with(|queue, now| queue.receive(now)).unwrap_or_default())
        })
        .await
    }

    async fn acknowledge(&self, handles: &[String]) -> PortResult<()> {
        let handles = handles.to_vec();
        self.request(ACKNOWLEDGE, move |outcomes| {
            outcomes.with(|queue, _| queue.acknowledge(&handles));
            Ok(())
        })
        .await
    }
}
