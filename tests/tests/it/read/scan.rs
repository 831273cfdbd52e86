//! All streams of a table: whole, in order, resumable, at a known cost.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_dynamodb::{config::retry::RetryConfig, types::AttributeValue};
use futures_util::TryStreamExt as _;
use streambox::{
    Client, Error, EventScan, EventStore, ExpectedVersion, Invalid, MAX_SCAN_SEGMENTS, NewEvent, RequestLimits,
    SCAN_ATTEMPTS, ScanOptions, ScanToken,
};
use streambox_tests::{
    engine::{TestTable, event, stream},
    metering::Metering,
};
use tokio::time::sleep;

/// Stream and version of each event, in the order in which they come.
async fn all(scan: EventScan) -> Result<Vec<(String, u64)>, Error> {
    scan.map_ok(|event| (event.stream_id.to_string(), event.version)).try_collect().await
}

async fn scanned(store: &EventStore, options: ScanOptions) -> Vec<(String, u64)> {
    all(store.scan_events(&options).expect("valid options")).await.expect("a whole table")
}

/// The versions of each stream, in the order in which they come.
fn by_stream(events: &[(String, u64)]) -> BTreeMap<String, Vec<u64>> {
    let mut streams: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (stream, version) in events {
        streams.entry(stream.clone()).or_default().push(*version);
    }
    streams
}

/// Streams of two categories; the number of a stream is that of its events. Items that are not events are there as well.
async fn filled() -> (TestTable, BTreeMap<String, Vec<u64>>) {
    let table = TestTable::create().await;
    let mut expected = BTreeMap::new();
    for (category, numbers) in [("order", 1..=12), ("orders", 1..=3)] {
        for number in numbers {
            let id = stream(&format!("{category}-{number}"));
            // Half of them in one append, the others one by one.
            if number % 2 == 0 {
                table
                    .store
                    .append(&id, ExpectedVersion::NoStream, (1..=number).map(event))
                    .await
                    .expect("the engine takes it");
            } else {
                table.fill(&id, number).await;
            }
            expected.insert(id.to_string(), (1..=number).collect());
        }
    }
    let text = |text: &str| AttributeValue::S(text.to_owned());
    for (id, entity) in [("$relay", "worker#1"), ("order-5", "snapshot"), ("zz-1", "snapshot")] {
        let put = table.client().put_item().table_name(&table.name);
        put.item("stream_id", text(id)).item("entity", text(entity)).send().await.expect("the engine takes it");
    }
    table.wire.take();
    (table, expected)
}

#[tokio::test]
async fn g4_a_scan_has_each_stream_whole_and_in_order_one_after_the_other() {
    let (table, expected) = filled().await;
    for options in [
        ScanOptions::new(),
        ScanOptions::new().segments(1),
        ScanOptions::new().segments(7).page_items(1),
        ScanOptions::new().segments(MAX_SCAN_SEGMENTS).page_items(3),
        ScanOptions::new().segments(2).page_items(5).eventually_consistent(),
    ] {
        let events = scanned(&table.store, options.clone()).await;
        assert_eq!(by_stream(&events), expected, "{options:?}");
        let mut streams: Vec<_> = events.iter().map(|event| &event.0).collect();
        streams.dedup();
        assert_eq!(streams.len(), expected.len(), "no stream between two events of another: {options:?}");
        let consistent = options != ScanOptions::new().segments(2).page_items(5).eventually_consistent();
        let sent = table.wire.take();
        assert!(sent.iter().all(|exchange| exchange.operation == "Scan"), "nothing was missing");
        assert!(sent.iter().all(|exchange| exchange.request["ConsistentRead"] == consistent));
    }
    let paged = scanned(&table.store, ScanOptions::new().page_items(2)).await;
    assert_eq!(paged, scanned(&table.store, ScanOptions::new()).await, "the order depends on ids and segments alone");
    // The segments take turns: it is not one after the other, which would be the order of a single one.
    assert_ne!(paged, scanned(&table.store, ScanOptions::new().segments(1)).await);
}

#[tokio::test]
async fn a_category_is_filtered_by_dynamodb() {
    let (table, mut expected) = filled().await;
    expected.retain(|stream, _| stream.starts_with("order-"));
    let events = scanned(&table.store, ScanOptions::new().category("order")).await;
    assert_eq!(by_stream(&events), expected);
    let sent = table.wire.take();
    let received: usize = sent.iter().map(|exchange| exchange.answer["Items"].as_array().map_or(0, Vec::len)).sum();
    assert_eq!(received, events.len(), "no pending entry, no snapshot, no relay, no other category");
    assert_eq!(scanned(&table.store, ScanOptions::new().category("zz")).await, []);
}

#[tokio::test]
async fn a_scan_costs_what_the_table_has() {
    let table = TestTable::create().await;
    for number in 1..=3 {
        let events = (0..50).map(|_| NewEvent::json("Grown", &"x".repeat(10_000)).unwrap());
        table.as_text().append(&stream(&format!("order-{number}")), ExpectedVersion::NoStream, events).await.unwrap();
    }
    table.wire.take();
    let mut scan = table.store.scan_events(&ScanOptions::new().segments(1)).unwrap();
    while scan.try_next().await.unwrap().is_some() {}
    let sent = table.wire.take_costs();
    let units: f64 = sent.iter().map(|(_, units)| units).sum();
    // 1.5 MB are two pages; 4 KB a unit, rounded up once a page.
    assert_eq!(sent.len(), 2);
    if !Metering::of_tests().counts_what_is_read() {
        return;
    }
    let least = 150.0 * 10_000.0 / 4_096.0;
    assert!(units > least && units < least + 15.0, "{units} of {least}");
    assert!((scan.read_units() - units).abs() < 1e-9, "the caller is told");

    let mut half = table.store.scan_events(&ScanOptions::new().segments(1).eventually_consistent()).unwrap();
    while half.try_next().await.unwrap().is_some() {}
    assert!((half.read_units() - units / 2.0).abs() < 1.1, "{} of {units}", half.read_units());
}

#[tokio::test]
async fn what_is_fetched_ahead_is_bounded() {
    let table = TestTable::create().await;
    for number in 1..=10 {
        let events = (1..=30).map(event);
        table.store.append(&stream(&format!("order-{number}")), ExpectedVersion::NoStream, events).await.unwrap();
    }
    table.wire.take();
    let mut scan = table.store.scan_events(&ScanOptions::new().segments(2).page_items(1)).unwrap();
    assert_eq!(table.wire.take().len(), 0, "nothing is sent before it is polled");
    for version in 1..=25 {
        assert_eq!(scan.try_next().await.unwrap().expect("a stream has 30 events").version, version);
    }
    // One item a page: 25 were taken, and two pages of each segment may be ahead.
    let sent = table.wire.take().len();
    assert!(sent <= 25 + 2 * 2, "{sent} pages");
}

/// A consumer that takes longer for the rows of a page than a request may last.
#[tokio::test]
async fn what_is_fetched_ahead_of_a_slow_consumer_is_fetched_once() {
    const REQUEST: Duration = Duration::from_millis(600);
    let table = TestTable::create().await;
    // A page of several hundred kilobytes does not come in one piece.
    let large = || NewEvent::json("Grown", &"x".repeat(20_000)).unwrap();
    for id in ["order-1", "order-2", "order-3", "order-4"] {
        let events = (0..90).map(|_| large());
        table.as_text().append(&stream(id), ExpectedVersion::NoStream, events).await.unwrap();
    }
    let limits = RequestLimits::default().silence(REQUEST).request(REQUEST);
    let retries = RetryConfig::standard().with_max_attempts(1);
    let config = limits.apply(table.store_client().config().to_builder()).retry_config(retries).build();
    let store = EventStore::new(Client::from_conf(config), &table.name);
    let options = ScanOptions::new().segments(2).page_items(30);
    table.wire.take();
    scanned(&store, options.clone()).await;
    let quick = table.wire.take().len();
    let mut scan = store.scan_events(&options).unwrap();
    while scan.try_next().await.unwrap().is_some() {
        sleep(REQUEST / 15).await;
    }
    assert_eq!(table.wire.take().len(), quick, "no page is fetched twice");
}

#[tokio::test]
async fn a_scan_goes_on_from_its_token_in_another_process() {
    let (table, _) = filled().await;
    for options in [
        ScanOptions::new(),
        ScanOptions::new().segments(3).page_items(2),
        ScanOptions::new().segments(5).page_items(7).category("order"),
    ] {
        let uninterrupted = scanned(&table.store, options.clone()).await;
        let mut events = Vec::new();
        let mut token: Option<ScanToken> = None;
        // Each process takes three events and is gone, with whatever it has fetched ahead.
        loop {
            let (store, _) = table.another();
            let resumed = token.take().map_or(options.clone(), |token| options.clone().resume(token));
            let mut scan = store.scan_events(&resumed).unwrap();
            let mut count = 0;
            while count < 3
                && let Some(event) = scan.try_next().await.unwrap()
            {
                events.push((event.stream_id.to_string(), event.version));
                count += 1;
            }
            token = Some(scan.token().to_string().parse().unwrap());
            if count < 3 {
                break;
            }
        }
        assert_eq!(events, uninterrupted, "{options:?}: nothing twice, nothing lost, in the same order");
        let at_end = options.resume(token.expect("the last process has left one"));
        assert_eq!(scanned(&table.store, at_end).await, []);
    }
}

#[tokio::test]
async fn g4_what_a_scan_does_not_see_of_a_stream_is_read_again() {
    let (table, expected) = filled().await;
    let four = ScanOptions::new().segments(3).page_items(4);
    for (options, hidden) in [(ScanOptions::new(), 1), (ScanOptions::new(), 2), (four.clone(), 4), (four, 12)] {
        // Of all streams that have it.
        table.wire.hide_from("Scan", &format!("event#{hidden:020}"), u32::MAX);
        let events = by_stream(&scanned(&table.store, options.clone()).await);
        let alone = |stream: &String, versions: &Vec<u64>| {
            // Appended alone and the newest, it is as if it had been appended behind the scan.
            let number = versions.len() as u64;
            if number == hidden && (number % 2 == 1 || stream == "order-1") { hidden - 1 } else { number }
        };
        for (stream, versions) in &expected {
            let seen = events.get(stream).cloned().unwrap_or_default();
            assert_eq!(seen, (1..=alone(stream, versions)).collect::<Vec<_>>(), "{stream}, {hidden} hidden");
        }
        assert!(table.wire.take().iter().any(|exchange| exchange.operation == "Query"));
    }
}

#[tokio::test]
async fn g4_a_resumed_scan_misses_the_rest_of_an_append_as_well() {
    let table = TestTable::create().await;
    table.store.append(&stream("order-1"), ExpectedVersion::NoStream, (1..=3).map(event)).await.unwrap();
    let options = ScanOptions::new().segments(2);
    let mut scan = table.store.scan_events(&options.clone()).unwrap();
    scan.try_next().await.unwrap().unwrap();
    scan.try_next().await.unwrap().unwrap();
    let token = scan.token();
    table.wire.hide_from("Scan", "event#00000000000000000003", u32::MAX);
    assert_eq!(scanned(&table.store, options.resume(token)).await, [("order-1".to_owned(), 3)]);
}

/// The events of a scan, and the streams and places of its errors; with a token, each event by a scan of its own.
async fn with_damage(table: &TestTable, options: &ScanOptions, one_by_one: bool) -> (Vec<(String, u64)>, Vec<String>) {
    let (mut events, mut damaged) = (Vec::new(), Vec::new());
    let mut scan = table.store.scan_events(options).expect("valid options");
    loop {
        match scan.try_next().await {
            Ok(None) => break,
            Ok(Some(event)) => events.push((event.stream_id.to_string(), event.version)),
            Err(Error::Corrupt(corrupt)) => damaged.push(format!("{}, {}", corrupt.stream, corrupt.at)),
            Err(error) => panic!("{error}"),
        }
        if one_by_one {
            let token: ScanToken = scan.token().to_string().parse().expect("a token");
            scan = table.store.scan_events(&options.clone().resume(token)).expect("its own token");
        }
    }
    damaged.sort();
    (events, damaged)
}

#[tokio::test]
async fn g4_a_damaged_stream_is_named_once_and_every_other_one_is_whole() {
    let (table, mut expected) = filled().await;
    let key = |version: u64| format!("event#{version:020}");
    let text = |text: &str| AttributeValue::S(text.to_owned());
    // A gap, half an append, an event that can't be read, a first one, one that Queries pass over, keys that are none.
    table.delete(&stream("order-7"), &key(3)).await;
    table.delete(&stream("order-8"), &key(8)).await;
    table.set(&stream("order-9"), &key(5), "append_id", text("x")).await;
    table.set(&stream("order-12"), &key(1), "append_id", text("x")).await;
    table.set(&stream("order-3"), "event#7", "payload", text("{}")).await;
    table.set(&stream("order-3"), "event#8", "payload", text("{}")).await;
    table.set(&stream("order-5"), "event#+0000000000000000001", "payload", text("{}")).await;
    let mut damaged = vec![
        ("order-7", "version 3".to_owned(), 2),
        ("order-8", "version 8".to_owned(), 7),
        ("order-9", key(5), 4),
        ("order-12", key(1), 0),
        ("order-3", "event#7".to_owned(), 3),
        ("order-5", "event#+0000000000000000001".to_owned(), 0),
    ];
    for (id, _, before) in &damaged {
        expected.insert((*id).to_owned(), (1..=*before).collect());
    }
    expected.retain(|_, versions| !versions.is_empty());
    damaged.sort();
    let damaged: Vec<_> = damaged.iter().map(|(id, at, _)| format!("{id}, {at}")).collect();
    for (options, one_by_one) in [
        (ScanOptions::new(), false),
        (ScanOptions::new().segments(1), false),
        (ScanOptions::new().segments(2).page_items(1), false),
        (ScanOptions::new().segments(1).page_items(3), false),
        (ScanOptions::new().segments(3), true),
        (ScanOptions::new().segments(1).page_items(2), true),
    ] {
        let (events, mut found) = with_damage(&table, &options, one_by_one).await;
        found.sort();
        assert_eq!(found, damaged, "{options:?}");
        assert_eq!(by_stream(&events), expected, "{options:?}: nothing twice, nothing lost");
    }
    let first = table.store.scan_events(&ScanOptions::new()).unwrap().try_collect::<Vec<_>>().await;
    assert!(matches!(first, Err(Error::Corrupt(_))), "who takes `?` does not pass over it");
}

#[tokio::test]
async fn a_scan_does_not_end_for_a_moment_without_an_answer_but_for_good() {
    let (table, expected) = filled().await;
    // Without the SDK's own attempts, which come on top.
    let config = table.store_client().config().to_builder().retry_config(RetryConfig::disabled()).build();
    let store = EventStore::new(Client::from_conf(config), &table.name);
    let options = ScanOptions::new().segments(1).page_items(30);
    table.wire.lose_answers("Scan", SCAN_ATTEMPTS - 1);
    assert_eq!(by_stream(&scanned(&store, options.clone()).await), expected, "nothing twice, nothing lost");

    table.wire.lose_answers("Scan", SCAN_ATTEMPTS);
    let error = all(store.scan_events(&options).unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { attempts: SCAN_ATTEMPTS, .. }), "{error}");
}

#[tokio::test]
async fn a_scan_that_can_not_be_is_refused_before_anything_is_sent() {
    let (table, _) = filled().await;
    let mut scan = table.store.scan_events(&ScanOptions::new().category("order")).unwrap();
    scan.try_next().await.unwrap();
    let token = scan.token();
    table.wire.take();
    let new = ScanOptions::new;
    for (options, says) in [
        (new().segments(0), "1 to 64 segments, not 0"),
        (new().segments(65), "1 to 64 segments, not 65"),
        (new().category("order-1"), "\"order-1\""),
        (new().category(""), "\"\""),
        (new().category("$relay"), "\"$relay\""),
        (new().category("order").segments(5).resume(token.clone()), "in 4 segments, this one is in 5"),
        (new().resume(token.clone()), "category \"order\", this one is of all"),
    ] {
        let error = table.store.scan_events(&options).map(|_| ()).expect_err(says);
        assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains(says), "{error}");
    }
    let error = table.store.scan_streams(&new().category("order").resume(token)).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Invalid(Invalid::ScanToken { .. })), "{error}");
    assert_eq!(table.wire.take().len(), 0);
}

#[tokio::test]
async fn the_streams_are_listed_with_their_ends() {
    let (table, expected) = filled().await;
    for options in [ScanOptions::new(), ScanOptions::new().segments(3).page_items(2)] {
        let scan = table.store.scan_streams(&options).unwrap();
        let streams: Vec<_> = scan.try_collect().await.unwrap();
        let ends: BTreeMap<_, _> =
            streams.iter().map(|stream| (stream.stream_id.to_string(), stream.version)).collect();
        assert_eq!(streams.len(), expected.len(), "each once");
        assert_eq!(ends, expected.iter().map(|(stream, versions)| (stream.clone(), versions.len() as u64)).collect());
        assert!(streams.iter().all(|stream| stream.events == stream.version && stream.last_type == "Counted"));
        let newest = table.store.read(&streams[0].stream_id).await.unwrap().events.pop().unwrap();
        assert_eq!(streams[0].last_recorded_at_ms, newest.recorded_at_ms);
    }
    let sent = table.wire.take();
    let items =
        sent.iter().filter(|exchange| exchange.operation == "Scan").filter_map(|e| e.answer["Items"].as_array());
    assert!(items.flatten().all(|item| item.get("payload").is_none()), "payloads stay where they are");
}
