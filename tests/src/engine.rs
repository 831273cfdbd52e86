//! A DynamoDB for each test.
//!
//! By default an engine in memory (dynoxide) is served inside the test process, on a port that the system chooses. In the other
//! modes ([`mode`](crate::mode)) the tests share one, each with a table of its own name. It need not count capacity units as AWS
//! does: [`Metering`].
//!
//! With `STREAMBOX_TEST_TABLES=cloudformation` each table is a stack of `infra/table.yaml` on that engine, as it would be in the
//! cloud, instead of one that the library has created.

use std::sync::Arc;

use aws_sdk_dynamodb::types::{AttributeValue, Select};
use streambox::{
    Client, Compression, EventStore, StreamId, create_table, limits::MAX_BATCH_DELETES, outbox::PendingEntry,
    testing::EmbeddedDynamoDb,
};
use tokio::time::timeout;

pub use crate::basics::{REGION, client, event, stream};
use crate::{
    PATIENCE,
    basics::KEY,
    cloudformation::{Template, deploy},
    containers,
    metering::Metering,
    mode::Mode,
    unique,
    wire::Wire,
};

/// Says how tables are made.
pub const TABLES_VARIABLE: &str = "STREAMBOX_TEST_TABLES";

/// A table of a test's own, and a store in it.
#[derive(Debug)]
pub struct TestTable {
    /// The store; whatever it sends goes over [`wire`](Self::wire).
    pub store: EventStore,
    /// What the store sends, counted, and altered if a test wants it.
    pub wire: Wire,
    /// The table's name.
    pub name: String,
    engine: Engine,
}

#[derive(Clone, Debug)]
struct Engine {
    url: String,
    /// Dropped with the last table of the test: the engine ends.
    embedded: Option<Arc<EmbeddedDynamoDb>>,
}

impl TestTable {
    /// Starts an engine, unless one is named, and creates a table.
    ///
    /// # Panics
    /// If the engine does not start or does not answer.
    pub async fn create() -> Self {
        let engine = Engine::start().await;
        let name = unique("test");
        if tables_are_stacks() {
            let parameters = [("TableName", name.as_str()), ("DeletionProtection", "false")];
            deploy(&engine.url, &name, &Template::read("table.yaml"), &parameters).await;
        } else {
            create_table(&client(&engine.url, None), &name).await.expect("the engine creates tables");
        }
        let wire = Wire::new();
        let store = EventStore::new(client(&engine.url, Some(&wire)), &name);
        Self { store, wire, name, engine }
    }

    /// The end point.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.engine.url
    }

    /// A client past the wire: for looking at the table without being counted.
    #[must_use]
    pub fn client(&self) -> Client {
        client(&self.engine.url, None)
    }

    /// The client of [`store`](Self::store): what it sends goes over [`wire`](Self::wire).
    #[must_use]
    pub fn store_client(&self) -> Client {
        client(&self.engine.url, Some(&self.wire))
    }

    /// A second store in the same table, with a wire of its own: another process, as far as the store can tell.
    #[must_use]
    pub fn another(&self) -> (EventStore, Wire) {
        let wire = Wire::new();
        (EventStore::new(client(&self.engine.url, Some(&wire)), &self.name), wire)
    }

    /// A store over the same wire that writes payloads as they are, for tests in which their size matters.
    #[must_use]
    pub fn as_text(&self) -> EventStore {
        EventStore::builder(self.store_client(), &self.name).compression(Compression::Off).build()
    }

    /// The same table, reached by another way: through something that stands between.
    #[must_use]
    pub fn through(&self, url: &str) -> Self {
        let wire = Wire::new();
        let store = EventStore::new(client(url, Some(&wire)), &self.name);
        let engine = Engine { url: url.to_owned(), embedded: self.engine.embedded.clone() };
        Self { store, wire, name: self.name.clone(), engine }
    }

    /// What a program needs in its environment to find the table.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL_DYNAMODB", self.engine.url.clone()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", KEY.to_owned()),
            ("STREAMBOX_TABLE", self.name.clone()),
        ]
    }

    /// How many items the table has.
    ///
    /// # Panics
    /// If the engine does not answer.
    pub async fn items(&self) -> u64 {
        count(&self.client(), &self.name, None).await
    }

    /// How many pending entries the table has, by a consistent read.
    ///
    /// # Panics
    /// If the engine does not answer.
    pub async fn pending(&self) -> u64 {
        pending(&self.client(), &self.name).await
    }

    /// Waits until the table has this many items. A table gives no signal, so this polls.
    ///
    /// # Panics
    /// If it does not within [`PATIENCE`].
    pub async fn wait_for_items(&self, items: u64) {
        let reached = async {
            while self.items().await < items {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("the table does not come to {items} items"));
    }

    /// Deletes an item by hand, past the library, which has no code for it.
    ///
    /// # Panics
    /// If the engine does not answer.
    pub async fn delete(&self, stream: &StreamId, entity: &str) {
        let key = |value: &str| AttributeValue::S(value.to_owned());
        self.client()
            .delete_item()
            .table_name(&self.name)
            .key("stream_id", key(stream.as_str()))
            .key("entity", key(entity))
            .send()
            .await
            .expect("the engine answers");
    }

    /// Sets an attribute of an item by hand, past the library, which has no code for it.
    ///
    /// # Panics
    /// If the engine does not answer.
    pub async fn set(&self, stream: &StreamId, entity: &str, attribute: &str, value: AttributeValue) {
        let key = |value: &str| AttributeValue::S(value.to_owned());
        self.client()
            .update_item()
            .table_name(&self.name)
            .key("stream_id", key(stream.as_str()))
            .key("entity", key(entity))
            .update_expression("SET #attribute = :value")
            .expression_attribute_names("#attribute", attribute)
            .expression_attribute_values(":value", value)
            .send()
            .await
            .expect("the engine answers");
    }

    /// Waits until nothing is pending. A table gives no signal, so it is asked again and again.
    ///
    /// # Panics
    /// If something still is after [`PATIENCE`].
    pub async fn wait_for_nothing_pending(&self) {
        let reached = async {
            while self.pending().await > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, reached).await.expect("everything is deleted at last");
    }

    /// Empties a stream's outbox, as if a relay had published everything.
    ///
    /// # Panics
    /// If the engine does not answer.
    pub async fn publish_all(&self, stream: &StreamId) {
        let outbox = self.another().0.outbox();
        loop {
            let page = outbox.pending(stream, 1, 1_000).await.expect("the engine answers");
            let keys: Vec<_> = page.entries.iter().map(PendingEntry::key).collect();
            for keys in keys.chunks(MAX_BATCH_DELETES) {
                outbox.delete(keys).await.expect("the engine answers");
            }
            if !page.has_more {
                return;
            }
        }
    }

    /// Appends events one by one, each an append of its own, to a new stream.
    ///
    /// # Panics
    /// If an append fails.
    pub async fn fill(&self, stream: &StreamId, events: u64) {
        let mut expected = streambox::ExpectedVersion::NoStream;
        for number in 1..=events {
            let appended = self.store.append(stream, expected, [event(number)]).await.expect("the append works");
            expected = streambox::ExpectedVersion::At(appended.position);
        }
    }
}

impl Engine {
    async fn start() -> Self {
        let url = match Mode::of_tests() {
            Mode::Embedded => {
                let embedded = EmbeddedDynamoDb::start().await;
                return Self { url: embedded.url().to_owned(), embedded: Some(Arc::new(embedded)) };
            }
            Mode::Endpoint { url } => url.as_str(),
            Mode::Containers => containers::localstack_url(),
        };
        Metering::learn(&client(url, None)).await;
        Self { url: url.to_owned(), embedded: None }
    }
}

/// Whether each table is a stack of `infra/table.yaml`.
///
/// # Panics
/// If the variable has another value than `cloudformation`, or the engine is one that can't do it.
#[must_use]
pub fn tables_are_stacks() -> bool {
    match std::env::var(TABLES_VARIABLE).as_deref() {
        Err(_) | Ok("") => false,
        Ok("cloudformation") if Mode::is_embedded() => {
            panic!("the embedded engine runs no CloudFormation: `make test-cloudformation` brings one that does")
        }
        Ok("cloudformation") => true,
        Ok(other) => panic!("{TABLES_VARIABLE} is {other:?}; it can be cloudformation or empty"),
    }
}

/// How many pending entries a table has, by a consistent read.
///
/// # Panics
/// If the engine does not answer.
pub async fn pending(client: &Client, table: &str) -> u64 {
    count(client, table, Some("pending#")).await
}

async fn count(client: &Client, table: &str, prefix: Option<&str>) -> u64 {
    let scan = client.scan().table_name(table).consistent_read(true).select(Select::Count);
    let scan = match prefix {
        None => scan,
        Some(prefix) => scan
            .filter_expression("begins_with(entity, :prefix)")
            .expression_attribute_values(":prefix", AttributeValue::S(prefix.to_owned())),
    };
    let mut from = None;
    let mut count = 0;
    loop {
        let page = scan.clone().set_exclusive_start_key(from).send().await.expect("the engine answers");
        count += u64::try_from(page.count()).expect("a count");
        match page.last_evaluated_key {
            Some(key) if !key.is_empty() => from = Some(key),
            _ => return count,
        }
    }
}
