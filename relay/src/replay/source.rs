//! Where a replay's events come from: one stream, or a scan of the table.

use futures_util::TryStreamExt as _;
use streambox::{Error, EventScan, EventStore, EventStream, ReadOptions, RecordedEvent, ScanOptions};

use super::position::{Next, Of};

pub(super) struct Source {
    store: EventStore,
    of: Of,
    events: Events,
    /// Behind the event that was handed out last.
    next: Next,
}

enum Events {
    Stream(Box<EventStream>),
    Scan(Box<EventScan>),
}

impl Source {
    pub(super) fn open(store: &EventStore, of: &Of, next: Next) -> Result<Self, Error> {
        let events = open(store, of, &next)?;
        Ok(Self { store: store.clone(), of: of.clone(), events, next })
    }

    /// Begins again behind what was handed out: after an error nothing more comes.
    pub(super) fn reopen(&mut self) -> Result<(), Error> {
        self.events = open(&self.store, &self.of, &self.next)?;
        Ok(())
    }

    pub(super) async fn next_event(&mut self) -> Result<Option<RecordedEvent>, Error> {
        match &mut self.events {
            Events::Stream(events) => {
                let event = events.try_next().await?;
                if let Some(event) = &event {
                    self.next = Next::Version(event.version + 1);
                }
                Ok(event)
            }
            Events::Scan(scan) => {
                let event = scan.try_next().await?;
                self.next = Next::Token(scan.token().to_string());
                Ok(event)
            }
        }
    }

    pub(super) fn next(&self) -> Next {
        self.next.clone()
    }
}

fn open(store: &EventStore, of: &Of, next: &Next) -> Result<Events, Error> {
    let scan = |options: ScanOptions| -> Result<Events, Error> {
        let options = match next {
            Next::Token(token) => options.resume(token.parse()?),
            Next::Version(_) | Next::Beginning => options,
        };
        Ok(Events::Scan(Box::new(store.scan_events(&options)?)))
    };
    match of {
        Of::Stream { stream, from, to } => {
            let from = if let Next::Version(version) = next { *version } else { *from };
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
