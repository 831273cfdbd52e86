//! Where a replay's events come from: one stream, or a scan of the table.

use std::fmt;

use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use streambox::{Error, EventScan, EventStore, EventStream, ReadOptions, RecordedEvent, ScanOptions, StreamId};

use super::position::Next;

/// What is replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// The events of one stream.
    Stream {
        /// The stream.
        stream: StreamId,
        /// The first version.
        from: u64,
        /// The last version, where it does not go on to the end.
        to: Option<u64>,
    },
    /// The events of all streams of a category.
    Category(String),
    /// The events of all streams.
    All,
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream { stream, from, to: Some(to) } => write!(f, "stream {stream} from version {from} to {to}"),
            Self::Stream { stream, from, to: None } => write!(f, "stream {stream} from version {from}"),
            Self::Category(category) => write!(f, "category {category}"),
            Self::All => f.write_str("all streams"),
        }
    }
}

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

/// What is replayed, as a position keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OfText {
    Stream { stream: String, from: u64, to: Option<u64> },
    Category(String),
    All,
}

impl From<&Of> for OfText {
    fn from(of: &Of) -> Self {
        match of {
            Of::Stream { stream, from, to } => Self::Stream { stream: stream.to_string(), from: *from, to: *to },
            Of::Category(category) => Self::Category(category.clone()),
            Of::All => Self::All,
        }
    }
}
