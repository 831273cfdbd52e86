//! The embedded engine as a process of its own: this program, told to be it.

use std::process::Stdio;

use aws_sdk_dynamodb::{
    Client,
    config::{Credentials, Region},
};
use aws_smithy_async::rt::sleep::TokioSleep;
use streambox::{RequestLimits, behavior_version, testing::EmbeddedDynamoDb};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, stdin},
    process::{Child, Command},
};

use crate::wire::Wire;

/// Ended with the value.
pub(crate) struct Engine {
    url: String,
    _process: Child,
}

impl Engine {
    pub(crate) async fn start() -> Self {
        let this = std::env::current_exe().expect("a running program has a path");
        let mut process = Command::new(this)
            .arg("--engine")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the engine starts");
        let mut lines = BufReader::new(process.stdout.take().expect("stdout is piped")).lines();
        let url = lines.next_line().await.expect("a line of text").expect("the engine prints its URL");
        Self { url, _process: process }
    }

    /// A client, the same for all sides.
    pub(crate) fn client(&self, wire: Option<&Wire>) -> Client {
        let mut config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(behavior_version())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("local", "local", None, None, "peers"))
            // The SDK's own by default; event-store-adapter asks for one that is named.
            .sleep_impl(TokioSleep::new())
            .endpoint_url(&self.url);
        if let Some(wire) = wire {
            config = config.http_client(wire.clone());
        }
        Client::from_conf(RequestLimits::default().apply(config).build())
    }
}

/// Serves until standard input ends.
pub(crate) async fn serve() {
    let engine = EmbeddedDynamoDb::start().await;
    println!("{}", engine.url());
    let _ = stdin().read_to_end(&mut Vec::new()).await;
}
