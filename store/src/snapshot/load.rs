//! Cold load: the top of a partition in one backward `Query`, and what lies between the snapshot and it, if anything
//! does.

use super::Snapshot;
use crate::{
    error::{Corrupt, Error},
    event::RecordedEvent,
    observe::{Watch, count},
    read::EventReader,
    schema::{self, EVENT_PREFIX, Item, SNAPSHOT, VERSION},
    stream::{StreamId, StreamPosition},
    table::{SortKeys, Table},
};
use futures_util::FutureExt as _;

/// How many items the first request of a load asks for: the snapshot, 15 events behind it, their pending entries, as
/// long as they have not been published, and the event that the snapshot was taken at.
pub const COLD_LOAD_ITEMS: u8 = 1 + 15 + 15 + 1;

/// Why a snapshot that is there was not used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IgnoredSnapshot {
    /// The item is damaged.
    Unreadable {
        /// What is wrong with it.
        corrupt: Corrupt,
        /// Its version, as far as that can be read.
        version: Option<u64>,
    },
    /// The caller found it not usable.
    Refused {
        /// Its version.
        version: u64,
    },
    /// It is of a version that the stream has not come to.
    Ahead {
        /// Its version.
        version: u64,
    },
    /// The event at its version is of another append than the one that it was taken at: the stream was started again, or the table
    /// restored.
    OtherHistory {
        /// Its version.
        version: u64,
    },
}

/// A stream from its snapshot on. See [`EventStore::load_snapshot`](crate::EventStore::load_snapshot).
#[derive(Debug)]
pub struct SnapshotLoad {
    snapshot: Option<Snapshot>,
    ignored: Option<IgnoredSnapshot>,
    /// What comes next, read already.
    first: Vec<RecordedEvent>,
    /// The events behind that.
    reader: Option<EventReader>,
    /// The newest events, read already.
    newest: Vec<RecordedEvent>,
    position: StreamPosition,
    top_units: f64,
}

impl SnapshotLoad {
    /// The snapshot that the load begins with.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// Why there is none, although one is stored.
    #[must_use]
    pub fn ignored(&self) -> Option<&IgnoredSnapshot> {
        self.ignored.as_ref()
    }

    /// Where the stream was; reached when [`next_page`](Self::next_page) has returned `None`.
    #[must_use]
    pub fn position(&self) -> &StreamPosition {
        match &self.reader {
            Some(reader) if self.position.version() < reader.position().version() => reader.position(),
            _ => &self.position,
        }
    }

    /// The capacity units consumed so far.
    #[must_use]
    pub fn read_units(&self) -> f64 {
        self.top_units + self.reader.as_ref().map_or(0.0, EventReader::read_units)
    }

    /// The next events behind the snapshot, or `None` at the end. Pages are as those of
    /// [`EventReader::next_page`].
    ///
    /// # Errors
    /// [`Error::Corrupt`] if an event is missing or unreadable, [`Error::Unavailable`] and [`Error::Configuration`] as
    /// DynamoDB answers.
    pub async fn next_page(&mut self) -> Result<Option<Vec<RecordedEvent>>, Error> {
        let watch =
            self.reader.as_ref().filter(|_| self.first.is_empty()).map_or_else(Watch::nothing, EventReader::watch);
        watch.over(self.fetch()).await
    }

    /// The next events, as a part of another operation.
    pub(crate) async fn fetch(&mut self) -> Result<Option<Vec<RecordedEvent>>, Error> {
        if !self.first.is_empty() {
            return Ok(Some(std::mem::take(&mut self.first)));
        }
        if let Some(reader) = &mut self.reader
            && let Some(page) = reader.fetch().await?
        {
            return Ok(Some(page));
        }
        let newest = std::mem::take(&mut self.newest);
        Ok((!newest.is_empty()).then_some(newest))
    }
}

pub(crate) async fn load(
    table: &Table,
    stream: &StreamId,
    is_usable: impl FnOnce(&Snapshot) -> bool,
) -> Result<SnapshotLoad, Error> {
    let top = Top::read(table, stream).await?;
    let (snapshot, ignored) = choose(top.snapshot, top.end, top.events.as_deref().unwrap_or_default(), is_usable);
    let mut load = SnapshotLoad {
        snapshot,
        ignored,
        first: Vec::new(),
        reader: None,
        newest: Vec::new(),
        position: StreamPosition::start(stream.clone()),
        top_units: top.read_units,
    };
    let events = top.events.unwrap_or_default();
    if let (Some(oldest), Some(newest)) = (events.first(), events.last()) {
        let oldest = oldest.version;
        load.position = newest.position(table.full_name());
        // Where the snapshot's own event is among them, it has been compared.
        if oldest > load.version().max(1) {
            load.read_below(table, Some(oldest - 1)).await?;
        }
        let from = load.version();
        load.newest = events.into_iter().filter(|event| event.version > from).collect();
    } else if top.end.is_none() {
        // A backlog of pending entries has filled the page, or the events in it are not whole yet.
        load.read_below(table, None).await?;
    }
    Ok(load)
}

impl SnapshotLoad {
    /// The version of the snapshot.
    fn version(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.version)
    }

    /// Reads on from the snapshot's own event, as far as `to`, or to the end: that event gives the position behind it, and whether
    /// it is the one that the snapshot was taken at. From the first event, if it is not.
    async fn read_below(&mut self, table: &Table, to: Option<u64>) -> Result<(), Error> {
        let stream = self.position.stream().clone();
        let beginning_with = |version| {
            let reader = EventReader::beginning_with(table.clone(), stream.clone(), version);
            match to {
                Some(to) => reader.reaching(to),
                None => reader,
            }
        };
        if let Some(snapshot) = &self.snapshot {
            let (version, append_id) = (snapshot.version, snapshot.append_id);
            let mut reader = beginning_with(version);
            let ignored = match reader.fetch().await? {
                Some(mut page) if page.first().is_some_and(|event| event.append.id == append_id) => {
                    page.remove(0);
                    (self.first, self.reader) = (page, Some(reader));
                    return Ok(());
                }
                Some(_) => IgnoredSnapshot::OtherHistory { version },
                None => IgnoredSnapshot::Ahead { version },
            };
            self.top_units += reader.read_units();
            (self.snapshot, self.ignored) = (None, Some(ignored));
        }
        self.reader = Some(beginning_with(1));
        Ok(())
    }
}

/// The snapshot, or why it is not used. `end`: the stream's version, if it is known already; `newest`: its newest events, as far
/// as they are.
fn choose(
    found: Option<StoredSnapshot>,
    end: Option<u64>,
    newest: &[RecordedEvent],
    is_usable: impl FnOnce(&Snapshot) -> bool,
) -> (Option<Snapshot>, Option<IgnoredSnapshot>) {
    let snapshot = match found {
        None => return (None, None),
        Some(Err(ignored)) => return (None, Some(ignored)),
        Some(Ok(snapshot)) => snapshot,
    };
    let version = snapshot.version;
    let own = newest.iter().find(|event| event.version == version);
    if end.is_some_and(|end| end < version) {
        (None, Some(IgnoredSnapshot::Ahead { version }))
    } else if own.is_some_and(|event| event.append.id != snapshot.append_id) {
        (None, Some(IgnoredSnapshot::OtherHistory { version }))
    } else if is_usable(&snapshot) {
        (Some(snapshot), None)
    } else {
        (None, Some(IgnoredSnapshot::Refused { version }))
    }
}

/// A snapshot as it stands in the table, or why it can't be used.
type StoredSnapshot = Result<Snapshot, IgnoredSnapshot>;

fn read_snapshot(item: Item) -> StoredSnapshot {
    let version = schema::read_number(&item, VERSION);
    schema::read_snapshot(item).map_err(|corrupt| IgnoredSnapshot::Unreadable { corrupt, version })
}

/// What stands at the top of a partition.
struct Top {
    snapshot: Option<StoredSnapshot>,
    /// The newest events in order, as many as came; `None` if they are not whole and readable.
    events: Option<Vec<RecordedEvent>>,
    /// The stream's version, if the events show it.
    end: Option<u64>,
    read_units: f64,
}

impl Top {
    async fn read(table: &Table, stream: &StreamId) -> Result<Self, Error> {
        let operation = table.request("load", stream.as_str());
        count::request();
        let output = table
            .query(stream.as_str(), SortKeys::Between(schema::keys_from_events()))
            .scan_index_forward(false)
            .limit(i32::from(COLD_LOAD_ITEMS))
            .send()
            .boxed()
            .await
            .map_err(|error| operation.failed(error))?;
        let read_units = output.consumed_capacity().and_then(|used| used.capacity_units).unwrap_or_default();
        let is_whole = output.last_evaluated_key().is_none_or(Item::is_empty);
        let items = output.items.unwrap_or_default();
        let is_event = |item: &&Item| schema::read_entity(item).starts_with(EVENT_PREFIX);
        count::read(read_units, items.iter().filter(is_event).count());
        Ok(Self::sort(items, is_whole, read_units))
    }

    /// `items` from the newest on; `is_whole`: there is nothing below them.
    fn sort(items: Vec<Item>, is_whole: bool, read_units: f64) -> Self {
        let mut snapshot = None;
        let mut events = Vec::new();
        let mut are_readable = true;
        for item in items {
            match schema::read_entity(&item) {
                SNAPSHOT => snapshot = Some(read_snapshot(item)),
                entity if entity.starts_with(EVENT_PREFIX) => match schema::read_event_beside(events.last(), item) {
                    Ok(event) => events.push(event),
                    // It is re-read if it is needed, and reported then.
                    Err(_) => are_readable = false,
                },
                _ => {}
            }
        }
        events.reverse();
        let is_sound = are_readable && is_sound(&events, is_whole);
        let end = match events.last() {
            _ if !is_sound => None,
            Some(newest) => Some(newest.version),
            None => is_whole.then_some(0),
        };
        let events = is_sound.then_some(events);
        Self { snapshot, events, end, read_units }
    }
}

/// Whether there is no gap, neither among the events nor below nor at the end: half an append is a gap.
fn is_sound(events: &[RecordedEvent], is_whole: bool) -> bool {
    let follow_each_other = events.windows(2).all(|pair| pair[0].version + 1 == pair[1].version);
    let begin = events.first().is_none_or(|oldest| !is_whole || oldest.version == 1);
    let end = events.last().is_none_or(|newest| newest.version == newest.append.last);
    follow_each_other && begin && end
}
