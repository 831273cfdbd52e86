//! A rebuild meets events that can't be applied: their streams are parked, everything else is applied, and a consumer heals the rest.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::types::TransactWriteItem;
use futures_util::TryStreamExt as _;
use streambox::{EventStore, ExpectedVersion, ReadOptions, StreamId, message::Received};
use streambox_consumer::{
    Consumer, Context, Handler, HandlerError, Inbox, MAX_HELD_EVENTS, ParkedStream, Projection as _, Queues, Rebuild,
    RebuildError, StreamProblem, TlsFiles,
};
use streambox_tests::{
    broker::shared_broker_url,
    effects::Effects,
    engine::{TestTable, event, stream},
    inboxes::InboxTable,
    unique,
};
use tokio::{runtime::Handle, task::block_in_place};

/// A table, an inbox of generation 1, and effects.
struct Stage {
    table: TestTable,
    inbox: InboxTable,
    effects: Effects,
}

impl Stage {
    /// Streams `order-1` and so on, each with as many events.
    async fn with(streams: u64, events: u64) -> Self {
        let table = TestTable::create().await;
        for number in 1..=streams {
            let events = (1..=events).map(event);
            table.store.append(&order(number), ExpectedVersion::NoStream, events).await.expect("it works");
        }
        let inbox = InboxTable::create(&table).await;
        let effects = Effects::create(table.client()).await;
        Self { table, inbox, effects }
    }

    fn inbox(&self) -> &Inbox {
        &self.inbox.inbox
    }

    async fn parked(&self) -> BTreeMap<StreamId, ParkedStream> {
        let parked = self.inbox().parked(1_000).await.expect("it works").streams;
        parked.into_iter().map(|parked| (parked.stream_id.clone(), parked)).collect()
    }

    /// Runs a consumer, whose queue is empty, until a stream has had so many effects, each once and in order, and is not parked.
    async fn is_healed(&self, stream: &StreamId, through: u64) {
        let queues = Queues::new(unique("orders")).expect("it works").exchange(unique("events")).expect("it works");
        let url = shared_broker_url();
        queues.declare(&url, TlsFiles::default()).await.expect("it works");
        assert!(self.inbox().retry(stream).await.expect("it works"), "{stream} is not parked");
        let projection = self.inbox().projection(self.effects.clone());
        let consumer = Consumer::builder(url, queues, projection).store(self.table.another().0);
        let consumer = consumer.parked_interval(Duration::from_millis(10)).spawn().expect("valid settings");
        self.effects.wait_for(stream, through).await;
        // It finishes what is under way.
        while self.parked().await.contains_key(stream) {
            tokio::task::yield_now().await;
        }
        consumer.stop().await.expect("it works");
        self.has_effects(stream, through).await;
    }

    async fn has_effects(&self, stream: &StreamId, through: u64) {
        assert_eq!(self.effects.of(stream).await, (1..=through).collect::<Vec<_>>(), "{stream}");
    }
}

fn order(number: u64) -> StreamId {
    stream(&format!("order-{number}"))
}

async fn append(store: &EventStore, stream: &StreamId, events: u64) {
    for begin in (1..=events).step_by(90) {
        let events = (begin..=events.min(begin + 89)).map(event);
        store.append(stream, ExpectedVersion::Any, events).await.expect("it works");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c4_a_stream_that_can_not_be_applied_is_parked_the_others_are_rebuilt_and_a_consumer_heals_it() {
    let stage = Stage::with(12, 5).await;
    // Longer than all that a rebuild holds: it goes on because the mark covers what was read.
    let long = stream("order-long");
    let events = MAX_HELD_EVENTS as u64 + 200;
    append(&stage.table.store, &long, events).await;
    for refused in [&order(3), &long] {
        stage.effects.refuse(refused);
    }
    let projection = stage.inbox().projection(stage.effects.clone());
    let (mut token, mut parked_streams) = (None, 0);
    let rebuild = Rebuild::new(&stage.table.store, &projection).apply_attempts(2).on_progress(|status| {
        (token, parked_streams) = (Some(status.token.clone()), status.parked_streams);
    });
    let report = rebuild.run().await.unwrap();
    assert_eq!((report.events, report.applied, report.streams), (60 + events, 55, 13));
    assert_eq!((report.parked_streams, report.problem_streams, parked_streams), (2, 2, 2));
    for number in (1..=12).filter(|number| *number != 3) {
        stage.has_effects(&order(number), 5).await;
    }
    let mut problems: Vec<_> = report.problems.iter().map(ToString::to_string).collect();
    problems.sort();
    let says = |stream: &StreamId| format!("stream {stream} is parked: the handler failed: {stream} can't be handled");
    assert_eq!(problems, [says(&order(3)), says(&long)]);

    let parked = stage.parked().await;
    assert_eq!(parked.keys().collect::<Vec<_>>(), [&order(3), &long]);
    for (stream, through) in [(&order(3), 5), (&long, events)] {
        let mark = &parked[stream];
        assert_eq!((mark.latest_version, mark.attempts, mark.position.version), (through, 1, 0), "{stream}");
        assert_eq!(mark.reason, format!("the handler failed: {stream} can't be handled"));
    }

    // The token has passed them: nothing is left to read.
    let resumed = Rebuild::new(&stage.table.store, &projection).resume(token.unwrap()).run().await.unwrap();
    assert_eq!((resumed.events, resumed.parked_streams), (0, 0));
    stage.effects.accept(&order(3));
    stage.is_healed(&order(3), 5).await;
    let again = Rebuild::new(&stage.table.store, &projection).run().await.unwrap();
    assert_eq!((again.applied, again.already_applied, again.parked_streams), (0, 60, 1));
}

/// Effects, whose handler counts how often it is called for a stream.
struct Counting {
    effects: Effects,
    stream: StreamId,
    calls: Arc<AtomicUsize>,
}

impl Handler for Counting {
    async fn handle(&self, event: &Received, context: &Context<'_>) -> Result<Vec<TransactWriteItem>, HandlerError> {
        self.calls.fetch_add(usize::from(event.stream_id == self.stream), Ordering::Relaxed);
        self.effects.handle(event, context).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c4_a_stream_that_is_parked_already_is_left_to_its_retries_after_one_attempt() {
    let stage = Stage::with(4, 5).await;
    let (refused, retry_at_ms) = (order(2), 32_503_680_000_000);
    stage.effects.refuse(&refused);
    stage.inbox().park(&refused, "no such seat", 1, retry_at_ms).await.unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counting = Counting { effects: stage.effects.clone(), stream: refused.clone(), calls: Arc::clone(&calls) };
    let projection = stage.inbox().projection(counting);
    let report = Rebuild::new(&stage.table.store, &projection).run().await.unwrap();
    assert_eq!((report.applied, report.parked_streams, calls.load(Ordering::Relaxed)), (15, 1, 1));
    let mark = &stage.parked().await[&refused];
    assert_eq!((mark.reason.as_str(), mark.retry_at_ms, mark.attempts), ("no such seat", retry_at_ms, 1));
    assert_eq!(mark.latest_version, 5, "everything that the rebuild has passed is covered");
    stage.effects.accept(&refused);
    stage.is_healed(&refused, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c4_a_rebuild_is_resumed_in_the_middle_of_a_parked_stream() {
    let stage = Stage::with(0, 0).await;
    let (long, events) = (stream("order-long"), 300);
    append(&stage.table.store, &long, events).await;
    stage.effects.refuse(&long);
    let projection = stage.inbox().projection(stage.effects.clone());
    let mut tokens = Vec::new();
    let rebuild = Rebuild::new(&stage.table.store, &projection).apply_attempts(1).page_items(50);
    rebuild.on_progress(|status| tokens.push(status.token.clone())).run().await.unwrap();
    let token = tokens.first().unwrap().clone();
    append(&stage.table.store, &long, 20).await;

    let resumed =
        Rebuild::new(&stage.table.store, &projection).page_items(50).resume(token.clone()).run().await.unwrap();
    assert_eq!((resumed.applied, resumed.parked_streams), (0, 1));
    let reason = "the handler failed: order-long can't be handled".to_owned();
    assert_eq!(resumed.problems, [StreamProblem::Parked { stream_id: long.clone(), reason }]);
    assert_eq!(stage.parked().await[&long].latest_version, 320);
    stage.effects.accept(&long);
    stage.is_healed(&long, 320).await;

    // Of another generation it is a mistake, as without an inbox.
    let other = stage.inbox().clone().generation(2).projection(stage.effects.clone());
    let error = Rebuild::new(&stage.table.store, &other).resume(token).run().await.unwrap_err();
    assert!(matches!(error, RebuildError::Behind { position: 0, .. }), "{error}");
}

/// As a consumer's retry does: everything up to the mark is applied, and the mark is removed.
async fn heal(stage: &Stage, stream: &StreamId) {
    stage.effects.accept(stream);
    let projection = stage.inbox().projection(stage.effects.clone());
    let latest = stage.parked().await[stream].latest_version;
    let mut reading = stage.table.store.read_stream(stream, ReadOptions::forward().limit(latest));
    while let Some(event) = reading.try_next().await.expect("it works") {
        let last = event.version - 1;
        let event = Received::from_recorded(event, (last > 0).then_some(last));
        projection.apply(&event, last).await.expect("it works");
    }
    assert_eq!(stage.inbox().unpark(stream, latest).await.expect("it works"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c4_a_stream_that_is_healed_meanwhile_is_applied_by_the_rebuild_from_there_on() {
    let stage = Stage::with(0, 0).await;
    let (long, events) = (stream("order-long"), 600);
    append(&stage.table.store, &long, events).await;
    stage.effects.refuse(&long);
    let projection = stage.inbox().projection(stage.effects.clone());
    let is_healed = AtomicBool::new(false);
    let rebuild = Rebuild::new(&stage.table.store, &projection).apply_attempts(1).page_items(20);
    let rebuild = rebuild.on_progress(|status| {
        if status.parked_streams > 0 && !is_healed.swap(true, Ordering::Relaxed) {
            block_in_place(|| Handle::current().block_on(heal(&stage, &long)));
        }
    });
    let report = rebuild.run().await.unwrap();
    assert!(report.applied > 0 && report.applied < events, "{report:?}");
    assert_eq!(stage.parked().await.len(), 0);
    stage.has_effects(&long, events).await;
}

#[tokio::test]
async fn if_nothing_can_be_applied_the_rebuild_ends_with_an_error_before_it_has_parked_everything() {
    let stage = Stage::with(20, 2).await;
    for number in 1..=20 {
        stage.effects.refuse(&order(number));
    }
    let projection = stage.inbox().projection(stage.effects.clone());
    let rebuild = || Rebuild::new(&stage.table.store, &projection).apply_attempts(1);
    let first = rebuild().max_parked_streams(0).run().await.unwrap_err();
    assert!(first.to_string().ends_with("can't be applied, 1 attempts have failed"), "{first}");
    assert_eq!(stage.inbox().count_parked().await.unwrap(), 0);

    let error = rebuild().max_parked_streams(3).run().await.unwrap_err();
    let says = "can't be applied, 1 attempts have failed, and 3 streams are parked already: is something wrong with all of them?";
    assert!(error.to_string().ends_with(says), "{error}");
    let RebuildError::Apply { parked_streams: 3, source, .. } = error else { panic!("{error}") };
    assert!(source.to_string().contains("the handler failed"), "{source}");
    assert!(stage.inbox().count_parked().await.unwrap() <= 3);
    // Those that are parked count: a repetition parks no more.
    rebuild().max_parked_streams(3).run().await.unwrap_err();
    assert!(stage.inbox().count_parked().await.unwrap() <= 6);

    let report = rebuild().max_parked_streams(20).run().await.unwrap();
    assert_eq!((report.parked_streams, report.applied), (20, 0));
    assert_eq!(stage.inbox().count_parked().await.unwrap(), 20);
}

/// Panics for one stream, and never ends for another one.
struct Broken(Effects);

impl Handler for Broken {
    async fn handle(&self, event: &Received, context: &Context<'_>) -> Result<Vec<TransactWriteItem>, HandlerError> {
        match event.stream_id.as_str() {
            "order-1" => panic!("no such seat"),
            "order-2" => std::future::pending().await,
            _ => self.0.handle(event, context).await,
        }
    }
}

#[tokio::test]
async fn c4_a_handler_that_panics_or_never_ends_stops_only_its_stream() {
    let stage = Stage::with(4, 3).await;
    let projection = stage.inbox().projection(Broken(stage.effects.clone()));
    let rebuild = Rebuild::new(&stage.table.store, &projection).apply_attempts(1);
    let report = rebuild.apply_timeout(Duration::from_millis(500)).run().await.unwrap();
    assert_eq!((report.applied, report.parked_streams), (6, 2));
    let parked = stage.parked().await;
    assert_eq!(parked[&order(1)].reason, "the projection panicked: no such seat");
    assert_eq!(parked[&order(2)].reason, "the projection has taken longer than 500ms");
}
