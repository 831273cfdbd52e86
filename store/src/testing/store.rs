//! A store for a test, in one line.

use aws_credential_types::Credentials;

#[cfg(feature = "testing-engine")]
use super::engine::EmbeddedDynamoDb;
use super::local::{KEY, client, in_new_table};
use crate::EventStore;

/// The environment variable that names the end point of a DynamoDB for [`event_store`]: `http://127.0.0.1:8000`.
pub const ENDPOINT_VARIABLE: &str = "STREAMBOX_TEST_DYNAMODB_URL";

/// An [`EventStore`] in a new table: of the DynamoDB that [`ENDPOINT_VARIABLE`] names; if it is not set, of a new engine in this
/// process, which needs the feature `testing-engine`. That engine ends with the last clone of the store, or with the runtime that this
/// was called in.
///
/// The end point is one of a local engine: requests are signed with keys that the real DynamoDB refuses. Tables are not deleted.
///
/// # Panics
/// If the variable is not set and the feature is off, or the engine can't be reached or refuses the table; the message says what to do.
pub async fn event_store() -> EventStore {
    match std::env::var(ENDPOINT_VARIABLE) {
        Ok(url) if !url.is_empty() => {
            let keys = Credentials::new(KEY, KEY, None, None, "local");
            in_new_table(client(&url, |config| config.credentials_provider(keys))).await
        }
        _ => embedded().await,
    }
}

#[cfg(feature = "testing-engine")]
async fn embedded() -> EventStore {
    EmbeddedDynamoDb::start().await.event_store().await
}

#[cfg(not(feature = "testing-engine"))]
fn embedded() -> std::future::Ready<EventStore> {
    panic!(
        "there is no DynamoDB to test on: name the end point of one in {ENDPOINT_VARIABLE}, or turn on streambox's feature \
         `testing-engine`"
    )
}
