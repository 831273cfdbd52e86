//! The one request: a page of one segment.

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;

use super::{ScanOptions, token::Place};
use crate::{
    EventStore,
    error::Error,
    failure::Attempts,
    schema::{self, ENTITY, EVENT_PREFIX, Item, STREAM_ID},
    stream::StreamId,
};

/// One segment of a scan: what it is of, and how far it was read.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) store: EventStore,
    options: ScanOptions,
    number: u16,
    /// How far it was read.
    pub(crate) place: Place,
    rows: ScanRows,
}

/// Which items of the table, and what of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ScanRows {
    Events,
    /// Of events these attributes alone, separated by commas: less to transfer, not less to pay for.
    Parts(&'static str),
    /// All but the rows of the relay.
    Items,
}

pub(crate) struct ScannedPage {
    pub(crate) items: Vec<Item>,
    pub(crate) read_units: f64,
}

impl Segment {
    pub(crate) fn new(store: EventStore, options: ScanOptions, number: u16, rows: ScanRows) -> Self {
        let token = options.token.as_ref();
        let place = token.map_or(Place::Start, |token| token.segments[usize::from(number)].clone());
        Self { store, options, number, place, rows }
    }

    /// The event that the last page has ended with, if it was one of the scan's.
    pub(crate) fn place_at_event(&self) -> Option<(StreamId, u64)> {
        let Place::After { stream, entity, .. } = &self.place else { return None };
        let stream = StreamId::stored(stream);
        let is_wanted = self.options.category.as_ref().is_none_or(|category| stream.category() == category);
        let version = schema::event_version(entity).filter(|_| is_wanted)?;
        Some((stream, version))
    }

    /// The next page, and [`place`](Self::place) behind it.
    pub(crate) async fn next_page(&mut self) -> Result<ScannedPage, Error> {
        let from = match &self.place {
            Place::Start => None,
            Place::After { stream, entity, .. } => Some(schema::key(stream, entity.clone())),
            Place::End => return Ok(ScannedPage { items: Vec::new(), read_units: 0.0 }),
        };
        let mut scan = self.store.client().scan();
        let mut filters = Vec::new();
        if self.rows == ScanRows::Items {
            filters.push(format!("NOT begins_with({STREAM_ID}, :reserved)"));
            scan = scan.expression_attribute_values(":reserved", schema::text("$"));
        } else {
            filters.push(format!("begins_with({ENTITY}, :event)"));
            scan = scan.expression_attribute_values(":event", schema::text(EVENT_PREFIX));
        }
        if let Some(category) = &self.options.category {
            filters.push(format!("begins_with({STREAM_ID}, :category)"));
            scan = scan.expression_attribute_values(":category", schema::text(format!("{category}-")));
        }
        if let ScanRows::Parts(attributes) = self.rows {
            scan = scan.projection_expression(attributes);
        }
        let output = scan
            .table_name(self.store.table())
            .consistent_read(self.options.is_consistent)
            .segment(i32::from(self.number))
            .total_segments(i32::from(self.options.segments))
            .filter_expression(filters.join(" AND "))
            .set_limit(self.options.page_items.map(|items| i32::try_from(items).unwrap_or(i32::MAX)))
            .set_exclusive_start_key(from)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| Attempts { made: 1, ..Attempts::of("scan", self.store.table()) }.failed(error))?;
        let read_units = output.consumed_capacity().and_then(|used| used.capacity_units).unwrap_or_default();
        let key = output.last_evaluated_key.filter(|key| !key.is_empty());
        self.place = key.as_ref().map_or(Place::End, Place::behind_key);
        Ok(ScannedPage { items: output.items.unwrap_or_default(), read_units })
    }
}
