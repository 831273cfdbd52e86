//! The example of a consumer: each event is handled once and in order, whatever becomes of consumers, neighbours and replays.
//!
//! What the tests take for granted of RabbitMQ holds on 3.10 and on 4.3 (in container mode).

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use nix::sys::signal::Signal;
use streambox::{Uuid, outbox::OutboxEvent};
use streambox_relay::broker::Message;
use streambox_tests::{
    PATIENCE,
    broker::shared_broker_url,
    engine::{TestTable, stream},
    programs::{Finished, Process, program, run},
    unique,
};
use tokio::time::timeout;

const CONSUMER: &str = "examples/consumer";

/// More than the consumer lets the broker send ahead.
const MORE_THAN_PREFETCH: u64 = 130;

/// An exchange, a queue and a file.
struct Setting {
    url: String,
    exchange: String,
    queue: String,
    directory: tempfile::TempDir,
}

impl Setting {
    fn new() -> Self {
        let (exchange, queue) = (unique("events"), unique("orders"));
        Self { url: shared_broker_url(), exchange, queue, directory: tempfile::tempdir().expect("a directory") }
    }

    /// With its queue, which is bound and empty.
    async fn declared() -> Self {
        let setting = Self::new();
        setting.waiting().await.kill().await;
        setting
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn arguments(&self, file: &str) -> Vec<String> {
        let file = self.file(file).to_str().expect("the path is UTF-8").to_owned();
        vec![self.url.clone(), self.exchange.clone(), self.queue.clone(), "order.#".to_owned(), file]
    }

    fn start(&self, file: &str) -> Process {
        Process::start(CONSUMER, None, None, self.arguments(file))
    }

    /// A consumer that is subscribed.
    async fn waiting(&self) -> Process {
        let mut consumer = self.start("orders.ndjson");
        consumer.prints("waiting for messages").await;
        consumer
    }

    /// A consumer that survives a limit on its [`writes`](set_writes); `limit` sets one from the start.
    fn hardened(&self, limit: &str) -> Process {
        let script = format!("trap '' XFSZ; {limit} exec \"$0\" \"$@\"");
        let consumer = program(CONSUMER).to_str().expect("the path is UTF-8").to_owned();
        let arguments = ["-c".to_owned(), script, consumer].into_iter().chain(self.arguments("orders.ndjson"));
        Process::start("/bin/sh", None, None, arguments)
    }

    /// A consumer that has got what is in the queue, and can't write it to its file.
    async fn stuck(&self) -> Process {
        let mut consumer = self.hardened("ulimit -S -f 0;");
        consumer.logs("failed, it is tried again").await;
        consumer
    }

    fn rebuild(&self, queue: &str, file: &str) -> Process {
        let file = self.file(file).to_str().expect("the path is UTF-8").to_owned();
        Process::start(CONSUMER, None, None, ["--rebuild".to_owned(), self.url.clone(), queue.to_owned(), file])
    }

    async fn relay(&self, table: &TestTable, arguments: &[&str]) -> Finished {
        let all = arguments.iter().copied().chain(["--exchange", &self.exchange, "--unroutable", "accept"]);
        let done = run("streambox-relay", Some(table), Some(&self.url), all).await;
        assert_eq!(done.code(), Some(0), "{}", done.stderr);
        done
    }

    /// The versions of each stream, in the order in which they were handled.
    fn handled(&self, file: &str) -> HashMap<String, Vec<u64>> {
        versions(&self.file(file))
    }

    async fn channel(&self) -> (Connection, Channel) {
        let connection =
            Connection::connect(&self.url, ConnectionProperties::default()).await.expect("the broker answers");
        let channel = connection.create_channel().await.expect("the broker answers");
        (connection, channel)
    }

    /// Publishes to the queue, past relay and exchange.
    async fn publish(&self, properties: BasicProperties, body: &str) {
        let (connection, channel) = self.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("the broker answers");
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let queue = self.queue.as_str().into();
        let confirm = channel
            .basic_publish("".into(), queue, options, body.as_bytes(), properties)
            .await
            .expect("the broker answers");
        assert!(confirm.await.expect("the broker answers").is_ack());
        connection.close(200, "done".into()).await.expect("the broker answers");
    }

    async fn messages(&self, queue: &str) -> u32 {
        let (connection, channel) = self.channel().await;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let count = channel
            .queue_declare(queue.into(), passive, FieldTable::default())
            .await
            .expect("the broker answers")
            .message_count();
        connection.close(200, "done".into()).await.expect("the broker answers");
        count
    }

    async fn delete_queues(&self) {
        let (connection, channel) = self.channel().await;
        for queue in [self.queue.clone(), format!("{}.dead", self.queue)] {
            channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("the broker answers");
        }
        connection.close(200, "done".into()).await.expect("the broker answers");
    }
}

fn versions(file: &Path) -> HashMap<String, Vec<u64>> {
    let mut handled = HashMap::<_, Vec<_>>::new();
    for line in std::fs::read_to_string(file).expect("the consumer has made the file").lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("one JSON object a line");
        let versions = handled.entry(line["stream"].as_str().expect("a stream").to_owned()).or_default();
        versions.push(line["version"].as_u64().expect("a version"));
    }
    handled
}

fn only(stream: &str, versions: impl IntoIterator<Item = u64>) -> HashMap<String, Vec<u64>> {
    HashMap::from([(stream.to_owned(), versions.into_iter().collect())])
}

/// What the relay puts into a message.
fn properties(of: &str, version: u64) -> BasicProperties {
    let event = OutboxEvent::new(version, Uuid::new_v4(), "OrderPlaced", "{}");
    Message::new(&stream(of), &event).expect("a message").properties
}

/// How large a file the consumer may write: `0` or `unlimited`.
fn set_writes(consumer: &Process, bytes: &str) {
    let (id, limit) = (consumer.id().to_string(), format!("--fsize={bytes}:"));
    let set = std::process::Command::new("prlimit").args(["--pid", &id, &limit]).status();
    assert!(set.expect("prlimit runs").success());
}

async fn consume(channel: &Channel, queue: &str) -> lapin::Consumer {
    channel.basic_qos(10, BasicQosOptions::default()).await.expect("the broker answers");
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.expect("the broker answers")
}

fn version(delivery: &lapin::message::Delivery) -> Option<i64> {
    delivery.properties.headers().as_ref()?.inner().get("version")?.as_long_long_int()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_consumer_handles_each_event_once_and_in_order_though_it_comes_twice() {
    let (table, setting) = (TestTable::create().await, Setting::new());
    let mut consumer = setting.waiting().await;
    table.fill(&stream("order-1"), 3).await;
    table.fill(&stream("permit-1"), 2).await;
    setting.relay(&table, &["drain"]).await;
    consumer.prints("handled order-1 3\n").await;
    // What a relay that was killed before it deleted its entries does: the same messages once more.
    for version in 2..=3 {
        setting.publish(properties("order-1", version), "{}").await;
    }
    consumer.prints("dropped order-1 3\n").await;
    let killed = consumer.kill().await;
    assert!(!killed.stdout.contains("permit"), "{}", killed.stdout);

    // The crash has left half a line behind; the last whole one was not acknowledged, say.
    std::fs::OpenOptions::new()
        .append(true)
        .open(setting.file("orders.ndjson"))
        .map(|mut file| {
            use std::io::Write as _;
            file.write_all(b"{\"stream\":\"order-1\",\"ver").unwrap();
        })
        .unwrap();
    let mut consumer = setting.waiting().await;
    setting.publish(properties("order-1", 3), "{}").await;
    table.fill(&stream("order-2"), 1).await;
    setting.relay(&table, &["drain"]).await;
    consumer.prints("order-2 1\n").await;
    consumer.signal(Signal::SIGTERM);
    let ended = consumer.finish().await;
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("dropped order-1 3\n"), "{}", ended.stdout);

    let expected = [("order-1".to_owned(), vec![1, 2, 3]), ("order-2".to_owned(), vec![1])];
    assert_eq!(setting.handled("orders.ndjson"), HashMap::from(expected));
    setting.delete_queues().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_that_fails_is_tried_again_in_place_and_nothing_overtakes_it() {
    let (table, setting) = (TestTable::create().await, Setting::declared().await);
    table.fill(&stream("order-1"), 5).await;
    setting.relay(&table, &["drain"]).await;

    let mut consumer = setting.stuck().await;
    consumer.logs_times("order-1 1 failed, it is tried again", 3).await;
    set_writes(&consumer, "unlimited");
    consumer.prints("handled order-1 5").await;

    let ended = consumer.kill().await;
    assert!(!ended.stderr.contains("order-1 2 failed"), "{}", ended.stderr);
    assert_eq!(setting.handled("orders.ndjson"), only("order-1", 1..=5));
    setting.delete_queues().await;
}

/// The default limit of 20 deletes what it held since RabbitMQ 4.0; a limit of -1 does before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_lost_consumers_lose_no_event_and_no_order() {
    let (table, setting) = (TestTable::create().await, Setting::declared().await);
    table.fill(&stream("order-1"), 5).await;
    setting.relay(&table, &["drain"]).await;

    for _ in 0..30 {
        setting.stuck().await.kill().await;
    }

    let mut consumer = setting.waiting().await;
    consumer.prints("handled order-1 5").await;
    consumer.kill().await;
    assert_eq!(setting.handled("orders.ndjson"), only("order-1", 1..=5));
    assert_eq!(setting.messages(&format!("{}.dead", setting.queue)).await, 0);
    setting.delete_queues().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_is_closed_with_unacknowledged_messages_loses_no_event_and_no_order() {
    let (table, setting) = (TestTable::create().await, Setting::declared().await);
    table.fill(&stream("order-1"), 20).await;
    setting.relay(&table, &["drain"]).await;

    let (connection, channel) = setting.channel().await;
    let mut deliveries = consume(&channel, &setting.queue).await;
    for expected in 1..=10 {
        let delivery = timeout(PATIENCE, deliveries.next()).await.expect("a message comes").unwrap().unwrap();
        assert_eq!(version(&delivery), Some(expected));
    }
    channel.close(200, "done".into()).await.unwrap();

    let mut consumer = setting.waiting().await;
    consumer.prints("handled order-1 20").await;
    consumer.kill().await;
    assert_eq!(setting.handled("orders.ndjson"), only("order-1", 1..=20));
    connection.close(200, "done".into()).await.unwrap();
    setting.delete_queues().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_told_to_stop_hands_everything_over_in_order_to_the_one_that_waits() {
    let (table, setting) = (TestTable::create().await, Setting::declared().await);
    let mut first = setting.hardened("");
    first.prints("waiting for messages").await;
    let mut second = setting.waiting().await;
    table.fill(&stream("order-2"), 3).await;
    setting.relay(&table, &["drain"]).await;
    first.prints("handled order-2 3").await;
    set_writes(&first, "0");
    table.fill(&stream("order-1"), MORE_THAN_PREFETCH).await;
    setting.relay(&table, &["drain"]).await;
    first.logs("order-1 1 failed, it is tried again").await;

    first.signal(Signal::SIGTERM);

    let first = first.finish().await;
    assert_eq!(first.code(), Some(0), "{}", first.stderr);
    second.prints(&format!("handled order-1 {MORE_THAN_PREFETCH}")).await;
    let second = second.kill().await;
    assert!(!second.stdout.contains("dropped"), "{}", second.stdout);
    let mut handled = setting.handled("orders.ndjson");
    assert_eq!(handled.remove("order-2"), Some(vec![1, 2, 3]), "what the first has done is kept");
    assert_eq!(handled, only("order-1", 1..=MORE_THAN_PREFETCH));
    setting.delete_queues().await;
}

/// Why a consumer never requeues: of a rule `version <= last_seen` the event would be dropped when it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_requeued_comes_behind_its_successors() {
    let (table, setting) = (TestTable::create().await, Setting::declared().await);
    table.fill(&stream("order-1"), 3).await;
    setting.relay(&table, &["drain"]).await;
    let (connection, channel) = setting.channel().await;
    let mut deliveries = consume(&channel, &setting.queue).await;

    let mut came = Vec::new();
    while came.len() < 4 {
        let delivery = timeout(PATIENCE, deliveries.next()).await.expect("a message comes").unwrap().unwrap();
        came.extend(version(&delivery));
        match came.as_slice() {
            [1] => delivery.acker.nack(BasicNackOptions { requeue: true, ..Default::default() }).await.unwrap(),
            _ => delivery.acker.ack(BasicAckOptions::default()).await.unwrap(),
        };
    }

    assert_eq!(came, [1, 2, 3, 1]);
    connection.close(200, "done".into()).await.unwrap();
    setting.delete_queues().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_neighbour_that_requeues_gets_no_message_of_the_queue_while_its_consumer_lives() {
    let (table, setting) = (TestTable::create().await, Setting::new());
    let mut consumer = setting.waiting().await;
    let (connection, channel) = setting.channel().await;
    let mut deliveries = consume(&channel, &setting.queue).await;
    let neighbour = tokio::spawn(async move {
        let mut requeued = 0;
        while let Some(Ok(delivery)) = deliveries.next().await {
            let requeue = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            requeued += u32::from(delivery.acker.nack(requeue).await.unwrap());
        }
        requeued
    });
    table.fill(&stream("order-1"), MORE_THAN_PREFETCH).await;
    setting.relay(&table, &["drain"]).await;
    // As "Get messages" of RabbitMQ's console does.
    let other = connection.create_channel().await.unwrap();
    let got = other.basic_get(setting.queue.as_str().into(), BasicGetOptions::default()).await;

    consumer.prints(&format!("handled order-1 {MORE_THAN_PREFETCH}")).await;

    assert!(got.expect_err("it is refused").to_string().contains("RESOURCE_LOCKED"));
    connection.close(200, "done".into()).await.unwrap();
    assert_eq!(neighbour.await.unwrap(), 0);
    consumer.kill().await;
    assert_eq!(setting.handled("orders.ndjson"), only("order-1", 1..=MORE_THAN_PREFETCH));
    setting.delete_queues().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_cannot_be_decoded_holds_its_stream_and_what_is_no_event_becomes_a_dead_letter() {
    let setting = Setting::declared().await;
    setting.publish(properties("order-1", 1), "no JSON").await;
    setting.publish(properties("order-1", 2), "{}").await;
    setting.publish(BasicProperties::default(), "no event").await;
    setting.publish(properties("order-3", 1).with_message_id("7".into()), "{}").await;
    setting.publish(properties("order-2", 1), "{}").await;

    let mut consumer = setting.waiting().await;
    consumer.prints("handled order-2 1").await;
    consumer.logs("held order-1 1: it can't be decoded").await;
    consumer.logs("held order-3: the property message_id of a message is not a UUID").await;
    consumer.prints("held order-1 2").await;
    consumer.signal(Signal::SIGTERM);
    assert_eq!(consumer.finish().await.code(), Some(0));
    assert_eq!(setting.handled("orders.ndjson"), only("order-2", [1]));
    assert_eq!(setting.messages(&format!("{}.dead", setting.queue)).await, 1);

    // It has kept its place.
    let mut again = setting.waiting().await;
    again.prints("held order-1 2").await;
    let again = again.kill().await;
    assert!(again.stderr.contains("held order-1 1: it can't be decoded"), "{}", again.stderr);
    assert_eq!(setting.handled("orders.ndjson"), only("order-2", [1]));
    setting.delete_queues().await;
}

/// A replayed event that comes first would put `last_seen` ahead of events that are still to come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_meets_a_live_consumer_changes_nothing() {
    let (table, setting) = (TestTable::create().await, Setting::new());
    let mut consumer = setting.waiting().await;
    table.fill(&stream("order-1"), 4).await;

    // The relay has not come to these events yet.
    setting.relay(&table, &["replay", "--stream", "order-1", "--from-version", "3"]).await;
    consumer.prints("dropped order-1 4 (replay)").await;
    setting.relay(&table, &["drain"]).await;
    consumer.prints("handled order-1 4\n").await;

    consumer.kill().await;
    assert_eq!(setting.handled("orders.ndjson"), only("order-1", 1..=4));
    setting.delete_queues().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_model_is_rebuilt_from_a_queue_of_its_own_and_the_live_queue_goes_on_from_there() {
    let (table, setting) = (TestTable::create().await, Setting::new());
    let mut live = setting.waiting().await;
    table.fill(&stream("order-1"), 5).await;
    setting.relay(&table, &["drain"]).await;
    live.prints("handled order-1 5").await;

    // 1. The live consumer is stopped; its queue collects.
    live.signal(Signal::SIGTERM);
    assert_eq!(live.finish().await.code(), Some(0));
    table.fill(&stream("order-2"), 2).await;
    setting.relay(&table, &["drain"]).await;
    table.fill(&stream("order-3"), 1).await;
    // 2. The past goes into a new file, by way of a queue that gets nothing else. A message marks its end.
    let queue = unique("rebuild");
    let mut rebuild = setting.rebuild(&queue, "new.ndjson");
    rebuild.prints("waiting for messages").await;
    setting.relay(&table, &["replay", "--category", "order", "--queue", &queue]).await;
    let ended = rebuild.finish().await;
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("rebuilt from 8 events"), "{}", ended.stdout);
    // 3. The live queue continues with the new file.
    let mut live = setting.start("new.ndjson");
    live.prints("dropped order-2 2").await;
    setting.relay(&table, &["drain"]).await;
    live.prints("dropped order-3 1").await;
    table.fill(&stream("order-4"), 1).await;
    setting.relay(&table, &["drain"]).await;
    live.prints("handled order-4 1").await;
    live.kill().await;

    let expected: HashMap<_, _> = [("order-1", 5), ("order-2", 2), ("order-3", 1), ("order-4", 1)]
        .map(|(id, last)| (id.to_owned(), (1..=last).collect()))
        .into();
    assert_eq!(setting.handled("new.ndjson"), expected);
    setting.delete_queues().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_refuses_a_queue_that_gets_live_events() {
    let (table, setting) = (TestTable::create().await, Setting::declared().await);
    let queue = unique("rebuild");
    let mut rebuild = setting.rebuild(&queue, "new.ndjson");
    rebuild.prints("waiting for messages").await;
    let (connection, channel) = setting.channel().await;
    let (exchange, key) = (setting.exchange.as_str().into(), "#".into());
    channel
        .queue_bind(queue.as_str().into(), exchange, key, QueueBindOptions::default(), FieldTable::default())
        .await
        .unwrap();
    table.fill(&stream("order-1"), 3).await;
    setting.relay(&table, &["drain"]).await;

    let refused = rebuild.finish().await;

    assert_eq!(refused.code(), Some(1), "{}", refused.stderr);
    for part in [&queue, "bound to an exchange", "order-1 1", "Delete the queue"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    assert!(!setting.file("new.ndjson").exists(), "nothing was handled");
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
    setting.delete_queues().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_that_has_not_got_every_event_says_so() {
    let (table, setting) = (TestTable::create().await, Setting::declared().await);
    let queue = unique("rebuild");
    let mut rebuild = setting.rebuild(&queue, "new.ndjson");
    rebuild.prints("waiting for messages").await;
    rebuild.kill().await;
    table.fill(&stream("order-1"), 3).await;
    setting.relay(&table, &["replay", "--all", "--queue", &queue, "--id", "r-1"]).await;
    // Something else takes the last event.
    let (connection, channel) = setting.channel().await;
    let mut deliveries = consume(&channel, &queue).await;
    for _ in 1..=3 {
        let delivery = timeout(PATIENCE, deliveries.next()).await.expect("a message comes").unwrap().unwrap();
        if version(&delivery) == Some(3) {
            delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
        }
    }
    channel.close(200, "done".into()).await.unwrap();

    let incomplete = setting.rebuild(&queue, "new.ndjson").finish().await;

    assert_eq!(incomplete.code(), Some(1), "{}", incomplete.stdout);
    assert!(
        incomplete.stderr.contains("replay r-1 has published 3 events, and the file has 2"),
        "{}",
        incomplete.stderr
    );
    let channel = connection.create_channel().await.unwrap();
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
    setting.delete_queues().await;
}
