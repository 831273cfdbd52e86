//! A way to the embedded engine on which the tokens of transactions are lost.
//!
//! dynoxide 3.2 remembers the token of each transaction for ten minutes, as DynamoDB does, and walks all of them in each new
//! transaction: after 100,000 it does a tenth of what it did at first. A token serves only those whose answer was lost, and
//! even then the library does without. So an engine for development drops them; one that is tested or measured does not.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, copy, copy_buf},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// After a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the engine takes.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// More than the headers of a signed request are.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// A page of results has 1 MB.
const ANSWER_BUFFER_BYTES: usize = 256 * 1024;

/// The member of a transaction, as compact JSON has it. Inside of a text its quotes would be escaped.
const TOKEN: &[u8] = br#""ClientRequestToken":""#;

/// Forwards every connection to the engine, and every request as it is but for its token.
pub async fn forward(listener: TcpListener, engine: SocketAddr) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Too many files are open, say: it passes.
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        tokio::spawn(async move {
            // What breaks one connection ends the other with it: the client sees that.
            let _ = connect(client, engine).await;
        });
    }
}

async fn connect(client: TcpStream, engine: SocketAddr) -> io::Result<()> {
    let engine = TcpStream::connect(engine).await?;
    client.set_nodelay(true)?;
    engine.set_nodelay(true)?;
    let ((requests, mut to_client), (answers, mut to_engine)) = (client.into_split(), engine.into_split());
    let requests = async {
        pass_requests(requests, &mut to_engine).await?;
        to_engine.shutdown().await
    };
    let answers = async {
        copy_buf(&mut BufReader::with_capacity(ANSWER_BUFFER_BYTES, answers), &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(requests, answers).map(|_| ())
}

/// Passes requests on, one after the other. What is not an HTTP request with a length goes through as it is, with all that follows.
async fn pass_requests(mut from: impl AsyncRead + Unpin, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            match find(&buffer, b"\r\n\r\n") {
                Some(end) => break end + 4,
                None if buffer.len() > MAX_HEAD_BYTES || from.read_buf(&mut buffer).await? == 0 => break 0,
                None => {}
            }
        };
        let Some(length) = body_length(&buffer[..head]) else {
            to.write_all(&buffer).await?;
            return copy(&mut from, to).await.map(|_| ());
        };
        let end = head + length;
        while buffer.len() < end {
            if from.read_buf(&mut buffer).await? == 0 {
                return to.write_all(&buffer).await;
            }
        }
        blank_token(&mut buffer[head..end]);
        to.write_all(&buffer[..end]).await?;
        buffer.drain(..end);
    }
}

/// None if it can't be said.
fn body_length(head: &[u8]) -> Option<usize> {
    let head = str::from_utf8(head).ok().filter(|head| !head.is_empty())?;
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let value = |name: &str| {
        let mut values = fields.clone().filter(|field| field.0.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value.trim())
    };
    if value("transfer-encoding").is_some() {
        return None;
    }
    let length = value("content-length").unwrap_or("0").parse().ok()?;
    (length <= MAX_BODY_BYTES).then_some(length)
}

/// Makes the token blanks, so that neither the length of the body nor its meaning changes.
fn blank_token(body: &mut [u8]) {
    let Some(start) = find(body, TOKEN) else { return };
    let value = start + TOKEN.len();
    let Some(length) = body[value..].iter().position(|byte| matches!(byte, b'"' | b'\\')) else { return };
    let end = value + length + 1;
    // With the comma behind it or, of the last member, the one before.
    match (body[end - 1], body.get(end), start.checked_sub(1).map(|before| body[before])) {
        (b'\\', ..) => {}
        (_, Some(b','), _) => body[start..=end].fill(b' '),
        (_, _, Some(b',')) => body[start - 1..end].fill(b' '),
        _ => body[start..end].fill(b' '),
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const REQUEST: &str = r#"{"TransactItems":[{"Put":{"Item":{"text":{"S":"\"ClientRequestToken\":\"a\""}}}}]"#;

    fn blanked(body: &str) -> String {
        let mut bytes = body.as_bytes().to_vec();
        blank_token(&mut bytes);
        assert_eq!(bytes.len(), body.len(), "the length stays");
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_token_is_blanked_wherever_it_stands_and_nothing_else() {
        let rest: Value = serde_json::from_str(&format!("{REQUEST}}}")).unwrap();
        for body in [
            format!(r#"{REQUEST},"ClientRequestToken":"b"}}"#),
            format!(r#"{{"ClientRequestToken":"b",{}"#, &REQUEST[1..]) + "}",
            format!("{REQUEST}}}"),
        ] {
            assert_eq!(serde_json::from_str::<Value>(&blanked(&body)).unwrap(), rest, "{body}");
        }
        assert_eq!(serde_json::from_str::<Value>(&blanked(r#"{"ClientRequestToken":"b"}"#)).unwrap(), json!({}));
    }

    #[test]
    fn what_could_be_something_else_is_left_as_it_is() {
        for body in [
            r#"{"ClientRequestToken":"a\"b"}"#,
            r#"{"ClientRequestToken":"b"#,
            r#"{"Item":{"ClientRequestToken":{"S":"b"}}}"#,
            "",
        ] {
            assert_eq!(blanked(body), body);
        }
    }

    async fn passed(requests: &str, at_once: usize) -> String {
        let (mut client, server) = tokio::io::duplex(at_once);
        let mut to_engine = Vec::new();
        let send = async {
            client.write_all(requests.as_bytes()).await.unwrap();
            drop(client);
        };
        let (passed, ()) = tokio::join!(pass_requests(server, &mut to_engine), send);
        passed.unwrap();
        String::from_utf8(to_engine).unwrap()
    }

    #[tokio::test]
    async fn requests_pass_one_after_the_other_however_they_come() {
        let body = format!(r#"{REQUEST},"ClientRequestToken":"b"}}"#);
        let request = |body: &str| format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let sent = format!("{}GET / HTTP/1.1\r\n\r\n{}", request(&body), request(&body));
        let expected = format!("{0}GET / HTTP/1.1\r\n\r\n{0}", request(&blanked(&body)));
        for at_once in [1, 7, 1_000_000] {
            assert_eq!(passed(&sent, at_once).await, expected);
        }
    }

    #[tokio::test]
    async fn what_has_no_length_passes_as_it_is() {
        let chunked =
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1a\r\n{\"ClientRequestToken\":\"b\"}\r\n0\r\n\r\n";
        let endless = "x".repeat(3 * MAX_HEAD_BYTES);
        let large = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{{", MAX_BODY_BYTES + 1);
        let half = "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n{";
        for sent in [chunked, &endless, &large, half, "POST / HTTP/1.1\r\n"] {
            assert_eq!(passed(sent, 1_000).await, sent);
        }
    }
}
