//! A DynamoDB in the test process. Feature `testing-engine`.

use std::sync::Arc;

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, future::ProvideCredentials as Provided},
};
use aws_sdk_dynamodb::{Client, config::Builder};
use dynoxide::{Database, server};
use tokio::{net::TcpListener, sync::oneshot};

use super::local::{KEY, REGION, client, in_new_table};
use crate::EventStore;

/// An in-memory DynamoDB engine, served inside this process on a port of the loopback interface that the system
/// chooses.
///
/// It ends when this, its clones and all clients made from it are dropped, or with the runtime that it was started in.
#[derive(Clone, Debug)]
pub struct EmbeddedDynamoDb {
    url: String,
    running: Running,
}

/// Each holder keeps the engine running.
#[derive(Clone, Debug)]
struct Running(#[expect(dead_code, reason = "the engine waits for its end")] Arc<oneshot::Sender<()>>);

impl EmbeddedDynamoDb {
    /// Starts an engine without tables.
    ///
    /// # Panics
    /// If no port of the loopback interface is free, or outside a Tokio runtime.
    pub async fn start() -> Self {
        let database = Database::memory().expect("an engine in memory needs nothing from outside");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback interface has a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let (running, all_dropped) = oneshot::channel();
        let until_dropped = async {
            let _ = all_dropped.await;
        };
        tokio::spawn(async move {
            if let Err(error) = server::serve_with_shutdown(listener, database, until_dropped).await {
                tracing::error!(error, "the embedded engine has ended");
            }
        });
        Self { url, running: Running(Arc::new(running)) }
    }

    /// Its end point.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client with the time limits that the library sets.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_with(|config| config)
    }

    /// A client whose settings `adjust` has changed: another HTTP client, for instance, that loses answers on purpose.
    #[must_use]
    pub fn client_with(&self, adjust: impl FnOnce(Builder) -> Builder) -> Client {
        // The client keeps its credentials provider, and so the engine.
        client(&self.url, |config| adjust(config.credentials_provider(self.running.clone())))
    }

    /// A store in a new table.
    ///
    /// # Panics
    /// If the engine refuses the table: it does not.
    pub async fn event_store(&self) -> EventStore {
        in_new_table(self.client()).await
    }

    /// What another process needs in its environment to use this engine: AWS's own variables.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL_DYNAMODB", self.url.clone()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", KEY.to_owned()),
        ]
    }
}

impl ProvideCredentials for Running {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        Provided::ready(Ok(Credentials::new(KEY, KEY, None, None, "embedded")))
    }
}
