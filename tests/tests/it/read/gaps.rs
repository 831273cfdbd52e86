//! Streams larger than a page, half-visible appends, gaps.

use streambox::{Error, ExpectedVersion, GAP_READ_ATTEMPTS, NewEvent};
use streambox_tests::{
    engine::{TestTable, event, stream},
    metering::Metering,
};

#[tokio::test]
async fn g4_a_stream_of_more_than_three_megabytes_loads_whole() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    let text = "x".repeat(100_000);
    let mut expected = ExpectedVersion::NoStream;
    for first in (1..=36_u64).step_by(4) {
        let events = (first..first + 4)
            .map(|number| NewEvent::json("Grown", &serde_json::json!({ "number": number, "text": text })).unwrap());
        expected = ExpectedVersion::At(table.as_text().append(&order, expected, events).await.unwrap().position);
    }
    let bytes = 36 * text.len();
    assert!(bytes > 3_000_000, "{bytes}");
    table.wire.take();

    let history = table.store.read(&order).await.unwrap();

    let numbers: Vec<_> = history
        .events
        .iter()
        .map(|event| event.payload::<serde_json::Value>().unwrap()["number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (1..=36).collect::<Vec<_>>());
    assert!(history.events.iter().all(|event| event.payload.len() > text.len()), "no payload is cut");
    let pages = table.wire.take_costs();
    assert!(pages.len() > 3, "a page has at most 1 MB");
    assert!(pages.iter().all(|(operation, _)| operation == "Query"));
    if !Metering::of_tests().counts_what_is_read() {
        return;
    }
    // Strongly consistent: a unit for each 4 KB, rounded up once a page.
    let least = f64::from(u32::try_from(bytes).unwrap()) / 4096.0;
    assert!(history.read_units >= least && history.read_units < least + 20.0, "{} of {least}", history.read_units);
    assert!((history.read_units - pages.iter().map(|page| page.1).sum::<f64>()).abs() < 1e-9);
}

#[tokio::test]
async fn g4_an_append_that_is_half_visible_is_waited_for() {
    for hidden in ["event#00000000000000000002", "event#00000000000000000003", "event#00000000000000000004"] {
        let table = TestTable::create().await;
        let order = stream("order-1");
        let first = table.store.append(&order, ExpectedVersion::NoStream, [event(1)]).await.unwrap();
        let second = [event(2), event(3), event(4)];
        table.store.append(&order, ExpectedVersion::At(first.position), second).await.unwrap();

        table.wire.hide(hidden, 2);
        let mut reader = table.store.reader(&order);
        let mut versions = Vec::new();
        while let Some(page) = reader.next_page().await.unwrap() {
            versions.push(page.iter().map(|event| event.version).collect::<Vec<_>>());
        }
        assert_eq!(versions, [vec![1], vec![2, 3, 4]], "{hidden}: the append is seen entire");
    }
}

#[tokio::test]
async fn g4_a_gap_that_stays_is_an_error_that_says_what_is_missing() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.fill(&order, 5).await;
    table.wire.take();
    table.wire.hide("event#00000000000000000003", u32::MAX);

    let error = table.store.read(&order).await.unwrap_err();

    let Error::Corrupt(corrupt) = &error else { panic!("{error}") };
    assert_eq!((corrupt.stream.as_str(), corrupt.at.as_str()), ("order-1", "version 3"));
    let queries = table.wire.take().len();
    assert_eq!(queries, 1 + GAP_READ_ATTEMPTS as usize, "read once, then again as often as promised");
}

#[tokio::test]
async fn g4_a_last_event_that_never_shows_is_an_error_and_not_a_shorter_stream() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.store.append(&order, ExpectedVersion::NoStream, [event(1), event(2)]).await.unwrap();
    table.wire.hide("event#00000000000000000002", u32::MAX);
    let error = table.store.read(&order).await.unwrap_err();
    assert!(matches!(&error, Error::Corrupt(corrupt) if corrupt.at == "version 2"), "{error}");
}

#[tokio::test]
async fn g4_a_load_sees_what_was_appended_a_moment_ago() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.fill(&order, 2).await;
    let query = |exchange: &streambox_tests::wire::Exchange| exchange.operation == "Query";
    table.wire.take();
    table.store.read(&order).await.unwrap();
    let asked = table.wire.take();
    assert!(asked.iter().filter(|exchange| query(exchange)).all(|query| query.request["ConsistentRead"] == true));
    assert_eq!(asked.len(), 1);
}

#[tokio::test]
async fn a_stream_without_events_is_empty_at_version_0() {
    let table = TestTable::create().await;
    let history = table.store.read(&stream("order-1")).await.unwrap();
    assert_eq!((history.events.len(), history.position.version()), (0, 0));
}
