//! Commands that are recognised for ever, by a marker beside their events.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use streambox::{
    Error, EventStore,
    ExpectedVersion::{Any, At},
    Invalid, NewEvent, ScanOptions, Uuid,
    aggregate::{CommandContext, Decision, Loaded, Repository, Saved},
};
use streambox_tests::{
    engine::{TestTable, client, stream},
    metering::{Metering, Put},
    orders::{Order, OrderEvent, Refusal, fill, orders},
    programs::run,
    wire::Wire,
};
use tokio::{runtime::Handle, task::JoinSet, task::block_in_place};

use crate::append::transaction::{count, item, own_table};

const WINDOW: u64 = 10;
/// Far more than the window.
const FOLLOWING: [usize; 4] = [99, 99, 99, 3];

fn added(items: u64) -> OrderEvent {
    OrderEvent::ItemsAdded { items }
}

fn for_ever() -> CommandContext {
    CommandContext::new().with_id_for_ever(Uuid::new_v4())
}

/// A repository as another process has it, with a small window and nothing cached.
fn another(table: &TestTable) -> Repository<Order> {
    Repository::builder(table.another().0).cache(None).deduplication_window(WINDOW).build()
}

/// Executes a command that was carried out before.
async fn repeat(repository: &Repository<Order>, command: &CommandContext) -> Saved<Order> {
    let panics = |_: &Loaded<Order>| -> Result<Vec<OrderEvent>, Refusal> { panic!("decided again") };
    repository.execute_with("1", command, panics).await.expect("it was carried out before")
}

fn is_repeat_of(repeat: &Saved<Order>, first: &Saved<Order>) -> bool {
    let (repeat, first) = (repeat.appended.as_ref().expect("an append"), first.appended.as_ref().expect("an append"));
    let result = |append: &streambox::Appended| {
        (append.append_id, append.first_version, append.position.clone(), append.recorded_at_ms)
    };
    repeat.already_stored && result(repeat) == result(first)
}

fn operations(table: &TestTable) -> Vec<String> {
    table.wire.take().into_iter().map(|exchange| exchange.operation).collect()
}

async fn has_no_findings(table: &TestTable) {
    let verification = table.store.verify(&ScanOptions::new()).expect("valid options");
    let found: Vec<_> = verification.try_collect().await.expect("the engine answers");
    assert_eq!(found, []);
}

#[tokio::test]
async fn g3_a_command_for_ever_is_recognised_by_every_process_however_many_events_have_followed() {
    let table = TestTable::create().await;
    let command = for_ever();
    let here = orders(&table).deduplication_window(WINDOW).build();
    fill(&here, "1", [1; 2]).await;
    let first = here.execute_with("1", &command, |_| Ok::<_, Refusal>([added(2), added(3)])).await.unwrap();
    fill(&another(&table), "1", FOLLOWING).await;
    let items = table.items().await;

    let snapshotting = orders(&table).deduplication_window(WINDOW).snapshot_when(|_| true).build();
    for repository in [here, another(&table), snapshotting] {
        let repeat = repeat(&repository, &command).await;
        assert!(is_repeat_of(&repeat, &first), "{repeat:?}");
        assert_eq!((repeat.loaded.version(), repeat.attempts), (304, 0), "the aggregate is as it is now");
        assert_eq!(repository.stats().repeats, 1);
        // Decided on what is there now.
        let loaded = repository.load("1").await.unwrap();
        let saved = repository.save_with(&loaded, &command, [added(9)]).await.unwrap();
        assert!(is_repeat_of(&saved, &first) && saved.returned.is_none(), "{saved:?}");
    }
    assert_eq!(table.items().await, items, "nothing was written");
    // A repeat at the place of the first, and one where another event has the place.
    let stale = another(&table);
    let loaded = stale.load("2").await.unwrap();
    let saved = stale.save_with(&loaded, &command, [added(1)]).await.unwrap();
    assert!(!saved.appended.as_ref().unwrap().already_stored, "another stream is another place");
    assert!(is_repeat_of(&stale.save_with(&loaded, &command, [added(9)]).await.unwrap(), &saved));
    has_no_findings(&table).await;
}

/// What the promise of an id without a marker ends at.
#[tokio::test]
async fn an_id_without_a_marker_is_not_recognised_beyond_the_window() {
    let table = TestTable::create().await;
    let command = CommandContext::new().with_id(Uuid::new_v4());
    another(&table).execute_with("1", &command, |order| order.add(2)).await.unwrap();
    fill(&another(&table), "1", [10]).await;
    let late = another(&table).execute_with("1", &command, |order| order.add(2)).await.unwrap();
    assert!(!late.appended.unwrap().already_stored);
}

#[tokio::test]
async fn g3_the_result_of_a_repeat_is_good_for_the_next_append() {
    let table = TestTable::create().await;
    let repository = orders(&table).deduplication_window(0).build();
    let command = for_ever();
    let first = repository.execute_with("1", &command, |order| order.add(2)).await.unwrap();
    let repeat = repeat(&repository, &command).await;
    assert!(is_repeat_of(&repeat, &first));
    let position = repeat.appended.unwrap().position;
    let next = NewEvent::json("ItemsAdded", &json!({ "items": 1 })).unwrap();
    table.store.append(&stream("order-1"), At(position), [next]).await.unwrap();
    has_no_findings(&table).await;
}

#[tokio::test]
async fn g3_a_command_for_ever_whose_answer_is_lost_is_found_stored_whenever_it_comes_again() {
    let table = TestTable::create().await;
    let wire = Wire::new();
    let impatient = EventStore::builder(client(table.url(), Some(&wire)), &table.name)
        .operation_timeout(Duration::from_secs(2))
        .build();
    let command = for_ever();
    wire.lose_answers("TransactWriteItems", u32::MAX);
    let impatient = Repository::<Order>::new(impatient);
    let error = impatient.execute_with("1", &command, |order| order.add(2)).await.unwrap_err();
    assert!(error.to_string().contains("unavailable"), "{error}");
    fill(&another(&table), "1", FOLLOWING).await;
    let repeat = repeat(&another(&table), &command).await;
    assert_eq!((repeat.appended.unwrap().first_version, repeat.loaded.state().items), (1, 302));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn g3_one_command_for_ever_in_many_processes_at_once_is_stored_once() {
    let table = TestTable::create().await;
    fill(&another(&table), "1", [20]).await;
    let command = for_ever();
    let mut processes = JoinSet::new();
    for process in 0..8 {
        let (repository, command) = (another(&table), command.clone());
        processes.spawn(async move {
            let saved = repository.execute_with("1", &command, |order| order.add(process + 1)).await.unwrap();
            (saved.loaded.state().items, saved.appended.unwrap().already_stored)
        });
    }
    let results = processes.join_all().await;
    let order = another(&table).load("1").await.unwrap();
    assert_eq!(order.version(), 21);
    assert!(results.iter().all(|(items, _)| *items == order.state().items), "{results:?}");
    assert_eq!(results.iter().filter(|(_, already_stored)| !already_stored).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_a_second_delivery_that_is_quicker_is_recognised_by_the_transaction_itself() {
    let table = TestTable::create().await;
    let emails = own_table(&table).await;
    fill(&another(&table), "1", [20]).await;
    let (command, other) = (for_ever(), another(&table));
    let execute = |items| Decision::new([added(items)]).item(count(&emails, "commands"));
    let mut first = None;
    let saved = another(&table)
        .execute_with("1", &command, |_| {
            let quicker = async {
                // Another command has the place, so that only the marker shows that this one was carried out.
                other.execute("1", |order| order.add(1)).await.unwrap();
                other.execute_with("1", &command, |_| Ok::<_, Refusal>(execute(5))).await.unwrap()
            };
            first = Some(block_in_place(|| Handle::current().block_on(quicker)));
            Ok::<_, Refusal>(execute(7))
        })
        .await
        .unwrap();
    assert!(is_repeat_of(&saved, &first.unwrap()), "{saved:?}");
    assert_eq!((saved.returned, saved.loaded.version(), saved.loaded.items), (None, 22, 26));
    assert_eq!(saved.attempts, 1, "not by what is read after a conflict");
    assert_eq!(item(&table, &emails, "commands").await.unwrap()["times"].as_n().unwrap(), "1");
}

/// The condition of the marker is what counts, not the read before the decision.
#[tokio::test]
async fn g3_a_marker_that_was_not_seen_before_the_decision_refuses_the_transaction() {
    let table = TestTable::create().await;
    let repository = orders(&table).deduplication_window(WINDOW).build();
    let command = for_ever();
    let first = repository.execute_with("1", &command, |order| order.add(2)).await.unwrap();
    fill(&repository, "1", [20]).await;
    let items = table.items().await;
    table.wire.take();
    table.wire.set_fault(|exchange| {
        if exchange.operation == "GetItem" {
            exchange.answer = json!({});
        }
    });
    let saved = repository.execute_with("1", &command, |order| order.add(9)).await.unwrap();
    table.wire.clear_faults();
    assert!(is_repeat_of(&saved, &first) && saved.returned.is_none(), "{saved:?}");
    // The load, the marker, the refused transaction, and the aggregate as it is now.
    assert_eq!(operations(&table), ["Query", "GetItem", "TransactWriteItems", "Query"]);
    assert_eq!(table.items().await, items, "nothing was written");
}

#[tokio::test]
async fn g1_g3_a_transaction_for_ever_is_recognised_by_any_of_its_aggregates() {
    let table = TestTable::create().await;
    let emails = own_table(&table).await;
    let repository = another(&table);
    let (command, log) = (for_ever(), stream("log-1"));
    let note = || NewEvent::json("Noted", &"moved").unwrap();
    fill(&repository, "1", [5]).await;
    let (one, two) = (repository.load("1").await.unwrap(), repository.load("2").await.unwrap());
    let first = repository.transaction(&one, &command, [added(1)]).unwrap().and(&repository, &two, [added(2)]).unwrap();
    let first = first.append(&log, Any, [note()]).item(count(&emails, "moves")).commit().await.unwrap();
    assert_eq!(first.appends.iter().map(|append| append.position.version()).collect::<Vec<_>>(), [6, 1, 1]);
    for id in ["1", "2"] {
        fill(&repository, id, FOLLOWING).await;
    }
    table.store.append(&log, Any, [note()]).await.unwrap();
    let items = table.items().await;

    let (one, two) = (repository.load("1").await.unwrap(), repository.load("2").await.unwrap());
    let both = repository.transaction(&two, &command, [added(1)]).unwrap().and(&repository, &one, [added(1)]).unwrap();
    let both = both.append(&log, Any, [note()]).item(count(&emails, "moves")).commit().await.unwrap();
    // The first aggregate needs no event any more.
    let second = repository.transaction(&one, &command, []).unwrap().and(&repository, &two, [added(2)]).unwrap();
    let second = second.commit().await.unwrap();
    for (repeat, expected) in [(both, vec![1, 0, 2]), (second, vec![1])] {
        assert!(repeat.already_stored);
        let found: Vec<_> = repeat.appends.iter().map(|append| (append.first_version, &append.position)).collect();
        let expected = expected.into_iter().map(|place: usize| &first.appends[place]);
        assert_eq!(found, expected.map(|append| (append.first_version, &append.position)).collect::<Vec<_>>());
    }
    assert_eq!(table.items().await, items, "nothing was written");
    assert_eq!(item(&table, &emails, "moves").await.unwrap()["times"].as_n().unwrap(), "1");

    // By the marker's condition alone, which leaves the other stream to be searched.
    let (store, wire) = table.another();
    let blind = Repository::<Order>::builder(store).cache(None).deduplication_window(WINDOW).build();
    wire.set_fault(|exchange| {
        if exchange.operation == "GetItem" {
            exchange.answer = json!({});
        }
    });
    let blind = blind.transaction(&one, &command, [added(1)]).unwrap().append(&log, Any, [note()]);
    let blind = blind.commit().await.unwrap();
    let positions: Vec<_> = blind.appends.iter().map(|append| append.position.version()).collect();
    assert_eq!((blind.already_stored, positions), (true, vec![6, 1]));
    has_no_findings(&table).await;
}

#[tokio::test]
async fn a_command_for_ever_costs_two_write_units_more_and_one_read_unit_beyond_the_window() {
    let table = TestTable::create().await;
    let repository = orders(&table).deduplication_window(WINDOW).build();
    let metering = Metering::of_tests();
    let (read, marked) = (metering.read(1.0), metering.transaction(&[Put::EVENT, Put::ENTRY, Put::MARKER]));
    let none = metering.empty_read(1.0);
    let cost = |operation: &str, units: f64| (operation.to_owned(), units);
    repository.load("1").await.unwrap();
    table.wire.take();
    let command = for_ever();
    let saved = repository.execute_with("1", &command, |order| order.add(1)).await.unwrap();
    assert!((saved.appended.unwrap().write_units - marked).abs() < 1e-9, "the caller is told");
    assert_eq!(table.wire.take_costs(), [cost("Query", none), cost("TransactWriteItems", marked)]);

    fill(&repository, "1", [9]).await;
    table.wire.take();
    // The window is all of the stream.
    repeat(&repository, &command).await;
    assert_eq!(table.wire.take_costs(), [cost("Query", read)]);
    repository.execute_with("1", &for_ever(), |order| order.add(1)).await.unwrap();
    assert_eq!(table.wire.take_costs(), [cost("Query", read), cost("TransactWriteItems", marked)]);

    // Now it is not.
    repeat(&repository, &command).await;
    assert_eq!(table.wire.take_costs(), [cost("Query", read), cost("GetItem", read)]);
    let other = for_ever();
    repository.execute_with("1", &other, |order| order.add(1)).await.unwrap();
    // One that finds nothing costs the same, on DynamoDB Local as well, which does not count such a Query.
    let expected = [cost("Query", read), cost("GetItem", read), cost("TransactWriteItems", marked)];
    assert_eq!(table.wire.take_costs(), expected);
    repeat(&repository, &other).await;
    assert_eq!(table.wire.take_costs(), [cost("Query", read)], "it is within the window");
    repository.execute("1", |order| order.add(1)).await.unwrap();
    let plain = metering.append(1);
    assert_eq!(table.wire.take_costs(), [cost("Query", read), cost("TransactWriteItems", plain)]);

    // A command without an event leaves nothing.
    let items = table.items().await;
    let nothing = repository.execute_with("1", &for_ever(), |_| Ok::<_, Refusal>(Vec::new())).await.unwrap();
    assert!(nothing.appended.is_none());
    assert_eq!(table.items().await, items);
}

#[tokio::test]
async fn a_cold_load_and_every_scan_pass_over_markers() {
    let table = TestTable::create().await;
    let repository = orders(&table).build();
    for id in ["1", "2"] {
        for _ in 0..3 {
            repository.execute_with(id, &for_ever(), |order| order.add(1)).await.unwrap();
        }
    }
    table.wire.take();
    let cold = orders(&table).build();
    assert_eq!(cold.load("1").await.unwrap().items, 3);
    let sent = table.wire.take();
    let items = sent[0].answer["Items"].as_array().unwrap();
    assert_eq!((sent.len(), items.len()), (1, 6), "three events and their pending entries");

    // Each page ends behind one item, which may be a marker; a scan is resumed behind each event.
    let page = ScanOptions::new().segments(1).page_items(1);
    let mut versions = Vec::new();
    let mut token = None;
    loop {
        let options = token.take().map_or(page.clone(), |token| page.clone().resume(token));
        let mut scan = table.store.scan_events(&options).unwrap();
        let Some(event) = scan.try_next().await.unwrap() else { break };
        versions.push((event.stream_id.to_string(), event.version));
        token = Some(scan.token());
    }
    versions.sort();
    let expected = ["1", "2"].map(|id| (1..=3).map(move |version| (format!("order-{id}"), version)));
    assert_eq!(versions, expected.into_iter().flatten().collect::<Vec<_>>());
    let streams: Vec<_> = table.store.scan_streams(&page).unwrap().try_collect().await.unwrap();
    assert!(streams.len() == 2 && streams.iter().all(|stream| (stream.version, stream.events) == (3, 3)));

    // An export has events alone.
    let exported = run("streambox", Some(&table), None, ["export"]).await;
    assert!(exported.stdout.lines().count() == 6 && !exported.stdout.contains("command#"), "{exported:?}");
    // The relay's queries and its index have none, either.
    let first = table.store.outbox().scan(None, 1_000).await.unwrap();
    assert_eq!(first.streams.len(), 6, "one for each pending entry");
    table.publish_all(&stream("order-1")).await;
    assert_eq!(table.items().await, 18 - 3, "nothing but its pending entries was deleted");
    has_no_findings(&table).await;
}

#[tokio::test]
async fn g1_a_marker_counts_among_the_items_of_a_transaction() {
    let table = TestTable::create().await;
    let repository = orders(&table).build();
    let loaded = repository.load("1").await.unwrap();
    table.wire.take();
    let command = for_ever();
    let error = repository.save_with(&loaded, &command, vec![added(1); 99]).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(Invalid::TooManyItems { limit: 100, items: 101 })), "{error}");
    assert!(table.wire.take().is_empty(), "nothing is sent");
    let saved = repository.save_with(&loaded, &command, vec![added(1); 98]).await.unwrap();
    assert_eq!(saved.loaded.version(), 98);
    assert_eq!(table.items().await, 100);
}

#[tokio::test]
async fn g3_a_damaged_marker_is_an_error_and_the_command_is_not_carried_out_again() {
    let table = TestTable::create().await;
    let repository = another(&table);
    let command = CommandContext::new().with_id_for_ever(Uuid::from_u128(7));
    repository.execute_with("1", &command, |order| order.add(2)).await.unwrap();
    fill(&repository, "1", [20]).await;
    let key = format!("command#{}", Uuid::from_u128(7));
    table
        .set(&stream("order-1"), &key, "append_last", aws_sdk_dynamodb::types::AttributeValue::N("0".to_owned()))
        .await;
    for sees_it in [true, false] {
        let (store, wire) = table.another();
        wire.set_fault(move |exchange| {
            if exchange.operation == "GetItem" && !sees_it {
                exchange.answer = Value::Object(serde_json::Map::new());
            }
        });
        let repository = Repository::<Order>::builder(store).deduplication_window(WINDOW).build();
        let error = repository.execute_with("1", &command, |order| order.add(9)).await.unwrap_err().to_string();
        assert!(error.contains(&key) && error.contains("append_last"), "{error}");
    }
    assert_eq!(repository.load("1").await.unwrap().version(), 21);
}
