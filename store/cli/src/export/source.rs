//! Where the events come from: a scan of the table, or one stream.

use std::{future::Future, pin::Pin};

use futures_util::TryStreamExt as _;
use streambox::{Error, EventScan, EventStore, EventStream, ReadOptions, RecordedEvent, StreamId};
use streambox_programs::Failure;

use super::{Stop, checkpoint::Cursor, damage::Damage};
use crate::{cli::Selection, line};

pub(super) enum Source {
    Scan(Box<EventScan>),
    Stream { events: EventStream, version: u64 },
}

impl Source {
    pub(super) fn new(store: &EventStore, selection: &Selection, cursor: &Cursor) -> Result<Self, Failure> {
        let Some(stream) = &selection.stream else {
            let mut scan = selection.scan.options();
            if let Cursor::Scan(token) = cursor {
                scan = scan.resume(token.clone());
            }
            return Ok(Self::Scan(Box::new(store.scan_events(&scan)?)));
        };
        let version = if let Cursor::Version(version) = cursor { *version } else { 0 };
        let part = ReadOptions::forward().from_version(version.saturating_add(1));
        Ok(Self::Stream { events: store.read_stream(&StreamId::new(stream)?, part), version })
    }

    /// The next event and its line, or the next damaged stream; `None` at the end. The streams come one after the other, so the
    /// events to pass over are at most the rest of the stream that was `damaged` last.
    pub(super) async fn next(
        &mut self,
        mut stop: Pin<&mut impl Future<Output = ()>>,
        damaged: &[Damage],
    ) -> Result<Option<Result<(RecordedEvent, String), Damage>>, Stop> {
        let is_over = |stream: &StreamId| damaged.last().is_some_and(|damage| damage.stream == stream.as_str());
        loop {
            let next = tokio::select! {
                biased;
                () = &mut stop => return Err(Stop::Interrupted),
                next = self.read() => next,
            };
            let error = match next {
                Ok(None) => return Ok(None),
                Ok(Some(event)) if is_over(&event.stream_id) => continue,
                Ok(Some(event)) => match event.check() {
                    Ok(()) => {
                        let line = line::text(&event).map_err(|what| Damage::of_event(&event, what));
                        return Ok(Some(line.map(|line| (event, line))));
                    }
                    Err(error) => error,
                },
                // It has been named before it came to this.
                Err(Error::Corrupt(corrupt)) if is_over(&corrupt.stream) => continue,
                Err(error) => error,
            };
            return Ok(Some(Err(error.try_into()?)));
        }
    }

    async fn read(&mut self) -> Result<Option<RecordedEvent>, Error> {
        match self {
            Self::Scan(scan) => scan.try_next().await,
            Self::Stream { events, version } => {
                let event = events.try_next().await?;
                *version = event.as_ref().map_or(*version, |event| event.version);
                Ok(event)
            }
        }
    }

    /// Behind the last event that was taken.
    pub(super) fn cursor(&self) -> Cursor {
        match self {
            Self::Scan(scan) => Cursor::Scan(scan.token()),
            Self::Stream { version, .. } => Cursor::Version(*version),
        }
    }

    pub(super) fn read_units(&self) -> f64 {
        match self {
            Self::Scan(scan) => scan.read_units(),
            Self::Stream { events, .. } => events.read_units(),
        }
    }
}
