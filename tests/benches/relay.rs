//! The relay against the plainest relay that keeps the same promises, and its memory.
//!
//! *Speed*: an event log, each event an append of its own, is drained twice from equal tables: by a loop that publishes an
//! entry, waits for the confirm, deletes the entry, and takes the next; and by `streambox-relay drain`. Several rounds on
//! one stack, one after the other, the median counts.
//!
//! *Memory*: the peak resident set of `streambox-relay run` over backlogs of 10,000 and 100,000 pending entries.
//!
//! `make bench FILE=path.ndjson.gz`

use std::{
    collections::HashMap,
    error::Error,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use clap::Parser;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use lapin::{
    Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use streambox::{EventStore, ExpectedVersion, client_from_env, create_table, schema::STREAM_ID};
use streambox_relay::broker::Message;
use streambox_tests::{
    broker::{BoundQueue, shared_broker_url},
    engine::{event, pending, stream as stream_id},
    programs::program,
    unique,
};
use tokio::{process::Command, time::sleep};

type Failure = Box<dyn Error>;

/// Appends that fill a table at the same time.
const WRITERS: usize = 64;
const EVENTS_PER_STREAM: u64 = 10;

/// A count of what is pending reads the whole table.
const PENDING_POLL: Duration = Duration::from_secs(1);

#[derive(Parser)]
#[command(about = "Measure the relay: speed against a plain loop, and peak memory")]
struct Arguments {
    /// NDJSON, plain or gzipped; the format of `streambox import`
    file: PathBuf,
    /// How often each relay drains the log; 0 to measure memory alone
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Pending entries for the measurement of memory
    #[arg(long, value_delimiter = ',', default_value = "10000,100000")]
    backlogs: Vec<u64>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    if arguments.rounds > 0 {
        speed(&arguments.file, arguments.rounds).await?;
    }
    for entries in arguments.backlogs {
        memory(entries).await?;
    }
    Ok(())
}

/// A table and an exchange with a queue, for one measurement.
struct Stage {
    store: EventStore,
    /// Without a consumer, which would take its share of the processors from the relay.
    queue: BoundQueue,
}

impl Stage {
    async fn set() -> Result<Self, Failure> {
        let (client, table) = (client_from_env().await, unique("bench"));
        create_table(&client, &table).await?;
        let queue = BoundQueue::declare(&shared_broker_url(), &unique("bench"), "#").await?;
        Ok(Self { store: EventStore::new(client, table), queue })
    }

    async fn import(&self, file: &Path) -> Result<u64, Failure> {
        let mut import = Command::new(program("streambox"));
        import.arg("import").arg(file).args([
            "--events-per-append",
            "1",
            "--format",
            "json",
            "--table",
            self.store.table(),
        ]);
        Ok(printed(&mut import).await?["events"].as_u64().ok_or("no number of events")?)
    }

    fn relay(&self, command: &str) -> Command {
        let mut relay = Command::new(program("streambox-relay"));
        let table = self.store.table();
        relay.args([
            command,
            "--format",
            "json",
            "--log",
            "warn,lapin=off",
            "--exchange",
            self.queue.exchange(),
            "--table",
            table,
        ]);
        relay
    }

    /// Checks that everything has come, and removes the stage.
    async fn strike(self, events: u64) -> Result<(), Failure> {
        let mut inbox = self.queue.consume();
        let tally = inbox.receive_rest().await?;
        assert_eq!((tally.distinct(), tally.order_violations().len()), (events, 0), "each event, in order");
        let client = client_from_env().await;
        assert_eq!(pending(&client, self.store.table()).await, 0, "nothing is left pending");
        client.delete_table().table_name(self.store.table()).send().await?;
        Ok(inbox.close().await?)
    }
}

async fn printed(command: &mut Command) -> Result<Value, Failure> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        return Err(format!("{} has failed: {}", command.as_std().get_program().display(), output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

// --- speed ---------------------------------------------------------------------------------------------------------------

async fn speed(file: &Path, rounds: usize) -> Result<(), Failure> {
    println!("draining {}, each event an append of its own; events/s until the last confirm", file.display());
    println!("{:>7}{:>14}{:>14}{:>10}", "round", "plain loop", "drain", "ratio");
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        let stage = Stage::set().await?;
        let events = stage.import(file).await?;
        let plain = plain_loop(&stage, events).await?;
        stage.strike(events).await?;

        let stage = Stage::set().await?;
        let events = stage.import(file).await?;
        let report = printed(&mut stage.relay("drain")).await?;
        let drain = report["events_per_second"].as_f64().ok_or("no rate")?;
        stage.strike(events).await?;

        println!("{round:>7}{plain:>14.0}{drain:>14.0}{:>10.1}", drain / plain);
        ratios.push(drain / plain);
    }
    ratios.sort_by(f64::total_cmp);
    println!("{:>35}{:>10.1}", "median", ratios[ratios.len() / 2]);
    Ok(())
}

/// One entry after the other: publish, wait for the confirm, delete. Reads as the relay does: the index by pages, a
/// stream's entries by one consistent query.
#[expect(clippy::cast_precision_loss, reason = "a rate for reading")]
async fn plain_loop(stage: &Stage, events: u64) -> Result<f64, Failure> {
    let connection = Connection::connect(&shared_broker_url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let outbox = stage.store.outbox();
    let started = Instant::now();
    let (mut published, mut elapsed) = (0, Duration::ZERO);
    while published < events {
        let mut streams = outbox.scan(None, 1_000).await?.streams;
        streams.dedup();
        for stream in streams {
            for entry in outbox.pending(&stream, 1, 100).await?.entries {
                for event in entry.events.as_ref().ok_or("small events stand in their entries")? {
                    publish(&channel, stage.queue.exchange(), &Message::new(&stream, event)?, &event.payload).await?;
                    published += 1;
                }
                elapsed = started.elapsed();
                outbox.delete(&[entry.key()]).await?;
            }
        }
    }
    connection.close(200, "done".into()).await?;
    Ok(published as f64 / elapsed.as_secs_f64())
}

async fn publish(channel: &Channel, exchange: &str, message: &Message, payload: &str) -> Result<(), Failure> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (key, properties) = (message.routing_key.clone(), message.properties.clone());
    let confirm = channel.basic_publish(exchange.into(), key, options, payload.as_bytes(), properties).await?.await?;
    match confirm {
        Confirmation::Ack(None) => Ok(()),
        other => Err(format!("not published: {other:?}").into()),
    }
}

// --- memory --------------------------------------------------------------------------------------------------------------

async fn memory(entries: u64) -> Result<(), Failure> {
    let stage = Stage::set().await?;
    fill(&stage.store, entries).await?;
    // The relay is asked while it runs, hence `run` and not `drain`.
    let mut relay = stage.relay("run").stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn()?;
    let client = client_from_env().await;
    while pending(&client, stage.store.table()).await > 0 {
        sleep(PENDING_POLL).await;
    }
    let id = relay.id().ok_or("the relay has ended")?;
    let peak_kib = peak_rss_kib(id)?;
    kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
    if !relay.wait().await?.success() {
        return Err("the relay does not stop in order".into());
    }
    println!("{entries:>7} pending entries: the relay's peak resident set is {:.1} MiB", f64::from(peak_kib) / 1024.0);
    stage.strike(entries).await
}

/// Streams of ten appends with one event each. The first is appended, the others are copies of its items: the embedded
/// engine remembers each transaction for ten minutes and becomes slow when there are many.
async fn fill(store: &EventStore, entries: u64) -> Result<(), Failure> {
    let client = client_from_env().await;
    let first = stream_id("order-0");
    let mut expected = ExpectedVersion::NoStream;
    for number in 1..=EVENTS_PER_STREAM {
        expected = ExpectedVersion::At(store.append(&first, expected, [event(number)]).await?.position);
    }
    let items = client
        .query()
        .table_name(store.table())
        .key_condition_expression(format!("{STREAM_ID} = :stream"))
        .expression_attribute_values(":stream", AttributeValue::S(first.to_string()))
        .send()
        .await?
        .items
        .unwrap_or_default();
    stream::iter(1..entries / EVENTS_PER_STREAM)
        .map(async |number| {
            let puts = items.iter().map(|item| put(item, format!("order-{number}"))).collect();
            let written = client.batch_write_item().request_items(store.table(), puts).send().await?;
            let is_whole = written.unprocessed_items.unwrap_or_default().is_empty();
            is_whole.then_some(()).ok_or_else(|| Failure::from("the engine has left items out"))
        })
        .buffer_unordered(WRITERS)
        .try_collect()
        .await
}

fn put(item: &HashMap<String, AttributeValue>, stream: String) -> WriteRequest {
    let mut item = item.clone();
    item.insert(STREAM_ID.to_owned(), AttributeValue::S(stream));
    let put = PutRequest::builder().set_item(Some(item)).build().expect("a put has an item");
    WriteRequest::builder().put_request(put).build()
}

/// The most memory that a process has had resident so far (`VmHWM` of proc(5)).
fn peak_rss_kib(id: u32) -> Result<u32, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
