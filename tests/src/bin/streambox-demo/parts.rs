//! What the demo makes, and removes at its end.

use std::time::Duration;

use streambox::{Client, EventStore, client_from_env};
use streambox_consumer::{Inbox, Queues, TlsFiles, create_inbox_table};
use streambox_tests::{
    PATIENCE,
    broker::{named_broker_url, remove},
    effects::Effects,
    engine::pending,
    unique,
};
use tokio::time::{sleep, timeout};

use crate::{Arguments, Failure, programs};

/// The longest that it takes to remove everything.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(30);

/// A table gives no signal, so it is asked again after this time.
const PENDING_INTERVAL: Duration = Duration::from_millis(100);

/// The tables, the exchange and the queues of one run. All of them have names that nothing else has; of a relay that runs, the events table and
/// the exchange are its own.
pub(crate) struct Parts {
    pub(crate) client: Client,
    pub(crate) broker_url: String,
    pub(crate) table: String,
    pub(crate) queues: Queues,
    pub(crate) effects: Effects,
    inbox_table: String,
    relay_runs: bool,
}

impl Parts {
    /// Their names. Nothing is made yet.
    pub(crate) async fn named(arguments: &Arguments) -> Result<Self, Failure> {
        let client = client_from_env().await;
        let own = unique("streambox-demo");
        let (table, exchange) = if arguments.relay_runs {
            (arguments.table.clone(), arguments.exchange.clone())
        } else {
            (own.clone(), own.clone())
        };
        Ok(Self {
            broker_url: named_broker_url(),
            table,
            queues: Queues::new(&own)?.exchange(exchange)?,
            effects: Effects::of_table(client.clone(), format!("{own}-effects")),
            inbox_table: format!("{own}-inbox"),
            relay_runs: arguments.relay_runs,
            client,
        })
    }

    /// Makes them.
    pub(crate) async fn create(&self) -> Result<(), Failure> {
        self.queues.declare(&self.broker_url, TlsFiles::default()).await?;
        create_inbox_table(&self.client, &self.inbox_table).await?;
        self.effects.create_table().await?;
        if !self.relay_runs {
            programs::create_table(&self.table).await?;
        }
        Ok(())
    }

    /// Removes those that were made.
    pub(crate) async fn remove(&self) -> Result<(), Failure> {
        let removal = async {
            for table in [&self.inbox_table, self.effects.table()] {
                self.delete_table(table).await?;
            }
            if !self.relay_runs {
                self.delete_table(&self.table).await?;
            }
            let exchange = Some(self.queues.of_exchange()).filter(|_| !self.relay_runs);
            remove(&self.broker_url, &[self.queues.name(), &self.queues.dead_letters()], exchange).await?;
            Ok(())
        };
        timeout(REMOVAL_TIMEOUT, removal).await.unwrap_or_else(|elapsed| Err(elapsed.into())).map_err(
            |error: Failure| {
                let (name, error) = (self.queues.name(), error.to_string());
                format!("not everything that it has made could be removed ({error}); the names begin with {name}")
                    .into()
            },
        )
    }

    async fn delete_table(&self, table: &str) -> Result<(), Failure> {
        match self.client.delete_table().table_name(table).send().await.map_err(aws_sdk_dynamodb::Error::from) {
            Ok(_) | Err(aws_sdk_dynamodb::Error::ResourceNotFoundException(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The events.
    pub(crate) fn store(&self, client: &Client) -> EventStore {
        EventStore::new(client.clone(), &self.table)
    }

    /// The inbox of the demo's consumer.
    pub(crate) fn inbox(&self, client: &Client) -> Result<Inbox, Failure> {
        Ok(Inbox::new(client.clone(), &self.inbox_table, self.queues.name())?)
    }

    /// How many entries are pending. An event is received before its entry is deleted, so this waits for none as long as they become fewer.
    pub(crate) async fn wait_for_nothing_pending(&self) -> u64 {
        let mut before = self.pending().await;
        while before > 0 {
            let fewer = async {
                loop {
                    sleep(PENDING_INTERVAL).await;
                    let now = self.pending().await;
                    if now < before {
                        return now;
                    }
                }
            };
            let Ok(now) = timeout(PATIENCE, fewer).await else { break };
            before = now;
        }
        before
    }

    async fn pending(&self) -> u64 {
        pending(&self.client, &self.table).await
    }
}
