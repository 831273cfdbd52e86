//! Relay, broker, consumer and tables, all real: each event takes effect once, in order, whatever is lost, repeated or stopped.

use std::{collections::HashMap, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    options::{BasicConsumeOptions, BasicNackOptions, BasicRejectOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use nix::sys::signal::Signal;
use streambox::{
    ExpectedVersion::Any,
    StreamId,
    message::{STREAM_ID_HEADER, VERSION_HEADER},
};
use streambox_consumer::{Consumer, ConsumerBuilder, ConsumerStatus, Inbox, Queues, TlsFiles, create_inbox_table};
use streambox_relay::Relay;
use streambox_tests::{
    PATIENCE,
    broker::{OwnBroker, shared_broker_url},
    effects::Effects,
    engine::{TestTable, event, stream},
    mode::Mode,
    programs::{Process, run},
    unique,
};
use tokio::time::timeout;

use super::broker::{channel, messages, wait_for_messages};

const STREAMS: u64 = 10;

/// What a consumer needs, and a relay that runs.
struct Stage {
    url: String,
    table: TestTable,
    effects: Effects,
    inbox: Inbox,
    queues: Queues,
    relay: Relay,
}

impl Stage {
    async fn set() -> Self {
        Self::set_at(shared_broker_url()).await
    }

    async fn set_at(url: String) -> Self {
        let table = TestTable::create().await;
        let inbox_table = unique("inbox");
        create_inbox_table(&table.client(), &inbox_table).await.expect("it works");
        let name = unique("consumer");
        let inbox = Inbox::new(table.client(), &inbox_table, &name).expect("it works");
        let exchange = unique("events");
        let queues = Queues::new(&name)
            .expect("it works")
            .exchange(&exchange)
            .expect("it works")
            .category("order")
            .expect("it works");
        queues.declare(&url, TlsFiles::default()).await.expect("it works");
        let relay = Relay::builder(table.another().0, &url).exchange(&exchange).spawn().expect("it works");
        let effects = Effects::create(table.client()).await;
        Self { url, table, effects, inbox, queues, relay }
    }

    fn builder(&self) -> ConsumerBuilder<streambox_consumer::InboxProjection<Effects>> {
        let projection = self.inbox.projection(self.effects.clone());
        let builder = Consumer::builder(&self.url, self.queues.clone(), projection).store(self.table.another().0);
        builder
            .retry_delays(Duration::from_millis(10), Duration::from_millis(50))
            .parked_interval(Duration::from_millis(10))
    }

    async fn append(&self, streams: impl Iterator<Item = u64>, number: u64) {
        for order in streams {
            self.table.store.append(&self::order(order), Any, [event(number)]).await.expect("it works");
        }
    }

    /// Waits until a stream has had the effects of its first versions, and checks that each took effect once, in order.
    async fn has_effects(&self, stream: &StreamId, through: u64) {
        self.effects.wait_for(stream, through).await;
        assert_eq!(self.effects.of(stream).await, (1..=through).collect::<Vec<_>>(), "{stream}");
    }
}

fn order(number: u64) -> StreamId {
    stream(&format!("order-{number}"))
}

/// Waits until the consumer says so of itself. It gives no signal, so this asks again and again.
async fn until(consumer: &Consumer, says: impl Fn(&ConsumerStatus) -> bool) {
    let reached = async {
        while !says(&consumer.status()) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{:?}", consumer.status()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_c2_each_event_takes_effect_once_in_order_also_by_a_consumer_that_starts_without_a_memory() {
    let stage = Stage::set().await;
    let consumer = stage.builder().spawn().unwrap();
    for number in 1..=10 {
        stage.append(0..STREAMS, number).await;
    }
    for number in 0..STREAMS {
        stage.has_effects(&order(number), 10).await;
    }
    // Another process knows no position.
    let status = consumer.stop().await.unwrap();
    assert_eq!((status.applied, status.failures, status.rejected), (10 * STREAMS, 0, 0), "{status:?}");
    let again = stage.builder().spawn().unwrap();
    stage.append(0..STREAMS, 11).await;
    for number in 0..STREAMS {
        stage.has_effects(&order(number), 11).await;
    }
    assert!(again.stop().await.unwrap().applied >= STREAMS);
    stage.relay.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_what_a_purge_has_deleted_takes_effect_with_the_next_event_of_its_stream() {
    let stage = Stage::set().await;
    // Without a consumer the queue collects.
    for number in 1..=5 {
        stage.append(0..STREAMS, number).await;
    }
    stage.table.wait_for_nothing_pending().await;
    stage.queues.purge(&stage.url, TlsFiles::default()).await.unwrap();
    let consumer = stage.builder().spawn().unwrap();
    stage.append(0..STREAMS, 6).await;
    for number in 0..STREAMS {
        stage.has_effects(&order(number), 6).await;
    }
    let status = consumer.stop().await.unwrap();
    assert_eq!((status.gaps, status.applied_from_store), (STREAMS, 6 * STREAMS), "{status:?}");
    stage.relay.stop().await.unwrap();
}

/// What somebody else at the queue may do who does not know the rules.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_c2_c3_events_that_were_requeued_or_dead_lettered_by_another_consumer_take_effect_once_in_order() {
    let stage = Stage::set().await;
    for number in 1..=3 {
        stage.append(0..STREAMS, number).await;
    }
    stage.table.wait_for_nothing_pending().await;
    wait_for_messages(&stage.url, stage.queues.name(), u32::try_from(3 * STREAMS).unwrap()).await;
    let (connection, channel) = channel(&stage.url).await;
    let (tag, options, none) = (ShortString::default(), BasicConsumeOptions::default(), FieldTable::default());
    let mut foreign = channel.basic_consume(stage.queues.name().into(), tag, options, none).await.unwrap();
    let (mut newest, mut overtaken) = (HashMap::new(), 0);
    // Each first version comes twice.
    for _ in 0..4 * STREAMS {
        let message = timeout(PATIENCE, foreign.next()).await.unwrap().unwrap().unwrap();
        let headers = message.properties.headers().clone().unwrap_or_default();
        let id = headers.inner()[STREAM_ID_HEADER].as_long_string().unwrap().to_string();
        let AMQPValue::LongLongInt(version) = headers.inner()[VERSION_HEADER] else { panic!("{headers:?}") };
        match (version, message.redelivered) {
            (1, false) => channel.basic_nack(message.delivery_tag, requeue()).await.unwrap(),
            (2, _) => channel.basic_reject(message.delivery_tag, BasicRejectOptions { requeue: false }).await.unwrap(),
            (version, _) => overtaken += u64::from(newest.get(&id) > Some(&version)),
        }
        newest.entry(id).and_modify(|newest| *newest = version.max(*newest)).or_insert(version);
    }
    assert_eq!(overtaken, STREAMS, "each first version has come behind its successors");
    connection.close(200, "done".into()).await.unwrap();

    let consumer = stage.builder().spawn().unwrap();
    stage.append(0..STREAMS, 4).await;
    for number in 0..STREAMS {
        stage.has_effects(&order(number), 4).await;
    }
    let status = consumer.stop().await.unwrap();
    assert_eq!((status.applied, status.failures), (4 * STREAMS, 0), "{status:?}");
    assert!(status.gaps >= STREAMS, "{status:?}");
    assert_eq!(messages(&stage.url, &stage.queues.dead_letters()).await, u32::try_from(STREAMS).ok());
    stage.relay.stop().await.unwrap();
}

fn requeue() -> BasicNackOptions {
    BasicNackOptions { requeue: true, multiple: false }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c4_a_stream_that_can_not_be_handled_stops_only_itself_and_goes_on_when_it_can() {
    let stage = Stage::set().await;
    stage.effects.refuse(&order(3));
    let consumer = stage.builder().spawn().unwrap();
    for number in 1..=5 {
        stage.append(0..STREAMS, number).await;
    }
    for number in (0..STREAMS).filter(|number| *number != 3) {
        stage.has_effects(&order(number), 5).await;
    }
    until(&consumer, |status| status.parked > 1 && status.unacknowledged == 0).await;
    let parked = stage.inbox.parked(10).await.unwrap().streams;
    assert_eq!(parked.len(), 1);
    assert_eq!((parked[0].stream_id.clone(), parked[0].position.version), (order(3), 0));
    assert!(parked[0].reason.contains("order-3 can't be handled"), "{:?}", parked[0]);
    assert!(consumer.status().is_ready());

    stage.effects.accept(&order(3));
    stage.has_effects(&order(3), 5).await;
    until(&consumer, |status| status.recovered > 0).await;
    assert_eq!(stage.inbox.parked(10).await.unwrap().streams, []);
    consumer.stop().await.unwrap();
    stage.relay.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_c2_two_consumers_of_one_inbox_and_two_queues_apply_each_event_once_in_order() {
    let stage = Stage::set().await;
    // A queue of its own for the second: both get every message.
    let name = unique("consumer");
    let queues = Queues::new(&name).unwrap().exchange(stage.queues.of_exchange()).unwrap().category("order").unwrap();
    queues.declare(&stage.url, TlsFiles::default()).await.unwrap();
    let one = stage.builder().spawn().unwrap();
    let projection = stage.inbox.projection(stage.effects.clone());
    let other = Consumer::builder(&stage.url, queues, projection).store(stage.table.another().0).spawn().unwrap();
    for number in 1..=20 {
        stage.append(0..STREAMS, number).await;
    }
    for number in 0..STREAMS {
        stage.has_effects(&order(number), 20).await;
    }
    let (one, other) = (one.stop().await.unwrap(), other.stop().await.unwrap());
    assert_eq!(one.applied + other.applied, 20 * STREAMS, "{one:?} {other:?}");
    stage.relay.stop().await.unwrap();
}

/// So many that each of two consumers gets some, whatever priorities they draw: it fails once in 30,000 runs.
const PARTITIONS: u16 = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_c2_consumers_share_partitions_and_one_takes_over_what_another_one_leaves() {
    let stage = Stage::set().await;
    let exchange = stage.queues.of_exchange();
    let queues = Queues::new(unique("consumer")).unwrap().exchange(exchange).unwrap().category("order").unwrap();
    let queues = queues.partitions(PARTITIONS).unwrap();
    queues.declare(&stage.url, TlsFiles::default()).await.unwrap();
    let start = || {
        let projection = stage.inbox.projection(stage.effects.clone());
        Consumer::builder(&stage.url, queues.clone(), projection).store(stage.table.another().0).spawn().unwrap()
    };
    let streams = 4 * u64::from(PARTITIONS);
    let one = start();
    stage.append(0..streams, 1).await;
    for number in 0..streams {
        stage.has_effects(&order(number), 1).await;
    }
    let other = start();
    for event in 2..=5 {
        stage.append(0..streams, event).await;
    }
    for number in 0..streams {
        stage.has_effects(&order(number), 5).await;
    }
    // RabbitMQ 3 leaves them all with who came first.
    if *Mode::of_tests() == Mode::Containers {
        until(&other, |status| status.applied > 0).await;
    }
    let first = one.stop().await.unwrap();
    assert!(first.applied >= streams, "{first:?}");
    stage.append(0..streams, 6).await;
    for number in 0..streams {
        stage.has_effects(&order(number), 6).await;
    }
    let second = other.stop().await.unwrap();
    assert_eq!(first.applied + second.applied, 6 * streams, "{first:?} {second:?}");
    stage.relay.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_c2_a_broker_that_is_stopped_killed_and_started_again_costs_no_effect() {
    let broker = OwnBroker::start().await;
    let stage = Stage::set_at(broker.url().to_owned()).await;
    let consumer = stage.builder().spawn().unwrap();
    stage.append(0..STREAMS, 1).await;
    stage.has_effects(&order(0), 1).await;
    broker.stop().await;
    stage.append(0..STREAMS, 2).await;
    until(&consumer, |status| !status.is_ready()).await;
    broker.start_again().await;
    stage.append(0..STREAMS, 3).await;
    stage.has_effects(&order(0), 3).await;
    broker.kill().await;
    stage.append(0..STREAMS, 4).await;
    broker.start_again().await;
    for number in 0..STREAMS {
        stage.has_effects(&order(number), 4).await;
    }
    until(&consumer, ConsumerStatus::is_ready).await;
    consumer.stop().await.unwrap();
    stage.relay.stop().await.unwrap();
}

const KILLS: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_c2_a_consumer_that_is_killed_twenty_times_over_a_backlog_applies_each_event_once_in_order() {
    let stage = Stage::set().await;
    let events = 2 * KILLS + 2;
    for number in 0..STREAMS {
        stage.table.fill(&order(number), events).await;
    }
    stage.table.wait_for_nothing_pending().await;
    let arguments = [stage.queues.name(), stage.queues.of_exchange(), stage.inbox.table(), stage.effects.table()];
    let start = || Process::start("test-consumer", Some(&stage.table), Some(&stage.url), arguments);
    for kill in 1..=KILLS {
        let consumer = start();
        stage.effects.wait_for(&order(kill % STREAMS), 2 * kill).await;
        consumer.signal(Signal::SIGKILL);
        consumer.finish().await;
    }
    let consumer = start();
    for number in 0..STREAMS {
        stage.has_effects(&order(number), events).await;
    }
    consumer.signal(Signal::SIGTERM);
    let stopped = consumer.finish().await;
    assert_eq!(stopped.code(), Some(0), "{}", stopped.stderr);
    stage.relay.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_without_the_events_table_a_gap_waits_visibly_until_a_replay_and_other_streams_go_on() {
    let stage = Stage::set().await;
    stage.append(0..1, 1).await;
    stage.table.wait_for_nothing_pending().await;
    stage.queues.purge(&stage.url, TlsFiles::default()).await.unwrap();
    let projection = stage.inbox.projection(stage.effects.clone());
    let consumer = Consumer::builder(&stage.url, stage.queues.clone(), projection).spawn().unwrap();
    stage.append(0..2, 2).await;
    stage.append(1..2, 3).await;
    stage.has_effects(&order(1), 2).await;
    until(&consumer, |status| status.waiting_streams == 1).await;
    let status = consumer.status();
    assert_eq!(status.waiting[0].stream_id, "order-0");
    assert!(status.waiting[0].why.contains("version 1 has not come"), "{status:?}");
    assert!(stage.effects.of(&order(0)).await.is_empty());

    let queue = ["replay", "--stream", "order-0", "--queue", stage.queues.name()];
    let replay = run("streambox-relay", Some(&stage.table), Some(&stage.url), queue).await;
    assert_eq!(replay.code(), Some(0), "{}", replay.stderr);

    stage.has_effects(&order(0), 2).await;
    let status = consumer.stop().await.unwrap();
    assert_eq!((status.waiting_streams, status.applied_from_store), (0, 0), "{status:?}");
    stage.relay.stop().await.unwrap();
}
