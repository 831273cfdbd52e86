//! A model of the events table: streams that grow, and that are restored to what they were.

use std::{collections::BTreeMap, sync::Arc};

use streambox::{NewEvent, StreamId, Uuid, message::Received};
use streambox_consumer::{Position, core::StorePage};

use super::super::scenario::Ms;

/// The number of an event, in all streams and histories. It is its id.
pub(super) type EventNumber = u64;

/// An event, of a history that may be over.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) number: EventNumber,
    pub(super) stream: u8,
    pub(super) version: u64,
    pub(super) is_public: bool,
    /// The public event before it.
    pub(super) previous: Option<EventNumber>,
    appended_at: Ms,
}

/// The stream of a number.
pub(super) fn stream_id(number: u8) -> StreamId {
    StreamId::new(format!("order-{number}")).expect("a valid stream id")
}

/// The number of a stream.
pub(super) fn number(stream: &StreamId) -> u8 {
    stream.as_str().strip_prefix("order-").and_then(|number| number.parse().ok()).expect("a simulated stream")
}

pub(super) fn event_id(number: EventNumber) -> Uuid {
    Uuid::from_u128(number.into())
}

pub(super) fn event_number(id: Uuid) -> EventNumber {
    EventNumber::try_from(id.as_u128()).expect("the id of a simulated event")
}

#[derive(Debug)]
pub(super) struct Store {
    /// Of all histories, by number.
    all: Vec<Event>,
    streams: BTreeMap<u8, Vec<EventNumber>>,
    pattern: Received,
}

impl Store {
    pub(super) fn new() -> Self {
        let event = NewEvent::json("Placed", &1).expect("a valid event");
        let pattern = streambox::testing::received(&stream_id(0), 1, event);
        Self { all: Vec::new(), streams: BTreeMap::new(), pattern }
    }

    pub(super) fn append(&mut self, stream: u8, is_public: bool, now: Ms) -> EventNumber {
        let number = self.all.len() as EventNumber;
        let events = self.streams.entry(stream).or_default();
        let is_published = |number: &&EventNumber| self.all[index(**number)].is_public;
        let previous = events.iter().rev().find(is_published).copied();
        events.push(number);
        let version = events.len() as u64;
        self.all.push(Event { number, stream, version, is_public, previous, appended_at: now });
        number
    }

    /// An event of any history.
    pub(super) fn event(&self, number: EventNumber) -> &Event {
        &self.all[index(number)]
    }

    /// Whether it is in the table.
    pub(super) fn has(&self, number: EventNumber) -> bool {
        let event = self.event(number);
        self.at(event.stream, event.version).is_some_and(|there| there.number == number)
    }

    fn at(&self, stream: u8, version: u64) -> Option<&Event> {
        let place = usize::try_from(version.checked_sub(1)?).ok()?;
        Some(self.event(*self.streams.get(&stream)?.get(place)?))
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = u8> {
        self.streams.keys().copied()
    }

    /// The public events of a stream, in order.
    pub(super) fn public(&self, stream: u8) -> impl Iterator<Item = &Event> {
        let events = self.streams.get(&stream).into_iter().flatten();
        events.map(|number| self.event(*number)).filter(|event| event.is_public)
    }

    /// As it comes in a message.
    pub(super) fn received(&self, number: EventNumber) -> Received {
        let event = self.event(number);
        let mut received = self.pattern.clone();
        received.stream_id = stream_id(event.stream);
        received.version = event.version;
        received.previous_version = event.previous.map(|previous| self.event(previous).version);
        received.event_id = event_id(number);
        received
    }

    /// What `store.rs` of the consumer reads.
    pub(super) fn page(&self, stream: u8, after: u64, last: u64, limit: usize) -> StorePage {
        let behind = |number: &&EventNumber| self.event(**number).version > after;
        let numbers: Vec<_> = self.streams.get(&stream).into_iter().flatten().filter(behind).take(limit).collect();
        let (mut through, mut previous, mut events) = (after, (last > 0).then_some(last), Vec::new());
        for number in &numbers {
            let event = self.event(**number);
            through = event.version;
            if event.is_public {
                let mut received = self.received(event.number);
                received.previous_version = previous;
                previous = Some(event.version);
                events.push(Arc::new(received));
            }
        }
        StorePage { events, through, is_end: numbers.len() < limit }
    }

    /// Whether it has the event that a position names.
    pub(super) fn has_position(&self, stream: u8, position: Position) -> bool {
        let Some(id) = position.event_id else { return true };
        self.at(stream, position.version).is_some_and(|event| event_id(event.number) == id)
    }

    /// Returns to what it was. Returns the streams that have lost events by it.
    pub(super) fn restore(&mut self, to: Ms) -> Vec<u8> {
        let mut changed = Vec::new();
        for (stream, events) in &mut self.streams {
            let before = events.len();
            events.retain(|number| self.all[index(*number)].appended_at <= to);
            if events.len() < before {
                changed.push(*stream);
            }
        }
        changed
    }
}

fn index(number: EventNumber) -> usize {
    usize::try_from(number).expect("it is in memory")
}
