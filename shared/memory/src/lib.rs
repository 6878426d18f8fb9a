//! The ports of the engine in memory, on virtual time: deterministic, without a runtime, without a clock of its own.
//! The state behind each port is a plain machine ([`Bucket`], [`TableState`]) that takes the time as an argument.

pub mod faulty;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hasher};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use jobmill_core::task::greenfield::Greenfield;
use jobmill_core::task::item::Task;
use jobmill_engine::ports::{
    Clock, ETag, Metadata, OBJECT_TOO_LARGE, Object, ObjectHead, ObjectStore, PortError, PortResult, PutIf,
    Random,
};
use jobmill_engine::schedule::ports::{Created, InDoubt, MetaRow, Siblings, TaskTable};

/// Wall clock at the beginning of virtual time: 2024-03-06T05:06:40Z, in milliseconds since 1970.
pub const EPOCH_MS: i64 = 1_709_701_600_000;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// ---------------------------------------------------------------------------------------------------------- time

/// Virtual time and what is to happen in it. Clones share it. It moves only when it is told to.
#[derive(Clone, Default)]
pub struct VirtualClock(Arc<Mutex<Timeline>>);

#[derive(Default)]
struct Timeline {
    now: Duration,
    scheduled: u64,
    /// By moment, then in the order of scheduling.
    events: BTreeMap<(Duration, u64), Event>,
}

enum Event {
    Wake(Waker),
    Run(Box<dyn FnOnce() + Send>),
}

/// Nothing is left that could ever wake the future that was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the future waits for something that will never happen")]
pub struct Stuck;

impl VirtualClock {
    /// Time since the beginning of virtual time.
    pub fn now(&self) -> Duration {
        locked(&self.0).now
    }

    /// Lets `event` happen at `at`, or at the next step if that is past. It happens whoever is still waiting for it:
    /// a request that is under way outlives its sender.
    pub fn schedule(&self, at: Duration, event: impl FnOnce() + Send + 'static) {
        locked(&self.0).add(at, Event::Run(Box::new(event)));
    }

    /// Resolves once virtual time is at least `deadline`.
    pub fn sleep_until(&self, deadline: Duration) -> VirtualSleep {
        VirtualSleep {
            clock: self.clone(),
            deadline,
            place: None,
        }
    }

    /// Moves on to the next event and lets it happen. `false` if there is none.
    pub fn step(&self) -> bool {
        let event = {
            let mut timeline = locked(&self.0);
            let Some(((at, _), event)) = timeline.events.pop_first() else {
                return false;
            };
            timeline.now = timeline.now.max(at);
            event
        };
        match event {
            Event::Wake(waker) => waker.wake(),
            Event::Run(event) => event(),
        }
        true
    }

    /// Moves on by `by`, with all that happens on the way.
    pub fn advance(&self, by: Duration) {
        let until = self.now() + by;
        while self.next_event().is_some_and(|at| at <= until) {
            self.step();
        }
        locked(&self.0).now = until;
    }

    /// The moment of the next event.
    pub fn next_event(&self) -> Option<Duration> {
        locked(&self.0).events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Drives a future on this thread, moving on whenever it can't. Several futures run together as one (`join!`,
    /// `FuturesUnordered`); dropping one is its crash.
    ///
    /// # Errors
    /// [`Stuck`] if it waits and no event is left.
    pub fn run<F: Future>(&self, future: F) -> Result<F::Output, Stuck> {
        let mut future = pin!(future);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            while woken.0.swap(false, Ordering::Relaxed) {
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return Ok(output);
                }
            }
            if !self.step() {
                return Err(Stuck);
            }
        }
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timeline = locked(&self.0);
        f.debug_struct("VirtualClock")
            .field("now", &timeline.now)
            .field("events", &timeline.events.len())
            .finish()
    }
}

impl Timeline {
    fn add(&mut self, at: Duration, event: Event) -> (Duration, u64) {
        let place = (at.max(self.now), self.scheduled);
        self.scheduled += 1;
        self.events.insert(place, event);
        place
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A sleep in virtual time. Leaves nothing behind when dropped.
#[derive(Debug)]
pub struct VirtualSleep {
    clock: VirtualClock,
    deadline: Duration,
    place: Option<(Duration, u64)>,
}

impl Future for VirtualSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut timeline = locked(&clock.0);
        if let Some(place) = self.place.take() {
            timeline.events.remove(&place);
        }
        if timeline.now >= self.deadline {
            return Poll::Ready(());
        }
        self.place = Some(timeline.add(self.deadline, Event::Wake(context.waker().clone())));
        Poll::Pending
    }
}

impl Drop for VirtualSleep {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            locked(&self.clock.0).events.remove(&place);
        }
    }
}

/// Chance from a seed (SplitMix64): the same seed, the same numbers. Clones share the sequence.
#[derive(Debug, Clone)]
pub struct Dice(Arc<Mutex<u64>>);

impl Dice {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    /// 64 random bits.
    pub fn roll(&self) -> u64 {
        let mut state = locked(&self.0);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = *state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&self, bound: u64) -> u64 {
        self.roll().checked_rem(bound).unwrap_or_default()
    }

    /// True once in `times`; never if that is 0.
    pub fn once_in(&self, times: u64) -> bool {
        times > 0 && self.below(times) == 0
    }
}

/// A machine on virtual time.
#[derive(Debug, Clone)]
pub struct VirtualHost {
    clock: VirtualClock,
    dice: Dice,
    skew_ms: i64,
    missed: Arc<Mutex<Missed>>,
}

/// How much time each clock of a machine has missed while the machine was frozen.
#[derive(Debug, Clone, Copy, Default)]
struct Missed {
    wall: Duration,
    monotonic: Duration,
}

impl VirtualHost {
    /// A machine whose wall clock is right and whose chance comes from `seed`.
    pub fn new(clock: VirtualClock, seed: u64) -> Self {
        Self {
            clock,
            dice: Dice::new(seed),
            skew_ms: 0,
            missed: Arc::default(),
        }
    }

    /// A machine whose wall clock is wrong by so many milliseconds.
    pub fn with_skew_ms(self, skew_ms: i64) -> Self {
        Self { skew_ms, ..self }
    }

    /// The monotonic clock has stood still for so long.
    pub fn miss_monotonic(&self, for_so_long: Duration) {
        locked(&self.missed).monotonic += for_so_long;
    }

    /// The wall clock has stood still for so long.
    pub fn miss_wall(&self, for_so_long: Duration) {
        locked(&self.missed).wall += for_so_long;
    }
}

impl Clock for VirtualHost {
    fn wall_ms(&self) -> i64 {
        let elapsed = self.clock.now().saturating_sub(locked(&self.missed).wall);
        let elapsed = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
        EPOCH_MS.saturating_add(elapsed).saturating_add(self.skew_ms)
    }

    fn monotonic(&self) -> Duration {
        self.clock.now().saturating_sub(locked(&self.missed).monotonic)
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        self.clock.sleep_until(self.clock.now() + duration)
    }
}

impl Random for VirtualHost {
    fn random(&self) -> u128 {
        u128::from(self.dice.roll()) << 64 | u128::from(self.dice.roll())
    }
}

// ------------------------------------------------------------------------------------------------- object store

/// Least size of every part of an upload but the last, as at S3.
const LEAST_PART: usize = 5 * 1024 * 1024;
const PAGE: usize = 1000;

/// The objects of a bucket. As at S3, the ETag is a digest of the content: the same bytes, the same ETag.
#[derive(Debug, Clone, Default)]
pub struct Bucket {
    objects: BTreeMap<String, Version>,
    history: Vec<Change>,
    /// Takes parts of any size, unlike S3: for tests of small files in many parts.
    pub any_part: bool,
    /// When and by whom it is being looked at.
    visit: (Duration, u64),
}

/// A change of an object.
#[derive(Debug, Clone)]
pub struct Change {
    /// When.
    pub at: Duration,
    /// By whom, as [`MemoryStore::seen_by`] said.
    pub actor: u64,
    /// The key.
    pub key: String,
    /// What was put; none: it was deleted.
    pub body: Option<Bytes>,
}

#[derive(Debug, Clone)]
struct Version {
    body: Bytes,
    etag: ETag,
    metadata: Metadata,
    modified: Duration,
}

/// An upload in parts to a [`MemoryStore`].
#[derive(Debug, Clone)]
pub struct MemoryUpload {
    key: String,
    metadata: Metadata,
    parts: Vec<Bytes>,
}

impl Bucket {
    /// Every change so far, oldest first.
    pub fn history(&self) -> &[Change] {
        &self.history
    }

    fn record(&mut self, key: &str, body: Option<Bytes>) {
        let (at, actor) = self.visit;
        self.history.push(Change {
            at,
            actor,
            key: key.to_owned(),
            body,
        });
    }

    /// See [`ObjectStore::get`].
    pub fn get(&self, now: Duration, key: &str, limit: u64) -> PortResult<Option<Object>> {
        let Some(version) = self.objects.get(key) else {
            return Ok(None);
        };
        if version.body.len() as u64 > limit {
            let message = format!("{key} has more than {limit} bytes");
            return Err(refused("s3:GetObject", OBJECT_TOO_LARGE, message));
        }
        Ok(Some(Object {
            body: version.body.clone(),
            etag: version.etag.clone(),
            age: version.age(now),
        }))
    }

    /// See [`ObjectStore::get_range`].
    pub fn get_range(&self, key: &str, offset: u64, length: u64) -> Option<Bytes> {
        let body = &self.objects.get(key)?.body;
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(body.len());
        Some(body.slice(place(offset)..place(offset.saturating_add(length))))
    }

    /// See [`ObjectStore::head`].
    pub fn head(&self, now: Duration, key: &str) -> Option<ObjectHead> {
        self.objects.get(key).map(|version| ObjectHead {
            etag: version.etag.clone(),
            metadata: version.metadata.clone(),
            age: version.age(now),
        })
    }

    /// See [`ObjectStore::put`].
    pub fn put(
        &mut self,
        now: Duration,
        key: &str,
        body: Bytes,
        metadata: &Metadata,
        condition: &PutIf,
    ) -> PortResult<ETag> {
        let there = self.objects.get(key).map(|version| &version.etag);
        let holds = match condition {
            PutIf::Absent => there.is_none(),
            PutIf::Matches(etag) => there == Some(etag),
        };
        if !holds {
            return Err(PortError::PreconditionFailed {
                operation: "s3:PutObject",
            });
        }
        let etag = digest(&body);
        self.record(key, Some(body.clone()));
        let version = Version {
            body,
            etag: etag.clone(),
            metadata: metadata.clone(),
            modified: whole_seconds(now),
        };
        self.objects.insert(key.to_owned(), version);
        Ok(etag)
    }

    /// See [`ObjectStore::complete_upload`].
    pub fn complete(&mut self, now: Duration, upload: MemoryUpload) -> PortResult<ETag> {
        const OPERATION: &str = "s3:CompleteMultipartUpload";
        let Some((_, others)) = upload.parts.split_last() else {
            return Err(refused(OPERATION, "MalformedXML", "an upload needs a part"));
        };
        if !self.any_part && others.iter().any(|part| part.len() < LEAST_PART) {
            return Err(refused(
                OPERATION,
                "EntityTooSmall",
                "only the last part may be smaller than 5 MiB",
            ));
        }
        let body = Bytes::from(upload.parts.concat());
        self.put(now, &upload.key, body, &upload.metadata, &PutIf::Absent)
            .map_err(|error| match error {
                PortError::PreconditionFailed { .. } => {
                    PortError::PreconditionFailed { operation: OPERATION }
                }
                error => error,
            })
    }

    /// See [`ObjectStore::delete`].
    pub fn delete(&mut self, key: &str, only: Option<&ETag>) -> PortResult<()> {
        let there = self.objects.get(key).map(|version| &version.etag);
        if there.is_some() && only.is_some() && there != only {
            return Err(PortError::PreconditionFailed {
                operation: "s3:DeleteObject",
            });
        }
        if self.objects.remove(key).is_some() {
            self.record(key, None);
        }
        Ok(())
    }

    /// See [`ObjectStore::list`].
    pub fn list(&self, prefix: &str, after: Option<&str>) -> Vec<String> {
        let from = after.filter(|after| *after > prefix).unwrap_or(prefix);
        self.objects
            .range(from.to_owned()..)
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(PAGE)
            .map(|(key, _)| key.clone())
            .collect()
    }
}

impl Version {
    fn age(&self, now: Duration) -> Duration {
        whole_seconds(now).saturating_sub(self.modified)
    }
}

/// The headers that an age is made of count whole seconds.
fn whole_seconds(moment: Duration) -> Duration {
    Duration::from_secs(moment.as_secs())
}

fn digest(body: &[u8]) -> ETag {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    ETag(format!("\"{:016x}\"", hasher.finish()))
}

/// A bucket in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    bucket: Arc<Mutex<Bucket>>,
    clock: VirtualClock,
    actor: u64,
}

impl MemoryStore {
    /// An empty bucket whose clock is `clock`.
    pub fn new(clock: VirtualClock) -> Self {
        Self {
            bucket: Arc::default(),
            clock,
            actor: 0,
        }
    }

    /// The same bucket, as seen by somebody else.
    pub fn seen_by(&self, actor: u64) -> Self {
        Self {
            actor,
            ..self.clone()
        }
    }

    /// Looks at the bucket, or changes it behind everyone's back.
    pub fn with<T>(&self, look: impl FnOnce(&mut Bucket, Duration) -> T) -> T {
        let now = self.clock.now();
        let mut bucket = locked(&self.bucket);
        bucket.visit = (now, self.actor);
        look(&mut bucket, now)
    }

    /// All keys, in order.
    pub fn keys(&self) -> Vec<String> {
        self.with(|bucket, _| bucket.objects.keys().cloned().collect())
    }

    /// The body of an object.
    pub fn body(&self, key: &str) -> Option<Bytes> {
        self.with(|bucket, _| bucket.objects.get(key).map(|version| version.body.clone()))
    }
}

impl MemoryUpload {
    /// An upload without parts.
    pub fn new(key: &str, metadata: &Metadata) -> Self {
        Self {
            key: key.to_owned(),
            metadata: metadata.clone(),
            parts: Vec::new(),
        }
    }

    /// Adds the next part.
    pub fn push(&mut self, part: Bytes) {
        self.parts.push(part);
    }
}

impl ObjectStore for MemoryStore {
    type Upload = MemoryUpload;

    async fn get(&self, key: &str, limit: u64) -> PortResult<Option<Object>> {
        self.with(|bucket, now| bucket.get(now, key, limit))
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> PortResult<Option<Bytes>> {
        Ok(self.with(|bucket, _| bucket.get_range(key, offset, length)))
    }

    async fn head(&self, key: &str) -> PortResult<Option<ObjectHead>> {
        Ok(self.with(|bucket, now| bucket.head(now, key)))
    }

    async fn put(&self, key: &str, body: Bytes, metadata: &Metadata, condition: PutIf) -> PortResult<ETag> {
        self.with(|bucket, now| bucket.put(now, key, body, metadata, &condition))
    }

    async fn begin_upload(&self, key: &str, metadata: &Metadata) -> PortResult<MemoryUpload> {
        Ok(MemoryUpload::new(key, metadata))
    }

    async fn upload_part(&self, upload: &mut MemoryUpload, body: Bytes) -> PortResult<()> {
        upload.push(body);
        Ok(())
    }

    async fn complete_upload(&self, upload: MemoryUpload) -> PortResult<ETag> {
        self.with(|bucket, now| bucket.complete(now, upload))
    }

    async fn abort_upload(&self, _upload: MemoryUpload) -> PortResult<()> {
        Ok(())
    }

    async fn delete(&self, key: &str, only: Option<&ETag>) -> PortResult<()> {
        self.with(|bucket, _| bucket.delete(key, only))
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> PortResult<Vec<String>> {
        Ok(self.with(|bucket, _| bucket.list(prefix, after)))
    }
}

// --------------------------------------------------------------------------------------------------- task table

/// The largest item that DynamoDB takes.
const LARGEST_ITEM: usize = 400 * 1024;
/// The largest batch that DynamoDB takes.
const LARGEST_BATCH: usize = 25;

/// Which of sosw's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Where tasks are created and started.
    Tasks,
    /// Where failed tasks wait for their next attempt.
    Retry,
    /// Where finished tasks are kept.
    Closed,
}

/// A task in one of the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its attributes.
    pub task: Task,
    /// Since when it stands there.
    pub since: Duration,
}

/// The three tables, and the index with its lag.
#[derive(Debug, Clone)]
pub struct TableState {
    /// The tasks table by task id.
    pub tasks: BTreeMap<String, Item>,
    /// The retry table by task id.
    pub retry: BTreeMap<String, Item>,
    /// The closed table by task id.
    pub closed: BTreeMap<String, Item>,
    /// Meta rows in the order of their writing.
    pub meta: Vec<MetaRow>,
    /// How far the greenfield index lags behind the table.
    pub index_lag: Duration,
    /// How often each task was created, over all time: more than once is a lost guarantee.
    pub created: BTreeMap<String, u64>,
    /// Every task as it was created, oldest first, and since when it stood there.
    pub births: Vec<Item>,
    /// Whether a batch overwrites what is there, as `BatchWriteItem` does.
    pub overwrites: bool,
    /// What a batch has overwritten, as it was before.
    pub overwritten: Vec<Item>,
}

impl Default for TableState {
    fn default() -> Self {
        Self {
            tasks: BTreeMap::new(),
            retry: BTreeMap::new(),
            closed: BTreeMap::new(),
            meta: Vec::new(),
            index_lag: Duration::ZERO,
            created: BTreeMap::new(),
            births: Vec::new(),
            overwrites: false,
            overwritten: Vec::new(),
        }
    }
}

impl TableState {
    /// One of the tables.
    pub fn table(&mut self, place: Place) -> &mut BTreeMap<String, Item> {
        match place {
            Place::Tasks => &mut self.tasks,
            Place::Retry => &mut self.retry,
            Place::Closed => &mut self.closed,
        }
    }

    /// Moves a task from the tasks table, as an orchestrator or a scavenger would. `false` if it is not there.
    pub fn move_task(&mut self, now: Duration, task_id: &str, to: Place) -> bool {
        let Some(item) = self.tasks.remove(task_id) else {
            return false;
        };
        self.table(to)
            .insert(task_id.to_owned(), Item { since: now, ..item });
        true
    }

    /// Starts a task as an orchestrator would: its greenfield goes to the future. `false` if it is not there.
    pub fn start_task(&mut self, task_id: &str, greenfield: Greenfield) -> bool {
        self.tasks
            .get_mut(task_id)
            .map(|item| item.task.greenfield = greenfield)
            .is_some()
    }

    /// See [`TaskTable::newest_greenfield`].
    pub fn newest_greenfield(
        &self,
        now: Duration,
        labourer_id: &str,
        not_after: Greenfield,
    ) -> Option<Greenfield> {
        self.tasks
            .values()
            .filter(|item| item.task.labourer_id == labourer_id && item.since + self.index_lag <= now)
            .map(|item| item.task.greenfield)
            .filter(|greenfield| *greenfield <= not_after)
            .max()
    }

    /// See [`TaskTable::create`].
    pub fn create(&mut self, now: Duration, tasks: &[Task]) -> PortResult<Vec<Created>> {
        if tasks.len() > LARGEST_BATCH {
            let message = format!("a batch has at most {LARGEST_BATCH} statements");
            return Err(refused(
                "dynamodb:BatchExecuteStatement",
                "ValidationException",
                message,
            ));
        }
        Ok(tasks
            .iter()
            .map(|task| match self.tasks.get_mut(&task.task_id) {
                Some(there) if self.overwrites => {
                    let new = Item {
                        task: task.clone(),
                        since: now,
                    };
                    self.overwritten.push(std::mem::replace(there, new));
                    Created::Now
                }
                _ => self.insert(now, task),
            })
            .collect())
    }

    /// See [`TaskTable::create_in_doubt`].
    pub fn create_in_doubt(&mut self, now: Duration, task: &Task) -> PortResult<InDoubt> {
        if self.retry.contains_key(&task.task_id) || self.closed.contains_key(&task.task_id) {
            return Ok(InDoubt::AlreadyThere);
        }
        match self.insert(now, task) {
            Created::Now => Ok(InDoubt::Created),
            Created::Refused(message) => Ok(InDoubt::Refused(message)),
            _ => Ok(InDoubt::AlreadyThere),
        }
    }

    fn insert(&mut self, now: Duration, task: &Task) -> Created {
        if self.tasks.contains_key(&task.task_id) {
            return Created::AlreadyThere;
        }
        if task.payload.len() + task.task_id.len() + task.labourer_id.len() > LARGEST_ITEM {
            return Created::Refused("ValidationError: the item is larger than 400 KB".to_owned());
        }
        let item = Item {
            task: task.clone(),
            since: now,
        };
        self.births.push(item.clone());
        self.tasks.insert(task.task_id.clone(), item);
        *self.created.entry(task.task_id.clone()).or_default() += 1;
        Created::Now
    }
}

/// The task tables in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryTasks {
    tables: Arc<Mutex<TableState>>,
    clock: VirtualClock,
}

impl MemoryTasks {
    /// Empty tables whose clock is `clock`.
    pub fn new(clock: VirtualClock) -> Self {
        Self {
            tables: Arc::default(),
            clock,
        }
    }

    /// Looks at the tables, or changes them as an orchestrator would.
    pub fn with<T>(&self, look: impl FnOnce(&mut TableState, Duration) -> T) -> T {
        let now = self.clock.now();
        look(&mut locked(&self.tables), now)
    }
}

impl TaskTable for MemoryTasks {
    async fn newest_greenfield(
        &self,
        labourer_id: &str,
        not_after: Greenfield,
    ) -> PortResult<Option<Greenfield>> {
        Ok(self.with(|tables, now| tables.newest_greenfield(now, labourer_id, not_after)))
    }

    async fn create(&self, tasks: &[Task]) -> PortResult<Vec<Created>> {
        self.with(|tables, now| tables.create(now, tasks))
    }

    async fn create_in_doubt(&self, task: &Task) -> PortResult<InDoubt> {
        self.with(|tables, now| tables.create_in_doubt(now, task))
    }

    async fn record_meta(&self, rows: &[MetaRow]) -> PortResult<()> {
        self.with(|tables, _| tables.meta.extend_from_slice(rows));
        Ok(())
    }
}

// ------------------------------------------------------------------------------------------------------ siblings

/// Queues the payloads of siblings instead of starting them. Clones share the queue.
#[derive(Debug, Clone, Default)]
pub struct MemorySiblings {
    queue: Arc<Mutex<VecDeque<(u64, String)>>>,
    actor: u64,
}

impl MemorySiblings {
    /// The same queue, as seen by somebody else.
    pub fn seen_by(&self, actor: u64) -> Self {
        Self {
            actor,
            ..self.clone()
        }
    }

    /// Takes the payload that waits longest, and who spawned it.
    pub fn next_with_spawner(&self) -> Option<(u64, String)> {
        locked(&self.queue).pop_front()
    }

    /// The payloads that wait, in the order of spawning.
    pub fn waiting(&self) -> Vec<String> {
        locked(&self.queue)
            .iter()
            .map(|(_, payload)| payload.clone())
            .collect()
    }

    /// Takes the payload that waits longest.
    pub fn next(&self) -> Option<String> {
        self.next_with_spawner().map(|(_, payload)| payload)
    }

    /// Queues a payload.
    pub fn push(&self, payload: String) {
        locked(&self.queue).push_back((self.actor, payload));
    }
}

impl Siblings for MemorySiblings {
    async fn spawn(&self, payload: String) -> PortResult<()> {
        self.push(payload);
        Ok(())
    }
}

fn refused(operation: &'static str, code: &str, message: impl Into<String>) -> PortError {
    PortError::Refused {
        operation,
        code: code.to_owned(),
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures_util::future::{join, join_all, pending};

    use super::*;

    #[test]
    fn sleeps_end_in_the_order_of_their_deadlines() {
        let clock = VirtualClock::default();
        let host = VirtualHost::new(clock.clone(), 0);
        let order = RefCell::new(Vec::new());
        let sleeper = |seconds: u64| {
            let (host, order) = (&host, &order);
            async move {
                host.sleep(Duration::from_secs(seconds)).await;
                order.borrow_mut().push((seconds, host.monotonic().as_secs()));
            }
        };
        clock.run(join_all([3, 1, 2].map(sleeper))).unwrap();
        assert_eq!(order.into_inner(), [(1, 1), (2, 2), (3, 3)]);
        assert_eq!(host.wall_ms(), EPOCH_MS + 3000);
    }

    #[test]
    fn a_future_that_waits_for_nothing_is_stuck() {
        assert_eq!(VirtualClock::default().run(pending::<()>()), Err(Stuck));
    }

    #[test]
    fn what_is_scheduled_happens_though_its_sender_is_gone() {
        let clock = VirtualClock::default();
        let tasks = MemoryTasks::new(clock.clone());
        let late = tasks.clone();
        clock.schedule(Duration::from_secs(5), move || {
            late.with(|tables, _| tables.index_lag = Duration::MAX)
        });
        clock.advance(Duration::from_secs(4));
        assert_eq!(tasks.with(|tables, _| tables.index_lag), Duration::ZERO);
        clock.advance(Duration::from_secs(1));
        assert_eq!(tasks.with(|tables, _| tables.index_lag), Duration::MAX);
    }

    #[test]
    fn a_dropped_sleep_leaves_nothing_behind() {
        let clock = VirtualClock::default();
        let sleep = clock.sleep_until(Duration::from_secs(9));
        let (_, ()) = clock
            .run(join(
                async { drop(sleep) },
                clock.sleep_until(Duration::from_secs(1)),
            ))
            .unwrap();
        assert_eq!(clock.next_event(), None);
        assert_eq!(clock.now(), Duration::from_secs(1));
    }

    #[test]
    fn the_same_seed_gives_the_same_chance() {
        let host = |seed| VirtualHost::new(VirtualClock::default(), seed);
        let (one, same, other) = (host(1), host(1), host(2));
        let (first, second) = (one.random(), one.random());
        assert_eq!((first, second), (same.random(), same.random()));
        assert_ne!(first, second);
        assert_ne!(first, other.random());
    }

    #[test]
    fn the_index_lags_behind_the_table() {
        let clock = VirtualClock::default();
        let tasks = MemoryTasks::new(clock.clone());
        tasks.with(|tables, now| {
            tables.index_lag = Duration::from_secs(2);
            let task = Task {
                task_id: "1".to_owned(),
                labourer_id: "worker".to_owned(),
                created_at: "0".to_owned(),
                greenfield: Greenfield::from_nanos(7),
                payload: "{}".to_owned(),
            };
            tables.create(now, &[task]).unwrap();
        });
        let newest =
            || tasks.with(|tables, now| tables.newest_greenfield(now, "worker", Greenfield::from_nanos(9)));
        assert_eq!(newest(), None);
        clock.advance(Duration::from_secs(2));
        assert_eq!(newest(), Some(Greenfield::from_nanos(7)));
    }
}
