//! Snapshots: what a load costs with them, when they are taken, and that they are never the truth.

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};
use streambox::{
    Error, Invalid, Uuid,
    aggregate::{
        Aggregate, DomainEvent, EveryEvents, Never, OnDemand, Repository, RepositoryBuilder, SnapshotResult, TaggedJson,
    },
    snapshot::{IgnoredSnapshot, NewSnapshot, SCHEMA_TAKEOVER_EVENTS, SnapshotWrite},
};
use streambox_tests::{
    engine::{TestTable, stream},
    metering::Metering,
    orders::{Order, OrderEvent, fill, orders},
    wire::Exchange,
};

/// Loads from the table each time, with snapshots only on demand.
fn cold(table: &TestTable) -> RepositoryBuilder<Order> {
    orders(table).cache(None).snapshots(OnDemand)
}

/// What the events alone say.
async fn truth(table: &TestTable, id: &str) -> (Order, u64) {
    let plain = Repository::<Order>::builder(table.another().0).snapshots(Never).cache(None).build();
    let loaded = plain.load(id).await.expect("the engine answers");
    (loaded.state().clone(), loaded.version())
}

/// The keys of all items that were returned, and the requests' units.
fn returned(exchanges: &[Exchange]) -> (Vec<String>, Vec<f64>) {
    let items = exchanges.iter().flat_map(|exchange| exchange.answer["Items"].as_array().expect("a page"));
    let keys = items.map(|item| item["entity"]["S"].as_str().expect("a text").to_owned()).collect();
    (keys, exchanges.iter().map(|exchange| exchange.units).collect())
}

/// The read units of items of this many bytes: one for each 4 KB begun.
fn units_of(exchange: &Exchange) -> f64 {
    let bytes = |value: &serde_json::Value| match value {
        value if value["S"].is_string() => value["S"].as_str().expect("a text").len(),
        value if value["N"].is_string() => value["N"].as_str().expect("a text").len().div_ceil(2) + 1,
        value => value.to_string().len(),
    };
    let item = |item: &serde_json::Value| -> usize {
        item.as_object().expect("an item").iter().map(|(name, value)| name.len() + bytes(value)).sum()
    };
    let bytes: usize = exchange.answer["Items"].as_array().expect("a page").iter().map(item).sum();
    f64::from(u32::try_from(bytes.div_ceil(4096).max(1)).expect("a few"))
}

#[tokio::test]
async fn with_never_no_snapshot_is_taken_or_looked_for() {
    let table = TestTable::create().await;
    let never = orders(&table).cache(None).snapshots(Never).build();
    fill(&never, "1", [99, 2]).await;
    never.snapshots_settled().await;
    assert_eq!(table.store.load_snapshot(&stream("order-1"), |_| true).await.unwrap().snapshot(), None);

    // One that is there, and would be wrong.
    let append = table.store.event(&stream("order-1"), 101).await.unwrap().unwrap().append.id;
    let wrong = serde_json::to_string(&Order::default()).unwrap();
    table.store.write_snapshot(&stream("order-1"), &NewSnapshot::new(101, append, 1, wrong)).await.unwrap();
    table.wire.take();
    assert_eq!(never.load("1").await.unwrap().items, 101);
    assert!(table.wire.take().iter().all(|query| query.request["ScanIndexForward"] == true), "from the first event on");
    assert_eq!(cold(&table).build().load("1").await.unwrap().items, 0, "it is used on demand");
}

#[tokio::test]
async fn a_stream_of_10_000_events_loads_in_one_request_at_a_tail_of_15_and_in_two_at_100() {
    let table = TestTable::create().await;
    let (repository, order) = (cold(&table).build(), stream("order-1"));
    fill(&repository, "1", [99; 101]).await;
    fill(&repository, "1", [1]).await;
    assert_eq!(repository.snapshot("1").await.unwrap(), SnapshotResult::Taken(10_000));

    let mut tail = 0;
    for (new, most_requests) in [(0, 1), (1, 1), (14, 1), (85, 2)] {
        table.publish_all(&order).await;
        if new > 0 {
            fill(&repository, "1", vec![1; new]).await;
        }
        tail += new;
        let expected = truth(&table, "1").await;
        for state in ["pending", "published"] {
            table.wire.take();
            let loaded = repository.load("1").await.unwrap();
            let sent = table.wire.take();
            assert_eq!((loaded.state(), loaded.version()), (&expected.0, expected.1), "tail of {tail}, {state}");
            assert!(sent.len() <= most_requests, "tail of {tail}, {state}: {} requests", sent.len());
            assert!(sent.iter().all(|query| query.operation == "Query" && query.request["ConsistentRead"] == true));
            let (mut keys, units) = returned(&sent);
            println!("tail of {tail:>3}, {state:<9}: {} items, read units {units:?}", keys.len());
            // It costs what it returns: a bound that does not depend on the stream's length.
            for exchange in &sent {
                assert!(
                    (exchange.units - Metering::of_tests().read(units_of(exchange))).abs() < 1.5,
                    "{} for {}",
                    exchange.units,
                    units_of(exchange)
                );
            }
            assert!(
                units.iter().sum::<f64>() <= if tail <= 15 { 4.0 } else { 12.0 },
                "tail of {tail}, {state}: {units:?}"
            );
            let items = keys.len();
            keys.sort();
            keys.dedup();
            assert_eq!(keys.len(), items, "nothing is read twice");
            table.publish_all(&order).await;
        }
    }
}

#[tokio::test]
async fn a_tail_of_15_that_is_still_pending_is_one_request() {
    let table = TestTable::create().await;
    let repository = cold(&table).build();
    fill(&repository, "1", [1; 40]).await;
    repository.snapshot("1").await.unwrap();
    table.publish_all(&stream("order-1")).await;
    for (tail, requests) in [(15, 1), (16, 2)] {
        let new = tail - (repository.load("1").await.unwrap().version() - 40);
        fill(&repository, "1", vec![1; usize::try_from(new).unwrap()]).await;
        table.wire.take();
        let loaded = repository.load("1").await.unwrap();
        assert_eq!((table.wire.take().len(), loaded.version()), (requests, 40 + tail));
        assert_eq!(loaded.state(), &truth(&table, "1").await.0);
    }
}

#[tokio::test]
async fn g4_loads_are_whole_at_every_length_with_and_without_a_backlog_and_a_snapshot() {
    for snapshot_at in [None, Some(1), Some(20), Some(39), Some(40)] {
        let table = TestTable::create().await;
        let (repository, order) = (cold(&table).build(), stream("order-1"));
        for version in 1..=80 {
            fill(&repository, "1", [1]).await;
            if snapshot_at == Some(version) {
                repository.snapshot("1").await.unwrap();
            }
            // A backlog of up to 40 pending entries, more than the first page holds.
            if version == 40 {
                table.publish_all(&order).await;
            }
            if [1, 2, 15, 16, 17, 31, 32, 33, 39, 40, 41, 55, 56, 57, 72, 80].contains(&version) {
                table.wire.take();
                let loaded = repository.load("1").await.unwrap();
                let (mut keys, _) = returned(&table.wire.take());
                let expected = truth(&table, "1").await;
                assert_eq!((loaded.state(), loaded.version()), (&expected.0, version), "snapshot at {snapshot_at:?}");
                keys.retain(|key| key.starts_with("event#"));
                let events = keys.len();
                keys.sort();
                keys.dedup();
                assert_eq!(keys.len(), events, "no event is read twice: {snapshot_at:?}, version {version}");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_without_events_loads_empty_even_where_a_snapshot_says_otherwise() {
    let table = TestTable::create().await;
    let repository = cold(&table).build();
    assert_eq!(repository.load("1").await.unwrap().version(), 0);
    assert_eq!(repository.snapshot("1").await.unwrap(), SnapshotResult::Empty);
    let left_over = NewSnapshot::new(3, Uuid::new_v4(), 1, body(9));
    table.store.write_snapshot(&stream("order-1"), &left_over).await.unwrap();
    let loaded = repository.load("1").await.unwrap();
    assert_eq!((loaded.version(), loaded.state()), (0, &Order::default()));
    assert_eq!(repository.stats().snapshots_ahead, 1);
}

#[tokio::test]
async fn the_append_after_a_load_from_a_snapshot_names_the_append_before_it() {
    let table = TestTable::create().await;
    let (repository, order) = (cold(&table).build(), stream("order-1"));
    fill(&repository, "1", [2, 3]).await;
    repository.snapshot("1").await.unwrap();
    for backlog in [0, 40] {
        if backlog > 0 {
            fill(&repository, "1", vec![1; backlog]).await;
        }
        let before = table.store.read(&order).await.unwrap().position;
        let loaded = repository.load("1").await.unwrap();
        assert_eq!(loaded.position(), &before, "backlog of {backlog}");
    }
    fill(&repository, "1", [1]).await;
    let entries = table.store.outbox().pending(&order, 46, 10).await.unwrap().entries;
    assert_eq!(entries[0].previous.unwrap().version, 45);
}

#[tokio::test]
async fn g4_half_an_append_at_the_top_is_waited_for_and_a_gap_is_an_error() {
    let table = TestTable::create().await;
    let repository = cold(&table).build();
    fill(&repository, "1", [1, 2]).await;
    repository.snapshot("1").await.unwrap();
    fill(&repository, "1", [2, 3]).await;
    let expected = truth(&table, "1").await;
    for hidden in 4..=8 {
        table.wire.hide(&format!("event#{hidden:020}"), 2);
        let loaded = repository.load("1").await.unwrap();
        assert_eq!((loaded.state(), loaded.version()), (&expected.0, 8), "version {hidden} came late");
    }
    table.wire.hide(&format!("event#{:020}", 5), u32::MAX);
    let error = repository.load("1").await.unwrap_err();
    assert!(matches!(&error, Error::Corrupt(corrupt) if corrupt.at == "version 5"), "{error}");
}

#[tokio::test]
async fn a_snapshot_is_taken_after_the_append_that_passes_100_events_and_not_in_its_way() {
    let table = TestTable::create().await;
    let repository = orders(&table).cache(None).build();
    fill(&repository, "1", [98, 1]).await;
    repository.snapshots_settled().await;
    assert_eq!(repository.stats().snapshots_taken, 0);
    let order = repository.load("1").await.unwrap();
    table.wire.take();

    repository.save(&order, [OrderEvent::ItemsAdded { items: 1 }, OrderEvent::Shipped]).await.unwrap();

    // One thread runs this test: what was sent until now was sent before the append returned.
    let before: Vec<_> = table.wire.take().into_iter().map(|exchange| exchange.operation).collect();
    assert_eq!(before, ["TransactWriteItems"]);
    repository.snapshots_settled().await;
    let after = table.wire.take();
    assert_eq!(after.len(), 1);
    // 2 write units for each KB, in a transaction of its own.
    assert_eq!((after[0].operation.as_str(), after[0].units), ("TransactWriteItems", 2.0));
    assert_eq!(repository.stats().snapshots_taken, 1);
    let item = item(&table).await;
    assert_eq!(item["version"], AttributeValue::N("101".to_owned()));
    let state: Order = serde_json::from_str(item["body"].as_s().unwrap()).unwrap();
    assert_eq!(state, truth(&table, "1").await.0);
}

#[tokio::test]
async fn a_snapshot_that_fails_is_counted_and_the_append_knows_nothing_of_it() {
    let table = TestTable::create().await;
    let repository = orders(&table).snapshots(EveryEvents(1)).build();
    table.wire.set_fault(|exchange| exchange.is_lost = exchange.request.to_string().contains("schema_version"));
    let saved = fill(&repository, "1", [1]).await;
    repository.snapshots_settled().await;
    assert_eq!((saved.loaded.version(), repository.stats().snapshots_failed), (1, 1));
}

#[tokio::test]
async fn as_many_snapshots_as_allowed_are_written_at_the_same_time_and_the_rest_skipped() {
    let table = TestTable::create().await;
    let repository = orders(&table).snapshots(EveryEvents(1)).snapshots_in_flight(1).build();
    let (one, other) = (repository.load("1").await.unwrap(), repository.load("2").await.unwrap());
    let both =
        tokio::join!(repository.save(&one, [OrderEvent::Shipped]), repository.save(&other, [OrderEvent::Shipped]));
    both.0.unwrap();
    both.1.unwrap();
    repository.snapshots_settled().await;
    let stats = repository.stats();
    assert_eq!(stats.snapshots_taken + stats.snapshots_skipped, 2);
    let none = orders(&table).snapshots(EveryEvents(1)).snapshots_in_flight(0).build();
    fill(&none, "3", [1]).await;
    none.snapshots_settled().await;
    assert_eq!((none.stats().snapshots_skipped, none.stats().snapshots_taken), (1, 0));
}

#[tokio::test]
async fn policies_of_ones_own_none_and_snapshots_off() {
    let table = TestTable::create().await;
    let shipped = orders(&table).snapshot_when(|at| at.state.is_shipped && at.before < at.version).build();
    fill(&shipped, "1", [3, 3]).await;
    shipped.snapshots_settled().await;
    assert_eq!(shipped.stats().snapshots_taken, 0);
    shipped.execute("1", |order| order.ship()).await.unwrap();
    shipped.snapshots_settled().await;
    assert_eq!(shipped.stats().snapshots_taken, 1);

    let never = orders(&table).snapshots(OnDemand).build();
    fill(&never, "2", [99; 4]).await;
    never.snapshots_settled().await;
    assert_eq!(never.stats().snapshots_taken, 0);

    // Off: not even read. This one would lie.
    fill(&orders(&table).snapshots(OnDemand).build(), "3", [1, 1]).await;
    write(&table, "3", 1, body(99)).await;
    assert_eq!(truth(&table, "3").await.0.items, 2);
    assert_eq!(cold(&table).build().load("3").await.unwrap().state().items, 100, "the others believe it");
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Notebook(String);

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum Note {
    Taken(String),
}

impl DomainEvent for Note {
    type Codec = TaggedJson;
}

impl Aggregate for Notebook {
    type Event = Note;
    const CATEGORY: &'static str = "notebook";
    fn apply(&mut self, Note::Taken(text): &Note) {
        self.0.push_str(text);
    }
}

#[tokio::test]
async fn a_state_over_the_limit_of_an_item_is_not_kept_and_nothing_is_sent() {
    let table = TestTable::create().await;
    let notebooks = Repository::<Notebook>::builder(table.store.clone()).snapshots(EveryEvents(1)).build();
    let mut notebook = notebooks.load("1").await.unwrap();
    for _ in 0..5 {
        notebook = notebooks.save(&notebook, [Note::Taken("x".repeat(100_000))]).await.unwrap().loaded;
        notebooks.snapshots_settled().await;
    }
    let stats = notebooks.stats();
    assert_eq!((stats.snapshots_taken, stats.snapshots_too_large), (4, 1));
    table.wire.take();
    let error = notebooks.snapshot("1").await.unwrap_err();
    assert!(
        matches!(error, Error::Invalid(Invalid::TooLong { what: "snapshot", limit_bytes: 409_600, .. })),
        "{error}"
    );
    assert!(table.wire.take().iter().all(|exchange| exchange.operation == "Query"));
    let again = Repository::<Notebook>::builder(table.store.clone()).cache(None).build().load("1").await.unwrap();
    assert_eq!((again.version(), again.state().0.len()), (5, 500_000));
}

fn body(items: u64) -> String {
    serde_json::to_string(&Order { items, ..Order::default() }).expect("JSON")
}

/// Writes a snapshot of this state, sound in all but that.
async fn write(table: &TestTable, id: &str, version: u64, body: String) {
    let order = stream(&format!("order-{id}"));
    let append_id =
        table.store.event(&order, version).await.expect("the engine answers").expect("there is one").append.id;
    table
        .store
        .write_snapshot(&order, &NewSnapshot::new(version, append_id, 1, body))
        .await
        .expect("the engine answers");
}

async fn item(table: &TestTable) -> std::collections::HashMap<String, AttributeValue> {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let get = table.client().get_item().table_name(&table.name).consistent_read(true);
    let output =
        get.key("stream_id", text("order-1")).key("entity", text("snapshot")).send().await.expect("the engine answers");
    output.item.expect("there is a snapshot")
}

#[tokio::test]
async fn a_newer_snapshot_is_never_overwritten() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    let write = |version, schema_version| {
        let new = NewSnapshot::new(version, Uuid::from_u128(1), schema_version, body(version));
        let (store, order) = (table.store.clone(), order.clone());
        async move { matches!(store.write_snapshot(&order, &new).await.unwrap(), SnapshotWrite::Stored { .. }) }
    };
    for (version, schema_version, is_stored) in [
        (100, 1, true),
        (99, 1, false),
        (100, 1, false),
        (101, 1, true),
        // A newer schema takes the place at once, but not with an older version.
        (100, 2, false),
        (101, 2, true),
        // An older one does not, as long as the newer one is kept up.
        (102, 1, false),
        (101 + SCHEMA_TAKEOVER_EVENTS, 1, false),
        (150, 2, true),
        (102 + SCHEMA_TAKEOVER_EVENTS, 1, false),
        (151 + SCHEMA_TAKEOVER_EVENTS, 1, true),
        (150 + SCHEMA_TAKEOVER_EVENTS, 2, false),
        (151 + SCHEMA_TAKEOVER_EVENTS, 2, true),
    ] {
        let before = if is_stored { None } else { Some(item(&table).await) };
        assert_eq!(write(version, schema_version).await, is_stored, "version {version}, schema {schema_version}");
        let after = item(&table).await;
        match before {
            Some(before) => assert_eq!(before, after),
            None => assert_eq!(after["version"], AttributeValue::N(version.to_string())),
        }
    }
}

#[tokio::test]
async fn g9_a_snapshot_of_another_schema_is_ignored_and_counted() {
    #[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
    struct Next(Order);
    impl Aggregate for Next {
        type Event = OrderEvent;
        const CATEGORY: &'static str = "order";
        const SCHEMA_VERSION: u32 = 2;
        fn apply(&mut self, event: &OrderEvent) {
            self.0.apply(event);
        }
    }
    let table = TestTable::create().await;
    let (old, next) = (cold(&table).build(), Repository::<Next>::builder(table.store.clone()).cache(None).build());
    fill(&old, "1", [30, 30]).await;
    old.snapshot("1").await.unwrap();
    let expected = truth(&table, "1").await.0;

    assert_eq!(next.load("1").await.unwrap().state().0, expected);
    assert_eq!(next.stats().snapshots_of_other_schema, 1);
    // Both run side by side: the newer one's stands, the older one goes without.
    assert_eq!(next.snapshot("1").await.unwrap(), SnapshotResult::Taken(60));
    assert_eq!(old.load("1").await.unwrap().state(), &expected);
    assert_eq!(old.snapshot("1").await.unwrap(), SnapshotResult::Superseded);
    assert_eq!((old.stats().snapshots_of_other_schema, old.stats().snapshots_superseded), (2, 1));
    assert_eq!(next.load("1").await.unwrap().state().0, expected);
}

#[tokio::test]
async fn g9_a_snapshot_that_is_damaged_lost_or_ahead_changes_nothing_and_the_next_one_mends_it() {
    type Fault = (&'static str, Option<AttributeValue>);
    let (text, number) = (|text: &str| AttributeValue::S(text.to_owned()), |n: &str| AttributeValue::N(n.to_owned()));
    let faults: Vec<Fault> = vec![
        ("version", None),
        ("version", Some(text("60"))),
        ("version", Some(number("0"))),
        ("version", Some(number("61"))),
        ("version", Some(number("18446744073709551615"))),
        ("version", Some(number("-1"))),
        ("schema_version", None),
        ("schema_version", Some(text("1"))),
        ("schema_version", Some(number("4294967296"))),
        ("body", None),
        ("body", Some(number("1"))),
        ("body", Some(text("{\"items\":"))),
        ("body", Some(text("[]"))),
        ("body", Some(text(&body(99)))),
        ("append_id", None),
        ("append_id", Some(text("00000000-0000-0000-0000-000000000001"))),
        ("append_id", Some(text("1"))),
        ("checksum", None),
        ("checksum", Some(number("1"))),
        ("checksum", Some(text("0000000000000000"))),
        ("taken_at", None),
        ("entity", None),
    ];
    for (name, value) in faults {
        let table = TestTable::create().await;
        let repository = cold(&table).build();
        fill(&repository, "1", [20, 20, 20]).await;
        repository.snapshot("1").await.unwrap();
        let mut damaged = item(&table).await;
        damaged.remove(name);
        damaged.extend(value.clone().map(|value| (name.to_owned(), value)));
        let client = table.client();
        if name == "entity" {
            let key = client.delete_item().table_name(&table.name);
            key.key("stream_id", text("order-1")).key("entity", text("snapshot")).send().await.unwrap();
        } else {
            client.put_item().table_name(&table.name).set_item(Some(damaged)).send().await.unwrap();
        }

        let what = format!("{name}: {value:?}");
        let expected = truth(&table, "1").await;
        let loaded = repository.load("1").await.unwrap();
        assert_eq!((loaded.state(), loaded.version()), (&expected.0, 60), "{what}");
        let stats = repository.stats();
        let counted = stats.snapshots_unreadable + stats.snapshots_ahead;
        assert_eq!(counted, u64::from(name != "entity"), "{what}: {stats:?}");

        assert_eq!(repository.snapshot("1").await.unwrap(), SnapshotResult::Taken(60), "{what}");
        let before = repository.stats();
        assert_eq!(repository.load("1").await.unwrap().state(), &truth(&table, "1").await.0);
        assert_eq!(repository.stats().snapshots_unreadable, before.snapshots_unreadable, "{what}: mended");
        assert_eq!(repository.stats().snapshots_ahead, before.snapshots_ahead, "{what}: mended");
    }
}

#[tokio::test]
async fn g9_a_snapshot_of_an_earlier_version_is_ignored_and_replaced() {
    let table = TestTable::create().await;
    let repository = cold(&table).build();
    fill(&repository, "1", [3]).await;
    write(&table, "1", 3, body(99)).await;
    let mut older = item(&table).await;
    older.retain(|name, _| !["append_id", "checksum"].contains(&name.as_str()));
    table.client().put_item().table_name(&table.name).set_item(Some(older)).send().await.unwrap();
    assert_eq!(repository.load("1").await.unwrap().state().items, 3);
    assert_eq!(repository.stats().snapshots_unreadable, 1);
    assert_eq!(repository.snapshot("1").await.unwrap(), SnapshotResult::Taken(3));
    assert!(item(&table).await.contains_key("checksum"));
}

/// The stream is deleted by hand, its snapshot stays, and it is begun anew.
#[tokio::test]
async fn g9_a_snapshot_that_its_stream_has_left_behind_changes_nothing() {
    // Its version is within the first page of a load, below it, or behind a backlog of pending entries.
    for (at, events, publish) in [(3, 3, true), (3, 10, true), (3, 100, true), (3, 60, false), (40, 60, false)] {
        let table = TestTable::create().await;
        let (repository, order) = (cold(&table).build(), stream("order-1"));
        fill(&repository, "1", vec![2; at]).await;
        let version = 2 * at as u64;
        repository.snapshot("1").await.unwrap();
        for version in 1..=version {
            table.delete(&order, &format!("event#{version:020}")).await;
        }
        table.publish_all(&order).await;
        fill(&orders(&table).cache(None).snapshots(OnDemand).build(), "1", vec![1; events + at]).await;
        if publish {
            table.publish_all(&order).await;
        }
        let expected = truth(&table, "1").await;
        for _ in 0..2 {
            let loaded = repository.load("1").await.unwrap();
            assert_eq!((loaded.state(), loaded.version()), (&expected.0, expected.1), "{at} {events} {publish}");
        }
        let stats = repository.stats();
        assert!(stats.snapshots_of_other_history + stats.snapshots_ahead >= 2, "{stats:?}");
        // The next one takes its place, and is used.
        assert_eq!(repository.snapshot("1").await.unwrap(), SnapshotResult::Taken(expected.1));
        let before = repository.stats();
        assert_eq!(repository.load("1").await.unwrap().state(), &expected.0);
        assert_eq!(repository.stats().snapshots_of_other_history, before.snapshots_of_other_history);
    }
}

#[tokio::test]
async fn the_plain_store_loads_from_a_snapshot_that_the_caller_finds_usable() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.fill(&order, 50).await;
    let append_id = table.store.event(&order, 45).await.unwrap().unwrap().append.id;
    table.store.write_snapshot(&order, &NewSnapshot::new(45, append_id, 7, "anything")).await.unwrap();
    for (usable, from) in [(true, 46), (false, 1)] {
        let mut load =
            table.store.load_snapshot(&order, |snapshot| snapshot.schema_version == 7 && usable).await.unwrap();
        assert_eq!(load.snapshot().map(|snapshot| snapshot.body.as_str()), usable.then_some("anything"));
        let refused = (!usable).then_some(&IgnoredSnapshot::Refused { version: 45 });
        assert_eq!(load.ignored(), refused);
        let mut versions = Vec::new();
        while let Some(events) = load.next_page().await.unwrap() {
            versions.extend(events.iter().map(|event| event.version));
        }
        assert_eq!(versions, (from..=50).collect::<Vec<_>>());
        assert_eq!(load.position(), &table.store.read(&order).await.unwrap().position);
        table.wire.take();
    }
}

#[tokio::test]
async fn g9_histories_with_and_without_snapshots_and_caches_are_the_same() {
    for seed in 1..=4 {
        let mut random = fastrand::Rng::with_seed(seed);
        let table = TestTable::create().await;
        let every = |events| orders(&table).snapshots(EveryEvents(events));
        let repositories = [
            cold(&table).build(),
            every(3).cache(None).build(),
            every(7).build(),
            every(1).cache(streambox::aggregate::CacheSettings::new().entries(1)).build(),
            Repository::<Order>::builder(table.another().0).snapshots(Never).build(),
        ];
        for step in 0..30 {
            let (repository, id) = (&repositories[random.usize(0..5)], random.u8(1..=2));
            match random.u8(0..10) {
                // A lost snapshot, and one that lies about its version.
                0 => {
                    let key = |text: String| AttributeValue::S(text);
                    let delete = table.client().delete_item().table_name(&table.name);
                    let delete =
                        delete.key("stream_id", key(format!("order-{id}"))).key("entity", key("snapshot".into()));
                    delete.send().await.unwrap();
                }
                1 => {
                    let ahead = NewSnapshot::new(1_000_000, Uuid::new_v4(), 1, body(5));
                    let order = Repository::<Order>::stream_id(id).unwrap();
                    table.store.write_snapshot(&order, &ahead).await.unwrap();
                }
                2 => repository.snapshots_settled().await,
                events => {
                    let items = u64::from(events);
                    let decide =
                        |_: &_| Ok::<_, String>(vec![OrderEvent::ItemsAdded { items }; usize::from(events - 2)]);
                    repository.execute(id, decide).await.unwrap();
                }
            }
            let id = id.to_string();
            let expected = truth(&table, &id).await;
            for (place, repository) in repositories.iter().enumerate() {
                let loaded = repository.load(&id).await.unwrap();
                assert_eq!(
                    (loaded.state(), loaded.version()),
                    (&expected.0, expected.1),
                    "seed {seed}, {step}, {place}"
                );
            }
        }
    }
}
