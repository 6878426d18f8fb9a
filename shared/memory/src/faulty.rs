//! A network between an invocation and the ports in memory: requests take virtual time, get lost, lose their answers,
//! or arrive after their sender is gone. What happens to each is decided by a [`Faults`], from a seed or by a script.

mod dispatch;

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::item::Task;
use jobmill_core::task::write::{Update, Write};
use jobmill_engine::ports::{ETag, Metadata, Object, ObjectHead, ObjectStore, PortError, PortResult, PutIf};
use jobmill_engine::schedule::ports::{Created, InDoubt, MetaRow, Siblings, TaskTable};

pub use crate::tables::QUERY;
pub use crate::tasks::{CREATE, CREATE_IN_DOUBT};
use crate::{MemorySiblings, MemoryStore, MemoryTasks, MemoryUpload, Rng, VirtualClock};
pub use dispatch::{
    ACKNOWLEDGE, ANSWER, ASK, ASK_EVENT, CONFIGURATION, DATAPOINTS, GET, RECEIVE, TRANSACT, UPDATE,
};

/// How one request fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transit {
    /// It is carried out after `there`, and its answer arrives `back` later.
    Answered {
        /// Until it is carried out.
        there: Duration,
        /// From then to the answer.
        back: Duration,
    },
    /// It is carried out after `there`, be it ever so late; its sender gives up after `patience`.
    AnswerLost {
        /// Until it is carried out.
        there: Duration,
        /// Until the sender gives up.
        patience: Duration,
    },
    /// It is never carried out; its sender gives up after `patience`.
    Lost {
        /// Until the sender gives up.
        patience: Duration,
    },
    /// It is not carried out, and its sender is told `error` after `back`.
    Fails {
        /// What the sender is told.
        error: PortError,
        /// Until it is told.
        back: Duration,
    },
    /// It is carried out after `there`, and its sender is told `error` all the same: so a client that repeats a
    /// conditional put whose answer was lost meets its own object.
    Misreported {
        /// Until it is carried out.
        there: Duration,
        /// What the sender is told.
        error: PortError,
        /// From then until it is told.
        back: Duration,
    },
    /// It is carried out and answered, and a copy of it, which the client had sent before, is carried out `again`
    /// after that.
    Twice {
        /// Until it is carried out.
        there: Duration,
        /// From then to the answer.
        back: Duration,
        /// From the sending until the copy is carried out.
        again: Duration,
    },
    /// Its sender dies when it is sent. It is carried out after `there`, if at all.
    SenderDies {
        /// Until it is carried out; none: never.
        there: Option<Duration>,
    },
}

/// Decides what happens to requests.
pub trait Faults: Debug + Send + Sync {
    /// How the next request of that operation fares.
    fn transit(&self, operation: &'static str) -> Transit;

    /// How the next task or update of a batch fares whose request is carried out.
    fn lot(&self) -> Lot {
        Lot::Answered
    }

    /// Tasks are about to be sent in one request; its transit is asked for next.
    fn sends(&self, _tasks: &[Task]) {}

    /// Updates are about to be sent in one request; their lots and its transit are asked for next.
    fn updates(&self, _updates: &[Update]) {}

    /// A transaction is about to be sent; its transit is asked for next.
    fn transacts(&self, _writes: &[Write]) {}

    /// A request is over for its sender; and whether it failed.
    fn over(&self, _operation: &'static str, _failed: bool) {}
}

/// How one task or update of a batch fares whose request is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lot {
    /// The table answers for it.
    Answered,
    /// It is throttled.
    Throttled,
    /// Nobody knows of it: it is carried out with the others, or later than they, or never.
    Unknown {
        /// From the sending of the request until it is carried out; none: never.
        there: Option<Duration>,
    },
    /// The table answers for it, and a copy of it is carried out later.
    Twice {
        /// From the sending of the request until the copy is carried out.
        again: Duration,
    },
}

impl Lot {
    fn is_answered(self) -> bool {
        matches!(self, Self::Answered | Self::Twice { .. })
    }

    /// When, from the sending of the request, it is carried out without anybody being told.
    fn unasked(self) -> Option<Duration> {
        match self {
            Self::Unknown { there } => there,
            Self::Twice { again } => Some(again),
            Self::Answered | Self::Throttled => None,
        }
    }
}

/// Nothing goes wrong: requests only take their time, up to 20 ms each way, from a seed.
#[derive(Debug, Clone)]
pub struct Healthy(Rng);

impl Healthy {
    /// The network of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }
}

impl Faults for Healthy {
    fn transit(&self, _operation: &'static str) -> Transit {
        let way = || Duration::from_micros(self.0.below(20_001));
        Transit::Answered {
            there: way(),
            back: way(),
        }
    }
}

/// A port in memory behind a network. Requests that are under way when the sender is dropped are carried out all the
/// same, when their time comes.
#[derive(Debug, Clone)]
pub struct Faulty<P, F> {
    port: P,
    clock: VirtualClock,
    faults: Arc<F>,
}

impl<P: Clone + Send + 'static, F: Faults> Faulty<P, F> {
    /// Puts a network before `port`.
    pub fn new(port: P, clock: VirtualClock, faults: Arc<F>) -> Self {
        Self { port, clock, faults }
    }

    /// Sends a request that is carried out by `effect`.
    async fn request<T: Send + 'static>(
        &self,
        operation: &'static str,
        effect: impl FnOnce(&P) -> PortResult<T> + Clone + Send + 'static,
    ) -> PortResult<T> {
        let sent = self.clock.now();
        let unknown = |message: &str| {
            Err(PortError::Unknown {
                operation,
                message: message.to_owned(),
            })
        };
        let mut transit = self.faults.transit(operation);
        if let Transit::Twice { there, back, again } = transit {
            let (port, copy) = (self.port.clone(), effect.clone());
            self.clock.schedule(sent + again, move || drop(copy(&port)));
            transit = Transit::Answered { there, back };
        }
        let answer = match transit {
            Transit::Answered { there, back } | Transit::Twice { there, back, .. } => {
                let answer = Arc::new(Mutex::new(None));
                let (port, slot) = (self.port.clone(), Arc::clone(&answer));
                self.clock.schedule(sent + there, move || {
                    let result = effect(&port);
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                });
                // At least a moment, so that what is scheduled comes before.
                self.clock
                    .sleep_until(sent + there + back.max(Duration::from_nanos(1)))
                    .await;
                let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
                answer.unwrap_or_else(|| unknown("the request was overtaken"))
            }
            Transit::AnswerLost { there, patience } => {
                let port = self.port.clone();
                self.clock.schedule(sent + there, move || drop(effect(&port)));
                self.clock.sleep_until(sent + patience).await;
                unknown("the answer was lost")
            }
            Transit::Lost { patience } => {
                self.clock.sleep_until(sent + patience).await;
                unknown("the request was lost")
            }
            Transit::Fails { error, back } => {
                self.clock.sleep_until(sent + back).await;
                Err(error)
            }
            Transit::Misreported { there, error, back } => {
                let port = self.port.clone();
                self.clock.schedule(sent + there, move || drop(effect(&port)));
                self.clock.sleep_until(sent + there + back).await;
                Err(error)
            }
            Transit::SenderDies { there } => {
                if let Some(there) = there {
                    let port = self.port.clone();
                    self.clock.schedule(sent + there, move || drop(effect(&port)));
                }
                std::future::pending().await
            }
        };
        self.faults.over(operation, answer.is_err());
        answer
    }
}

/// The operation of a put.
pub const PUT: &str = "s3:PutObject";
/// The operation that makes an upload in parts visible.
pub const COMPLETE: &str = "s3:CompleteMultipartUpload";
/// The operation that deletes an object.
pub const DELETE: &str = "s3:DeleteObject";
/// The operation that starts a sibling.
pub const INVOKE: &str = "lambda:Invoke";

impl<F: Faults> ObjectStore for Faulty<MemoryStore, F> {
    type Upload = MemoryUpload;

    async fn get(&self, key: &str, limit: u64) -> PortResult<Option<Object>> {
        let key = key.to_owned();
        self.request("s3:GetObject", move |store| {
            store.with(|bucket, now| bucket.get(now, &key, limit))
        })
        .await
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> PortResult<Option<Bytes>> {
        let key = key.to_owned();
        self.request("s3:GetObject", move |store| {
            store.with(|bucket, _| bucket.get_range(&key, offset, length))
        })
        .await
    }

    async fn head(&self, key: &str) -> PortResult<Option<ObjectHead>> {
        let key = key.to_owned();
        self.request("s3:HeadObject", move |store| {
            store.with(|bucket, now| bucket.head(now, &key))
        })
        .await
    }

    async fn put(&self, key: &str, body: Bytes, metadata: &Metadata, condition: PutIf) -> PortResult<ETag> {
        let (key, metadata) = (key.to_owned(), metadata.clone());
        self.request(PUT, move |store| {
            store.with(|bucket, now| bucket.put(now, &key, body, &metadata, &condition))
        })
        .await
    }

    async fn begin_upload(&self, key: &str, metadata: &Metadata) -> PortResult<MemoryUpload> {
        let upload = MemoryUpload::new(key, metadata);
        self.request("s3:CreateMultipartUpload", move |_| Ok(upload))
            .await
    }

    /// A part whose answer is lost is a part that is not there: nobody looks at it before the completion.
    async fn upload_part(&self, upload: &mut MemoryUpload, body: Bytes) -> PortResult<()> {
        self.request("s3:UploadPart", |_| Ok(())).await?;
        upload.push(body);
        Ok(())
    }

    async fn complete_upload(&self, upload: MemoryUpload) -> PortResult<ETag> {
        self.request(COMPLETE, move |store| {
            store.with(|bucket, now| bucket.complete(now, upload))
        })
        .await
    }

    async fn abort_upload(&self, _upload: MemoryUpload) -> PortResult<()> {
        self.request("s3:AbortMultipartUpload", |_| Ok(())).await
    }

    async fn delete(&self, key: &str, only: Option<&ETag>) -> PortResult<()> {
        let (key, only) = (key.to_owned(), only.cloned());
        self.request(DELETE, move |store| {
            store.with(|bucket, _| bucket.delete(&key, only.as_ref()))
        })
        .await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> PortResult<Vec<String>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.request("s3:ListBucket", move |store| {
            Ok(store.with(|bucket, _| bucket.list(&prefix, after.as_deref())))
        })
        .await
    }
}

/// Creates those of a batch that the table is asked to answer for, and those that it creates unasked.
fn create_some(
    port: &MemoryTasks,
    clock: &VirtualClock,
    sent: Duration,
    tasks: Vec<(Task, Lot)>,
) -> PortResult<Vec<Created>> {
    let asked: Vec<Task> = tasks
        .iter()
        .filter(|(_, lot)| lot.is_answered())
        .map(|(task, _)| task.clone())
        .collect();
    let mut answers = port.with(|tables, now| tables.create(now, &asked))?.into_iter();
    let answer = |(task, lot): (Task, Lot)| {
        if let Some(there) = lot.unasked() {
            let port = port.clone();
            clock.schedule(sent + there, move || {
                // Nobody hears what came of it.
                drop(port.with(|tables, now| tables.create(now, &[task])));
            });
        }
        match lot {
            Lot::Answered | Lot::Twice { .. } => answers.next().unwrap_or(Created::Unknown),
            Lot::Throttled => Created::Throttled,
            Lot::Unknown { .. } => Created::Unknown,
        }
    };
    Ok(tasks.into_iter().map(answer).collect())
}

impl<F: Faults> TaskTable for Faulty<MemoryTasks, F> {
    async fn newest_greenfield(
        &self,
        labourer_id: &str,
        not_after: Greenfield,
    ) -> PortResult<Option<Greenfield>> {
        let labourer_id = labourer_id.to_owned();
        self.request(QUERY, move |tasks| {
            Ok(tasks.with(|tables, now| tables.newest_greenfield(now, &labourer_id, not_after)))
        })
        .await
    }

    async fn create(&self, tasks: &[Task]) -> PortResult<Vec<Created>> {
        self.faults.sends(tasks);
        let tasks = tasks
            .iter()
            .map(|task| (task.clone(), self.faults.lot()))
            .collect();
        let (clock, sent) = (self.clock.clone(), self.clock.now());
        self.request(CREATE, move |port| create_some(port, &clock, sent, tasks))
            .await
    }

    async fn create_in_doubt(&self, task: &Task) -> PortResult<InDoubt> {
        self.faults.sends(std::slice::from_ref(task));
        let task = task.clone();
        self.request(CREATE_IN_DOUBT, move |tasks| {
            tasks.with(|tables, now| tables.create_in_doubt(now, &task))
        })
        .await
    }

    async fn record_meta(&self, rows: &[MetaRow]) -> PortResult<()> {
        let rows = rows.to_vec();
        self.request("dynamodb:BatchWriteItem", move |tasks| {
            tasks.with(|tables, _| tables.meta.extend(rows));
            Ok(())
        })
        .await
    }
}

impl<F: Faults> Siblings for Faulty<MemorySiblings, F> {
    async fn spawn(&self, payload: String) -> PortResult<()> {
        self.request(INVOKE, move |siblings| {
            siblings.push(payload);
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Every request fares alike.
    #[derive(Debug)]
    struct Always(Transit);

    impl Faults for Always {
        fn transit(&self, _operation: &'static str) -> Transit {
            self.0.clone()
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn behind(transit: Transit) -> (VirtualClock, MemoryStore, Faulty<MemoryStore, Always>) {
        let clock = VirtualClock::default();
        let store = MemoryStore::new(clock.clone());
        let faulty = Faulty::new(store.clone(), clock.clone(), Arc::new(Always(transit)));
        (clock, store, faulty)
    }

    #[test]
    fn a_request_takes_its_time() {
        let (clock, store, faulty) = behind(Transit::Answered {
            there: SECOND,
            back: 2 * SECOND,
        });
        let none = Metadata::new();
        clock
            .run(faulty.put("key", "body".into(), &none, PutIf::Absent))
            .unwrap()
            .unwrap();
        assert_eq!(clock.now(), 3 * SECOND);
        assert_eq!(store.body("key").unwrap(), "body");
        let head = store
            .with(|bucket, now| bucket.head(now, "key"))
            .unwrap()
            .unwrap();
        assert_eq!(head.age, 2 * SECOND, "it was carried out on arrival");
    }

    #[test]
    fn a_request_outlives_its_sender() {
        let (clock, store, faulty) = behind(Transit::Answered {
            there: SECOND,
            back: SECOND,
        });
        let none = Metadata::new();
        let mut put = Box::pin(faulty.put("key", "body".into(), &none, PutIf::Absent));
        assert!(put.as_mut().now_or_never().is_none());
        drop(put);
        assert_eq!(store.body("key"), None);
        clock.advance(SECOND);
        assert_eq!(store.body("key").unwrap(), "body");
    }

    #[test]
    fn a_request_may_arrive_after_its_sender_has_given_up() {
        let (clock, store, faulty) = behind(Transit::AnswerLost {
            there: 9 * SECOND,
            patience: 5 * SECOND,
        });
        let put = clock
            .run(faulty.put("key", "body".into(), &Metadata::new(), PutIf::Absent))
            .unwrap();
        assert!(matches!(put, Err(PortError::Unknown { .. })), "{put:?}");
        assert_eq!((clock.now(), store.body("key")), (5 * SECOND, None));
        clock.advance(4 * SECOND);
        assert_eq!(store.body("key").unwrap(), "body");
    }

    #[test]
    fn a_task_that_nobody_answers_for_may_come_later_than_the_others() {
        #[derive(Debug)]
        struct Second(Mutex<u64>);

        impl Faults for Second {
            fn transit(&self, _operation: &'static str) -> Transit {
                Transit::Answered {
                    there: SECOND,
                    back: SECOND,
                }
            }

            fn lot(&self) -> Lot {
                let mut asked = self.0.lock().unwrap();
                *asked += 1;
                match *asked {
                    2 => Lot::Unknown {
                        there: Some(4 * SECOND),
                    },
                    3 => Lot::Unknown { there: None },
                    4 => Lot::Throttled,
                    _ => Lot::Answered,
                }
            }
        }

        let clock = VirtualClock::default();
        let tasks = MemoryTasks::new(clock.clone());
        let faulty = Faulty::new(tasks.clone(), clock.clone(), Arc::new(Second(Mutex::default())));
        let batch: Vec<Task> = (0..5)
            .map(|id| Task {
                task_id: id.to_string(),
                labourer_id: "worker".to_owned(),
                created_at: "0".to_owned(),
                greenfield: Greenfield::ZERO,
                payload: "{}".to_owned(),
            })
            .collect();
        let answers = clock.run(faulty.create(&batch)).unwrap().unwrap();
        let unknown = Created::Unknown;
        assert_eq!(
            answers,
            [
                Created::Now,
                unknown.clone(),
                unknown,
                Created::Throttled,
                Created::Now
            ]
        );
        let there = || tasks.with(|tables, _| tables.tasks.ids().cloned().collect::<String>());
        assert_eq!(there(), "04");
        clock.advance(2 * SECOND);
        assert_eq!(there(), "014");
    }
}
