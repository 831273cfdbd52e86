//! The socket under a connection. A handle to it is kept, to cut it.
//!
//! lapin ends its thread and its socket only by an orderly close. If the broker does not answer (a handshake that stalls,
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
use tokio::time::{Instant, timeout};

use crate::tls::TlsFiles;

/// Cuts the socket when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct SocketGuard(Arc<Mutex<Option<TcpStream>>>);

impl Drop for SocketGuard {
    fn drop(&mut self) {
        if let Some(socket) = self.0.lock().ok().and_then(|mut socket| socket.take()) {
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Opens an AMQP connection: name, TCP, TLS, handshake. The guard cuts it, also while it is being opened.
pub(crate) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    tls: TlsFiles,
    guard: &SocketGuard,
    limit: Duration,
) -> lapin::Result<Connection> {
    let socket = Arc::clone(&guard.0);
    let runtime = lapin::runtime::default_runtime()?;
    let reactor = runtime.clone();
    let open = move |uri: AMQPUri, _| {
        let (socket, tls, reactor) = (Arc::clone(&socket), tls.clone(), reactor.clone());
        async move {
            let began = Instant::now();
            // In lapin's thread, which nothing else ends.
            let opened = timeout(limit, async {
                let host = uri.authority.host.as_str();
                let addresses = tokio::net::lookup_host((host, uri.authority.port)).await?.collect();
                let until = began + limit;
                let connect = async |address| AsyncTcpStream::connect(&reactor, address).await;
                let stream = connect_any(addresses, until, connect);
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

/// The first address that takes the connection; else the last one's error. Each has an equal share of the time that is
/// left, half of which stays for TLS and the handshake: an address that does not answer leaves time for the next one.
async fn connect_any<T>(
    addresses: Vec<SocketAddr>,
    until: Instant,
    connect: impl AsyncFn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (tried, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = match u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX) {
            1 => left,
            addresses_left => left / 2 / addresses_left,
        };
        match timeout(share, connect(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(why)) => error = why,
            Err(_) => error = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn addresses(count: u8) -> Vec<SocketAddr> {
        (1..=count).map(|last| SocketAddr::from(([127, 0, 0, last], 5672))).collect()
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_leaves_time_for_the_next_ones() {
        let until = Instant::now() + Duration::from_millis(200);
        let last_alone = async |address: SocketAddr| {
            if address == addresses(3)[2] { Ok(address) } else { pending().await }
        };
        let connected = connect_any(addresses(3), until, last_alone).await;
        assert_eq!(connected.unwrap(), addresses(3)[2]);
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_followed_by_the_next_one() {
        let until = Instant::now() + Duration::from_secs(10);
        let second_alone = async |address: SocketAddr| {
            if address == addresses(2)[1] { Ok(()) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
        };
        assert!(connect_any(addresses(2), until, second_alone).await.is_ok());
        let refused = async |_| Err::<(), _>(io::ErrorKind::ConnectionRefused.into());
        let error = connect_any(addresses(2), until, refused).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
