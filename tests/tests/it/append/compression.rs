//! Large payloads are compressed if that saves capacity units, which changes nothing but the bill.

use std::{fmt::Write as _, io::Read as _};

use streambox::{
    ExpectedVersion::{At, NoStream},
    NewEvent,
};
use streambox_tests::{
    broker::{Inbox, shared_broker_url},
    engine::{TestTable, stream},
    programs::run,
    unique,
};

/// About 4 KB of the JSON that an order with thirty lines has.
fn order_of_4_kb() -> NewEvent {
    let mut text = r#"{"currency":"EUR","lines":["#.to_owned();
    for line in 0..40 {
        let sku = fastrand::Rng::with_seed(line).u32(..);
        let comma = if line == 0 { "" } else { "," };
        write!(
            text,
            r#"{comma}{{ "sku":"{sku:08x}", "quantity":{}, "unit_price_cents":{}, "vat_percent":19 }}"#,
            line % 7 + 1,
            sku % 9_973
        )
        .expect("a text takes everything");
    }
    text += "]}";
    assert!((3_000..4_200).contains(&text.len()), "{}", text.len());
    NewEvent::from_json_text("OrderPlaced", text).expect("valid JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_event_costs_less_and_is_read_and_published_byte_for_byte() {
    let table = TestTable::create().await;
    let plain = table.as_text();
    let (one, other, event) = (stream("order-1"), stream("order-2"), order_of_4_kb());

    let compressed = table.store.append(&one, NoStream, [event.clone()]).await.unwrap();
    let as_text = plain.append(&other, NoStream, [event.clone()]).await.unwrap();

    println!("{} write units compressed, {} as text", compressed.write_units, as_text.write_units);
    assert!(compressed.write_units <= as_text.write_units / 1.5, "{} {}", compressed.write_units, as_text.write_units);
    // Whoever reads understands both, whatever it is set to write.
    for store in [&table.store, &plain] {
        for stream in [&one, &other] {
            assert_eq!(store.read(stream).await.unwrap().events[0].payload, event.payload_text());
        }
    }
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    let arguments = ["drain", "--exchange", inbox.exchange()];
    let drained = run("streambox-relay", Some(&table), Some(&shared_broker_url()), arguments).await;
    assert_eq!(drained.code(), Some(0), "{}", drained.stderr);
    for _ in 0..2 {
        assert_eq!(inbox.next().await.body, event.payload_text().as_bytes());
    }
    inbox.close().await.unwrap();
}

#[tokio::test]
async fn a_repeat_with_other_settings_is_still_the_same_append() {
    let table = TestTable::create().await;
    let plain = table.as_text();
    let order = stream("order-1");
    let first = table.store.append(&order, NoStream, [order_of_4_kb()]).await.unwrap();
    let repeat = plain.append_with_id(first.append_id, &order, NoStream, [order_of_4_kb()]).await.unwrap();
    assert!(repeat.already_stored);
    plain.append(&order, At(repeat.position), [order_of_4_kb()]).await.unwrap();
    assert_eq!(table.store.read(&order).await.unwrap().events.len(), 2);
}

/// `STREAMBOX_TEST_LOG=path.ndjson.gz` adds a log of the user's own to the demo's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_log_costs_no_more_units_compressed_than_as_text() {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../localstack/orders.ndjson").to_owned();
    for path in [Some(demo), std::env::var("STREAMBOX_TEST_LOG").ok()].into_iter().flatten() {
        let file = std::fs::File::open(&path).unwrap();
        let mut text = String::new();
        if std::path::Path::new(&path).extension().is_some_and(|extension| extension == "gz") {
            flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
        } else {
            (&file).read_to_string(&mut text).unwrap();
        }
        let table = TestTable::create().await;
        let plain = table.as_text();
        let (mut compressed_units, mut text_units) = (0.0, 0.0);
        for (number, line) in text.lines().enumerate() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let event = NewEvent::json(line["type"].as_str().unwrap(), &line["data"]).unwrap();
            let place = |kind: &str| stream(&format!("{kind}-{number}"));
            compressed_units +=
                table.store.append(&place("zstd"), NoStream, [event.clone()]).await.unwrap().write_units;
            text_units += plain.append(&place("text"), NoStream, [event]).await.unwrap().write_units;
        }
        println!("{path}: {compressed_units} write units compressed, {text_units} as text");
        assert!(compressed_units <= text_units);
    }
}
