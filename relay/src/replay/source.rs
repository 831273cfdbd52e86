//! Where a replay's events come from: one stream, or a scan of the table.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use streambox::{
    Error, EventScan, EventStore, EventStream, ReadOptions, RecordedEvent, ScanOptions, StreamId, outbox::OutboxEvent,
};
use streambox_programs::Chain;

use super::{
    ReplaySettings,
    position::{Of, ResumePoint},
};
use crate::core::{HistoryPage, Outgoing};

/// A page ends when it has this many bytes of payloads.
const PAGE_BYTES: usize = 1024 * 1024;

pub(super) struct Source {
    store: EventStore,
    settings: ReplaySettings,
    events: Events,
    /// After the event that was handed out last.
    next: ResumePoint,
    /// That event's stream and version, and the last public version up to it.
    tail: Option<(StreamId, u64, Option<u64>)>,
}

enum Events {
    Stream(Box<EventStream>),
    Scan(Box<EventScan>),
}

impl Source {
    pub(super) fn open(store: &EventStore, settings: &ReplaySettings, next: ResumePoint) -> Result<Self, Error> {
        let events = open(store, &settings.of, &next)?;
        Ok(Self { store: store.clone(), settings: settings.clone(), events, next, tail: None })
    }

    /// Reads the next events, and where a replay resumes after each of them. None if the table is not available at the moment.
    pub(super) async fn read(&mut self, most: usize) -> Result<Option<(HistoryPage, Vec<ResumePoint>)>, Error> {
        let (mut events, mut resume_points, mut bytes, mut has_more) = (Vec::new(), Vec::new(), 0, true);
        while has_more && events.len() < most && bytes < PAGE_BYTES {
            match self.next_event().await {
                Ok(Some((event, previous))) => {
                    bytes += event.payload.len();
                    events.push(self.settings.includes(&event).then(|| {
                        let stream = event.stream_id.clone();
                        Outgoing { stream, event: Arc::new(OutboxEvent::of(event, previous)) }
                    }));
                    resume_points.push(self.next.clone());
                }
                Ok(None) => has_more = false,
                Err(error @ Error::Unavailable { .. }) => {
                    // After an error the stream has ended.
                    self.events = open(&self.store, &self.settings.of, &self.next)?;
                    if events.is_empty() {
                        tracing::warn!(error = %Chain(&error), "a read failed; it is tried again");
                        return Ok(None);
                    }
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some((HistoryPage { events, has_more }, resume_points)))
    }

    /// The next event, and the public version before it.
    async fn next_event(&mut self) -> Result<Option<(RecordedEvent, Option<u64>)>, Error> {
        let event = match &mut self.events {
            Events::Stream(events) => events.try_next().await?,
            Events::Scan(scan) => scan.try_next().await?,
        };
        let Some(event) = event else { return Ok(None) };
        let previous = public_before(&self.store, self.tail.as_ref(), &event).await?;
        self.tail = Some((event.stream_id.clone(), event.version, event.last_public_version()));
        self.next = match &self.events {
            Events::Stream(_) => ResumePoint::Version(event.version + 1),
            Events::Scan(scan) => ResumePoint::Scan(scan.token()),
        };
        Ok(Some((event, previous)))
    }
}

/// The public version before an event. Where the replay begins within a stream, the event before it is read.
async fn public_before(
    store: &EventStore,
    tail: Option<&(StreamId, u64, Option<u64>)>,
    event: &RecordedEvent,
) -> Result<Option<u64>, Error> {
    if event.version == 1 {
        return Ok(None);
    }
    let before = event.version - 1;
    if let Some((stream, version, last_public)) = tail
        && (stream, *version) == (&event.stream_id, before)
    {
        return Ok(*last_public);
    }
    let options = ReadOptions::forward().from_version(before).limit(1);
    let before = store.read_stream(&event.stream_id, options).try_next().await?;
    Ok(before.and_then(|before| before.last_public_version()))
}

fn open(store: &EventStore, of: &Of, next: &ResumePoint) -> Result<Events, Error> {
    let scan = |options: ScanOptions| -> Result<Events, Error> {
        let options = match next {
            ResumePoint::Scan(token) => options.resume(token.clone()),
            ResumePoint::Version(_) | ResumePoint::Beginning => options,
        };
        Ok(Events::Scan(Box::new(store.scan_events(&options)?)))
    };
    match of {
        Of::Stream { stream, from, to } => {
            let from = if let ResumePoint::Version(version) = next { *version } else { *from };
            let options = ReadOptions::forward().from_version(from);
            let options = match to {
                Some(to) => options.limit((to + 1).saturating_sub(from)),
                None => options,
            };
            Ok(Events::Stream(Box::new(store.read_stream(stream, options))))
        }
        Of::Category(category) => scan(ScanOptions::new().category(category)),
        Of::All => scan(ScanOptions::new()),
    }
}
