//! What of a page can be handed out: no gap, and no append of which a part is still invisible.

use crate::{
    error::Corrupt,
    event::RecordedEvent,
    schema::{self, Fields},
};

/// The part of a page that can be handed out, and what is wrong with the rest.
#[derive(Debug, PartialEq)]
pub(super) struct CheckedPage {
    pub(super) events: Vec<RecordedEvent>,
    /// The version that is missing behind the events.
    pub(super) missing: Option<u64>,
    /// The item behind the events, if it can't be read. It stays so: no one waits for it.
    pub(super) corrupt: Option<Corrupt>,
}

/// Takes the events up to the first that is missing. `end`: there is nothing behind this page up to that version, so that
/// its last append must be there as far.
pub(super) fn check_forward(items: Vec<Fields>, next: u64, end: Option<u64>) -> CheckedPage {
    let mut events: Vec<RecordedEvent> = Vec::with_capacity(items.len());
    let (mut missing, mut corrupt) = (None, None);
    for (item, expected) in items.into_iter().zip(next..) {
        let event = match schema::read_event(item) {
            Ok(event) => event,
            Err(damage) => {
                corrupt = Some(damage);
                break;
            }
        };
        if event.version != expected {
            missing = Some(expected);
            break;
        }
        events.push(event);
    }
    if let (None, None, Some(last), Some(to)) = (missing, &corrupt, events.last(), end)
        && last.version < last.append.last.min(to)
    {
        missing = Some(last.version + 1);
    }
    if let Some(missing) = missing {
        // An append is seen entire or not at all: what there is of it waits for the rest.
        events.retain(|event| event.append.last < missing);
    }
    CheckedPage { events, missing, corrupt }
}

/// Where a page that is read backward begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Top {
    /// Below an event that was read: with this very version.
    Next(u64),
    /// At the stream's end, wherever that is up to this version: with the last event of an append, or with this version.
    End(u64),
}

/// Takes the events of a page that was read backward down to the first that is missing. `is_last`: there is nothing below
/// this page, so that it must come down to version 1.
pub(super) fn check_backward(items: Vec<Fields>, top: Top, is_last: bool) -> CheckedPage {
    let mut events: Vec<RecordedEvent> = Vec::with_capacity(items.len());
    let (mut missing, mut corrupt) = (None, None);
    for item in items {
        let event = match schema::read_event(item) {
            Ok(event) => event,
            Err(damage) => {
                corrupt = Some(damage);
                break;
            }
        };
        let expected = match (events.last(), top) {
            (Some(above), _) => above.version - 1,
            (None, Top::Next(version)) => version,
            (None, Top::End(to)) => event.append.last.min(to),
        };
        if event.version != expected {
            missing = Some(if events.is_empty() { event.version + 1 } else { expected });
            break;
        }
        events.push(event);
    }
    if missing.is_none() && corrupt.is_none() && is_last {
        let next = match (events.last(), top) {
            (Some(lowest), _) => lowest.version - 1,
            (None, Top::Next(version)) => version,
            (None, Top::End(_)) => 0,
        };
        missing = (next > 0).then_some(next);
    }
    if let Some(missing) = missing {
        events.retain(|event| event.append.first > missing);
    }
    CheckedPage { events, missing, corrupt }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        event::{AppendRange, NewEvent},
        schema::Compression,
        schema::Recording,
        stream::StreamId,
    };

    /// Events of the appends 1–2, 3 and 4–6.
    fn page(versions: &[u64]) -> Vec<Fields> {
        let stream = StreamId::new("order-1").unwrap();
        let new = NewEvent::from_json_text("Placed", "{}").unwrap();
        let item = |&version: &u64| {
            let (first, last) = [(1, 2), (3, 3), (4, 6)].into_iter().find(|range| version <= range.1).unwrap();
            let range = AppendRange { id: Uuid::from_u128(first.into()), first, last };
            let event = Recording::new(&stream, version, &new, None, Compression::Off);
            schema::event_item(&event, &range, 1).into()
        };
        versions.iter().map(item).collect()
    }

    fn versions(checked: &CheckedPage) -> (Vec<u64>, Option<u64>) {
        (checked.events.iter().map(|event| event.version).collect(), checked.missing)
    }

    fn forward(items: &[u64], next: u64, end: Option<u64>) -> (Vec<u64>, Option<u64>) {
        versions(&check_forward(page(items), next, end))
    }

    fn backward(items: &[u64], top: Top, is_last: bool) -> (Vec<u64>, Option<u64>) {
        versions(&check_backward(page(items), top, is_last))
    }

    #[test]
    fn a_whole_page_is_handed_out_entire() {
        assert_eq!(forward(&[1, 2, 3, 4, 5, 6], 1, Some(u64::MAX)), (vec![1, 2, 3, 4, 5, 6], None));
        assert_eq!(forward(&[], 1, Some(u64::MAX)), (vec![], None));
        assert_eq!(backward(&[6, 5, 4, 3, 2, 1], Top::End(u64::MAX), true), (vec![6, 5, 4, 3, 2, 1], None));
        assert_eq!(backward(&[], Top::End(u64::MAX), true), (vec![], None));
    }

    #[test]
    fn a_page_ends_before_a_gap() {
        assert_eq!(forward(&[1, 2, 4, 5, 6], 1, Some(u64::MAX)), (vec![1, 2], Some(3)));
        assert_eq!(forward(&[4, 5, 6], 3, Some(u64::MAX)), (vec![], Some(3)));
        assert_eq!(backward(&[6, 5, 4, 2, 1], Top::End(u64::MAX), true), (vec![6, 5, 4], Some(3)));
        assert_eq!(backward(&[2, 1], Top::Next(3), true), (vec![], Some(3)));
        assert_eq!(backward(&[], Top::Next(3), true), (vec![], Some(3)));
    }

    #[test]
    fn half_an_append_is_held_back_at_a_gap() {
        assert_eq!(forward(&[1, 2, 3, 4, 6], 1, Some(u64::MAX)), (vec![1, 2, 3], Some(5)));
        assert_eq!(forward(&[3, 4, 6], 3, None), (vec![3], Some(5)));
        assert_eq!(backward(&[6, 4, 3], Top::End(u64::MAX), false), (vec![], Some(5)));
        assert_eq!(backward(&[3, 2], Top::Next(3), true), (vec![3], Some(1)));
    }

    #[test]
    fn half_an_append_is_held_back_at_the_end_of_the_stream_but_not_of_a_page() {
        assert_eq!(forward(&[3, 4, 5], 3, Some(u64::MAX)), (vec![3], Some(6)));
        assert_eq!(forward(&[4, 5], 4, Some(u64::MAX)), (vec![], Some(6)));
        assert_eq!(forward(&[3, 4, 5], 3, None), (vec![3, 4, 5], None));
        assert_eq!(forward(&[3, 4, 5], 3, Some(5)), (vec![3, 4, 5], None));
        assert_eq!(backward(&[5, 4, 3], Top::End(u64::MAX), false), (vec![], Some(6)));
        assert_eq!(backward(&[6, 5], Top::End(u64::MAX), false), (vec![6, 5], None));
        assert_eq!(backward(&[5, 4, 3], Top::End(5), false), (vec![5, 4, 3], None));
        assert_eq!(backward(&[4, 3], Top::End(5), false), (vec![], Some(5)));
    }

    #[test]
    fn a_page_ends_before_an_item_that_can_not_be_read_and_names_it() {
        let damaged = |versions: &[u64], damaged: usize| {
            let mut items = page(versions);
            _ = items[damaged].take(schema::PAYLOAD);
            items
        };
        let outcome = |checked: CheckedPage| (versions(&checked), checked.corrupt.expect("a damaged item").at);
        let key = schema::event_key;
        let to_the_end = |items| outcome(check_forward(items, 1, Some(u64::MAX)));
        assert_eq!(to_the_end(damaged(&[1, 2, 3, 4, 5, 6], 4)), ((vec![1, 2, 3, 4], None), key(5)));
        assert_eq!(to_the_end(damaged(&[1, 2], 0)), ((vec![], None), key(1)));
        let to_the_beginning = |items| outcome(check_backward(items, Top::End(u64::MAX), true));
        assert_eq!(to_the_beginning(damaged(&[6, 5, 4, 3, 2, 1], 3)), ((vec![6, 5, 4], None), key(3)));
        assert_eq!(to_the_beginning(damaged(&[6, 5], 0)), ((vec![], None), key(6)));
    }
}
