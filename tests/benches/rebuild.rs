//! How quickly a projection is rebuilt, what it reads and what memory it takes: beside a bare scan of the same table, into memory, and into
//! an inbox on DynamoDB.
//!
//! The engine is `embedded-dynamodb`, a process of its own as DynamoDB is. What a transaction of an inbox takes is mostly the engine's.
//!
//! - `make bench-rebuild FILE=events.ndjson.gz`: the events of a file, which are imported.
//! - `make bench-rebuild BENCH="--events 1000000"`: a large table of copies, in streams of 20 events with payloads of 300 bytes. It is
//!   rebuilt into memory alone.

use std::{
    collections::HashMap,
    convert::Infallible,
    error::Error,
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use clap::Parser;
use futures_util::TryStreamExt as _;
use streambox::{
    Client, EventStore, ExpectedVersion, NewEvent, RequestLimits, ScanOptions, StreamId,
    aws_sdk_dynamodb::types::TransactWriteItem, message::Received,
};
use streambox_consumer::{
    Applied, Context, Handler, HandlerError, Inbox, Position, Projection, Rebuild, RebuildReport, create_inbox_table,
};
use streambox_tests::{PATIENCE, basics::stream, built::program, copies::copy_stream, memory, served::ServedEngine};
use tokio::process::Command;

type Failure = Box<dyn Error + Send + Sync>;

/// Of a table of copies.
const EVENTS_PER_STREAM: u64 = 20;
const PAYLOAD_BYTES: usize = 300;

/// What a strongly consistent read unit reads.
const UNIT_BYTES: f64 = 4096.0;

#[derive(Parser)]
#[command(about = "Measure how quickly a projection is rebuilt")]
struct Arguments {
    /// Events: NDJSON, plain or gzipped
    file: String,
    /// Instead of the file, a table of copies with about as many events
    #[arg(long)]
    events: Option<u64>,
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
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    // The quick engine has room for 1 GiB; nothing here needs many transactions of the other one.
    let engine = ServedEngine::start_with(if arguments.events.is_some() { &[] } else { &["--stay-quick"] }).await;
    // A page of a large table takes this engine seconds.
    let limits = RequestLimits::default().silence(PATIENCE).request(PATIENCE);
    let config = limits.apply(engine.client(None).config().to_builder()).build();
    let store = EventStore::new(Client::from_conf(config), engine.table());
    match arguments.events {
        Some(events) => fill(&engine, &store, events).await?,
        None => import(&engine, &arguments.file).await?,
    }
    show_size(&engine).await?;

    println!("{:<28} {:>9} {:>9} {:>12} {:>11} {:>9}", "", "events", "seconds", "events/s", "read units", "peak MiB");
    for _ in 0..arguments.rounds {
        let case = Case::begin("bare scan")?;
        let mut scan = store.scan_events(&ScanOptions::new())?;
        let mut events = 0_u64;
        while scan.try_next().await?.is_some() {
            events += 1;
        }
        case.end(events, scan.read_units())?;
        rebuild("memory", &store, &Memory::default(), 16).await?;
    }
    if arguments.events.is_none() {
        into_inbox(&engine, &store).await?;
    }
    Ok(())
}

async fn into_inbox(engine: &ServedEngine, store: &EventStore) -> Result<(), Failure> {
    create_inbox_table(&engine.client(None), "inbox").await?;
    let inbox = Inbox::new(engine.client(None), "inbox", "bench")?;
    let mut generation = 0;
    for concurrency in [1, 4, 16] {
        generation += 1;
        let projection = inbox.clone().generation(generation).projection(NoEffect);
        rebuild(&format!("inbox, concurrency {concurrency}"), store, &projection, concurrency).await?;
    }
    let projection = inbox.generation(generation).projection(NoEffect);
    let report = rebuild("inbox, nothing to apply", store, &projection, 16).await?;
    assert_eq!(report.applied, 0, "all of it is there");
    Ok(())
}

async fn import(engine: &ServedEngine, file: &str) -> Result<(), Failure> {
    let mut import = Command::new(program("streambox"));
    import.args(["import", file]).envs(engine.environment()).stdout(Stdio::null());
    assert!(import.status().await?.success(), "the events are imported");
    Ok(())
}

/// Appends one stream, and copies it.
async fn fill(engine: &ServedEngine, store: &EventStore, events: u64) -> Result<(), Failure> {
    let original = stream("order-0");
    let payload = serde_json::json!({ "text": "x".repeat(PAYLOAD_BYTES) });
    let mut expected = ExpectedVersion::NoStream;
    for _ in 0..EVENTS_PER_STREAM {
        let appended = store.append(&original, expected, [NewEvent::json("Counted", &payload)?]).await?;
        expected = ExpectedVersion::At(appended.position);
    }
    let copies = (1..events / EVENTS_PER_STREAM).map(|number| format!("order-{number}"));
    copy_stream(&engine.client(None), engine.table(), &original, "event#", copies).await
}

async fn show_size(engine: &ServedEngine) -> Result<(), Failure> {
    let description = engine.client(None).describe_table().table_name(engine.table()).send().await?;
    let bytes = description.table.and_then(|table| table.table_size_bytes).ok_or("the engine knows no size")?;
    #[expect(clippy::cast_precision_loss, reason = "a size for reading")]
    let bytes = bytes as f64;
    println!("the table has {:.1} MiB, {:.0} read units", bytes / f64::from(1 << 20), bytes / UNIT_BYTES);
    Ok(())
}

async fn rebuild<P: Projection>(
    name: &str,
    store: &EventStore,
    projection: &P,
    concurrency: usize,
) -> Result<RebuildReport, Failure> {
    let case = Case::begin(name)?;
    let report = Rebuild::new(store, projection).concurrency(concurrency).run().await?;
    case.end(report.events, report.read_units)?;
    Ok(report)
}

/// What is measured of one case.
struct Case<'a> {
    name: &'a str,
    begun: Instant,
}

impl<'a> Case<'a> {
    fn begin(name: &'a str) -> Result<Self, Failure> {
        memory::forget_peak()?;
        Ok(Self { name, begun: Instant::now() })
    }

    fn end(self, events: u64, read_units: f64) -> Result<(), Failure> {
        let seconds = self.begun.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = events as f64 / seconds;
        let peak_mib = f64::from(memory::peak_kib(std::process::id())?) / 1024.0;
        let name = self.name;
        println!("{name:<28} {events:>9} {seconds:>9.2} {rate:>12.0} {read_units:>11.0} {peak_mib:>9.1}");
        Ok(())
    }
}
