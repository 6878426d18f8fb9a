//! A local cloud: S3, DynamoDB, Lambda and SQS as real servers on loopback, inside this process, so that what talks to AWS
//! runs without an account. It is for tests, for `jobmill run` without `--cloud aws`, and for
//! `jobmill up`; nothing here is for production.
//!
//! | module | what it is for |
//! |---|---|
//! | this one | [`LocalCloud`]: starts and stops everything, and looks at it past HTTP |
//! | `front` | the one endpoint: routes a request to its service, lets [`Faults`] happen to it, counts it |
//! | `service` | what `front` needs of a service; a new one is one module that implements it |
//! | `s3`, `dynamo`, `lambda`, `sqs` | the services. None knows another: this module gives to `lambda` where its records go |
//! | `faults` | which requests go wrong, and how; write rates of tables |
//! | `stats` | what was asked for, counted |
//! | `counting` | [`CountingTable`]: a DynamoDB that keeps ids only, for jobs of many millions of tasks |
//! | `counting_queue` | [`CountingQueue`]: queues of many millions of tasks and their workers, which keep states only |
//! | `http` | listeners, connections, answers |
//! | `account`, `clock`, `random`, `error` | who the cloud is, time, chance, what can go wrong |
//!
//! Arrows between modules go one way: this one -> `front` -> services -> `service` -> `faults` -> the rest.

mod account;
mod clock;
mod counting;
mod counting_queue;
mod dynamo;
mod error;
mod faults;
mod front;
mod http;
mod lambda;
mod random;
mod s3;
mod service;
mod sqs;
mod stats;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jobmill_core::task::tables::Tables;
use serde_json::Value;
use tokio::runtime::{Builder, Handle, Runtime};

pub use account::{ACCOUNT, REGION};
pub use counting::{CountingStats, CountingTable};
pub use counting_queue::{CountingQueue, QueueOptions, QueueStats};
pub use dynamo::table_definitions;
pub use error::LocalError;
pub use faults::{Effect, Faults, Rule, RuleId, Service, WriteRate};
pub use lambda::{FunctionSpec, InvocationKind, InvocationOutcome, InvocationRecord, InvokeResult, LogLine};
pub use stats::{OperationStats, StatsSnapshot};

use account::environment;
use clock::Clock;
use dynamo::DynamoEndpoint;
use front::Front;
use lambda::{Lambda, LambdaEndpoint};
use random::Random;
use s3::{S3Endpoint, Store};
use sqs::{Sqs, SqsEndpoint};
use stats::Stats;

/// How a local cloud is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LocalCloudOptions {
    /// The seed of everything that is left to chance.
    pub seed: u64,
    /// Threads that serve.
    pub threads: usize,
    /// The port; 0: any that is free.
    pub port: u16,
    /// Where objects and items are kept, so that they are there at the next start; none: in memory. What waits in queues
    /// of SQS and of functions is never kept.
    pub folder: Option<PathBuf>,
}

impl LocalCloudOptions {
    /// Sets the seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets where objects and items are kept.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Sets how many threads serve.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }
}

impl Default for LocalCloudOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            threads: 2,
            port: 0,
            folder: None,
        }
    }
}

/// An object as it lies in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// The whole body.
    pub body: Bytes,
    /// The ETag, without quotation marks.
    pub etag: String,
    /// User metadata, without the `x-amz-meta-` of the header.
    pub metadata: BTreeMap<String, String>,
}

/// S3, DynamoDB, Lambda and SQS on one port of 127.0.0.1. Stops when dropped.
#[derive(Debug)]
pub struct LocalCloud {
    front: Arc<Front>,
    store: Arc<Store>,
    clock: Arc<Clock>,
    lambda: Lambda,
    sqs: Sqs,
    random: Random,
    address: SocketAddr,
    _threads: Threads,
}

impl LocalCloud {
    /// Starts a cloud with nothing in it, on threads of its own.
    ///
    /// # Errors
    /// [`LocalError::Io`] if a port or a thread can't be had, or the folder can't be used; [`LocalError::DynamoDb`] if the
    /// items in it can't.
    pub async fn start(options: LocalCloudOptions) -> Result<Self, LocalError> {
        let threads = Threads::start(options.threads)?;
        let clock = Arc::new(Clock::default());
        let folder = options.folder.as_deref();
        let store = match folder {
            Some(folder) => Store::open(&folder.join("s3"))?,
            None => Store::default(),
        };
        let store = Arc::new(store);
        let faults = Faults::new(options.seed);
        let stats = Arc::new(Stats::default());
        let (listener, address) = threads.run(http::bind_to(options.port)).await??;
        let database = folder.map(|folder| folder.join("dynamodb.sqlite"));
        let dynamo = DynamoEndpoint::start(database, faults.clone(), Arc::clone(&stats));
        let dynamo = threads.run(dynamo).await??;
        let handle = threads.run(async { Handle::current() }).await?;
        let endpoint = format!("http://{address}");
        let sqs = Sqs::new(endpoint.clone());
        let lambda = Lambda::new(handle.clone(), environment(&endpoint), Arc::new(sqs.clone()));
        let front = Arc::new(Front {
            s3: S3Endpoint::new(Arc::clone(&store), Arc::clone(&clock)),
            dynamo,
            lambda: LambdaEndpoint::new(lambda.clone()),
            sqs: SqsEndpoint::new(sqs.clone()),
            faults,
            stats,
        });
        let served = Arc::clone(&front);
        handle.spawn(http::serve(listener, move |request| {
            Arc::clone(&served).handle(request)
        }));
        let random = Random::new(options.seed);
        Ok(Self {
            front,
            store,
            clock,
            lambda,
            sqs,
            random,
            address,
            _threads: threads,
        })
    }

    /// The one endpoint of all services, for `AWS_ENDPOINT_URL`. S3 needs path-style requests.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What an AWS SDK in another process needs to find this cloud, as environment variables.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        environment(&self.endpoint())
    }

    /// The injector of faults.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.front.faults
    }

    /// What the cloud has done so far.
    #[must_use]
    pub fn stats(&self) -> StatsSnapshot {
        self.front.stats.snapshot()
    }

    /// Starts counting from zero.
    pub fn reset_stats(&self) {
        self.front.stats.reset();
    }

    /// Moves the wall clock of S3 forward (`Date` and `Last-Modified`), so that leases run out without waiting.
    pub fn advance_clock(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Creates a bucket; one that exists is left as it is.
    pub fn create_bucket(&self, name: &str) {
        self.store.create_bucket(name);
    }

    /// The keys of a bucket that begin with `prefix`, in order; none if there is no such bucket.
    #[must_use]
    pub fn bucket_keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let buckets = self.store.lock();
        let Some(bucket) = buckets.get(bucket) else {
            return Vec::new();
        };
        bucket.list(prefix, "").map(|(key, _)| key.clone()).collect()
    }

    /// An object, past HTTP, faults and counts.
    #[must_use]
    pub fn object(&self, bucket: &str, key: &str) -> Option<StoredObject> {
        let object = self.store.object(bucket, key)?;
        Some(StoredObject {
            body: object.content.to_bytes(),
            etag: object.etag.clone(),
            metadata: object.metadata.clone().into_iter().collect(),
        })
    }

    /// Puts an object, past HTTP, faults and counts; the body is not copied.
    ///
    /// # Errors
    /// [`LocalError::NoSuchBucket`].
    pub fn put_object(&self, bucket: &str, key: &str, body: impl Into<Bytes>) -> Result<(), LocalError> {
        let put = self.store.put(bucket, key, body.into(), self.clock.now());
        Ok(put.ok_or_else(|| LocalError::NoSuchBucket(bucket.to_owned()))??)
    }

    /// Deletes an object, past HTTP, faults and counts; one that is not there is deleted already.
    pub fn delete_object(&self, bucket: &str, key: &str) {
        if let Some(bucket) = self.store.lock().get_mut(bucket)
            && let Err(error) = bucket.remove(key)
        {
            tracing::warn!(%error, key, "an object could not be deleted");
        }
    }

    /// Creates the task tables that a configuration names; those that were kept are left as they are.
    ///
    /// # Errors
    /// [`LocalError::DynamoDb`] if a name is not one of DynamoDB's.
    pub fn create_task_tables(&self, names: &Tables) -> Result<(), LocalError> {
        let is_missing = |definition: &Value| {
            let name = definition.get("TableName").and_then(Value::as_str);
            !name.is_some_and(|name| self.front.dynamo.has_table(name))
        };
        table_definitions(names)?
            .into_iter()
            .filter(is_missing)
            .try_for_each(|definition| self.create_table(definition))
    }

    /// Creates a table from the JSON of a CreateTable request.
    ///
    /// # Errors
    /// [`LocalError::Json`] or [`LocalError::DynamoDb`].
    pub fn create_table(&self, definition: Value) -> Result<(), LocalError> {
        self.front.dynamo.create_table(definition)
    }

    /// All items of a table in DynamoDB's JSON (`{"task_id": {"S": "..."}}`), past HTTP, faults and counts.
    ///
    /// # Errors
    /// [`LocalError::DynamoDb`] if there is no such table.
    pub fn scan_table(&self, table: &str) -> Result<Vec<Value>, LocalError> {
        self.front.dynamo.scan(table)
    }

    /// One item in DynamoDB's JSON.
    ///
    /// # Errors
    /// [`LocalError::DynamoDb`] if there is no such table, or the key is not its key.
    pub fn get_item(&self, table: &str, key: Value) -> Result<Option<Value>, LocalError> {
        self.front.dynamo.get(table, key)
    }

    /// Puts one item in DynamoDB's JSON.
    ///
    /// # Errors
    /// [`LocalError::DynamoDb`] if the table refuses it.
    pub fn put_item(&self, table: &str, item: Value) -> Result<(), LocalError> {
        self.front.dynamo.put(table, item)
    }

    /// Deletes one item.
    ///
    /// # Errors
    /// [`LocalError::DynamoDb`] if there is no such table, or the key is not its key.
    pub fn delete_item(&self, table: &str, key: Value) -> Result<(), LocalError> {
        self.front.dynamo.delete(table, key)
    }

    /// Creates a queue; one that exists is left as it is. Returns its URL.
    pub fn create_queue(&self, name: &str) -> String {
        self.sqs.create(name)
    }

    /// The ARN of a queue of that name, as destinations of functions name it.
    #[must_use]
    pub fn queue_arn(&self, name: &str) -> String {
        sqs::arn_of(name)
    }

    /// Makes a function known; one of the same name gets the new settings from its next instance on.
    pub fn register_function(&self, spec: FunctionSpec) {
        self.lambda.register(spec);
    }

    /// Invokes a function asynchronously, past HTTP and faults. Returns the request id.
    ///
    /// # Errors
    /// [`LocalError::NoSuchFunction`] or [`LocalError::TooManyInvocations`].
    pub fn invoke_event(&self, function: &str, payload: impl Into<Bytes>) -> Result<String, LocalError> {
        self.lambda.invoke_event(function, payload.into())
    }

    /// Invokes a function and waits for its answer, past HTTP and faults.
    ///
    /// # Errors
    /// [`LocalError::NoSuchFunction`] or [`LocalError::TooManyInvocations`]; that the function failed is no error.
    pub async fn invoke(
        &self,
        function: &str,
        payload: impl Into<Bytes>,
    ) -> Result<InvokeResult, LocalError> {
        self.lambda.invoke(function, payload.into()).await
    }

    /// Waits until no invocation is queued, running, or waiting to be tried again.
    ///
    /// # Errors
    /// [`LocalError::NotIdle`] after `timeout`.
    pub async fn wait_idle(&self, timeout: Duration) -> Result<(), LocalError> {
        self.lambda.wait_idle(timeout).await
    }

    /// Each attempt at each invocation, in the order in which they began.
    #[must_use]
    pub fn invocations(&self) -> Vec<InvocationRecord> {
        self.lambda.invocations()
    }

    /// What functions printed.
    #[must_use]
    pub fn logs(&self) -> Vec<LogLine> {
        self.lambda.logs()
    }

    /// Waits until a function has printed a line that contains `part`, and returns the first of them.
    ///
    /// # Errors
    /// [`LocalError::NoSuchLog`] after `timeout`.
    pub async fn wait_log(&self, part: &str, timeout: Duration) -> Result<LogLine, LocalError> {
        self.lambda.wait_log(part, timeout).await
    }

    /// How many instances there are.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.lambda.instances()
    }

    /// Kills an instance that is at work, by chance. Returns its number.
    pub fn kill_random(&self) -> Option<u64> {
        self.lambda.kill_random(&self.random)
    }

    /// Kills an instance of that function that is at work, by chance. Returns its number.
    pub fn kill_random_of(&self, function: &str) -> Option<u64> {
        self.lambda.kill_random_of(function, &self.random)
    }

    /// Kills all instances. Returns how many there were.
    pub fn kill_all_instances(&self) -> usize {
        self.lambda.kill_all()
    }
}

/// The runtime that everything runs on; stops it when dropped.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Threads {
    fn start(count: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(count.max(1))
            .thread_name("local-cloud")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Runs a future there, to its end.
    async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, LocalError> {
        let runtime = self.0.as_ref().ok_or(LocalError::Stopped)?;
        runtime.spawn(future).await.map_err(|_| LocalError::Stopped)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let Some(runtime) = self.0.take() else { return };
        // Instances are killed when their tasks are dropped, which the end of the runtime waits for. A runtime may not
        // be waited for on the thread of another one, so a thread of its own does it.
        let ending = std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(5)));
        if ending.join().is_err() {
            tracing::warn!("the local cloud did not stop in order");
        }
    }
}
