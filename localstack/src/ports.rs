//! Ports on the loopback interface.

use std::{
    iter::repeat_with,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    time::Duration,
};

use crate::Outcome;

/// Below the ranges that Linux and macOS hand out to outgoing connections, so that none of those takes a port between our choosing
/// it and our listening on it.
const PORTS: Range<u16> = 21_000..32_000;
const ATTEMPTS: usize = 100;
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

/// A port that no program listens on.
///
/// # Errors
/// If none is found.
pub fn free_port() -> Outcome<u16> {
    let found = repeat_with(|| fastrand::u16(PORTS)).take(ATTEMPTS).find(|port| is_free(*port));
    found.ok_or(format!("no free port between {} and {}.", PORTS.start, PORTS.end - 1))
}

/// Whether no program listens on a port. On macOS one that listens on all interfaces does not keep us from listening on loopback.
#[must_use]
pub fn is_free(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).is_ok() && TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_err()
}
