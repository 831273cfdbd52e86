//! The flags of a connection to the broker.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use lapin::uri::{AMQPScheme, AMQPUri};

use super::{CONNECT_TIMEOUT_MS, Timeouts, TlsFiles};

/// How a connection to the broker is made.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Broker")]
pub struct LinkOptions {
    /// Certificates (PEM) of the authorities to trust with `amqps://`, instead of the system's. Read anew for each
    /// connection.
    #[arg(long, env = "STREAMBOX_AMQP_CA_FILE", value_name = "FILE")]
    pub amqp_ca_file: Option<PathBuf>,

    /// The client certificate (PEM) for `amqps://`. To log in by it, add `?auth_mechanism=external` to the URL.
    #[arg(long, env = "STREAMBOX_AMQP_CERT_FILE", value_name = "FILE", requires = "amqp_key_file")]
    pub amqp_cert_file: Option<PathBuf>,

    /// The key (PEM, not encrypted) of the client certificate.
    #[arg(long, env = "STREAMBOX_AMQP_KEY_FILE", value_name = "FILE", requires = "amqp_cert_file")]
    pub amqp_key_file: Option<PathBuf>,

    /// Longest time to connect: name, TCP, TLS and AMQP's handshake, in milliseconds; also to open the channel.
    #[arg(long, env = "STREAMBOX_CONNECT_TIMEOUT_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(CONNECT_TIMEOUT_MS))]
    pub connect_timeout_ms: u64,

    /// Longest time without a confirm while some are due, in milliseconds. Then the connection is dropped, and each event of
    /// the batch is published alone: one that is still not confirmed halts its stream. While the broker says that it is
    /// blocked the time stands still.
    #[arg(long, env = "STREAMBOX_CONFIRM_TIMEOUT_MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    pub confirm_timeout_ms: u64,
}

impl LinkOptions {
    /// The files and the times.
    ///
    /// # Errors
    /// Flag and environment variable of a file that can't be used, the file, and what is wrong with it.
    pub fn settings(&self, uri: &AMQPUri) -> Result<(TlsFiles, Timeouts), (&'static str, PathBuf, String)> {
        let tls = TlsFiles {
            authorities: self.amqp_ca_file.clone(),
            certificate: self.amqp_cert_file.clone(),
            key: self.amqp_key_file.clone(),
        };
        let named = [
            ("--amqp-ca-file (STREAMBOX_AMQP_CA_FILE)", &self.amqp_ca_file),
            ("--amqp-cert-file (STREAMBOX_AMQP_CERT_FILE)", &self.amqp_cert_file),
        ];
        if let Some((flag, path)) = named.into_iter().find_map(|(flag, path)| Some((flag, path.clone()?))) {
            if uri.scheme == AMQPScheme::AMQP {
                return Err((flag, path, "it is for TLS, and --amqp-url begins with amqp://, not amqps://".to_owned()));
            }
            // Once now, for a clear word at the start; then for every connection.
            tls.read().map_err(|error| (flag, path, crate::Chain(&error).to_string()))?;
        }
        let timeouts = Timeouts {
            connect: Duration::from_millis(self.connect_timeout_ms),
            channel: Duration::from_millis(self.connect_timeout_ms),
            confirm: Duration::from_millis(self.confirm_timeout_ms),
            ..Timeouts::default()
        };
        Ok((tls, timeouts))
    }
}
