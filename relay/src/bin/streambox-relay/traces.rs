//! Traces, if the program is built with them and has an endpoint.

use std::sync::{Arc, atomic::AtomicU64};

use streambox_programs::Failure;
#[cfg(feature = "opentelemetry")]
use streambox_relay::config::BadConfiguration;
use streambox_relay::{config::RelayOptions, telemetry::Observer};

#[cfg(feature = "opentelemetry")]
pub(crate) struct Traces(Option<Arc<streambox_relay::traces::Traces>>);

#[cfg(feature = "opentelemetry")]
impl Traces {
    pub(crate) fn start(options: &RelayOptions) -> Result<Self, Failure> {
        let Some(endpoint) = &options.traces.otlp_endpoint else { return Ok(Self(None)) };
        let traces = streambox_relay::traces::Traces::start(endpoint, &options.broker.exchange).map_err(|why| {
            let why =
                format!("{why}; allowed is a URL such as http://127.0.0.1:4318 or https://collector.example:4318");
            // There may be credentials in what is not a URL.
            BadConfiguration::new("--otlp-endpoint (STREAMBOX_OTLP_ENDPOINT)", streambox_relay::broker::NOT_SHOWN, why)
        })?;
        Ok(Self(Some(Arc::new(traces))))
    }

    pub(crate) fn observer(&self) -> Option<Arc<dyn Observer>> {
        self.0.clone().map(|traces| traces as _)
    }

    /// How many spans were lost.
    pub(crate) fn lost(&self) -> Arc<AtomicU64> {
        self.0.as_ref().map(|traces| traces.lost()).unwrap_or_default()
    }

    pub(crate) async fn shut_down(&self) {
        if let Some(traces) = &self.0 {
            traces.shut_down().await;
        }
    }
}

#[cfg(not(feature = "opentelemetry"))]
pub(crate) struct Traces;

#[cfg(not(feature = "opentelemetry"))]
impl Traces {
    #[expect(clippy::unnecessary_wraps, reason = "the same as with the feature")]
    pub(crate) fn start(_options: &RelayOptions) -> Result<Self, Failure> {
        Ok(Self)
    }

    #[expect(clippy::unused_self, reason = "the same as with the feature")]
    pub(crate) fn observer(&self) -> Option<Arc<dyn Observer>> {
        None
    }

    #[expect(clippy::unused_self, reason = "the same as with the feature")]
    pub(crate) fn lost(&self) -> Arc<AtomicU64> {
        Arc::default()
    }

    #[expect(clippy::unused_async, clippy::unused_self, reason = "the same as with the feature")]
    pub(crate) async fn shut_down(&self) {}
}
