//! `streambox table`.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ProvisionedThroughput, ScalarAttributeType, TimeToLiveSpecification,
};
use serde_json::{Value, json};
use streambox::{TableDefinition, TableDifference, TableNote, check_table};
use streambox_tests::{engine::TestTable, proxy::Proxy, unique};

use super::{BAD_CONFIGURATION, DONE, FAILED, streambox};

#[tokio::test]
async fn a_table_is_created_once() {
    let table = TestTable::create().await;
    let create = ["table", "create", "--table", "another", "--format", "json"];
    for created in [true, false] {
        let finished = streambox(&table, &create).await;
        assert_eq!(finished.code(), DONE, "{}", finished.stderr);
        let printed: Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!(printed, json!({ "table": "another", "created": created }));
    }
}

/// A key's name and type.
type Key<'a> = (&'a str, ScalarAttributeType);

fn key_schema(partition: &str, sort: Option<&str>) -> Vec<KeySchemaElement> {
    let key = |name: &str, kind| {
        KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect("all that is needed is set")
    };
    [key(partition, KeyType::Hash)].into_iter().chain(sort.map(|name| key(name, KeyType::Range))).collect()
}

/// A table made by hand.
async fn by_hand(
    table: &TestTable,
    partition: Key<'_>,
    sort: Option<Key<'_>>,
    index: Option<(Key<'_>, Key<'_>, ProjectionType)>,
) -> String {
    let name = unique("by-hand");
    let mut keys: Vec<Key<'_>> = [partition.clone()].into_iter().chain(sort.clone()).collect();
    let mut create = table
        .client()
        .create_table()
        .table_name(&name)
        .billing_mode(BillingMode::Provisioned)
        .provisioned_throughput(
            ProvisionedThroughput::builder()
                .read_capacity_units(7)
                .write_capacity_units(9)
                .build()
                .expect("all that is needed is set"),
        )
        .set_key_schema(Some(key_schema(partition.0, sort.as_ref().map(|key| key.0))));
    if let Some((partition, sort, projection)) = index {
        let index = GlobalSecondaryIndex::builder()
            .index_name("outbox")
            .set_key_schema(Some(key_schema(partition.0, Some(sort.0))))
            .projection(Projection::builder().projection_type(projection).build())
            .provisioned_throughput(
                ProvisionedThroughput::builder()
                    .read_capacity_units(1)
                    .write_capacity_units(1)
                    .build()
                    .expect("all that is needed is set"),
            )
            .build()
            .expect("all that is needed is set");
        create = create.global_secondary_indexes(index);
        keys.extend([partition, sort]);
    }
    keys.sort_by_key(|key| key.0);
    keys.dedup_by_key(|key| key.0);
    for (name, kind) in keys {
        let attribute = AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(kind)
            .build()
            .expect("all that is needed is set");
        create = create.attribute_definitions(attribute);
    }
    create.send().await.expect("the engine creates tables");
    name
}

#[tokio::test]
async fn a_table_that_streambox_has_created_is_as_it_expects() {
    let table = TestTable::create().await;
    let check = check_table(&table.client(), &table.name).await.unwrap();
    assert_eq!(check.differences, []);
    let finished = streambox(&table, &["table", "check"]).await;
    assert_eq!(finished.code(), DONE, "{finished:?}");
    assert!(finished.stdout.starts_with(&format!("table {} has the expected definition", table.name)), "{finished:?}");
    assert!(finished.stdout.contains("note: deletion protection is off"), "{}", finished.stdout);
    let missing = streambox(&table, &["table", "check", "--table", "not-there"]).await;
    assert_eq!(missing.code(), BAD_CONFIGURATION);
    assert!(missing.stderr.contains("streambox table create"), "{}", missing.stderr);
}

#[tokio::test]
async fn every_difference_of_a_table_is_told_with_what_to_do() {
    use ScalarAttributeType::{N, S};
    let table = TestTable::create().await;
    let good = || (("stream_id", S), Some(("entity", S)));
    let key = |subject: &'static str, role: &'static str, expected: &'static str, found: Option<&str>| {
        TableDifference::Key { subject, role, expected, found: found.map(str::to_owned) }
    };
    let missing = || TableDifference::IndexMissing { index: TableDefinition::EVENTS.index };
    let (the_table, the_index) = ("the table", "the index `outbox`");
    for ((partition, sort), index, expected, says) in [
        (good(), None, vec![missing()], "KEYS_ONLY"),
        (
            (("pk", S), None),
            None,
            vec![
                key(the_table, "partition key", "stream_id", Some("pk")),
                key(the_table, "sort key", "entity", None),
                missing(),
            ],
            "create another table",
        ),
        (
            (("stream_id", S), Some(("entity", N))),
            Some((("stream_id", S), ("pending_since", S), ProjectionType::All)),
            vec![
                TableDifference::KeyType {
                    subject: the_table,
                    attribute: "entity",
                    expected: "S",
                    found: "N".to_owned(),
                },
                TableDifference::KeyType {
                    subject: the_index,
                    attribute: "pending_since",
                    expected: "N",
                    found: "S".to_owned(),
                },
                TableDifference::Projection { index: the_index, found: "ALL".to_owned() },
            ],
            "delete the index",
        ),
        (
            good(),
            Some((("entity", S), ("pending_since", N), ProjectionType::KeysOnly)),
            vec![key(the_index, "partition key", "stream_id", Some("entity"))],
            "`entity`, not `stream_id`",
        ),
    ] {
        let name = by_hand(&table, partition, sort, index).await;
        let check = check_table(&table.client(), &name).await.unwrap();
        assert_eq!(check.differences, expected);
        assert!(check.notes.contains(&TableNote::Provisioned { read_units: 7, write_units: 9 }), "{:?}", check.notes);

        let text = streambox(&table, &["table", "check", "--table", &name]).await;
        assert_eq!(text.code(), FAILED, "{text:?}");
        let told = text.stdout.lines().filter(|line| line.starts_with("difference: ")).count();
        assert_eq!(told, expected.len(), "{}", text.stdout);
        assert!(text.stdout.contains(says), "{}", text.stdout);
        assert!(text.stderr.contains("from the expected definition"), "{}", text.stderr);
        let json = streambox(&table, &["table", "check", "--table", &name, "--format", "json"]).await;
        let printed: Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(printed["differences"].as_array().unwrap().len(), expected.len());
        assert_eq!(printed["table"], json!(name));
    }
}

#[tokio::test]
async fn time_to_live_on_a_time_of_streambox_is_a_difference_and_on_another_attribute_a_note() {
    for (attribute, code, says) in [
        ("recorded_at", FAILED, "difference: time to live is on for `recorded_at`"),
        ("expires_at", DONE, "note: time to live is on: DynamoDB deletes items that have the attribute `expires_at`"),
    ] {
        let table = TestTable::create().await;
        let specification = TimeToLiveSpecification::builder().enabled(true).attribute_name(attribute);
        let specification = specification.build().expect("all that is needed is set");
        let update = table.client().update_time_to_live().table_name(&table.name);
        update.time_to_live_specification(specification).send().await.expect("the engine has time to live");
        let checked = streambox(&table, &["table", "check"]).await;
        assert_eq!(checked.code(), code, "{checked:?}");
        assert!(checked.stdout.contains(says), "{}", checked.stdout);
    }
}

#[tokio::test]
async fn g2_a_table_with_replicas_in_other_regions_is_not_as_it_is_expected() {
    let table = TestTable::create().await;
    let proxy = Proxy::start(table.url()).await;
    proxy.set_fault(|exchange| {
        if exchange.operation == "DescribeTable" {
            let replica = |region: &str| json!({ "RegionName": region, "ReplicaStatus": "ACTIVE" });
            exchange.answer["Table"]["Replicas"] = json!([replica("eu-west-1"), replica("us-west-2")]);
        }
    });
    let checked = streambox(&table.through(proxy.url()), &["table", "check"]).await;
    assert_eq!(checked.code(), FAILED, "{checked:?}");
    let says = "difference: the table has replicas (eu-west-1, us-west-2): streambox does not support global tables";
    assert!(checked.stdout.contains(says), "{}", checked.stdout);
}

#[tokio::test]
async fn on_a_table_of_another_shape_nothing_is_written_and_the_error_says_so() {
    use ScalarAttributeType::S;
    let table = TestTable::create().await;
    let name = by_hand(&table, ("pk", S), None, None).await;
    for command in ["append order-1 --type Placed --data {}", "read order-1", "streams", "verify"] {
        let arguments: Vec<_> = command.split(' ').chain(["--table", &name]).collect();
        let failed = streambox(&table, &arguments).await;
        let code = failed.code();
        assert!(
            code == BAD_CONFIGURATION || (command == "streams" || command == "verify") && code == DONE,
            "{failed:?}"
        );
        assert!(code == DONE || failed.stderr.contains("streambox table check"), "{command}: {}", failed.stderr);
    }
    let items = table.client().scan().table_name(&name).send().await.unwrap();
    assert_eq!(items.count(), 0);
}
