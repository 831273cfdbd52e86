//! The inbox.

use streambox::Client;

/// How far a consumer has applied each stream, and which streams are parked, in a DynamoDB table.
#[derive(Clone, Debug)]
pub struct Inbox {
    pub(crate) client: Client,
    pub(crate) table: String,
    pub(crate) consumer: String,
    pub(crate) generation: u32,
}
