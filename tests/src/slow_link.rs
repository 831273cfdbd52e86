//! A slow link to a broker: what the client sends passes at a rate, what the broker sends passes at once.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
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
    /// Starts one that forwards to `broker`, `host:port`, so many bytes a second for each connection.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(broker: &str, bytes_per_second: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let broker = broker.to_owned();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, broker.clone(), bytes_per_second));
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

async fn forward(client: TcpStream, broker: String, bytes_per_second: u32) -> std::io::Result<()> {
    let server = TcpStream::connect(broker).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = copy(&mut from_server, &mut to_client);
    let forth = async {
        let mut piece = vec![0; PIECE_BYTES];
        let mut next = Instant::now();
        loop {
            let bytes = from_client.read(&mut piece).await?;
            if bytes == 0 {
                return std::io::Result::Ok(());
            }
            to_server.write_all(&piece[..bytes]).await?;
            // The rate is the fault itself.
            let takes = Duration::from_secs(1) * u32::try_from(bytes).unwrap_or(u32::MAX) / bytes_per_second;
            next = next.max(Instant::now()) + takes;
            sleep_until(next).await;
        }
    };
    tokio::select! {
        copied = back => copied.map(|_| ()),
        sent = forth => sent,
    }
}
