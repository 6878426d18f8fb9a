//! How requests go out: by which proxies, and whose certificates are trusted. What the environment says of it is checked
//! before the first request; the HTTP client of the SDK passes over what it can't read, or ends the process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder as HttpClientBuilder, Connector};
use jobmill_engine::ports::PortResult;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::problem::Problem;

/// Idle connections are dropped before the services drop them (S3 after some twenty seconds or less): a connection
/// that died while the sandbox was frozen would cost a task write its definite answer.
const IDLE: Duration = Duration::from_secs(15);

/// Variables that name a proxy. Of two spellings the first counts, as in curl and in the HTTP client.
const PROXIES: [[&str; 2]; 3] = [
    ["HTTPS_PROXY", "https_proxy"],
    ["HTTP_PROXY", "http_proxy"],
    ["ALL_PROXY", "all_proxy"],
];

/// Whose certificates are trusted, and whether requests may go by a proxy.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    trust: TrustStore,
    proxies: bool,
}

impl Transport {
    /// Straight to the other end, with the certificates of the machine.
    pub(crate) fn direct() -> Self {
        Self {
            trust: TrustStore::default(),
            proxies: false,
        }
    }

    /// As the environment has it: `AWS_CA_BUNDLE`, else `ca_bundle` of the profile, else the certificates of the machine,
    /// which `SSL_CERT_FILE` and `SSL_CERT_DIR` replace; and by proxies, if there are any.
    ///
    /// # Errors
    /// `InvalidEnvironment`, which names the variable and what it is set to.
    pub(crate) fn of(
        environment: impl Fn(&str) -> Option<OsString>,
        profile_bundle: Option<&str>,
    ) -> PortResult<Self> {
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        let bundle = set("AWS_CA_BUNDLE").map(|path| ("`AWS_CA_BUNDLE`", path));
        let bundle =
            bundle.or_else(|| profile_bundle.map(|path| ("`ca_bundle` of the profile", path.into())));
        let trust = match bundle {
            Some((name, path)) => bundle_of(name, &PathBuf::from(path))?,
            None => {
                // The HTTP client reads these two itself, and says nothing if it can't.
                if let Some(path) = set("SSL_CERT_FILE") {
                    certificates_in("`SSL_CERT_FILE`", Path::new(&path))?;
                }
                for folder in set("SSL_CERT_DIR").iter().flat_map(std::env::split_paths) {
                    if !folder.as_os_str().is_empty() && !folder.is_dir() {
                        let message = format!("`SSL_CERT_DIR` names {folder:?}, which is no folder");
                        return Err(Problem::InvalidEnvironment.error(message));
                    }
                }
                TrustStore::default()
            }
        };
        let mut proxies = false;
        for names in PROXIES {
            let given = names.iter().find_map(|name| Some((name, environment(name)?)));
            if let Some((name, value)) = given.filter(|(_, value)| !value.is_empty()) {
                check_proxy(name, &value)?;
                proxies = true;
            }
        }
        Ok(Self { trust, proxies })
    }

    /// HTTPS (and HTTP, for overridden endpoints) on rustls with ring. The number of connections is bounded by the
    /// engine's limit on requests in flight, not here.
    pub(crate) fn client(self) -> SharedHttpClient {
        HttpClientBuilder::new().build_with_connector_fn(move |settings, components| {
            let mut connector = Connector::builder().pool_idle_timeout(IDLE);
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
            if self.proxies {
                connector.set_proxy_config(Some(ProxyConfig::from_env()));
            }
            let context = TlsContext::builder().with_trust_store(self.trust.clone()).build();
            connector
                .tls_provider(Provider::Rustls(CryptoMode::Ring))
                .tls_context(context.unwrap_or_default())
                .build()
        })
    }
}

/// HTTP alone. Without TLS no root certificates are loaded, which takes longer than all the rest.
pub(crate) fn plain_client() -> SharedHttpClient {
    HttpClientBuilder::new().pool_idle_timeout(IDLE).build_http()
}

/// A store of the certificates in a file, and no others. The HTTP client panics at what is no certificate, so it gets only
/// what rustls takes.
fn bundle_of(name: &str, path: &Path) -> PortResult<TrustStore> {
    let mut store = RootCertStore::empty();
    let mut pem = String::new();
    for certificate in certificates_in(name, path)? {
        let der = aws_smithy_types::base64::encode(&certificate);
        if store.add(certificate).is_ok() {
            pem.push_str(&format!(
                "-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n"
            ));
        }
    }
    if pem.is_empty() {
        return Err(unusable(name, path, "no certificate in it can be used"));
    }
    Ok(TrustStore::empty().with_pem_certificate(pem))
}

/// The certificates in a file in PEM format; at least one.
fn certificates_in(name: &str, path: &Path) -> PortResult<Vec<CertificateDer<'static>>> {
    let text = std::fs::read(path).map_err(|error| unusable(name, path, &error.to_string()))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(name, path, &error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable(name, path, "it has no certificates in PEM format"));
    }
    Ok(certificates)
}

fn unusable(name: &str, path: &Path, why: &str) -> jobmill_engine::ports::PortError {
    Problem::InvalidEnvironment.error(format!(
        "{name} names {path:?}, from which no certificates can be read ({why}): name a file of certificates in PEM format"
    ))
}

/// The HTTP client goes without a proxy that it can't read.
fn check_proxy(name: &str, value: &OsString) -> PortResult<()> {
    let form = "write it as http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT";
    let wrong = |why: &str| {
        // A password may stand in it.
        let shown = value.to_string_lossy();
        let shown = shown.rsplit_once('@').map_or(shown.as_ref(), |(_, host)| host);
        Problem::InvalidEnvironment.error(format!("`{name}` is {shown:?}, {why}: {form}"))
    };
    let uri: http::Uri = value
        .to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| wrong("which is no address"))?;
    let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
        return Err(wrong("which names no host"));
    };
    let behind_host = authority.as_str().rsplit_once(authority.host());
    if behind_host.is_some_and(|(_, port)| !port.is_empty()) && authority.port_u16().is_none() {
        return Err(wrong("whose port is no number"));
    }
    match uri.scheme_str() {
        None | Some("http" | "https") => Ok(()),
        Some(_) => Err(wrong("and only HTTP proxies are supported")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sentence about an environment of one variable.
    fn sentence(name: &str, value: &str) -> String {
        match Transport::of(|asked| (asked == name).then(|| value.into()), None) {
            Ok(transport) => format!("proxies: {}", transport.proxies),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_wrong_path_is_said_with_its_variable() {
        for name in ["AWS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
            let said = sentence(name, "/no/such/place");
            assert!(
                said.starts_with(&format!("`{name}` names \"/no/such/place\"")),
                "{said}"
            );
        }
        let said = Transport::of(|_| None, Some("/no/such/place"))
            .unwrap_err()
            .to_string();
        assert!(
            said.starts_with("`ca_bundle` of the profile names \"/no/such/place\""),
            "{said}"
        );
    }

    #[test]
    fn a_file_without_certificates_is_refused_and_never_reaches_the_http_client() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let refused = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let said = sentence("AWS_CA_BUNDLE", path.to_str().unwrap());
            assert!(said.contains("no certificate"), "{said}");
        };
        refused("");
        refused("no certificate at all\n");
        refused("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n");
        // Base64, but no certificate.
        refused("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n");
        refused("-----BEGIN CERTIFICATE-----\naGVsbG8=\n");
    }

    #[test]
    fn proxies_are_taken_in_either_spelling() {
        for (name, value) in [
            ("HTTPS_PROXY", "http://proxy.example:3128"),
            ("https_proxy", "proxy.example:3128"),
            ("HTTP_PROXY", "https://proxy.example"),
            ("http_proxy", "http://user:secret@127.0.0.1:3128/"),
            ("ALL_PROXY", "http://[::1]:3128"),
        ] {
            assert_eq!(sentence(name, value), "proxies: true", "{name}={value}");
        }
        assert_eq!(sentence("HTTPS_PROXY", ""), "proxies: false");
        assert_eq!(sentence("NO_PROXY", "*"), "proxies: false");
    }

    #[test]
    fn a_wrong_proxy_is_said_without_its_password() {
        for (value, why) in [
            ("http://proxy example:3128", "which is no address"),
            ("http://", "which is no address"),
            ("/proxy", "which names no host"),
            ("socks5://proxy.example:1080", "only HTTP proxies"),
            ("http://user:secret@proxy.example:port", "whose port is no number"),
        ] {
            let said = sentence("HTTPS_PROXY", value);
            assert!(
                said.starts_with("`HTTPS_PROXY` is ") && said.contains(why),
                "{said}"
            );
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
