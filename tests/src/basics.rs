//! What every test begins with: a client for an end point, a stream id, a small event.

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use streambox::{Client, NewEvent, StreamId};

use crate::wire::Wire;

/// The Region of all tables: `LocalStack` keeps those of different Regions apart.
pub const REGION: &str = "us-east-1";
/// Emulators take any key; this one is accepted by all of them.
pub(crate) const KEY: &str = "local";

/// A client for an end point, with the time limits that the library sets.
#[must_use]
pub fn client(url: &str, wire: Option<&Wire>) -> Client {
    let mut config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new(KEY, KEY, None, None, "test"))
        .endpoint_url(url);
    if let Some(wire) = wire {
        config = config.http_client(wire.clone());
    }
    Client::from_conf(streambox::RequestLimits::default().apply(config).build())
}

/// A small event that carries a number.
///
/// # Panics
/// Never: its parts are valid.
#[must_use]
pub fn event(number: u64) -> NewEvent {
    NewEvent::json("Counted", &serde_json::json!({ "number": number })).expect("a valid event")
}

/// A stream id.
///
/// # Panics
/// If it breaks a rule.
#[must_use]
pub fn stream(id: &str) -> StreamId {
    StreamId::new(id).expect("a valid stream id")
}
