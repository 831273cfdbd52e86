//! What is read of the events table.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use streambox::{Error, EventStore, ReadOptions, StreamId, message::Received};

use crate::{Position, core::StorePage};

/// Events that one read fetches. Their sum is what is held of a stream that is caught up with: at most 12.5 MB, since an event has at most 400 KB.
const PAGE_EVENTS: u64 = 32;

/// The public events behind a version, a page of them. The public event before them has the version `last`, 0 if there is none.
pub(crate) async fn read_page(
    store: &EventStore,
    stream: &StreamId,
    after: u64,
    last: u64,
) -> Result<StorePage, Error> {
    let options = ReadOptions::forward().from_version(after.saturating_add(1)).limit(PAGE_EVENTS);
    let mut reading = store.read_stream(stream, options);
    let (mut events, mut through, mut count) = (Vec::new(), after, 0);
    let mut previous = (last > 0).then_some(last);
    while let Some(event) = reading.try_next().await? {
        (through, count) = (event.version, count + 1);
        if !event.is_private {
            let version = event.version;
            events.push(Arc::new(Received::from_recorded(event, previous)));
            previous = Some(version);
        }
    }
    Ok(StorePage { events, through, is_end: count < PAGE_EVENTS })
}

/// Whether the store has the event that a position names, if the position says which one it was.
pub(crate) async fn has(store: &EventStore, stream: &StreamId, position: Position) -> Result<bool, Error> {
    let Some(event_id) = position.event_id else { return Ok(true) };
    let event = store.event(stream, position.version).await?;
    Ok(event.is_some_and(|event| event.event_id() == event_id))
}
