//! A slow link to a broker or to DynamoDB: bytes pass at a rate, in one direction or in both.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// What passes in one piece.
const PIECE_BYTES: usize = 16 * 1024;

/// A link. It ends with the value.
#[derive(Debug)]
pub struct SlowLink {
    port: u16,
    accepting: JoinHandle<()>,
}

impl SlowLink {
    /// Starts one that forwards to `server`, `host:port`, this many bytes a second for each connection; what the server sends
    /// passes at once.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(server: &str, bytes_per_second: u32) -> Self {
        Self::start_with(server, bytes_per_second, None).await
    }

    /// As [`start`](Self::start), but slow in both directions.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start_both_ways(server: &str, bytes_per_second: u32) -> Self {
        Self::start_with(server, bytes_per_second, Some(bytes_per_second)).await
    }

    async fn start_with(server: &str, forth: u32, back: Option<u32>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let server = server.to_owned();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, server.clone(), forth, back));
            }
        });
        Self { port, accepting }
    }

    /// Its port on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for SlowLink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(client: TcpStream, server: String, forth: u32, back: Option<u32>) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        copied = pass(from_server, to_client, back) => copied,
        sent = pass(from_client, to_server, Some(forth)) => sent,
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, bytes_per_second: Option<u32>) -> std::io::Result<()> {
    let Some(bytes_per_second) = bytes_per_second else { return copy(&mut from, &mut to).await.map(|_| ()) };
    let mut piece = vec![0; PIECE_BYTES];
    let mut next = Instant::now();
    loop {
        let bytes = from.read(&mut piece).await?;
        if bytes == 0 {
            return Ok(());
        }
        to.write_all(&piece[..bytes]).await?;
        // The rate is the fault itself.
        let takes = Duration::from_secs(1) * u32::try_from(bytes).unwrap_or(u32::MAX) / bytes_per_second;
        next = next.max(Instant::now()) + takes;
        sleep_until(next).await;
    }
}
