//! What the feature `testing` gives to users.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    panic::{AssertUnwindSafe, catch_unwind},
};

use futures_util::FutureExt as _;
use serde_json::json;
use streambox::{
    ExpectedVersion, Metadata, NewEvent,
    aggregate::Decision,
    testing::{self, EmbeddedDynamoDb, Given},
};
use streambox_tests::{
    engine::{event, stream},
    orders::{Order, OrderEvent, Refusal},
    programs::Process,
};
use tokio::net::TcpStream;

fn added(items: u64) -> OrderEvent {
    OrderEvent::ItemsAdded { items }
}

/// What a check that fails says.
fn failure(check: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(check)).expect_err("the check fails");
    *panic.downcast::<String>().expect("a formatted message")
}

#[test]
fn a_decision_is_checked_by_its_events_its_error_or_its_silence() {
    let placed = || Given::<Order>::events([added(2)]);
    placed().when(|order| order.ship()).then([OrderEvent::Shipped]).then_state(|order| assert!(order.is_shipped));
    Given::<Order>::events([added(2), OrderEvent::Shipped]).when(|order| order.ship()).then_nothing();
    Given::<Order>::nothing().when(|order| order.ship()).then_error(Refusal::Empty);
    Given::state(Order { is_shipped: true, ..Order::default() })
        .when(|order| order.add(1))
        .then_error(Refusal::Shipped);
    let stored = Given::<Order>::stored([("ItemsAdded", json!({ "items": 3 })), ("Weighed", json!(1.5))]);
    stored.when(|order| order.add(1)).then([added(1)]).then_state(|order| assert_eq!(order.items, 4));
    assert_eq!(placed().when(|order| order.ship()).into_decision().unwrap().events(), [OrderEvent::Shipped]);
}

#[test]
fn a_decision_sees_the_version_of_the_given_history_and_its_value_is_checked() {
    let versions =
        |given: Given<Order>| given.when(|order| Ok::<_, Refusal>(Decision::new([]).returning(order.version())));
    versions(Given::events([added(2), added(1)])).then_nothing().then_returned(2);
    versions(Given::stored([("ItemsAdded", json!({ "items": 3 }))])).then_returned(1);
    versions(Given::nothing().at_version(7)).then_returned(7);
    let said = failure(|| {
        versions(Given::nothing()).then_returned(1);
    });
    assert!(said.contains("- 1") && said.contains("+ 0"), "{said}");
}

#[test]
fn a_check_that_fails_shows_the_difference_line_by_line() {
    let outcome = || Given::<Order>::nothing().when(|order| order.add(5));
    let said = failure(|| {
        outcome().then([added(4)]);
    });
    assert_eq!(
        said,
        "other events than expected\n- expected, + actual\n  [\n      ItemsAdded {\n-         items: 4,\n+         items: 5,\n      },\n  ]\n"
    );
    let said = failure(|| {
        outcome().then_error(Refusal::Empty);
    });
    assert!(said.contains("- Empty") && said.contains("+     ItemsAdded"), "{said}");
    let said = failure(|| {
        Given::<Order>::nothing().when(|order| order.ship()).then_nothing();
    });
    assert!(said.contains("rejected") && said.contains("+ Empty"), "{said}");
    let said = failure(|| {
        outcome().then_nothing();
    });
    assert!(said.contains("+         items: 5"), "{said}");
    let said = failure(|| {
        Given::<Order>::events([added(1)]).when(|order| order.ship()).then_error(Refusal::Empty);
    });
    assert!(said.contains("an error was expected") && said.contains("+     Shipped"), "{said}");
}

#[test]
fn an_event_that_can_not_be_stored_or_read_fails_the_test() {
    let said = failure(|| {
        let _ = Given::<Order>::events([OrderEvent::Weighed(f64::NAN)]);
    });
    assert!(said.contains("can't be stored") && said.contains("JSON has no NaN"), "{said}");
    let said = failure(|| {
        let _ = Given::<Order>::stored([("Unheard", json!(null))]);
    });
    assert!(said.contains("Unheard can't be read: the type is not known"), "{said}");
}

#[tokio::test]
async fn a_handler_gets_every_public_event_once_and_each_stream_in_order() {
    let store = testing::event_store().await;
    let secret = NewEvent::json("Secret", &1).unwrap().private();
    for id in ["order-2", "order-1"] {
        let events = [event(1), secret.clone(), event(3)];
        store.append(&stream(id), ExpectedVersion::NoStream, events).await.unwrap();
    }
    let mut seen = Vec::new();
    testing::deliver(&store, async |event| {
        seen.push((event.stream_id.to_string(), event.version));
        Ok::<_, Refusal>(())
    })
    .await;
    seen.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = [("order-1", 1), ("order-1", 3), ("order-2", 1), ("order-2", 3)];
    assert_eq!(seen, expected.map(|(id, version)| (id.to_owned(), version)));
}

#[tokio::test]
async fn a_handler_that_does_not_drop_what_it_has_seen_is_found_and_a_failure_names_seed_and_event() {
    let store = testing::event_store().await;
    store.append(&stream("order-1"), ExpectedVersion::NoStream, [event(1), event(2)]).await.unwrap();
    let (mut seen, mut count) = (BTreeSet::new(), 0);
    let delivered = testing::deliver_shuffled(&store, 7, async |event| {
        count += 1;
        if seen.insert(event.version) { Ok(()) } else { Err(Refusal::Shipped) }
    });
    let panic = AssertUnwindSafe(delivered).catch_unwind().await.expect_err("an event comes twice");
    let said = panic.downcast::<String>().expect("a formatted message");
    assert!(said.starts_with(&format!("delivery {count} (seed 7): order-1 ")), "{said}");
    assert!(said.ends_with(": the handler returned Shipped"), "{said}");
}

#[test]
fn an_event_is_made_without_a_store() {
    let (order, metadata) =
        (stream("order-1"), Metadata::new().with("clerk", "Ada").with(Metadata::CORRELATION_ID, "c-1"));
    let new = || event(7).with_metadata(metadata.clone());
    let recorded = testing::recorded(&order, 3, new());
    assert_eq!((&recorded.stream_id, recorded.version, recorded.is_private), (&order, 3, false));
    assert_eq!((&recorded.payload, &recorded.metadata), (&new().payload_text().to_owned(), &metadata));
    assert_eq!(recorded, testing::recorded(&order, 3, new()));
    assert_ne!(recorded.event_id(), testing::recorded(&order, 4, new()).event_id());
    assert!(testing::recorded(&order, 3, new().private()).is_private);
    let received = testing::received(&order, 3, new());
    assert_eq!((received.event_id, received.recorded_at_ms), (recorded.event_id(), recorded.recorded_at_ms));
    assert_eq!(received.metadata, Metadata::new().with(Metadata::CORRELATION_ID, "c-1"));
}

#[tokio::test]
async fn an_embedded_store_is_one_line_and_alone_in_its_engine() {
    let (one, other) = (testing::event_store().await, testing::event_store().await);
    let order = stream("order-1");
    one.append(&order, ExpectedVersion::NoStream, [event(1)]).await.unwrap();
    assert_eq!(one.read(&order).await.unwrap().position.version(), 1);
    assert_eq!(other.read(&order).await.unwrap().position.version(), 0);
}

#[tokio::test]
async fn a_store_for_a_test_is_made_on_the_engine_that_the_environment_names() {
    let engine = EmbeddedDynamoDb::start().await;
    let variables = [(testing::ENDPOINT_VARIABLE, OsStr::new(engine.url()))];
    let example = Process::start_with("examples/order_service", None, None, &variables, [""; 0]);
    let finished = example.finish().await;
    assert!(finished.status.success(), "{}", finished.stderr);
    let tables = engine.client().list_tables().send().await.unwrap();
    assert_eq!(tables.table_names().len(), 1, "{:?}", tables.table_names());
}

/// What resolves beside the engine depends on it: the table in the documentation was made for this version.
#[test]
fn the_documentation_names_the_sqlite_that_the_engine_brings() {
    let docs = include_str!("../../../../store/src/testing/mod.rs");
    let lock = include_str!("../../../../Cargo.lock");
    for name in ["libsqlite3-sys", "rusqlite"] {
        let (_, package) = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).expect("a package");
        let minor = package.split('"').next().and_then(|version| version.rsplit_once('.')).expect("a version").0;
        assert!(docs.contains(&format!("{name} {minor}")), "{name} is {minor} now: try anew what resolves beside it");
    }
}

#[tokio::test]
async fn an_engine_runs_as_long_as_a_store_uses_it_and_no_longer() {
    let engine = EmbeddedDynamoDb::start().await;
    let address = engine.url().trim_start_matches("http://").to_owned();
    let store = engine.event_store().await;
    drop(engine);
    assert_eq!(store.read(&stream("order-1")).await.unwrap().position.version(), 0);
    drop(store);
    let ended = async {
        while TcpStream::connect(&address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(streambox_tests::PATIENCE, ended).await.expect("the engine ends");
}
