//! One hot stream, whose rate is bounded by the confirm: at most one event of a stream is in flight.

use std::{future::pending, time::Duration};

use streambox_relay::broker::parse_url;
use streambox_tests::broker::named_broker_url;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use crate::{
    Failure, median,
    stage::{Stage, printed},
};

const ENTRIES: u64 = 2_000;
/// What the link to the broker adds to a round trip.
const ADDED_MS: [u64; 3] = [0, 5, 20];

const PIECE_BYTES: usize = 16 * 1024;

pub(crate) async fn measure(rounds: usize) -> Result<(), Failure> {
    println!("one stream with {ENTRIES} pending entries, to a quorum queue: events/s until the last confirm");
    println!("{:>20}{:>14}{:>40}", "added round trip", "median", "all rounds");
    for added_ms in ADDED_MS {
        let mut rates = Vec::new();
        for _ in 0..rounds {
            let stage = Stage::set_with_quorum_queue().await?;
            stage.fill(1, ENTRIES).await?;
            let link = FarLink::start(Duration::from_millis(added_ms)).await?;
            let report = printed(stage.relay("drain").env("STREAMBOX_AMQP_URL", &link.url)).await?;
            rates.push(report["events_per_second"].as_f64().ok_or("no rate")?);
            stage.strike(ENTRIES).await?;
        }
        let all = rates.iter().map(|rate| format!("{rate:.0}")).collect::<Vec<_>>().join(", ");
        println!("{added_ms:>17} ms{:>14.0}{all:>40}", median(&mut rates));
    }
    Ok(())
}

/// A way to the broker on which the answers arrive later.
struct FarLink {
    url: String,
    accepting: AbortHandle,
}

impl Drop for FarLink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl FarLink {
    async fn start(delay: Duration) -> Result<Self, Failure> {
        let broker = named_broker_url();
        let uri = parse_url(&broker)?;
        let server = format!("{}:{}", uri.authority.host, uri.authority.port);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = broker.replacen(&server, &listener.local_addr()?.to_string(), 1);
        if url == broker {
            return Err(format!("the broker's URL does not name {server}").into());
        }
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, server.clone(), delay));
            }
        });
        Ok(Self { url, accepting: accepting.abort_handle() })
    }
}

async fn forward(client: TcpStream, server: String, delay: Duration) -> std::io::Result<()> {
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
                return Ok::<_, std::io::Error>(());
            }
        }
    };
    let deliver = async {
        while let Some((at, bytes)) = arriving.recv().await {
            sleep_until(at).await;
            to_client.write_all(&bytes).await?;
        }
        pending::<std::io::Result<()>>().await
    };
    tokio::select! {
        ended = receive => ended,
        ended = deliver => ended,
        ended = copy(&mut from_client, &mut to_server) => ended.map(|_| ()),
    }
}
