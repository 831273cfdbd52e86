//! What is read ahead: published side by side, a batch at a time, and settled in the order in which it was read.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use streambox::{RecordedEvent, StreamId, outbox::OutboxEvent};

use super::position::{Next, Position};
use crate::core::Outgoing;

/// At most [`WINDOW_EVENTS`](super::WINDOW_EVENTS) events.
#[derive(Default)]
pub(super) struct Window {
    /// In the order in which they were read.
    read: Vec<Read>,
    /// How many of them, from the first on, are done with: the position stands behind these.
    settled: usize,
    /// The events that are not confirmed, with their places in `read`.
    waiting: HashMap<StreamId, VecDeque<(usize, Arc<OutboxEvent>)>>,
    /// Streams of which no event is in flight, in the order of their next events.
    ready: VecDeque<StreamId>,
}

struct Read {
    /// Where a replay resumes behind it.
    next: Next,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    LeftOut,
    Waiting,
    Confirmed,
}

impl Window {
    /// How many events were read.
    pub(super) fn len(&self) -> usize {
        self.read.len()
    }

    /// An event that is not published.
    pub(super) fn leave_out(&mut self, next: Next) {
        self.read.push(Read { next, fate: Fate::LeftOut });
    }

    /// An event that is to be published.
    pub(super) fn push(&mut self, event: RecordedEvent, next: Next) {
        let stream = event.stream_id.clone();
        self.push_event(stream, event.into(), next);
    }

    fn push_event(&mut self, stream: StreamId, event: OutboxEvent, next: Next) {
        let waiting = self.waiting.entry(stream.clone()).or_default();
        if waiting.is_empty() {
            self.ready.push_back(stream);
        }
        waiting.push_back((self.read.len(), Arc::new(event)));
        self.read.push(Read { next, fate: Fate::Waiting });
    }

    /// At most one event of each stream, at most `most` in all; `None` when nothing is left.
    pub(super) fn next_batch(&mut self, most: usize) -> Option<Vec<Outgoing>> {
        let mut batch = Vec::new();
        while batch.len() < most
            && let Some(stream) = self.ready.pop_front()
        {
            let next = self.waiting.get(&stream).and_then(VecDeque::front);
            batch.extend(next.map(|(_, event)| Outgoing { stream, event: Arc::clone(event) }));
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// The event of the stream that was in flight is confirmed.
    pub(super) fn confirmed(&mut self, stream: &StreamId) {
        let Some(waiting) = self.waiting.get_mut(stream) else { return };
        if let Some((place, _)) = waiting.pop_front() {
            self.read[place].fate = Fate::Confirmed;
        }
        if waiting.is_empty() {
            self.waiting.remove(stream);
        } else {
            self.ready.push_back(stream.clone());
        }
    }

    /// Moves the position behind everything that is done with.
    pub(super) fn settle(&mut self, position: &mut Position) {
        let mut next = None;
        for read in &self.read[self.settled..] {
            match read.fate {
                Fate::LeftOut => position.left_out += 1,
                Fate::Confirmed => position.published += 1,
                Fate::Waiting => break,
            }
            self.settled += 1;
            next = Some(&read.next);
        }
        if let Some(next) = next {
            position.next = next.clone();
        }
        let ahead = self.read[self.settled..].iter().filter(|read| read.fate == Fate::Confirmed);
        position.ahead = ahead.count() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::BrokerSettings,
        replay::{Of, ReplaySettings},
    };

    fn order(id: u32) -> StreamId {
        StreamId::new(format!("order-{id}")).unwrap()
    }

    /// Four events of two streams, read in this order.
    fn window() -> Window {
        let mut window = Window::default();
        for (place, (id, version)) in [(1, 1), (1, 2), (2, 1), (1, 3)].into_iter().enumerate() {
            let event = OutboxEvent::new(version, streambox::Uuid::nil(), "E", "{}");
            window.push_event(order(id), event, Next::Version(place as u64 + 1));
        }
        window
    }

    #[test]
    fn the_streams_of_a_window_advance_side_by_side_each_with_one_event_in_flight() {
        let mut window = window();
        let mut next = |most| {
            let batch = window.next_batch(most)?;
            let sent: Vec<_> = batch.iter().map(|one| (one.stream.to_string(), one.event.version)).collect();
            for one in &batch {
                window.confirmed(&one.stream);
            }
            Some(sent)
        };
        assert_eq!(next(10), Some(vec![("order-1".into(), 1), ("order-2".into(), 1)]));
        assert_eq!(next(10), Some(vec![("order-1".into(), 2)]));
        assert_eq!(next(10), Some(vec![("order-1".into(), 3)]));
        assert_eq!(next(10), None);
    }

    #[test]
    fn the_position_moves_with_what_is_confirmed_and_never_past_what_is_not() {
        let broker = BrokerSettings::new(lapin::uri::AMQPUri::default(), "streambox".into());
        let settings = ReplaySettings { of: Of::All, from_ms: None, to_ms: None, broker, rate: 1 };
        let mut position = Position::beginning("events", &settings, "r-1");
        let mut window = window();
        window.leave_out(Next::Version(5));
        let mut after = |window: &mut Window| {
            window.settle(&mut position);
            (position.next.clone(), position.published, position.ahead, position.left_out)
        };

        assert_eq!(after(&mut window), (Next::Beginning, 0, 0, 0));
        assert_eq!(window.next_batch(10).map(|batch| batch.len()), Some(2));
        window.confirmed(&order(2));
        assert_eq!(after(&mut window), (Next::Beginning, 0, 1, 0), "what is before it is not confirmed");
        window.confirmed(&order(1));
        assert_eq!(after(&mut window), (Next::Version(1), 1, 1, 0));
        window.confirmed(&order(1));
        assert_eq!(after(&mut window), (Next::Version(3), 3, 0, 0));
        window.confirmed(&order(1));
        assert_eq!(after(&mut window), (Next::Version(5), 4, 0, 1));
    }
}
