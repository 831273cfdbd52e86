//! The message: a contract with consumers.

use lapin::types::AMQPValue;
use streambox::{ExpectedVersion::NoStream, Metadata, NewEvent, testing};
use streambox_tests::{
    broker::{Inbox, shared_broker_url},
    engine::{TestTable, event, stream},
    programs::run,
    unique,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_carries_the_event_as_it_was_appended() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    let order = stream("order-Straße-1");
    let metadata = Metadata::new()
        .with(Metadata::CORRELATION_ID, "c-1")
        .with(Metadata::CAUSATION_ID, "k-1")
        .with(Metadata::TRACEPARENT, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .with("clerk", "Ada");
    // Neither its spaces nor its number nor the order of its names are to be touched.
    let payload = "{ \"total\": 49.90,\n  \"currency\": \"€\", \"a\": null }";
    let placed = NewEvent::from_json_text("OrderPlaced", payload).unwrap().with_metadata(metadata);
    let large_payload = format!("{{ \"text\": \"{}\" }}", "x".repeat(5_000));
    let large = NewEvent::from_json_text("OrderGrown", &large_payload).unwrap();
    let first = table.store.append(&order, NoStream, [placed]).await.unwrap();
    table.store.append(&order, streambox::ExpectedVersion::At(first.position), [large]).await.unwrap();
    let history = table.store.read(&order).await.unwrap();

    let arguments = ["drain", "--exchange", inbox.exchange()];
    let drained = run("streambox-relay", Some(&table), Some(&shared_broker_url()), arguments).await;
    assert_eq!(drained.code(), Some(0), "{}", drained.stderr);

    let message = inbox.next().await;
    assert_eq!(message.routing_key, "order.OrderPlaced");
    assert_eq!(String::from_utf8(message.body).unwrap(), payload);
    let properties = &message.properties;
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), history.events[0].event_id().to_string());
    assert_eq!(properties.kind().as_ref().unwrap().as_str(), "OrderPlaced");
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(properties.app_id().as_ref().unwrap().as_str(), "streambox");
    assert_eq!(*properties.delivery_mode(), Some(2), "persistent");
    let seconds = u64::try_from(history.events[0].recorded_at_ms / 1_000).unwrap();
    assert_eq!(*properties.timestamp(), Some(seconds));
    let headers = properties.headers().as_ref().unwrap().inner();
    let text = |name: &str| headers.get(name).and_then(AMQPValue::as_long_string).unwrap().to_string();
    assert_eq!(text("stream_id"), "order-Straße-1");
    assert_eq!(headers.get("version"), Some(&AMQPValue::LongLongInt(1)));
    assert!(text("recorded_at").ends_with('Z') && text("recorded_at").len() == "2024-01-01T00:00:00.000Z".len());
    assert_eq!((text("correlation_id"), text("causation_id")), ("c-1".to_owned(), "k-1".to_owned()));
    assert!(text("traceparent").starts_with("00-0af7"));
    assert!(!headers.contains_key("clerk"), "what is the service's own stays in the store");

    let message = inbox.next().await;
    assert_eq!((message.event.version, message.routing_key.as_str()), (2, "order.OrderGrown"));
    assert_eq!(String::from_utf8(message.body).unwrap(), large_payload);
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_testing_delivers_is_what_comes_through_relay_and_broker() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    let order = stream("order-Straße-1");
    let names = Metadata::HEADERS.into_iter();
    let metadata = names.fold(Metadata::new().with("clerk", "Ada"), |metadata, name| metadata.with(name, "ü"));
    let payload = "{ \"total\": 49.90,\n  \"currency\": \"€\", \"a\": null }";
    let placed = NewEvent::from_json_text("OrderPlaced", payload).unwrap().with_metadata(metadata);
    let secret = NewEvent::json("Secret", &1).unwrap().private();
    table.store.append(&order, NoStream, [placed, secret, event(3)]).await.unwrap();
    let arguments = ["drain", "--exchange", inbox.exchange()];
    let drained = run("streambox-relay", Some(&table), Some(&shared_broker_url()), arguments).await;
    assert_eq!(drained.code(), Some(0), "{}", drained.stderr);
    let published = [inbox.next().await.event, inbox.next().await.event];

    let mut delivered = Vec::new();
    testing::deliver(&table.store, async |event| {
        delivered.push(event);
        Ok::<_, std::convert::Infallible>(())
    })
    .await;

    assert_eq!(delivered, published);
    let history = table.store.read(&order).await.unwrap().events;
    for (event, recorded) in delivered.iter().zip([&history[0], &history[2]]) {
        assert_eq!((&event.stream_id, event.version), (&recorded.stream_id, recorded.version));
        assert_eq!((event.event_id, &event.event_type), (recorded.event_id(), &recorded.event_type));
        assert_eq!((&event.payload, event.recorded_at_ms), (&recorded.payload, recorded.recorded_at_ms));
        for name in Metadata::HEADERS {
            assert_eq!(event.metadata.text(name), recorded.metadata.text(name), "{name}");
        }
        assert!(event.replay.is_none() && event.metadata.json("clerk").is_none());
    }
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g11_each_message_names_the_public_version_before_it_from_a_copy_from_the_table_and_in_a_replay() {
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    let order = stream("order-1");
    let secret = || NewEvent::json("Secret", &1).unwrap().private();
    let large = || NewEvent::json("Grown", &"x".repeat(2_000)).unwrap();
    let appends = [
        vec![secret()],
        vec![secret(), event(3), secret(), event(5), secret()],
        vec![secret()],
        vec![event(8)],
        vec![large(), secret(), large()],
        vec![event(12)],
    ];
    let mut at = NoStream;
    for events in appends {
        // Compression would make room for copies of the large ones.
        at = streambox::ExpectedVersion::At(table.as_text().append(&order, at, events).await.unwrap().position);
    }
    let chain = [(3, None), (5, Some(3)), (8, Some(5)), (9, Some(8)), (11, Some(9)), (12, Some(11))];

    let relay = async |arguments: &[&str]| {
        let all = arguments.iter().chain(&["--exchange", inbox.exchange()]).copied().collect::<Vec<_>>();
        let finished = run("streambox-relay", Some(&table), Some(&url), all).await;
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    };
    relay(&["drain"]).await;
    relay(&["replay", "--all"]).await;
    relay(&["replay", "--stream", "order-1", "--from-version", "7"]).await;
    relay(&["replay", "--stream", "order-1", "--from-version", "9"]).await;
    for from in [0, 0, 2, 3] {
        for (version, previous) in &chain[from..] {
            let message = inbox.next().await;
            let headers = message.properties.headers().as_ref().unwrap().inner();
            assert_eq!(headers.get("previous_version"), previous.map(AMQPValue::LongLongInt).as_ref(), "{version}");
            let received = (message.event.version, message.event.previous_version);
            assert_eq!(received, (*version, previous.map(i64::unsigned_abs)));
        }
    }
    inbox.close().await.unwrap();
}
