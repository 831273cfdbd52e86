//! What can't be stored is refused before anything is sent.

use streambox::{Error, Invalid, Metadata, NewEvent, StreamId, Uuid, limits};
use streambox_tests::engine::{TestTable, event, stream};

use streambox::ExpectedVersion::NoStream;

fn of_bytes(bytes: usize) -> NewEvent {
    NewEvent::from_json_text("Grown", format!("\"{}\"", "x".repeat(bytes - 2))).expect("valid JSON")
}

#[tokio::test]
async fn g1_an_append_over_a_limit_sends_nothing_and_changes_nothing() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.fill(&order, 1).await;
    let (items, history) = (table.items().await, table.store.read(&order).await.unwrap());
    table.wire.take();

    let other = stream("order-2");
    let long_type = NewEvent::json("T".repeat(250), &()).unwrap();
    let of_headers = |bytes: usize| event(1).with_metadata(Metadata::new().with("correlation_id", "x".repeat(bytes)));
    let refused: [(&str, Vec<NewEvent>); 8] = [
        ("100 events", (0..100).map(event).collect()),
        ("no events", vec![]),
        ("an item of more than 400 KB", vec![event(1), of_bytes(limits::MAX_ITEM_BYTES)]),
        ("a transaction of more than 4 MB", (0..11).map(|_| of_bytes(390_000)).collect()),
        ("a routing key of 256 bytes", vec![long_type]),
        ("an item of 400 KB and one byte", vec![of_bytes(largest_payload(&other) + 1)]),
        ("headers of 140 KB", vec![event(1), of_headers(140_000)]),
        ("headers of 16 KiB and one byte", vec![of_headers(largest_correlation_id(&other) + 1)]),
    ];
    for (what, events) in refused {
        let error = table.store.append(&other, NoStream, events).await.expect_err(what);
        let Error::Invalid(invalid) = &error else { panic!("{what}: {error}") };
        let named = match invalid {
            Invalid::TooManyEvents { limit: 99, events: 100 } => "100 events",
            Invalid::NoEvents => "no events",
            Invalid::EventTooLarge { index: 1, .. } => "an item of more than 400 KB",
            Invalid::EventTooLarge { index: 0, limit_bytes: 409_600, bytes: 409_601 } => {
                "an item of 400 KB and one byte"
            }
            Invalid::HeadersTooLarge { index: 1, limit_bytes: 16_384, .. } => "headers of 140 KB",
            Invalid::HeadersTooLarge { index: 0, limit_bytes: 16_384, bytes: 16_385 } => {
                "headers of 16 KiB and one byte"
            }
            Invalid::AppendTooLarge { limit_bytes: 4_194_304, .. } => "a transaction of more than 4 MB",
            Invalid::TooLong { limit_bytes: 255, bytes: 256, .. } => "a routing key of 256 bytes",
            _ => panic!("{what}: {error}"),
        };
        assert_eq!(named, what, "{error}");
    }
    let nil = table.store.append_with_id(Uuid::nil(), &other, NoStream, [event(1)]).await.unwrap_err();
    assert!(matches!(nil, Error::Invalid(Invalid::AppendId(_))), "{nil}");
    let foreign = streambox::ExpectedVersion::At(history.position.clone());
    let foreign = table.store.append(&other, foreign, [event(1)]).await.unwrap_err();
    assert!(matches!(foreign, Error::Invalid(Invalid::ForeignPosition { .. })), "{foreign}");

    assert_eq!(table.wire.take().len(), 0, "nothing was sent");
    assert_eq!(table.items().await, items);
    assert_eq!(table.store.read(&order).await.unwrap(), history);
}

#[test]
fn ids_that_are_reserved_or_too_long_do_not_exist() {
    let long = format!("order-{}", "x".repeat(limits::MAX_STREAM_ID_BYTES));
    for (id, rule) in [("$relay-1", "reserved"), ("order", "category-id"), ("", "empty"), (&long, "2048")] {
        let error = Error::from(StreamId::new(id).expect_err(id));
        assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains(rule), "{error}");
    }
}

#[tokio::test]
async fn what_is_just_within_the_limits_is_stored() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    let largest = of_bytes(largest_payload(&order));
    table.store.append(&order, NoStream, [largest.clone()]).await.unwrap();
    assert_eq!(table.store.read(&order).await.unwrap().events[0].payload, largest.payload_text());

    let traced = stream("order-4");
    let metadata = Metadata::new().with(Metadata::CORRELATION_ID, "x".repeat(largest_correlation_id(&traced)));
    // What is not a header is not limited with them.
    let metadata = metadata.with("request", "x".repeat(100_000));
    table.store.append(&traced, NoStream, [event(1).with_metadata(metadata.clone())]).await.unwrap();
    assert_eq!(table.store.read(&traced).await.unwrap().events[0].metadata, metadata);

    let many = stream("order-2");
    table.store.append(&many, NoStream, (1..=99).map(event)).await.unwrap();
    assert_eq!(table.store.read(&many).await.unwrap().position.version(), 99);

    let heavy = stream("order-3");
    table.store.append(&heavy, NoStream, (0..10).map(|_| of_bytes(400_000))).await.unwrap();
    assert_eq!(table.store.read(&heavy).await.unwrap().position.version(), 10);
}

/// The bytes of the largest correlation id that an event of type `Counted` may have in a stream, as its only metadata.
fn largest_correlation_id(stream: &StreamId) -> usize {
    let message_id_bytes = 36;
    let names_and_ids = stream.as_str().len() + "Counted".len() + "correlation_id".len() + message_id_bytes;
    limits::MAX_MESSAGE_HEADER_BYTES - names_and_ids
}

/// The bytes of the largest payload that a first event of type `Grown` may have in a stream: the item's limit less
/// everything else in it.
fn largest_payload(stream: &StreamId) -> usize {
    let names = ["stream_id", "entity", "event_type", "payload", "recorded_at", "append_id"];
    let names: usize = names.iter().map(|name| name.len()).sum::<usize>() + "append_first".len() + "append_last".len();
    // Three numbers, counted at their largest (11 bytes), so that the limit does not depend on version and time.
    let values = stream.as_str().len() + "event#00000000000000000001".len() + "Grown".len() + 16 + 3 * 11;
    limits::MAX_ITEM_BYTES - names - values
}
