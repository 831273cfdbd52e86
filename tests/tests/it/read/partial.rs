//! A stream read in part, forward and backward, and its end: what is seen, and what it costs.

use futures_util::TryStreamExt as _;
use streambox::{Error, EventStore, ExpectedVersion, GAP_READ_ATTEMPTS, NewEvent, ReadOptions, StreamId};
use streambox_tests::{
    engine::{TestTable, event, stream},
    metering::Metering,
};

fn key(version: u64) -> String {
    format!("event#{version:020}")
}

async fn versions(store: &EventStore, stream: &StreamId, options: ReadOptions) -> Result<Vec<u64>, Error> {
    store.read_stream(stream, options).map_ok(|event| event.version).try_collect().await
}

/// A stream of the appends 1, 2–4, 5.
async fn three_appends(table: &TestTable) -> StreamId {
    let order = stream("order-1");
    let mut expected = ExpectedVersion::NoStream;
    for events in [1..=1, 2..=4, 5..=5] {
        let appended = table.store.append(&order, expected, events.map(event)).await.expect("the append works");
        expected = ExpectedVersion::At(appended.position);
    }
    table.wire.take();
    order
}

#[tokio::test]
async fn a_part_of_a_stream_is_read_in_either_direction() {
    let table = TestTable::create().await;
    let order = three_appends(&table).await;
    let (forward, backward) = (ReadOptions::forward, ReadOptions::backward);
    for (options, expected) in [
        (forward(), vec![1, 2, 3, 4, 5]),
        (forward().from_version(0), vec![1, 2, 3, 4, 5]),
        (forward().from_version(3), vec![3, 4, 5]),
        (forward().from_version(2).limit(2), vec![2, 3]),
        (forward().limit(9), vec![1, 2, 3, 4, 5]),
        (forward().from_version(6), vec![]),
        (forward().from_version(u64::MAX).limit(2), vec![]),
        (backward(), vec![5, 4, 3, 2, 1]),
        (backward().limit(2), vec![5, 4]),
        (backward().from_version(3), vec![3, 2, 1]),
        (backward().from_version(3).limit(2), vec![3, 2]),
        (backward().from_version(9).limit(2), vec![5, 4]),
        (backward().from_version(0), vec![]),
    ] {
        assert_eq!(versions(&table.store, &order, options).await.unwrap(), expected, "{options:?}");
    }
    let nobody = stream("order-2");
    for options in [forward(), forward().from_version(7), backward(), backward().from_version(7), backward().limit(1)] {
        assert_eq!(versions(&table.store, &nobody, options).await.unwrap(), [0; 0], "{options:?}");
    }
}

#[tokio::test]
async fn a_limit_bounds_what_is_fetched_and_paid_for() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    // 2 KB an event: a hundred of them are 50 units and more.
    for first in (1..=100).step_by(50) {
        let events = (first..first + 50).map(|_| NewEvent::json("Grown", &"x".repeat(2_000)).unwrap());
        table.as_text().append(&order, ExpectedVersion::Any, events).await.unwrap();
    }
    let (forward, backward) = (ReadOptions::forward, ReadOptions::backward);
    let metering = Metering::of_tests();
    let three = ("Query", metering.read(2.0));
    for (options, read, costs) in [
        (backward().limit(1), 1, vec![("Query", 1.0)]),
        (forward().limit(1), 1, vec![("Query", 1.0)]),
        (forward().from_version(60).limit(3), 3, vec![three]),
        (backward().from_version(60).limit(3), 3, vec![three]),
        // Whether the stream does end below version 200 is a question more.
        (backward().from_version(200).limit(3), 3, vec![three, ("Query", metering.empty_read(1.0))]),
        (forward().limit(0), 0, vec![]),
        (backward().limit(0), 0, vec![]),
    ] {
        table.wire.take();
        let mut events = table.store.read_stream(&order, options);
        let mut count = 0;
        while events.try_next().await.unwrap().is_some() {
            count += 1;
        }
        let sent = table.wire.take();
        assert!(sent.iter().all(|exchange| exchange.request["ConsistentRead"] == true));
        let sent: Vec<_> = sent.iter().map(|exchange| (exchange.operation.as_str(), exchange.units)).collect();
        assert_eq!((count, sent), (read, costs.clone()), "{options:?}");
        let units: f64 = costs.iter().map(|(_, units)| units).sum();
        assert!((events.read_units() - units).abs() < 1e-9, "the caller is told: {}", events.read_units());
    }
}

#[tokio::test]
async fn a_stream_of_several_megabytes_is_fetched_as_it_is_polled() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    for _ in 0..9 {
        let events = (0..4).map(|_| NewEvent::json("Grown", &"x".repeat(100_000)).unwrap());
        table.as_text().append(&order, ExpectedVersion::Any, events).await.unwrap();
    }
    for options in [ReadOptions::forward(), ReadOptions::backward()] {
        table.wire.take();
        let mut events = table.store.read_stream(&order, options);
        events.try_next().await.unwrap().expect("there are events");
        assert_eq!(table.wire.take().len(), 1, "one page of at most 1 MB for the first event");
        let mut versions: Vec<_> = events.map_ok(|event| event.version).try_collect().await.unwrap();
        assert!(table.wire.take().len() > 2, "the others when they are asked for");
        if options == ReadOptions::backward() {
            versions.reverse();
            assert_eq!(versions, (1..36).collect::<Vec<_>>());
        } else {
            assert_eq!(versions, (2..=36).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn g4_backward_an_append_that_is_half_visible_is_waited_for() {
    for hidden in 1..=5 {
        let table = TestTable::create().await;
        let order = three_appends(&table).await;
        for options in
            [ReadOptions::backward(), ReadOptions::backward().from_version(4), ReadOptions::backward().limit(5)]
        {
            let from = if options == ReadOptions::backward().from_version(4) { 4 } else { 5 };
            table.wire.hide(&key(hidden), 2);
            let read = versions(&table.store, &order, options).await.unwrap();
            // The newest append alone, when nothing of it is visible, is not there yet.
            let newest = if hidden == 5 && from == 5 { 4 } else { from };
            assert_eq!(read, (1..=newest).rev().collect::<Vec<_>>(), "{hidden} {options:?}");
        }
    }
}

#[tokio::test]
async fn g4_backward_a_gap_that_stays_is_an_error_that_says_what_is_missing() {
    for (hidden, options, seen) in [
        (1, ReadOptions::backward(), vec![5, 4, 3, 2]),
        (3, ReadOptions::backward(), vec![5]),
        // The append 2–4 seen in part, the stream continues above it.
        (4, ReadOptions::backward().from_version(4), vec![]),
        (2, ReadOptions::backward().from_version(2), vec![]),
        (1, ReadOptions::backward().from_version(1), vec![]),
    ] {
        let table = TestTable::create().await;
        let order = three_appends(&table).await;
        table.delete(&order, &key(hidden)).await;
        let mut events = table.store.read_stream(&order, options);
        let mut read = Vec::new();
        let error = loop {
            match events.try_next().await {
                Ok(Some(event)) => read.push(event.version),
                Ok(None) => panic!("{hidden} {options:?}: the end after {read:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(read, seen, "{hidden} {options:?}");
        let Error::Corrupt(corrupt) = &error else { panic!("{error}") };
        assert_eq!((corrupt.stream.as_str(), corrupt.at.as_str()), ("order-1", format!("version {hidden}").as_str()));
        assert!(events.try_next().await.unwrap().is_none(), "an error is the last item");
        let looks = table.wire.take().len();
        assert!(looks >= GAP_READ_ATTEMPTS as usize, "{looks} requests");
    }
}

#[tokio::test]
async fn a_limit_may_end_in_the_middle_of_an_append_and_need_not_wait_for_its_rest() {
    let table = TestTable::create().await;
    let order = three_appends(&table).await;
    for (hidden, options, expected) in
        [(4, ReadOptions::forward().limit(3), vec![1, 2, 3]), (2, ReadOptions::backward().limit(3), vec![5, 4, 3])]
    {
        table.wire.hide(&key(hidden), u32::MAX);
        table.wire.take();
        assert_eq!(versions(&table.store, &order, options).await.unwrap(), expected);
        assert_eq!(table.wire.take().len(), 1);
    }
}

#[tokio::test]
async fn the_position_of_a_long_stream_is_one_read_unit() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.fill(&order, 300).await;
    table.wire.take();

    let position = table.store.position(&order).await.unwrap();
    assert_eq!(table.wire.take_costs(), [("Query".to_owned(), 1.0)]);
    assert_eq!(position, table.store.read(&order).await.unwrap().position);

    // It is good for an append, without a look at the stream.
    table.wire.take();
    table.store.append(&order, ExpectedVersion::At(position), [event(301)]).await.unwrap();
    assert_eq!(table.wire.take().len(), 1);
    let nobody = table.store.position(&stream("order-2")).await.unwrap();
    assert_eq!(nobody.version(), 0);
}

#[tokio::test]
async fn g4_the_position_of_a_half_visible_append_is_the_one_behind_all_of_it() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    let appended = table.store.append(&order, ExpectedVersion::NoStream, (1..=3).map(event)).await.unwrap();
    let mut is_first = true;
    table.wire.set_fault(move |exchange| {
        // As if the first request had been answered before the last event was visible: the newest is the second.
        if exchange.operation == "Query"
            && std::mem::take(&mut is_first)
            && let Some(items) = exchange.answer["Items"].as_array_mut()
        {
            for item in items {
                item["entity"]["S"] = key(2).into();
            }
        }
    });
    assert_eq!(table.store.position(&order).await.unwrap(), appended.position);
}

#[tokio::test]
async fn whether_a_stream_exists_and_one_event_of_it_are_one_request_each() {
    let table = TestTable::create().await;
    let order = three_appends(&table).await;
    assert!(table.store.exists(&order).await.unwrap());
    assert_eq!(table.wire.take_costs(), [("Query".to_owned(), 1.0)]);
    assert!(!table.store.exists(&stream("order-2")).await.unwrap());

    table.wire.take();
    let third = table.store.event(&order, 3).await.unwrap().expect("version 3 is there");
    assert_eq!(table.wire.take_costs(), [("GetItem".to_owned(), 1.0)]);
    assert_eq!(third, table.store.read(&order).await.unwrap().events[2]);
    assert_eq!(table.store.event(&order, 6).await.unwrap(), None);
    table.wire.take();
    assert_eq!(table.store.event(&order, 0).await.unwrap(), None);
    assert_eq!(table.wire.take().len(), 0, "there is no version 0");
}
