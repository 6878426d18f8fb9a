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
}

impl EngineError {
    /// The stable type of the error, as callers see it.
    pub const fn error_type(&self) -> &'static str {
        match self {
            Self::Input(error) => error.kind.name(),
            Self::Port { source, .. } => match source {
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
