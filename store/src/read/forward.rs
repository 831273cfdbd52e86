//! From older to newer events, page by page.

use futures_util::FutureExt as _;

use super::{
    Direction,
    check::check_forward,
    gap::GapWatch,
    page_size::PageSize,
    query::{self, Page},
};
use crate::{
    error::Error,
    event::RecordedEvent,
    observe::{Operation, Watch},
    stream::{StreamId, StreamPosition},
    table::Table,
};

/// Reads a stream forward, page by page, each page at most 1 MB. See [`EventStore::reader`](crate::EventStore::reader).
#[derive(Debug)]
pub struct EventReader {
    table: Table,
    /// Where the stream was when the reader was last there.
    position: StreamPosition,
    /// The last version to read, even if the stream continues.
    to: u64,
    /// Whether the stream is known to go as far as `to`, so that an earlier end is a gap.
    reaches_to: bool,
    done: bool,
    page_size: PageSize,
    read_units: f64,
}

impl EventReader {
    pub(crate) fn new(table: Table, position: StreamPosition) -> Self {
        Self {
            table,
            position,
            to: u64::MAX,
            reaches_to: false,
            done: false,
            page_size: PageSize::default(),
            read_units: 0.0,
        }
    }

    /// Begins with version `from`, whatever is before it. Its position is good for reading on only: what came before is not
    /// known.
    pub(crate) fn beginning_with(table: Table, stream: StreamId, from: u64) -> Self {
        Self::new(table, StreamPosition::before_unread(stream, from.saturating_sub(1)))
    }

    /// Reads on from a position, and at first the event once more that it stands behind, by the same request: the reader and what
    /// has come of the events behind it. `None` if the table does not have that event: it is not the table that the position is
    /// of.
    pub(crate) async fn checking(
        table: Table,
        position: StreamPosition,
    ) -> Result<Option<(Self, Vec<RecordedEvent>)>, Error> {
        let Some(append_id) = position.append_id() else { return Ok(Some((Self::new(table, position), Vec::new()))) };
        table.check_position(&position)?;
        let mut reader = Self::beginning_with(table, position.stream().clone(), position.version());
        let mut page = reader.fetch().await?.unwrap_or_default();
        if page.first().is_none_or(|event| event.append.id != append_id) {
            return Ok(None);
        }
        page.remove(0);
        Ok(Some((reader, page)))
    }

    /// Stops behind version `to`, even if that is in the middle of an append. Fewer events are consumed, and paid for.
    #[must_use]
    pub fn up_to(mut self, to: u64) -> Self {
        self.to = to;
        self.done = self.position.version() >= self.to;
        self
    }

    /// Stops behind version `to`, which is known to exist.
    pub(crate) fn reaching(self, to: u64) -> Self {
        Self { reaches_to: true, ..self.up_to(to) }
    }

    /// The position behind the events read so far.
    #[must_use]
    pub fn position(&self) -> &StreamPosition {
        &self.position
    }

    /// The capacity units consumed so far.
    #[must_use]
    pub fn read_units(&self) -> f64 {
        self.read_units
    }

    /// The next events in order, or `None` at the end. A page is never empty and has no gap, neither inside nor to the page
    /// before; the end is never in the middle of an append.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the next event is missing or unreadable, after those before it were handed out; [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB
    /// answers. The reader can be asked again after an error; it continues where it was.
    pub async fn next_page(&mut self) -> Result<Option<Vec<RecordedEvent>>, Error> {
        self.watch().over(self.fetch()).await
    }

    /// Watches the next page, if there is one to fetch.
    pub(crate) fn watch(&self) -> Watch {
        if self.done {
            return Watch::nothing();
        }
        self.table.watch(Operation::Page, self.position.stream().as_str())
    }

    /// The next page, as a part of another operation.
    pub(crate) async fn fetch(&mut self) -> Result<Option<Vec<RecordedEvent>>, Error> {
        self.table.check_position(&self.position)?;
        let mut watch = GapWatch::new();
        while !self.done {
            let next = self.position.version() + 1;
            let Page { items, is_last, read_units } = query::page(
                &self.table,
                self.position.stream(),
                next..=self.to,
                Direction::Forward,
                None,
                &mut self.page_size,
            )
            .boxed()
            .await?;
            self.read_units += read_units;
            let checked = check_forward(items, next, is_last.then_some(self.to));
            let ends_early = self.reaches_to && is_last && checked.events.is_empty();
            let missing = checked.missing.or(ends_early.then_some(next));
            let is_whole = missing.is_none() && checked.corrupt.is_none();
            if let Some(last) = checked.events.last() {
                self.position = last.position(self.table.full_name());
                self.done = last.version >= self.to || (is_last && is_whole && !self.reaches_to);
                return Ok(Some(checked.events));
            }
            if let Some(corrupt) = checked.corrupt {
                return Err(corrupt.into());
            }
            match missing {
                Some(missing) => watch.wait(self.position.stream(), missing).await?,
                None => self.done = is_last,
            }
        }
        Ok(None)
    }
}
