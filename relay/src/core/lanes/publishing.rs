//! The publishing of the lanes' events, in batches and alone, and its outcomes.

use streambox::{StreamId, outbox::PendingKey};
use tokio::time::Instant;

use super::{
    super::{
        lane::{Cause, Step},
        task::{Isolation, Outcome, Outgoing},
    },
    Lanes, Notice,
};

impl Lanes {
    /// The next batch: at most one event of each stream.
    pub(in crate::core) fn next_batch(&mut self) -> Vec<Outgoing> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < self.bounds.max_batch_events
            && let Some(stream) = self.to_publish.pop_front()
        {
            let Some(lane) = self.open.get_mut(&stream) else { continue };
            if lane.step(self.bounds.settle_window) != Step::Publish {
                continue;
            }
            let Some(event) = lane.next_event() else { continue };
            // It may have become suspect while it waited.
            if self.suspects.words(&stream, event).is_some() {
                lane.isolate(Isolation::Channel);
                self.to_publish_alone.push_back(stream);
                continue;
            }
            bytes += event.payload.len();
            if bytes > self.bounds.max_batch_bytes && !batch.is_empty() {
                self.to_publish.push_front(stream);
                break;
            }
            if let Some(event) = lane.take_off() {
                batch.push(Outgoing { stream, event });
            }
        }
        self.in_flight += batch.len();
        batch
    }

    /// The next event to publish alone. Those with a connection to themselves go one at a time.
    pub(in crate::core) fn next_alone(&mut self) -> Option<(Outgoing, Isolation)> {
        loop {
            let (queue, isolation) = if self.apart_under_way == 0 && !self.to_publish_apart.is_empty() {
                (&mut self.to_publish_apart, Isolation::Connection)
            } else if self.alone_under_way < self.bounds.max_suspects {
                (&mut self.to_publish_alone, Isolation::Channel)
            } else {
                return None;
            };
            let stream = queue.pop_front()?;
            let Some(lane) = self.open.get_mut(&stream) else { continue };
            if lane.step(self.bounds.settle_window) == Step::Publish
                && let Some(event) = lane.take_off()
            {
                *self.under_way_with(isolation) += 1;
                self.in_flight += 1;
                return Some((Outgoing { stream, event }, isolation));
            }
        }
    }

    /// An event that was published alone has come back.
    pub(in crate::core) fn published_alone(&mut self, isolation: Isolation) {
        *self.under_way_with(isolation) -= 1;
    }

    fn under_way_with(&mut self, isolation: Isolation) -> &mut usize {
        match isolation {
            Isolation::Channel => &mut self.alone_under_way,
            Isolation::Connection => &mut self.apart_under_way,
        }
    }

    /// Events that are published alone, each on a channel or on a connection to itself.
    pub(in crate::core) fn alone_under_way(&self) -> usize {
        self.alone_under_way + self.apart_under_way
    }

    /// Takes the outcome of an event. Returns the entry that is now published as a whole.
    pub(in crate::core) fn published(
        &mut self,
        outgoing: &Outgoing,
        outcome: Outcome,
        now: Instant,
    ) -> Option<PendingKey> {
        self.in_flight -= 1;
        let (stream, version) = (&outgoing.stream, outgoing.event.version);
        let lane = self.open.get_mut(stream).expect("a lane stays while an event of it is in flight");
        let held = lane.bytes();
        let is_confirmed = outcome == Outcome::Confirmed;
        let mut entry = None;
        match outcome {
            Outcome::Confirmed => {
                self.suspects.confirmed(stream, &outgoing.event);
                entry = lane.confirmed();
            }
            Outcome::Unknown => lane.publish_again(),
            Outcome::Suspect(_) => lane.suspect(),
            Outcome::Refused(reason) => lane.halt(Cause { version, reason }),
            Outcome::Poison(reason) => {
                self.suspects.refused(stream, &outgoing.event, &reason);
                lane.halt(Cause { version, reason });
            }
        }
        self.buffered_bytes = self.buffered_bytes + lane.bytes() - held;
        if is_confirmed && self.halts.resolve(stream) {
            self.notify(Notice::Resumed { stream: stream.clone() });
        }
        self.advance(stream, now);
        entry.map(|last| PendingKey { stream_id: stream.clone(), last })
    }

    /// Puts a lane into the queue for its next event: in a batch, or alone.
    pub(super) fn publish(&mut self, stream: &StreamId, now: Instant) {
        let most_known = self.bounds.max_suspects.div_ceil(2);
        let lane = self.open.get_mut(stream).expect("a lane that was just dealt with");
        if lane.isolation().is_none()
            && let Some(event) = lane.next_event()
            && let Some(words) = self.suspects.words(stream, event)
        {
            if self.alone_under_way + self.to_publish_alone.len() >= most_known {
                let reason = format!(
                    "not published: {most_known} events or more are being published one by one, and the broker said of the last \
                     event with the same routing key or of this size: {words}"
                );
                let held = lane.bytes();
                lane.halt(Cause { version: event.version, reason });
                self.buffered_bytes = self.buffered_bytes + lane.bytes() - held;
                self.advance(stream, now);
                return;
            }
            lane.isolate(Isolation::Channel);
        }
        let queue = match lane.isolation() {
            None => &mut self.to_publish,
            Some(Isolation::Channel) => &mut self.to_publish_alone,
            Some(Isolation::Connection) => &mut self.to_publish_apart,
        };
        queue.push_back(stream.clone());
    }
}
