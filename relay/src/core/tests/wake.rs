//! Streams that a service wakes the relay for.

use super::{
    super::group::Group,
    scan::{beats, grouped, index, names, tasks},
    *,
};

/// A relay that has looked at an empty index.
fn idle(bounds: Bounds, now: Instant) -> Core {
    let mut core = Core::new(settings(bounds), 1, now);
    core.set_ready_publishers(2);
    assert_eq!(names(&tasks(&mut core, now)), ["first page"]);
    core.done(index(&[], None, false), now);
    assert_eq!(names(&tasks(&mut core, now)), NO_TASKS);
    core
}

const NO_TASKS: [&str; 0] = [];

/// The one read that it asks for: where it begins.
fn read(core: &mut Core, now: Instant) -> (Read, u64) {
    let next = tasks(core, now).into_iter().filter(|task| !matches!(task, Task::Delete(_))).collect::<Vec<_>>();
    let [Task::Read(read @ Read::Pending { from, .. })] = &next[..] else { panic!("{next:?}") };
    (read.clone(), *from)
}

#[test]
fn a_stream_that_is_woken_is_read_at_once() {
    let (now, order) = (Instant::now(), stream(1));
    let mut core = idle(Bounds::default(), now);
    let due = core.next_due();
    core.wake(&order, now);
    let (asked, from) = read(&mut core, now);
    assert_eq!((asked.stream(), from, core.next_due()), (&order, 1, due));
    core.done(Done::Read(asked, page(vec![entry(&order, 1, 1, None)])), now);
    core.set_ready_publishers(1);
    assert_eq!(names(&tasks(&mut core, now)), ["publish"]);
}

#[test]
fn g6_a_stream_that_is_woken_while_an_event_is_in_flight_is_read_once_more_behind_it() {
    let (now, order) = (Instant::now(), stream(1));
    let mut core = idle(Bounds::default(), now);
    begin(&mut core, &order, vec![entry(&order, 1, 1, None)], now);
    assert_eq!(versions(&core.next_batch()), [1]);
    for _ in 0..3 {
        core.wake(&order, now);
        assert_eq!(names(&tasks(&mut core, now)), NO_TASKS);
    }
    publish(&mut core, &order, 1, Outcome::Confirmed, now);
    let (asked, from) = read(&mut core, now);
    assert_eq!(from, 2);
    core.done(Done::Read(asked, page(vec![entry(&order, 2, 2, Some((1, 0)))])), now);
    assert_eq!(versions(&core.next_batch()), [2]);
    publish(&mut core, &order, 2, Outcome::Confirmed, now);
    assert_eq!(names(&tasks(&mut core, now)), NO_TASKS, "three wakes were one read");
}

#[test]
fn a_stream_that_is_woken_while_it_is_read_is_read_once_more() {
    let (now, order) = (Instant::now(), stream(1));
    let mut core = idle(Bounds::default(), now);
    core.wake(&order, now);
    let (asked, _) = read(&mut core, now);
    // The entry may have been committed behind what the read has seen.
    core.wake(&order, now);
    core.done(Done::Read(asked, page(vec![])), now);
    let (asked, from) = read(&mut core, now);
    core.done(Done::Read(asked, page(vec![])), now);
    assert_eq!((from, names(&tasks(&mut core, now)), core.open_streams()), (1, vec![], 0));
}

#[test]
fn a_stream_that_is_woken_while_its_entries_are_deleted_is_read_at_once() {
    let (now, order) = (Instant::now(), stream(1));
    let mut core = idle(Bounds::default(), now);
    begin(&mut core, &order, vec![entry(&order, 1, 1, None)], now);
    core.next_batch();
    publish(&mut core, &order, 1, Outcome::Confirmed, now);
    assert_eq!(names(&tasks(&mut core, now)), ["delete"]);
    core.wake(&order, now);
    let (asked, from) = read(&mut core, now);
    assert_eq!(from, 2);
    core.done(Done::Deleted { asked: vec![key(&order, 1)], left: vec![] }, now);
    assert_eq!(core.open_streams(), 1, "a read of it is under way");
    core.done(Done::Read(asked, page(vec![])), now);
    assert_eq!(core.open_streams(), 0);
}

#[test]
fn a_read_after_a_wake_that_fails_is_made_again() {
    let (now, order) = (Instant::now(), stream(1));
    let mut core = idle(Bounds::default(), now);
    begin(&mut core, &order, vec![entry(&order, 1, 1, None)], now);
    core.next_batch();
    core.wake(&order, now);
    publish(&mut core, &order, 1, Outcome::Confirmed, now);
    let (asked, _) = read(&mut core, now);
    core.done(Done::Read(asked, Answer::Failed), now);
    core.done(Done::Deleted { asked: vec![key(&order, 1)], left: vec![] }, now);
    let again = now + Duration::from_millis(1_100);
    let next: Vec<_> = tasks(&mut core, again).into_iter().filter(|task| matches!(task, Task::Read(_))).collect();
    assert!(matches!(&next[..], [Task::Read(Read::Pending { from: 2, .. })]), "{next:?}");
}

#[test]
fn a_stream_of_another_worker_is_left_to_that_one() {
    let now = Instant::now();
    let mut core = Core::new(grouped("a"), 1, now);
    tasks(&mut core, now);
    core.wake(&stream(1), now);
    core.done(beats(&[("a", 1), ("b", 1)]), now);
    assert_eq!(names(&tasks(&mut core, now)), ["first page"], "a worker that joins looks, whatever woke it");
    core.done(index(&[], None, false), now);
    let mut both = Group::new(GroupSettings::new(WorkerId::new("a").unwrap()), now);
    both.beaten(Some(vec![WorkerBeat { id: WorkerId::new("b").unwrap(), beat: 1 }]), now);
    for order in (0..20).map(stream) {
        core.wake(&order, now);
        assert_eq!(names(&tasks(&mut core, now)).len(), usize::from(both.owns(&order)), "{order}");
    }
}

#[test]
fn a_halted_stream_that_is_woken_waits_for_its_next_attempt() {
    let (now, order) = (Instant::now(), stream(1));
    let mut core = idle(Bounds::default(), now);
    begin(&mut core, &order, vec![entry(&order, 1, 1, None)], now);
    core.next_batch();
    publish(&mut core, &order, 1, Outcome::Refused("no queue".to_owned()), now);
    core.wake(&order, now);
    assert_eq!((names(&tasks(&mut core, now)), core.halted_streams()), (vec![], 1));
}

#[test]
fn g10_a_stream_that_is_woken_while_all_lanes_are_taken_is_looked_for_soon() {
    let now = Instant::now();
    let mut core = idle(Bounds { max_streams: 1, ..Bounds::default() }, now);
    begin(&mut core, &stream(1), vec![entry(&stream(1), 1, 1, None)], now);
    assert_eq!(core.next_due(), Some(now + 500 * MS));
    core.wake(&stream(2), now);
    assert_eq!((core.open_streams(), core.next_due()), (1, Some(now + 25 * MS)));
}

#[test]
fn a_relay_that_stops_is_not_woken() {
    let now = Instant::now();
    let mut core = idle(Bounds::default(), now);
    core.stop();
    core.wake(&stream(1), now);
    assert!(names(&tasks(&mut core, now)).is_empty() && core.is_finished());
}
