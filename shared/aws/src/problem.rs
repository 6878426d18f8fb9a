//! What can be wrong around the program rather than with a job: each with a type of its own, and what to do about it.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use jobmill_engine::ports::PortError;

macro_rules! problems {
    ($($name:ident, $meaning:literal;)*) => {
        /// A problem that no retry mends. Its name is the error type that callers see.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Problem { $(#[doc = $meaning] $name),* }

        impl Problem {
            /// All of them, with what they mean.
            pub const ALL: &[(Self, &str)] = &[$((Self::$name, $meaning)),*];

            /// The name of the error type.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }
        }
    };
}

problems! {
    NoRegion, "no region is set";
    UnknownProfile, "`AWS_PROFILE` names a profile that is not configured";
    NoCredentials, "there are no credentials, or they can't be loaded";
    ExpiredCredentials, "a session or a token has run out";
    InvalidCredentials, "AWS does not accept the credentials";
    UntrustedCertificate, "the certificate of the other end is not trusted";
    InvalidEnvironment, "a variable or a file that connections are made by can't be right";
    NoSuchBucket, "the bucket is not there, or not in this region";
    NoSuchTable, "a table or its index is not there";
}

impl Problem {
    /// The error of this type; `message` says what is wrong, and what to do about it.
    pub(crate) fn error(self, message: impl Into<String>) -> PortError {
        PortError::Environment {
            kind: self.name(),
            message: message.into(),
        }
    }
}

/// An error and what caused it, outermost first. An I/O error hides its cause from `source` (it gives the cause of the
/// cause), so it is opened here.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |outer: &&'a (dyn Error + 'static)| {
        let outer: &'a (dyn Error + 'static) = *outer;
        match outer
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(inside) => Some(inside),
            None => outer.source(),
        }
    })
}

/// The error and what caused it, in one line: `dispatch failure: io error: connection refused`.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error) {
        let part = cause.to_string();
        // Some errors repeat what caused them in their own words.
        if text.is_empty() {
            text = part;
        } else if !text.ends_with(&part) {
            text = format!("{text}: {part}");
        }
    }
    text
}

/// What a failed connection means, if it says that the certificate of the other end is not trusted.
pub(crate) fn of_certificate(error: &(dyn Error + 'static)) -> Option<PortError> {
    let refused = causes(error).find_map(|cause| match cause.downcast_ref::<rustls::Error>()? {
        refused @ rustls::Error::InvalidCertificate(_) => Some(refused),
        _ => None,
    })?;
    Some(Problem::UntrustedCertificate.error(format!(
        "{refused}: the certificate of the other end is not trusted. Where a proxy or an endpoint of your own has a \
         certificate that the machine does not know, export `AWS_CA_BUNDLE` with the path of its certificates in PEM \
         format, or write `ca_bundle` into the profile"
    )))
}

/// The profile that credentials are looked for in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Profile {
    /// Its name, if it is not the default one.
    pub(crate) name: Option<String>,
    /// It is for `aws login`.
    pub(crate) by_login: bool,
}

/// What a failed search for credentials means.
pub(crate) fn of_credentials(error: &CredentialsError, profile: &Profile) -> PortError {
    if let Some(untrusted) = of_certificate(error) {
        return untrusted;
    }
    let why = with_causes(error);
    let unanswered = ["dispatch failure", "timeout", "timed out"]
        .iter()
        .any(|part| why.contains(part));
    let of_service = why.contains("service error");
    let name = profile.name.as_deref();
    let option = name.map_or_else(String::new, |name| format!(" --profile {name}"));
    // The SDK keeps its types for these to itself; the tests drive it through each of them.
    if why.contains("SSO token") || (why.contains("SSO") && why.contains("UnauthorizedException")) {
        return Problem::ExpiredCredentials.error(format!("{why}: sign in by `aws sso login{option}`"));
    }
    if profile.by_login && !unanswered && !of_service {
        return Problem::ExpiredCredentials.error(format!("{why}: sign in by `aws login{option}`"));
    }
    if why.contains("ExpiredToken") {
        return Problem::ExpiredCredentials.error(format!("{why}: get new credentials"));
    }
    let of_profile = name.map_or_else(String::new, |name| format!(" of the profile {name:?}"));
    match error {
        CredentialsError::CredentialsNotLoaded(_) => Problem::NoCredentials.error(format!(
            "no credentials{of_profile} were found: sign in (`aws sso login`, `aws login`) and export `AWS_PROFILE`, or \
             export `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`"
        )),
        CredentialsError::InvalidConfiguration(_) => {
            Problem::NoCredentials.error(format!("the credentials{of_profile} can't be loaded: {why}"))
        }
        CredentialsError::ProviderError(_) if of_service || why.contains("external process") => {
            Problem::NoCredentials.error(format!("the credentials{of_profile} can't be loaded: {why}"))
        }
        // A service that did not answer may answer next time.
        _ => PortError::Unknown {
            operation: "loading credentials",
            message: why,
        },
    }
}

/// What the error code of a service says about the credentials of the request.
pub(crate) fn of_code(code: &str, message: &str) -> Option<PortError> {
    match code {
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired" => {
            Some(Problem::ExpiredCredentials.error(format!(
                "the credentials have run out ({message}): sign in again (`aws sso login`, `aws login`), or export new ones"
            )))
        }
        "InvalidAccessKeyId" | "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidToken" => {
            Some(Problem::InvalidCredentials.error(format!(
                "AWS does not know the credentials ({message}): look at `AWS_ACCESS_KEY_ID`, `AWS_SESSION_TOKEN` and \
                 `AWS_PROFILE`, and whether they are for this partition and region"
            )))
        }
        "SignatureDoesNotMatch" | "InvalidSignatureException" | "RequestTimeTooSkewed" => {
            Some(Problem::InvalidCredentials.error(format!(
                "AWS does not accept the signature ({message}): look at `AWS_SECRET_ACCESS_KEY`, and at the clock of this \
                 machine"
            )))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(error: &PortError) -> &'static str {
        match error {
            PortError::Environment { kind, .. } => kind,
            _ => "none",
        }
    }

    #[test]
    fn a_rejected_certificate_is_found_inside_of_an_io_error() {
        let rejected = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let error = std::io::Error::other(std::io::Error::new(std::io::ErrorKind::InvalidData, rejected));
        let found = of_certificate(&error).unwrap();
        assert_eq!(kind(&found), "UntrustedCertificate");
        assert!(found.to_string().contains("UnknownIssuer") && found.to_string().contains("AWS_CA_BUNDLE"));
        assert_eq!(of_certificate(&std::io::Error::other("reset")), None);
    }

    #[test]
    fn a_service_that_did_not_answer_is_no_missing_credential() {
        for error in [
            CredentialsError::provider_timed_out(std::time::Duration::from_secs(1)),
            CredentialsError::provider_error("dispatch failure: timeout"),
        ] {
            assert!(
                matches!(
                    of_credentials(&error, &Profile::default()),
                    PortError::Unknown { .. }
                ),
                "{error:?}"
            );
        }
        let refused = CredentialsError::provider_error("service error: AccessDenied");
        assert_eq!(
            kind(&of_credentials(&refused, &Profile::default())),
            "NoCredentials"
        );
    }

    #[test]
    fn the_document_of_the_scheduler_has_each_problem() {
        let document = include_str!("../../../docs/scheduler.md");
        for (problem, meaning) in Problem::ALL {
            let row = format!("| `{}` | {meaning} |", problem.name());
            assert!(document.contains(&row), "docs/scheduler.md lacks the row\n{row}");
        }
    }

    #[test]
    fn each_code_about_credentials_has_its_kind() {
        for (code, expected) in [
            ("ExpiredToken", "ExpiredCredentials"),
            ("ExpiredTokenException", "ExpiredCredentials"),
            ("InvalidAccessKeyId", "InvalidCredentials"),
            ("UnrecognizedClientException", "InvalidCredentials"),
            ("SignatureDoesNotMatch", "InvalidCredentials"),
        ] {
            assert_eq!(kind(&of_code(code, "because").unwrap()), expected, "{code}");
        }
        assert_eq!(of_code("AccessDenied", "because"), None);
    }
}
