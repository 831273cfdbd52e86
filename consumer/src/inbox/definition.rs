//! The inbox's table, created for development and compared with what is expected.

use streambox::{Client, Error, TableCheck, TableCreation};

use super::schema::TABLE;

/// Creates the table of an [`Inbox`](crate::Inbox), on-demand, with its index, and waits until both are active. For development and
/// tests.
///
/// # Errors
/// As [`streambox::create_table`].
pub async fn create_inbox_table(client: &Client, table: &str) -> Result<TableCreation, Error> {
    TABLE.create(client, table).await
}

/// Compares the table of an [`Inbox`](crate::Inbox) with what it has to be. Reads only; needs the permissions of
/// [`streambox::check_table`].
///
/// # Errors
/// As [`streambox::check_table`].
pub async fn check_inbox_table(client: &Client, table: &str) -> Result<TableCheck, Error> {
    TABLE.check(client, table).await
}
