//! What a running relay shows, where, and how to ask for it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use clap::Args;

use super::error::BadConfiguration;
use crate::{
    emf::EmfSettings,
    flag_values::{DURATION, duration},
};

const HTTP: &str = "--http (STREAMBOX_HTTP)";

/// The longest name of a namespace that CloudWatch takes.
const MAX_NAMESPACE_BYTES: usize = 255;

/// Health, metrics and the status page.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Observability")]
pub struct HttpOption {
    /// The address and port that serve /livez, /readyz, /metrics and the status page, or `off`. With port 0 the system chooses
    /// one, which is logged. There is no authentication: bind an address that only your own network reaches.
    #[arg(long, env = "STREAMBOX_HTTP", default_value = "127.0.0.1:9090", value_name = "ADDRESS:PORT|off")]
    pub http: String,
}

/// Metrics for CloudWatch.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Observability")]
pub struct EmfOptions {
    /// Write metrics to standard output for CloudWatch, one line an interval in its embedded metric format, under this
    /// namespace. Without it nothing is written. Each table has 9 metrics, which CloudWatch bills as custom ones.
    #[arg(long, env = "STREAMBOX_EMF_NAMESPACE", value_name = "NAME")]
    pub emf_namespace: Option<String>,

    /// Time from one line for CloudWatch to the next. Alarms on sums expect a line for each of their periods.
    #[arg(long, env = "STREAMBOX_EMF_INTERVAL", value_name = DURATION, default_value = "1m", value_parser = duration(1_000..=3_600_000))]
    pub emf_interval: Duration,
}

/// Traces.
#[cfg(feature = "opentelemetry")]
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Observability")]
pub struct TraceOption {
    /// The OpenTelemetry collector that spans are exported to, for example `http://127.0.0.1:4318`: OTLP over HTTP, or HTTPS with
    /// the system's authorities. Without it no spans are exported. `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_BSP_…` work as
    /// everywhere.
    #[arg(long, env = "STREAMBOX_OTLP_ENDPOINT", hide_env_values = true, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// Which relay a health check asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A relay that serves there.
    At(SocketAddr),
    /// None, for this reason.
    Nobody(&'static str),
}

impl HttpOption {
    /// Where to listen; `None` if that is turned off.
    ///
    /// # Errors
    /// [`BadConfiguration`] says what is allowed.
    pub fn address(&self) -> Result<Option<SocketAddr>, BadConfiguration> {
        if self.http == "off" {
            return Ok(None);
        }
        let why = "it is not an address; allowed is `off`, or an IP address and a port, for example 127.0.0.1:9090, \
                   0.0.0.0:9090 or [::1]:0";
        self.http.parse().map(Some).map_err(|_| BadConfiguration::new(HTTP, &self.http, why))
    }

    /// Where a relay with the same setting is asked: one that listens on every address, on loopback.
    ///
    /// # Errors
    /// As [`address`](Self::address).
    pub fn asked(&self) -> Result<Asked, BadConfiguration> {
        Ok(match self.address()? {
            None => Asked::Nobody(
                "the relay serves nothing with --http off (STREAMBOX_HTTP): give it an address and a port",
            ),
            Some(address) if address.port() == 0 => Asked::Nobody(
                "with port 0 in --http (STREAMBOX_HTTP) the system has chosen the port: give the one that the relay's log names",
            ),
            Some(address) => Asked::At(match address.ip() {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED) => (Ipv4Addr::LOCALHOST, address.port()).into(),
                IpAddr::V6(Ipv6Addr::UNSPECIFIED) => (Ipv6Addr::LOCALHOST, address.port()).into(),
                _ => address,
            }),
        })
    }
}

impl EmfOptions {
    /// What is written for CloudWatch; `None` if nothing is.
    ///
    /// # Errors
    /// [`BadConfiguration`] says what is allowed.
    pub fn settings(&self) -> Result<Option<EmfSettings>, BadConfiguration> {
        let Some(namespace) = self.emf_namespace.clone() else { return Ok(None) };
        let is_allowed = |char: char| char.is_ascii_alphanumeric() || " .-_/#:".contains(char);
        let why = if namespace.trim().is_empty() {
            "it is empty; leave it out if no metrics are wanted, or name it, for example Streambox"
        } else if namespace.starts_with("AWS/") || namespace.starts_with(':') || !namespace.chars().all(is_allowed) {
            "CloudWatch does not take it; allowed are ASCII letters, digits, spaces and . - _ / # :, neither `AWS/` nor a colon at \
             the beginning"
        } else if namespace.len() > MAX_NAMESPACE_BYTES {
            "it has more than 255 bytes"
        } else {
            return Ok(Some(EmfSettings { namespace, interval: self.emf_interval }));
        };
        Err(BadConfiguration::new("--emf-namespace (STREAMBOX_EMF_NAMESPACE)", namespace, why))
    }
}
