//! The engine's ports on S3, DynamoDB, Lambda, SQS and CloudWatch, and the machine's clock. The only crate with SDK types.
//! SDK clients are built once ([`Clients`]); every SDK error becomes a `PortError` in one place (`error.rs`).

mod clients;
mod config_source;
mod credentials;
mod dispatch;
mod error;
mod functions;
mod host;
mod metrics;
mod outcomes;
mod problem;
mod siblings;
mod store;
mod tasks;
mod transport;
mod workers;

pub use clients::{ClientOptions, Clients, DynamoClients, REQUEST_TIME};
pub use config_source::{ConfigLocation, ConfigSourceError, fetch_config};
pub use dispatch::DynamoTables;
pub use functions::{
    EventSettings, FunctionSettings, Refusal, event_settings, function_settings, may_invoke, queue_arn,
    set_event_settings,
};
pub use host::SystemHost;
pub use outcomes::SqsOutcomes;
pub use problem::Problem;
pub use siblings::{LambdaSiblings, send_event};
pub use store::{S3Store, S3Upload};
pub use tasks::{DynamoTasks, MetaContext};
pub use workers::LambdaWorkers;
