//! SQS in memory: standard queues with visibility time-outs, delays and long polling, in the JSON protocol.
//! No FIFO queues, no message attributes, no dead-letter queues, no retention: a message stays until it is deleted.

mod endpoint;
mod queue;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use crate::account::{ACCOUNT, REGION};
use crate::clock;
use crate::service::Deliver;

pub(crate) use endpoint::SqsEndpoint;
use queue::{Queue, Settings};

/// The largest message, and the largest sum of a batch ("Amazon SQS message quotas").
const MAX_MESSAGE: usize = 1024 * 1024;

/// All queues, by name. Cheap to clone; all clones share one state.
#[derive(Debug, Clone)]
pub(crate) struct Sqs {
    /// What the URLs of queues begin with.
    endpoint: String,
    queues: Arc<Mutex<BTreeMap<String, Arc<Queue>>>>,
}

impl Sqs {
    /// No queues, at the endpoint of the cloud.
    pub(crate) fn new(endpoint: String) -> Self {
        Self {
            endpoint,
            queues: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue of a name.
    fn queue(&self, name: &str) -> Option<Arc<Queue>> {
        self.lock().get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{ACCOUNT}/{name}", self.endpoint)
    }

    /// Creates a queue; one that exists is left as it is. Returns its URL.
    pub(crate) fn create(&self, name: &str) -> String {
        self.create_with(name, Settings::default());
        self.url(name)
    }

    /// Creates a queue, or finds the one of that name.
    fn create_with(&self, name: &str, settings: Settings) -> Arc<Queue> {
        let now = clock::system_time()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut queues = self.lock();
        let queue = queues
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(Queue::new(settings, now.as_secs())));
        Arc::clone(queue)
    }
}

impl Deliver for Sqs {
    fn deliver(&self, arn: &str, body: String) -> bool {
        let name = arn.strip_prefix(&arn_of(""));
        match name.and_then(|name| self.queue(name)) {
            Some(queue) if body.len() <= MAX_MESSAGE => {
                queue.send(body, None);
                true
            }
            _ => false,
        }
    }
}

/// The ARN of a queue of the cloud.
pub(crate) fn arn_of(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
}
