//! One hot stream, whose rate is bounded by the confirm: at most one event of a stream is in flight.

use std::time::Duration;

use streambox_relay::broker::parse_url;
use streambox_tests::{broker::named_broker_url, far_link::FarLink};

use crate::{
    Failure, median,
    stage::{Stage, printed},
};

const ENTRIES: u64 = 2_000;
/// What the link to the broker adds to a round trip.
const ADDED_MS: [u64; 3] = [0, 5, 20];

pub(crate) async fn measure(rounds: usize) -> Result<(), Failure> {
    println!("one stream with {ENTRIES} pending entries, to a quorum queue: events/s until the last confirm");
    println!("{:>20}{:>14}{:>40}", "added round trip", "median", "all rounds");
    for added_ms in ADDED_MS {
        let mut rates = Vec::new();
        for _ in 0..rounds {
            let stage = Stage::set_with_quorum_queue().await?;
            stage.fill(1, ENTRIES).await?;
            let (link, url) = far_broker(Duration::from_millis(added_ms)).await?;
            let report = printed(stage.relay("drain").env("STREAMBOX_AMQP_URL", url)).await?;
            rates.push(report["events_per_second"].as_f64().ok_or("no rate")?);
            drop(link);
            stage.strike(ENTRIES).await?;
        }
        let all = rates.iter().map(|rate| format!("{rate:.0}")).collect::<Vec<_>>().join(", ");
        println!("{added_ms:>17} ms{:>14.0}{all:>40}", median(&mut rates));
    }
    Ok(())
}

/// A way to the broker on which the answers arrive later, and its URL.
async fn far_broker(delay: Duration) -> Result<(FarLink, String), Failure> {
    let broker = named_broker_url();
    let uri = parse_url(&broker)?;
    let server = format!("{}:{}", uri.authority.host, uri.authority.port);
    let link = FarLink::start(&server, delay).await?;
    let url = broker.replacen(&server, link.address(), 1);
    if url == broker {
        return Err(format!("the broker's URL does not name {server}").into());
    }
    Ok((link, url))
}
