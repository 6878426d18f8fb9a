//! SDK clients, built once per process, with the attempts and time-outs that the protocol counts on.
//! The environment is read by the SDK's own chain (region, credentials, `AWS_ENDPOINT_URL` and its kin), and by
//! `transport` what the SDK does not look at (certificates, proxies).

use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::profile::ProfileSet;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_sdk_s3::config::{
    RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider,
    StalledStreamProtectionConfig,
};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::os_shim_internal::{Env, Fs};
use aws_types::service_config::ServiceConfigKey;
use jobmill_engine::ports::PortResult;

use crate::credentials::Kept;
use crate::metrics::Metrics;
use crate::problem::{Problem, Profile, with_causes};
use crate::transport::{Transport, plain_client};

/// How long one task write may take before it counts as unanswered: the "request time" of the lease arithmetic.
pub const REQUEST_TIME: Duration = Duration::from_secs(5);

/// TCP and TLS handshake, every service.
const CONNECT: Duration = Duration::from_secs(2);
/// Until the first byte of an answer, the sending of the body included; the attempt limits below are tighter for
/// everything but bulk.
const FIRST_BYTE: Duration = Duration::from_secs(30);
/// One attempt of a small request: a lock, a receipt, a query, an invocation.
const SMALL_ATTEMPT: Duration = Duration::from_secs(4);
/// A small request with all its attempts: well within a lease of 30 s.
const SMALL_OPERATION: Duration = Duration::from_secs(12);
/// One attempt of a bulk request, a part of some MiB: enough at a megabyte a second.
pub(crate) const BULK_ATTEMPT: Duration = Duration::from_secs(30);
/// A bulk request with all its attempts.
pub(crate) const BULK_OPERATION: Duration = Duration::from_secs(75);
/// Attempts of whatever may be repeated.
pub(crate) const ATTEMPTS: u32 = 3;
/// Pause before the second attempt, at most; it doubles.
const BACKOFF: Duration = Duration::from_millis(100);
/// Longest pause between attempts.
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// Longer than any function may run (15 minutes).
const LONGEST_RUN: Duration = Duration::from_secs(16 * 60);
/// The longest wait of SQS for a message.
pub(crate) const LONG_POLL: Duration = Duration::from_secs(20);
/// What a root may choose about the clients.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Time-out of one task write, see [`REQUEST_TIME`].
    pub request_time: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            request_time: REQUEST_TIME,
        }
    }
}

/// DynamoDB, twice: task writes are never repeated by the SDK, the rest is.
#[derive(Debug, Clone)]
pub struct DynamoClients {
    /// For reads and for writes that may be repeated: three attempts.
    pub retrying: aws_sdk_dynamodb::Client,
    /// For task writes: one attempt, ended after the request time. The engine decides what an unanswered one means.
    pub once: aws_sdk_dynamodb::Client,
}

/// One client of each service that scheduling needs; what dispatching needs more is made from these
/// ([`crate::LambdaWorkers`], [`crate::SqsOutcomes`]), so that a program that only schedules does not link it. Cheap to
/// clone; all share one pool of connections.
#[derive(Debug, Clone)]
pub struct Clients {
    /// S3. A put whose answer was lost and that the SDK repeats ends as a failed precondition: the engine settles that
    /// by reading.
    pub s3: aws_sdk_s3::Client,
    /// DynamoDB.
    pub dynamodb: DynamoClients,
    /// Lambda.
    pub lambda: aws_sdk_lambda::Client,
    config: SdkConfig,
    request_time: Duration,
}

impl Clients {
    /// Clients of the environment: region, credentials and endpoints as in every AWS SDK (`AWS_REGION`, `AWS_PROFILE`,
    /// `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_S3`, the role), proxies and certificates as the AWS CLI has them
    /// (`HTTPS_PROXY`, `NO_PROXY`, `AWS_CA_BUNDLE`). Waits for the credentials, however long they take.
    ///
    /// # Errors
    /// `Environment` if region, profile, credentials, certificates or proxies are missing or can't be right.
    pub async fn from_environment(options: ClientOptions) -> PortResult<Self> {
        let profiles = profiles().await?;
        let transport = Transport::of(environment, profiles.get("ca_bundle"))?;
        let config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(transport.client())
            .retry_config(standard_retry())
            .timeout_config(small_timeouts())
            .identity_cache(IdentityCache::no_cache()) // `Kept` is one
            .load()
            .await;
        check_region(config.region().map(Region::as_ref), profiles.selected_profile())?;
        let mut builder = config.to_builder();
        if let Some(source) = config.credentials_provider() {
            let name = Some(profiles.selected_profile()).filter(|name| *name != "default");
            let profile = Profile {
                name: name.map(str::to_owned),
                by_login: profiles.get("login_session").is_some(),
            };
            let kept = Kept::new(source, profile);
            kept.load().await?;
            builder.set_credentials_provider(Some(SharedCredentialsProvider::new(kept)));
        }
        Ok(Self::new(&builder.build(), &options))
    }

    /// Clients of a local cloud at `endpoint` (`http://127.0.0.1:1234`): fixed region `us-east-1`, fixed credentials
    /// that open nothing, nothing of the environment.
    pub fn at_endpoint(endpoint: impl Into<String>, options: ClientOptions) -> Self {
        let endpoint = endpoint.into();
        let http_client = if endpoint.starts_with("http://") {
            plain_client()
        } else {
            Transport::direct().client()
        };
        let credentials = Credentials::new("local", "local", None, None, "local cloud");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .endpoint_url(endpoint)
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(http_client)
            .retry_config(standard_retry())
            .timeout_config(small_timeouts())
            .build();
        Self::new(&config, &options)
    }

    fn new(config: &SdkConfig, options: &ClientOptions) -> Self {
        // Checksums only where the API demands one: a signed request carries the SHA-256 of its body, which S3 checks,
        // so a CRC would be a second pass over the same bytes; and it would turn bodies into signed chunks with
        // trailers, which not every S3 understands.
        let s3 = aws_sdk_s3::config::Builder::from(config)
            .force_path_style(s3_endpoint_is_overridden(config))
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        let once = aws_sdk_dynamodb::config::Builder::from(config)
            .retry_config(RetryConfig::disabled())
            // A stream that stalls meets the request time.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(once_timeouts(options.request_time))
            .build();
        Self {
            s3: aws_sdk_s3::Client::from_conf(s3),
            dynamodb: DynamoClients {
                retrying: aws_sdk_dynamodb::Client::new(config),
                once: aws_sdk_dynamodb::Client::from_conf(once),
            },
            lambda: aws_sdk_lambda::Client::new(config),
            config: config.clone(),
            request_time: options.request_time,
        }
    }

    /// How long one write may take before it counts as unanswered.
    pub(crate) fn request_time(&self) -> Duration {
        self.request_time
    }

    /// Lambda, for starts: one attempt, and no limit of time but that of connecting. Who asks sets the limit, since an
    /// answer may take as long as the function runs. The time to the first byte is part of the key of a pool of
    /// connections, so it is one for all.
    pub(crate) fn lambda_once(&self) -> aws_sdk_lambda::Client {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .read_timeout(LONGEST_RUN)
            .disable_operation_attempt_timeout()
            .disable_operation_timeout()
            .build();
        let config = aws_sdk_lambda::config::Builder::from(&self.config)
            .retry_config(RetryConfig::disabled())
            // A stream that stalls meets the limit of whoever asks.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(timeouts);
        aws_sdk_lambda::Client::from_conf(config.build())
    }

    /// CloudWatch's metrics.
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::new(self.config.clone())
    }

    /// SQS, whose answers may be waited for as long as a poll takes. The same connect and read limits as elsewhere, so
    /// that the pool of connections stays one.
    pub(crate) fn sqs(&self) -> aws_sdk_sqs::Client {
        let timeouts = small_timeouts()
            .to_builder()
            .operation_attempt_timeout(LONG_POLL + SMALL_ATTEMPT)
            .operation_timeout(LONG_POLL + SMALL_OPERATION)
            .build();
        let config = aws_sdk_sqs::config::Builder::from(&self.config).timeout_config(timeouts);
        aws_sdk_sqs::Client::from_conf(config.build())
    }
}

/// Bucket names as host names exist at AWS only; elsewhere they go into the path.
fn s3_endpoint_is_overridden(config: &SdkConfig) -> bool {
    let key = ServiceConfigKey::builder()
        .service_id("S3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build();
    let of_service = || config.service_config()?.load_config(key.ok()?);
    config.endpoint_url().is_some() || of_service().is_some()
}

fn standard_retry() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(BACKOFF)
        .with_max_backoff(LONGEST_BACKOFF)
}

fn small_timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .read_timeout(FIRST_BYTE)
        .operation_attempt_timeout(SMALL_ATTEMPT)
        .operation_timeout(SMALL_OPERATION)
        .build()
}

/// The same connect and read limits as elsewhere, so that the pool of connections stays one.
fn once_timeouts(request_time: Duration) -> TimeoutConfig {
    small_timeouts()
        .to_builder()
        .operation_attempt_timeout(request_time)
        .operation_timeout(request_time)
        .build()
}

#[allow(
    clippy::disallowed_methods,
    reason = "clients of the environment are made from it, as the SDK does"
)]
fn environment(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

/// A region becomes part of host names.
fn check_region(region: Option<&str>, profile: &str) -> PortResult<()> {
    let cure = format!(
        "export `AWS_REGION`, such as AWS_REGION=eu-central-1, or write `region` into the profile {profile:?}"
    );
    match region.map(str::trim) {
        None | Some("") => Err(Problem::NoRegion.error(format!("no region is set: {cure}"))),
        Some(region)
            if region
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') =>
        {
            Ok(())
        }
        Some(region) => Err(Problem::NoRegion.error(format!("{region:?} is no region: {cure}"))),
    }
}

/// The profiles of `~/.aws/config` and `~/.aws/credentials`, or of the files that the environment names.
///
/// A profile that is not there is an error. The SDK would go on to the next source of credentials, such as the role of the
/// machine, which may belong to another account.
async fn profiles() -> PortResult<ProfileSet> {
    let profiles = aws_config::profile::load(&Fs::real(), &Env::real(), &EnvConfigFiles::default(), None)
        .await
        .map_err(|error| {
            Problem::InvalidEnvironment.error(format!(
                "the profiles of AWS can't be read: {}",
                with_causes(&error)
            ))
        })?;
    let asked = environment("AWS_PROFILE").filter(|name| !name.is_empty());
    let selected = profiles.selected_profile();
    // Keys in the environment come before every profile.
    if asked.is_some()
        && profiles.get_profile(selected).is_none()
        && environment("AWS_ACCESS_KEY_ID").is_none()
    {
        let mut known: Vec<&str> = profiles.profiles().collect();
        known.sort_unstable();
        return Err(Problem::UnknownProfile.error(format!(
            "`AWS_PROFILE` is {selected:?}, and there is no such profile in ~/.aws/config or ~/.aws/credentials: there is \
             {}",
            if known.is_empty() { "none at all".to_owned() } else { known.join(", ") }
        )));
    }
    Ok(profiles)
}

#[cfg(test)]
mod tests {
    use aws_types::service_config::LoadServiceConfig;

    use super::*;

    /// An environment or a profile that sets the endpoint of one service.
    #[derive(Debug)]
    struct EndpointOf(&'static str);

    impl LoadServiceConfig for EndpointOf {
        fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
            (key.service_id() == self.0).then(|| "http://127.0.0.1:1".to_owned())
        }
    }

    #[test]
    fn buckets_go_into_the_path_wherever_the_endpoint_of_s3_is_overridden() {
        let overridden = |config: aws_types::sdk_config::Builder| s3_endpoint_is_overridden(&config.build());
        assert!(!overridden(SdkConfig::builder()));
        assert!(overridden(
            SdkConfig::builder().endpoint_url("http://127.0.0.1:1")
        ));
        assert!(overridden(SdkConfig::builder().service_config(EndpointOf("S3"))));
        assert!(!overridden(
            SdkConfig::builder().service_config(EndpointOf("DynamoDB"))
        ));
    }

    #[test]
    fn a_region_is_there_and_can_be_part_of_a_host_name() {
        assert_eq!(check_region(Some("eu-central-1"), "default"), Ok(()));
        for region in [None, Some(""), Some(" "), Some("eu west"), Some("example.com/")] {
            let said = check_region(region, "dev").unwrap_err().to_string();
            assert!(
                said.contains("`AWS_REGION`") && said.contains("\"dev\""),
                "{said}"
            );
        }
    }

    #[test]
    fn a_task_write_has_one_attempt_and_the_request_time() {
        let clients = Clients::at_endpoint(
            "http://127.0.0.1:1",
            ClientOptions {
                request_time: Duration::from_secs(7),
            },
        );
        let config = clients.dynamodb.once.config();
        assert_eq!(config.retry_config().map(RetryConfig::max_attempts), Some(1));
        assert_eq!(
            config.timeout_config().and_then(TimeoutConfig::operation_timeout),
            Some(Duration::from_secs(7))
        );
        let config = clients.dynamodb.retrying.config();
        assert_eq!(config.retry_config().map(RetryConfig::max_attempts), Some(3));
    }

    #[test]
    fn a_start_has_one_attempt_and_an_answer_may_take_as_long_as_a_function_runs() {
        let clients = Clients::at_endpoint("http://127.0.0.1:1", ClientOptions::default());
        let (starts, polls) = (clients.lambda_once(), clients.sqs());
        let config = starts.config();
        assert_eq!(config.retry_config().map(RetryConfig::max_attempts), Some(1));
        let timeouts = config.timeout_config().unwrap();
        let longest_run = Duration::from_secs(15 * 60);
        assert!(timeouts.read_timeout().is_some_and(|limit| limit > longest_run));
        let limits = (timeouts.operation_attempt_timeout(), timeouts.operation_timeout());
        assert_eq!(limits, (None, None));
        assert_eq!(timeouts.connect_timeout(), Some(CONNECT));
        let timeouts = polls.config().timeout_config().unwrap();
        for limit in [
            timeouts.read_timeout(),
            timeouts.operation_attempt_timeout(),
            timeouts.operation_timeout(),
        ] {
            assert!(limit.is_some_and(|limit| limit > LONG_POLL), "{limit:?}");
        }
    }
}
