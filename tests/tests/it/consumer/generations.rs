//! From one generation of a projection to the next: filled, caught up, switched to; the former one is deleted.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use nix::sys::signal::Signal;
use streambox::{ExpectedVersion::Any, StreamId, message::Received};
use streambox_consumer::{
    Consumer, ConsumerBuilder, Context, Deleting, Handler, HandlerError, Inbox, InboxProjection, Queues, Rebuild,
    RebuildProgress, SkipRequest, TlsFiles, create_inbox_table,
};
use streambox_relay::Relay;
use streambox_tests::{
    PATIENCE,
    broker::{OwnBroker, shared_broker_url},
    effects::Effects,
    engine::{TestTable, event, stream},
    inboxes::{InboxTable, received},
    programs::Process,
    unique,
};
use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::timeout,
};

use super::broker::{messages, publish, queues};

const STREAMS: u64 = 10;

/// For what must not happen: long enough that it would, mostly.
const A_WHILE: Duration = Duration::from_millis(500);

fn order(number: u64) -> StreamId {
    stream(&format!("order-{number}"))
}

/// What the example needs, and a relay that runs.
struct Stage {
    url: String,
    table: TestTable,
    model: Effects,
    inbox: Inbox,
    exchange: String,
    relay: Relay,
    appended: u64,
}

impl Stage {
    async fn set() -> Self {
        let (url, table, exchange) = (shared_broker_url(), TestTable::create().await, unique("events"));
        let inbox = unique("inbox");
        create_inbox_table(&table.client(), &inbox).await.expect("it works");
        let inbox = Inbox::new(table.client(), &inbox, &unique("orders")).expect("valid names");
        let model = Effects::create(table.client()).await;
        let relay = Relay::builder(table.another().0, &url).exchange(&exchange).spawn().expect("it works");
        Self { url, table, model, inbox, exchange, relay, appended: 0 }
    }

    /// The example, as the service of this generation.
    fn start(&self, generation: u32) -> Process {
        let (generation, consumer) = (generation.to_string(), self.inbox.consumer());
        let arguments = [&generation, consumer, &self.exchange, self.inbox.table(), self.model.table()];
        Process::start("examples/new_generation", Some(&self.table), Some(&self.url), arguments)
    }

    /// One event more for each stream.
    async fn append(&mut self) {
        for number in 0..STREAMS {
            self.table.store.append(&order(number), Any, [event(self.appended)]).await.expect("it works");
        }
        self.appended += 1;
    }

    async fn count(&self, generation: u32, number: u64) -> u64 {
        let key = AttributeValue::S(format!("{generation}#{}", order(number)));
        let get = self.table.client().get_item().table_name(self.model.table()).key("key", key).consistent_read(true);
        let item = get.send().await.expect("the engine answers").item;
        item.map_or(0, |item| item["event_count"].as_n().expect("a number").parse().expect("a count"))
    }

    /// Waits until each event has taken effect in a generation, and checks that none has twice.
    async fn has_all(&self, generation: u32) {
        for number in 0..STREAMS {
            let reached = async {
                // There is no signal of another process's effects, so this asks again and again.
                while self.count(generation, number).await < self.appended {}
            };
            let is_in_time = timeout(PATIENCE, reached).await.is_ok();
            let count = self.count(generation, number).await;
            assert!(is_in_time && count == self.appended, "{generation}, {number}: {count} of {}", self.appended);
        }
    }

    async fn queue(&self, generation: u32) -> Option<u32> {
        messages(&self.url, &format!("{}-{generation}", self.inbox.consumer())).await
    }
}

async fn stop(service: Process) {
    service.signal(Signal::SIGTERM);
    let stopped = service.finish().await;
    assert_eq!(stopped.code(), Some(0), "{}", stopped.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_c3_a_service_brings_readers_to_its_generation_when_it_has_everything_that_the_former_one_has() {
    let mut stage = Stage::set().await;
    let mut first = stage.start(1);
    first.prints("generation 1 is current").await;
    for _ in 0..5 {
        stage.append().await;
    }
    stage.has_all(1).await;
    stop(first).await;
    // What comes while no consumer runs is in the queue of the first.
    stage.append().await;
    stage.table.wait_for_nothing_pending().await;

    let mut second = stage.start(2);
    second.prints("filled with 60 events").await;
    second.prints("switched").await;
    for number in 0..STREAMS {
        assert_eq!((stage.count(1, number).await, stage.count(2, number).await), (6, 6), "{number}");
    }
    second.prints("generation 2 is current").await;
    assert_eq!((stage.queue(1).await, stage.inbox.current_generation().await.unwrap()), (None, 2));
    stage.append().await;
    stage.has_all(2).await;
    stop(second).await;

    // Nothing is left to do for another process of it.
    let mut again = stage.start(2);
    again.prints("generation 2 is current").await;
    stop(again).await;
    assert_eq!(stage.inbox.delete_generation(1).await.unwrap(), Deleting::Done { positions: STREAMS });
    stage.relay.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_c3_a_service_that_is_killed_at_any_step_on_the_way_to_its_generation_comes_there() {
    let mut stage = Stage::set().await;
    let mut first = stage.start(1);
    first.prints("generation 1 is current").await;
    stage.append().await;
    stage.has_all(1).await;
    stop(first).await;
    for (generation, step) in (2..).zip(["declared", "filled", "caught up", "switched"]) {
        stage.append().await;
        let mut killed = stage.start(generation);
        killed.prints(step).await;
        killed.kill().await;
        stage.append().await;
        let mut service = stage.start(generation);
        service.prints(&format!("generation {generation} is current")).await;
        stage.append().await;
        stage.has_all(generation).await;
        assert_eq!(stage.queue(generation - 1).await, None, "{step}");
        stop(service).await;
    }
    stage.relay.stop().await.unwrap();
}

/// Handles an event when it may.
struct Gated {
    has_come: Arc<Notify>,
    gate: Arc<Semaphore>,
    handled: Arc<AtomicUsize>,
}

impl Handler for Gated {
    async fn handle(&self, event: &Received, _: &Context<'_>) -> Result<Vec<TransactWriteItem>, HandlerError> {
        self.has_come.notify_one();
        self.gate.acquire().await?.forget();
        if event.stream_id.as_str() == "order-bad" {
            return Err("it can't be handled".into());
        }
        self.handled.fetch_add(1, Ordering::Relaxed);
        Ok(Vec::new())
    }
}

/// A consumer whose handler waits for permits.
struct Waiting {
    url: String,
    queues: Queues,
    has_come: Arc<Notify>,
    gate: Arc<Semaphore>,
    handled: Arc<AtomicUsize>,
    _table: TestTable,
}

impl Waiting {
    async fn set(queues: Queues) -> (Self, ConsumerBuilder<InboxProjection<Gated>>) {
        let url = shared_broker_url();
        Self::set_for(&url, url.clone(), queues).await
    }

    /// `url`: the consumer's own.
    async fn set_for(owner: &str, url: String, queues: Queues) -> (Self, ConsumerBuilder<InboxProjection<Gated>>) {
        let table = TestTable::create().await;
        queues.declare(owner, TlsFiles::default()).await.expect("it works");
        let inbox = InboxTable::create(&table).await;
        let (has_come, gate) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
        let handled = Arc::new(AtomicUsize::new(0));
        let gated = Gated { has_come: Arc::clone(&has_come), gate: Arc::clone(&gate), handled: Arc::clone(&handled) };
        let builder = Consumer::builder(&url, queues.clone(), inbox.inbox.projection(gated));
        let builder = builder.store(table.another().0);
        (Self { url, queues, has_come, gate, handled, _table: table }, builder)
    }

    fn handled(&self) -> usize {
        self.handled.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_has_caught_up_when_all_that_its_queues_had_is_handled() {
    // More than the prefetch, in two queues.
    let (waiting, builder) = Waiting::set(queues().partitions(2).unwrap()).await;
    for number in 0..20 {
        publish(&waiting.url, &waiting.queues, &format!("order-{number}"), 1..=5).await;
    }
    let consumer = builder.prefetch(4).spawn().unwrap();
    waiting.has_come.notified().await;
    assert!(timeout(A_WHILE, consumer.caught_up()).await.is_err(), "nothing is handled yet");
    waiting.gate.add_permits(100);
    timeout(PATIENCE, consumer.caught_up()).await.unwrap().unwrap();
    assert_eq!(waiting.handled(), 100);
    timeout(PATIENCE, consumer.caught_up()).await.unwrap().unwrap();

    // The queues are empty, and one event is not handled.
    publish(&waiting.url, &waiting.queues, "order-1", 6..=6).await;
    waiting.has_come.notified().await;
    {
        let mut caught_up = pin!(consumer.caught_up());
        assert!(timeout(A_WHILE, &mut caught_up).await.is_err(), "one event is not handled");
        waiting.gate.add_permits(1);
        timeout(PATIENCE, caught_up).await.unwrap().unwrap();
    }
    assert_eq!(waiting.handled(), 101);
    consumer.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_stream_does_not_keep_a_consumer_from_having_caught_up() {
    let (waiting, builder) = Waiting::set(queues()).await;
    waiting.gate.add_permits(1_000);
    publish(&waiting.url, &waiting.queues, "order-bad", 1..=3).await;
    publish(&waiting.url, &waiting.queues, "order-1", 1..=3).await;
    let consumer = builder.spawn().unwrap();
    timeout(PATIENCE, consumer.caught_up()).await.unwrap().unwrap();
    assert_eq!(waiting.handled(), 3);
    assert_eq!(consumer.stop().await.unwrap().unacknowledged, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_only_read_consumes_learns_when_it_has_caught_up_and_deletes_nothing() {
    let broker = OwnBroker::start().await;
    broker.ctl(&["add_user", "reader", "secret"]).await;
    let queues = queues().partitions(2).unwrap();
    broker.ctl(&["set_permissions", "reader", "^$", "^$", &format!("^{}", queues.name())]).await;
    let (_, place) = broker.url().rsplit_once('@').unwrap();
    let reader = format!("amqp://reader:secret@{place}");
    let (waiting, builder) = Waiting::set_for(broker.url(), reader.clone(), queues).await;
    waiting.gate.add_permits(1_000);
    for number in 0..20 {
        publish(broker.url(), &waiting.queues, &format!("order-{number}"), 1..=5).await;
    }
    let consumer = builder.spawn().unwrap();
    timeout(PATIENCE, consumer.caught_up()).await.unwrap().unwrap();
    assert_eq!(waiting.handled(), 100);
    consumer.stop().await.unwrap();
    let refused = waiting.queues.delete(&reader, TlsFiles::default()).await.unwrap_err().to_string();
    assert!(refused.contains("reader"), "{refused}");
    assert!(waiting.queues.check(broker.url(), TlsFiles::default()).await.unwrap().differences.is_empty());
}

/// Effects of the first events, until more may be handled.
struct Limited {
    effects: Effects,
    permits: Arc<AtomicUsize>,
}

impl Handler for Limited {
    async fn handle(&self, event: &Received, context: &Context<'_>) -> Result<Vec<TransactWriteItem>, HandlerError> {
        let is_permitted =
            self.permits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if is_permitted { self.effects.handle(event, context).await } else { Err("it is not permitted".into()) }
    }
}

#[tokio::test]
async fn a_rebuild_that_keeps_its_progress_is_resumed_by_another_process_and_reads_nothing_when_it_is_complete() {
    let table = TestTable::create().await;
    for number in 0..5 {
        table.store.append(&order(number), Any, (0..80).map(event)).await.unwrap();
    }
    let inbox = InboxTable::create(&table).await;
    let inbox = inbox.inbox.clone().generation(2);
    let effects = Effects::create(table.client()).await;
    let permits = Arc::new(AtomicUsize::new(250));
    let projection = inbox.projection(Limited { effects: effects.clone(), permits: Arc::clone(&permits) });
    let rebuild = || Rebuild::new(&table.store, &projection).segments(1).concurrency(1).apply_attempts(1);
    // It ends in the middle: an error leaves the token in the inbox, too.
    rebuild().max_parked_streams(0).keep_progress(&inbox).run().await.unwrap_err();
    let kept = inbox.rebuild_progress().await.unwrap().unwrap();
    assert!(kept.events == 200 && !kept.is_complete, "{kept:?}");
    permits.store(1_000, Ordering::Relaxed);
    let report = rebuild().keep_progress(&inbox).run().await.unwrap();
    assert_eq!((report.events, report.applied, report.already_applied), (200, 150, 50));
    for number in 0..5 {
        assert_eq!(effects.of_generation(&order(number), 2).await, (1..=80).collect::<Vec<_>>());
    }
    let kept = inbox.rebuild_progress().await.unwrap().unwrap();
    assert!(kept.is_complete && kept.token.is_some(), "{kept:?}");
    assert_eq!((kept.events, kept.streams), (400, 5));

    let again = rebuild().keep_progress(&inbox).run().await.unwrap();
    assert_eq!((again.events, again.applied), (0, 0));
    inbox.set_rebuild_progress(&RebuildProgress::default()).await.unwrap();
    let anew = rebuild().keep_progress(&inbox).run().await.unwrap();
    assert_eq!((anew.events, anew.already_applied), (400, 400));
}

/// Positions of generations 1 and 2, and of another consumer.
async fn fill(inbox: &InboxTable, streams: u64) -> Inbox {
    let other = Inbox::new(inbox.client(), &inbox.name, "free-seats-of-others").expect("valid names");
    for number in 1..=streams {
        let event = received(&format!("order-{number}"), 1, None);
        for inbox in [inbox.inbox.clone(), inbox.inbox.clone().generation(2), other.clone()] {
            inbox.apply(&event, 0, vec![]).await.expect("it works");
        }
    }
    other
}

#[tokio::test]
async fn a_former_generation_is_deleted_with_its_marks_and_progress_and_nothing_else() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    let other = fill(&table, 100).await;
    let (first, second) = (&table.inbox, table.inbox.clone().generation(2));
    first.park(&order(3), "no", 2, 10).await.unwrap();
    first.park(&order(199), "no", 2, 10).await.unwrap();
    first.skip(&SkipRequest::new(&order(198), 1, "ann", "a test"), None).await.unwrap();
    for inbox in [first, &second] {
        inbox.set_rebuild_progress(&RebuildProgress { events: 7, ..RebuildProgress::default() }).await.unwrap();
    }
    assert_eq!(first.delete_generation(1).await.unwrap(), Deleting::IsCurrent);
    assert!(first.position(&order(1)).await.unwrap().version == 1 && first.rebuild_progress().await.unwrap().is_some());

    first.switch_generation(2).await.unwrap();
    let known = first.generations().await.unwrap();
    let known: Vec<_> = known.iter().map(|one| (one.number, one.is_current, one.rebuild.is_some())).collect();
    assert_eq!(known, [(1, false, true), (2, true, true)]);
    // It ends in the middle, and is repeated.
    let (third, is_third) = oneshot::channel();
    let (mut third, mut count) = (Some(third), 0);
    table.wire.set_fault(move |exchange| {
        count += u32::from(exchange.operation == "DeleteItem");
        if count == 3
            && let Some(third) = third.take()
        {
            let _ = third.send(());
        }
    });
    tokio::select! {
        biased;
        _ = is_third => {}
        deleted = first.delete_generation(1) => panic!("{deleted:?}"),
    }
    table.wire.clear_faults();
    assert_eq!(first.rebuild_progress().await.unwrap(), None, "a rebuild begins at the beginning");
    let Deleting::Done { positions } = second.delete_generation(1).await.unwrap() else { panic!("it is current") };
    assert!((1..102).contains(&positions), "{positions}");
    assert_eq!(second.delete_generation(1).await.unwrap(), Deleting::Done { positions: 0 });
    assert_eq!((first.count_parked().await.unwrap(), first.skips(10).await.unwrap().len()), (0, 1));
    for number in 1..=100 {
        for (inbox, version) in [(first, 0), (&second, 1), (&other, 1)] {
            assert_eq!(inbox.position(&order(number)).await.unwrap().version, version, "{number}");
        }
    }
    let known = first.generations().await.unwrap();
    assert_eq!(known.iter().map(|one| one.number).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn deleting_a_generation_costs_a_scan_and_a_unit_for_each_position() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    fill(&table, 5).await;
    table.inbox.switch_generation(2).await.unwrap();
    table.wire.take();
    table.inbox.delete_generation(1).await.unwrap();
    let operations: Vec<_> = table.wire.take().into_iter().map(|exchange| exchange.operation).collect();
    assert_eq!(operations[..3], ["GetItem", "DeleteItem", "Scan"]);
    assert!(
        operations.len() == 8 && operations[3..].iter().all(|operation| operation == "DeleteItem"),
        "{operations:?}"
    );
}
