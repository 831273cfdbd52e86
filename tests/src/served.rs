//! The embedded engine as a process of its own, with a table: what is measured on, fresh for each case and round.

use std::process::Stdio;

use streambox::{Client, EventStore, create_table};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{
    basics::{self, KEY, REGION},
    built::program,
    unique,
    wire::Wire,
};

/// An engine, killed with the value.
#[derive(Debug)]
pub struct ServedEngine {
    url: String,
    table: String,
    _process: Child,
}

impl ServedEngine {
    /// Starts an engine as DynamoDB is, tokens included, and creates a table.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts `embedded-dynamodb` with these arguments.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let mut command = Command::new(program("embedded-dynamodb"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("the engine starts");
        let mut lines = BufReader::new(process.stdout.take().expect("stdout is piped")).lines();
        let url = lines.next_line().await.expect("a line of text").expect("the engine prints its URL");
        let table = unique("table");
        create_table(&basics::client(&url, None), &table).await.expect("the engine creates tables");
        Self { url, table, _process: process }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// A client of the engine.
    #[must_use]
    pub fn client(&self, wire: Option<&Wire>) -> Client {
        basics::client(&self.url, wire)
    }

    /// A store in the table.
    #[must_use]
    pub fn store(&self, wire: Option<&Wire>) -> EventStore {
        EventStore::new(self.client(wire), &self.table)
    }

    /// What a program needs in its environment to use the engine and the table.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("AWS_ENDPOINT_URL_DYNAMODB", &self.url),
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", KEY),
            ("STREAMBOX_TABLE", &self.table),
        ]
    }
}
