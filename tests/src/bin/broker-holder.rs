//! Starts a broker as a test would, prints its URL, and holds it until standard input ends: for tests of what becomes of a
//! broker whose test is killed.

use std::io::{copy, sink, stdin};

use streambox_tests::broker::OwnBroker;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let broker = OwnBroker::start().await;
    println!("{}", broker.url());
    copy(&mut stdin(), &mut sink())?;
    Ok(())
}
