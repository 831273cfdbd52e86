//! Queues and sessions of the tests, and what they hold.

use std::{ops::RangeInclusive, sync::Arc};

use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use streambox::{StreamId, Uuid, message::Received, outbox::OutboxEvent};
use streambox_amqp::{Connector, Endpoint, parse_url};
use streambox_consumer::{
    Queues,
    broker::{ConsumeSettings, Delivery, Session},
};
use streambox_relay::broker::Message;
use streambox_tests::{PATIENCE, unique};
use tokio::{sync::watch, time::timeout};

/// Queues of a name of their own, and an exchange for them alone.
pub(super) fn queues() -> Queues {
    Queues::new(unique("seats")).expect("it works").exchange(unique("events")).expect("it works")
}

pub(super) async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("the broker answers");
    let channel = connection.create_channel().await.expect("the broker answers");
    (connection, channel)
}

/// Publishes versions of a stream, one after the other, as the relay does.
pub(super) async fn publish(url: &str, queues: &Queues, stream: &str, versions: RangeInclusive<u64>) {
    let (connection, channel) = channel(url).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("the broker answers");
    let stream = StreamId::new(stream).expect("a stream id");
    for version in versions {
        let mut event = OutboxEvent::new(version, Uuid::new_v4(), "Counted", "{}");
        event.previous_version = (version > 1).then(|| version - 1);
        let Message { routing_key, properties, .. } = Message::new(&stream, &event).expect("a message");
        let (exchange, options) = (queues.of_exchange().into(), BasicPublishOptions::default());
        let confirm = channel.basic_publish(exchange, routing_key, options, b"{}", properties).await;
        assert!(confirm.expect("it is written").await.expect("it is confirmed").is_ack());
    }
    connection.close(200, "done".into()).await.expect("the broker answers");
}

/// How many messages of a queue no consumer has; none if there is no such queue.
pub(super) async fn messages(url: &str, queue: &str) -> Option<u32> {
    let (connection, channel) = channel(url).await;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
    let _ = connection.close(200, "done".into()).await;
    found.ok().map(|queue| queue.message_count())
}

/// Waits until a queue has this many messages that no consumer has. It gives no signal, so this asks again and again.
pub(super) async fn wait_for_messages(url: &str, queue: &str, expected: u32) {
    let reached = async { while messages(url, queue).await != Some(expected) {} };
    timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{queue} does not come to {expected} messages"));
}

/// What opens sessions, and a handle that stops it.
pub(super) struct Sessions {
    pub(super) connector: Connector<ConsumeSettings>,
    _stop: watch::Sender<bool>,
}

impl Sessions {
    pub(super) fn of(url: &str, queues: &Queues, prefetch: u16) -> Self {
        Self::with_seed(url, queues, prefetch, 0)
    }

    pub(super) fn with_seed(url: &str, queues: &Queues, prefetch: u16, seed: u64) -> Self {
        let endpoint = Endpoint::new(parse_url(url).expect("a URL"));
        let settings = ConsumeSettings { endpoint, queues: queues.clone(), prefetch, declares: false, seed };
        let (stop, stopped) = watch::channel(false);
        let (connector, _) = Connector::new(Arc::new(settings), stopped, Arc::default());
        Self { connector, _stop: stop }
    }

    pub(super) async fn open(&mut self) -> Session {
        let opened = timeout(PATIENCE, self.connector.connect(Session::open)).await;
        opened.expect("there is a session").expect("it is not stopped")
    }
}

pub(super) async fn next(session: &mut Session) -> Delivery {
    timeout(PATIENCE, session.next()).await.expect("a message comes").expect("the session lives")
}

pub(super) fn event(delivery: &Delivery) -> &Received {
    delivery.message.as_ref().expect("an event")
}

/// Takes the next messages, without acknowledging them: their versions.
pub(super) async fn versions(session: &mut Session, count: u64) -> Vec<u64> {
    let mut versions = Vec::new();
    for _ in 0..count {
        versions.push(event(&next(session).await).version);
    }
    versions
}
