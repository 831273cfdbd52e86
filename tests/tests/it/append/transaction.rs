//! Appends to several streams, and items of the caller's own, in one transaction.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, ConditionCheck, KeySchemaElement, KeyType, Put,
    ReturnValuesOnConditionCheckFailure, ScalarAttributeType, TransactWriteItem, Update,
};
use streambox::{
    Error,
    ExpectedVersion::{Any, At, Exact, NoStream},
    Invalid, Uuid,
    aggregate::CommandContext,
};
use streambox_tests::{
    engine::{TestTable, event, stream},
    metering::{self, Metering},
    orders::{OrderEvent, orders},
    unique,
};

/// A table of the caller's own, with one text as its key.
pub(crate) async fn own_table(table: &TestTable) -> String {
    let name = unique("emails");
    let key = KeySchemaElement::builder()
        .attribute_name("email")
        .key_type(KeyType::Hash)
        .build()
        .expect("all fields are set");
    let attribute = AttributeDefinition::builder()
        .attribute_name("email")
        .attribute_type(ScalarAttributeType::S)
        .build()
        .expect("all fields are set");
    let create = table.client().create_table().table_name(&name).key_schema(key).attribute_definitions(attribute);
    create.billing_mode(BillingMode::PayPerRequest).send().await.expect("the engine answers");
    name
}

/// A put that reserves an address, if nobody has it.
pub(crate) fn reserve(table: &str, email: &str, owner: &str) -> TransactWriteItem {
    let put = Put::builder()
        .table_name(table)
        .item("email", AttributeValue::S(email.to_owned()))
        .item("owner", AttributeValue::S(owner.to_owned()))
        .condition_expression("attribute_not_exists(email)")
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .expect("all fields are set");
    TransactWriteItem::builder().put(put).build()
}

pub(crate) fn count(table: &str, name: &str) -> TransactWriteItem {
    let update = Update::builder()
        .table_name(table)
        .key("email", AttributeValue::S(name.to_owned()))
        .update_expression("ADD times :one")
        .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
        .build()
        .expect("all fields are set");
    TransactWriteItem::builder().update(update).build()
}

pub(crate) async fn item(
    table: &TestTable,
    name: &str,
    email: &str,
) -> Option<std::collections::HashMap<String, AttributeValue>> {
    let get = table.client().get_item().table_name(name).key("email", AttributeValue::S(email.to_owned()));
    get.consistent_read(true).send().await.expect("the engine answers").item
}

#[tokio::test]
async fn g1_several_streams_and_own_items_are_stored_by_one_request() {
    let table = TestTable::create().await;
    let emails = own_table(&table).await;
    let (order, customer) = (stream("order-1"), stream("customer-7"));
    table.fill(&customer, 2).await;
    table.wire.take();

    let committed = table
        .store
        .transaction()
        .append(&order, NoStream, [event(1), event(2)])
        .append(&customer, Exact(2), [event(3)])
        .item(reserve(&emails, "ann@example.org", "customer-7"))
        .commit()
        .await
        .unwrap();

    let sent = table.wire.take();
    let operations: Vec<_> = sent.iter().map(|exchange| exchange.operation.as_str()).collect();
    assert_eq!(operations, ["Query", "TransactWriteItems"], "`Exact` looks at the end, then one write");
    // (2 x 2 + 3) + (2 x 1 + 3) for the appends, 2 for the own item, as AWS counts.
    let appends = Metering::of_tests().transaction(&[
        metering::Put::EVENT,
        metering::Put::EVENT,
        metering::Put::ENTRY,
        metering::Put::EVENT,
        metering::Put::ENTRY,
    ]);
    let units = appends + Metering::of_tests().transaction(&[metering::Put { units: 1.0, is_indexed: false }]);
    assert!((committed.write_units - units).abs() < 1e-9, "{}", committed.write_units);
    let positions: Vec<_> = committed.appends.iter().map(|append| append.position.clone()).collect();
    assert_eq!(positions.iter().map(streambox::StreamPosition::version).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(table.store.read(&order).await.unwrap().position, positions[0]);
    assert_eq!(table.store.read(&customer).await.unwrap().position, positions[1]);
    assert_eq!(table.pending().await, 4, "one entry an append");
    assert_eq!(item(&table, &emails, "ann@example.org").await.unwrap()["owner"].as_s().unwrap(), "customer-7");
}

#[tokio::test]
async fn g1_a_refused_own_item_is_named_by_its_place_and_nothing_is_written() {
    let table = TestTable::create().await;
    let emails = own_table(&table).await;
    let order = stream("order-1");
    let transaction = |owner: &str| {
        table
            .store
            .transaction()
            .append(&stream(owner), NoStream, [event(1)])
            .item(count(&emails, "registrations"))
            .item(reserve(&emails, "ann@example.org", owner))
    };
    transaction("customer-1").commit().await.unwrap();
    let items = table.items().await;

    let error = transaction("customer-2").append(&order, NoStream, [event(1)]).commit().await.unwrap_err();

    let Error::ItemRefused(refused) = &error else { panic!("{error}") };
    assert_eq!(refused.position, 1);
    assert_eq!(refused.item.as_ref().unwrap()["owner"].as_s().unwrap(), "customer-1", "who has it");
    assert_eq!(table.items().await, items);
    assert_eq!(item(&table, &emails, "registrations").await.unwrap()["times"].as_n().unwrap(), "1");
}

#[tokio::test]
async fn g1_a_conflict_on_one_stream_stores_nothing_of_the_others() {
    let table = TestTable::create().await;
    let emails = own_table(&table).await;
    let (order, customer) = (stream("order-1"), stream("customer-7"));
    table.fill(&customer, 3).await;
    let items = table.items().await;
    let stale = streambox::StreamPosition::start(customer.clone());

    let error = table
        .store
        .transaction()
        .append(&order, Any, [event(1)])
        .append(&customer, At(stale), [event(1)])
        .item(reserve(&emails, "ann@example.org", "customer-7"))
        .commit()
        .await
        .unwrap_err();

    let Error::Conflict(conflict) = &error else { panic!("{error}") };
    assert_eq!((conflict.current.stream(), conflict.current.version()), (&customer, 3));
    assert_eq!(table.items().await, items);
    assert_eq!(item(&table, &emails, "ann@example.org").await, None);
}

#[tokio::test]
async fn g3_a_repeated_transaction_is_stored_once_and_reports_the_first_result() {
    let table = TestTable::create().await;
    let emails = own_table(&table).await;
    let (order, customer) = (stream("order-1"), stream("customer-7"));
    table.fill(&order, 1).await;
    let append_id = Uuid::new_v4();
    let commit = || {
        let (store, _) = table.another();
        store
            .transaction()
            .with_id(append_id)
            .append(&customer, NoStream, [event(1)])
            .append(&order, Any, [event(2), event(3)])
            .item(count(&emails, "orders"))
            .commit()
    };
    table.wire.take();
    let first = commit().await.unwrap();
    // The stream that is appended to at any version grows before the repeat.
    table.store.append(&order, Any, [event(4)]).await.unwrap();
    table.store.append(&order, Any, [event(5)]).await.unwrap();
    let items = table.items().await;

    let repeat = commit().await.unwrap();

    assert!(repeat.already_stored && !first.already_stored);
    for (repeat, first) in repeat.appends.iter().zip(&first.appends) {
        assert_eq!((repeat.first_version, &repeat.position), (first.first_version, &first.position));
        assert!(repeat.already_stored && repeat.write_units == 0.0);
    }
    assert_eq!(table.items().await, items);
    assert_eq!(item(&table, &emails, "orders").await.unwrap()["times"].as_n().unwrap(), "1");
}

#[tokio::test]
async fn g3_a_transaction_whose_answers_are_lost_is_stored_once_with_its_own_items() {
    let table = TestTable::create().await;
    let emails = own_table(&table).await;
    table.wire.lose_answers("TransactWriteItems", 5);
    let commit = table
        .store
        .transaction()
        .append(&stream("order-1"), NoStream, [event(1)])
        .append(&stream("customer-7"), NoStream, [event(1)])
        .item(count(&emails, "orders"))
        .item(reserve(&emails, "ann@example.org", "customer-7"));
    let committed = commit.commit().await.unwrap();
    assert_eq!(table.wire.take().len(), 6);
    assert_eq!(committed.appends.len(), 2);
    assert_eq!(table.items().await, 4);
    assert_eq!(item(&table, &emails, "orders").await.unwrap()["times"].as_n().unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn g2_transactions_that_race_on_two_streams_write_one_history_of_each() {
    let table = TestTable::create().await;
    let streams = [stream("order-1"), stream("order-2")];
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let ((store, _), [one, two]) = (table.another(), streams.clone());
        writers.spawn(async move {
            for _ in 0..10 {
                let transaction = store.transaction().append(&one, Any, [event(writer)]);
                transaction.append(&two, Any, [event(writer), event(writer)]).commit().await.unwrap();
            }
        });
    }
    writers.join_all().await;
    for (stream, events) in streams.iter().zip([40, 80]) {
        let history = table.store.read(stream).await.unwrap();
        assert_eq!(
            history.events.iter().map(|event| event.version).collect::<Vec<_>>(),
            (1..=events).collect::<Vec<_>>()
        );
    }
}

#[tokio::test]
async fn g1_a_transaction_over_a_limit_or_against_a_rule_sends_nothing() {
    let table = TestTable::create().await;
    let (order, other) = (stream("order-1"), stream("order-2"));
    let begin = || table.store.transaction();
    let in_store = |name: &str| {
        let key = |text: &str| AttributeValue::S(text.to_owned());
        let check = ConditionCheck::builder()
            .table_name(name)
            .key("stream_id", key("order-9"))
            .key("entity", key("event#00000000000000000001"))
            .condition_expression("attribute_exists(entity)")
            .build()
            .unwrap();
        TransactWriteItem::builder().condition_check(check).build()
    };
    let arn = format!("arn:aws:dynamodb:eu-central-1:123456789012:table/{}", table.name);
    let events = |count: u64| (1..=count).map(event);
    let huge =
        Put::builder().table_name("emails").item("email", AttributeValue::S("x".repeat(410_000))).build().unwrap();
    let refused = [
        ("a transaction needs at least one append", begin()),
        ("twice in one transaction", begin().append(&order, Any, events(1)).append(&order, Any, events(1))),
        (
            "100 items (events, one pending entry an append, a command's markers, a consumer's position, your own), got 101",
            { begin().append(&order, NoStream, events(50)).append(&other, NoStream, events(49)) },
        ),
        ("at most 99 events, got 100", begin().append(&order, NoStream, events(100))),
        ("in the table of streambox itself", begin().append(&order, Any, events(1)).item(in_store(&table.name))),
        ("in the table of streambox itself", begin().append(&order, Any, events(1)).item(in_store(&arn))),
        ("exactly one of put, update", {
            begin().append(&order, Any, events(1)).item(TransactWriteItem::builder().build())
        }),
        ("item 0 of the caller's own: it has more than the 400 KB", {
            begin().append(&order, Any, events(1)).item(TransactWriteItem::builder().put(huge).build())
        }),
    ];
    for (rule, transaction) in refused {
        let error = transaction.commit().await.expect_err(rule);
        assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains(rule), "{rule}: {error}");
    }
    assert_eq!(table.wire.take().len(), 0, "nothing was sent");
    assert_eq!(table.items().await, 0);
    let just_fits = begin().append(&order, NoStream, events(49)).append(&other, NoStream, events(49));
    assert_eq!(just_fits.commit().await.unwrap().appends.len(), 2);
}

#[tokio::test]
async fn an_own_item_that_dynamodb_refuses_for_good_is_no_conflict() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    let error = table
        .store
        .transaction()
        .append(&order, NoStream, [event(1)])
        .item(reserve("no-such-table", "ann@example.org", "x"))
        .commit()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Configuration { .. }), "{error}");
    assert!(!matches!(error, Error::Invalid(Invalid::NoEvents)));
    assert_eq!(table.items().await, 0);
}

#[tokio::test]
async fn g1_an_aggregates_events_and_an_own_item_are_stored_together_or_not_at_all() {
    let table = TestTable::create().await;
    let emails = own_table(&table).await;
    let repository = orders(&table).build();
    let added = || [OrderEvent::ItemsAdded { items: 3 }];
    let loaded = repository.load("1").await.unwrap();
    let command = CommandContext::new().with_id(Uuid::new_v4());
    let begin = |owner: &str| {
        let transaction = repository.transaction(&loaded, &command, added()).unwrap();
        transaction.item(reserve(&emails, "ann@example.org", owner))
    };

    let committed = begin("order-1").commit().await.unwrap();
    assert_eq!(committed.appends[0].position.version(), 1);
    assert_eq!(repository.load("1").await.unwrap().state().items, 3, "the cache takes in what others have appended");
    assert!(begin("order-1").commit().await.unwrap().already_stored, "the command's id makes a repeat harmless");

    let other = repository.load("2").await.unwrap();
    let refused = repository.transaction(&other, &CommandContext::new(), added()).unwrap();
    let refused = refused.item(reserve(&emails, "ann@example.org", "order-2")).commit().await.unwrap_err();
    assert!(matches!(refused, Error::ItemRefused(_)), "{refused}");
    assert_eq!(repository.load("2").await.unwrap().version(), 0);

    let stale = repository.transaction(&loaded, &CommandContext::new(), added()).unwrap().commit().await.unwrap_err();
    assert!(matches!(stale, Error::Conflict(_)), "{stale}");
}

/// An update of the caller's own whose expression is this.
fn set(table: &str, name: &str, expression: &str) -> TransactWriteItem {
    let update = Update::builder()
        .table_name(table)
        .key("email", AttributeValue::S(name.to_owned()))
        .update_expression(expression)
        .expression_attribute_values(":one", AttributeValue::N("1".to_owned()));
    TransactWriteItem::builder().update(update.build().expect("all fields are set")).build()
}

#[tokio::test]
async fn what_is_wrong_with_an_own_item_is_not_blamed_on_the_stores_table() {
    let table = TestTable::create().await;
    // MiniStack stores what DynamoDB refuses.
    if Metering::of_tests() == Metering::MiniStack {
        return;
    }
    let emails = own_table(&table).await;
    let without_key = Put::builder().table_name(&emails).item("owner", AttributeValue::S("x".to_owned()));
    let without_key = TransactWriteItem::builder().put(without_key.build().expect("all fields are set")).build();
    let missing = unique("missing");
    for (item, operation, its_table) in [
        (reserve(&missing, "ann@example.org", "x"), "a put", missing.as_str()),
        (without_key, "a put", &emails),
        (set(&emails, "x", "SET name = :one"), "an update", &emails),
        (set(&emails, "x", "SET times == :one"), "an update", &emails),
        (set(&emails, "x", "SET times = :two"), "an update", &emails),
        (set(&emails, "ann@example.org", "SET times = :one"), "an update", &emails),
    ] {
        let own = [reserve(&emails, "ann@example.org", "customer-1"), item];
        let transaction = table.store.transaction().append(&stream("order-1"), NoStream, [event(1)]);
        let error = own.into_iter().fold(transaction, streambox::Transaction::item).commit().await.unwrap_err();
        let Error::Configuration { problem, .. } = &error else { panic!("{error:?}") };
        let problem = problem.to_string();
        assert!(
            problem.contains(&format!("item 1 of the caller's own, {operation} in table {its_table}"))
                || problem.contains(&format!("item 1 ({operation} in table {its_table})")),
            "{problem}"
        );
        assert!(!problem.contains("table check") && !problem.contains(&table.name), "{problem}");
    }
    assert_eq!(table.items().await, 0);
}
