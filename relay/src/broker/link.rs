//! The socket under a connection, which stays in our hands: it can be cut.
//!
//! lapin ends its thread and its socket only by an orderly close. Where the broker does not answer (a handshake that stalls,
//! a blocked connection) it keeps both for ever, and sends what it had queued when the broker reads again. Cutting the socket
//! ends all of it at once.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsFd as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties,
    tcp::RustlsConnector,
    uri::{AMQPScheme, AMQPUri},
};
use tokio::time::timeout;

use super::tls::TlsFiles;

/// Cuts the socket when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Plug(Arc<Mutex<Option<TcpStream>>>);

impl Drop for Plug {
    fn drop(&mut self) {
        if let Some(socket) = self.0.lock().ok().and_then(|mut socket| socket.take()) {
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Opens an AMQP connection: name, TCP, TLS, handshake. The plug cuts it, also while it is being opened.
pub(super) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    tls: TlsFiles,
    plug: &Plug,
    limit: Duration,
) -> lapin::Result<Connection> {
    let socket = Arc::clone(&plug.0);
    let runtime = lapin::runtime::default_runtime()?;
    let reactor = runtime.clone();
    let open = move |uri: AMQPUri, _| {
        let (socket, tls, reactor) = (Arc::clone(&socket), tls.clone(), reactor.clone());
        async move {
            // In lapin's thread, which nobody else ends.
            let opened = timeout(limit, async {
                let host = uri.authority.host.as_str();
                let addresses = tokio::net::lookup_host((host, uri.authority.port)).await?;
                let stream = connect_any(addresses, async |address| AsyncTcpStream::connect(&reactor, address).await);
                let stream = stream.await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    let plain = plain.get_ref();
                    plain.set_nodelay(true)?;
                    let copy = TcpStream::from(plain.as_fd().try_clone_to_owned()?);
                    *socket.lock().map_err(|_| io::ErrorKind::Other)? = Some(copy);
                }
                match uri.scheme {
                    AMQPScheme::AMQP => Ok(stream),
                    AMQPScheme::AMQPS => {
                        let config = tokio::task::spawn_blocking(move || tls.read()).await?;
                        let connector = RustlsConnector::from(config.map_err(io::Error::other)?);
                        stream.into_rustls(&connector, host).await
                    }
                }
            });
            let stream = opened.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
            Ok(stream)
        }
    };
    Connection::connector(uri, runtime, open, properties).await
}

/// The first address that takes the connection; else the last one's error.
async fn connect_any<T>(
    addresses: impl Iterator<Item = SocketAddr>,
    connect: impl AsyncFn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(why) => error = why,
        }
    }
    Err(error)
}
