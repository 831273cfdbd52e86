//! The inbox: positions, parked streams, skips, generations. Each with what it costs.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use streambox::{Error, ExpectedVersion::NoStream, Misconfiguration, StreamId, TableCreation, message::Received};
use streambox_consumer::{
    Applied, ApplyError, Context, Handler, HandlerError, Inbox, MAX_OWN_ITEMS, Noted, Position, Projection,
    RebuildProgress, SkipRequest, Skipping, WaitError, check_inbox_table, create_inbox_table,
};
use streambox_tests::{
    engine::{TestTable, event, stream},
    inboxes::{InboxTable, received},
    metering::{Metering, Put},
    unique,
    wire::Refusal,
};

use crate::append::transaction::{count, own_table, reserve};

/// What the tests take for now.
const NOW_MS: i64 = 1_780_000_000_000;

fn costs(expected: &[(&str, f64)]) -> Vec<(String, f64)> {
    expected.iter().map(|(operation, units)| ((*operation).to_owned(), *units)).collect()
}

fn order() -> StreamId {
    stream("order-1")
}

fn at(event: &Received) -> Position {
    Position { version: event.version, event_id: Some(event.event_id) }
}

/// Applies versions 1 to `last`, without items.
async fn apply_all(inbox: &Inbox, last: u64) {
    for version in 1..=last {
        let event = received("order-1", version, version.checked_sub(1).filter(|previous| *previous > 0));
        assert_eq!(inbox.apply(&event, version - 1, vec![]).await.expect("it works"), Applied::Stored);
    }
}

/// Counts each event, by the type, in a table of its own.
struct Counting {
    table: String,
    /// Which events have no effect.
    is_idle: bool,
}

impl Handler for Counting {
    async fn handle(&self, event: &Received, context: &Context<'_>) -> Result<Vec<TransactWriteItem>, HandlerError> {
        if event.version == 13 {
            return Err("thirteen".into());
        }
        let name = format!("{}@{}", event.event_type, context.generation());
        Ok(if self.is_idle { vec![] } else { vec![count(&self.table, &name)] })
    }
}

async fn counted(events: &TestTable, table: &str, name: &str) -> u64 {
    let get = events.client().get_item().table_name(table).consistent_read(true);
    let item = get.key("email", AttributeValue::S(name.to_owned())).send().await.expect("it works").item;
    item.map_or(0, |item| item["times"].as_n().expect("it works").parse().expect("it works"))
}

#[tokio::test]
async fn an_event_without_items_is_one_write_unit_and_no_read() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    let projection = table.inbox.projection(Counting { table: "none".to_owned(), is_idle: true });
    let (first, third) = (received("order-1", 1, None), received("order-1", 3, Some(1)));
    assert_eq!(projection.apply(&first, 0).await.unwrap(), Applied::Stored);
    assert_eq!(projection.apply(&third, 1).await.unwrap(), Applied::Stored);
    assert_eq!(table.wire.take_costs(), costs(&[("UpdateItem", 1.0), ("UpdateItem", 1.0)]));

    assert_eq!(projection.position(&order()).await.unwrap(), at(&third));
    assert_eq!(projection.position(&stream("order-2")).await.unwrap(), Position::default());
    assert_eq!(table.wire.take_costs(), costs(&[("GetItem", 1.0), ("GetItem", 1.0)]));
}

#[tokio::test]
async fn an_event_with_n_items_is_one_transaction_of_2n_plus_2_write_units() {
    let events = TestTable::create().await;
    let (table, own) = (InboxTable::create(&events).await, own_table(&events).await);
    for (last, items) in [(0, 1), (1, 10), (2, MAX_OWN_ITEMS)] {
        let effect = (0..items).map(|number| count(&own, &format!("{last}-{number}"))).collect();
        let event = received("order-1", last + 1, None);
        assert_eq!(table.inbox.apply(&event, last, effect).await.unwrap(), Applied::Stored);
        let [position, effect] = [1, items].map(|puts| Metering::of_tests().transaction(&vec![Put::EVENT; puts]));
        let units = position + effect;
        assert_eq!(table.wire.take_costs(), costs(&[("TransactWriteItems", units)]), "{items} items");
    }
    assert_eq!(counted(&events, &own, "2-98").await, 1);
}

#[tokio::test]
async fn an_event_at_another_position_has_no_effect_and_says_that_it_moved() {
    let events = TestTable::create().await;
    let (table, own) = (InboxTable::create(&events).await, own_table(&events).await);
    let projection = table.inbox.projection(Counting { table: own.clone(), is_idle: false });
    for version in [1, 2] {
        projection.apply(&received("order-1", version, None), version - 1).await.unwrap();
    }
    for (version, last) in [(1, 0), (2, 1), (3, 1), (4, 3)] {
        let event = received("order-1", version, None);
        assert_eq!(projection.apply(&event, last).await.unwrap(), Applied::Moved, "{version} behind {last}");
        let idle = table.inbox.apply(&event, last, vec![]).await.unwrap();
        assert_eq!(idle, Applied::Moved, "{version} behind {last}, without items");
    }
    assert_eq!(counted(&events, &own, "Counted@1").await, 2);
    assert_eq!(projection.position(&order()).await.unwrap().version, 2);
}

#[tokio::test]
async fn each_consumer_and_each_generation_has_positions_of_its_own() {
    let events = TestTable::create().await;
    let (table, own) = (InboxTable::create(&events).await, own_table(&events).await);
    let second = table.inbox.clone().generation(2);
    let other = Inbox::new(table.client(), &table.name, "invoices").unwrap();
    let event = received("order-1", 1, None);
    for inbox in [&table.inbox, &second, &other] {
        let projection = inbox.projection(Counting { table: own.clone(), is_idle: false });
        assert_eq!(projection.apply(&event, 0).await.unwrap(), Applied::Stored);
    }
    assert_eq!((counted(&events, &own, "Counted@1").await, counted(&events, &own, "Counted@2").await), (2, 1));
    let item = table.item("order-1", "free-seats@2").await.expect("the format is public");
    assert_eq!(item["last_version"], AttributeValue::N("1".to_owned()));
    assert_eq!(item["last_event_id"].as_b().unwrap().as_ref(), event.event_id.as_bytes());
    assert_eq!(item.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_inboxes_that_apply_the_same_events_at_once_have_each_effect_once() {
    const EVENTS: u64 = 30;
    let events = TestTable::create().await;
    let (table, own) = (InboxTable::create(&events).await, own_table(&events).await);
    let race = |inbox: Inbox| {
        let projection = inbox.projection(Counting { table: own.clone(), is_idle: false });
        tokio::spawn(async move {
            let mut stored = 0;
            for version in 1..=EVENTS {
                if version != 13 {
                    let last = if version == 14 { 12 } else { version - 1 };
                    let event = received("order-1", version, None);
                    stored += u64::from(projection.apply(&event, last).await.unwrap() == Applied::Stored);
                }
            }
            stored
        })
    };
    let racers = [race(table.inbox.clone()), race(table.another().0)];
    let mut stored = 0;
    for racer in racers {
        stored += racer.await.unwrap();
    }
    assert_eq!((stored, counted(&events, &own, "Counted@1").await), (EVENTS - 1, EVENTS - 1));
    assert_eq!(table.inbox.position(&order()).await.unwrap().version, EVENTS);
}

#[tokio::test]
async fn an_event_whose_answers_are_lost_takes_effect_once_and_the_position_says_so() {
    let events = TestTable::create().await;
    let (table, own) = (InboxTable::create(&events).await, own_table(&events).await);
    let effect = |event: &Received| vec![count(&own, &event.event_type)];
    // With items the repeat has the token of the first, and its answer.
    let first = received("order-1", 1, None);
    table.wire.lose_answers("TransactWriteItems", 5);
    assert_eq!(table.inbox.apply(&first, 0, effect(&first)).await.unwrap(), Applied::Stored);
    let sent = table.wire.take();
    assert!(sent.len() == 6 && sent.iter().all(|exchange| exchange.request == sent[0].request));
    // Without, it meets its own position.
    let second = received("order-1", 2, Some(1));
    table.wire.lose_answers("UpdateItem", 5);
    assert_eq!(table.inbox.apply(&second, 1, vec![]).await.unwrap(), Applied::Moved);
    assert_eq!(table.inbox.position(&order()).await.unwrap(), at(&second), "so that the consumer drops it");
    // The process has ended, and another one repeats it with another token.
    assert_eq!(table.another().0.apply(&first, 0, effect(&first)).await.unwrap(), Applied::Moved);
    assert_eq!(counted(&events, &own, "Counted").await, 1);
}

#[tokio::test]
async fn answers_that_stay_lost_are_unavailable_with_an_unknown_outcome() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    let impatient = table.inbox.clone().operation_timeout(Duration::from_millis(300));
    for operation in ["UpdateItem", "TransactWriteItems"] {
        table.wire.refuse(operation, Refusal::Throttled, u32::MAX);
        let items = if operation == "UpdateItem" { vec![] } else { vec![count("any", "a")] };
        let error = impatient.apply(&received("order-1", 1, None), 0, items).await.unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("apply an event of order-1"), "{error}");
        table.wire.clear_faults();
    }
}

#[tokio::test]
async fn other_transactions_and_missing_capacity_are_tried_again() {
    let events = TestTable::create().await;
    let (table, own) = (InboxTable::create(&events).await, own_table(&events).await);
    let refusals = [
        ("UpdateItem", Refusal::ItemConflict),
        ("UpdateItem", Refusal::Throttled),
        ("TransactWriteItems", Refusal::TransactionConflict),
        ("TransactWriteItems", Refusal::Throttled),
    ];
    for (last, (operation, refusal)) in (0..).zip(refusals) {
        table.wire.refuse(operation, refusal, 4);
        let items = if operation == "UpdateItem" { vec![] } else { vec![count(&own, "a")] };
        let applied = table.inbox.apply(&received("order-1", last + 1, None), last, items).await.unwrap();
        assert_eq!(applied, Applied::Stored, "{operation} {refusal:?}");
    }
}

#[tokio::test]
async fn an_item_that_is_refused_by_its_condition_is_named_and_nothing_is_stored() {
    let events = TestTable::create().await;
    let (table, own) = (InboxTable::create(&events).await, own_table(&events).await);
    let (first, second) = (received("order-1", 1, None), received("order-1", 2, Some(1)));
    let effect = |name: &str| vec![count(&own, name), reserve(&own, "ann@example.org", "customer-7")];
    table.inbox.apply(&first, 0, effect("a")).await.unwrap();
    let error = table.inbox.apply(&second, 1, effect("b")).await.unwrap_err();
    let Error::ItemRefused(refused) = error else { panic!("{error}") };
    assert_eq!(refused.position, 1);
    assert_eq!(refused.item.expect("it was asked for")["owner"].as_s().unwrap(), "customer-7");
    assert_eq!(counted(&events, &own, "b").await, 0);
    assert_eq!(table.inbox.position(&order()).await.unwrap().version, 1);
    // Of an event that was applied before, the position decides.
    assert_eq!(table.inbox.apply(&first, 0, effect("a")).await.unwrap(), Applied::Moved);
}

#[tokio::test]
async fn what_can_not_be_stored_is_refused_before_anything_is_sent() {
    let events = TestTable::create().await;
    let (table, own) = (InboxTable::create(&events).await, own_table(&events).await);
    let event = received("order-1", 1, None);
    let large = |number: u32| reserve(&own, &number.to_string(), &"x".repeat(399 * 1024));
    for (items, says) in [
        ((0..=MAX_OWN_ITEMS).map(|number| count(&own, &number.to_string())).collect(), "at most 100 items"),
        (vec![count(&table.name, "a")], "item 0 of the caller's own: it is in the table of streambox itself"),
        (vec![TransactWriteItem::builder().build()], "exactly one of put, update"),
        ((0..11).map(large).collect(), "too large"),
    ] {
        let items: Vec<_> = items;
        let error = table.inbox.apply(&event, 0, items).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains(says), "{error}");
    }
    assert!(table.wire.take().is_empty());
    for (table_name, consumer) in [("inbox", "free seats"), ("inbox", ""), ("i", "free-seats")] {
        let error = Inbox::new(table.client(), table_name, consumer).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    }
}

#[tokio::test]
async fn a_missing_table_is_named_whether_it_is_the_inboxs_or_the_handlers() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    let event = received("order-1", 1, None);
    let error = table.inbox.apply(&event, 0, vec![count("read-model", "a")]).await.unwrap_err();
    assert!(error.to_string().contains("item 0 (an update in table read-model) of the caller's own"), "{error}");
    let missing = Inbox::new(table.client(), "no-inbox", "free-seats").unwrap();
    for error in [
        missing.position(&order()).await.unwrap_err(),
        missing.apply(&event, 0, vec![]).await.unwrap_err(),
        missing.park(&order(), "no", 1, NOW_MS).await.unwrap_err(),
        missing.due(NOW_MS, 10).await.unwrap_err(),
        missing.apply(&event, 0, vec![count("read-model", "a")]).await.unwrap_err(),
    ] {
        let Error::Configuration { problem, .. } = error else { panic!("{error}") };
        assert!(
            matches!(*problem, Misconfiguration::MissingTable { ref table, .. } if table == "no-inbox"),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn a_handlers_error_is_its_own() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    let projection = table.inbox.projection(Counting { table: String::new(), is_idle: true });
    let error = projection.apply(&received("order-1", 13, None), 0).await.unwrap_err();
    assert!(matches!(&error, ApplyError::Handler(why) if why.to_string() == "thirteen"), "{error}");
    assert!(!error.is_retryable() && table.wire.take().is_empty());
}

#[tokio::test]
async fn a_stream_is_parked_noted_claimed_applied_and_unparked() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    let (inbox, order) = (table.inbox.clone().clock(|| at_ms(NOW_MS)), order());
    apply_all(&inbox, 2).await;
    table.wire.take();
    let index = 1.0;

    inbox.park(&order, "no such seat", 3, NOW_MS + 1_000).await.unwrap();
    assert_eq!(table.wire.take_costs(), costs(&[("UpdateItem", 1.0 + index)]));
    // A message that is dropped while it is parked is a write unit. A refused write is charged as well, and its error does not say so.
    for (version, reported) in [(4, 1.0), (6, 1.0), (5, 0.0), (3, 0.0)] {
        assert_eq!(inbox.note_latest(&order, version).await.unwrap(), Noted::Noted);
        assert_eq!(table.wire.take_costs(), costs(&[("UpdateItem", reported)]), "version {version}");
    }
    assert_eq!(inbox.note_latest(&stream("order-2"), 1).await.unwrap(), Noted::NotParked);
    assert_eq!(table.item("order-2", "free-seats@1").await, None);
    table.wire.take();

    assert_eq!(inbox.due(NOW_MS, 10).await.unwrap(), []);
    assert_eq!(table.wire.take_costs(), costs(&[("Query", Metering::of_tests().empty_read(0.5))]));
    let due = inbox.due(NOW_MS + 1_000, 10).await.unwrap();
    assert_eq!(table.wire.take_costs(), costs(&[("Query", 0.5)]));
    assert_eq!((due.len(), &due[0].stream_id, due[0].retry_at_ms), (1, &order, NOW_MS + 1_000));
    let claimed = inbox.claim(&order, due[0].retry_at_ms, NOW_MS + 9_000).await.unwrap().expect("it is due");
    assert_eq!(table.wire.take_costs(), costs(&[("UpdateItem", 1.0 + 2.0 * index)]));
    assert_eq!((claimed.position.version, claimed.attempts, claimed.latest_version), (2, 2, 6));
    assert_eq!((claimed.parked_since_ms, claimed.retry_at_ms), (NOW_MS, NOW_MS + 9_000));
    assert_eq!(claimed.reason, "no such seat");
    let too_late = table.another().0.claim(&order, due[0].retry_at_ms, NOW_MS + 8_000).await.unwrap();
    assert_eq!(too_late, None);

    // It failed again, at a version that the mark is beyond.
    inbox.park(&order, "still no such seat", 3, NOW_MS + 20_000).await.unwrap();
    let parked = inbox.parked(10).await.unwrap();
    assert!(!parked.has_more && parked.streams.len() == 1, "{parked:?}");
    let again = &parked.streams[0];
    assert_eq!((again.attempts, again.latest_version, again.parked_since_ms), (2, 6, NOW_MS));
    assert_eq!((again.reason.as_str(), again.retry_at_ms), ("still no such seat", NOW_MS + 20_000));
    table.wire.take();

    // What is applied does not touch the mark, whose end is not reached before the latest version is.
    for version in 3..=5 {
        inbox.apply(&received("order-1", version, None), version - 1, vec![]).await.unwrap();
    }
    assert_eq!(table.wire.take_costs(), costs(&[("UpdateItem", 1.0); 3]));
    assert_eq!(inbox.unpark(&order, 5).await.unwrap(), Some(6), "its message was acknowledged");
    assert_eq!(inbox.parked_stream(&order).await.unwrap().expect("it is parked").latest_version, 6);
    inbox.apply(&received("order-1", 6, Some(5)), 5, vec![]).await.unwrap();
    table.wire.take();
    assert_eq!(inbox.unpark(&order, 6).await.unwrap(), None);
    assert_eq!(table.wire.take_costs(), costs(&[("UpdateItem", 1.0 + index)]));
    assert_eq!(inbox.unpark(&order, 6).await.unwrap(), None, "it was unparked before");
    assert_eq!(inbox.note_latest(&order, 7).await.unwrap(), Noted::NotParked);
    assert_eq!((inbox.due(i64::MAX, 10).await.unwrap(), inbox.count_parked().await.unwrap()), (vec![], 0));
    assert_eq!(table.item("order-1", "free-seats@1").await.unwrap().len(), 4, "the position and nothing else");
}

fn at_ms(ms: i64) -> std::time::SystemTime {
    std::time::UNIX_EPOCH + Duration::from_millis(ms.unsigned_abs())
}

#[tokio::test]
async fn a_stream_of_which_nothing_is_applied_can_be_parked() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    let (inbox, order) = (&table.inbox, order());
    inbox.park(&order, &"x".repeat(1_000), 2, NOW_MS).await.unwrap();
    assert_eq!(inbox.position(&order).await.unwrap(), Position::default());
    let parked = inbox.parked_stream(&order).await.unwrap().unwrap();
    assert_eq!((parked.reason.len(), parked.attempts), (500, 1));
    apply_all(inbox, 2).await;
    assert_eq!(inbox.unpark(&order, 2).await.unwrap(), None);
    assert_eq!(inbox.position(&order).await.unwrap().version, 2);
}

#[tokio::test]
async fn the_index_has_only_what_is_parked_in_the_order_in_which_it_is_due() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    let inbox = &table.inbox;
    apply_all(inbox, 1).await;
    for (number, retry_at_ms) in [(2, 30), (3, 10), (4, 20)] {
        inbox.park(&stream(&format!("order-{number}")), "no", 1, retry_at_ms).await.unwrap();
    }
    inbox.clone().generation(2).park(&order(), "no", 1, 5).await.unwrap();
    let names = |due: Vec<streambox_consumer::DueStream>| -> Vec<_> {
        due.into_iter().map(|due| due.stream_id.as_str().to_owned()).collect()
    };
    assert_eq!(names(inbox.due(25, 10).await.unwrap()), ["order-3", "order-4"]);
    assert_eq!(names(inbox.due(25, 1).await.unwrap()), ["order-3"]);
    let parked = inbox.parked(2).await.unwrap();
    assert!(parked.has_more && parked.streams.len() == 2, "{parked:?}");
    assert_eq!(inbox.count_parked().await.unwrap(), 3);

    // An operator's word comes first.
    let soon = inbox.clone().clock(|| at_ms(1));
    assert!(soon.retry(&stream("order-2")).await.unwrap() && !soon.retry(&stream("order-9")).await.unwrap());
    assert_eq!(table.item("order-9", "free-seats@1").await, None);
    assert_eq!(names(inbox.due(25, 10).await.unwrap()), ["order-2", "order-3", "order-4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_consumers_that_claim_a_stream_one_gets_it() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    table.inbox.park(&order(), "no", 1, 10).await.unwrap();
    let claims = (0..8).map(|number| {
        let inbox = table.another().0;
        tokio::spawn(async move { inbox.claim(&order(), 10, 100 + number).await.unwrap() })
    });
    let mut claimed = 0;
    for claim in claims.collect::<Vec<_>>() {
        claimed += u32::from(claim.await.unwrap().is_some());
    }
    assert_eq!(claimed, 1);
    assert_eq!(table.inbox.parked_stream(&order()).await.unwrap().unwrap().attempts, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_is_not_removed_while_messages_are_acknowledged_by_it() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    for round in 1..=20 {
        let stream = stream(&format!("order-{round}"));
        table.inbox.park(&stream, "no", 1, 10).await.unwrap();
        let (noting, unparking) = ((table.another().0, stream.clone()), (table.another().0, stream.clone()));
        let noted = tokio::spawn(async move { noting.0.note_latest(&noting.1, 2).await.unwrap() });
        let unparked = tokio::spawn(async move { unparking.0.unpark(&unparking.1, 1).await.unwrap() });
        let (noted, unparked) = (noted.await.unwrap(), unparked.await.unwrap());
        assert_eq!(noted == Noted::Noted, unparked.is_some(), "round {round}: one of them was first");
    }
}

#[tokio::test]
async fn the_next_public_event_can_be_skipped_and_the_record_says_who_and_why() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    let (inbox, order) = (table.inbox.clone().clock(|| at_ms(NOW_MS)), order());
    let history = [event(1), event(2).private(), event(3), event(4)];
    events.store.append(&order, NoStream, history).await.unwrap();
    let read = events.store.read(&order).await.unwrap().events;
    let skip = async |version, reason| {
        inbox.skip(&SkipRequest::new(&order, version, "ann@desk", reason), Some(&events.store)).await
    };
    inbox.apply(&received("order-1", 1, None), 0, vec![]).await.unwrap();
    inbox.park(&order, "no such seat", 4, NOW_MS + 60_000).await.unwrap();

    for (version, next) in [(2, Some(3)), (4, Some(3)), (7, Some(3))] {
        let skipping = skip(version, "a test").await.unwrap();
        assert!(matches!(skipping, Skipping::NotNext { next: found, .. } if found == next), "{skipping:?}");
    }
    let Skipping::Applied(position) = skip(1, "a test").await.unwrap() else { panic!("1 is applied") };
    assert_eq!(position.version, 1);
    table.wire.take();
    let Skipping::Done(done) = skip(3, "a test").await.unwrap() else { panic!("3 is next") };
    let sent: Vec<_> = table.wire.take_costs().into_iter().map(|(operation, _)| operation).collect();
    assert_eq!(sent, ["GetItem", "TransactWriteItems"]);
    assert_eq!((done.first, done.version, done.at_ms), (2, 3, NOW_MS));
    assert_eq!(inbox.position(&order).await.unwrap(), Position { version: 3, event_id: Some(read[2].event_id()) });
    // 4 follows, whose message may have been acknowledged.
    let parked = inbox.parked_stream(&order).await.unwrap().expect("it stays parked");
    assert_eq!((parked.retry_at_ms, parked.attempts, parked.latest_version), (NOW_MS, 0, 4));
    assert_eq!(skip(3, "again").await.unwrap(), Skipping::DoneBefore(done.clone()));

    // Behind the last one nothing follows, and the mark goes.
    let later = inbox.clone().clock(|| at_ms(NOW_MS + 1));
    let request = SkipRequest::new(&order, 4, "bob@desk", "another");
    let Skipping::Done(last) = later.skip(&request, Some(&events.store)).await.unwrap() else { panic!("4 is next") };
    assert_eq!((inbox.parked_stream(&order).await.unwrap(), inbox.count_parked().await.unwrap()), (None, 0));
    assert_eq!(inbox.skips(10).await.unwrap(), [last, done]);
    assert_eq!(inbox.clone().generation(2).skips(10).await.unwrap(), []);
    assert!(matches!(skip(5, "none").await.unwrap(), Skipping::NotNext { next: None, .. }));
    for (by, reason) in [("", "a"), ("ann", " "), ("ann", &"x".repeat(1_025))] {
        let error = inbox.skip(&SkipRequest::new(&order, 5, by, reason), None).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    }
}

#[tokio::test]
async fn without_the_events_table_the_operators_word_counts_and_the_record_has_all_versions() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    apply_all(&table.inbox, 2).await;
    let request = SkipRequest::new(&order(), 5, "ann", "lost by the other team");
    let Skipping::Done(skip) = table.inbox.skip(&request, None).await.unwrap() else { panic!("nothing is in the way") };
    assert_eq!((skip.first, skip.version), (3, 5));
    assert_eq!(table.inbox.position(&order()).await.unwrap(), Position { version: 5, event_id: None });
    table.inbox.apply(&received("order-1", 6, Some(5)), 5, vec![]).await.unwrap();
    assert!(matches!(table.inbox.skip(&request, None).await.unwrap(), Skipping::DoneBefore(_)));
}

#[tokio::test]
async fn a_skip_whose_answer_is_lost_is_recorded_once() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    table.wire.lose_answers("TransactWriteItems", 2);
    let request = SkipRequest::new(&order(), 1, "ann", "a test");
    assert!(matches!(table.inbox.skip(&request, None).await.unwrap(), Skipping::Done(_)));
    assert_eq!(table.inbox.skips(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn readers_use_generation_1_until_another_one_is_switched_to() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    let second = table.inbox.clone().generation(2);
    assert_eq!(second.current_generation().await.unwrap(), 1);
    assert_eq!(second.switch_generation(2).await.unwrap(), 1);
    assert_eq!(table.another().0.current_generation().await.unwrap(), 2);
    let other = Inbox::new(table.client(), &table.name, "invoices").unwrap();
    assert_eq!(other.current_generation().await.unwrap(), 1);
    assert_eq!(second.switch_generation(1).await.unwrap(), 2, "and back");
    assert_eq!(second.current_generation().await.unwrap(), 1);
}

#[tokio::test]
async fn the_progress_of_a_rebuild_is_kept_for_each_generation() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    events.fill(&order(), 3).await;
    let scan = events.store.scan_events(&streambox::ScanOptions::new()).unwrap();
    let second = table.inbox.clone().generation(2);
    assert_eq!(second.rebuild_progress().await.unwrap(), None);
    let begun = RebuildProgress::default();
    let half = RebuildProgress { token: Some(scan.token()), events: 2, streams: 1, is_complete: false };
    let done = RebuildProgress { is_complete: true, events: 3, ..half.clone() };
    for progress in [begun, half, done] {
        second.set_rebuild_progress(&progress).await.unwrap();
        assert_eq!(second.rebuild_progress().await.unwrap(), Some(progress));
    }
    assert_eq!(table.inbox.rebuild_progress().await.unwrap(), None);
}

#[tokio::test]
async fn a_reader_waits_for_its_own_writes_and_learns_where_the_stream_is_if_they_do_not_come() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    let (order, long, short) = (order(), Duration::from_mins(1), Duration::from_millis(200));
    apply_all(&table.inbox, 1).await;
    let waiting = {
        let (inbox, order) = (table.another().0, order.clone());
        tokio::spawn(async move { inbox.wait_until(&order, 2, long).await })
    };
    table.inbox.apply(&received("order-1", 2, Some(1)), 1, vec![]).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().version, 2);

    let error = table.inbox.wait_until(&order, 3, short).await.unwrap_err();
    assert!(matches!(error, WaitError::Timeout { version: 3, position: Position { version: 2, .. }, .. }), "{error}");
    table.inbox.park(&order, "no such seat", 3, NOW_MS).await.unwrap();
    let error = table.inbox.wait_until(&order, 3, short).await.unwrap_err().to_string();
    let says = "version 3 of stream order-1 was not applied within 200ms: it is at version 2, and parked after 1 attempts: no such seat";
    assert_eq!(error, says);
    let missing = Inbox::new(table.client(), "no-inbox", "free-seats").unwrap();
    assert!(matches!(missing.wait_until(&order, 1, long).await, Err(WaitError::Inbox(Error::Configuration { .. }))));
}

#[tokio::test]
async fn a_damaged_item_is_corrupt_and_named() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let put = table.client().put_item().table_name(&table.name).item("last_version", text("three"));
    put.item("stream_id", text("order-1")).item("consumer", text("free-seats@1")).send().await.unwrap();
    let error = table.inbox.position(&order()).await.unwrap_err();
    assert_eq!(error.to_string(), "stream order-1, free-seats@1 in the inbox: last_version is not a number");
}

#[tokio::test]
async fn a_table_that_was_created_is_as_it_is_expected_and_another_one_is_not() {
    let events = TestTable::create().await;
    let name = unique("inbox");
    assert_eq!(create_inbox_table(&events.client(), &name).await.unwrap(), TableCreation::Created);
    assert_eq!(create_inbox_table(&events.client(), &name).await.unwrap(), TableCreation::Existed);
    assert_eq!(check_inbox_table(&events.client(), &name).await.unwrap().differences, []);
    let said = check_inbox_table(&events.client(), &events.name).await.unwrap().differences;
    let said: Vec<_> = said.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "the sort key of the table is `entity`, not `consumer`: it can't be changed, create another table",
            "the index `parked` is missing, and without it no parked stream is tried again: add it (partition key `consumer` S, sort \
             key `retry_at` N, KEYS_ONLY)",
        ]
    );
    let error = Inbox::new(events.client(), &events.name, "free-seats").unwrap().position(&order()).await.unwrap_err();
    let Error::Configuration { problem, .. } = error else { panic!("{error}") };
    assert!(matches!(*problem, Misconfiguration::WrongKeySchema { keys: ["stream_id", "consumer"], .. }), "{problem}");
}

#[tokio::test]
async fn the_lag_is_what_is_public_and_not_applied_by_stream_and_in_all() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    let all = |categories: &[&str]| categories.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    for (id, history, applied) in [
        // Up to date; behind private events alone; behind; nothing applied; nothing public.
        ("order-1", vec![event(1), event(2)], 2),
        ("order-2", vec![event(1), event(2).private(), event(3).private()], 1),
        ("order-3", vec![event(1), event(2), event(3), event(4), event(5).private()], 1),
        ("invoice-1", vec![event(1)], 0),
        ("invoice-2", vec![event(1).private()], 0),
    ] {
        events.store.append(&stream(id), NoStream, history).await.unwrap();
        for version in 1..=applied {
            table.inbox.apply(&received(id, version, None), version - 1, vec![]).await.unwrap();
        }
    }
    table.wire.take();
    events.wire.take();
    let lag = table.inbox.lag(&events.store, &all(&[]), 10).await.unwrap();
    assert_eq!((lag.streams, lag.streams_behind, lag.versions_behind, lag.unreadable_streams), (4, 2, 4, 0));
    let furthest: Vec<_> = lag.furthest.iter().map(|lag| (lag.stream_id.as_str(), lag.versions_behind)).collect();
    assert_eq!(furthest, [("order-3", 3), ("invoice-1", 1)]);
    assert_eq!((lag.furthest[0].last_public_version, lag.furthest[0].applied_version), (4, 1));
    assert!(lag.oldest_recorded_at_ms.is_some());
    let sent: Vec<_> = table.wire.take_costs().into_iter().map(|(operation, _)| operation).collect();
    assert_eq!(sent, ["BatchGetItem"], "all positions by one request");
    let read = events.wire.take().into_iter().filter(|exchange| exchange.operation == "GetItem").count();
    assert_eq!(read, 4, "the newest event of each stream whose newest version is not applied");

    let orders = table.inbox.lag(&events.store, &all(&["order"]), 1).await.unwrap();
    assert_eq!((orders.streams, orders.streams_behind, orders.furthest.len()), (3, 1, 1));
    let both = table.inbox.lag(&events.store, &all(&["order", "invoice"]), 1).await.unwrap();
    assert_eq!((both.streams, both.streams_behind, both.furthest.len()), (4, 2, 1));
    assert_eq!(both.furthest[0].stream_id, stream("order-3"));
    let other = table.inbox.clone().generation(2).lag(&events.store, &all(&[]), 0).await.unwrap();
    assert_eq!((other.streams_behind, other.versions_behind, other.furthest.len()), (4, 8, 0));
}

#[tokio::test]
async fn the_lag_of_more_streams_than_one_request_reads_is_complete() {
    let events = TestTable::create().await;
    let table = InboxTable::create(&events).await;
    for number in 1..=130 {
        let id = format!("order-{number}");
        events.store.append(&stream(&id), NoStream, [event(1)]).await.unwrap();
        if number % 2 == 0 {
            table.inbox.apply(&received(&id, 1, None), 0, vec![]).await.unwrap();
        }
    }
    let lag = table.inbox.lag(&events.store, &BTreeSet::new(), 5).await.unwrap();
    assert_eq!((lag.streams, lag.streams_behind, lag.furthest.len()), (130, 65, 5));
}
