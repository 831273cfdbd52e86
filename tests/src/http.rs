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

/// Asks for something at `address` (host and port).
///
/// # Panics
/// If nobody answers, or not in HTTP.
pub async fn ask(address: &str, method: &str, path: &str) -> Answer {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.expect("somebody listens");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
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
