//! SDK clients for a local cloud, with the SDK's default behaviour unless a test says otherwise.
#![allow(dead_code, reason = "each test file uses a part")]

use aws_credential_types::Credentials;
use aws_smithy_http_client::Builder;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use jobmill_local::{LocalCloud, LocalCloudOptions, REGION};

pub(crate) async fn cloud() -> LocalCloud {
    LocalCloud::start(LocalCloudOptions::default()).await.unwrap()
}

fn http() -> SharedHttpClient {
    Builder::new().build_http()
}

fn credentials() -> Credentials {
    Credentials::new("local", "local", None, None, "test")
}

pub(crate) fn s3(cloud: &LocalCloud) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version_latest()
        .region(aws_sdk_s3::config::Region::new(REGION))
        .credentials_provider(credentials())
        .endpoint_url(cloud.endpoint())
        .http_client(http())
        .retry_config(RetryConfig::disabled())
        .force_path_style(true);
    aws_sdk_s3::Client::from_conf(config.build())
}

pub(crate) fn dynamo_at(endpoint: String) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version_latest()
        .region(aws_sdk_dynamodb::config::Region::new(REGION))
        .credentials_provider(credentials())
        .endpoint_url(endpoint)
        .http_client(http())
        .retry_config(RetryConfig::disabled());
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

pub(crate) fn dynamo(cloud: &LocalCloud) -> aws_sdk_dynamodb::Client {
    dynamo_at(cloud.endpoint())
}

pub(crate) fn lambda(cloud: &LocalCloud) -> aws_sdk_lambda::Client {
    let config = aws_sdk_lambda::Config::builder()
        .behavior_version_latest()
        .region(aws_sdk_lambda::config::Region::new(REGION))
        .credentials_provider(credentials())
        .endpoint_url(cloud.endpoint())
        .http_client(http())
        .retry_config(RetryConfig::disabled());
    aws_sdk_lambda::Client::from_conf(config.build())
}

pub(crate) fn sqs(cloud: &LocalCloud) -> aws_sdk_sqs::Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version_latest()
        .region(aws_sdk_sqs::config::Region::new(REGION))
        .credentials_provider(credentials())
        .endpoint_url(cloud.endpoint())
        .http_client(http())
        .retry_config(RetryConfig::disabled());
    aws_sdk_sqs::Client::from_conf(config.build())
}
