//! What the README shows is what the store does.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use streambox::{EventStore, ExpectedVersion, Metadata, NewEvent, Uuid, snapshot::NewSnapshot};
use streambox_tests::engine::{TestTable, stream};

const README: &str = include_str!("../../../../README.md");

/// The blocks of the README in one language.
fn blocks(language: &str) -> Vec<&str> {
    README
        .split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.split_once('\n'))
        .filter(|(fence, _)| fence.trim() == language)
        .map(|(_, text)| text)
        .collect()
}

#[tokio::test]
async fn the_example_of_the_stored_format_is_what_an_append_writes() {
    let table = TestTable::create().await;
    let at = |seconds: u64| move || UNIX_EPOCH + Duration::from_secs(1_780_000_000 + seconds);
    let client = table.store_client();
    let order = stream("order-4711");

    let before = EventStore::builder(client.clone(), &table.name).clock(at(0)).build();
    let started = NewEvent::from_json_text("OrderStarted", r#"{"customer":"customer-7"}"#).unwrap();
    let first = before.append(&order, ExpectedVersion::NoStream, [started]).await.unwrap();
    table.wire.take();

    let store = EventStore::builder(client, &table.name).clock(at(60)).build();
    let metadata = Metadata::new().with(Metadata::CORRELATION_ID, "checkout-9");
    let placed = NewEvent::from_json_text("OrderPlaced", r#"{"total_cents":4990}"#).unwrap().with_metadata(metadata);
    let append_id = Uuid::parse_str("0197a3c2-5b1e-7d44-9f0a-6a1c2e8b7d30").unwrap();
    store.append_with_id(append_id, &order, ExpectedVersion::At(first.position), [placed]).await.unwrap();

    store.write_snapshot(&order, &NewSnapshot::new(2, append_id, 1, r#"{"total_cents":4990}"#)).await.unwrap();

    let sent = table.wire.take();
    let puts = sent.iter().flat_map(|exchange| exchange.request["TransactItems"].as_array().unwrap());
    let written: Vec<_> = puts.map(|put| put["Put"]["Item"].clone()).collect();
    let shown: Vec<Value> = blocks("json").iter().map(|text| serde_json::from_str(text).expect(text)).collect();
    assert_eq!(shown, written, "{}", serde_json::to_string_pretty(&written).unwrap());
}
