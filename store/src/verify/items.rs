//! Where the items to verify come from.

use crate::{
    EventStore,
    error::Error,
    read,
    scan::{Place, ScanOptions, ScanRows, ScannedPage, Segment},
    stream::StreamId,
};

#[derive(Debug)]
pub(super) enum Items {
    Segment(Segment),
    Partition { store: EventStore, stream: StreamId, place: Place },
}

impl Items {
    pub(super) fn of_segment(store: &EventStore, options: &ScanOptions, number: u16) -> Self {
        Self::Segment(Segment::new(store.clone(), options.clone(), number, ScanRows::Items))
    }

    pub(super) fn of_stream(store: &EventStore, stream: &StreamId) -> Self {
        Self::Partition { store: store.clone(), stream: stream.clone(), place: Place::Start }
    }

    pub(super) fn place(&self) -> Place {
        match self {
            Self::Segment(segment) => segment.place.clone(),
            Self::Partition { place, .. } => place.clone(),
        }
    }

    pub(super) async fn next_page(&mut self) -> Result<ScannedPage, Error> {
        match self {
            Self::Segment(segment) => segment.next_page().await,
            Self::Partition { store, stream, place } => {
                let from = match place {
                    Place::After { entity, .. } => Some(entity.as_str()),
                    Place::Start | Place::End => None,
                };
                let (items, key, read_units) = read::partition_page(store, stream, from).await?;
                *place = key.as_ref().map_or(Place::End, Place::behind_key);
                Ok(ScannedPage { items, read_units })
            }
        }
    }
}
