//! How quickly a projection is rebuilt: beside a bare scan of the same table, into memory, and into an inbox on DynamoDB.
//!
//! The engine is `embedded-dynamodb`, a process of its own as DynamoDB is. What a transaction of an inbox takes is mostly the engine's.
//!
//! `make bench-rebuild FILE=events.ndjson.gz`

use std::{
    collections::HashMap,
    convert::Infallible,
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use clap::Parser;
use futures_util::TryStreamExt as _;
use streambox::{EventStore, ScanOptions, StreamId, aws_sdk_dynamodb::types::TransactWriteItem, message::Received};
use streambox_consumer::{
    Applied, Context, Handler, HandlerError, Inbox, Position, Projection, Rebuild, RebuildReport, create_inbox_table,
};
use streambox_tests::{built::program, served::ServedEngine};
use tokio::process::Command;

#[derive(Parser)]
#[command(about = "Measure how quickly a projection is rebuilt")]
struct Arguments {
    /// Events: NDJSON, plain or gzipped
    file: String,
    /// Rounds of each case
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// Positions, and a count.
#[derive(Default)]
struct Memory(Mutex<(HashMap<StreamId, Position>, u64)>);

impl Projection for Memory {
    type Error = Infallible;

    async fn position(&self, stream: &StreamId) -> Result<Position, Infallible> {
        let model = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(model.0.get(stream).copied().unwrap_or_default())
    }

    async fn apply(&self, event: &Received, last_version: u64) -> Result<Applied, Infallible> {
        let mut model = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let position = model.0.entry(event.stream_id.clone()).or_default();
        if position.version != last_version {
            return Ok(Applied::Moved);
        }
        *position = Position { version: event.version, event_id: Some(event.event_id) };
        model.1 += 1;
        Ok(Applied::Stored)
    }
}

/// Positions alone: what an inbox costs at least.
struct NoEffect;

impl Handler for NoEffect {
    async fn handle(&self, _: &Received, _: &Context<'_>) -> Result<Vec<TransactWriteItem>, HandlerError> {
        Ok(Vec::new())
    }
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let engine = ServedEngine::start_with(&["--stay-quick"]).await;
    let mut import = Command::new(program("streambox"));
    import.args(["import", &arguments.file]).envs(engine.environment()).stdout(Stdio::null());
    assert!(import.status().await.expect("the program starts").success(), "the events are imported");
    let store = engine.store(None);

    println!("{:<28} {:>9} {:>9} {:>12}", "", "events", "seconds", "events/s");
    for _ in 0..arguments.rounds {
        let begun = Instant::now();
        let mut scan = store.scan_events(&ScanOptions::new()).expect("valid options");
        let mut events = 0_u64;
        while scan.try_next().await.expect("the engine answers").is_some() {
            events += 1;
        }
        show("bare scan", events, begun);
        rebuild("memory", &store, &Memory::default(), 16).await;
    }
    create_inbox_table(&engine.client(None), "inbox").await.expect("the engine creates tables");
    let inbox = Inbox::new(engine.client(None), "inbox", "bench").expect("valid names");
    let mut generation = 0;
    for concurrency in [1, 4, 16] {
        generation += 1;
        let projection = inbox.clone().generation(generation).projection(NoEffect);
        rebuild(&format!("inbox, concurrency {concurrency}"), &store, &projection, concurrency).await;
    }
    let projection = inbox.generation(generation).projection(NoEffect);
    let report = rebuild("inbox, nothing to apply", &store, &projection, 16).await;
    assert_eq!(report.applied, 0, "all of it is there");
}

async fn rebuild<P: Projection>(name: &str, store: &EventStore, projection: &P, concurrency: usize) -> RebuildReport {
    let begun = Instant::now();
    let report = Rebuild::new(store, projection).concurrency(concurrency).run().await.expect("everything is applied");
    show(name, report.events, begun);
    report
}

fn show(name: &str, events: u64, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = events as f64 / seconds;
    println!("{name:<28} {events:>9} {seconds:>9.2} {rate:>12.0}");
}
