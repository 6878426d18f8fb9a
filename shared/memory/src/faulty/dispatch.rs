//! The network before the ports of dispatch.

use std::time::Duration;

use jobmill_core::task::labourer::MetricSource;
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
/// See [`Workers::datapoints`].
pub const DATAPOINTS: &str = "cloudwatch:GetMetricStatistics";
/// The operation that receives outcomes.
pub const RECEIVE: &str = "sqs:ReceiveMessage";
/// The operation that acknowledges them.
pub const ACKNOWLEDGE: &str = "sqs:DeleteMessage";

/// What an answer may take on its way beside the run.
const ON_THE_WAY: Duration = Duration::from_secs(5);

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
            Asking::Wait(patience) => sent + patience + ON_THE_WAY,
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

    async fn datapoints(&self, source: &MetricSource) -> PortResult<Vec<f64>> {
        let source = source.clone();
        self.request(DATAPOINTS, move |workers| Ok(workers.datapoints_of(&source)))
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use jobmill_core::task::record::Attribute;
    use jobmill_core::task::write::{Table, Test};
    use serde_json::json;

    use super::super::Transit;
    use super::*;
    use crate::{Behaviour, Ending, Function};

    const SECOND: Duration = Duration::from_secs(1);

    /// Lots and transits in their order; then all goes well.
    #[derive(Debug, Default)]
    struct Script {
        lots: Mutex<Vec<Lot>>,
        transits: Mutex<Vec<Transit>>,
    }

    impl Faults for Script {
        fn transit(&self, _operation: &'static str) -> Transit {
            self.transits.lock().unwrap().pop().unwrap_or(Transit::Answered {
                there: SECOND,
                back: SECOND,
            })
        }

        fn lot(&self) -> Lot {
            self.lots.lock().unwrap().pop().unwrap_or(Lot::Answered)
        }
    }

    fn count(id: u32, from: u32) -> Update {
        Update {
            task_id: id.to_string(),
            set: vec![("attempts".to_owned(), Attribute::number(from + 1))],
            when: vec![Test::Equals("attempts".to_owned(), Attribute::number(from))],
        }
    }

    #[test]
    fn an_update_may_be_lost_late_or_doubled() {
        let clock = VirtualClock::default();
        let tasks = MemoryTasks::new(clock.clone());
        let script = Arc::new(Script::default());
        let faulty = Faulty::new(tasks.clone(), clock.clone(), Arc::clone(&script));
        for id in 0..5 {
            let record = Record::from([
                ("task_id".to_owned(), Attribute::text(id.to_string())),
                ("attempts".to_owned(), Attribute::number(0)),
            ]);
            tasks.with(|tables, now| tables.put(now, Table::Tasks, record));
        }
        *script.lots.lock().unwrap() = vec![
            Lot::Twice { again: 9 * SECOND },
            Lot::Throttled,
            Lot::Unknown { there: None },
            Lot::Unknown {
                there: Some(5 * SECOND),
            },
            Lot::Answered,
        ];
        let updates: Vec<Update> = (0..5).map(|id| count(id, 0)).collect();
        let answers = clock.run(faulty.update(&updates)).unwrap().unwrap();
        let unknown = Updated::Unknown;
        assert_eq!(
            answers,
            [
                Updated::Done,
                unknown.clone(),
                unknown,
                Updated::Throttled,
                Updated::Done
            ]
        );
        let attempts = || -> String {
            tasks.with(|tables, _| {
                let attempts = tables.tasks.items().map(|item| item.number("attempts").unwrap());
                attempts.map(|number| number.to_string()).collect()
            })
        };
        assert_eq!(attempts(), "10001");
        clock.advance(4 * SECOND);
        assert_eq!(attempts(), "11001", "late");
        // Somebody sets it back: the copy fits again.
        tasks.with(|tables, now| tables.set(now, "4", &[("attempts", Attribute::number(0))]));
        assert_eq!(attempts(), "11000");
        clock.advance(9 * SECOND);
        assert_eq!(attempts(), "11001", "doubled");
    }

    #[test]
    fn a_worker_whose_answer_is_lost_has_run_all_the_same() {
        let clock = VirtualClock::default();
        let tasks = MemoryTasks::new(clock.clone());
        let outcomes = MemoryOutcomes::new(clock.clone());
        let workers = MemoryWorkers::new(clock.clone(), tasks, outcomes);
        workers.add(
            "worker",
            Function::new(9 * SECOND, Ending::Silent, |_| {
                Behaviour::Answers(3 * SECOND, json!(1))
            }),
        );
        let script = Arc::new(Script::default());
        let faulty = Faulty::new(workers.clone(), clock.clone(), Arc::clone(&script));
        let ask = |patience| {
            let asking = Asking::Wait(patience);
            clock.run(faulty.ask("worker", "{}".to_owned(), asking)).unwrap()
        };
        assert!(matches!(ask(9 * SECOND), Asked::Answered(_)));
        let lost = Transit::Lost { patience: SECOND };
        *script.transits.lock().unwrap() = vec![lost.clone()];
        assert!(matches!(ask(9 * SECOND), Asked::Unknown(_)));
        assert_eq!(
            workers.with(|state| state.starts.len()),
            1,
            "the request was lost"
        );
        let answered = Transit::Answered {
            there: SECOND,
            back: SECOND,
        };
        *script.transits.lock().unwrap() = vec![lost, answered];
        assert!(matches!(ask(9 * SECOND), Asked::Unknown(_)));
        assert_eq!(workers.with(|state| state.starts.len()), 2, "the answer was lost");
    }

    #[test]
    fn outcomes_whose_answer_is_lost_come_again() {
        let clock = VirtualClock::default();
        let outcomes = MemoryOutcomes::new(clock.clone());
        outcomes.with(|queue, now| queue.send(now, "news".to_owned()));
        let script = Arc::new(Script::default());
        let faulty = Faulty::new(outcomes.clone(), clock.clone(), Arc::clone(&script));
        *script.transits.lock().unwrap() = vec![Transit::AnswerLost {
            there: SECOND,
            patience: 2 * SECOND,
        }];
        let lost = clock.run(faulty.receive()).unwrap();
        assert!(matches!(lost, Err(PortError::Unknown { .. })), "{lost:?}");
        assert_eq!(clock.run(faulty.receive()).unwrap(), Ok(Vec::new()), "hidden");
        let again = clock.run(faulty.receive()).unwrap().unwrap();
        assert_eq!(again[0].body, "news");
    }
}
