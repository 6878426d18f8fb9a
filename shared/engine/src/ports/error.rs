//! Why a port did not do what was asked.

/// Why a request to the outside did not do what was asked. Adapters map their SDK's errors to this once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// The service said "slow down" and did nothing. Try again after a pause.
    #[error("{operation} was throttled: {message}")]
    Throttled {
        /// The operation, e.g. `dynamodb:BatchExecuteStatement`.
        operation: &'static str,
        /// What the service said.
        message: String,
    },
    /// A condition of the request did not hold (412): the object is there already, or has changed.
    #[error("{operation} lost a race: its condition does not hold")]
    PreconditionFailed {
        /// The operation.
        operation: &'static str,
    },
    /// The service gave way to a concurrent conditional request (409) and did nothing. Try again.
    #[error("{operation} met a concurrent request")]
    Conflict {
        /// The operation.
        operation: &'static str,
    },
    /// No definite answer (time-out, reset, 5xx): the request may or may not have been carried out.
    #[error("{operation} got no definite answer: {message}")]
    Unknown {
        /// The operation.
        operation: &'static str,
        /// What went wrong.
        message: String,
    },
    /// The service refused, and would refuse again: permissions, an invalid request.
    #[error("{operation} was refused ({code}): {message}")]
    Refused {
        /// The operation.
        operation: &'static str,
        /// The service's error code, e.g. `AccessDeniedException`.
        code: String,
        /// What the service said.
        message: String,
    },
    /// Nothing was done, for want of something around the program that somebody has to set right: a region, credentials
    /// that are valid, a certificate that is trusted, a bucket or table that is there. To try again does not help.
    #[error("{message}")]
    Environment {
        /// The stable type, as callers see it, e.g. `NoRegion`.
        kind: &'static str,
        /// What is wrong, and what to do about it.
        message: String,
    },
}

impl PortError {
    /// Whether it stays so however often it is tried, and nothing was done.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Environment { .. })
    }
}

/// The answer of a port.
pub type PortResult<T> = Result<T, PortError>;
