//! The inbox of a consumer in a table of its own, and events as a consumer receives them.

use aws_sdk_dynamodb::types::AttributeValue;
use streambox::{
    Client, Uuid,
    message::{
        HeaderValue, PREVIOUS_VERSION_HEADER, Properties, RECORDED_AT_HEADER, Received, STREAM_ID_HEADER,
        VERSION_HEADER,
    },
};
use streambox_consumer::{Inbox, create_inbox_table};

use crate::{
    basics::client,
    cloudformation::{Template, deploy},
    engine::{TestTable, tables_are_stacks},
    items::Item,
    unique,
    wire::Wire,
};

/// The table of an inbox, beside that of the events.
#[derive(Debug)]
pub struct InboxTable {
    /// The inbox of the consumer `free-seats`; whatever it sends goes over [`wire`](Self::wire).
    pub inbox: Inbox,
    /// What the inbox sends, counted, and altered if a test wants it.
    pub wire: Wire,
    /// The table's name.
    pub name: String,
    url: String,
}

impl InboxTable {
    /// Creates the table on the engine of the events.
    ///
    /// # Panics
    /// If the engine does not answer.
    pub async fn create(events: &TestTable) -> Self {
        let (name, url) = (unique("inbox"), events.url().to_owned());
        if tables_are_stacks() {
            let parameters = [("TableName", name.as_str()), ("DeletionProtection", "false")];
            deploy(&url, &name, &Template::read("inbox.yaml"), &parameters).await;
        } else {
            create_inbox_table(&client(&url, None), &name).await.expect("the engine creates tables");
        }
        let wire = Wire::new();
        let inbox = Inbox::new(client(&url, Some(&wire)), &name, "free-seats").expect("valid names");
        Self { inbox, wire, name, url }
    }

    /// A second inbox of the same consumer, with a wire of its own: another process, as far as DynamoDB can tell.
    ///
    /// # Panics
    /// Never: the names are valid.
    #[must_use]
    pub fn another(&self) -> (Inbox, Wire) {
        let wire = Wire::new();
        let inbox = Inbox::new(client(&self.url, Some(&wire)), &self.name, self.inbox.consumer()).expect("valid names");
        (inbox, wire)
    }

    /// A client past the wire: for looking at the table without being counted.
    #[must_use]
    pub fn client(&self) -> Client {
        client(&self.url, None)
    }

    /// The client of [`inbox`](Self::inbox): what it sends goes over [`wire`](Self::wire).
    #[must_use]
    pub fn client_over_wire(&self) -> Client {
        client(&self.url, Some(&self.wire))
    }

    /// The item of a stream, if there is one.
    ///
    /// # Panics
    /// If the engine does not answer.
    pub async fn item(&self, stream: &str, consumer: &str) -> Option<Item> {
        let text = |value: &str| AttributeValue::S(value.to_owned());
        let get = self.client().get_item().table_name(&self.name).consistent_read(true);
        let get = get.key("stream_id", text(stream)).key("consumer", text(consumer));
        get.send().await.expect("the engine answers").item
    }
}

/// An event of type `Counted` as a consumer receives it. Its id follows from stream and version.
///
/// # Panics
/// Never: its parts are valid.
#[must_use]
pub fn received(stream: &str, version: u64, previous: Option<u64>) -> Received {
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{stream} {version}").as_bytes()).to_string();
    let properties = Properties { message_id: Some(&id), event_type: Some("Counted"), ..Properties::default() };
    let number = |version: u64| HeaderValue::Integer(i64::try_from(version).expect("a version"));
    let mut headers = vec![
        (STREAM_ID_HEADER, stream.into()),
        (VERSION_HEADER, number(version)),
        (RECORDED_AT_HEADER, "2026-05-28T20:27:40.000Z".into()),
    ];
    headers.extend(previous.map(|previous| (PREVIOUS_VERSION_HEADER, number(previous))));
    Received::from_parts(properties, headers, format!("{{\"number\":{version}}}").as_bytes()).expect("a valid message")
}
