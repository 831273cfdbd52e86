//! An operator gives up on a pending entry: it is removed, and who did it, when and why stays in the table.

use nix::sys::signal::Signal;
use serde_json::Value;
use streambox::{
    Error,
    ExpectedVersion::{At, NoStream},
    limits::MAX_SKIP_REASON_BYTES,
    outbox::{SkipRequest, Skipping},
};
use streambox_tests::{
    broker::{Inbox, shared_broker_url},
    engine::{TestTable, event, stream},
    metering::{Metering, Put},
    programs::{Finished, Process, run},
    unique,
    wire::Refusal,
};

async fn skip(table: &TestTable, arguments: &[&str]) -> Finished {
    run("streambox-relay", Some(table), None, ["skip"].iter().chain(arguments)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_a_halted_stream_goes_on_after_a_skip_under_a_running_relay_and_the_record_stays() {
    let table = TestTable::create().await;
    let url = shared_broker_url();
    // Nobody listens to what the first event is.
    let mut inbox = Inbox::bound(&url, &unique("events"), "permit.Counted").await.unwrap();
    let permit = stream("permit-1");
    let odd = streambox::NewEvent::json("Odd", &1).unwrap();
    let first = table.store.append(&permit, NoStream, [odd]).await.unwrap();
    table.store.append(&permit, At(first.position), [event(2)]).await.unwrap();
    let arguments = ["run", "--exchange", inbox.exchange(), "--max-retry-delay-ms", "1000"];
    let mut relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    relay.logs("permit.Odd").await;

    let arguments = ["permit-1", "1", "--reason", "nobody wants it", "--by", "ada", "--format", "json"];
    let skipped = skip(&table, &arguments).await;

    assert_eq!(skipped.code(), Some(0), "{}", skipped.stderr);
    let printed: Value = serde_json::from_str(&skipped.stdout).expect("one JSON object");
    assert_eq!((&printed["stream"], &printed["first_version"]), (&"permit-1".into(), &1.into()));
    assert_eq!((&printed["by"], &printed["reason"]), (&"ada".into(), &"nobody wants it".into()));
    assert_eq!(printed["skipped_before"], Value::Bool(false));

    let next = inbox.next().await;
    assert_eq!((next.event.stream_id.as_str(), next.event.version), ("permit-1", 2), "the stream goes on by itself");
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.finish().await.code(), Some(0));
    assert_eq!(table.pending().await, 0);
    assert_eq!(table.store.read(&permit).await.unwrap().events.len(), 2, "the event itself is untouched");
    let records = table.store.outbox().skips(10).await.unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].stream_id.as_str(), records[0].first, records[0].last), ("permit-1", Some(1), 1));
    assert_eq!((records[0].by.as_str(), records[0].reason.as_str()), ("ada", "nobody wants it"));

    let again = skip(&table, &arguments).await;
    let printed: Value = serde_json::from_str(&again.stdout).expect("one JSON object");
    assert_eq!((again.code(), &printed["skipped_before"]), (Some(0), &Value::Bool(true)));
    assert_eq!(table.store.outbox().skips(10).await.unwrap(), records, "no second record");
    inbox.close().await.unwrap();
}

#[tokio::test]
async fn a_skip_of_what_is_not_pending_changes_nothing_and_says_what_is_pending() {
    let table = TestTable::create().await;
    table.fill(&stream("order-1"), 2).await;
    let history = table.store.read(&stream("order-1")).await.unwrap();
    table.store.append(&stream("order-1"), At(history.position), (3..=5).map(event)).await.unwrap();
    let items = table.items().await;

    let missing = skip(&table, &["order-1", "6", "--reason", "a mistake"]).await;
    assert_eq!(missing.code(), Some(1));
    let said = &missing.stderr;
    assert!(said.contains("version 6 of stream order-1 is not pending"), "{said}");
    assert!(said.contains("version 1; version 2; versions 3 to 5"), "{said}");
    let nothing = skip(&table, &["order-2", "1", "--reason", "a mistake"]).await;
    assert!(nothing.stderr.contains("nothing of the stream is"), "{}", nothing.stderr);
    let empty = skip(&table, &["order-1", "1", "--reason", " "]).await;
    assert!(empty.code() == Some(1) && empty.stderr.contains("reason is empty"), "{}", empty.stderr);
    let usage = skip(&table, &["order-1", "0", "--reason", "a mistake"]).await;
    assert_eq!(usage.code(), Some(2), "{}", usage.stderr);
    assert_eq!(table.items().await, items, "nothing was written or removed");
}

#[tokio::test]
async fn a_skip_removes_the_whole_append_that_holds_the_version_and_costs_one_transaction() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.store.append(&order, NoStream, (1..=3).map(event)).await.unwrap();
    table.wire.take();
    let skipping = table.store.outbox().skip(&SkipRequest::new(&order, 2_u64, "ada", "why not")).await.unwrap();
    let Skipping::Done(skip) = skipping else { panic!("{skipping:?}") };
    assert_eq!((skip.first, skip.last), (Some(1), 3));
    let costs = table.wire.take_costs();
    // One KB each of a record and an entry, doubled, and the index.
    // The record is put and the entry, which is in the index, is deleted: 5 units on AWS.
    let units = Metering::of_tests().transaction(&[Put::EVENT, Put::ENTRY]);
    assert_eq!(costs, [("Query".to_owned(), 1.0), ("TransactWriteItems".to_owned(), units)]);
    assert_eq!(table.store.outbox().scan(None, 10).await.unwrap().streams, []);
    assert_eq!(table.items().await, 4, "three events and the record");
}

#[tokio::test]
async fn a_skip_whose_answer_is_lost_is_done_once() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.fill(&order, 1).await;
    table.wire.lose_answers("TransactWriteItems", 1);
    let skipping = table.store.outbox().skip(&SkipRequest::new(&order, 1_u64, "ada", "why not")).await.unwrap();
    assert!(matches!(skipping, Skipping::Done(_)), "{skipping:?}");
    assert_eq!(table.store.outbox().skips(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_damaged_entry_can_be_skipped_by_its_last_version() {
    use aws_sdk_dynamodb::types::AttributeValue;
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.store.append(&order, NoStream, (1..=3).map(event)).await.unwrap();
    let damaged = table.client().update_item().table_name(&table.name);
    let damaged = damaged.key("stream_id", AttributeValue::S("order-1".to_owned()));
    let damaged = damaged.key("entity", AttributeValue::S(format!("pending#{:020}", 3)));
    let damaged = damaged.expression_attribute_values(":damage", AttributeValue::N("4".to_owned()));
    damaged.update_expression("SET first_version = :damage").send().await.expect("the engine updates");

    let outbox = table.store.outbox();
    // All that is known of it is its last version.
    let second = outbox.skip(&SkipRequest::new(&order, 2_u64, "ada", "it is damaged")).await.unwrap();
    assert_eq!(second, Skipping::NotPending { pending: vec![(None, 3)], has_more: false });
    let skipping = outbox.skip(&SkipRequest::new(&order, 3_u64, "ada", "it is damaged")).await.unwrap();
    let Skipping::Done(skip) = skipping else { panic!("{skipping:?}") };
    assert_eq!((skip.first, skip.last), (None, 3));
    assert_eq!(table.pending().await, 0);
}

#[tokio::test]
async fn only_the_first_pending_entry_can_be_skipped_and_only_when_the_one_before_is_known_to_be_published() {
    let table = TestTable::create().await;
    let (order, outbox) = (stream("order-1"), table.store.outbox());
    table.fill(&order, 3).await;
    let second = outbox.skip(&SkipRequest::new(&order, 2_u64, "ada", "why not")).await.unwrap();
    assert_eq!(second, Skipping::NotFirst { first: (Some(1), 1) });
    let refused = skip(&table, &["order-1", "3", "--reason", "why not"]).await;
    assert!(
        refused.code() == Some(1) && refused.stderr.contains("is pending, version 1: only the first"),
        "{}",
        refused.stderr
    );

    // The consistent Query does not show the first entry yet: the serializable read does.
    table.wire.hide("pending#00000000000000000001", 2);
    let again = outbox.skip(&SkipRequest::new(&order, 2_u64, "ada", "why not")).await.unwrap();
    assert_eq!(again, Skipping::NotFirst { first: (Some(1), 1) });
    assert_eq!(table.pending().await, 3, "nothing was removed");

    outbox.delete(&[streambox::outbox::PendingKey { stream_id: order.clone(), last: 1 }]).await.unwrap();
    assert!(matches!(
        outbox.skip(&SkipRequest::new(&order, 2_u64, "ada", "why not")).await.unwrap(),
        Skipping::Done(_)
    ));
}

/// Three appends of which somebody has erased the first, event and entry.
async fn first_append_erased() -> TestTable {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.fill(&order, 3).await;
    table.delete(&order, "event#00000000000000000001").await;
    table.delete(&order, "pending#00000000000000000001").await;
    table
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_an_entry_whose_previous_append_was_erased_is_skipped_only_by_a_flag_that_is_recorded() {
    let table = first_append_erased().await;
    let url = shared_broker_url();
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    let arguments = ["run", "--exchange", inbox.exchange(), "--retry-delay-ms", "10", "--max-retry-delay-ms", "10"];
    let mut relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    // The relay's message has the command to run, ready to copy.
    let halted = relay.log_line("is halted at version 2").await;
    assert!(halted.contains("streambox-relay skip") && halted.contains("--give-up-previous"), "{halted}");

    let arguments = ["order-1", "2", "--reason", "erased on request", "--by", "ada", "--format", "json"];
    let refused = skip(&table, &arguments).await;
    assert_eq!((refused.code(), refused.stdout.as_str()), (Some(1), ""), "{}", refused.stderr);
    let said = &refused.stderr;
    for part in ["entry of version 2", "Its last public version is 1", "--give-up-previous", "recorded"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("unavailable"), "{said}");
    assert_eq!(table.pending().await, 2, "nothing was removed");

    let given_up = skip(&table, &[&arguments[..], &["--give-up-previous"]].concat()).await;
    assert_eq!(given_up.code(), Some(0), "{}", given_up.stderr);
    let printed: Value = serde_json::from_str(&given_up.stdout).expect("one JSON object");
    assert_eq!((&printed["first_version"], &printed["gave_up_previous"]), (&2.into(), &1.into()));
    let records = table.store.outbox().skips(10).await.unwrap();
    assert_eq!((records.len(), records[0].first, records[0].gave_up_previous), (1, Some(2), Some(1)));

    let next = inbox.next().await;
    assert_eq!((next.event.stream_id.as_str(), next.event.version), ("order-1", 3), "the stream goes on behind it");
    table.wait_for_nothing_pending().await;
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.finish().await.code(), Some(0));
    inbox.close().await.unwrap();
}

#[tokio::test]
async fn a_previous_append_that_is_there_is_never_given_up() {
    let table = TestTable::create().await;
    let (order, outbox) = (stream("order-1"), table.store.outbox());
    table.fill(&order, 2).await;
    // Its entry is pending, and only the Query does not show it.
    table.wire.hide("pending#00000000000000000001", u32::MAX);
    let request = SkipRequest::new(&order, 2_u64, "ada", "why not").giving_up_previous();
    assert_eq!(outbox.skip(&request).await.unwrap(), Skipping::NotFirst { first: (None, 1) });
    assert_eq!(table.pending().await, 2, "nothing was removed");

    table.wire.clear_faults();
    outbox.delete(&[streambox::outbox::PendingKey { stream_id: order.clone(), last: 1 }]).await.unwrap();
    let Skipping::Done(skip) = outbox.skip(&request).await.unwrap() else { panic!("it is skipped") };
    assert_eq!(skip.gave_up_previous, None, "it was published");
}

#[tokio::test]
async fn a_skip_that_other_transactions_are_in_the_way_of_says_so() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.fill(&order, 1).await;
    let request = SkipRequest::new(&order, 1_u64, "ada", "why not");
    table.wire.refuse("TransactWriteItems", Refusal::TransactionConflict, 100);
    let error = table.store.outbox().skip(&request).await.unwrap_err();
    assert!(matches!(error, Error::Busy { attempts: 8, .. }), "{error}");
    assert_eq!(table.pending().await, 1);
    table.wire.clear_faults();
    assert!(matches!(table.store.outbox().skip(&request).await.unwrap(), Skipping::Done(_)));
}

#[tokio::test]
async fn the_newest_skips_come_first_and_long_texts_are_refused() {
    let table = TestTable::create().await;
    let (order, outbox) = (stream("order-1"), table.store.outbox());
    table.fill(&order, 3).await;
    for version in 1..=3_u64 {
        outbox.skip(&SkipRequest::new(&order, version, "ada", "why not")).await.unwrap();
    }
    let newest: Vec<_> = outbox.skips(2).await.unwrap().into_iter().map(|skip| skip.at_ms).collect();
    assert!(newest.len() == 2 && newest[0] >= newest[1], "{newest:?}");
    let long = "x".repeat(MAX_SKIP_REASON_BYTES + 1);
    let error = outbox.skip(&SkipRequest::new(&order, 1_u64, "ada", &long)).await.unwrap_err();
    assert!(error.to_string().contains("reason is too long: at most 1024 bytes, got 1025"), "{error}");
}
