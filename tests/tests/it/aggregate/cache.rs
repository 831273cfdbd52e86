//! The cache: what a cached load costs, its bounds, and that it is never the truth.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use streambox::{
    Error, EventStore,
    aggregate::{CacheSettings, OnDemand, Repository, RepositoryBuilder},
};
use streambox_tests::{
    engine::{TestTable, stream},
    metering::Metering,
    orders::{Order, OrderEvent, fill, orders},
};

const LOADS: usize = 1_000;

fn cached(table: &TestTable, settings: CacheSettings) -> RepositoryBuilder<Order> {
    orders(table).snapshots(OnDemand).cache(settings)
}

/// Another process.
fn another(table: &TestTable) -> Repository<Order> {
    Repository::builder(table.another().0).cache(None).build()
}

/// The event that the cached state ends with, and nothing behind it.
fn nothing_new() -> [(String, f64); 1] {
    [("Query".to_owned(), Metering::of_tests().read(1.0))]
}

#[tokio::test]
async fn a_thousand_loads_at_once_are_one_full_load_and_one_look_at_what_is_new() {
    let table = TestTable::create().await;
    let repository = cached(&table, CacheSettings::new()).build();
    fill(&another(&table), "1", [20, 8]).await;
    table.wire.take();

    let loads = join_all((0..LOADS).map(|_| repository.load("1"))).await;

    assert!(loads.into_iter().all(|loaded| loaded.unwrap().version() == 28));
    let sent = table.wire.take();
    let is_backward = |place: usize| sent[place].request["ScanIndexForward"] == false;
    // The first one's load, which nobody else may use, for it began before they were called; and one for all the
    // others.
    assert!(is_backward(0) && !is_backward(sent.len() - 1));
    let costs: Vec<_> = sent.iter().map(|exchange| (exchange.operation.as_str(), exchange.units)).collect();
    let metering = Metering::of_tests();
    assert_eq!(costs, [("Query", metering.read(2.0)), ("Query", metering.read(1.0))]);
    let stats = repository.stats();
    assert_eq!((stats.cold_loads, stats.cache_hits), (1, LOADS as u64 - 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn loads_from_many_threads_cost_one_full_load() {
    let table = TestTable::create().await;
    let repository = cached(&table, CacheSettings::new()).build();
    fill(&another(&table), "1", [20, 8]).await;
    table.wire.take();
    let mut loads = tokio::task::JoinSet::new();
    for _ in 0..LOADS {
        let repository = repository.clone();
        loads.spawn(async move { repository.load("1").await.unwrap().version() });
    }
    assert!(loads.join_all().await.into_iter().all(|version| version == 28));
    let full = table.wire.take().iter().filter(|query| query.request["ScanIndexForward"] == false).count();
    assert_eq!((full, repository.stats().cold_loads), (1, 1));
}

#[tokio::test]
async fn a_hit_is_one_request_of_one_unit_and_sees_what_another_has_just_appended() {
    let table = TestTable::create().await;
    let (repository, other) = (cached(&table, CacheSettings::new()).build(), another(&table));
    fill(&repository, "1", [50]).await;
    for _ in 0..3 {
        table.wire.take();
        assert_eq!(repository.load("1").await.unwrap().version(), 50);
        assert_eq!(table.wire.take_costs(), nothing_new(), "what was saved is cached");
    }
    fill(&other, "1", [2]).await;
    table.wire.take();
    let loaded = repository.load("1").await.unwrap();
    assert_eq!((loaded.version(), loaded.state().items), (52, 52));
    let sent = table.wire.take();
    let items = sent[0].answer["Items"].as_array().unwrap().len();
    assert_eq!((sent.len(), items), (1, 3), "what is new, and the event before it");
    let stats = repository.stats();
    assert_eq!((stats.cold_loads, stats.cache_hits), (1, 4));
}

#[tokio::test]
async fn a_loaded_state_stays_as_it_was_when_the_cache_goes_on() {
    let table = TestTable::create().await;
    let repository = cached(&table, CacheSettings::new()).build();
    let old = fill(&repository, "1", [1]).await.loaded;
    fill(&repository, "1", [1]).await;
    assert_eq!((old.state().items, old.version()), (1, 1));
}

#[tokio::test]
async fn within_the_allowed_staleness_a_load_asks_nothing_and_behind_it_everything() {
    let table = TestTable::create().await;
    let (start, passed) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let now = Arc::clone(&passed);
    let repository = cached(&table, CacheSettings::new().staleness(Duration::from_secs(1)))
        .clock(move || start + Duration::from_millis(now.load(SeqCst)))
        .build();
    fill(&another(&table), "1", [3]).await;
    assert_eq!(repository.load("1").await.unwrap().version(), 3);
    fill(&another(&table), "1", [1]).await;
    table.wire.take();

    passed.store(1_000, SeqCst);
    assert_eq!(repository.load("1").await.unwrap().version(), 3);
    assert_eq!(table.wire.take().len(), 0);
    passed.store(1_001, SeqCst);
    assert_eq!(repository.load("1").await.unwrap().version(), 4);
    assert_eq!(table.wire.take_costs(), [("Query".to_owned(), 1.0)], "one event is new");
    // An own save is the newest state, and known to be.
    fill(&repository, "1", [1]).await;
    passed.store(2_000, SeqCst);
    table.wire.take();
    assert_eq!(repository.load("1").await.unwrap().version(), 5);
    assert_eq!((table.wire.take().len(), repository.stats().stale_hits), (0, 3));
}

#[tokio::test]
async fn the_cache_keeps_as_many_streams_as_it_may_those_used_last() {
    let table = TestTable::create().await;
    let other = another(&table);
    for id in ["1", "2", "3"] {
        fill(&other, id, [1]).await;
    }
    let repository = cached(&table, CacheSettings::new().entries(2)).build();
    for (id, cold_loads) in [("1", 1), ("2", 2), ("1", 2), ("3", 3), ("1", 3), ("2", 4)] {
        assert_eq!(repository.load(id).await.unwrap().version(), 1);
        assert_eq!(repository.stats().cold_loads, cold_loads, "after loading {id}");
    }
}

#[tokio::test]
async fn the_cache_keeps_as_many_bytes_as_it_may() {
    let table = TestTable::create().await;
    let other = another(&table);
    for id in ["1", "2", "3"] {
        fill(&other, id, [1]).await;
    }
    // Each state weighs 10,000 bytes, and what is kept beside it less than 1,000.
    let room_for = |bytes| cached(&table, CacheSettings::new().bytes(bytes)).weigh(|_| 10_000).build();
    let two = room_for(22_000);
    for (id, cold_loads) in [("1", 1), ("2", 2), ("1", 2), ("3", 3), ("1", 3), ("2", 4)] {
        two.load(id).await.unwrap();
        assert_eq!(two.stats().cold_loads, cold_loads, "after loading {id}");
    }
    let none = room_for(9_999);
    for cold_loads in 1..=3 {
        assert_eq!(none.load("1").await.unwrap().version(), 1, "larger than the whole cache, and loaded all the same");
        assert_eq!(none.stats().cold_loads, cold_loads);
    }
    let shared = join_all((0..LOADS).map(|_| none.load("1"))).await;
    assert!(shared.into_iter().all(|loaded| loaded.unwrap().version() == 1));
    assert_eq!(none.stats().cold_loads, 5, "loads at once are shared even where nothing is kept");
}

#[tokio::test]
async fn a_state_weighs_what_its_text_does_however_many_events_have_led_to_it() {
    let table = TestTable::create().await;
    // A counter of some 60 bytes, and 15,000 bytes of events. The payloads of 4 KB beyond the last measurement count,
    // too.
    let repository = cached(&table, CacheSettings::new().bytes(9_000)).deduplication_window(0).build();
    fill(&repository, "1", [99; 10]).await;
    table.wire.take();
    assert_eq!(repository.load("1").await.unwrap().version(), 990);
    assert_eq!(table.wire.take_costs(), nothing_new());
}

#[tokio::test]
async fn loads_that_wait_for_one_that_fails_fail_with_it() {
    let table = TestTable::create().await;
    let elsewhere = Repository::<Order>::new(EventStore::new(table.store_client(), "no-such-table"));
    let loads = join_all((0..LOADS).map(|_| elsewhere.load("1"))).await;
    assert!(loads.into_iter().all(|loaded| matches!(loaded, Err(Error::Configuration { .. }))));
    assert_eq!(table.wire.take().len(), 2, "the first one's request, and one for all the others");
}

/// What becomes of a table that is restored under a running service.
#[derive(Clone, Copy, Debug)]
enum Restored {
    Empty,
    Shorter,
    AnotherHistory,
    AnotherAndLonger,
}

/// Deletes the events from `from` on, and their pending entries, past the library.
async fn erase(table: &TestTable, from: u64, to: u64) {
    for version in from..=to {
        for kind in ["event", "pending"] {
            table.delete(&stream("order-1"), &format!("{kind}#{version:020}")).await;
        }
    }
}

#[tokio::test]
async fn g2_g9_a_cached_state_is_given_up_where_the_table_was_restored_and_what_is_executed_is_in_one_history() {
    for restored in [Restored::Empty, Restored::Shorter, Restored::AnotherHistory, Restored::AnotherAndLonger] {
        for with_snapshots in [false, true] {
            let table = TestTable::create().await;
            let builder = if with_snapshots { orders(&table) } else { cached(&table, CacheSettings::new()) };
            let repository = builder.build();
            fill(&repository, "1", [1, 1, 1]).await;
            let (kept, anew) = match restored {
                Restored::Empty => (0, 0),
                Restored::Shorter => (2, 0),
                Restored::AnotherHistory => (1, 2),
                Restored::AnotherAndLonger => (0, 5),
            };
            erase(&table, kept + 1, 3).await;
            if anew > 0 {
                fill(&another(&table), "1", vec![1; anew]).await;
            }
            let expected = kept + anew as u64;

            let loaded = repository.load("1").await.unwrap();
            assert_eq!((loaded.version(), loaded.state().items), (expected, expected), "{restored:?}");
            assert_eq!(repository.stats().cached_states_refuted, 1, "{restored:?}");
            let saved = repository.execute("1", |order| order.add(1)).await.unwrap();
            assert_eq!(saved.loaded.version(), expected + 1, "{restored:?}");
            let truth = another(&table).load("1").await.unwrap();
            assert_eq!((truth.version(), truth.state()), (expected + 1, saved.loaded.state()), "{restored:?}");
            // And it is cached again.
            table.wire.take();
            repository.load("1").await.unwrap();
            assert_eq!(table.wire.take_costs(), nothing_new(), "{restored:?}");
            assert_eq!(repository.stats().cached_states_refuted, 1, "{restored:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_a_decision_that_goes_on_from_a_loaded_state_after_a_conflict_looks_whether_its_history_is_still_there() {
    let table = TestTable::create().await;
    let repository = cached(&table, CacheSettings::new()).cache(None).build();
    for _ in 1..=3 {
        repository.execute("1", |order| order.add(5)).await.unwrap();
    }
    let client = table.client();
    let name = table.name.clone();
    let mut attempts = 0;
    // While the decision is being made for the first time, the stream is begun anew, and goes further.
    let handle = tokio::runtime::Handle::current();
    let saved = repository
        .execute("1", |order| {
            attempts += 1;
            if attempts == 1 {
                let (client, name) = (client.clone(), name.clone());
                tokio::task::block_in_place(|| {
                    handle.block_on(async {
                        for version in 1..=3 {
                            for kind in ["event", "pending"] {
                                let key = |text: String| aws_sdk_dynamodb::types::AttributeValue::S(text);
                                let delete = client.delete_item().table_name(&name);
                                let delete = delete.key("stream_id", key("order-1".to_owned()));
                                delete.key("entity", key(format!("{kind}#{version:020}"))).send().await.unwrap();
                            }
                        }
                        fill(&another(&table), "1", [2, 2, 2]).await;
                    });
                });
            }
            order.add(1)
        })
        .await
        .unwrap();
    assert_eq!((saved.attempts, saved.loaded.version(), saved.loaded.state().items), (2, 7, 7));
    assert_eq!(another(&table).load("1").await.unwrap().state(), saved.loaded.state());
}

#[tokio::test]
async fn without_a_cache_every_load_begins_from_the_table() {
    let table = TestTable::create().await;
    let repository = orders(&table).cache(None).build();
    fill(&repository, "1", [5]).await;
    for _ in 0..2 {
        table.wire.take();
        assert_eq!(repository.load("1").await.unwrap().state().items, 5);
        let sent = table.wire.take();
        // Five events and their pending entry.
        assert_eq!((sent.len(), sent[0].answer["Items"].as_array().unwrap().len()), (1, 6));
    }
}

#[tokio::test]
async fn an_event_of_another_writer_between_load_and_save_is_a_conflict_however_cached() {
    let table = TestTable::create().await;
    let repository = cached(&table, CacheSettings::new()).build();
    let order = fill(&repository, "1", [1]).await.loaded;
    fill(&another(&table), "1", [1]).await;
    let error = repository.save(&order, [OrderEvent::Shipped]).await.unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error}");
    assert_eq!(repository.load("1").await.unwrap().state().items, 2);
}
