use std::sync::Arc;

use streambox::{NewEvent, Uuid};
use tokio::time::Instant;

use super::*;

const STREAM: &str = "order-1";

fn stream() -> StreamId {
    StreamId::new(STREAM).unwrap()
}

/// A message of a stream all of whose events are public.
fn event(version: u64) -> Received {
    streambox::testing::received(&stream(), version, NewEvent::json("Placed", &version).unwrap())
}

fn core(has_store: bool, has_inbox: bool) -> (Core, Instant) {
    let now = Instant::now();
    (Core::new(Bounds::default(), has_store, has_inbox, 1, now), now)
}

/// All that is to be done now, without the looks for parked streams.
fn tasks(core: &mut Core, now: Instant) -> Vec<Task> {
    std::iter::from_fn(|| core.next_task(now)).filter(|task| *task != Task::FindDue).collect()
}

fn stored(core: &mut Core, version: u64, now: Instant) {
    core.done(Done::Applied(Arc::new(event(version)), Ok(Applied::Stored)), now);
}

fn apply(version: u64, last: u64) -> Task {
    Task::Apply(Arc::new(event(version)), last)
}

#[test]
fn the_next_event_is_applied_without_a_read_and_acknowledged_afterwards() {
    let (mut core, now) = core(true, true);
    core.delivered(1, Ok(event(7)), now);
    assert_eq!(tasks(&mut core, now), [apply(7, 6)]);
    stored(&mut core, 7, now);
    assert_eq!(tasks(&mut core, now), [Task::Acknowledge(vec![1])]);
    assert_eq!((core.open_streams(), core.unacknowledged()), (0, 0));
    // The position is remembered.
    core.delivered(2, Ok(event(9)), now);
    assert_eq!(tasks(&mut core, now), [Task::ReadStore(stream(), 7, 7)]);
}

#[test]
fn a_gap_is_read_from_the_store_and_applied_in_order() {
    let (mut core, now) = core(true, true);
    core.delivered(1, Ok(event(3)), now);
    assert_eq!(tasks(&mut core, now), [apply(3, 2)]);
    core.done(Done::Applied(Arc::new(event(3)), Ok(Applied::Moved)), now);
    assert_eq!(tasks(&mut core, now), [Task::ReadPosition(stream())]);
    core.done(Done::ReadPosition(stream(), Ok(Position::default())), now);
    assert_eq!(tasks(&mut core, now), [Task::ReadStore(stream(), 0, 0)]);
    let events = (1..=3).map(|version| Arc::new(event(version))).collect();
    core.done(Done::ReadStore(stream(), Ok(StorePage { events, through: 3, is_end: true })), now);
    for version in 1..=3 {
        assert_eq!(tasks(&mut core, now), [apply(version, version - 1)]);
        stored(&mut core, version, now);
    }
    assert_eq!(tasks(&mut core, now), [Task::Acknowledge(vec![1])]);
    assert_eq!((core.totals().gaps, core.totals().applied_from_store, core.catching_up()), (1, 3, 0));
}

#[test]
fn without_a_store_a_gap_waits_for_the_missing_message_and_then_for_a_new_connection() {
    let (mut core, now) = core(false, false);
    core.delivered(1, Ok(event(1)), now);
    assert_eq!(tasks(&mut core, now), [apply(1, 0)]);
    stored(&mut core, 1, now);
    core.delivered(2, Ok(event(3)), now);
    assert_eq!(tasks(&mut core, now), [Task::Acknowledge(vec![1])]);
    assert_eq!(core.waiting().count(), 1);
    let later = now + Bounds::default().hold_limit;
    assert_eq!(tasks(&mut core, later), [Task::Reopen, Task::ReadPosition(stream())]);
    core.connection_lost();
    core.done(Done::ReadPosition(stream(), Ok(Position { version: 1, event_id: None })), later);
    for (delivery, version) in [(3, 3), (4, 2)] {
        core.delivered(delivery, Ok(event(version)), later);
    }
    assert_eq!(tasks(&mut core, later), [apply(2, 1)]);
    stored(&mut core, 2, later);
    assert_eq!(tasks(&mut core, later), [Task::Acknowledge(vec![4]), apply(3, 2)]);
    assert_eq!(core.waiting().count(), 0);
}

#[test]
fn a_stream_that_can_not_be_applied_is_parked_before_its_messages_are_acknowledged() {
    let (mut core, now) = core(true, true);
    core.delivered(1, Ok(event(1)), now);
    core.delivered(2, Ok(event(2)), now);
    assert_eq!(tasks(&mut core, now), [apply(1, 0)]);
    core.done(Done::Applied(Arc::new(event(1)), Err("it is broken".to_owned())), now);
    let parking = match tasks(&mut core, now).as_slice() {
        [Task::Park(_, parking)] => parking.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((parking.latest_version, parking.reason.as_str()), (2, "it is broken"));
    core.done(Done::Parked(stream(), parking, Ok(())), now);
    assert_eq!(tasks(&mut core, now), [Task::Acknowledge(vec![1, 2])]);
    // A later message is acknowledged when the mark covers it.
    core.delivered(3, Ok(event(3)), now);
    assert_eq!(tasks(&mut core, now), [Task::NoteLatest(stream(), 3)]);
    core.done(Done::NotedLatest(stream(), 3, Ok(true)), now);
    assert_eq!(tasks(&mut core, now), [Task::Acknowledge(vec![3])]);
    assert_eq!(core.open_streams(), 0);
}

#[test]
fn a_retry_is_claimed_and_reads_on_until_the_mark_can_be_removed() {
    let (mut core, now) = core(true, true);
    assert_eq!(core.next_task(now), Some(Task::FindDue));
    core.done(Done::FoundDue(Ok(vec![(stream(), 77)])), now);
    assert!(matches!(tasks(&mut core, now).as_slice(), [Task::Claim(_, 77, _)]));
    core.done(Done::Claimed(stream(), Ok(Some(Claimed { attempts: 2, latest_version: 2 }))), now);
    assert_eq!(tasks(&mut core, now), [Task::ReadPosition(stream())]);
    let position = Position { version: 1, event_id: Some(event(1).event_id) };
    core.done(Done::ReadPosition(stream(), Ok(position)), now);
    assert_eq!(tasks(&mut core, now), [Task::CheckHistory(stream(), position)]);
    core.done(Done::CheckedHistory(stream(), Ok(true)), now);
    for (latest, is_last) in [(2, false), (3, true)] {
        assert_eq!(tasks(&mut core, now), [Task::ReadStore(stream(), latest - 1, latest - 1)]);
        let page = StorePage { events: vec![Arc::new(event(latest))], through: latest, is_end: true };
        core.done(Done::ReadStore(stream(), Ok(page)), now);
        assert_eq!(tasks(&mut core, now), [apply(latest, latest - 1)]);
        stored(&mut core, latest, now);
        assert_eq!(tasks(&mut core, now), [Task::Unpark(stream(), latest)]);
        core.done(Done::Unparked(stream(), Ok((!is_last).then_some(latest + 1))), now);
    }
    assert_eq!(tasks(&mut core, now), []);
    assert_eq!((core.totals().recovered, core.open_streams()), (1, 0));
}

#[test]
fn another_history_parks_the_stream() {
    let (mut core, now) = core(true, true);
    core.delivered(1, Ok(event(5)), now);
    assert_eq!(tasks(&mut core, now), [apply(5, 4)]);
    stored(&mut core, 5, now);
    assert_eq!(tasks(&mut core, now), [Task::Acknowledge(vec![1])]);
    let mut other = event(5);
    other.event_id = Uuid::from_u128(9);
    core.delivered(2, Ok(other), now);
    let position = Position { version: 5, event_id: Some(event(5).event_id) };
    assert_eq!(tasks(&mut core, now), [Task::CheckHistory(stream(), position)]);
    core.done(Done::CheckedHistory(stream(), Ok(false)), now);
    let parked = tasks(&mut core, now);
    assert!(matches!(parked.as_slice(), [Task::Park(_, parking)] if parking.reason.contains("restored")), "{parked:?}");
}

#[test]
fn a_projection_that_refuses_what_is_next_is_reported() {
    let (mut core, now) = core(true, true);
    core.delivered(1, Ok(event(1)), now);
    let position = Position::default();
    for expected in [apply(1, 0), apply(1, 0)] {
        assert_eq!(tasks(&mut core, now), [expected]);
        core.done(Done::Applied(Arc::new(event(1)), Ok(Applied::Moved)), now);
        assert_eq!(tasks(&mut core, now), [Task::ReadPosition(stream())]);
        core.done(Done::ReadPosition(stream(), Ok(position)), now);
    }
    let parked = tasks(&mut core, now);
    assert!(matches!(parked.as_slice(), [Task::Park(_, parking)] if parking.reason.contains("`apply`")), "{parked:?}");
}

#[test]
fn one_stream_that_fails_does_not_stop_another() {
    let (mut core, now) = core(false, false);
    core.delivered(1, Ok(event(1)), now);
    assert_eq!(tasks(&mut core, now), [apply(1, 0)]);
    core.done(Done::Applied(Arc::new(event(1)), Err("no".to_owned())), now);
    let mut other = event(1);
    other.stream_id = StreamId::new("order-2").unwrap();
    core.delivered(2, Ok(other.clone()), now);
    assert_eq!(tasks(&mut core, now), [Task::Apply(Arc::new(other), 0)]);
    // The other one is tried again later, with its message, if nobody else has applied it.
    let later = core.next_due().unwrap();
    assert_eq!(tasks(&mut core, later), [Task::ReadPosition(stream())]);
    core.done(Done::ReadPosition(stream(), Ok(Position::default())), later);
    assert_eq!(tasks(&mut core, later), [apply(1, 0)]);
    core.done(Done::Applied(Arc::new(event(1)), Err("no".to_owned())), later);
    let later = later + Bounds::default().first_retry_delay * 4;
    assert_eq!(tasks(&mut core, later), [Task::ReadPosition(stream())]);
    core.done(Done::ReadPosition(stream(), Ok(Position { version: 1, event_id: None })), later);
    assert_eq!(tasks(&mut core, later), [Task::Acknowledge(vec![1])]);
}

#[test]
fn what_can_not_be_read_is_read_from_the_store() {
    let (mut core, now) = core(true, true);
    let broken = MessageError::Broken { stream_id: stream(), part: "header version", why: "is missing".to_owned() };
    core.delivered(1, Err(broken), now);
    assert_eq!(tasks(&mut core, now), [Task::ReadPosition(stream())]);
    core.done(Done::ReadPosition(stream(), Ok(Position::default())), now);
    assert_eq!(tasks(&mut core, now), [Task::ReadStore(stream(), 0, 0)]);
    let page = StorePage { events: vec![Arc::new(event(1))], through: 1, is_end: true };
    core.done(Done::ReadStore(stream(), Ok(page)), now);
    assert_eq!(tasks(&mut core, now), [apply(1, 0)]);
    stored(&mut core, 1, now);
    assert_eq!(tasks(&mut core, now), [Task::Acknowledge(vec![1])]);
    core.delivered(2, Err(MessageError::NotAnEvent), now);
    assert_eq!(tasks(&mut core, now), [Task::Reject(2)]);
}

#[test]
fn a_stopped_consumer_finishes_what_is_under_way() {
    let (mut core, now) = core(true, true);
    core.delivered(1, Ok(event(1)), now);
    core.delivered(2, Ok(event(2)), now);
    assert_eq!(tasks(&mut core, now), [apply(1, 0)]);
    // The look for parked streams.
    core.done(Done::FoundDue(Ok(Vec::new())), now);
    core.stop();
    assert!(!core.is_finished());
    stored(&mut core, 1, now);
    assert_eq!(tasks(&mut core, now), [Task::Acknowledge(vec![1])]);
    assert!(core.is_finished());
}

#[test]
fn a_gap_ends_without_a_store_when_another_consumer_or_an_operator_has_moved_the_position() {
    let (mut core, now) = core(false, false);
    core.delivered(1, Ok(event(1)), now);
    assert_eq!(tasks(&mut core, now), [apply(1, 0)]);
    stored(&mut core, 1, now);
    core.delivered(2, Ok(event(3)), now);
    assert_eq!(tasks(&mut core, now), [Task::Acknowledge(vec![1])]);
    // What is missing ends the wait when it comes.
    core.delivered(3, Ok(event(4)), now);
    assert_eq!(tasks(&mut core, now), []);
    let later = now + Bounds::default().first_retry_delay * 2;
    assert!(core.next_due().unwrap() <= later);
    assert_eq!(tasks(&mut core, later), [Task::ReadPosition(stream())]);
    core.done(Done::ReadPosition(stream(), Ok(Position { version: 2, event_id: None })), later);
    assert_eq!(tasks(&mut core, later), [apply(3, 2)]);
    stored(&mut core, 3, later);
    assert_eq!(tasks(&mut core, later), [Task::Acknowledge(vec![2]), apply(4, 3)]);
    assert_eq!(core.waiting().count(), 0);
}

/// The event of another history.
fn other(version: u64) -> Received {
    let mut event = event(version);
    event.event_id = Uuid::from_u128(u128::MAX);
    event
}

#[test]
fn two_events_of_one_version_are_not_taken_for_one() {
    let (mut core, now) = core(true, true);
    core.delivered(1, Ok(event(5)), now);
    core.delivered(2, Ok(other(5)), now);
    assert_eq!(tasks(&mut core, now), [apply(5, 4)]);
    stored(&mut core, 5, now);
    // The other one is not acknowledged before the store has said which of them it has.
    let position = Position { version: 5, event_id: Some(event(5).event_id) };
    assert_eq!(tasks(&mut core, now), [Task::Acknowledge(vec![1]), Task::CheckHistory(stream(), position)]);
}

#[test]
fn an_event_that_does_not_know_of_the_last_one_that_was_applied_is_of_another_history() {
    for has_store in [true, false] {
        let (mut core, now) = core(has_store, has_store);
        core.delivered(1, Ok(event(5)), now);
        assert_eq!(tasks(&mut core, now), [apply(5, 4)]);
        stored(&mut core, 5, now);
        // Version 5 is private in the other history.
        let mut next = event(6);
        next.previous_version = Some(4);
        core.delivered(2, Ok(next), now);
        let next = tasks(&mut core, now);
        if has_store {
            let position = Position { version: 5, event_id: Some(event(5).event_id) };
            assert_eq!(next, [Task::Acknowledge(vec![1]), Task::CheckHistory(stream(), position)]);
            core.done(Done::CheckedHistory(stream(), Ok(true)), now);
            // So it is the message that is of another history: what the store has is applied.
            assert_eq!(tasks(&mut core, now), [Task::ReadStore(stream(), 5, 5)]);
        } else {
            assert_eq!(next, [Task::Acknowledge(vec![1])]);
            assert!(core.waiting().all(|(_, waits)| waits.why.contains("restored")));
            assert_eq!(core.waiting().count(), 1);
        }
    }
}

#[test]
fn a_read_from_before_a_message_came_does_not_say_that_there_is_nothing_behind() {
    let broken = || MessageError::Broken { stream_id: stream(), part: "header version", why: "is missing".to_owned() };
    let (mut core, now) = core(true, true);
    core.delivered(1, Err(broken()), now);
    assert_eq!(tasks(&mut core, now), [Task::ReadPosition(stream())]);
    core.done(Done::ReadPosition(stream(), Ok(Position::default())), now);
    assert_eq!(tasks(&mut core, now), [Task::ReadStore(stream(), 0, 0)]);
    core.delivered(2, Err(broken()), now);
    let page = StorePage { events: vec![Arc::new(event(1))], through: 1, is_end: true };
    core.done(Done::ReadStore(stream(), Ok(page)), now);
    assert_eq!(tasks(&mut core, now), [apply(1, 0)]);
    stored(&mut core, 1, now);
    assert_eq!(tasks(&mut core, now), [Task::ReadStore(stream(), 1, 1)]);
    let page = StorePage { events: vec![Arc::new(event(2))], through: 2, is_end: true };
    core.done(Done::ReadStore(stream(), Ok(page)), now);
    assert_eq!(tasks(&mut core, now), [apply(2, 1)]);
    stored(&mut core, 2, now);
    assert_eq!(tasks(&mut core, now), [Task::Acknowledge(vec![1, 2])]);
}

#[test]
fn what_can_not_be_read_of_a_parked_stream_is_covered_when_the_mark_covers_all_that_the_store_has() {
    for is_parked in [true, false] {
        let (mut core, now) = core(true, true);
        core.delivered(1, Ok(event(1)), now);
        let broken = MessageError::Broken { stream_id: stream(), part: "header version", why: "is missing".to_owned() };
        core.delivered(2, Err(broken), now);
        assert_eq!(tasks(&mut core, now), [Task::ReadPosition(stream())]);
        core.done(Done::ReadPosition(stream(), Ok(Position::default())), now);
        assert_eq!(tasks(&mut core, now), [Task::ReadStore(stream(), 0, 0)]);
        core.done(Done::ReadStore(stream(), Err("no".to_owned())), now);
        let Some(Task::Park(_, parking)) = tasks(&mut core, now).pop() else { panic!("it is not parked") };
        core.done(Done::Parked(stream(), parking, Ok(())), now);
        assert_eq!(tasks(&mut core, now), [Task::Acknowledge(vec![1]), Task::ReadStore(stream(), 0, 0)]);
        let page = StorePage { events: vec![Arc::new(event(1)), Arc::new(event(2))], through: 2, is_end: true };
        core.done(Done::ReadStore(stream(), Ok(page)), now);
        assert_eq!(core.catching_up(), 0);
        assert_eq!(tasks(&mut core, now), [Task::NoteLatest(stream(), 2)]);
        core.done(Done::NotedLatest(stream(), 2, Ok(is_parked)), now);
        if is_parked {
            assert_eq!(tasks(&mut core, now), [Task::Acknowledge(vec![2])]);
            assert_eq!((core.open_streams(), core.unacknowledged()), (0, 0));
        } else {
            // Another consumer has brought it up to date.
            assert_eq!(tasks(&mut core, now), [Task::ReadPosition(stream())]);
        }
    }
}

#[test]
fn a_message_of_what_is_a_private_event_is_not_looked_for_without_an_end() {
    let (mut core, now) = core(true, true);
    core.delivered(1, Ok(other(3)), now);
    assert_eq!(tasks(&mut core, now), [Task::Apply(Arc::new(other(3)), 2)]);
    core.done(Done::Applied(Arc::new(other(3)), Ok(Applied::Moved)), now);
    assert_eq!(tasks(&mut core, now), [Task::ReadPosition(stream())]);
    let position = Position { version: 1, event_id: None };
    core.done(Done::ReadPosition(stream(), Ok(position)), now);
    assert_eq!(tasks(&mut core, now), [Task::ReadStore(stream(), 1, 1)]);
    // Versions 2 and 3 are private in the history that the store has.
    let page = StorePage { events: Vec::new(), through: 3, is_end: true };
    core.done(Done::ReadStore(stream(), Ok(page.clone())), now);
    let Some(Task::Park(_, parking)) = tasks(&mut core, now).pop() else { panic!("it is not parked") };
    assert!(parking.reason.contains("restored"), "{}", parking.reason);
    core.done(Done::Parked(stream(), parking, Ok(())), now);
    assert_eq!(tasks(&mut core, now), [Task::Acknowledge(vec![1])]);
    // All of it is applied.
    core.done(Done::FoundDue(Ok(vec![(stream(), 77)])), now);
    assert!(matches!(tasks(&mut core, now).as_slice(), [Task::Claim(_, 77, _)]));
    core.done(Done::Claimed(stream(), Ok(Some(Claimed { attempts: 2, latest_version: 3 }))), now);
    assert_eq!(tasks(&mut core, now), [Task::ReadPosition(stream())]);
    core.done(Done::ReadPosition(stream(), Ok(position)), now);
    assert_eq!(tasks(&mut core, now), [Task::ReadStore(stream(), 1, 1)]);
    core.done(Done::ReadStore(stream(), Ok(page)), now);
    assert_eq!(tasks(&mut core, now), [Task::Unpark(stream(), 3)]);
}
