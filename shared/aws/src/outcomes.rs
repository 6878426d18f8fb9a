//! The queue of outcomes on SQS: where the destinations of workers' functions send how their invocations ended.
//!
//! Permissions: `sqs:ReceiveMessage` and `sqs:DeleteMessage` on the queue.

use aws_sdk_sqs::error::BuildError;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message};
use jobmill_engine::dispatch::ports::{News, Outcomes};
use jobmill_engine::ports::{PortError, PortResult};

use crate::clients::{Clients, LONG_POLL};
use crate::error::{port_error, refused};

/// As many messages as one request may receive or delete.
const BATCH: usize = 10;

const RECEIVE: &str = "sqs:ReceiveMessage";
const DELETE: &str = "sqs:DeleteMessageBatch";

/// The queue of outcomes of a deployment, if it has one.
#[derive(Debug, Clone)]
pub struct SqsOutcomes(Option<Queue>);

#[derive(Debug, Clone)]
struct Queue {
    client: aws_sdk_sqs::Client,
    url: String,
}

impl SqsOutcomes {
    /// The queue at `url`; with none there are no outcomes.
    pub fn new(clients: &Clients, url: Option<String>) -> Self {
        Self(url.map(|url| Queue {
            client: clients.sqs(),
            url,
        }))
    }
}

impl Outcomes for SqsOutcomes {
    fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// One `ReceiveMessage`, which SQS answers as soon as there is a message. Without a queue it never ends.
    async fn receive(&self) -> PortResult<Vec<News>> {
        let Some(queue) = &self.0 else {
            return std::future::pending().await;
        };
        let received = queue
            .client
            .receive_message()
            .queue_url(&queue.url)
            .max_number_of_messages(BATCH as i32)
            .wait_time_seconds(LONG_POLL.as_secs() as i32)
            .send()
            .await
            .map_err(|error| queue.named(port_error(RECEIVE, error)))?;
        Ok(received
            .messages
            .unwrap_or_default()
            .into_iter()
            .filter_map(news)
            .collect())
    }

    async fn acknowledge(&self, handles: &[String]) -> PortResult<()> {
        let Some(queue) = &self.0 else { return Ok(()) };
        for some in handles.chunks(BATCH) {
            let entries: Result<Vec<_>, BuildError> = (0..).zip(some).map(entry).collect();
            let entries =
                entries.map_err(|error| refused(DELETE, "ConstructionFailure", error.to_string()))?;
            let deleted = queue
                .client
                .delete_message_batch()
                .queue_url(&queue.url)
                .set_entries(Some(entries))
                .send()
                .await
                .map_err(|error| queue.named(port_error(DELETE, error)))?;
            for failed in deleted.failed {
                tracing::warn!(
                    code = failed.code,
                    message = failed.message,
                    "an outcome will come again"
                );
            }
        }
        Ok(())
    }
}

impl Queue {
    /// An error of a request to this queue, with what to do where that is known.
    fn named(&self, error: PortError) -> PortError {
        let PortError::Refused {
            operation,
            code,
            message,
        } = error
        else {
            return error;
        };
        let url = &self.url;
        let message = match code.as_str() {
            "AWS.SimpleQueueService.NonExistentQueue" | "QueueDoesNotExist" => {
                format!("there is no queue {url}: correct its URL in the configuration, or create it")
            }
            _ => format!("{message} (queue {url})"),
        };
        PortError::Refused {
            operation,
            code,
            message,
        }
    }
}

/// A message without a body says nothing; one without a handle can't be acknowledged. SQS sends neither.
fn news(message: Message) -> Option<News> {
    Some(News {
        body: message.body?,
        handle: message.receipt_handle?,
    })
}

fn entry((id, handle): (usize, &String)) -> Result<DeleteMessageBatchRequestEntry, BuildError> {
    DeleteMessageBatchRequestEntry::builder()
        .id(id.to_string())
        .receipt_handle(handle)
        .build()
}
