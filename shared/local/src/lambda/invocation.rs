//! What is known of a function and of its invocations.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

/// A function: a program that speaks the Runtime API, and how it is run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FunctionSpec {
    /// Its name.
    pub name: String,
    /// The program, as a Lambda's `bootstrap`.
    pub binary: PathBuf,
    /// What it is called with; a Lambda's `bootstrap` gets nothing.
    pub args: Vec<OsString>,
    /// Its environment, beside what Lambda sets (and [`crate::LocalCloud::environment`]). Nothing else is inherited.
    pub env: BTreeMap<OsString, OsString>,
    /// Its time-out: the process is killed then. Default: 3 s.
    pub timeout: Duration,
    /// How long it may take to ask for its first event. Default: 10 s.
    pub init_timeout: Duration,
    /// At most so many instances run at once (its reserved concurrency). Default: 10. With none at all, events are given
    /// up at once, and sent to the function's destination for failures.
    pub max_concurrency: usize,
    /// How long after a failure an `Event` is tried again; as many times as there are delays, unless the function has
    /// settings for that (`PutFunctionEventInvokeConfig`). Default: 1 s, 1 s (Lambda: 1 and 2 minutes).
    pub retry_delays: Vec<Duration>,
    /// How long an `Event` may wait before it is given up, unless the function has settings for that. Default: 6 hours.
    pub max_event_age: Duration,
}

impl FunctionSpec {
    /// A function with Lambda's defaults.
    #[must_use]
    pub fn new(name: impl Into<String>, binary: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            binary: binary.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            timeout: Duration::from_secs(3),
            init_timeout: Duration::from_secs(10),
            max_concurrency: 10,
            retry_delays: vec![Duration::from_secs(1); 2],
            max_event_age: Duration::from_secs(6 * 60 * 60),
        }
    }

    /// Sets what the program is called with.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Sets its time-out.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many instances may run at once.
    #[must_use]
    pub fn max_concurrency(mut self, instances: usize) -> Self {
        self.max_concurrency = instances;
        self
    }

    /// Sets when a failed `Event` is tried again.
    #[must_use]
    pub fn retry_delays(mut self, delays: impl IntoIterator<Item = Duration>) -> Self {
        self.retry_delays = delays.into_iter().collect();
        self
    }

    /// Sets how long an `Event` may wait.
    #[must_use]
    pub fn max_event_age(mut self, age: Duration) -> Self {
        self.max_event_age = age;
        self
    }
}

/// How an invocation was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvocationKind {
    /// Asynchronously.
    Event,
    /// By a caller who waits.
    RequestResponse,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvocationOutcome {
    /// The function answered.
    Succeeded(Bytes),
    /// The function reported an error: Lambda's `errorType` and the whole error document.
    Failed {
        /// For example `InvalidJob`, or `Runtime.InitError`.
        error_type: String,
        /// The JSON that the function sent.
        payload: Bytes,
    },
    /// The process was killed at the time-out.
    TimedOut,
    /// The process ended before it answered, by itself or killed; how, in words.
    Crashed(String),
    /// An injected fault: accepted, and nothing ran.
    Lost,
}

/// One attempt at an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvocationRecord {
    /// The function.
    pub function: String,
    /// The ARN that it was invoked by, with the version or alias if one was named.
    pub invoked_arn: String,
    /// The same in each attempt.
    pub request_id: String,
    /// How it was asked for.
    pub kind: InvocationKind,
    /// 1 for the first.
    pub attempt: u32,
    /// The trace that it is part of (X-Ray's header): its caller's, or one of its own.
    pub trace: String,
    /// The event.
    pub payload: Bytes,
    /// The instance that it ran on; none if it never ran.
    pub instance: Option<u64>,
    /// When the function got it.
    pub started: Option<SystemTime>,
    /// When it was over; none while it runs.
    pub ended: Option<SystemTime>,
    /// How it ended; none while it runs.
    pub outcome: Option<InvocationOutcome>,
}

/// What a caller of [`crate::LocalCloud::invoke`] gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvokeResult {
    /// The request id.
    pub request_id: String,
    /// 200, also when the function failed.
    pub status: u16,
    /// `Unhandled` when the function failed, crashed or timed out.
    pub function_error: Option<String>,
    /// The answer, or the error document.
    pub payload: Bytes,
}

/// A line that an instance printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The function.
    pub function: String,
    /// The instance.
    pub instance: u64,
    /// The line, without its end.
    pub text: String,
}
