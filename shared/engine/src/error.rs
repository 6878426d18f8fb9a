//! Why an invocation failed, and what that means for its caller.

use jobmill_core::{Error, ErrorKind};

use crate::ports::PortError;

/// An invocation that did not come to an outcome. Nothing is lost: what was spooled is taken up by a retry of the same
/// event or by the sweep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The input can't be right: to send it again would not help.
    #[error(transparent)]
    Input(#[from] Error),
    /// A service did not do what was asked.
    #[error("while {step}: {source}")]
    Port {
        /// What was being done.
        step: &'static str,
        /// What the service answered.
        source: PortError,
    },
    /// The lease on a run's lock ran out before the service answered, so that somebody else may hold the lock by now.
    #[error(
        "the lock on {file_name:?} could not be renewed within its lease of {lease_seconds} s: the work stopped with the \
         first {done} rows done. The same event, a continuation or the sweep goes on there"
    )]
    LeaseRanOut {
        /// The name of the queue file.
        file_name: String,
        /// How long the lease is.
        lease_seconds: u32,
        /// Rows known to be tasks.
        done: u64,
    },
}

impl EngineError {
    /// The stable type of the error, as callers see it.
    pub const fn error_type(&self) -> &'static str {
        match self {
            Self::Input(error) => error.kind.name(),
            Self::LeaseRanOut { .. } => "LeaseRanOut",
            Self::Port { source, .. } => match source {
                PortError::Environment { kind, .. } => kind,
                PortError::Refused { .. } => "ServiceRefused",
                PortError::Throttled { .. } => "ServiceThrottled",
                PortError::PreconditionFailed { .. }
                | PortError::Conflict { .. }
                | PortError::Unknown { .. } => "ServiceUnavailable",
            },
        }
    }

    pub(crate) fn damaged(sentence: impl Into<String>) -> Self {
        Self::Input(Error::new(ErrorKind::DamagedQueue, sentence))
    }
}

/// Says what was being done when a port failed.
pub(crate) trait During<T> {
    fn during(self, step: &'static str) -> Result<T, EngineError>;
}

impl<T> During<T> for Result<T, PortError> {
    fn during(self, step: &'static str) -> Result<T, EngineError> {
        self.map_err(|source| EngineError::Port { step, source })
    }
}
