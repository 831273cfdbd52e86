//! The decisions about streams, one by one. The simulator (`tests/src/sim`) has them all at once.

mod history;
mod scan;
mod wake;

use streambox::{
    Uuid,
    outbox::{OutboxEvent, PendingEntry, PendingKey, PendingPage, Predecessor, Previous},
};

use super::{lanes::Admission, *};

/// The tasks and answers of an outbox, one by one.
impl Core {
    fn with_outbox<T>(&mut self, act: impl FnOnce(&mut OutboxSource, &mut Lanes, &mut Jitter) -> T) -> T {
        let Source::Outbox(outbox) = &mut self.source else { panic!("the source is the outbox") };
        act(outbox, &mut self.lanes, &mut self.jitter)
    }

    fn found(&mut self, stream: &StreamId, now: Instant) -> Admission {
        self.with_outbox(|outbox, lanes, _| outbox.found(stream, lanes, now))
    }

    fn next_read(&mut self) -> Option<Read> {
        self.lanes.next_read()
    }

    fn answered(&mut self, read: &Read, answer: Answer, now: Instant) {
        self.lanes.answered(read, answer, &mut self.jitter, now);
    }

    fn next_batch(&mut self) -> Vec<Outgoing> {
        self.lanes.next_batch()
    }

    fn next_deletes(&mut self, now: Instant) -> Vec<PendingKey> {
        self.with_outbox(|outbox, lanes, _| outbox.next_deletes(lanes, now))
    }

    fn deletes_due(&self) -> Option<Instant> {
        self.outbox()?.next_due(true)
    }

    fn deleted(&mut self, asked: &[PendingKey], left: Vec<PendingKey>, now: Instant) {
        self.done(Done::Deleted { asked: asked.to_vec(), left }, now);
    }
}

const MS: Duration = Duration::from_millis(1);
const NOTHING: [u64; 0] = [];

fn stream(id: u32) -> StreamId {
    StreamId::new(format!("order-{id}")).unwrap()
}

fn core() -> Core {
    with(Bounds::default())
}

fn with(bounds: Bounds) -> Core {
    let mut core = Core::new(settings(bounds), 1, Instant::now());
    core.set_ready_publishers(2);
    core
}

fn settings(bounds: Bounds) -> CoreSettings {
    let poll_interval = 500 * MS;
    CoreSettings { bounds, poll_interval, busy_poll_interval: 25 * MS, until: Until::Stopped, group: None }
}

/// Says what became of a version that is in flight.
fn publish(core: &mut Core, stream: &StreamId, version: u64, outcome: Outcome, now: Instant) {
    let event = OutboxEvent::new(version, Uuid::from_u128(version.into()), "Placed", "{}");
    core.published(&Outgoing { stream: stream.clone(), event: event.into() }, outcome, now);
}

/// An entry of the versions `first` to `last` with copies of its events; the public version before was recorded `apart_ms`
/// earlier.
fn entry(stream: &StreamId, first: u64, last: u64, previous: Option<(u64, i64)>) -> PendingEntry {
    let pending_since_ms = 1_000_000;
    let events = (first..=last).map(|v| OutboxEvent::new(v, Uuid::from_u128(v.into()), "Placed", "{}")).collect();
    let previous =
        previous.map(|(version, apart_ms)| Previous { version, recorded_at_ms: pending_since_ms - apart_ms });
    PendingEntry::new(stream.clone(), first, last, pending_since_ms, previous, Some(events))
}

fn page(entries: Vec<PendingEntry>) -> Answer {
    Answer::Pending(PendingPage::new(entries, None, false))
}

/// Opens a lane and gives it these entries.
fn begin(core: &mut Core, stream: &StreamId, entries: Vec<PendingEntry>, now: Instant) {
    assert!(matches!(core.found(stream, now), Admission::Admitted | Admission::Retried));
    let read = core.next_read().expect("a read of the pending entries");
    core.answered(&read, page(entries), now);
}

fn versions(batch: &[Outgoing]) -> Vec<u64> {
    batch.iter().map(|outgoing| outgoing.event.version).collect()
}

fn key(stream: &StreamId, last: u64) -> PendingKey {
    PendingKey { stream_id: stream.clone(), last }
}

#[test]
fn g6_one_event_of_a_stream_is_in_flight_at_a_time_and_in_order() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 1, 2, None), entry(&order, 3, 3, Some((2, 0)))], now);
    for version in 1..=3 {
        assert_eq!(versions(&core.next_batch()), [version]);
        assert_eq!(versions(&core.next_batch()), NOTHING, "nothing more before {version} is confirmed");
        publish(&mut core, &order, version, Outcome::Confirmed, now);
    }
    assert_eq!(versions(&core.next_batch()), NOTHING);
}

#[test]
fn g5_an_entry_is_deleted_when_all_of_its_events_are_confirmed_and_not_before() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 1, 2, None)], now);
    core.next_batch();
    publish(&mut core, &order, 1, Outcome::Confirmed, now);
    assert_eq!(core.next_deletes(now), []);
    core.next_batch();
    assert_eq!(core.next_deletes(now), []);
    publish(&mut core, &order, 2, Outcome::Confirmed, now);
    assert_eq!(core.next_deletes(now), [key(&order, 2)]);
}

#[test]
fn g5_an_unknown_outcome_is_published_again() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 1, 1, None)], now);
    assert_eq!(versions(&core.next_batch()), [1]);
    publish(&mut core, &order, 1, Outcome::Unknown, now);
    assert_eq!(core.next_deletes(now), []);
    assert_eq!(versions(&core.next_batch()), [1]);
}

/// The next event that is published alone, and how far apart.
fn alone(core: &mut Core) -> Option<(StreamId, u64, Isolation)> {
    let (outgoing, isolation) = core.lanes.next_alone()?;
    Some((outgoing.stream, outgoing.event.version, isolation))
}

fn answer_alone(
    core: &mut Core,
    stream: &StreamId,
    version: u64,
    isolation: Isolation,
    outcome: Outcome,
    now: Instant,
) {
    core.lanes.published_alone(isolation);
    publish(core, stream, version, outcome, now);
}

#[test]
fn g7_an_event_under_which_connections_end_again_and_again_is_published_alone() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 1, 2, None)], now);
    for _ in 0..2 {
        assert_eq!(versions(&core.next_batch()), [1]);
        publish(&mut core, &order, 1, Outcome::Unknown, now);
    }
    assert_eq!(versions(&core.next_batch()), NOTHING);
    assert_eq!(alone(&mut core), Some((order.clone(), 1, Isolation::Channel)));
    answer_alone(&mut core, &order, 1, Isolation::Channel, Outcome::Confirmed, now);
    assert_eq!(versions(&core.next_batch()), [2], "what got through is under no suspicion");
}

#[test]
fn g7_suspects_are_kept_apart_until_it_is_known_which_one_it_was() {
    let (mut core, now) = (core(), Instant::now());
    for id in 1..=3 {
        begin(&mut core, &stream(id), vec![entry(&stream(id), 1, 2, None)], now);
    }
    assert_eq!(core.next_batch().len(), 3);
    for id in 1..=3 {
        publish(&mut core, &stream(id), 1, Outcome::Suspect("closed".to_owned()), now);
    }
    assert_eq!(versions(&core.next_batch()), NOTHING);
    for id in 1..=3 {
        assert_eq!(alone(&mut core), Some((stream(id), 1, Isolation::Channel)));
    }
    // The shared connection ends under two of them.
    answer_alone(&mut core, &stream(1), 1, Isolation::Channel, Outcome::Confirmed, now);
    for id in 2..=3 {
        answer_alone(&mut core, &stream(id), 1, Isolation::Channel, Outcome::Suspect("closed".to_owned()), now);
    }
    assert_eq!(versions(&core.next_batch()), [2], "stream 1 goes on at once");
    assert_eq!(alone(&mut core), Some((stream(2), 1, Isolation::Connection)));
    assert_eq!(alone(&mut core), None, "one connection for one event at a time");
    answer_alone(&mut core, &stream(2), 1, Isolation::Connection, Outcome::Poison("501".to_owned()), now);
    assert_eq!(alone(&mut core), Some((stream(3), 1, Isolation::Connection)));
    answer_alone(&mut core, &stream(3), 1, Isolation::Connection, Outcome::Confirmed, now);
    let halted: Vec<_> = core.halts().map(|(stream, halt)| (stream.clone(), halt.reason.clone())).collect();
    assert_eq!(halted, [(stream(2), "501".to_owned())]);

    // Its next attempt is made apart from the start, and it reads one entry.
    let later = now + Duration::from_secs(1);
    assert_eq!(core.found(&stream(2), later), Admission::Retried);
    let read = core.next_read().expect("a read of the pending entries");
    assert!(matches!(read, Read::Pending { limit: 1, .. }));
    core.answered(&read, page(vec![entry(&stream(2), 1, 2, None)]), later);
    assert_eq!(alone(&mut core), Some((stream(2), 1, Isolation::Connection)));
}

#[test]
fn g7_events_like_one_that_was_refused_are_published_alone_from_the_start() {
    let (mut core, now) = (core(), Instant::now());
    for id in 1..=3 {
        begin(&mut core, &stream(id), vec![entry(&stream(id), 1, 1, None)], now);
    }
    assert_eq!(core.next_batch().len(), 3);
    publish(&mut core, &stream(1), 1, Outcome::Suspect("closed".to_owned()), now);
    alone(&mut core).expect("a suspect");
    answer_alone(&mut core, &stream(1), 1, Isolation::Channel, Outcome::Poison("403".to_owned()), now);
    begin(&mut core, &stream(4), vec![entry(&stream(4), 1, 2, None)], now);
    assert_eq!(versions(&core.next_batch()), NOTHING, "it has the same routing key");
    assert_eq!(alone(&mut core), Some((stream(4), 1, Isolation::Channel)));
    answer_alone(&mut core, &stream(4), 1, Isolation::Channel, Outcome::Confirmed, now);
    assert_eq!(versions(&core.next_batch()), [2], "one got through");
}

#[test]
fn g7_where_many_are_published_alone_those_like_a_refused_one_halt_and_the_others_have_room() {
    let (mut core, now) = (with(Bounds { max_suspects: 2, ..Bounds::default() }), Instant::now());
    begin(&mut core, &stream(1), vec![entry(&stream(1), 1, 1, None)], now);
    core.next_batch();
    publish(&mut core, &stream(1), 1, Outcome::Suspect("silence".to_owned()), now);
    alone(&mut core).expect("a suspect");
    answer_alone(&mut core, &stream(1), 1, Isolation::Channel, Outcome::Poison("silence".to_owned()), now);
    for id in 2..=3 {
        begin(&mut core, &stream(id), vec![entry(&stream(id), 1, 1, None)], now);
    }
    assert_eq!(alone(&mut core), Some((stream(2), 1, Isolation::Channel)));
    let halted = core.halts().find(|(id, _)| **id == stream(3)).map(|(_, halt)| halt.reason.clone());
    assert!(halted.is_some_and(|reason| reason.contains("not published") && reason.contains("silence")));
}

#[test]
fn a_batch_is_bounded_by_its_bytes_but_has_one_event_at_least() {
    let (mut core, now) = (with(Bounds { max_batch_bytes: 5, ..Bounds::default() }), Instant::now());
    for id in 1..=3 {
        begin(&mut core, &stream(id), vec![entry(&stream(id), 1, 1, None)], now);
    }
    assert_eq!(core.next_batch().len(), 2, "two of two bytes each");
    assert_eq!(core.next_batch().len(), 1);
    let (mut core, now) = (with(Bounds { max_batch_bytes: 1, ..Bounds::default() }), Instant::now());
    begin(&mut core, &stream(1), vec![entry(&stream(1), 1, 1, None)], now);
    assert_eq!(core.next_batch().len(), 1, "larger than the bound");
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
    publish(&mut core, &order, 1, Outcome::Confirmed, now);
    assert_eq!(core.found(&order, now), Admission::UnderWay, "a lagging index shows the entry still");
    let deletes = core.next_deletes(now);
    assert!(core.open_streams() > 0 && core.deletes_waiting() > 0);
    core.deleted(&deletes, vec![], now);
    assert!(core.open_streams() == 0 && core.deletes_waiting() == 0);
    assert_eq!(core.totals(), Totals { published: 1, deleted: 1, ..Totals::default() });
}

#[test]
fn deletes_that_dynamodb_did_not_get_to_are_asked_for_again_later() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 1, 1, None), entry(&order, 2, 2, Some((1, 0)))], now);
    for version in 1..=2 {
        core.next_batch();
        publish(&mut core, &order, version, Outcome::Confirmed, now);
    }
    let deletes = core.next_deletes(now);
    core.deleted(&deletes, vec![key(&order, 2)], now);
    assert_eq!(core.next_deletes(now), []);
    let due = core.deletes_due().expect("the delete rests");
    assert_eq!(core.next_deletes(due), [key(&order, 2)]);
    assert!(core.open_streams() > 0, "the entry is still there, so the lane is");
}

#[test]
fn deletes_rest_longer_only_while_none_of_them_is_done() {
    let rests = |done: u64| {
        let (mut core, order, mut now) = (core(), stream(1), Instant::now());
        let previous = |version: u64| (version > 1).then_some((version - 1, 0));
        let entries = (1..=8).map(|version| entry(&order, version, version, previous(version))).collect();
        begin(&mut core, &order, entries, now);
        for version in 1..=8 {
            core.next_batch();
            publish(&mut core, &order, version, Outcome::Confirmed, now);
        }
        let mut rests = Vec::new();
        for round in 1..=4 {
            let deletes = core.next_deletes(now);
            let left = deletes.iter().filter(|key| key.last > done * round).cloned().collect();
            core.deleted(&deletes, left, now);
            let due = core.deletes_due().expect("some are left");
            rests.push(due - now);
            now = due;
        }
        rests
    };
    let longest = |rests: Vec<Duration>| rests.into_iter().max().expect("four rests");
    let first_delay = Bounds::default().first_delay;
    assert!(longest(rests(1)) <= first_delay, "each round gets further");
    assert!(longest(rests(0)) > 2 * first_delay, "nothing is done");
}

#[test]
fn g6_a_close_previous_entry_is_checked_before_the_next_is_published() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 5, 5, Some((4, 3)))], now);
    assert_eq!(versions(&core.next_batch()), NOTHING);
    let read = core.next_read().unwrap();
    assert_eq!(read, Read::VisibilityCheck { stream: order.clone(), last: 4 });
    core.answered(&read, Answer::VisibilityCheck(Predecessor::Published), now);
    assert_eq!(versions(&core.next_batch()), [5]);
}

#[test]
fn g6_clocks_that_run_apart_cost_a_check_not_a_gap() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 5, 5, Some((4, -3_600_000)))], now);
    assert!(matches!(core.next_read(), Some(Read::VisibilityCheck { last: 4, .. })));
}

#[test]
fn a_previous_entry_far_in_the_past_needs_no_check() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 5, 5, Some((4, 4 * 3_600_000)))], now);
    assert_eq!(versions(&core.next_batch()), [5]);
}

#[test]
fn a_previous_entry_that_this_relay_has_published_needs_no_check() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 1, 1, None)], now);
    core.next_batch();
    publish(&mut core, &order, 1, Outcome::Confirmed, now);
    let deletes = core.next_deletes(now);
    core.deleted(&deletes, vec![], now);
    begin(&mut core, &order, vec![entry(&order, 2, 2, Some((1, 0)))], now);
    assert_eq!(versions(&core.next_batch()), [2]);
}

#[test]
fn g6_an_entry_between_two_that_is_not_visible_yet_is_waited_for() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    // Versions 2 to 3 are half visible: their pending entry does not show.
    begin(&mut core, &order, vec![entry(&order, 1, 1, None), entry(&order, 4, 4, Some((3, 1)))], now);
    core.next_batch();
    publish(&mut core, &order, 1, Outcome::Confirmed, now);
    assert_eq!(versions(&core.next_batch()), NOTHING);
    let check = core.next_read().unwrap();
    assert_eq!(check, Read::VisibilityCheck { stream: order.clone(), last: 3 });
    let (mut check, mut due) = (check, now);
    for seen in [Predecessor::Unsettled, Predecessor::Pending] {
        core.answered(&check, Answer::VisibilityCheck(seen), due);
        assert_eq!(core.next_read(), None, "it is not looked for again and again without a rest");
        due = core.lanes.next_due().unwrap();
        core.lanes.wake(due);
        let read = core.next_read().unwrap();
        assert!(matches!(read, Read::Pending { from: 1, .. }), "{read:?}");
        core.answered(&read, page(vec![entry(&order, 4, 4, Some((3, 1)))]), due);
        check = core.next_read().unwrap();
        assert_eq!(check, Read::VisibilityCheck { stream: order.clone(), last: 3 });
    }
    core.answered(&check, Answer::VisibilityCheck(Predecessor::Pending), due);
    due = core.lanes.next_due().unwrap();
    core.lanes.wake(due);
    let read = core.next_read().unwrap();
    core.answered(&read, page(vec![entry(&order, 2, 3, Some((1, 1))), entry(&order, 4, 4, Some((3, 1)))]), due);
    for version in 2..=4 {
        assert_eq!(versions(&core.next_batch()), [version]);
        publish(&mut core, &order, version, Outcome::Confirmed, due);
    }
}

#[test]
fn g7_a_refused_event_halts_its_own_stream_and_no_other() {
    let (mut core, bad, good, now) = (core(), stream(1), stream(2), Instant::now());
    begin(&mut core, &bad, vec![entry(&bad, 1, 1, None), entry(&bad, 2, 2, Some((1, 0)))], now);
    begin(&mut core, &good, vec![entry(&good, 1, 2, None)], now);
    assert_eq!(core.next_batch().len(), 2);
    publish(&mut core, &bad, 1, Outcome::Refused("no queue is bound".to_owned()), now);
    publish(&mut core, &good, 1, Outcome::Confirmed, now);
    assert_eq!(versions(&core.next_batch()), [2], "the other stream goes on, this one does not");
    assert_eq!(core.next_deletes(now), []);

    let (_, halt) = core.halts().next().unwrap();
    assert_eq!((halt.version, halt.reason.as_str(), halt.attempts), (1, "no queue is bound", 1));
    assert_eq!(core.found(&bad, now), Admission::Halted);
    assert_eq!(core.found(&bad, now + 1_000 * MS), Admission::Retried);
}

#[test]
fn g7_a_halted_stream_is_tried_at_growing_intervals_and_goes_on_when_the_cause_is_gone() {
    let (mut core, order, mut now) = (core(), stream(1), Instant::now());
    for delay_ms in [1_000, 2_000, 4_000] {
        begin(&mut core, &order, vec![entry(&order, 1, 1, None)], now);
        core.next_batch();
        publish(&mut core, &order, 1, Outcome::Refused("no queue".to_owned()), now);
        assert_eq!(core.found(&order, now + (delay_ms - 1) * MS), Admission::Halted);
        now += delay_ms * MS;
    }
    begin(&mut core, &order, vec![entry(&order, 1, 1, None)], now);
    core.next_batch();
    publish(&mut core, &order, 1, Outcome::Confirmed, now);
    assert_eq!(core.halts().count(), 0);
}

#[test]
fn what_was_published_before_a_halt_is_not_published_again() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 1, 3, None)], now);
    core.next_batch();
    publish(&mut core, &order, 1, Outcome::Confirmed, now);
    core.next_batch();
    publish(&mut core, &order, 2, Outcome::Refused("no queue".to_owned()), now);
    let later = now + 1_000 * MS;
    begin(&mut core, &order, vec![entry(&order, 1, 3, None)], later);
    assert_eq!(versions(&core.next_batch()), [2]);
}

#[test]
fn g7_an_unreadable_entry_halts_the_stream_behind_what_can_be_read() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    core.found(&order, now);
    let read = core.next_read().unwrap();
    let unreadable = streambox::Corrupt::new(order.clone(), "pending#2", "first_version is not a number");
    let answer = Answer::Pending(PendingPage::new(vec![entry(&order, 1, 1, None)], Some(unreadable), false));
    core.answered(&read, answer, now);
    assert_eq!(versions(&core.next_batch()), [1]);
    publish(&mut core, &order, 1, Outcome::Confirmed, now);
    let deletes = core.next_deletes(now);
    core.deleted(&deletes, vec![], now);
    let (_, halt) = core.halts().next().unwrap();
    assert!(halt.reason.contains("first_version is not a number"), "{}", halt.reason);
}

#[test]
fn a_halted_stream_that_a_whole_scan_does_not_find_is_forgotten() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 1, 1, None)], now);
    core.next_batch();
    publish(&mut core, &order, 1, Outcome::Refused("no queue".to_owned()), now);
    core.lanes.scanned_all();
    assert_eq!(core.halts().count(), 1);
    core.lanes.scanned_all();
    assert_eq!(core.halts().count(), 0);
}

#[test]
fn an_entry_without_copies_reads_its_events_page_by_page() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    let bare = PendingEntry::new(order.clone(), 1, 3, 0, None, None);
    begin(&mut core, &order, vec![bare], now);
    let events = |versions: std::ops::RangeInclusive<u64>| {
        Answer::Events(versions.map(|v| OutboxEvent::new(v, Uuid::nil(), "Placed", "{}").into()).collect())
    };
    for pages in [1..=2, 3..=3] {
        let read = core.next_read().unwrap();
        let previous = Some(pages.start() - 1).filter(|version| *version > 0);
        assert_eq!(read, Read::Events { stream: order.clone(), from: *pages.start(), last: 3, previous });
        core.answered(&read, events(pages.clone()), now);
        for version in pages {
            assert_eq!(versions(&core.next_batch()), [version]);
            publish(&mut core, &order, version, Outcome::Confirmed, now);
        }
    }
    assert_eq!(core.next_deletes(now), [key(&order, 3)]);
}

#[test]
fn streams_with_more_entries_go_round_again_behind_the_last() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    core.found(&order, now);
    let read = core.next_read().unwrap();
    core.answered(&read, Answer::Pending(PendingPage::new(vec![entry(&order, 1, 2, None)], None, true)), now);
    for version in 1..=2 {
        core.next_batch();
        publish(&mut core, &order, version, Outcome::Confirmed, now);
    }
    let deletes = core.next_deletes(now);
    let read = core.next_read().unwrap();
    assert!(matches!(read, Read::Pending { from: 3, .. }), "{read:?}");
    core.deleted(&deletes, vec![], now);
    assert_eq!(core.next_read(), None, "one read of a stream at a time");
    core.answered(&read, page(vec![]), now);
    assert!(core.open_streams() == 0);
}

#[test]
fn g10_lanes_reads_and_bytes_are_bounded() {
    let bounds = Bounds { max_streams: 4, max_reads: 2, max_buffered_bytes: 2_000_000, ..Bounds::default() };
    let (mut core, now) = (with(bounds), Instant::now());
    for id in 1..=4 {
        assert_eq!(core.found(&stream(id), now), Admission::Admitted);
    }
    assert_eq!(core.found(&stream(5), now), Admission::NoRoom);
    let reads = [core.next_read().unwrap(), core.next_read().unwrap()];
    assert_eq!(core.next_read(), None, "two reads are under way");
    core.answered(&reads[0], page(vec![entry(&stream(1), 1, 499, None)]), now);
    core.answered(&reads[1], page(vec![entry(&stream(2), 1, 3_500, None)]), now);
    assert_eq!(core.next_read(), None, "what is held leaves no room for another");
}

#[test]
fn g10_what_is_held_is_published_before_more_is_read_than_there_is_room_for() {
    const LARGE: usize = 900_000;
    let bounds = Bounds { max_buffered_bytes: 2_000_000, ..Bounds::default() };
    let (mut core, now) = (with(bounds), Instant::now());
    let streams: Vec<_> = (1..=8).map(stream).collect();
    let large = |stream: &StreamId| PendingEntry::new(stream.clone(), 1, 1, 0, None, None);
    for stream in &streams {
        core.found(stream, now);
    }
    let first: Vec<_> = std::iter::from_fn(|| core.next_read()).collect();
    for read in first {
        let entries = vec![large(read.stream())];
        core.answered(&read, page(entries), now);
    }
    let mut published = 0;
    while core.open_streams() > 0 {
        while let Some(read) = core.next_read() {
            let answer = match &read {
                Read::Pending { stream, .. } => page(vec![large(stream)]),
                _ => Answer::Events(vec![OutboxEvent::new(1, Uuid::nil(), "Grown", "x".repeat(LARGE)).into()]),
            };
            core.answered(&read, answer, now);
            assert!(core.buffered_bytes() <= 2_000_000, "{} bytes", core.buffered_bytes());
        }
        let batch = core.next_batch();
        assert!(!batch.is_empty(), "what is held waits for nothing");
        for outgoing in batch {
            published += 1;
            publish(&mut core, &outgoing.stream, 1, Outcome::Confirmed, now);
        }
        let deletes = core.next_deletes(now);
        core.deleted(&deletes, vec![], now);
    }
    assert_eq!((published, core.buffered_bytes()), (8, 0));
}

#[test]
fn a_failed_read_is_tried_again_later() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    core.found(&order, now);
    let read = core.next_read().unwrap();
    core.answered(&read, Answer::Failed, now);
    assert_eq!(core.next_read(), None);
    core.lanes.wake(core.lanes.next_due().unwrap());
    assert_eq!(core.next_read(), Some(read));
}

#[test]
fn private_events_of_an_entry_are_passed_over_and_it_is_deleted_after_its_last_public_one() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    let mut mixed = entry(&order, 2, 4, None);
    mixed.public = Some(vec![2, 4]);
    mixed.events = None;
    begin(&mut core, &order, vec![mixed, entry(&order, 7, 7, Some((4, 0)))], now);
    let read = core.next_read().expect("the events are read");
    assert_eq!(read, Read::Events { stream: order.clone(), from: 2, last: 4, previous: None });
    let event = |version: u64| OutboxEvent::new(version, Uuid::from_u128(version.into()), "Placed", "{}");
    core.answered(&read, Answer::Events([2, 3, 4].map(|version| event(version).into()).into()), now);
    for version in [2, 4] {
        assert_eq!(core.next_deletes(now), []);
        assert_eq!(versions(&core.next_batch()), [version]);
        publish(&mut core, &order, version, Outcome::Confirmed, now);
    }
    assert_eq!(core.next_deletes(now), [key(&order, 4)]);
    // Versions 5 and 6 are private, without an entry; the one before it is known as published, so no check is needed.
    assert_eq!(versions(&core.next_batch()), [7]);
}

#[test]
fn g7_an_append_before_that_never_shows_halts_the_stream_visibly() {
    let (mut core, order, mut now) = (core(), stream(1), Instant::now());
    let only = || vec![entry(&order, 5, 5, Some((4, 3)))];
    begin(&mut core, &order, only(), now);
    let mut checks = 0;
    while let Some(read) = core.next_read() {
        match read {
            Read::VisibilityCheck { .. } => {
                checks += 1;
                core.answered(&read, Answer::VisibilityCheck(Predecessor::Unsettled), now);
            }
            _ => core.answered(&read, page(only()), now),
        }
        if let Some(due) = core.lanes.next_due() {
            now = due;
            core.lanes.wake(now);
        }
    }
    assert_eq!(checks, 11);
    let (_, halt) = core.halts().next().expect("the stream is halted");
    assert_eq!(halt.version, 5);
    assert!(halt.reason.contains("version 4"), "{}", halt.reason);
}

#[test]
fn a_stream_with_more_makes_room_for_those_that_wait_for_a_lane() {
    let (mut core, now) = (with(Bounds { max_streams: 1, ..Bounds::default() }), Instant::now());
    let (long, short) = (stream(1), stream(2));
    core.found(&long, now);
    let read = core.next_read().unwrap();
    core.answered(&read, Answer::Pending(PendingPage::new(vec![entry(&long, 1, 1, None)], None, true)), now);
    core.next_batch();
    assert_eq!(core.found(&short, now), Admission::NoRoom);
    publish(&mut core, &long, 1, Outcome::Confirmed, now);
    let deletes = core.next_deletes(now);
    core.deleted(&deletes, vec![], now);
    assert_eq!(core.found(&short, now), Admission::Admitted);
}

#[test]
fn an_entry_that_an_operator_has_skipped_is_passed_over_and_its_stream_goes_on() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    begin(&mut core, &order, vec![entry(&order, 1, 2, None), entry(&order, 3, 3, Some((2, 0)))], now);
    core.next_batch();
    publish(&mut core, &order, 1, Outcome::Confirmed, now);
    core.next_batch();
    publish(&mut core, &order, 2, Outcome::Refused("no queue".to_owned()), now);
    // Version 2 is skipped, that is the entry of versions 1 to 2 is removed.
    let later = now + 1_000 * MS;
    begin(&mut core, &order, vec![entry(&order, 3, 3, Some((2, 0)))], later);
    let check = core.next_read().unwrap();
    assert_eq!(check, Read::VisibilityCheck { stream: order.clone(), last: 2 });
    core.answered(&check, Answer::VisibilityCheck(Predecessor::Published), later);
    assert_eq!(versions(&core.next_batch()), [3]);
    publish(&mut core, &order, 3, Outcome::Confirmed, later);
    assert_eq!(core.halted_streams(), 0);
    assert_eq!(core.next_deletes(later), [key(&order, 3)]);
}

#[test]
fn a_confirmed_entry_that_is_read_again_before_it_is_deleted_is_neither_published_nor_deleted_twice() {
    let (mut core, order, now) = (core(), stream(1), Instant::now());
    // Version 2 is half visible, so that everything is read again; the deletion of version 1 takes its time.
    let shown = || vec![entry(&order, 1, 1, None), entry(&order, 3, 3, Some((2, 1)))];
    begin(&mut core, &order, shown(), now);
    core.next_batch();
    publish(&mut core, &order, 1, Outcome::Confirmed, now);
    let deletes = core.next_deletes(now);
    let check = core.next_read().unwrap();
    core.answered(&check, Answer::VisibilityCheck(Predecessor::Unsettled), now);
    let due = core.lanes.next_due().unwrap();
    core.lanes.wake(due);
    let read = core.next_read().unwrap();
    core.answered(&read, page(shown()), due);

    assert_eq!(versions(&core.next_batch()), NOTHING);
    core.deleted(&deletes, deletes.clone(), due);
    let later = core.deletes_due().unwrap();
    assert_eq!(core.next_deletes(later), [key(&order, 1)], "a batch with the same key twice would be refused");
}
