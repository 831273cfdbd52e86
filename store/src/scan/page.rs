//! The one request: a page of one segment.

use std::time::Duration;

use aws_sdk_dynamodb::operation::scan::builders::ScanFluentBuilder;
use futures_util::FutureExt as _;

use super::{ScanOptions, token::Progress};
use crate::{
    error::Error,
    observe::{Operation, Watch, count},
    read::PageSize,
    retry::Backoff,
    schema::{self, ENTITY, EVENT_PREFIX, Item, STREAM_ID},
    stream::StreamId,
    table::Table,
};

/// How often a page of a scan is asked for if DynamoDB does not answer or has no capacity left: a scan of a large table is
/// long, and is not to end for a moment's throttling. With the delays between them about three seconds, and the SDK's own.
pub const SCAN_ATTEMPTS: u32 = 6;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// One segment of a scan: what it is of, and how far it was read.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) table: Table,
    options: ScanOptions,
    number: u16,
    /// How far it was read.
    pub(crate) progress: Progress,
    rows: ScanRows,
    page_size: PageSize,
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
    pub(crate) fn new(table: Table, options: ScanOptions, number: u16, rows: ScanRows) -> Self {
        let token = options.token.as_ref();
        let progress = token.map_or(Progress::Start, |token| token.segments[usize::from(number)].clone());
        Self { table, options, number, progress, rows, page_size: PageSize::default() }
    }

    /// The event that the last page has ended with, if it was one of the scan's.
    pub(crate) fn event_at_end(&self) -> Option<(StreamId, u64)> {
        let Progress::After { stream, entity, .. } = &self.progress else { return None };
        let stream = StreamId::stored(stream);
        let is_wanted = self.options.category.as_ref().is_none_or(|category| stream.category() == category);
        let version = schema::event_version(entity).filter(|_| is_wanted)?;
        Some((stream, version))
    }

    /// Watches the next page, if there is one to fetch.
    pub(crate) fn watch(&self) -> Watch {
        if self.progress == Progress::End {
            return Watch::nothing();
        }
        self.table.watch(Operation::Scan, self.options.category.as_deref().unwrap_or_default())
    }

    /// The next page, and [`progress`](Self::progress) behind it. If DynamoDB does not answer or has no capacity left, it is asked
    /// again.
    pub(crate) async fn next_page(&mut self) -> Result<ScannedPage, Error> {
        if self.progress == Progress::End {
            return Ok(ScannedPage { items: Vec::new(), read_units: 0.0 });
        }
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        let mut operation = self.table.operation("scan", self.table.name());
        let output = loop {
            operation.attempts += 1;
            count::request();
            match self.request().send().boxed().await.map_err(|error| operation.failed(error)) {
                Err(Error::Unavailable { .. }) if operation.attempts < SCAN_ATTEMPTS => {
                    // Over a slow link, and if capacity is short, fewer items get through.
                    self.page_size.shrink();
                    backoff.wait().await;
                }
                answer => break answer?,
            }
        };
        self.page_size.grow();
        let read_units = output.consumed_capacity().and_then(|used| used.capacity_units).unwrap_or_default();
        let key = output.last_evaluated_key.filter(|key| !key.is_empty());
        self.progress = key.as_ref().map_or(Progress::End, Progress::behind_key);
        let items = output.items.unwrap_or_default();
        count::read(read_units, items.len());
        Ok(ScannedPage { items, read_units })
    }

    fn request(&self) -> ScanFluentBuilder {
        let mut scan = self.table.scan();
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
        if let Progress::After { stream, entity, .. } = &self.progress {
            scan = scan.set_exclusive_start_key(Some(schema::key(stream, entity.clone())));
        }
        scan.consistent_read(self.options.is_consistent)
            .segment(i32::from(self.number))
            .total_segments(i32::from(self.options.segments))
            .filter_expression(filters.join(" AND "))
            .set_limit(self.page_size.limit(self.options.page_items.map(Into::into)))
    }
}
