//! A system without certificates of authorities to trust, as a minimal container image is: HTTPS can't be spoken there.

use std::sync::LazyLock;

use aws_sdk_dynamodb::config::{RuntimeComponents, SharedHttpClient, http::HttpRequest};
use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    result::ConnectorError,
};
use rustls::RootCertStore;

/// Why a request over HTTPS was not sent.
#[derive(Debug, thiserror::Error)]
#[error("the system has no certificates of authorities to trust")]
pub(crate) struct NoAuthorities;

/// Read once, as the SDK does: it takes milliseconds.
static HAS_AUTHORITIES: LazyLock<bool> = LazyLock::new(|| {
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    usable > 0
});

/// On a system without authorities, the client to use instead of the SDK's: it speaks plain HTTP, and answers anything else with
/// [`NoAuthorities`].
pub(crate) fn without() -> Option<SharedHttpClient> {
    (!*HAS_AUTHORITIES).then(|| SharedHttpClient::new(Plain(aws_smithy_http_client::Builder::new().build_http())))
}

#[derive(Debug)]
struct Plain<T>(T);

impl HttpClient for Plain<SharedHttpClient> {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Plain(self.0.http_connector(settings, components)))
    }
}

impl HttpConnector for Plain<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if request.uri().starts_with("http://") {
            self.0.call(request)
        } else {
            HttpConnectorFuture::ready(Err(ConnectorError::user(NoAuthorities.into())))
        }
    }
}
