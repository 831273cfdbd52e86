//! A DynamoDB client whose time limits distinguish a slow link from a dead connection, and without the SDK's correction of a wrong clock.

use std::{env, time::Duration};

use aws_config::{BehaviorVersion, SdkConfig, timeout::TimeoutConfig};
use aws_credential_types::provider::{
    ProvideCredentials, SharedCredentialsProvider, error::CredentialsError,
    future::ProvideCredentials as ProvidedCredentials,
};
use aws_sdk_dynamodb::{
    Client,
    config::{
        Builder, ConfigBag, Intercept, RuntimeComponents, StalledStreamProtectionConfig,
        interceptors::BeforeTransmitInterceptorContextRef,
    },
    error::BoxError,
};
use aws_types::service_config::ServiceConfigKey;

use crate::authorities;

/// How long an attempt of a request may be silent, unless set otherwise: until a connection stands and the answer begins, and then
/// from one piece of the answer to the next. The SDK repeats it (three attempts in all). The SDK's own default has no limit.
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest that one request may take with all its attempts, unless set otherwise. Longer than three silent attempts with
/// the SDK's delays between them, so that a request that ends here has moved something.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The slowest link over which large requests are sent, unless set otherwise, in bytes a second.
pub const SLOWEST_UPLOAD_BYTES_PER_SECOND: u32 = 1024 * 1024;

/// Requests up to this size take no time to be sent.
const SMALL_REQUEST_BYTES: u64 = 64 * 1024;

/// How long requests may take. A dead connection is recognized by its *silence*, however large an answer may be; a slow link is given
/// the time that it needs, up to a limit in all.
///
/// The default is for services near their table: a dead connection is given up after 2 seconds, a request after 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct RequestLimits {
    silence: Duration,
    slowest_upload: u32,
    request: Duration,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { silence: SILENCE_TIMEOUT, slowest_upload: SLOWEST_UPLOAD_BYTES_PER_SECOND, request: REQUEST_TIMEOUT }
    }
}

impl RequestLimits {
    /// For programs that move much over any link, as streambox's own do: 5 seconds of silence, 16 KiB a second, a request 30
    /// seconds.
    pub fn patient() -> Self {
        Self::default().silence(Duration::from_secs(5)).slowest_upload(16 * 1024).request(Duration::from_secs(30))
    }

    /// How long an attempt may be silent: [`SILENCE_TIMEOUT`] unless set.
    pub fn silence(self, silence: Duration) -> Self {
        Self { silence, ..self }
    }

    /// The least number of bytes a second at which a large request is sent, [`SLOWEST_UPLOAD_BYTES_PER_SECOND`] unless set: the
    /// silence that an attempt is allowed grows by the time that this takes. 0 counts as 1.
    pub fn slowest_upload(self, bytes_per_second: u32) -> Self {
        Self { slowest_upload: bytes_per_second.max(1), ..self }
    }

    /// The longest that one request may take with all its attempts: [`REQUEST_TIMEOUT`] unless set. An append may send several:
    /// its own limit is the store's `operation_timeout`.
    pub fn request(self, request: Duration) -> Self {
        Self { request, ..self }
    }

    /// Sets these limits for a client that is made by hand.
    #[must_use]
    pub fn apply(self, config: Builder) -> Builder {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.silence)
            .read_timeout(self.silence)
            .operation_timeout(self.request)
            .build();
        let stalled = StalledStreamProtectionConfig::enabled().grace_period(self.silence).build();
        config.timeout_config(timeouts).stalled_stream_protection(stalled).interceptor(UploadTime(self))
    }

    /// How long the answer may take to begin, if this many bytes are sent. In few steps, since the SDK keeps connections of their
    /// own for each.
    fn until_answer(self, bytes: u64) -> Duration {
        let mut step = SMALL_REQUEST_BYTES;
        if bytes <= step {
            return self.silence;
        }
        while step < bytes {
            step *= 4;
        }
        self.silence + Duration::from_secs(step) / self.slowest_upload
    }
}

/// Gives large requests the time to be sent. The SDK counts it with the time until the answer begins.
#[derive(Debug)]
struct UploadTime(RequestLimits);

impl Intercept for UploadTime {
    fn name(&self) -> &'static str {
        "streambox::UploadTime"
    }

    fn read_after_serialization(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let bytes = context.request().body().content_length().unwrap_or(0);
        if bytes > SMALL_REQUEST_BYTES
            && let Some(timeouts) = config.load::<TimeoutConfig>().cloned()
        {
            let timeouts = timeouts.to_builder().read_timeout(self.0.until_answer(bytes)).build();
            config.interceptor_state().store_put(timeouts);
        }
        Ok(())
    }
}

/// A client from the environment: Region, credentials and end point are found as in every AWS program
/// (`AWS_REGION`, `AWS_PROFILE`, `AWS_ENDPOINT_URL_DYNAMODB`, container and instance roles …). Profiles of `aws sso login` and
/// `aws login`, and those with a `credential_process`, need the feature `credentials` of this crate.
///
/// It never fails: what is missing is what the first request fails with, an [`Error::Configuration`](crate::Error::Configuration) that says what to
/// do. So do requests over HTTPS on a system without certificates of authorities, on which the SDK itself panics in a debug build;
/// an `http://` end point works there.
pub async fn client_from_env() -> Client {
    client_from_env_with(RequestLimits::default()).await
}

/// As [`client_from_env`], with time limits of one's own.
pub async fn client_from_env_with(limits: RequestLimits) -> Client {
    let loader = aws_config::defaults(behavior_version());
    let loader = match authorities::without() {
        Some(plain) => loader.http_client(plain),
        None => loader,
    };
    let config = loader.load().await;
    let has_keys = env::var_os("AWS_ACCESS_KEY_ID").is_some_and(|key| !key.is_empty());
    let is_empty = |service: &&str| end_point_of(&config, service).is_some_and(|url| url.is_empty());
    if !has_keys && ["STS", "SSO", "SSO OIDC", "Signin"].iter().any(is_empty) {
        let refused = config.into_builder().credentials_provider(SharedCredentialsProvider::new(EmptyEndPoint)).build();
        return client_with(&refused, limits);
    }
    client_with(&config, limits)
}

/// In place of credentials that may be asked for over an end point that is set and empty: the SDK panics then.
#[derive(Debug)]
struct EmptyEndPoint;

impl ProvideCredentials for EmptyEndPoint {
    fn provide_credentials<'a>(&'a self) -> ProvidedCredentials<'a>
    where
        Self: 'a,
    {
        ProvidedCredentials::ready(Err(CredentialsError::invalid_configuration(
            "AWS_ENDPOINT_URL, or `endpoint_url` of the profile, is set and empty: unset it",
        )))
    }
}

/// A client from a configuration that the service has already loaded, with streambox's time limits.
///
/// It signs each request with this machine's own time. By default the SDK corrects the time of a request by the clock of AWS, and
/// a machine whose clock is hours off appends as if nothing were wrong; its events carry that time. Without the correction AWS
/// refuses a clock that is more than some minutes off, and each request fails with an [`Error::Configuration`](crate::Error::Configuration) that says
/// so. The relay relies on it: see [`EventStore::new`](crate::EventStore::new) for a client that is made in another way.
#[must_use]
pub fn client(config: &SdkConfig) -> Client {
    client_with(config, RequestLimits::default())
}

/// A client from a configuration that the service has already loaded, with time limits of one's own.
#[must_use]
pub fn client_with(config: &SdkConfig, limits: RequestLimits) -> Client {
    let mut builder = limits.apply(Builder::from(config)).disable_clock_skew_correction(true);
    if config.http_client().is_none() {
        builder.set_http_client(authorities::without());
    }
    let end_points = [end_point_of(config, "DynamoDB"), config.endpoint_url().map(str::to_owned)];
    if end_points.iter().flatten().any(String::is_empty) {
        // Set and empty is not set, as with AWS's other tools; the SDK panics.
        builder.set_endpoint_url(end_points.into_iter().flatten().find(|url| !url.is_empty()));
    }
    Client::from_conf(builder.build())
}

/// `AWS_ENDPOINT_URL_DYNAMODB`, for instance, or the same in the profile; otherwise what is set for all services.
fn end_point_of(config: &SdkConfig, service: &str) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id(service).env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    config.service_config()?.load_config(key.ok()?)
}

/// Pinned, so that a new version of the SDK does not change defaults underneath.
#[must_use]
pub fn behavior_version() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_given_its_time_in_few_steps_and_small_requests_none() {
        let limits = RequestLimits::default();
        let ms = |bytes| limits.until_answer(bytes).as_millis();
        assert_eq!([ms(0), ms(64 * 1024)], [2_000, 2_000]);
        assert_eq!([ms(64 * 1024 + 1), ms(256 * 1024), ms(300_000), ms(4 << 20)], [2_250, 2_250, 3_000, 6_000]);
        assert_eq!(RequestLimits::patient().until_answer(4 << 20), Duration::from_secs(5 + 256));
        assert!(limits.slowest_upload(0).until_answer(u64::from(u32::MAX)) > limits.request, "no division by zero");
    }
}
