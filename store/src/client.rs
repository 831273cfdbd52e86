//! A DynamoDB client with the time limits that the SDK does not set by itself.

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig, timeout::TimeoutConfig};
use aws_sdk_dynamodb::Client;

/// The longest that one attempt of a request may take; the SDK repeats it (three attempts in all). The SDK's own default
/// is no limit.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest that one request may take with all its attempts.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);

/// A client from the environment: region, credentials and end point are found as by every AWS program
/// (`AWS_REGION`, `AWS_PROFILE`, `AWS_ENDPOINT_URL_DYNAMODB`, container and instance roles …).
pub async fn client_from_env() -> Client {
    client(&aws_config::load_defaults(behavior_version()).await)
}

/// A client from a configuration that the service has already loaded, with streambox's time limits.
#[must_use]
pub fn client(config: &SdkConfig) -> Client {
    let timeouts =
        TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).operation_timeout(REQUEST_TIMEOUT).build();
    Client::from_conf(aws_sdk_dynamodb::config::Builder::from(config).timeout_config(timeouts).build())
}

/// Pinned, so that a new version of the SDK does not change defaults underneath.
#[must_use]
pub fn behavior_version() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}
