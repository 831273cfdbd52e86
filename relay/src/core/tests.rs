use streambox::{
    Uuid,
    outbox::{PendingEntry, Previous},
};

use super::*;

const MS: Duration = Duration::from_millis(1);
const NOTHING: [u64; 0] = [];

fn stream(id: u32) -> StreamId {
    StreamId::new(format!("order-{id}")).unwrap()
}

fn core() -> Core {
    Core::new(Bounds::default())
}

/// An entry of the versions `first` to `last` with copies of its events; the append before was recorded `apart_ms`
/// earlier.
fn entry(stream: &StreamId, first: u64, last: u64, previous: Option<(u64, i64)>) -> PendingEntry {
    let pending_since_ms = 1_000_000;
    let events = (first..=last).map(|v| OutboxEvent::new(v, Uuid::from_u128(v.into()), "Placed", "{}")).collect();
    let previous = previous.map(|(first, apart_ms)| Previous { first, recorded_at_ms: pending_since_ms - apart_ms });
    PendingEntry::new(stream.clone(), first, last, pending_since_ms, previous, Some(events))
}

fn page(entries: Vec<PendingEntry>) -> Answer {
    Answer::Pending(PendingPage::new(entries, None, false))
}

/// Opens a lane and gives it these entries.
fn begin(core: &mut Core, stream: &StreamId, entries: Vec<PendingEntry>, now: Instant) {
    assert_eq!(core.found(stream, now), Found::Admitted);
    let read = core.next_read().expect("a read of the pending entries");
    core.answered(&read, page(entries), now);
}

fn versions(batch: &[Outgoing]) -> Vec<u64> {
    batch.iter().map(|outgoing| outgoing.event.version).collect()
}

fn key(stream: &StreamId, first: u64) -> PendingKey {
    PendingKey { stream_id: stream.clone(), first }
}

#[test]
fn g6_one_event_of_a_stream_is_in_flight_at_a_time_and_in_order() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 1, 2, None), entry(&order, 3, 3, Some((1, 0)))], now);
    for version in 1..=3 {
        assert_eq!(versions(&core.next_batch()), [version]);
        assert_eq!(versions(&core.next_batch()), NOTHING, "nothing more before {version} is confirmed");
        core.published(&order, version, Outcome::Confirmed, now);
    }
    assert_eq!(versions(&core.next_batch()), NOTHING);
}

#[test]
fn g5_an_entry_is_deleted_when_all_of_its_events_are_confirmed_and_not_before() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 1, 2, None)], now);
    core.next_batch();
    core.published(&order, 1, Outcome::Confirmed, now);
    assert_eq!(core.next_deletes(now), []);
    core.next_batch();
    assert_eq!(core.next_deletes(now), []);
    core.published(&order, 2, Outcome::Confirmed, now);
    assert_eq!(core.next_deletes(now), [key(&order, 1)]);
}

#[test]
fn g5_an_unknown_outcome_is_published_again() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 1, 1, None)], now);
    for _ in 0..3 {
        assert_eq!(versions(&core.next_batch()), [1]);
        core.published(&order, 1, Outcome::Unknown, now);
    }
    assert_eq!(core.next_deletes(now), []);
    assert_eq!(versions(&core.next_batch()), [1]);
}

#[test]
fn a_batch_has_one_event_of_each_stream() {
    let (mut core, now) = (core(), Instant::now());
    for id in 1..=3 {
        begin(&mut core, &stream(id), vec![entry(&stream(id), 1, 9, None)], now);
    }
    let batch = core.next_batch();
    assert_eq!(versions(&batch), [1, 1, 1]);
    assert_eq!(batch.iter().map(|outgoing| outgoing.stream.clone()).collect::<Vec<_>>(), [1, 2, 3].map(stream));
}

#[test]
fn a_lane_closes_when_its_deletes_are_done() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 1, 1, None)], now);
    core.next_batch();
    core.published(&order, 1, Outcome::Confirmed, now);
    assert_eq!(core.found(&order, now), Found::UnderWay, "a lagging index shows the entry still");
    let deletes = core.next_deletes(now);
    assert!(!core.is_idle() && !core.has_deleted_all());
    core.deleted(&deletes, vec![], now);
    assert!(core.is_idle() && core.has_deleted_all());
    assert_eq!(core.totals(), Totals { published: 1, deleted: 1 });
}

#[test]
fn deletes_that_dynamodb_did_not_get_to_are_asked_for_again_later() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 1, 1, None), entry(&order, 2, 2, Some((1, 0)))], now);
    for version in 1..=2 {
        core.next_batch();
        core.published(&order, version, Outcome::Confirmed, now);
    }
    let deletes = core.next_deletes(now);
    core.deleted(&deletes, vec![key(&order, 2)], now);
    assert_eq!(core.next_deletes(now), []);
    let due = core.next_due().expect("the delete rests");
    assert_eq!(core.next_deletes(due), [key(&order, 2)]);
    assert!(!core.is_idle(), "the entry is still there, so the lane is");
}

#[test]
fn g6_a_close_predecessor_is_proved_before_its_successor_is_published() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 5, 5, Some((4, 3)))], now);
    assert_eq!(versions(&core.next_batch()), NOTHING);
    let read = core.next_read().unwrap();
    assert_eq!(read, Read::Predecessor { stream: order.clone(), first: 4 });
    core.answered(&read, Answer::Predecessor(Predecessor::Published), now);
    assert_eq!(versions(&core.next_batch()), [5]);
}

#[test]
fn g6_clocks_that_run_apart_make_a_proof_not_a_gap() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 5, 5, Some((4, -3_600_000)))], now);
    assert!(matches!(core.next_read(), Some(Read::Predecessor { first: 4, .. })));
}

#[test]
fn a_predecessor_far_in_the_past_needs_no_proof() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 5, 5, Some((4, 60_000)))], now);
    assert_eq!(versions(&core.next_batch()), [5]);
}

#[test]
fn a_predecessor_that_this_relay_has_published_needs_no_proof() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 1, 1, None)], now);
    core.next_batch();
    core.published(&order, 1, Outcome::Confirmed, now);
    let deletes = core.next_deletes(now);
    core.deleted(&deletes, vec![], now);
    begin(&mut core, &order, vec![entry(&order, 2, 2, Some((1, 0)))], now);
    assert_eq!(versions(&core.next_batch()), [2]);
}

#[test]
fn g6_an_entry_between_two_that_is_not_visible_yet_is_waited_for() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    // Versions 2 to 3 are half visible: their pending entry does not show.
    begin(&mut core, &order, vec![entry(&order, 1, 1, None), entry(&order, 4, 4, Some((2, 1)))], now);
    core.next_batch();
    core.published(&order, 1, Outcome::Confirmed, now);
    assert_eq!(versions(&core.next_batch()), NOTHING);
    let proof = core.next_read().unwrap();
    assert_eq!(proof, Read::Predecessor { stream: order.clone(), first: 2 });
    core.answered(&proof, Answer::Predecessor(Predecessor::Unsettled), now);
    assert_eq!(core.next_read(), None);

    let due = core.next_due().unwrap();
    core.wake(due);
    assert_eq!(core.next_read().as_ref(), Some(&proof));
    core.answered(&proof, Answer::Predecessor(Predecessor::Pending), due);
    let read = core.next_read().unwrap();
    assert!(matches!(read, Read::Pending { from: 1, .. }), "{read:?}");
    core.answered(&read, page(vec![entry(&order, 2, 3, Some((1, 1))), entry(&order, 4, 4, Some((2, 1)))]), due);
    for version in 2..=4 {
        assert_eq!(versions(&core.next_batch()), [version]);
        core.published(&order, version, Outcome::Confirmed, due);
    }
}

#[test]
fn g7_a_refused_event_halts_its_own_stream_and_no_other() {
    let (mut core, bad, good, now) = (core(), stream(1), stream(2), Instant::now());
    begin(&mut core, &bad, vec![entry(&bad, 1, 1, None), entry(&bad, 2, 2, Some((1, 0)))], now);
    begin(&mut core, &good, vec![entry(&good, 1, 2, None)], now);
    assert_eq!(core.next_batch().len(), 2);
    core.published(&bad, 1, Outcome::Refused("no queue is bound".to_owned()), now);
    core.published(&good, 1, Outcome::Confirmed, now);
    assert_eq!(versions(&core.next_batch()), [2], "the other stream goes on, this one does not");
    assert_eq!(core.next_deletes(now), []);

    let (_, halt) = core.halts().next().unwrap();
    assert_eq!((halt.reason.as_str(), halt.attempts), ("version 1: no queue is bound", 1));
    assert_eq!(core.found(&bad, now), Found::Halted);
    assert_eq!(core.found(&bad, now + 1_000 * MS), Found::Admitted);
}

#[test]
fn g7_a_halted_stream_is_tried_at_growing_intervals_and_goes_on_when_the_cause_is_gone() {
    let (mut core, order, mut now) = (core(), stream(1), Instant::now());
    for delay_ms in [1_000, 2_000, 4_000] {
        begin(&mut core, &order, vec![entry(&order, 1, 1, None)], now);
        core.next_batch();
        core.published(&order, 1, Outcome::Refused("no queue".to_owned()), now);
        assert_eq!(core.found(&order, now + (delay_ms - 1) * MS), Found::Halted);
        now += delay_ms * MS;
    }
    begin(&mut core, &order, vec![entry(&order, 1, 1, None)], now);
    core.next_batch();
    core.published(&order, 1, Outcome::Confirmed, now);
    assert_eq!(core.halts().count(), 0);
}

#[test]
fn what_was_published_before_a_halt_is_not_published_again() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 1, 3, None)], now);
    core.next_batch();
    core.published(&order, 1, Outcome::Confirmed, now);
    core.next_batch();
    core.published(&order, 2, Outcome::Refused("no queue".to_owned()), now);
    let later = now + 1_000 * MS;
    begin(&mut core, &order, vec![entry(&order, 1, 3, None)], later);
    assert_eq!(versions(&core.next_batch()), [2]);
}

#[test]
fn g7_an_unreadable_entry_halts_the_stream_behind_what_can_be_read() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    core.found(&order, now);
    let read = core.next_read().unwrap();
    let unreadable =
        streambox::Corrupt { stream: order.clone(), at: "pending#2".into(), what: "last_version is missing".into() };
    let answer = Answer::Pending(PendingPage::new(vec![entry(&order, 1, 1, None)], Some(unreadable), false));
    core.answered(&read, answer, now);
    assert_eq!(versions(&core.next_batch()), [1]);
    core.published(&order, 1, Outcome::Confirmed, now);
    let deletes = core.next_deletes(now);
    core.deleted(&deletes, vec![], now);
    let (_, halt) = core.halts().next().unwrap();
    assert!(halt.reason.contains("last_version is missing"), "{}", halt.reason);
}

#[test]
fn a_halted_stream_that_a_whole_scan_does_not_find_is_forgotten() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 1, 1, None)], now);
    core.next_batch();
    core.published(&order, 1, Outcome::Refused("no queue".to_owned()), now);
    core.scanned_all();
    assert_eq!(core.halts().count(), 1);
    core.scanned_all();
    assert_eq!(core.halts().count(), 0);
}

#[test]
fn an_entry_without_copies_reads_its_events_page_by_page() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    let bare = PendingEntry::new(order.clone(), 1, 3, 0, None, None);
    begin(&mut core, &order, vec![bare], now);
    let events = |versions: std::ops::RangeInclusive<u64>| {
        Answer::Events(versions.map(|v| OutboxEvent::new(v, Uuid::nil(), "Placed", "{}")).collect())
    };
    for pages in [1..=2, 3..=3] {
        let read = core.next_read().unwrap();
        assert_eq!(read, Read::Events { stream: order.clone(), from: *pages.start(), last: 3 });
        core.answered(&read, events(pages.clone()), now);
        for version in pages {
            assert_eq!(versions(&core.next_batch()), [version]);
            core.published(&order, version, Outcome::Confirmed, now);
        }
    }
    assert_eq!(core.next_deletes(now), [key(&order, 1)]);
}

#[test]
fn streams_with_more_entries_go_round_again_behind_the_last() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    core.found(&order, now);
    let read = core.next_read().unwrap();
    core.answered(&read, Answer::Pending(PendingPage::new(vec![entry(&order, 1, 2, None)], None, true)), now);
    for version in 1..=2 {
        core.next_batch();
        core.published(&order, version, Outcome::Confirmed, now);
    }
    let deletes = core.next_deletes(now);
    let read = core.next_read().unwrap();
    assert!(matches!(read, Read::Pending { from: 2, .. }), "{read:?}");
    core.deleted(&deletes, vec![], now);
    assert_eq!(core.next_read(), None, "one read of a stream at a time");
    core.answered(&read, page(vec![]), now);
    assert!(core.is_idle());
}

#[test]
fn g10_lanes_reads_and_bytes_are_bounded() {
    let bounds = Bounds { max_streams: 4, max_reads: 2, max_buffered_bytes: 200_000, ..Bounds::default() };
    let (mut core, now) = (Core::new(bounds), Instant::now());
    for id in 1..=4 {
        assert_eq!(core.found(&stream(id), now), Found::Admitted);
    }
    assert_eq!(core.found(&stream(5), now), Found::NoRoom);
    let reads = [core.next_read().unwrap(), core.next_read().unwrap()];
    assert_eq!(core.next_read(), None, "two reads are under way");
    core.answered(&reads[0], page(vec![entry(&stream(1), 1, 99, None)]), now);
    core.answered(&reads[1], page(vec![entry(&stream(2), 1, 500, None)]), now);
    assert!(core.next_read().is_some(), "one read is always allowed");
    assert_eq!(core.next_read(), None, "what is held leaves no room for a second");
}

#[test]
fn a_failed_read_is_tried_again_later() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    core.found(&order, now);
    let read = core.next_read().unwrap();
    core.answered(&read, Answer::Failed, now);
    assert_eq!(core.next_read(), None);
    core.wake(core.next_due().unwrap());
    assert_eq!(core.next_read(), Some(read));
}

#[test]
fn private_events_of_an_entry_are_passed_over_and_it_is_deleted_after_its_last_public_one() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    let mut mixed = entry(&order, 1, 4, None);
    mixed.public = Some(vec![2, 3]);
    mixed.events = None;
    begin(&mut core, &order, vec![mixed, entry(&order, 6, 6, Some((1, 0)))], now);
    let read = core.next_read().expect("the events are read");
    assert_eq!(read, Read::Events { stream: order.clone(), from: 2, last: 3 });
    let event = |version: u64| OutboxEvent::new(version, Uuid::from_u128(version.into()), "Placed", "{}");
    core.answered(&read, Answer::Events(vec![event(2), event(3), event(4)]), now);
    for version in [2, 3] {
        assert_eq!(core.next_deletes(now), []);
        assert_eq!(versions(&core.next_batch()), [version]);
        core.published(&order, version, Outcome::Confirmed, now);
    }
    assert_eq!(core.next_deletes(now), [key(&order, 1)]);
    // Version 5 is a private append without an entry; the one before it is known as published, so no proof is needed.
    assert_eq!(versions(&core.next_batch()), [6]);
}
