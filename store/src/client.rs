//! A DynamoDB client with the time limits that the SDK does not set by itself, and without its correction of a wrong clock.

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig, timeout::TimeoutConfig};
use aws_sdk_dynamodb::{Client, config::Builder};
use aws_types::service_config::ServiceConfigKey;

use crate::authorities;

/// The longest that one attempt of a request may take; the SDK repeats it (three attempts in all). The SDK's own default
/// is no limit.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest that one request may take with all its attempts.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);

/// A client from the environment: region, credentials and end point are found as by every AWS program
/// (`AWS_REGION`, `AWS_PROFILE`, `AWS_ENDPOINT_URL_DYNAMODB`, container and instance roles …).
///
/// It never fails: what is missing is what the first request fails with, an [`Error::Setup`](crate::Error::Setup) that says what to
/// do. So do requests over HTTPS on a system without certificates of authorities, on which the SDK itself panics in a debug build;
/// an `http://` end point works there.
pub async fn client_from_env() -> Client {
    let loader = aws_config::defaults(behavior_version());
    let loader = match authorities::without() {
        Some(plain) => loader.http_client(plain),
        None => loader,
    };
    client(&loader.load().await)
}

/// A client from a configuration that the service has already loaded, with streambox's time limits.
///
/// It signs each request with this machine's own time. By default the SDK corrects the time of a request by the clock of AWS, and
/// a machine whose clock is hours off appends as if nothing were wrong; its events carry that time. Without the correction AWS
/// refuses a clock that is more than some minutes off, and each request fails with an [`Error::Setup`](crate::Error::Setup) that says
/// so. The relay relies on it: see [`EventStore::new`](crate::EventStore::new) for a client that is made in another way.
#[must_use]
pub fn client(config: &SdkConfig) -> Client {
    let timeouts =
        TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).operation_timeout(REQUEST_TIMEOUT).build();
    let mut builder = Builder::from(config).timeout_config(timeouts).disable_clock_skew_correction(true);
    if config.http_client().is_none() {
        builder.set_http_client(authorities::without());
    }
    let end_points = [end_point_of_service(config), config.endpoint_url().map(str::to_owned)];
    if end_points.iter().flatten().any(String::is_empty) {
        // Set and empty is not set, as with AWS's other tools; the SDK panics.
        builder.set_endpoint_url(end_points.into_iter().flatten().find(|url| !url.is_empty()));
    }
    Client::from_conf(builder.build())
}

/// `AWS_ENDPOINT_URL_DYNAMODB`, or the same in the profile.
fn end_point_of_service(config: &SdkConfig) -> Option<String> {
    let key =
        ServiceConfigKey::builder().service_id("DynamoDB").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    config.service_config()?.load_config(key.ok()?)
}

/// Pinned, so that a new version of the SDK does not change defaults underneath.
#[must_use]
pub fn behavior_version() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}
