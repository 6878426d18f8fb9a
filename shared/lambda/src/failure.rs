//! Why an invocation failed, as Lambda reports it: `errorType` and `errorMessage`.

use std::fmt;

use jobmill_core::Error;
use jobmill_engine::EngineError;
use jobmill_engine::ports::PortError;
use lambda_runtime::Diagnostic;

/// An invocation that came to no outcome.
#[derive(Debug)]
pub struct Failure(EngineError);

impl Failure {
    /// A service did not do what was asked, before any use case began.
    pub fn of_service(step: &'static str, source: PortError) -> Self {
        Self(EngineError::Port { step, source })
    }

    /// The stable type, as callers see it.
    pub fn error_type(&self) -> &'static str {
        self.0.error_type()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(EngineError::Input(error))
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self(error)
    }
}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        Self {
            error_type: failure.error_type().to_owned(),
            error_message: failure.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jobmill_core::ErrorKind;

    use super::*;

    #[test]
    fn a_failure_has_the_type_and_the_sentence_of_its_error() {
        let failure = Failure::from(Error::new(ErrorKind::InvalidJob, "`sections` is 5"));
        let told = Diagnostic::from(failure);
        assert_eq!(
            (told.error_type.as_str(), told.error_message.as_str()),
            ("InvalidJob", "`sections` is 5")
        );
        let source = PortError::Environment {
            kind: "NoRegion",
            message: "no region is set".to_owned(),
        };
        let told = Diagnostic::from(Failure::of_service("connecting to AWS", source));
        assert_eq!(
            (told.error_type.as_str(), told.error_message.as_str()),
            ("NoRegion", "while connecting to AWS: no region is set")
        );
    }
}
