//! A model of a queue of RabbitMQ and its channels, with all that it may do to messages.

use std::collections::{BTreeMap, VecDeque};

use super::store::EventNumber;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Event(EventNumber),
    /// One of an event that can't be read.
    Damaged(EventNumber),
    /// It is not an event.
    Foreign,
}

impl Message {
    pub(super) fn event(self) -> Option<EventNumber> {
        match self {
            Self::Event(number) | Self::Damaged(number) => Some(number),
            Self::Foreign => None,
        }
    }
}

/// The place of a message in the queue, which it keeps while it is unacknowledged.
pub(super) type Place = u64;

/// Which delivery on which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag {
    pub(super) connection: u64,
    pub(super) tag: u64,
}

#[derive(Debug)]
struct Channel {
    connection: u64,
    prefetch: usize,
    unacknowledged: BTreeMap<Tag, (Place, Message)>,
}

#[derive(Debug, Default)]
pub(super) struct Broker {
    ready: BTreeMap<Place, Message>,
    /// By consumer.
    channels: BTreeMap<usize, Channel>,
    next_place: Place,
    next_tag: u64,
    connections: u64,
    pub(super) dead_letters: VecDeque<Message>,
}

impl Broker {
    /// Puts a message behind all others.
    pub(super) fn put(&mut self, message: Message) {
        self.next_place += 1;
        self.ready.insert(self.next_place, message);
    }

    pub(super) fn connect(&mut self, consumer: usize, prefetch: usize) -> u64 {
        self.disconnect(consumer);
        self.connections += 1;
        let channel = Channel { connection: self.connections, prefetch, unacknowledged: BTreeMap::new() };
        self.channels.insert(consumer, channel);
        self.connections
    }

    /// A connection ends: what is unacknowledged returns to its place. Returns its number and how many messages that are.
    pub(super) fn disconnect(&mut self, consumer: usize) -> Option<(u64, usize)> {
        let channel = self.channels.remove(&consumer)?;
        let returned = channel.unacknowledged.len();
        self.ready.extend(channel.unacknowledged.into_values());
        Some((channel.connection, returned))
    }

    /// The messages that are unacknowledged on a connection come behind all others. It stays.
    pub(super) fn requeue(&mut self, consumer: usize) -> usize {
        let Some(channel) = self.channels.get_mut(&consumer) else { return 0 };
        let returned: Vec<_> = std::mem::take(&mut channel.unacknowledged).into_values().collect();
        for (_, message) in &returned {
            self.put(*message);
        }
        returned.len()
    }

    pub(super) fn acknowledge(&mut self, consumer: usize, tag: Tag) -> Option<Message> {
        let channel = self.channels.get_mut(&consumer)?;
        channel.unacknowledged.remove(&tag).map(|(_, message)| message)
    }

    /// What a consumer has of a delivery, if it is still unacknowledged.
    pub(super) fn message(&self, consumer: usize, tag: Tag) -> Option<Message> {
        self.channels.get(&consumer)?.unacknowledged.get(&tag).map(|(_, message)| *message)
    }

    /// The next delivery. `choose` says which of the consumers that have room gets it.
    pub(super) fn deliver(&mut self, choose: impl FnOnce(usize) -> usize) -> Option<(usize, Tag)> {
        let mut with_room: Vec<_> =
            self.channels.iter_mut().filter(|(_, channel)| channel.unacknowledged.len() < channel.prefetch).collect();
        if with_room.is_empty() || self.ready.is_empty() {
            return None;
        }
        let chosen = choose(with_room.len());
        let (consumer, channel) = with_room.swap_remove(chosen);
        let first = self.ready.pop_first()?;
        self.next_tag += 1;
        let tag = Tag { connection: channel.connection, tag: self.next_tag };
        channel.unacknowledged.insert(tag, first);
        Some((*consumer, tag))
    }

    /// The first message comes behind all others; if there is one.
    pub(super) fn put_back(&mut self) -> bool {
        let first = self.ready.pop_first();
        if let Some((_, message)) = first {
            self.put(message);
        }
        first.is_some()
    }

    /// The first message is gone, if there is one.
    pub(super) fn take_first(&mut self) -> Option<Message> {
        self.ready.pop_first().map(|(_, message)| message)
    }

    pub(super) fn purge(&mut self) -> usize {
        std::mem::take(&mut self.ready).len()
    }

    pub(super) fn ready(&self) -> impl Iterator<Item = Message> {
        self.ready.values().copied()
    }

    pub(super) fn unacknowledged(&self) -> impl Iterator<Item = Message> {
        self.channels.values().flat_map(|channel| channel.unacknowledged.values()).map(|(_, message)| *message)
    }

    /// How many consumers are connected.
    pub(super) fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Whether no consumer has room for another message.
    pub(super) fn is_full(&self) -> bool {
        !self.channels.is_empty()
            && self.channels.values().all(|channel| channel.unacknowledged.len() >= channel.prefetch)
    }
}
