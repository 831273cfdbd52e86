//! The embedded engine as a process, with a table.

use std::process::Stdio;

use streambox::{Client, EventStore, create_table};
use streambox_tests::{engine::client, programs::program, unique, wire::Wire};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// Killed with the value.
pub(crate) struct Engine {
    url: String,
    table: String,
    _process: Child,
}

impl Engine {
    pub(crate) async fn start() -> Self {
        let mut command = Command::new(program("embedded-dynamodb"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("the engine starts");
        let mut lines = BufReader::new(process.stdout.take().expect("stdout is piped")).lines();
        let url = lines.next_line().await.expect("a line of text").expect("the engine prints its URL");
        let table = unique("bench");
        create_table(&client(&url, None), &table).await.expect("the engine creates tables");
        Self { url, table, _process: process }
    }

    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    pub(crate) fn client(&self, wire: Option<&Wire>) -> Client {
        client(&self.url, wire)
    }

    pub(crate) fn store(&self, wire: Option<&Wire>) -> EventStore {
        EventStore::new(self.client(wire), &self.table)
    }
}
