//! Who the cloud says it is: its region, its account, and what an AWS SDK needs to find it.

/// The region that the cloud says it is in.
pub const REGION: &str = "us-east-1";
/// The account that the cloud says it belongs to.
pub const ACCOUNT: &str = "000000000000";

/// The environment variables with which an AWS SDK finds `endpoint`. Any other credentials are as good as these.
pub(crate) fn environment(endpoint: &str) -> Vec<(String, String)> {
    [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", REGION),
        ("AWS_DEFAULT_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// The ARN of a function of the cloud, without a version.
pub(crate) fn function_arn(name: &str) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}")
}
