//! The queues of a consumer: what they get, what a check sees, and what is refused because it would break the order of streams.

use std::collections::BTreeMap;

use lapin::{
    BasicProperties, ExchangeKind,
    options::{
        BasicPublishOptions, ExchangeDeclareOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use streambox_consumer::{Queues, QueuesCheck, TlsFiles};
use streambox_tests::{
    broker::{OwnBroker, shared_broker_url},
    programs::run,
};

use super::broker::{Sessions, channel, event, messages, next, publish, queues, versions, wait_for_messages};

const PREFETCH: u16 = 20;

async fn differences(queues: &Queues, url: &str) -> Vec<String> {
    let QueuesCheck { differences, .. } = queues.check(url, TlsFiles::default()).await.expect("it works");
    differences.iter().map(ToString::to_string).collect()
}

async fn declare(queues: &Queues, url: &str) {
    queues.declare(url, TlsFiles::default()).await.expect("it works");
}

async fn refusal(queues: &Queues, url: &str) -> String {
    queues.declare(url, TlsFiles::default()).await.expect_err("it is refused").to_string()
}

#[tokio::test]
async fn a_queue_gets_the_events_of_its_categories_and_no_others() {
    let (queues, url) = (queues().category("order").unwrap().category("concert").unwrap(), shared_broker_url());
    declare(&queues, &url).await;
    // It can be repeated, with what is in the queue.
    publish(&url, &queues, "order-1", 1..=1).await;
    declare(&queues, &url).await;
    publish(&url, &queues, "booking-1", 1..=1).await;
    publish(&url, &queues, "ordering-1", 1..=1).await;
    publish(&url, &queues, "concert-1", 1..=1).await;
    let mut session = Sessions::of(&url, &queues, PREFETCH).open().await;
    let streams = [next(&mut session).await, next(&mut session).await].map(|one| event(&one).stream_id.to_string());
    assert_eq!(streams, ["order-1", "concert-1"]);
    session.close().await;
    assert_eq!(messages(&url, queues.name()).await, Some(2));
}

#[tokio::test]
async fn c2_partitions_share_the_streams_and_each_stream_keeps_its_order() {
    const STREAMS: u64 = 40;
    const VERSIONS: u64 = 3;
    let (queues, url) = (queues().category("order").unwrap().partitions(4).unwrap(), shared_broker_url());
    declare(&queues, &url).await;
    assert_eq!(differences(&queues, &url).await, [""; 0]);
    for stream in 0..STREAMS {
        publish(&url, &queues, &format!("order-{stream}"), 1..=VERSIONS).await;
    }
    let mut shares = Vec::new();
    for name in queues.queue_names() {
        shares.push(u64::from(messages(&url, &name).await.unwrap()));
    }
    let is_shared = shares.iter().all(|share| *share > 0 && share % VERSIONS == 0);
    assert!(is_shared && shares.iter().sum::<u64>() == STREAMS * VERSIONS, "{shares:?}");

    // One consumer of all partitions gets all of it.
    let mut session = Sessions::of(&url, &queues, 1_000).open().await;
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..STREAMS * VERSIONS {
        let delivery = next(&mut session).await;
        let event = event(&delivery);
        let before = last.insert(event.stream_id.to_string(), event.version).unwrap_or(0);
        assert_eq!(event.version, before + 1, "{}", event.stream_id);
        session.ack([delivery.tag]).await.unwrap();
    }
    for name in queues.queue_names() {
        wait_for_messages(&url, &name, 0).await;
    }
}

#[tokio::test]
async fn a_check_names_what_is_missing_and_creates_nothing() {
    let (queues, url) = (queues().partitions(2).unwrap(), shared_broker_url());
    let (name, exchange) = (queues.name().to_owned(), queues.of_exchange().to_owned());
    for _ in 0..2 {
        let found = differences(&queues, &url).await;
        let missing: Vec<_> =
            found.iter().filter_map(|one| one.split_once(" is missing: ")).map(|(what, _)| what).collect();
        let expected = [
            format!("queue {name}.dead"),
            format!("queue {name}.0"),
            format!("queue {name}.1"),
            format!("exchange {name}"),
            format!("exchange {exchange}"),
        ];
        assert_eq!((missing, found.len()), (expected.iter().map(String::as_str).collect(), 5));
    }
    declare(&queues, &url).await;
    assert_eq!(differences(&queues, &url).await, [""; 0]);
}

#[tokio::test]
async fn a_queue_or_exchange_that_is_there_with_other_arguments_is_named_by_check_and_refused_by_declare() {
    let (queues, url) = (queues(), shared_broker_url());
    declare(&queues, &url).await;
    let (connection, channel) = channel(&url).await;
    channel.queue_delete(queues.name().into(), QueueDeleteOptions::default()).await.unwrap();
    // Of RabbitMQ's defaults: after its 20th lost connection a message is deleted.
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(queues.name().into(), durable, arguments).await.unwrap();

    let found = differences(&queues, &url).await;
    assert!(found.len() == 1 && found[0].contains(queues.name()) && found[0].contains("x-"), "{found:?}");
    let error = refusal(&queues, &url).await;
    assert!(error.contains(queues.name()) && error.contains("inequivalent arg"), "{error}");
    assert_eq!(messages(&url, queues.name()).await, Some(0), "it is left as it is");

    let of_another_type = self::queues();
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let (exchange, none) = (of_another_type.of_exchange(), FieldTable::default());
    channel.exchange_declare(exchange.into(), ExchangeKind::Fanout, durable, none).await.unwrap();
    let found = differences(&of_another_type, &url).await;
    assert!(found.iter().any(|one| one.starts_with(&format!("exchange {exchange} has other"))), "{found:?}");
    assert!(refusal(&of_another_type, &url).await.contains("inequivalent arg 'type'"));
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test]
async fn an_exchange_with_an_alternate_exchange_of_its_owner_is_used_as_it_is() {
    let (queues, url) = (queues(), shared_broker_url());
    let (connection, channel) = channel(&url).await;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("alternate-exchange".into(), AMQPValue::LongString("amq.fanout".into()));
    let exchange = queues.of_exchange();
    channel.exchange_declare(exchange.into(), ExchangeKind::Topic, durable, arguments).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
    declare(&queues, &url).await;
    assert_eq!(differences(&queues, &url).await, [""; 0]);
    publish(&url, &queues, "order-1", 1..=1).await;
    wait_for_messages(&url, queues.name(), 1).await;
}

#[tokio::test]
async fn c2_another_number_of_partitions_under_the_same_name_is_refused_and_changes_nothing() {
    let (one, url) = (queues(), shared_broker_url());
    let several = |partitions| one.clone().partitions(partitions).unwrap();
    declare(&one, &url).await;
    let error = refusal(&several(2), &url).await;
    assert!(error.contains("another number of partitions") && error.contains("another name"), "{error}");
    assert_eq!(messages(&url, &format!("{}.0", one.name())).await, None);

    let four = queues().partitions(4).unwrap();
    declare(&four, &url).await;
    for partitions in [1, 2, 3, 5, 8] {
        let other = four.clone().partitions(partitions).unwrap();
        let error = refusal(&other, &url).await;
        assert!(error.contains("another number of partitions"), "{partitions}: {error}");
        assert_ne!(differences(&other, &url).await, [""; 0], "{partitions}");
    }
    assert_eq!(messages(&url, &format!("{}.4", four.name())).await, None);
    declare(&four, &url).await;
}

/// A handler's memory of the last versions, which does not depend on the queues.
#[derive(Default)]
struct Positions(BTreeMap<String, Vec<u64>>);

impl Positions {
    /// Applies what is new; fails on a gap.
    fn apply(&mut self, event: &streambox::message::Received) {
        let applied = self.0.entry(event.stream_id.to_string()).or_default();
        let last = applied.last().copied().unwrap_or(0);
        if event.version > last {
            assert!(
                event.previous_version.unwrap_or(0) <= last,
                "a gap in {} before {}",
                event.stream_id,
                event.version
            );
            applied.push(event.version);
        }
    }
}

#[tokio::test]
async fn c1_c2_the_move_from_two_to_four_partitions_loses_nothing_and_applies_nothing_twice() {
    const STREAMS: u64 = 12;
    let url = shared_broker_url();
    let former = queues().partitions(2).unwrap();
    declare(&former, &url).await;
    let mut positions = Positions::default();
    let append = async |versions: std::ops::RangeInclusive<u64>| {
        for stream in 0..STREAMS {
            publish(&url, &former, &format!("order-{stream}"), versions.clone()).await;
        }
    };
    append(1..=2).await;
    let mut session = Sessions::of(&url, &former, 200).open().await;
    // The former consumer is in the middle of its queues when the new ones are declared.
    for _ in 0..STREAMS {
        let delivery = next(&mut session).await;
        positions.apply(event(&delivery));
        session.ack([delivery.tag]).await.unwrap();
    }
    let new = Queues::new(format!("{}-4", former.name())).unwrap().exchange(former.of_exchange()).unwrap();
    let new = new.partitions(4).unwrap();
    declare(&new, &url).await;
    append(3..=3).await;
    // What was published before the new queues were there is in the former ones alone: they are consumed to their end.
    for _ in 0..STREAMS * 2 {
        let delivery = next(&mut session).await;
        positions.apply(event(&delivery));
        session.ack([delivery.tag]).await.unwrap();
    }
    session.close().await;
    append(4..=5).await;

    let mut session = Sessions::of(&url, &new, 200).open().await;
    for _ in 0..STREAMS * 3 {
        let delivery = next(&mut session).await;
        positions.apply(event(&delivery));
        session.ack([delivery.tag]).await.unwrap();
    }
    assert_eq!(positions.0.len() as u64, STREAMS);
    for (stream, versions) in positions.0 {
        assert_eq!(versions, [1, 2, 3, 4, 5], "{stream}");
    }
}

#[tokio::test]
async fn c3_a_queue_deletes_nothing_however_often_its_consumer_is_lost() {
    let (queues, url) = (queues(), shared_broker_url());
    declare(&queues, &url).await;
    publish(&url, &queues, "order-1", 1..=5).await;
    let mut sessions = Sessions::of(&url, &queues, PREFETCH);
    // More often than the default limit of RabbitMQ 4, which is 20.
    for _ in 0..25 {
        let mut session = sessions.open().await;
        assert_eq!(versions(&mut session, 5).await, [1, 2, 3, 4, 5]);
        drop(session);
    }
    wait_for_messages(&url, queues.name(), 5).await;
    assert_eq!(messages(&url, &queues.dead_letters()).await, Some(0));
}

#[tokio::test]
async fn queues_are_deleted_when_nobody_consumes_them_any_more_and_dead_letters_are_kept() {
    let (queues, url) = (queues().partitions(2).unwrap(), shared_broker_url());
    let delete = async || queues.delete(&url, TlsFiles::default()).await;
    delete().await.unwrap();
    declare(&queues, &url).await;
    publish(&url, &queues, "order-1", 1..=3).await;
    let session = Sessions::of(&url, &queues, PREFETCH).open().await;
    let error = delete().await.unwrap_err().to_string();
    assert!(error.contains(queues.name()) && error.contains("is consumed: stop its consumers first"), "{error}");
    assert_eq!(differences(&queues, &url).await, [""; 0]);

    session.close().await;
    let (connection, channel) = channel(&url).await;
    let (dead, options) = (queues.dead_letters(), BasicPublishOptions::default());
    channel
        .basic_publish("".into(), dead.as_str().into(), options, b"no event", BasicProperties::default())
        .await
        .unwrap();
    wait_for_messages(&url, &dead, 1).await;
    for _ in 0..2 {
        delete().await.unwrap();
        let left = differences(&queues, &url).await;
        assert!(left.len() == 3 && left.iter().all(|one| one.contains(" is missing: ")), "{left:?}");
    }
    channel.queue_purge(dead.as_str().into(), QueuePurgeOptions::default()).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
    delete().await.unwrap();
    assert_eq!(messages(&url, &dead).await, None);
}

#[tokio::test]
async fn a_broker_without_consistent_hash_exchanges_is_an_error_that_names_the_command_for_it() {
    let broker = OwnBroker::start().await;
    let before = queues().partitions(2).unwrap();
    declare(&before, broker.url()).await;
    // What the broker does without the plugin.
    broker.ctl(&["eval", "rabbit_registry:unregister(exchange, <<\"x-consistent-hash\">>)."]).await;
    let error = refusal(&queues().partitions(2).unwrap(), broker.url()).await;
    assert!(error.contains("rabbitmq-plugins enable rabbitmq_consistent_hash_exchange"), "{error}");
    let error = before.check(broker.url(), TlsFiles::default()).await.unwrap_err().to_string();
    assert!(error.contains("rabbitmq-plugins enable rabbitmq_consistent_hash_exchange"), "{error}");
    declare(&queues(), broker.url()).await;
}

#[tokio::test]
async fn the_program_declares_and_checks_with_an_exit_code_for_scripts() {
    let (queues, url) = (queues(), shared_broker_url());
    let (name, exchange) = (queues.name(), queues.of_exchange());
    let command = async |which: &'static str, more: &[&str]| {
        let all = ["queues", which, "--queue", name, "--exchange", exchange, "--category", "order"].into_iter();
        run("streambox-consumer", None, Some(&url), all.chain(more.iter().copied())).await
    };
    let missing = command("check", &["--partitions", "2"]).await;
    assert_eq!(missing.code(), Some(1), "{}", missing.stderr);
    assert!(missing.stdout.contains(&format!("difference: queue {name}.1 is missing")), "{}", missing.stdout);
    let declared = command("declare", &["--partitions", "2"]).await;
    assert_eq!(declared.code(), Some(0), "{}", declared.stderr);
    assert!(declared.stdout.contains(&format!("queues {name}.0 to {name}.1 declared")), "{}", declared.stdout);
    let checked = command("check", &["--partitions", "2", "--format", "json"]).await;
    assert_eq!(checked.code(), Some(0), "{}", checked.stderr);
    let printed: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(printed["differences"], serde_json::json!([]));
    assert!(printed["notes"][0].as_str().unwrap().contains("bindings"));
    let other = command("declare", &[]).await;
    assert!(other.code() == Some(1) && other.stderr.contains("another number of partitions"), "{}", other.stderr);
    let wrong = command("declare", &["--partitions", "65"]).await;
    assert!(wrong.code() == Some(78) && wrong.stderr.contains("1 to 64"), "{}", wrong.stderr);
}
