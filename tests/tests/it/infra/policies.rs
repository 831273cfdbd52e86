//! The policies of `roles.yaml` grant what the programs really ask for, and little more.

use std::collections::{BTreeSet, HashMap};

use futures_util::StreamExt as _;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use streambox::{
    ExpectedVersion::{Any, At, Exact, NoStream},
    ReadOptions, ScanOptions,
    outbox::PendingEntry,
};
use streambox_consumer::{RebuildProgress, SkipRequest, check_inbox_table};
use streambox_tests::{
    broker::{Inbox, shared_broker_url},
    cloudformation::Template,
    engine::{TestTable, event, stream},
    fault::Exchange,
    iam::{Access, Policy, accesses, table_arn},
    inboxes::{InboxTable, received},
    orders::{fill, orders},
    programs::{Finished, Process, run},
    proxy::Proxy,
    unique,
};

use super::{exports, find, needed, text};
use crate::append::transaction::{count, own_table};

/// A policy of `roles.yaml` for a table, and which of its grants were needed.
struct Role {
    name: &'static str,
    /// Who an error says it is for.
    program: streambox_programs::Role,
    policy: Policy,
    used: BTreeSet<(String, String)>,
}

impl Role {
    fn of(name: &'static str, table: &str) -> Self {
        Self::with_inbox(name, table, "streambox-inbox")
    }

    fn with_inbox(name: &'static str, table: &str, inbox: &str) -> Self {
        let mut exports = exports();
        exports.insert("streambox-table-TableArn".to_owned(), table_arn(table));
        exports.insert("streambox-inbox-TableArn".to_owned(), table_arn(inbox));
        let resource =
            Template::read("roles.yaml").stack(&[("InboxStack", "streambox-inbox")], &exports).resource(name);
        let program = match name {
            "WriterPolicy" => streambox_programs::Role::Writer,
            "ReaderPolicy" => streambox_programs::Role::Reader,
            "RelayPolicy" => streambox_programs::Role::Relay,
            "OperatorPolicy" => streambox_programs::Role::Operator,
            "ConsumerPolicy" => streambox_programs::Role::Consumer,
            _ => streambox_programs::Role::ConsumerOperator,
        };
        Self { name, program, policy: Policy::of(&resource["Properties"]["PolicyDocument"]), used: BTreeSet::new() }
    }

    /// Everything that was sent has to be granted, by the policy that an error names if it is not.
    fn judge(&mut self, sent: &[Exchange]) {
        assert!(!sent.is_empty(), "nothing was sent");
        for access in sent.iter().flat_map(|exchange| accesses(&exchange.operation, &exchange.request)) {
            let statement = self.policy.allows(&access);
            let statement = statement.unwrap_or_else(|| panic!("{} does not allow {access:?}", self.name));
            assert_eq!(self.program.policy(&access.action), Some(self.name), "{access:?}");
            self.used.insert((statement.to_owned(), access.action));
        }
    }

    /// What is granted and was not needed.
    fn unused(&self) -> Vec<(String, String)> {
        self.policy.grants().difference(&self.used).cloned().collect()
    }
}

fn grant(statement: &str, action: &str) -> (String, String) {
    (statement.to_owned(), format!("dynamodb:{action}"))
}

/// A program with a proxy between it and the table, which shows what it asks for.
struct Watched {
    proxy: Proxy,
    table: TestTable,
}

impl Watched {
    async fn start(table: &TestTable) -> Self {
        let proxy = Proxy::start(table.url()).await;
        let table = table.through(proxy.url());
        Self { proxy, table }
    }

    async fn runs(&self, program: &str, arguments: &[&str]) -> Finished {
        let broker = (program == "streambox-relay").then(shared_broker_url);
        let finished = run(program, Some(&self.table), broker.as_deref(), arguments).await;
        assert_eq!(finished.code(), Some(0), "{arguments:?}: {}", finished.stderr);
        finished
    }
}

#[tokio::test]
async fn g8_whatever_a_service_does_the_writers_policy_grants() {
    let table = TestTable::create().await;
    let mut role = Role::of("WriterPolicy", &table.name);
    let (order, other, store) = (stream("order-1"), stream("order-2"), &table.store);

    let appended = store.append(&order, NoStream, [event(1)]).await.unwrap();
    let large = streambox::NewEvent::json("Large", &"x".repeat(2_000)).unwrap();
    store.append(&order, At(appended.position), [large, event(3)]).await.unwrap();
    store.append(&order, Exact(3), [event(4).private()]).await.unwrap();
    store.append(&order, Any, [event(5)]).await.unwrap();
    store.append(&order, NoStream, [event(6)]).await.unwrap_err();
    store.transaction().append(&order, Any, [event(6)]).append(&other, NoStream, [event(1)]).commit().await.unwrap();
    store.read(&order).await.unwrap();
    assert_eq!(store.read_stream(&order, ReadOptions::backward()).count().await, 6);
    assert!(store.exists(&order).await.unwrap());
    store.event(&order, 2).await.unwrap().unwrap();
    store.position(&order).await.unwrap();
    // With snapshots, written and read.
    let repository = orders(&table).snapshot_when(|_| true).build();
    fill(&repository, "7", [1, 2, 3]).await;
    repository.snapshots_settled().await;
    orders(&table).build().load(7).await.unwrap();
    role.judge(&table.wire.take());

    let watched = Watched::start(&table).await;
    let placed = ["append", "order-3", "--type", "Placed", "--data", "{}", "--expect", "none"];
    watched.runs("streambox", &placed).await;
    watched.runs("streambox", &["read", "order-3", "--backward"]).await;
    role.judge(&watched.proxy.take());

    // For a caller's own condition in a transaction, and for `check_table` at a service's start.
    let spare = [grant("AppendInTransactions", "ConditionCheckItem"), grant("Load", "DescribeTable")];
    assert_eq!(role.unused(), spare);
}

#[tokio::test]
async fn whoever_reads_everything_needs_the_readers_policy_alone() {
    let table = TestTable::create().await;
    let mut role = Role::of("ReaderPolicy", &table.name);
    table.fill(&stream("order-1"), 3).await;
    let watched = Watched::start(&table).await;
    for command in ["streams", "export", "verify", "table check", "read order-1"] {
        watched.runs("streambox", &command.split(' ').collect::<Vec<_>>()).await;
    }
    role.judge(&watched.proxy.take());
    table.wire.take();
    table.store.event(&stream("order-1"), 1).await.unwrap();
    role.judge(&table.wire.take());
    assert_eq!(role.unused(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_relay_does_the_relays_policy_grants() {
    let table = TestTable::create().await;
    let mut role = Role::of("RelayPolicy", &table.name);
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    // The first append is published, by a relay that this one knows nothing of: the second one needs a proof.
    let order = stream("order-1");
    table.fill(&order, 1).await;
    table.publish_all(&order).await;
    let large = streambox::NewEvent::json("Large", &"x".repeat(2_000)).unwrap();
    table.store.append(&order, Exact(1), [large]).await.unwrap();

    let watched = Watched::start(&table).await;
    let arguments = ["run", "--exchange", inbox.exchange()];
    let relay = Process::start("streambox-relay", Some(&watched.table), Some(&shared_broker_url()), arguments);
    assert_eq!(inbox.next().await.event.version, 2);
    table.wait_for_nothing_pending().await;
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.finish().await.code(), Some(0));
    watched.runs("streambox-relay", &["drain", "--exchange", inbox.exchange()]).await;

    role.judge(&watched.proxy.take());
    assert_eq!(role.unused(), [grant("ReadPending", "DescribeTable")], "spare: to look at the table when it starts");
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_an_operator_does_the_operators_policy_grants() {
    let table = TestTable::create().await;
    let mut role = Role::of("OperatorPolicy", &table.name);
    let inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    let order = stream("order-1");
    table.fill(&order, 3).await;
    let watched = Watched::start(&table).await;
    // After a published append a skip needs a proof.
    let keys: Vec<_> =
        table.store.outbox().pending(&order, 1, 1).await.unwrap().entries.iter().map(PendingEntry::key).collect();
    table.store.outbox().delete(&keys).await.unwrap();

    watched.runs("streambox-relay", &["skip", "order-1", "2", "--reason", "a test"]).await;
    watched.runs("streambox-relay", &["status"]).await;
    for of in [["--stream", "order-1"], ["--category", "order"]] {
        watched.runs("streambox-relay", &[&["replay", "--exchange", inbox.exchange()], &of[..]].concat()).await;
    }
    watched.runs("streambox", &["verify"]).await;
    watched.runs("streambox", &["table", "check"]).await;

    role.judge(&watched.proxy.take());
    assert_eq!(role.unused(), []);
    inbox.close().await.unwrap();
}

#[tokio::test]
async fn whatever_a_consumer_does_the_consumers_policy_grants() {
    let table = TestTable::create().await;
    let inbox = InboxTable::create(&table).await;
    let mut role = Role::with_inbox("ConsumerPolicy", &table.name, &inbox.name);
    let order = stream("order-1");
    table.fill(&order, 4).await;
    table.wire.take();
    // What is missing is read; all is scanned by a rebuild.
    table.store.read(&order).await.unwrap();
    table.store.event(&order, 1).await.unwrap();
    table.store.scan_events(&ScanOptions::new()).unwrap().count().await;
    role.judge(&table.wire.take());

    let own = own_table(&table).await;
    let (consumer, second) = (&inbox.inbox, inbox.inbox.clone().generation(2));
    consumer.apply(&received("order-1", 1, None), 0, vec![]).await.unwrap();
    consumer.position(&order).await.unwrap();
    consumer.park(&order, "no", 2, 10).await.unwrap();
    consumer.note_latest(&order, 3).await.unwrap();
    let due = consumer.due(10, 10).await.unwrap();
    consumer.claim(&order, due[0].retry_at_ms, 20).await.unwrap().unwrap();
    for version in [2, 3] {
        consumer.apply(&received("order-1", version, None), version - 1, vec![]).await.unwrap();
    }
    consumer.unpark(&order, 3).await.unwrap();
    second.set_rebuild_progress(&RebuildProgress::default()).await.unwrap();
    second.rebuild_progress().await.unwrap();
    second.switch_generation(2).await.unwrap();
    second.current_generation().await.unwrap();
    role.judge(&inbox.wire.take());
    // With items: those of the service's own tables need policies of its own.
    consumer.apply(&received("order-1", 4, None), 3, vec![count(&own, "a")]).await.unwrap();
    let mut sent = inbox.wire.take();
    let items = sent[0].request["TransactItems"].as_array_mut().expect("a transaction has items");
    assert_eq!(items.pop().expect("two items")["Update"]["TableName"], own);
    role.judge(&sent);
    assert_eq!(role.unused(), []);
}

#[tokio::test]
async fn whatever_an_operator_of_consumers_does_the_policy_grants() {
    let table = TestTable::create().await;
    let inbox = InboxTable::create(&table).await;
    let mut role = Role::with_inbox("ConsumerOperatorPolicy", &table.name, &inbox.name);
    let (order, consumer) = (stream("order-1"), &inbox.inbox);
    table.fill(&order, 3).await;
    consumer.park(&order, "no", 2, 10).await.unwrap();
    inbox.wire.take();
    table.wire.take();
    consumer.lag(&table.store, &BTreeSet::new(), 10).await.unwrap();
    consumer.parked(10).await.unwrap();
    consumer.retry(&order).await.unwrap();
    consumer.skip(&SkipRequest::new(&order, 1, "ann", "a test"), Some(&table.store)).await.unwrap();
    consumer.skips(10).await.unwrap();
    consumer.generations().await.unwrap();
    consumer.switch_generation(2).await.unwrap();
    consumer.delete_generation(1).await.unwrap();
    check_inbox_table(&inbox.client_over_wire(), &inbox.name).await.unwrap();
    role.judge(&inbox.wire.take());
    role.judge(&table.wire.take());
    assert_eq!(role.unused(), []);
}

/// What IAM is asked of the inbox's table.
fn of_inbox(operation: &str, partition: &str) -> Vec<Access> {
    let named = json!({ "stream_id": { "S": partition }, "consumer": { "S": "free-seats@1" } });
    let place = if operation == "PutItem" { "Item" } else { "Key" };
    accesses(operation, &json!({ "TableName": "streambox-inbox", place: named }))
}

#[test]
fn g8_no_policy_of_consumers_lets_anyone_write_an_event_or_the_record_of_a_skip() {
    let writes = ["PutItem", "UpdateItem", "DeleteItem"];
    let in_events = writes.map(|operation| (operation, item(operation, "order-1"), vec![]));
    let record = writes.map(|operation| (operation, of_inbox(operation, "$skips"), vec![]));
    let cases = [
        ("a position", of_inbox("UpdateItem", "order-1"), vec!["ConsumerPolicy", "ConsumerOperatorPolicy"]),
        ("a position put over", of_inbox("PutItem", "order-1"), vec![]),
        ("a position deleted", of_inbox("DeleteItem", "order-1"), vec!["ConsumerOperatorPolicy"]),
        ("a switch", of_inbox("UpdateItem", "$consumers"), vec!["ConsumerPolicy", "ConsumerOperatorPolicy"]),
        ("a rebuild's progress", of_inbox("PutItem", "$consumers"), vec!["ConsumerPolicy"]),
    ];
    for (what, asked, allowed) in in_events.into_iter().chain(record).chain(cases) {
        for name in ["ConsumerPolicy", "ConsumerOperatorPolicy", "WriterPolicy", "OperatorPolicy", "RelayPolicy"] {
            let policy = Role::of(name, "streambox").policy;
            let is_allowed = asked.iter().all(|access| policy.allows(access).is_some());
            assert_eq!(is_allowed, allowed.contains(&name), "{name}: {what} {asked:?}");
        }
    }
}

/// What IAM is asked for one request about one item.
fn item(operation: &str, stream: &str) -> Vec<Access> {
    let named = json!({ "stream_id": { "S": stream }, "entity": { "S": "event#00000000000000000001" } });
    let place = if operation == "PutItem" { "Item" } else { "Key" };
    accesses(operation, &json!({ "TableName": "streambox", place: named }))
}

fn in_transaction(kind: &str, stream: &str) -> Vec<Access> {
    let named = json!({ "stream_id": { "S": stream }, "entity": { "S": "event#00000000000000000001" } });
    let place = if kind == "Put" { "Item" } else { "Key" };
    let part = json!({ kind: { "TableName": "streambox", place: named } });
    accesses("TransactWriteItems", &json!({ "TransactItems": [part] }))
}

fn in_batch(writes: &Value) -> Vec<Access> {
    accesses("BatchWriteItem", &json!({ "RequestItems": { "streambox": writes } }))
}

#[test]
fn g8_no_policy_lets_anyone_write_over_an_event_or_outside_of_a_streams_transactions() {
    let key = |stream: &str| json!({ "stream_id": { "S": stream }, "entity": { "S": "event#00000000000000000001" } });
    let event = json!({ "stream_id": { "S": "order-1" }, "entity": { "S": "event#1" }, "payload": { "S": "forged" } });
    let put_in_batch = || in_batch(&json!([{ "PutRequest": { "Item": event } }]));
    let delete_in_batch = |stream: &str| in_batch(&json!([{ "DeleteRequest": { "Key": key(stream) } }]));
    let unseen = |asked: Vec<Access>| {
        asked.into_iter().map(|access| Access { attributes: BTreeSet::new(), ..access }).collect::<Vec<_>>()
    };
    let another_table = || accesses("Query", &json!({ "TableName": "another" }));
    let everyone = ["WriterPolicy", "ReaderPolicy", "RelayPolicy", "OperatorPolicy"];
    // What is asked for, and who may.
    let cases: [(&str, Vec<Access>, &[&str]); 24] = [
        ("an append's put", in_transaction("Put", "order-1"), &["WriterPolicy"]),
        ("a condition beside it", in_transaction("ConditionCheck", "order-1"), &["WriterPolicy"]),
        ("a put of its own", item("PutItem", "order-1"), &[]),
        ("an update", item("UpdateItem", "order-1"), &[]),
        ("an update in a transaction", in_transaction("Update", "order-1"), &[]),
        ("a delete", item("DeleteItem", "order-1"), &[]),
        ("a skip's delete", in_transaction("Delete", "order-1"), &["OperatorPolicy"]),
        ("a skip's record", in_transaction("Put", "$skips"), &["OperatorPolicy"]),
        ("a record by itself", item("PutItem", "$skips"), &[]),
        ("a delete of a record", item("DeleteItem", "$skips"), &[]),
        ("a delete of a record in a transaction", in_transaction("Delete", "$skips"), &[]),
        ("a delete of a record by a batch", delete_in_batch("$skips"), &[]),
        ("a worker's row", item("PutItem", "$relay"), &["RelayPolicy"]),
        ("a worker's farewell", item("DeleteItem", "$relay"), &["RelayPolicy"]),
        ("an update of a row", item("UpdateItem", "$relay"), &[]),
        ("a put in another reserved partition", in_transaction("Put", "$other"), &[]),
        ("a put by a batch", put_in_batch(), &[]),
        ("a delete by a batch", delete_in_batch("order-1"), &["RelayPolicy"]),
        ("a delete by a batch of a relay's row", delete_in_batch("$relay"), &[]),
        ("a batch of which IAM sees no attribute", unseen(put_in_batch()), &[]),
        ("a get", item("GetItem", "order-1"), &["WriterPolicy", "ReaderPolicy", "OperatorPolicy"]),
        ("a query", accesses("Query", &json!({ "TableName": "streambox" })), &everyone),
        ("a scan", accesses("Scan", &json!({ "TableName": "streambox" })), &["ReaderPolicy", "OperatorPolicy"]),
        ("another table", another_table(), &[]),
    ];
    for (what, asked, allowed) in cases {
        for name in everyone {
            let policy = Role::of(name, "streambox").policy;
            let is_allowed = asked.iter().all(|access| policy.allows(access).is_some());
            assert_eq!(is_allowed, allowed.contains(&name), "{name}: {what}");
        }
    }
}

/// Every policy of every template, by the resource that it stands in, with each of its parts that depend on parameters.
fn documents() -> Vec<(String, Value, Value)> {
    let mut all = Vec::new();
    for template in Template::all() {
        for (name, resource) in template.section("Resources") {
            let kind = text(&resource["Type"]);
            if kind.starts_with("AWS::IAM::") || kind.ends_with("Policy") || kind.ends_with("::Key") {
                all.push((format!("{} {name}", template.name), resource.clone(), resource["Metadata"].clone()));
            }
        }
    }
    all
}

#[test]
fn no_policy_has_a_wildcard_without_a_written_reason() {
    let mut statements = 0;
    for (whose, resource, metadata) in documents() {
        let found = find(&resource, &mut |value| value.get("Effect").map(|_| value.clone()));
        statements += found.len();
        let reasons = metadata["streambox"]["wildcards"].as_array().cloned().unwrap_or_default();
        let mut reasoned: HashMap<String, bool> = HashMap::new();
        for reason in reasons {
            let is_written = reason["Reason"].as_str().is_some_and(|reason| reason.len() > 20);
            assert!(is_written, "{whose}: {reason} gives no reason");
            reasoned.insert(reason["Sid"].as_str().unwrap().to_owned(), false);
        }
        for statement in found {
            let id = statement["Sid"].as_str().unwrap_or_else(|| panic!("{whose}: {statement} has no Sid"));
            for negation in ["NotAction", "NotResource", "NotPrincipal"] {
                assert_eq!(statement.get(negation), None, "{whose} {id} allows what it does not name");
            }
            let is_wide = ["Action", "Resource", "Principal"].iter().any(|field| {
                let texts = find(&statement[field], &mut |value| value.as_str().map(str::to_owned));
                texts.iter().any(|text| text.contains(['*', '?']))
            });
            match reasoned.get_mut(id) {
                Some(is_needed) if is_wide => *is_needed = true,
                None if is_wide => panic!("{whose} {id} has a wildcard; say why in Metadata, streambox, wildcards"),
                _ => {}
            }
        }
        let idle: Vec<_> = reasoned.iter().filter(|(_, is_needed)| !**is_needed).collect();
        assert!(idle.is_empty(), "{whose}: reasons for wildcards that there are not: {idle:?}");
    }
    assert!(statements > 10, "the policies are found");
}

#[test]
fn every_policy_can_be_read_in_whole() {
    for template in Template::all() {
        let exports = exports();
        for (name, resource) in template.stack(&needed(&template), &exports).resources() {
            if resource["Type"] == "AWS::IAM::ManagedPolicy" {
                assert!(!Policy::of(&resource["Properties"]["PolicyDocument"]).grants().is_empty(), "{name}");
            }
        }
    }
}
