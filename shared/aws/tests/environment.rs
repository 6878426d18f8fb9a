//! Clients of an environment: credentials, proxies, certificates, and what is said when one of them is wrong.
//!
//! An environment belongs to a process, so each case is a process: this very test binary, which runs the test `child`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use jobmill_aws::{ClientOptions, Clients, S3Store};
use jobmill_engine::EngineError;
use jobmill_engine::ports::ObjectStore as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

// --------------------------------------------------------------------------------------------------- the process

/// Reads an object of the environment, and says what came of it.
#[test]
#[ignore = "run by the other tests, in an environment of its own"]
fn child() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer = runtime.block_on(async {
        let clients = Clients::from_environment(ClientOptions::default()).await?;
        let bucket = std::env::var("BUCKET").unwrap_or_else(|_| "queue".to_owned());
        S3Store::new(clients.s3, bucket).get("key", 1_000).await
    });
    match answer {
        Ok(found) => println!("\nANSWER found: {}", found.is_some()),
        Err(source) => {
            let error = EngineError::Port {
                step: "reading",
                source,
            };
            println!("\nANSWER {}: {error}", error.error_type());
        }
    }
}

/// What the object is when it is read: it is not there, which a server of this test has said.
const NOTHING: &str = "found: false";

/// An environment with a home of its own and nothing that the machine has to say.
struct Environment {
    home: TempDir,
    variables: Vec<(String, String)>,
}

impl Environment {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        let environment = Self {
            home,
            variables: Vec::new(),
        };
        let home = environment.home.path().to_str().unwrap().to_owned();
        environment
            .set("HOME", &home)
            .set("PATH", "/usr/bin:/bin")
            .set("AWS_EC2_METADATA_DISABLED", "true")
            .set("AWS_REGION", "eu-west-1")
    }

    /// Like `new`, with keys.
    fn with_keys() -> Self {
        Self::new()
            .set("AWS_ACCESS_KEY_ID", "AKIAKEYS")
            .set("AWS_SECRET_ACCESS_KEY", "secret")
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file below the home.
    fn file(self, name: &str, text: &str) -> Self {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn answer(&self) -> String {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env_clear()
            .envs(self.variables.iter().cloned())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let answer = text.lines().find_map(|line| line.strip_prefix("ANSWER "));
        answer
            .unwrap_or_else(|| panic!("no answer: {text}{}", String::from_utf8_lossy(&output.stderr)))
            .to_owned()
    }
}

#[track_caller]
fn assert_said(answer: &str, kind: &str, parts: &[&str]) {
    assert!(
        answer.starts_with(&format!("{kind}: ")),
        "{kind} expected: {answer}"
    );
    for part in parts {
        assert!(answer.contains(part), "{part:?} expected: {answer}");
    }
}

// --------------------------------------------------------------------------------------------------- the servers

type Heads = Arc<Mutex<Vec<String>>>;

/// Reads the head of a request, lines and all.
fn head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// Answers as S3 does: there is no such object, and no bucket `nowhere`.
fn answer(stream: &mut (impl Read + Write), heads: &Heads) -> Option<()> {
    let head = head(stream)?;
    let code = if head.contains("/nowhere/") {
        "NoSuchBucket"
    } else {
        "NoSuchKey"
    };
    heads.lock().unwrap().push(head);
    let body = format!("<Error><Code>{code}</Code><Message>not here</Message></Error>");
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 404 Not Found\r\nDate: Wed, 06 Mar 2024 04:40:00 GMT\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .ok()?;
    stream.flush().ok()
}

/// Serves each connection on a thread of its own, for as long as the test lives.
fn serve(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    port
}

fn s3() -> (u16, Heads) {
    let heads = Heads::default();
    let seen = Arc::clone(&heads);
    let port = serve(move |mut stream| {
        answer(&mut stream, &seen);
    });
    (port, heads)
}

/// S3 by TLS, with a certificate for `localhost` and `s3.example.test` from an authority that nobody knows but who reads
/// the file that is given.
fn s3_by_tls(authority_to: &Path) -> (u16, Heads) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(authority_to, authority.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "s3.example.test".to_owned()];
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let heads = Heads::default();
    let seen = Arc::clone(&heads);
    let port = serve(move |stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        answer(&mut stream, &seen);
        stream.conn.send_close_notify();
        drop(stream.flush());
    });
    (port, heads)
}

/// A proxy that leads every tunnel to `target`, and answers what it should forward itself.
fn proxy(target: Option<u16>) -> (u16, Heads) {
    let heads = Heads::default();
    let seen = Arc::clone(&heads);
    let port = serve(move |mut stream| {
        let mut first = [0; 8];
        stream.peek(&mut first).unwrap();
        if !first.starts_with(b"CONNECT ") {
            answer(&mut stream, &seen);
            return;
        }
        let Some(head) = head(&mut stream) else { return };
        seen.lock().unwrap().push(head);
        let mut other = TcpStream::connect(("127.0.0.1", target.unwrap())).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .unwrap();
        let (mut back, mut forth) = (other.try_clone().unwrap(), stream.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut back, &mut forth));
        drop(std::io::copy(&mut stream, &mut other));
    });
    (port, heads)
}

// ----------------------------------------------------------------------------------------------------- the tests

#[test]
fn credentials_that_take_longer_than_a_request_are_waited_for() {
    let (port, heads) = s3();
    let answer = Environment::new()
        .file(
            ".aws/config",
            "[profile slow]\nregion = eu-west-1\ncredential_process = /bin/sh -c \"sleep 5; cat $HOME/answer.json\"\n",
        )
        .file(
            "answer.json",
            r#"{"Version": 1, "AccessKeyId": "AKIASLOW", "SecretAccessKey": "secret"}"#,
        )
        .set("AWS_PROFILE", "slow")
        .set("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{port}"))
        .answer();
    assert_eq!(answer, NOTHING);
    let heads = heads.lock().unwrap();
    assert!(heads[0].contains("Credential=AKIASLOW/"), "{heads:?}");
    assert_eq!(heads.len(), 1, "one request, signed at once: {heads:?}");
}

#[test]
fn a_process_that_gives_no_credentials_is_quoted() {
    let answer = Environment::new()
        .file(
            ".aws/config",
            "[profile mfa]\ncredential_process = /bin/sh -c \"echo code refused >&2; exit 3\"\n",
        )
        .set("AWS_PROFILE", "mfa")
        .answer();
    assert_said(&answer, "NoCredentials", &["\"mfa\"", "code refused"]);
}

#[test]
fn a_missing_region_is_said_with_its_variable() {
    let mut unset = Environment::with_keys();
    unset.variables.retain(|(name, _)| name != "AWS_REGION");
    for environment in [unset, Environment::with_keys().set("AWS_REGION", "")] {
        let parts = ["`AWS_REGION`", "`region`", "\"default\""];
        assert_said(&environment.answer(), "NoRegion", &parts);
    }
}

#[test]
fn an_unknown_profile_is_said_with_those_that_are_known() {
    let config = "[default]\nregion = eu-west-1\n[profile dev]\nregion = eu-west-1\n";
    let unknown = Environment::new()
        .file(".aws/config", config)
        .set("AWS_PROFILE", "dve");
    assert_said(&unknown.answer(), "UnknownProfile", &["\"dve\"", "default, dev"]);
    // Keys of the environment come first: no profile is needed.
    let (port, _) = s3();
    let with_keys = Environment::with_keys()
        .set("AWS_PROFILE", "dve")
        .set("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{port}"));
    assert_eq!(with_keys.answer(), NOTHING);
}

#[test]
fn missing_credentials_are_said_with_where_they_may_come_from() {
    let answer = Environment::new().answer();
    assert_said(
        &answer,
        "NoCredentials",
        &["aws sso login", "aws login", "`AWS_ACCESS_KEY_ID`"],
    );
}

/// A profile with a sign-in, whose session `work` has the cached token that is given.
fn signed_in(token: Option<&str>) -> Environment {
    let environment = Environment::new().set("AWS_PROFILE", "dev").file(
        ".aws/config",
        "[profile dev]\nregion = eu-west-1\nsso_session = work\nsso_account_id = 123456789012\nsso_role_name = dev\n\
         [sso-session work]\nsso_region = eu-west-1\nsso_start_url = https://example.awsapps.com/start\n",
    );
    match token {
        // The SHA-1 of `work`.
        Some(token) => environment.file(
            ".aws/sso/cache/e274eeff768c6396088ec6eb091f4bf4d47ab1e0.json",
            token,
        ),
        None => environment,
    }
}

#[test]
fn a_sign_in_that_has_run_out_is_said_with_the_command_that_renews_it() {
    let expired = r#"{"accessToken": "token", "expiresAt": "2024-03-06T00:00:00Z", "region": "eu-west-1",
        "startUrl": "https://example.awsapps.com/start"}"#;
    for (token, why) in [(Some(expired), "has expired"), (None, "failed to load")] {
        let answer = signed_in(token).answer();
        assert_said(
            &answer,
            "ExpiredCredentials",
            &["`aws sso login --profile dev`", why],
        );
    }
}

#[test]
fn a_login_that_has_run_out_is_said_with_the_command_that_renews_it() {
    let answer = Environment::new()
        .file(
            ".aws/config",
            "[profile me]\nregion = eu-west-1\nlogin_session = arn:aws:iam::123456789012:user/me\n",
        )
        .set("AWS_PROFILE", "me")
        .answer();
    assert_said(&answer, "ExpiredCredentials", &["`aws login --profile me`"]);
}

#[test]
fn a_certificate_is_trusted_when_somebody_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let (port, heads) = s3_by_tls(&ca);
    let ca = ca.to_str().unwrap();
    let environment =
        || Environment::with_keys().set("AWS_ENDPOINT_URL", &format!("https://localhost:{port}"));
    assert_said(
        &environment().answer(),
        "UntrustedCertificate",
        &["UnknownIssuer", "`AWS_CA_BUNDLE`"],
    );
    assert_eq!(heads.lock().unwrap().len(), 0, "nothing was sent");
    assert_eq!(environment().set("AWS_CA_BUNDLE", ca).answer(), NOTHING);
    assert_eq!(environment().set("SSL_CERT_FILE", ca).answer(), NOTHING);
    let profile = format!("[default]\nca_bundle = {ca}\n");
    assert_eq!(environment().file(".aws/config", &profile).answer(), NOTHING);
    // A bundle says whom to trust, and nobody else.
    let other = folder.path().join("other.pem");
    s3_by_tls(&other);
    let distrusted = environment()
        .set("SSL_CERT_FILE", ca)
        .set("AWS_CA_BUNDLE", other.to_str().unwrap());
    assert_said(&distrusted.answer(), "UntrustedCertificate", &[]);
}

#[test]
fn wrong_paths_and_proxies_are_said_before_anything_is_sent() {
    let (port, heads) = s3();
    for (name, value) in [
        ("AWS_CA_BUNDLE", "/no/such/ca.pem"),
        ("SSL_CERT_FILE", "/no/such/ca.pem"),
        ("HTTPS_PROXY", "socks5://proxy.example:1080"),
    ] {
        let answer = Environment::with_keys()
            .set("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{port}"))
            .set(name, value)
            .answer();
        assert_said(
            &answer,
            "InvalidEnvironment",
            &[&format!("`{name}`"), value.rsplit('@').next().unwrap()],
        );
    }
    assert_eq!(heads.lock().unwrap().len(), 0);
}

#[test]
fn https_goes_through_a_proxy_as_a_tunnel() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let (target, heads) = s3_by_tls(&ca);
    let (port, tunnels) = proxy(Some(target));
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let answer = Environment::with_keys()
            .set("AWS_ENDPOINT_URL", "https://s3.example.test")
            .set("AWS_CA_BUNDLE", ca.to_str().unwrap())
            .set(name, &format!("http://user:secret@127.0.0.1:{port}"))
            .answer();
        assert_eq!(answer, NOTHING, "{name}");
        let tunnel = tunnels.lock().unwrap().pop().unwrap().to_lowercase();
        assert!(tunnel.starts_with("connect s3.example.test:443 "), "{tunnel}");
        assert!(
            tunnel.contains("proxy-authorization: basic dxnlcjpzzwnyzxq="),
            "{tunnel}"
        );
        let request = heads.lock().unwrap().pop().unwrap();
        assert!(request.starts_with("GET /queue/key"), "{request}");
    }
}

#[test]
fn http_goes_through_a_proxy_but_for_those_hosts_that_need_none() {
    let (direct, heads) = s3();
    let (port, forwarded) = proxy(None);
    let environment = || {
        Environment::with_keys()
            .set("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{direct}"))
            .set("HTTP_PROXY", &format!("http://127.0.0.1:{port}"))
    };
    assert_eq!(environment().answer(), NOTHING);
    let head = forwarded.lock().unwrap().pop().unwrap();
    assert!(
        head.starts_with(&format!("GET http://127.0.0.1:{direct}/queue/key")),
        "{head}"
    );
    for name in ["NO_PROXY", "no_proxy"] {
        assert_eq!(environment().set(name, "localhost,127.0.0.1").answer(), NOTHING);
        assert!(
            heads.lock().unwrap().pop().unwrap().starts_with("GET /queue/key"),
            "{name}"
        );
    }
    assert_eq!(forwarded.lock().unwrap().len(), 0);
}

#[test]
fn a_missing_bucket_is_named() {
    let (port, heads) = s3();
    let answer = Environment::with_keys()
        .set("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{port}"))
        .set("BUCKET", "nowhere")
        .answer();
    assert_said(&answer, "NoSuchBucket", &["\"nowhere\""]);
    assert_eq!(heads.lock().unwrap().len(), 1, "it is not tried again");
}
