//! Lambda: its API ([`endpoint`]), functions with their queues ([`pool`]), the processes that serve them ([`instance`]),
//! each with a Runtime API of its own, and what becomes of asynchronous invocations ([`destinations`]).

mod destinations;
mod endpoint;
mod instance;
mod invocation;
mod pool;

pub use invocation::{
    FunctionSpec, InvocationKind, InvocationOutcome, InvocationRecord, InvokeResult, LogLine,
};

pub(crate) use endpoint::LambdaEndpoint;
pub(crate) use pool::Lambda;
