//! A plain HTTP client: one request, one answer.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::PATIENCE;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The head, as it came.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A header's value, by its name in small letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(is, _)| is.to_lowercase() == name))
            .map(|(_, value)| value)
    }
}

/// Asks for something at `address` (host and port).
///
/// # Panics
/// If nobody answers, or not in HTTP.
pub async fn ask(address: &str, method: &str, path: &str) -> Answer {
    send(address, method, path, &[], "").await
}

/// Asks as [`ask`] does, with these headers and this body.
///
/// # Panics
/// As [`ask`].
pub async fn send(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let headers = headers.concat();
    let asked = async {
        let mut stream = TcpStream::connect(address).await.expect("somebody listens");
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.expect("the request is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the answer comes");
        answer
    };
    let answer = timeout(PATIENCE, asked).await.expect("the answer comes in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// A relay's metrics without the label `table`, which every one of them has.
///
/// # Panics
/// If a label does not end.
#[must_use]
pub fn without_table(metrics: &str) -> String {
    let mut text = String::with_capacity(metrics.len());
    for line in metrics.lines() {
        let Some((name, rest)) = line.split_once("{table=\"") else {
            text.extend([line, "\n"]);
            continue;
        };
        let (_, rest) = rest.split_once('"').expect("a label ends");
        match rest.strip_prefix(',') {
            Some(labels) => text.extend([name, "{", labels, "\n"]),
            None => text.extend([name, rest.strip_prefix('}').expect("labels end"), "\n"]),
        }
    }
    text
}
