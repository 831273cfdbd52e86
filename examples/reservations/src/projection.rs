//! The read model: how many seats of each concert are free.

use aws_sdk_dynamodb::types::TransactWriteItem;
use streambox::{aggregate::Aggregate as _, message::Received};
use streambox_consumer::{Context, Handler, HandlerError};

use crate::{
    concert::{Concert, ConcertEvent},
    table::FreeSeats,
};

/// Counts each event once: the consumer stores what this returns in one transaction with the stream's position.
impl Handler for FreeSeats {
    async fn handle(&self, event: &Received, _: &Context<'_>) -> Result<Vec<TransactWriteItem>, HandlerError> {
        // The payload is as it was appended, perhaps by an older version of the service.
        let events = Concert::decode(&event.event_type, &event.payload)?;
        Ok(vec![self.add(&event.stream_id, events.iter().map(change).sum())])
    }
}

/// By how many the free seats change.
fn change(event: &ConcertEvent) -> i64 {
    match event {
        ConcertEvent::Announced { seats } => i64::from(*seats),
        ConcertEvent::SeatReserved { .. } => -1,
        ConcertEvent::SeatReleased { .. } => 1,
    }
}

#[cfg(test)]
mod tests {
    use streambox::{
        aggregate::Repository,
        testing::{EmbeddedDynamoDb, deliver_shuffled},
    };
    use streambox_consumer::{Inbox, Projection as _, create_inbox_table};

    use super::*;
    use crate::table::{self, Emails};

    #[tokio::test]
    async fn each_event_counts_once_in_whatever_way_it_comes() {
        let engine = EmbeddedDynamoDb::start().await;
        let concerts = Repository::<Concert>::new(engine.event_store().await);
        table::create(&engine.client(), "own").await.unwrap();
        create_inbox_table(&engine.client(), "inbox").await.unwrap();
        let emails = Emails::new("own");
        for id in ["1", "2"] {
            concerts.execute(id, |concert| concert.announce(10)).await.unwrap();
            for guest in ["ann", "bob", "eve"] {
                concerts.execute(id, |concert| concert.reserve(&format!("{guest}-{id}"), None, &emails)).await.unwrap();
            }
            concerts.execute(id, |concert| concert.release(2, &emails)).await.unwrap();
        }
        for seed in 0..5 {
            let own = format!("own-{seed}");
            table::create(&engine.client(), &own).await.unwrap();
            let free_seats = FreeSeats::new(engine.client(), own);
            let inbox = Inbox::new(engine.client(), "inbox", &format!("free-seats-{seed}")).unwrap();
            let projection = inbox.projection(free_seats.clone());
            deliver_shuffled(concerts.store(), seed, async |event| {
                // What comes again is refused: the stream has moved on.
                projection.apply(&event, event.previous_version.unwrap_or(0)).await.map(drop)
            })
            .await;
            for id in ["1", "2"] {
                let concert = Repository::<Concert>::stream_id(id).unwrap();
                assert_eq!(free_seats.of(&concert).await.unwrap(), Some(8), "concert {id}, seed {seed}");
            }
        }
    }
}
