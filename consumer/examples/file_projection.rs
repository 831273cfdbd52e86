//! A read model in a file: how many orders each customer has placed. The file has the position of each stream as well, and is replaced
//! as a whole, so effect and position change together.
//!
//! `cargo run -p streambox-consumer --example file_projection`

use std::{
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use streambox::{EventStore, ExpectedVersion, NewEvent, StreamId, Uuid, message::Received, serde_json, testing};
use streambox_consumer::{Applied, Position, Projection, Rebuild};

/// For a read model of a few thousand streams: the whole file is written for each event, and the thread waits for the disk.
struct OrdersInFile {
    path: PathBuf,
    content: Mutex<Content>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Content {
    orders: BTreeMap<String, u64>,
    positions: BTreeMap<String, (u64, Uuid)>,
}

impl OrdersInFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let content = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Content::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, content: Mutex::new(content) })
    }

    /// What is named by the path is the old file or the new one, whatever ends in between.
    fn replace(&self, content: &Content) -> io::Result<()> {
        let new = self.path.with_extension("new");
        fs::write(&new, serde_json::to_vec(content)?)?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(&new, &self.path)
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Projection for OrdersInFile {
    type Error = io::Error;

    async fn position(&self, stream: &StreamId) -> io::Result<Position> {
        let content = self.content();
        let position = content.positions.get(stream.as_str());
        Ok(position.map_or_else(Position::default, |&(version, id)| Position { version, event_id: Some(id) }))
    }

    async fn apply(&self, event: &Received, last_version: u64) -> io::Result<Applied> {
        let mut content = self.content();
        if content.positions.get(event.stream_id.as_str()).map_or(0, |(version, _)| *version) != last_version {
            return Ok(Applied::Moved);
        }
        let mut new = content.clone();
        if event.event_type == "OrderPlaced" {
            let customer: String = event.payload().map_err(io::Error::other)?;
            *new.orders.entry(customer).or_default() += 1;
        }
        new.positions.insert(event.stream_id.to_string(), (event.version, event.event_id));
        self.replace(&new)?;
        *content = new;
        Ok(Applied::Stored)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = testing::event_store().await;
    for (order, customer) in [("order-1", "ann"), ("order-2", "bob"), ("order-3", "ann")] {
        place(&store, order, customer).await?;
    }
    let directory = std::env::temp_dir().join(format!("file-projection-{}", Uuid::new_v4()));
    fs::create_dir(&directory)?;
    let path = directory.join("orders.json");
    let projection = OrdersInFile::open(path.clone())?;

    // As a relay and a broker deliver at their worst: repeated, and shuffled. What came before is not stored again.
    for seed in 0..3 {
        let receive =
            async |event: Received| projection.apply(&event, event.previous_version.unwrap_or(0)).await.map(drop);
        testing::deliver_shuffled(&store, seed, receive).await;
    }
    println!("after deliveries: {:?}", projection.content().orders);

    // What no queue has delivered is in the table.
    place(&store, "order-4", "bob").await?;
    let reopened = OrdersInFile::open(path)?;
    let report = Rebuild::new(&store, &reopened).run().await?;
    println!("after a rebuild: {:?}, {} event applied", reopened.content().orders, report.applied);
    fs::remove_dir_all(&directory)?;
    Ok(())
}

async fn place(store: &EventStore, order: &str, customer: &str) -> Result<(), streambox::Error> {
    let events = [NewEvent::json("OrderPlaced", &customer)?, NewEvent::json("OrderChecked", &())?.private()];
    store.append(&StreamId::new(order)?, ExpectedVersion::NoStream, events).await?;
    Ok(())
}
