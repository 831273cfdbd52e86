//! The projection: what each customer has ordered, and how far each stream is applied.

use streambox::{StreamId, message::Received};
use streambox_consumer::{Applied, Position, Projection};
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::{Client, NoTls, Transaction};

/// The read model, and the positions beside it: only one database has transactions over both.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS customers (customer text PRIMARY KEY, orders bigint NOT NULL, cents bigint NOT NULL);
    CREATE TABLE IF NOT EXISTS positions (stream_id text PRIMARY KEY, version bigint NOT NULL, event_id uuid NOT NULL);";

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// PostgreSQL has not answered, or has refused something.
    #[error("PostgreSQL has not stored it")]
    Postgres(#[from] tokio_postgres::Error),
    /// The event has another form than this program knows.
    #[error("the event can't be read")]
    Event(#[from] streambox::Error),
}

/// Orders by customer, in PostgreSQL.
pub(crate) struct Orders {
    url: String,
    /// One connection: a service takes a pool, so that several streams are applied at the same time.
    client: Mutex<Client>,
}

#[derive(serde::Deserialize)]
struct Placed {
    customer: String,
    total_cents: i64,
}

impl Projection for Orders {
    type Error = Failure;

    async fn position(&self, stream: &StreamId) -> Result<Position, Failure> {
        let select = "SELECT version, event_id FROM positions WHERE stream_id = $1";
        let row = self.client().await?.query_opt(select, &[&stream.as_str()]).await?;
        Ok(row.map_or_else(Position::default, |row| Position {
            version: row.get::<_, i64>(0).unsigned_abs(),
            event_id: Some(row.get(1)),
        }))
    }

    async fn apply(&self, event: &Received, last_version: u64) -> Result<Applied, Failure> {
        let mut client = self.client().await?;
        // Dropped without a commit, also in the middle of an error, it is rolled back.
        let transaction = client.transaction().await?;
        let (stream, version, id) = (event.stream_id.as_str(), event.version.cast_signed(), event.event_id);
        // Of two at the same time, PostgreSQL lets the second one wait, and then find the row there, or changed.
        let moved = if last_version == 0 {
            let insert = "INSERT INTO positions VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
            transaction.execute(insert, &[&stream, &version, &id]).await?
        } else {
            let update = "UPDATE positions SET version = $2, event_id = $3 WHERE stream_id = $1 AND version = $4";
            transaction.execute(update, &[&stream, &version, &id, &last_version.cast_signed()]).await?
        };
        if moved == 0 {
            return Ok(Applied::Moved);
        }
        change(&transaction, event).await?;
        transaction.commit().await?;
        Ok(Applied::Stored)
    }
}

/// The effect of an event. Whoever changes this adds a generation, and fills it by a rebuild.
async fn change(transaction: &Transaction<'_>, event: &Received) -> Result<(), Failure> {
    if event.event_type == "OrderPlaced" {
        let Placed { customer, total_cents } = event.payload()?;
        let add = "INSERT INTO customers VALUES ($1, 1, $2) ON CONFLICT (customer) DO UPDATE
                   SET orders = customers.orders + 1, cents = customers.cents + excluded.cents";
        transaction.execute(add, &[&customer, &total_cents]).await?;
    }
    Ok(())
}

impl Orders {
    /// Connects, and creates the tables if they are not there.
    pub(crate) async fn open(url: &str) -> Result<Self, Failure> {
        let client = connect(url).await?;
        client.batch_execute(TABLES).await?;
        Ok(Self { url: url.to_owned(), client: Mutex::new(client) })
    }

    /// A customer's number of orders, and their sum in cents.
    pub(crate) async fn of_customer(&self, customer: &str) -> Result<(i64, i64), Failure> {
        let select = "SELECT orders, cents FROM customers WHERE customer = $1";
        let row = self.client().await?.query_opt(select, &[&customer]).await?;
        Ok(row.map_or((0, 0), |row| (row.get(0), row.get(1))))
    }

    /// The connection; a new one, if PostgreSQL has closed the one before.
    async fn client(&self) -> Result<MutexGuard<'_, Client>, Failure> {
        let mut client = self.client.lock().await;
        if client.is_closed() {
            *client = connect(&self.url).await?;
        }
        Ok(client)
    }
}

async fn connect(url: &str) -> Result<Client, Failure> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // It ends with the client, or with an error that the client's next request reports.
    tokio::spawn(connection);
    Ok(client)
}
