//! Aggregates: typed events on a stream, and what happens to those that the program does not know.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use streambox::{
    Error, ExpectedVersion, Invalid, Metadata, NewEvent, StreamIdError,
    aggregate::{
        Aggregate, CommandContext, DecodeError, DomainEvent, EventCodec, Repository, TaggedJson, UnknownEvents,
        Upcasters,
    },
};
use streambox_tests::{
    engine::{TestTable, stream},
    orders::{Order, OrderEvent, fill, orders},
};

fn added(items: u64) -> OrderEvent {
    OrderEvent::ItemsAdded { items }
}

/// Stores events as another program would have.
async fn store(table: &TestTable, id: &str, events: &[(&str, Value)]) {
    let events = events.iter().map(|(event_type, data)| NewEvent::json(*event_type, data).expect("valid"));
    table.store.append(&stream(id), ExpectedVersion::NoStream, events).await.expect("a new stream");
}

#[tokio::test]
async fn typed_events_are_stored_by_type_and_payload_with_the_commands_metadata() {
    let table = TestTable::create().await;
    let repository = orders(&table).build();
    let order = repository.load(7).await.unwrap();
    assert_eq!((order.version(), order.stream().as_str()), (0, "order-7"));
    let metadata = Metadata::new().with(Metadata::CORRELATION_ID, "c-1");

    let events = [added(2), OrderEvent::Weighed(1.0), OrderEvent::Shipped];
    let command = CommandContext::new().with_metadata(metadata.clone());
    let saved = repository.save_with(&order, &command, events).await.unwrap();

    assert_eq!(saved.appended.unwrap().first_version, 1);
    let stored = table.store.read(order.stream()).await.unwrap().events;
    let shown: Vec<_> = stored.iter().map(|event| (event.event_type.as_str(), event.payload.as_str())).collect();
    assert_eq!(shown, [("ItemsAdded", r#"{"items":2}"#), ("Weighed", "1.0"), ("Shipped", "null")]);
    assert!(stored.iter().all(|event| event.metadata == metadata));
    let loaded = orders(&table).build().load(7).await.unwrap();
    assert_eq!((loaded.state(), loaded.version()), (saved.loaded.state(), 3));
    assert_eq!(loaded.position(), saved.loaded.position());
}

#[tokio::test]
async fn a_save_of_nothing_sends_nothing() {
    let table = TestTable::create().await;
    let repository = orders(&table).build();
    let order = fill(&repository, "1", [1]).await.loaded;
    table.wire.take();
    let saved = repository.save(&order, []).await.unwrap();
    assert!(saved.appended.is_none() && saved.loaded.version() == 1);
    assert_eq!(table.wire.take().len(), 0);
}

#[tokio::test]
async fn a_save_behind_another_writer_is_a_conflict_and_changes_nothing() {
    let table = TestTable::create().await;
    let repository = orders(&table).build();
    let old = repository.load("1").await.unwrap();
    fill(&repository, "1", [2]).await;
    let items = table.items().await;
    let error = repository.save(&old, [OrderEvent::Shipped]).await.unwrap_err();
    let Error::Conflict(conflict) = error else { panic!("{error}") };
    assert_eq!(conflict.current.version(), 2);
    assert_eq!((table.items().await, repository.stats().conflicts), (items, 1));
    assert!(!repository.load("1").await.unwrap().state().is_shipped);
}

#[tokio::test]
async fn what_can_not_be_stored_or_read_back_is_refused_before_anything_is_sent() {
    #[derive(Serialize, Deserialize)]
    #[serde(tag = "type", content = "data")]
    enum Secret {
        Told {
            #[serde(skip_serializing)]
            word: String,
        },
    }
    impl DomainEvent for Secret {
        type Codec = TaggedJson;
    }

    #[derive(Debug, Default, Clone, Serialize, Deserialize)]
    struct Keeper;
    impl Aggregate for Keeper {
        type Event = Secret;
        const CATEGORY: &'static str = "keeper";
        fn apply(&mut self, Secret::Told { word }: &Secret) {
            drop(word.clone());
        }
    }
    #[derive(Debug, Default, Clone, Serialize, Deserialize)]
    struct Misnamed;
    impl Aggregate for Misnamed {
        type Event = Secret;
        const CATEGORY: &'static str = "two-words";
        fn apply(&mut self, _: &Secret) {}
    }

    let table = TestTable::create().await;
    let repository = orders(&table).build();
    let order = repository.load("1").await.unwrap();
    let keepers = Repository::<Keeper>::new(table.store.clone());
    let keeper = keepers.load("1").await.unwrap();
    table.wire.take();

    let error = repository.save(&order, [added(1), OrderEvent::Weighed(f64::NAN)]).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid(Invalid::Payload { why, .. }) if why.contains("NaN")), "{error}");
    let error = keepers.save(&keeper, [Secret::Told { word: "x".to_owned() }]).await.unwrap_err();
    let Error::Invalid(Invalid::Payload { event_type, why }) = &error else { panic!("{error}") };
    assert!(event_type == "Told" && why.contains("read back") && why.contains("missing field `word`"), "{error}");
    let error = Repository::<Misnamed>::new(table.store.clone()).load("1").await.unwrap_err();
    assert!(
        matches!(&error, Error::Invalid(Invalid::StreamId(StreamIdError::Malformed { why, .. })) if why.contains("CATEGORY")),
        "{error}"
    );
    let error = repository.load("").await.unwrap_err();
    assert!(matches!(&error, Error::Invalid(Invalid::StreamId(_))), "{error}");
    assert!(NewEvent::json("Weighed", &f64::INFINITY).is_err(), "the plain store refuses it, too");
    assert_eq!((table.wire.take().len(), table.items().await), (0, 0));
}

#[test]
fn an_id_that_has_the_category_in_it_is_refused_with_what_to_give() {
    let error = Repository::<Order>::stream_id("order-7").unwrap_err();
    let Error::Invalid(Invalid::StreamId(StreamIdError::HasCategory { id, category })) = &error else {
        panic!("{error}")
    };
    assert_eq!((id.as_str(), *category), ("order-7", "order"));
    assert!(error.to_string().contains("order-order-7"), "{error}");
    for id in ["order7", "7-order-8"] {
        let order = Repository::<Order>::stream_id(id).unwrap();
        assert_eq!((order.id(), &order), (id, &stream(&format!("order-{id}"))));
    }
}

#[tokio::test]
async fn an_unknown_event_is_an_error_that_names_it_unless_the_aggregate_ignores_it() {
    #[derive(Debug, Default, Clone, Serialize, Deserialize)]
    struct Tolerant(Order);
    impl Aggregate for Tolerant {
        type Event = OrderEvent;
        const CATEGORY: &'static str = "order";
        const UNKNOWN_EVENTS: UnknownEvents = UnknownEvents::Ignore;
        fn apply(&mut self, event: &OrderEvent) {
            self.0.apply(event);
        }
    }

    let table = TestTable::create().await;
    store(&table, "order-1", &[("ItemsAdded", json!({ "items": 3 })), ("Praised", json!({}))]).await;

    let error = orders(&table).build().load("1").await.unwrap_err();
    let Error::UnknownEvent(unknown) = &error else { panic!("{error}") };
    assert_eq!((unknown.stream.as_str(), unknown.version, unknown.event_type.as_str()), ("order-1", 2, "Praised"));

    let tolerant = Repository::<Tolerant>::new(table.store.clone());
    let order = tolerant.load("1").await.unwrap();
    assert_eq!((order.version(), order.state().0.items), (2, 3), "the version counts");
    let saved = tolerant.save(&order, [added(1)]).await.unwrap();
    assert_eq!((saved.loaded.version(), saved.loaded.state().0.items), (3, 4));
}

#[tokio::test]
async fn old_events_are_read_through_the_upcasters_and_stay_as_they_are() {
    #[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
    struct Modern(Order);
    impl Aggregate for Modern {
        type Event = OrderEvent;
        const CATEGORY: &'static str = "order";
        fn apply(&mut self, event: &OrderEvent) {
            self.0.apply(event);
        }
        fn upcasters() -> Upcasters {
            Upcasters::new()
                .rename("ItemAdded", "ItemsAdded")
                .change("ItemsAdded", |mut data| {
                    if data.get("items").is_none() {
                        data = json!({ "items": 1 });
                    }
                    Ok(data)
                })
                .replace("PackedAndShipped", |data| {
                    let weight = data["kilograms"].as_f64().ok_or("no kilograms")?;
                    Ok([("Weighed".to_owned(), json!(weight)), ("Shipped".to_owned(), json!(null))])
                })
                .remove("Viewed")
        }
    }

    let table = TestTable::create().await;
    let old = [
        ("ItemAdded", json!({})),
        ("Viewed", json!({})),
        ("ItemsAdded", json!({ "items": 4 })),
        ("PackedAndShipped", json!({ "kilograms": 2.5 })),
    ];
    store(&table, "order-1", &old).await;
    let loaded = Repository::<Modern>::new(table.store.clone()).load("1").await.unwrap();

    let mut expected = Order::default();
    for event in [added(1), added(4), OrderEvent::Weighed(2.5), OrderEvent::Shipped] {
        expected.apply(&event);
    }
    assert_eq!((&loaded.state().0, loaded.version()), (&expected, 4));
    let stored = table.store.read(&stream("order-1")).await.unwrap().events;
    assert!(stored.iter().zip(&old).all(|(event, old)| event.event_type == old.0), "nothing was rewritten");

    store(&table, "order-2", &[("PackedAndShipped", json!({}))]).await;
    let error = Repository::<Modern>::new(table.store.clone()).load("2").await.unwrap_err();
    let Error::Corrupt(corrupt) = &error else { panic!("{error}") };
    assert!(corrupt.at == "version 1" && corrupt.what.contains("no kilograms"), "{error}");
}

#[tokio::test]
async fn a_payload_that_no_longer_decodes_is_an_error_with_its_place() {
    let table = TestTable::create().await;
    store(&table, "order-1", &[("Shipped", json!(null)), ("ItemsAdded", json!({ "items": "many" }))]).await;
    let error = orders(&table).build().load("1").await.unwrap_err();
    let Error::Corrupt(corrupt) = &error else { panic!("{error}") };
    assert_eq!((corrupt.stream.as_str(), corrupt.at.as_str()), ("order-1", "version 2"));
    assert!(corrupt.what.contains("ItemsAdded") && corrupt.what.contains("invalid type"), "{error}");
}

#[tokio::test]
async fn an_event_type_may_map_itself_by_hand() {
    struct Rung(u32);
    impl DomainEvent for Rung {
        type Codec = ByHand;
    }
    struct ByHand;
    impl EventCodec<Rung> for ByHand {
        fn encode(Rung(times): &Rung) -> Result<NewEvent, Error> {
            let own = Metadata::new().with("bell", "big").with("tone", "c");
            Ok(NewEvent::from_json_text("rung.v2", times.to_string())?.with_metadata(own))
        }
        fn decode(event_type: &str, payload: &str) -> Result<Rung, DecodeError> {
            match event_type {
                "rung.v2" => Ok(Rung(serde_json::from_str(payload)?)),
                "rung" => Ok(Rung(1)),
                _ => Err(DecodeError::UnknownType),
            }
        }
    }
    #[derive(Default, Clone, Serialize, Deserialize)]
    struct Bell(u32);
    impl Aggregate for Bell {
        type Event = Rung;
        const CATEGORY: &'static str = "bell";
        fn apply(&mut self, Rung(times): &Rung) {
            self.0 += times;
        }
    }

    let table = TestTable::create().await;
    store(&table, "bell-1", &[("rung", json!({}))]).await;
    let bells = Repository::<Bell>::new(table.store.clone());
    let command = CommandContext::new().with_metadata(Metadata::new().with("bell", "?").with("by", "hand"));
    let bell = bells.load("1").await.unwrap();
    let saved = bells.save_with(&bell, &command, [Rung(3)]).await.unwrap();
    assert_eq!((saved.loaded.state().0, saved.loaded.version()), (4, 2));
    let stored = table.store.read(bell.stream()).await.unwrap().events.remove(1);
    let metadata = Metadata::new().with("bell", "big").with("by", "hand").with("tone", "c");
    assert_eq!((stored.event_type.as_str(), stored.metadata), ("rung.v2", metadata), "the event's own metadata count");
}
