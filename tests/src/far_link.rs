//! A server that is further away: its answers arrive later.

use std::{future::pending, io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep_until},
};

const PIECE_BYTES: usize = 16 * 1024;

/// A way to a server on which the answers arrive later. It ends with the value.
#[derive(Debug)]
pub struct FarLink {
    address: String,
    accepting: AbortHandle,
}

impl Drop for FarLink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl FarLink {
    /// Starts one to `server`, `host:port`, that adds `delay` to each round trip. It limits no rate.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(server: &str, delay: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, server) = (listener.local_addr()?.to_string(), server.to_owned());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, server.clone(), delay));
            }
        });
        Ok(Self { address, accepting: accepting.abort_handle() })
    }

    /// What to connect to instead of the server: `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

async fn forward(client: TcpStream, server: String, delay: Duration) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let (sender, mut arriving) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let receive = async {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let bytes = from_server.read(&mut piece).await?;
            if bytes == 0 || sender.send((Instant::now() + delay, piece[..bytes].to_vec())).is_err() {
                return Ok::<_, io::Error>(());
            }
        }
    };
    let deliver = async {
        while let Some((at, bytes)) = arriving.recv().await {
            sleep_until(at).await;
            to_client.write_all(&bytes).await?;
        }
        pending::<io::Result<()>>().await
    };
    tokio::select! {
        ended = receive => ended,
        ended = deliver => ended,
        ended = copy(&mut from_client, &mut to_server) => ended.map(|_| ()),
    }
}
