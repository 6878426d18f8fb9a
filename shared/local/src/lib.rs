//! A local cloud: S3, DynamoDB and Lambda as real servers on loopback, inside this process, so that what talks to AWS
//! runs without an account. Faults can be injected in front of each; nothing here is for production.

mod clock;
mod dynamo;
mod faults;
mod lambda;
mod s3;
mod server;
mod stats;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

pub use dynamo::TaskTables;
pub use faults::{Effect, Faults, Rule, RuleId, Service, WriteRate};
pub use stats::{OperationStats, StatsSnapshot};

use clock::Clock;
use dynamo::DynamoEndpoint;
use lambda::LambdaEndpoint;
use s3::{S3Endpoint, Store};
use server::Front;
use stats::Stats;

/// The region that the cloud says it is in.
pub const REGION: &str = "us-east-1";
/// The account that the cloud says it belongs to.
pub const ACCOUNT: &str = "000000000000";

/// What can go wrong with the cloud itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// A port could not be bound, or a thread not be started.
    #[error("the local cloud could not start: {0}")]
    Io(#[from] std::io::Error),
    /// The database refused a request that came past HTTP.
    #[error("the local database refused a request: {0}")]
    DynamoDb(String),
    /// A request in DynamoDB's JSON was not well formed.
    #[error("not a request in the JSON of DynamoDB: {0}")]
    Json(#[from] serde_json::Error),
    /// The runtime of the cloud has ended.
    #[error("the local cloud has stopped")]
    Stopped,
    /// There is no such bucket.
    #[error("the bucket {0:?} does not exist")]
    NoSuchBucket(String),
}

/// How a local cloud is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LocalCloudOptions {
    /// The seed of everything that is left to chance.
    pub seed: u64,
    /// Threads that serve.
    pub threads: usize,
}

impl Default for LocalCloudOptions {
    fn default() -> Self {
        Self { seed: 0, threads: 2 }
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
    pub metadata: std::collections::BTreeMap<String, String>,
}

/// S3, DynamoDB and Lambda on one port of 127.0.0.1. Stops when dropped.
#[derive(Debug)]
pub struct LocalCloud {
    front: Arc<Front>,
    store: Arc<Store>,
    clock: Arc<Clock>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl LocalCloud {
    /// Starts a cloud with nothing in it, on threads of its own.
    ///
    /// # Errors
    /// [`LocalError::Io`] if a port or a thread can't be had.
    pub async fn start(options: LocalCloudOptions) -> Result<Self, LocalError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .thread_name("local-cloud")
            .enable_all()
            .build()?;
        let clock = Arc::new(Clock::default());
        let store = Arc::new(Store::default());
        let faults = Faults::new(options.seed);
        let (listener, address) = runtime
            .spawn(server::bind())
            .await
            .map_err(|_| LocalError::Stopped)??;
        let dynamo = runtime
            .spawn(DynamoEndpoint::start())
            .await
            .map_err(|_| LocalError::Stopped)??;
        let front = Arc::new(Front {
            s3: S3Endpoint::new(Arc::clone(&store), Arc::clone(&clock)),
            dynamo,
            lambda: LambdaEndpoint,
            faults,
            stats: Arc::new(Stats::default()),
        });
        let served = Arc::clone(&front);
        runtime.spawn(server::serve(listener, move |request| {
            Arc::clone(&served).handle(request)
        }));
        Ok(Self {
            front,
            store,
            clock,
            address,
            runtime: Some(runtime),
        })
    }

    /// The one endpoint of all three services, for `AWS_ENDPOINT_URL`. S3 needs path-style requests.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The database's own port, past faults and counts, to measure without them.
    #[must_use]
    pub fn direct_dynamodb_endpoint(&self) -> String {
        format!("http://{}", self.front.dynamo.address())
    }

    /// What an AWS SDK in another process needs to find this cloud, as environment variables.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.endpoint().as_str()),
            ("AWS_REGION", REGION),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
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
        self.store.create_bucket(name, self.clock.now());
    }

    /// The keys of a bucket that begin with `prefix`, in order; none if there is no such bucket.
    #[must_use]
    pub fn bucket_keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let buckets = self.store.lock();
        let Some(bucket) = buckets.get(bucket) else {
            return Vec::new();
        };
        let keys = bucket.from(prefix).map(|(key, _)| key);
        keys.take_while(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// An object, past HTTP, faults and counts.
    #[must_use]
    pub fn object(&self, bucket: &str, key: &str) -> Option<StoredObject> {
        let object = self.store.object(bucket, key)?;
        Some(StoredObject {
            body: object.content.to_bytes(),
            etag: object.etag.clone(),
            metadata: object
                .attributes
                .metadata
                .clone()
                .unwrap_or_default()
                .into_iter()
                .collect(),
        })
    }

    /// Puts an object, past HTTP, faults and counts; the body is not copied.
    ///
    /// # Errors
    /// [`LocalError::NoSuchBucket`].
    pub fn put_object(&self, bucket: &str, key: &str, body: impl Into<Bytes>) -> Result<(), LocalError> {
        let put = self.store.put(bucket, key, body.into(), self.clock.now());
        put.ok_or_else(|| LocalError::NoSuchBucket(bucket.to_owned()))
    }

    /// Creates the task tables.
    ///
    /// # Errors
    /// [`LocalError::DynamoDb`] if a table exists already, or a name is not one of DynamoDB's.
    pub fn create_task_tables(&self, tables: &TaskTables) -> Result<(), LocalError> {
        tables
            .definitions()
            .into_iter()
            .try_for_each(|definition| self.front.dynamo.create_table(definition))
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
}

impl Drop for LocalCloud {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
