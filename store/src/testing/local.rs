//! A client and a table on a local engine.

use aws_sdk_dynamodb::{
    Client,
    config::{Builder, Region},
};
use uuid::Uuid;

use crate::{EventStore, RequestLimits, behavior_version, create_table};

pub(super) const REGION: &str = "us-east-1";
/// Local engines take any key; the real DynamoDB takes no such key.
pub(super) const KEY: &str = "local";

/// A client of a local engine, with the time limits that the library sets.
pub(super) fn client(url: &str, adjust: impl FnOnce(Builder) -> Builder) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(behavior_version())
        .region(Region::new(REGION))
        .endpoint_url(url);
    Client::from_conf(adjust(RequestLimits::default().apply(config)).build())
}

pub(super) async fn in_new_table(client: Client) -> EventStore {
    let table = format!("test-{}", Uuid::new_v4().simple());
    if let Err(error) = create_table(&client, &table).await {
        panic!("the engine can't create a table: {error}");
    }
    EventStore::new(client, table)
}
