//! The library beside the raw SDK that sends the very same requests.
//!
//! Each case does one thing twice: through `streambox`, and by hand with `aws-sdk-dynamodb`, same items, same expressions,
//! same pages, every answer deserialised by the SDK; before anything is measured the bodies of the requests are compared.
//! What the library takes longer is what it adds: checks, ids, sizes, the pending entry, and events made of items.
//!
//! The engine is `embedded-dynamodb`, optimised, a process of its own as DynamoDB is, fresh for each round: it remembers each
//! transaction for ten minutes and becomes slow when there are many. The client has one thread. The two sides take turns,
//! operation by operation, and every second time in the other order, so that whatever else the machine does meets both. That
//! is why neither criterion nor divan measures here: they finish one side before they begin the other.
//!
//! `make bench-store`

mod paired;
mod raw;

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use clap::Parser;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use streambox::{
    EventStore, ExpectedVersion, NewEvent, StreamId, StreamPosition,
    aggregate::{Aggregate, DomainEvent, OnDemand, Repository, TaggedJson},
    outbox::PendingEntry,
};
use streambox_tests::{basics::stream, served::ServedEngine, wire::Wire};

use paired::{Round, header, paired, summary};
use raw::Raw;

/// Bytes of an event's payload.
const PAYLOAD_BYTES: usize = 300;
/// Appends that are under way at the same time where many are.
const CONCURRENT_STREAMS: u64 = 100;
/// What has come since the snapshot was taken.
const EVENTS_BEHIND_SNAPSHOT: usize = 5;

#[derive(Parser)]
#[command(about = "Measure what the library adds to the raw SDK's requests")]
struct Arguments {
    /// Cases whose name contains this
    #[arg(default_value = "")]
    filter: String,
    /// Rounds, each on an engine of its own
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Percent of each case's usual number of pairs in a round
    #[arg(long, default_value_t = 100)]
    pairs_percent: usize,
    /// Given by `cargo bench`. Without it the requests are compared, and nothing is measured: so `cargo test` runs it
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured.
#[derive(Clone, Copy)]
enum Work {
    /// This many events, one append after the other, to one stream.
    Append(usize),
    /// One event to each of [`CONCURRENT_STREAMS`], all at the same time.
    AppendConcurrently,
    /// A whole stream of this many events.
    Load(u64),
    /// An aggregate of this many events, the newest five behind its snapshot, without a cache.
    LoadFromSnapshot(u64),
    /// An aggregate of this many events that is in the cache, with nothing new.
    LoadCached(u64),
}

struct Case {
    name: &'static str,
    work: Work,
    /// How many pairs a round has.
    pairs: usize,
}

const CASES: [Case; 8] = [
    Case { name: "append 1 event", work: Work::Append(1), pairs: 600 },
    Case { name: "append 10 events", work: Work::Append(10), pairs: 300 },
    Case { name: "append 1 event to each of 100 streams at once", work: Work::AppendConcurrently, pairs: 15 },
    Case { name: "load 10 events", work: Work::Load(10), pairs: 600 },
    Case { name: "load 1,000 events", work: Work::Load(1_000), pairs: 60 },
    Case { name: "load 10,000 events", work: Work::Load(10_000), pairs: 10 },
    Case { name: "load 10,000 events from a snapshot", work: Work::LoadFromSnapshot(10_000), pairs: 400 },
    Case { name: "load 10,000 events, cached, nothing new", work: Work::LoadCached(10_000), pairs: 600 },
];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments = Arguments::parse();
    Box::pin(check_requests()).await;
    if !arguments.bench {
        println!("the requests are the same");
        return;
    }
    println!("medians of {} rounds", arguments.rounds);
    println!("{:<46}{}", "", header());
    for case in CASES.iter().filter(|case| case.name.contains(&arguments.filter)) {
        let pairs = (case.pairs * arguments.pairs_percent).div_ceil(100);
        let mut rounds = Vec::with_capacity(arguments.rounds);
        for _ in 0..arguments.rounds {
            rounds.push(round(case.work, pairs).await);
        }
        println!("{:<46}{}", case.name, summary(&rounds));
    }
}

async fn round(work: Work, pairs: usize) -> Round {
    let engine = ServedEngine::start().await;
    let (store, raw) = (engine.store(None), Raw::new(engine.client(None), engine.table(), SystemTime::now));
    match work {
        Work::Append(events) => {
            let (mut one, mut other) = (Appender::new(store, "order-lib"), raw.appender("order-raw"));
            paired(pairs, async || other.append(payloads(events)).await, async || one.append(payloads(events)).await)
                .await
        }
        Work::AppendConcurrently => {
            let names =
                |side: &'static str| (0..CONCURRENT_STREAMS).map(move |number| format!("order-{side}-{number}"));
            let mut ours: Vec<_> = names("lib").map(|name| Appender::new(store.clone(), &name)).collect();
            let mut theirs: Vec<_> = names("raw").map(|name| raw.appender(&name)).collect();
            paired(
                pairs,
                async || drop(join_all(theirs.iter_mut().map(|stream| stream.append(payloads(1)))).await),
                async || drop(join_all(ours.iter_mut().map(|stream| stream.append(payloads(1)))).await),
            )
            .await
        }
        Work::Load(events) => {
            let order = stream("order-1");
            fill(&store, &order, events).await;
            paired(
                pairs,
                async || assert_eq!(raw.load(order.as_str()).await.len() as u64, events),
                async || assert_eq!(load(&store, &order).await, events),
            )
            .await
        }
        Work::LoadFromSnapshot(events) => aggregate(store, &raw, events, pairs, false).await,
        Work::LoadCached(events) => aggregate(store, &raw, events, pairs, true).await,
    }
}

/// Loads an aggregate, and sends the same request by hand.
async fn aggregate(store: EventStore, raw: &Raw, events: u64, pairs: usize, is_cached: bool) -> Round {
    let order = stream("order-1");
    fill(&store, &order, events - EVENTS_BEHIND_SNAPSHOT as u64).await;
    publish(&store, &order).await;
    let builder = Repository::<Count>::builder(store.clone()).snapshots(OnDemand);
    let repository = if is_cached { builder.build() } else { builder.cache(None).build() };
    repository.snapshot("1").await.expect("a snapshot");
    let mut rest =
        Appender { store: store.clone(), position: store.position(&order).await.expect("the stream is there") };
    rest.append(payloads(EVENTS_BEHIND_SNAPSHOT)).await;
    repository.load("1").await.expect("the aggregate loads");
    paired(
        pairs,
        async || {
            if is_cached {
                assert_eq!(raw.load_from(order.as_str(), events).await.len(), 1, "nothing is new");
            } else {
                assert!(!raw.load_top(order.as_str()).await.is_empty());
            }
        },
        async || {
            let loaded = repository.load("1").await.expect("the aggregate loads");
            assert_eq!((loaded.version(), loaded.state().events), (events, events));
        },
    )
    .await
}

/// An aggregate whose events are not looked into.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Count {
    events: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum Counted {
    Counted { total_cents: u64, text: String },
}

impl DomainEvent for Counted {
    type Codec = TaggedJson;
}

impl Aggregate for Count {
    type Event = Counted;
    const CATEGORY: &'static str = "order";

    fn apply(&mut self, _: &Counted) {
        self.events += 1;
    }
}

/// Appends to one stream, each append at the position that the one before has returned.
struct Appender {
    store: EventStore,
    position: StreamPosition,
}

impl Appender {
    fn new(store: EventStore, id: &str) -> Self {
        Self { store, position: StreamPosition::start(stream(id)) }
    }

    async fn append(&mut self, payloads: Vec<String>) {
        let events = payloads.into_iter().map(|payload| NewEvent::from_json_text("Counted", payload).expect("JSON"));
        let at = ExpectedVersion::At(self.position.clone());
        let appended = self.store.append(self.position.stream(), at, events).await.expect("the append works");
        self.position = appended.position;
    }
}

async fn load(store: &EventStore, stream: &StreamId) -> u64 {
    let history = store.read(stream).await.expect("the stream is whole");
    history.events.len() as u64
}

/// Fills a stream with appends of at most ten events.
async fn fill(store: &EventStore, stream: &StreamId, events: u64) {
    let mut appender = Appender::new(store.clone(), stream.as_str());
    while appender.position.version() < events {
        let left = usize::try_from(events - appender.position.version()).expect("a number of events");
        appender.append(payloads(left.min(10))).await;
    }
}

/// Deletes the pending entries, as a relay does that has published them.
async fn publish(store: &EventStore, stream: &StreamId) {
    let outbox = store.outbox();
    loop {
        let page = outbox.pending(stream, 1, 25).await.expect("the engine answers");
        let keys: Vec<_> = page.entries.iter().map(PendingEntry::key).collect();
        if keys.is_empty() {
            return;
        }
        outbox.delete(&keys).await.expect("the engine answers");
    }
}

/// The payloads of an append: what a service has serialised.
fn payloads(events: usize) -> Vec<String> {
    let text = "x".repeat(PAYLOAD_BYTES - r#"{"total_cents":4990,"text":""}"#.len());
    vec![format!(r#"{{"total_cents":4990,"text":"{text}"}}"#); events]
}

/// Both sides send the same, ids apart. At one and the same time: where a page ends depends on the bytes of its numbers.
async fn check_requests() {
    let clock = || SystemTime::UNIX_EPOCH + Duration::from_millis(1_780_000_000_123);
    let engine = ServedEngine::start().await;
    let (ours, theirs) = (Wire::new(), Wire::new());
    let store = EventStore::builder(engine.client(Some(&ours)), engine.table()).clock(clock).build();
    let raw = Raw::new(engine.client(Some(&theirs)), engine.table(), clock);
    let (mut one, mut other) = (Appender::new(store.clone(), "order-lib"), raw.appender("order-raw"));
    // First appends, later ones, large ones; then as many as fill several pages.
    for events in [1, 1, 10].into_iter().chain([10; 300]) {
        one.append(payloads(events)).await;
        other.append(payloads(events)).await;
    }
    let events = load(&store, one.position.stream()).await;
    assert_eq!(events, raw.load("order-raw").await.len() as u64);
    assert_same(&ours, &theirs);

    // A load from the snapshot, and one that finds nothing new.
    let builder = || Repository::<Count>::builder(store.clone()).snapshots(OnDemand);
    let (cold, cached) = (builder().cache(None).build(), builder().build());
    cached.snapshot("lib").await.expect("a snapshot");
    publish(&store, one.position.stream()).await;
    ours.take();
    cold.load("lib").await.expect("the aggregate loads");
    cached.load("lib").await.expect("the aggregate loads");
    raw.load_top("order-raw").await;
    raw.load_from("order-raw", events).await;
    assert_same(&ours, &theirs);
}

fn assert_same(ours: &Wire, theirs: &Wire) {
    let mut theirs: VecDeque<_> = theirs.take().into();
    for exchange in ours.take() {
        let other = theirs.pop_front().expect("as many requests");
        assert_eq!(raw::comparable(exchange), raw::comparable(other), "the requests are the same");
    }
    assert!(theirs.is_empty(), "as many requests");
}
