//! Where a connection leads to.

use std::{fmt, time::Duration};

use lapin::uri::AMQPUri;

use crate::TlsFiles;

/// Where a connection leads to, and how long it may take.
///
/// Exhaustive: it is made by [`Endpoint::new`].
#[derive(Clone)]
pub struct Endpoint {
    /// The broker: host, credentials, virtual host.
    pub uri: AMQPUri,
    /// The files for TLS (`amqps`).
    pub tls: TlsFiles,
    /// The longest time to connect: name, TCP, TLS and AMQP's handshake; also to open a channel. The URL's own parameter comes first.
    pub connect_timeout: Duration,
    /// The longest time to close the connection in an orderly way.
    pub close_timeout: Duration,
}

impl Endpoint {
    /// The longest time to connect, unless another one is set.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

    /// A broker, and the defaults of everything else.
    #[must_use]
    pub fn new(uri: AMQPUri) -> Self {
        Self {
            uri,
            tls: TlsFiles::default(),
            connect_timeout: Self::DEFAULT_CONNECT_TIMEOUT,
            close_timeout: Duration::from_secs(5),
        }
    }

    /// Host and port, as errors name them.
    #[must_use]
    pub fn address(&self) -> String {
        let (host, port) = (&self.uri.authority.host, self.uri.authority.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The URL's own parameter comes first.
    pub(crate) fn time_to_connect(&self) -> Duration {
        self.uri.query.connection_timeout.map_or(self.connect_timeout, Duration::from_millis)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        f.debug_struct("Endpoint")
            .field("address", &self.address())
            .field("user", &self.uri.authority.userinfo.username)
            .field("vhost", &self.uri.vhost)
            .field("tls", &self.tls)
            .field("connect_timeout", &self.connect_timeout)
            .field("close_timeout", &self.close_timeout)
            .finish()
    }
}
