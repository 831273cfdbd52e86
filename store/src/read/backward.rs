//! From newer to older events, page by page.

use futures_util::FutureExt as _;

use super::{
    Direction,
    check::{Top, check_backward},
    gap::GapWatch,
    page_size::PageSize,
    query::{self, Page},
};
use crate::{
    error::Error,
    event::RecordedEvent,
    observe::{Operation, Watch},
    stream::StreamId,
    table::Table,
};

/// Reads a stream backward, with the same checks as forward.
#[derive(Debug)]
pub(super) struct BackwardReader {
    table: Table,
    stream: StreamId,
    top: Top,
    /// How many events are still to be read.
    left: u64,
    done: bool,
    page_size: PageSize,
    pub(super) read_units: f64,
}

impl BackwardReader {
    /// Begins with the event at `from`, or at the end if the stream is shorter.
    pub(super) fn new(table: Table, stream: StreamId, from: u64, limit: u64) -> Self {
        let (done, page_size) = (limit == 0 || from == 0, PageSize::default());
        Self { table, stream, top: Top::End(from), left: limit, done, page_size, read_units: 0.0 }
    }

    /// As [`EventReader::next_page`](super::EventReader::next_page), in the other direction.
    pub(super) async fn next_page(&mut self) -> Result<Option<Vec<RecordedEvent>>, Error> {
        let watch = if self.done { Watch::nothing() } else { self.table.watch(Operation::Page, self.stream.as_str()) };
        watch.over(self.fetch()).await
    }

    async fn fetch(&mut self) -> Result<Option<Vec<RecordedEvent>>, Error> {
        let mut watch = GapWatch::new();
        while !self.done {
            let (Top::Next(to) | Top::End(to)) = self.top;
            let limit = (self.left < u64::MAX).then_some(self.left);
            let size = &mut self.page_size;
            let page = query::page(&self.table, &self.stream, 1..=to, Direction::Backward, limit, size).boxed().await?;
            let Page { items, is_last, read_units } = page;
            self.read_units += read_units;
            let checked = check_backward(items, self.top, is_last);
            if let (true, Some(corrupt)) = (checked.events.is_empty(), checked.corrupt) {
                return Err(corrupt.into());
            }
            let above = match self.top {
                // Otherwise the page itself has shown what is missing at its top.
                Top::End(from) if checked.missing.is_none() || !checked.events.is_empty() => {
                    self.missing_above(checked.events.first(), from).await?
                }
                _ => None,
            };
            let missing = above.or(checked.missing);
            if let (Some(lowest), None) = (checked.events.last(), above) {
                self.top = Top::Next(lowest.version - 1);
                self.left -= checked.events.len() as u64;
                self.done = lowest.version == 1 || self.left == 0;
                return Ok(Some(checked.events));
            }
            match missing {
                Some(missing) => watch.wait(&self.stream, missing).await?,
                None => self.done = is_last,
            }
        }
        Ok(None)
    }

    /// Where the read was to begin with a version and the first event found is older, or none was, the stream must end there:
    /// what is missing else. One request more.
    async fn missing_above(&mut self, newest: Option<&RecordedEvent>, from: u64) -> Result<Option<u64>, Error> {
        let newest = newest.map_or(0, |event| event.version);
        if newest == from || from == u64::MAX {
            return Ok(None);
        }
        let above = newest + 1;
        let size = &mut self.page_size;
        let page = query::page(&self.table, &self.stream, above..=u64::MAX, Direction::Forward, Some(1), size).await?;
        self.read_units += page.read_units;
        Ok((!page.items.is_empty()).then_some(above))
    }
}
