//! Finds events that resemble one that the broker refused alone: they are published alone from the start, so that a steady share
//! of refused events does not break a batch each time.

use std::num::NonZeroUsize;

use lru::LruCache;
use streambox::{StreamId, outbox::OutboxEvent};

/// Most kinds of events that are remembered as refused. Beyond that the oldest is forgotten: its next event breaks one
/// more batch.
const MAX_KINDS: NonZeroUsize = NonZeroUsize::new(1_000).expect("not zero");

/// Category and event type, which the routing key is made of.
type Kind = (String, String);

/// A routing key stays suspect until an event with it gets through; a size until one of that size does.
#[derive(Debug)]
pub(super) struct Suspects {
    /// Each with the broker's words about the last one.
    kinds: LruCache<Kind, String>,
    /// Payloads of this many bytes or more, with the broker's words about the last one.
    from_bytes: Option<(usize, String)>,
}

impl Default for Suspects {
    fn default() -> Self {
        Self { kinds: LruCache::new(MAX_KINDS), from_bytes: None }
    }
}

impl Suspects {
    /// The broker's words about the last event like this one; none if this one is not suspect.
    pub(super) fn words(&self, stream: &StreamId, event: &OutboxEvent) -> Option<&str> {
        let of_size = self.from_bytes.as_ref().filter(|(bytes, _)| event.payload.len() >= *bytes);
        if let Some((_, words)) = of_size {
            return Some(words);
        }
        // The usual case makes no copy of anything.
        if self.kinds.is_empty() {
            return None;
        }
        self.kinds.peek(&kind(stream, event)).map(String::as_str)
    }

    /// The broker has refused an event that was published alone.
    pub(super) fn refused(&mut self, stream: &StreamId, event: &OutboxEvent, words: &str) {
        // If it was suspect already, that explains it: a permission for a routing key says nothing about sizes.
        if self.words(stream, event).is_none() {
            self.kinds.put(kind(stream, event), words.to_owned());
            self.from_bytes = Some((event.payload.len(), words.to_owned()));
        }
    }

    /// The broker has confirmed an event.
    pub(super) fn confirmed(&mut self, stream: &StreamId, event: &OutboxEvent) {
        if let Some((bytes, _)) = &mut self.from_bytes {
            *bytes = (*bytes).max(event.payload.len().saturating_add(1));
        }
        if !self.kinds.is_empty() {
            self.kinds.pop(&kind(stream, event));
        }
    }
}

fn kind(stream: &StreamId, event: &OutboxEvent) -> Kind {
    (stream.category().to_owned(), event.event_type.clone())
}

#[cfg(test)]
mod tests {
    use streambox::Uuid;

    use super::*;

    fn event(event_type: &str, bytes: usize) -> OutboxEvent {
        OutboxEvent::new(1, Uuid::nil(), event_type, "x".repeat(bytes))
    }

    fn order() -> StreamId {
        StreamId::new("order-1").unwrap()
    }

    #[test]
    fn a_routing_key_is_suspect_until_an_event_with_it_gets_through() {
        let (mut suspects, order) = (Suspects::default(), order());
        suspects.refused(&order, &event("Placed", 500), "403");
        assert_eq!(suspects.words(&order, &event("Placed", 1)), Some("403"));
        assert_eq!(suspects.words(&order, &event("Paid", 1)), None);
        assert_eq!(suspects.words(&StreamId::new("permit-1").unwrap(), &event("Placed", 1)), None);
        suspects.confirmed(&order, &event("Placed", 1));
        assert_eq!(suspects.words(&order, &event("Placed", 1)), None);
    }

    #[test]
    fn a_size_is_suspect_until_an_event_of_that_size_gets_through() {
        let (mut suspects, order) = (Suspects::default(), order());
        suspects.refused(&order, &event("Placed", 500), "406");
        assert_eq!(suspects.words(&order, &event("Paid", 500)), Some("406"));
        assert_eq!(suspects.words(&order, &event("Paid", 499)), None);
        suspects.confirmed(&order, &event("Paid", 600));
        assert_eq!(suspects.words(&order, &event("Paid", 600)), None);
        assert_eq!(suspects.words(&order, &event("Paid", 601)), Some("406"));
    }

    #[test]
    fn a_refusal_that_a_suspicion_explains_casts_no_other() {
        let (mut suspects, order) = (Suspects::default(), order());
        suspects.refused(&order, &event("Placed", 500), "406");
        suspects.confirmed(&order, &event("Placed", 10));
        suspects.refused(&order, &event("Placed", 700), "406");
        assert_eq!(suspects.words(&order, &event("Placed", 10)), None, "its size explains it");
    }
}
