//! Whether a service answers.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest first line of an answer that is read.
const LINE_BYTES_MAX: u64 = 1024;

/// The parts of a URL that say where to connect to.
#[derive(Debug, PartialEq, Eq)]
pub struct Url {
    /// As `http`.
    pub scheme: String,
    /// A name or an address, without brackets.
    pub host: String,
    /// The default of the scheme if the URL has none.
    pub port: u16,
    /// With a leading slash.
    pub path: String,
}

impl Url {
    /// Parses a URL; `None` if it is invalid.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let default_port = match scheme {
            "amqp" => 5672,
            "amqps" => 5671,
            "https" => 443,
            _ => 80,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
        let (host, port) = match address.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']')?;
                (host, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some(""))?)
            }
            None => address.split_once(':').unwrap_or((address, "")),
        };
        let port = if port.is_empty() { default_port } else { port.parse().ok()? };
        let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_lowercase());
        (is_scheme && !host.is_empty()).then(|| Self {
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            port,
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
        })
    }

    fn connect(&self) -> Option<TcpStream> {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs().ok()?;
        let stream = { addresses }.find_map(|address| TcpStream::connect_timeout(&address, TIMEOUT).ok())?;
        stream.set_read_timeout(Some(TIMEOUT)).ok()?;
        Some(stream)
    }

    /// Whether something listens there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.connect().is_some()
    }

    /// Whether a broker answers. An open port proves nothing: Docker's proxy accepts connections before the broker listens. So this
    /// sends the header of AMQP 0-9-1 and expects Connection.Start: a method frame (1) on channel 0 with class 10, method 10.
    #[must_use]
    pub fn amqp_answers(&self) -> bool {
        let mut frame = [0; 11];
        let Some(mut stream) = self.connect() else { return false };
        let answered = stream.write_all(b"AMQP\x00\x00\x09\x01").and_then(|()| stream.read_exact(&mut frame));
        answered.is_ok() && frame[..3] == [1, 0, 0] && frame[7..] == [0, 10, 0, 10]
    }

    /// The first line of the answer to `ListTables`. The signature is not a real one: emulators only look at its shape, and AWS
    /// refuses it, which is an answer, too.
    #[must_use]
    pub fn dynamodb_status(&self) -> Option<String> {
        let Self { host, port, path, .. } = self;
        let mut stream = self.connect()?;
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\nContent-Length: 2\r\n\
             Content-Type: application/x-amz-json-1.0\r\nX-Amz-Target: DynamoDB_20120810.ListTables\r\n\
             X-Amz-Date: 20260101T000000Z\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential=local/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n{{}}"
        )
        .ok()?;
        let mut line = String::new();
        BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line).ok()?;
        Some(line)
    }

    /// Whether a DynamoDB answers, and takes our credentials.
    #[must_use]
    pub fn dynamodb_answers(&self) -> bool {
        self.dynamodb_status().is_some_and(|line| line.starts_with("HTTP/1.1 200"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_to_connect_to() {
        for (url, scheme, host, port, path) in [
            ("amqp://user:p@ss@broker.example/%2f", "amqp", "broker.example", 5672, "/%2f"),
            ("amqps://broker", "amqps", "broker", 5671, "/"),
            ("http://[::1]:8000", "http", "::1", 8000, "/"),
            ("https://a.example?x", "https", "a.example", 443, "?x"),
        ] {
            let (scheme, host, path) = (scheme.to_owned(), host.to_owned(), path.to_owned());
            assert_eq!(Url::parse(url), Some(Url { scheme, host, port, path }), "{url}");
        }
        for url in ["somewhere", "http://", "http://a:b", "://a", "http://[::1", "http://[::1]8000"] {
            assert_eq!(Url::parse(url), None, "{url}");
        }
    }
}
