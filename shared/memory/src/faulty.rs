//! A network between an invocation and the ports in memory: requests take virtual time, get lost, lose their answers,
//! or arrive after their sender is gone. What happens to each is decided by a [`Fates`], from a seed or by a script.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::item::Task;
use jobmill_engine::ports::{ETag, Metadata, Object, ObjectHead, ObjectStore, PortError, PortResult, PutIf};
use jobmill_engine::schedule::ports::{Created, InDoubt, MetaRow, Siblings, TaskTable};

use crate::{Dice, MemorySiblings, MemoryStore, MemoryTasks, MemoryUpload, TableState, VirtualClock};

/// What happens to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
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
    /// Its sender dies with it on its lips. It is carried out after `there`, if at all.
    SenderDies {
        /// Until it is carried out; none: never.
        there: Option<Duration>,
    },
}

/// Decides what happens to requests.
pub trait Fates: Debug + Send + Sync {
    /// The fate of the next request of that operation.
    fn fate(&self, operation: &'static str) -> Fate;

    /// Whether the next task of a batch is throttled while others of it are created.
    fn throttles_one(&self) -> bool {
        false
    }

    /// Whether of the next task of a batch nobody knows if it was created, and if it was.
    fn forgets_one(&self) -> Option<bool> {
        None
    }

    /// A request that got a fate is over for its sender.
    fn over(&self, _operation: &'static str) {}
}

/// Fates from a seed. Each `one_in` counts requests: one in so many, 0 for never.
#[derive(Debug, Clone)]
pub struct Chance {
    dice: Dice,
    /// The longest way there, and the longest way back.
    pub latency: Duration,
    /// After this a sender gives up.
    pub patience: Duration,
    /// How late a request whose answer is lost may be carried out.
    pub latest: Duration,
    /// Requests that are carried out unanswered.
    pub answer_lost_one_in: u64,
    /// Requests that are never carried out, unanswered too.
    pub lost_one_in: u64,
    /// Requests, or tasks of a batch, that are throttled.
    pub throttled_one_in: u64,
    /// Conditional writes that give way to another (409).
    pub conflict_one_in: u64,
}

impl Chance {
    /// A network that only takes its time: up to 20 ms each way, and a sender gives up after 5 s.
    pub fn healthy(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            latency: Duration::from_millis(20),
            patience: Duration::from_secs(5),
            latest: Duration::from_secs(5),
            answer_lost_one_in: 0,
            lost_one_in: 0,
            throttled_one_in: 0,
            conflict_one_in: 0,
        }
    }

    fn up_to(&self, longest: Duration) -> Duration {
        let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.dice.below(nanos.saturating_add(1)))
    }
}

impl Fates for Chance {
    fn fate(&self, operation: &'static str) -> Fate {
        let (there, back) = (self.up_to(self.latency), self.up_to(self.latency));
        if self.dice.once_in(self.answer_lost_one_in) {
            return Fate::AnswerLost {
                there: self.up_to(self.latest),
                patience: self.patience,
            };
        }
        if self.dice.once_in(self.lost_one_in) {
            return Fate::Lost {
                patience: self.patience,
            };
        }
        if self.dice.once_in(self.throttled_one_in) {
            let error = PortError::Throttled {
                operation,
                message: "by chance".to_owned(),
            };
            return Fate::Fails {
                error,
                back: there + back,
            };
        }
        let conditional = matches!(operation, PUT | COMPLETE);
        if conditional && self.dice.once_in(self.conflict_one_in) {
            return Fate::Fails {
                error: PortError::Conflict { operation },
                back: there + back,
            };
        }
        Fate::Answered { there, back }
    }

    fn throttles_one(&self) -> bool {
        self.dice.once_in(self.throttled_one_in)
    }
}

/// A port in memory behind a network. Requests that are under way when the sender is dropped are carried out all the
/// same, when their time comes.
#[derive(Debug, Clone)]
pub struct Faulty<P, F> {
    port: P,
    clock: VirtualClock,
    fates: Arc<F>,
}

impl<P: Clone + Send + 'static, F: Fates> Faulty<P, F> {
    /// Puts a network before `port`.
    pub fn new(port: P, clock: VirtualClock, fates: Arc<F>) -> Self {
        Self { port, clock, fates }
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
        let mut fate = self.fates.fate(operation);
        if let Fate::Twice { there, back, again } = fate {
            let (port, copy) = (self.port.clone(), effect.clone());
            self.clock.schedule(sent + again, move || drop(copy(&port)));
            fate = Fate::Answered { there, back };
        }
        let answer = match fate {
            Fate::Answered { there, back } | Fate::Twice { there, back, .. } => {
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
            Fate::AnswerLost { there, patience } => {
                let port = self.port.clone();
                self.clock.schedule(sent + there, move || drop(effect(&port)));
                self.clock.sleep_until(sent + patience).await;
                unknown("the answer was lost")
            }
            Fate::Lost { patience } => {
                self.clock.sleep_until(sent + patience).await;
                unknown("the request was lost")
            }
            Fate::Fails { error, back } => {
                self.clock.sleep_until(sent + back).await;
                Err(error)
            }
            Fate::Misreported { there, error, back } => {
                let port = self.port.clone();
                self.clock.schedule(sent + there, move || drop(effect(&port)));
                self.clock.sleep_until(sent + there + back).await;
                Err(error)
            }
            Fate::SenderDies { there } => {
                if let Some(there) = there {
                    let port = self.port.clone();
                    self.clock.schedule(sent + there, move || drop(effect(&port)));
                }
                std::future::pending().await
            }
        };
        self.fates.over(operation);
        answer
    }
}

/// The operation of a put.
pub const PUT: &str = "s3:PutObject";
/// The operation that makes an upload in parts visible.
pub const COMPLETE: &str = "s3:CompleteMultipartUpload";
/// The operation that deletes an object.
pub const DELETE: &str = "s3:DeleteObject";
/// The operation that creates tasks.
pub const CREATE: &str = "dynamodb:BatchExecuteStatement";
/// The operation that creates a task in doubt.
pub const CREATE_IN_DOUBT: &str = "dynamodb:TransactWriteItems";
/// The operation that starts a sibling.
pub const INVOKE: &str = "lambda:Invoke";

impl<F: Fates> ObjectStore for Faulty<MemoryStore, F> {
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
            Ok(store.with(|bucket, _| bucket.get_range(&key, offset, length)))
        })
        .await
    }

    async fn head(&self, key: &str) -> PortResult<Option<ObjectHead>> {
        let key = key.to_owned();
        self.request("s3:HeadObject", move |store| {
            Ok(store.with(|bucket, now| bucket.head(now, &key)))
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

/// Creates those of a batch that are not throttled.
fn create_some(tables: &mut TableState, now: Duration, tasks: Vec<(Task, Lot)>) -> PortResult<Vec<Created>> {
    let spared: Vec<Task> = tasks
        .iter()
        .filter(|(_, lot)| matches!(lot, Lot::Created | Lot::Forgotten { created: true }))
        .map(|(task, _)| task.clone())
        .collect();
    let mut created = tables.create(now, &spared)?.into_iter();
    let mut outcome = |lot| match lot {
        Lot::Created => created.next().unwrap_or(Created::Unknown),
        Lot::Throttled => Created::Throttled,
        Lot::Forgotten { created: carried_out } => {
            if carried_out {
                created.next();
            }
            Created::Unknown
        }
    };
    Ok(tasks.into_iter().map(|(_, lot)| outcome(lot)).collect())
}

/// What happens to one task of a batch that is carried out.
#[derive(Debug, Clone, Copy)]
enum Lot {
    Created,
    Throttled,
    /// The answer says nothing of it.
    Forgotten {
        created: bool,
    },
}

impl<F: Fates> TaskTable for Faulty<MemoryTasks, F> {
    async fn newest_greenfield(
        &self,
        labourer_id: &str,
        not_after: Greenfield,
    ) -> PortResult<Option<Greenfield>> {
        let labourer_id = labourer_id.to_owned();
        self.request("dynamodb:Query", move |tasks| {
            Ok(tasks.with(|tables, now| tables.newest_greenfield(now, &labourer_id, not_after)))
        })
        .await
    }

    async fn create(&self, tasks: &[Task]) -> PortResult<Vec<Created>> {
        let tasks: Vec<_> = tasks
            .iter()
            .map(|task| {
                let lot = match self.fates.forgets_one() {
                    _ if self.fates.throttles_one() => Lot::Throttled,
                    Some(created) => Lot::Forgotten { created },
                    None => Lot::Created,
                };
                (task.clone(), lot)
            })
            .collect();
        self.request(CREATE, move |port| {
            port.with(|tables, now| create_some(tables, now, tasks))
        })
        .await
    }

    async fn create_in_doubt(&self, task: &Task) -> PortResult<InDoubt> {
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

impl<F: Fates> Siblings for Faulty<MemorySiblings, F> {
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

    /// Every request has the same fate.
    #[derive(Debug)]
    struct Always(Fate);

    impl Fates for Always {
        fn fate(&self, _operation: &'static str) -> Fate {
            self.0.clone()
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn behind(fate: Fate) -> (VirtualClock, MemoryStore, Faulty<MemoryStore, Always>) {
        let clock = VirtualClock::default();
        let store = MemoryStore::new(clock.clone());
        let faulty = Faulty::new(store.clone(), clock.clone(), Arc::new(Always(fate)));
        (clock, store, faulty)
    }

    #[test]
    fn a_request_takes_its_time() {
        let (clock, store, faulty) = behind(Fate::Answered {
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
        let head = store.with(|bucket, now| bucket.head(now, "key")).unwrap();
        assert_eq!(head.age, 2 * SECOND, "it was carried out on arrival");
    }

    #[test]
    fn a_request_outlives_its_sender() {
        let (clock, store, faulty) = behind(Fate::Answered {
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
        let (clock, store, faulty) = behind(Fate::AnswerLost {
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
    fn the_same_seed_tells_the_same_story() {
        let story = |seed| {
            let chance = Chance {
                answer_lost_one_in: 3,
                lost_one_in: 5,
                throttled_one_in: 4,
                ..Chance::healthy(seed)
            };
            (0..50).map(|_| chance.fate(PUT)).collect::<Vec<_>>()
        };
        assert_eq!(story(7), story(7));
        assert_ne!(story(7), story(8));
        let dull = Chance::healthy(7);
        assert!((0..50).all(|_| matches!(dull.fate(PUT), Fate::Answered { .. })));
    }
}
