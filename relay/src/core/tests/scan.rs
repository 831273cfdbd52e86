//! The core as the shell drives it: tasks and what came of them.

use super::{super::group::Group, *};

const INTERVAL: Duration = Duration::from_secs(5);

pub(super) fn grouped(name: &str) -> CoreSettings {
    let group = Some(GroupSettings::new(WorkerId::new(name).unwrap()));
    CoreSettings { group, ..settings(Bounds::default()) }
}

pub(super) fn tasks(core: &mut Core, now: Instant) -> Vec<Task> {
    std::iter::from_fn(|| core.next_task(now)).collect()
}

/// The tasks by their names.
pub(super) fn names(tasks: &[Task]) -> Vec<&'static str> {
    let name = |task: &Task| match task {
        Task::Scan { from_start: true } => "first page",
        Task::Scan { from_start: false } => "next page",
        Task::Read(_) => "read",
        Task::Publish(_) => "publish",
        Task::PublishAlone(..) => "publish alone",
        Task::Delete(_) => "delete",
        Task::Beat(_) => "beat",
        Task::Forget(_) => "forget",
        Task::Leave => "leave",
        Task::History { .. } => "history",
        Task::HistoryEnd => "end of history",
        Task::Keep(_) => "keep",
    };
    tasks.iter().map(name).collect()
}

pub(super) fn index(streams: &[&StreamId], pending_since_ms: Option<i64>, has_more: bool) -> Done {
    let pending_since_ms = vec![pending_since_ms; streams.len()];
    let streams = streams.iter().map(|stream| (*stream).clone()).collect();
    Done::Scanned(Some(IndexPage { streams, pending_since_ms, has_more }))
}

pub(super) fn beats(ids: &[(&str, u64)]) -> Done {
    let beat = |(id, beat): &(&str, u64)| WorkerBeat { id: WorkerId::new(id).unwrap(), beat: *beat };
    Done::Beaten(Some(ids.iter().map(beat).collect()))
}

#[test]
fn a_pass_reads_page_by_page_and_the_next_one_begins_after_the_poll_interval() {
    let (mut core, now) = (core(), Instant::now());
    assert_eq!(names(&tasks(&mut core, now)), ["first page"]);
    core.done(index(&[], None, true), now);
    assert_eq!(names(&tasks(&mut core, now)), ["next page"]);
    core.done(index(&[], None, false), now);
    assert_eq!((tasks(&mut core, now).len(), core.next_due()), (0, Some(now + 500 * MS)));
    assert_eq!(names(&tasks(&mut core, now + 500 * MS)), ["first page"]);
}

/// Makes a pass, which finds these streams, and shows nothing pending of those that it begins. Returns how long after its
/// beginning the next one is due.
fn pass(core: &mut Core, now: Instant, streams: &[&StreamId]) -> Duration {
    let done = |task| match task {
        Task::Scan { .. } => index(streams, None, false),
        Task::Read(read) => Done::Read(read, page(vec![])),
        task => panic!("{task:?}"),
    };
    while let Some(task) = core.next_task(now) {
        core.done(done(task), now);
    }
    core.next_due().expect("a pass follows") - now
}

/// The milliseconds from each of some passes that find these streams to the next one.
fn waits(core: &mut Core, now: &mut Instant, streams: &[&StreamId], passes: usize) -> Vec<u128> {
    let one = |_| {
        let wait = pass(core, *now, streams);
        *now += wait;
        wait.as_millis()
    };
    (0..passes).map(one).collect()
}

#[test]
fn a_pass_that_has_found_work_is_followed_soon_and_each_that_finds_none_by_half_as_long_again_up_to_the_poll_interval()
{
    let (mut core, mut now) = (core(), Instant::now());
    assert_eq!(waits(&mut core, &mut now, &[], 2), [500, 500]);
    assert_eq!(waits(&mut core, &mut now, &[&stream(1)], 2), [25, 25]);
    assert_eq!(waits(&mut core, &mut now, &[], 10), [37, 56, 84, 126, 189, 284, 427, 500, 500, 500]);
    assert_eq!(waits(&mut core, &mut now, &[&stream(1)], 1), [25]);
}

#[test]
fn a_busy_poll_interval_is_never_longer_than_the_poll_interval() {
    let mut now = Instant::now();
    let settings = CoreSettings { poll_interval: 20 * MS, ..settings(Bounds::default()) };
    let mut core = Core::new(settings, 1, now);
    assert_eq!(waits(&mut core, &mut now, &[&stream(1)], 1), [20]);
    assert_eq!(waits(&mut core, &mut now, &[], 2), [20, 20]);
}

#[test]
fn more_than_eight_workers_look_less_often_so_that_all_of_them_together_look_as_often_as_eight_and_never_less_than_at_idle()
 {
    for (workers, wait) in [(1, 25), (8, 25), (16, 50), (25, 78), (1_000, 500)] {
        let mut now = Instant::now();
        let mut core = Core::new(grouped("me"), 1, now);
        let other = |number| WorkerBeat { id: WorkerId::new(format!("other-{number}")).unwrap(), beat: 1 };
        let others: Vec<_> = (1..workers).map(other).collect();
        let mut group = Group::new(GroupSettings::new(WorkerId::new("me").unwrap()), now);
        group.beaten(Some(others.clone()), now);
        let own = (0..100_000).map(stream).find(|stream| group.owns(stream)).expect("a worker has its share");
        assert_eq!(names(&tasks(&mut core, now)), ["beat"]);
        core.done(Done::Beaten(Some(others)), now);
        assert_eq!(waits(&mut core, &mut now, &[&own], 1), [wait], "{workers} workers");
    }
}

#[test]
fn a_pass_that_finds_halted_streams_alone_counts_as_empty() {
    let (mut core, mut now) = (core(), Instant::now());
    begin(&mut core, &stream(1), vec![entry(&stream(1), 1, 1, None)], now);
    core.next_batch();
    publish(&mut core, &stream(1), 1, Outcome::Refused("no queue".to_owned()), now);
    assert_eq!(waits(&mut core, &mut now, &[&stream(2)], 1), [25]);
    assert_eq!(waits(&mut core, &mut now, &[&stream(1)], 3), [37, 56, 84]);
}

#[test]
fn a_pass_that_finds_streams_under_way_alone_counts_as_empty_and_one_follows_soon_when_one_of_them_is_not_any_more() {
    let (mut core, mut now) = (core(), Instant::now());
    begin(&mut core, &stream(1), vec![entry(&stream(1), 1, 1, None)], now);
    core.next_batch();
    assert_eq!(waits(&mut core, &mut now, &[&stream(2)], 1), [25]);
    assert_eq!(waits(&mut core, &mut now, &[&stream(1)], 3), [37, 56, 84]);
    // The wait for the next pass, 84 ms, has just begun.
    now -= 84 * MS;
    publish(&mut core, &stream(1), 1, Outcome::Confirmed, now);
    assert_eq!(names(&tasks(&mut core, now)), ["delete"]);
    assert_eq!(core.next_due(), Some(now + 84 * MS), "it is under way until its entry is deleted");
    core.done(Done::Deleted { asked: vec![key(&stream(1), 1)], left: vec![] }, now);
    assert_eq!((tasks(&mut core, now).len(), core.next_due()), (0, Some(now + 25 * MS)));
}

#[test]
fn a_pass_that_finds_halted_streams_alone_is_followed_by_a_rest_for_each_of_its_pages() {
    let (mut core, now) = (core(), Instant::now());
    begin(&mut core, &stream(1), vec![entry(&stream(1), 1, 1, None)], now);
    core.next_batch();
    publish(&mut core, &stream(1), 1, Outcome::Refused("no queue".to_owned()), now);
    assert_eq!(names(&tasks(&mut core, now)), ["first page"]);
    core.done(index(&[&stream(1)], None, true), now);
    assert_eq!(names(&tasks(&mut core, now)), ["next page"]);
    // The pages took longer than a poll interval.
    let end = now + 700 * MS;
    core.done(index(&[&stream(1)], None, false), end);
    assert_eq!((tasks(&mut core, end).len(), core.next_due()), (0, Some(end + 2 * 500 * MS)));
}

#[test]
fn a_drain_ends_though_each_pass_finds_a_halted_stream_whose_next_attempt_is_due() {
    let now = Instant::now();
    let bounds = Bounds { first_delay: MS, longest_delay: MS, ..Bounds::default() };
    let mut core = Core::new(CoreSettings { until: Until::Drained, ..settings(bounds) }, 1, now);
    let mut later = now;
    for _ in 0..20 {
        core.set_ready_publishers(1);
        while let Some(task) = core.next_task(later) {
            let done = match task {
                Task::Scan { .. } => index(&[&stream(1)], None, false),
                Task::Read(read) => Done::Read(read, page(vec![entry(&stream(1), 1, 1, None)])),
                Task::Publish(batch) => Done::Published(batch, vec![Outcome::Refused("no queue".to_owned())]),
                task => panic!("{task:?}"),
            };
            core.done(done, later);
            core.set_ready_publishers(1);
        }
        later += 500 * MS;
    }
    assert!(core.is_finished() && !core.has_drained_all());
    assert_eq!(core.halts().next().map(|(_, halt)| halt.attempts), Some(MAX_ATTEMPTS));
}

#[test]
fn a_page_is_read_only_when_the_streams_of_the_last_one_have_lanes() {
    let (mut core, now) = (with(Bounds { max_streams: 1, ..Bounds::default() }), Instant::now());
    tasks(&mut core, now);
    core.done(index(&[&stream(1), &stream(1), &stream(2)], None, true), now);
    let read = tasks(&mut core, now);
    assert_eq!(names(&read), ["read"], "no further page");
    let Task::Read(read) = read[0].clone() else { panic!() };
    core.done(Done::Read(read, page(vec![])), now);
    assert_eq!(names(&tasks(&mut core, now)), ["next page", "read"]);
}

#[test]
fn a_scan_that_failed_is_made_again_where_it_was_after_growing_delays() {
    let (mut core, mut now) = (core(), Instant::now());
    for (task, first_ms) in [("first page", 1_000), ("first page", 2_000)] {
        assert_eq!(names(&tasks(&mut core, now)), [task]);
        core.done(Done::Scanned(None), now);
        let due = core.next_due().unwrap();
        assert!(due - now <= first_ms * MS && due - now >= first_ms * 3 / 4 * MS, "{:?}", due - now);
        now = due;
    }
    assert_eq!(names(&tasks(&mut core, now)), ["first page"]);
    core.done(index(&[], None, true), now);
    assert_eq!(names(&tasks(&mut core, now)), ["next page"]);
    core.done(Done::Scanned(None), now);
    now = core.next_due().unwrap();
    assert_eq!(names(&tasks(&mut core, now)), ["next page"]);
}

#[test]
fn what_is_halted_is_told_apart_from_what_could_be_published_now() {
    let (mut core, now) = (core(), Instant::now());
    // A damaged entry halts its stream.
    tasks(&mut core, now);
    core.done(index(&[&stream(1)], Some(10), false), now);
    for task in tasks(&mut core, now) {
        if let Task::Read(read) = task {
            core.done(Done::Read(read, Answer::Unreadable("damaged".to_owned())), now);
        }
    }
    assert_eq!(core.halted_streams(), 1);
    let now = now + 500 * MS;
    tasks(&mut core, now);
    let page = IndexPage {
        streams: [1, 1, 2, 2, 3].map(stream).to_vec(),
        pending_since_ms: [10, 11, 50, 51, 40].map(Some).to_vec(),
        has_more: false,
    };
    core.done(Done::Scanned(Some(page)), now);
    let backlog = core.backlog().unwrap();
    assert_eq!((backlog.entries, backlog.own_entries, backlog.halted_entries), (5, 5, 2));
    assert_eq!((backlog.oldest_pending_since_ms, backlog.oldest_workable_since_ms), (Some(10), Some(40)));
    assert_eq!(backlog.workable_streams, 2);
}

#[test]
fn the_backlog_is_what_a_whole_pass_has_shown_until_the_next_one_has_shown_it_all() {
    let (mut core, now) = (core(), Instant::now());
    let shown = |core: &Core| core.backlog().map(|backlog| (backlog.entries, !backlog.at_least)).unwrap();
    tasks(&mut core, now);
    core.done(index(&[&stream(1), &stream(1)], Some(70), true), now);
    assert_eq!(shown(&core), (2, false));
    tasks(&mut core, now);
    core.done(index(&[&stream(2)], Some(50), false), now);
    assert_eq!(shown(&core), (3, true));
    assert_eq!(core.backlog().unwrap().oldest_pending_since_ms, Some(50));
    let now = now + 500 * MS;
    tasks(&mut core, now);
    core.done(index(&[&stream(1)], Some(70), true), now);
    assert_eq!(shown(&core), (3, true), "what one page shows is not all");
    tasks(&mut core, now);
    core.done(index(&[], None, false), now);
    assert_eq!(shown(&core), (1, true));
}

#[test]
fn drained_is_what_has_stayed_empty_for_a_poll_interval() {
    let mut now = Instant::now();
    let mut core = Core::new(CoreSettings { until: Until::Drained, ..settings(Bounds::default()) }, 1, now);
    // Soon after work it takes more passes, which are closer.
    assert_eq!(waits(&mut core, &mut now, &[&stream(1)], 1), [25]);
    let since = now;
    while now - since < 500 * MS {
        assert!(!core.is_finished());
        now += pass(&mut core, now, &[]);
    }
    assert!(!core.is_finished(), "only a look shows that it still is");
    let index_shows_nothing = index(&[], None, false);
    assert_eq!(names(&tasks(&mut core, now)), ["first page"]);
    core.done(index_shows_nothing, now);
    assert!(core.is_finished() && core.has_drained_all());
}

#[test]
fn a_drain_of_an_empty_index_looks_twice() {
    let mut now = Instant::now();
    let mut core = Core::new(CoreSettings { until: Until::Drained, ..settings(Bounds::default()) }, 1, now);
    for _ in 0..2 {
        assert!(!core.is_finished());
        assert_eq!(names(&tasks(&mut core, now)), ["first page"]);
        core.done(index(&[], None, false), now);
        now += 500 * MS;
    }
    assert!(core.is_finished() && core.has_drained_all());
}

#[test]
fn a_stream_that_was_halted_and_is_tried_again_keeps_a_drain_from_ending() {
    let (order, mut now) = (stream(1), Instant::now());
    let mut core = Core::new(CoreSettings { until: Until::Drained, ..settings(Bounds::default()) }, 1, now);
    let found = || index(&[&order], None, false);
    for attempts in 1..=MAX_ATTEMPTS {
        now += 60_000 * MS;
        tasks(&mut core, now);
        core.done(found(), now);
        let Some(Task::Read(read)) = core.next_task(now) else { panic!("attempt {attempts}") };
        core.done(Done::Read(read, Answer::Unreadable("it is damaged".to_owned())), now);
        assert!(!core.is_finished());
    }
    for _ in 0..2 {
        now += 500 * MS;
        tasks(&mut core, now);
        core.done(found(), now);
    }
    assert!(core.is_finished() && !core.has_drained_all(), "the only stream is given up");

    // Had it gone on instead, with nothing to be seen of it at that moment, what comes next is still looked for.
    let mut core = Core::new(CoreSettings { until: Until::Drained, ..settings(Bounds::default()) }, 1, now);
    for answer in [Answer::Unreadable("it is damaged".to_owned()), page(vec![])] {
        now += 60_000 * MS;
        tasks(&mut core, now);
        core.done(found(), now);
        let Some(Task::Read(read)) = core.next_task(now) else { panic!("its next attempt is due") };
        core.done(Done::Read(read, answer), now);
        assert!(!core.is_finished());
    }
    for is_last in [false, true] {
        now += 500 * MS;
        tasks(&mut core, now);
        core.done(index(&[], None, false), now);
        assert_eq!(core.has_drained_all(), is_last, "two passes have found nothing");
    }
}

#[test]
fn a_worker_knows_its_group_before_it_looks_for_streams_and_takes_its_own_only() {
    let now = Instant::now();
    let mut core = Core::new(grouped("a"), 1, now);
    assert_eq!(names(&tasks(&mut core, now)), ["beat"]);
    assert_eq!(core.next_due(), None);
    core.done(beats(&[("a", 1), ("b", 9)]), now);
    assert_eq!(names(&tasks(&mut core, now)), ["first page"]);
    let streams: Vec<_> = (0..100).map(stream).collect();
    core.done(index(&streams.iter().collect::<Vec<_>>(), None, false), now);
    let mine = core.backlog().unwrap().own_entries;
    assert!(mine > 20 && mine < 80 && core.open_streams() as u64 == mine, "{mine} of 100");
}

#[test]
fn a_worker_that_cannot_read_the_group_works_alone() {
    let now = Instant::now();
    let mut core = Core::new(grouped("a"), 1, now);
    tasks(&mut core, now);
    core.done(Done::Beaten(None), now);
    assert_eq!(names(&tasks(&mut core, now)), ["first page"]);
    core.done(index(&[&stream(1), &stream(2), &stream(3)], None, false), now);
    assert_eq!(core.open_streams(), 3);
}

#[test]
fn a_stream_that_moves_to_another_worker_is_let_go_when_nothing_of_it_is_under_way() {
    let now = Instant::now();
    let mut core = Core::new(grouped("a"), 1, now);
    tasks(&mut core, now);
    core.done(beats(&[("a", 1)]), now);
    tasks(&mut core, now);
    let mut both = Group::new(GroupSettings::new(WorkerId::new("a").unwrap()), now);
    both.beaten(Some(vec![WorkerBeat { id: WorkerId::new("b").unwrap(), beat: 1 }]), now);
    let of_b: Vec<_> = (0..100).map(stream).filter(|stream| !both.owns(stream)).take(3).collect();
    let [in_flight, reading, halted] = &of_b[..] else { panic!("half of them move") };

    core.done(index(&[in_flight, reading, halted], None, false), now);
    for task in tasks(&mut core, now) {
        if let Task::Read(read) = task
            && read.stream() != reading
        {
            let entries = vec![entry(read.stream(), 1, 1, None), entry(read.stream(), 2, 2, Some((1, 0)))];
            core.done(Done::Read(read, page(entries)), now);
        }
    }
    core.set_ready_publishers(2);
    let Some(Task::Publish(batch)) = core.next_task(now) else { panic!("two streams have something to publish") };
    publish(&mut core, halted, 1, Outcome::Refused("no queue".to_owned()), now);
    assert_eq!((core.open_streams(), core.halted_streams()), (2, 1));
    core.take_notices();

    let later = now + INTERVAL;
    assert!(names(&tasks(&mut core, later)).contains(&"beat"));
    core.done(beats(&[("a", 2), ("b", 1)]), later);
    let notices = core.take_notices();
    assert_eq!(notices, [Notice::Resumed { stream: halted.clone() }, Notice::Members]);
    assert_eq!((core.open_streams(), core.halted_streams()), (2, 0), "an event is in flight, a read is under way");

    core.done(
        Done::Read(
            Read::Pending { stream: reading.clone(), from: 1, limit: Bounds::default().entries_per_read },
            page(vec![]),
        ),
        later,
    );
    assert_eq!(core.open_streams(), 1);
    publish(&mut core, in_flight, 1, Outcome::Confirmed, later);
    let deletes = tasks(&mut core, later);
    assert_eq!(names(&deletes), ["delete"], "what was confirmed is deleted, what comes next is left to the other");
    let Task::Delete(keys) = deletes[0].clone() else { panic!() };
    assert_eq!(keys, [key(in_flight, 1)]);
    core.done(Done::Deleted { asked: keys, left: vec![] }, later);
    assert_eq!(core.open_streams(), 0);
    assert_eq!(batch.len(), 2);
}

#[test]
fn a_worker_that_is_told_to_stop_leaves_its_group_at_once_and_finishes_what_is_in_flight() {
    let now = Instant::now();
    let mut core = Core::new(grouped("a"), 1, now);
    tasks(&mut core, now);
    core.done(beats(&[("a", 1)]), now);
    tasks(&mut core, now);
    core.done(index(&[&stream(1)], None, false), now);
    let Some(Task::Read(read)) = core.next_task(now) else { panic!() };
    core.done(Done::Read(read, page(vec![entry(&stream(1), 1, 2, None)])), now);
    core.set_ready_publishers(2);
    let Some(Task::Publish(batch)) = core.next_task(now) else { panic!() };

    core.stop();
    let later = now + INTERVAL;
    assert_eq!(names(&tasks(&mut core, later)), ["leave"], "no heartbeat, no scan");
    core.done(Done::Left, later);
    assert!(!core.is_finished(), "an event is in flight");
    core.done(Done::Published(batch, vec![Outcome::Confirmed]), later);
    assert_eq!(names(&tasks(&mut core, later)), [""; 0], "the next event is not begun");
    assert!(core.is_finished());
}

#[test]
fn a_heartbeat_under_way_ends_before_the_row_is_removed() {
    let now = Instant::now();
    let mut core = Core::new(grouped("a"), 1, now);
    assert_eq!(names(&tasks(&mut core, now)), ["beat"]);
    core.stop();
    assert_eq!(names(&tasks(&mut core, now)), [""; 0]);
    core.done(beats(&[("a", 1)]), now);
    assert_eq!(names(&tasks(&mut core, now)), ["leave"]);
}

#[test]
fn g6_a_stream_that_leaves_and_comes_back_has_one_event_in_flight_still() {
    let now = Instant::now();
    let settings = grouped("a");
    let mut core = Core::new(settings, 1, now);
    tasks(&mut core, now);
    core.done(beats(&[("a", 1)]), now);
    let mut both = Group::new(GroupSettings::new(WorkerId::new("a").unwrap()), now);
    both.beaten(Some(vec![WorkerBeat { id: WorkerId::new("b").unwrap(), beat: 1 }]), now);
    let order = (0..100).map(stream).find(|stream| !both.owns(stream)).unwrap();

    let mut later = now;
    for live in [&[("a", 2), ("b", 1)][..], &[("a", 3)][..]] {
        tasks(&mut core, later);
        core.done(index(&[&order], None, false), later);
        for task in tasks(&mut core, later) {
            let Task::Read(read) = task else { continue };
            core.done(
                Done::Read(read, page(vec![entry(&order, 1, 1, None), entry(&order, 2, 2, Some((1, 0)))])),
                later,
            );
        }
        later += INTERVAL;
        tasks(&mut core, later);
        core.done(beats(live), later);
    }
    core.done(index(&[&order], None, false), later);
    for task in tasks(&mut core, later) {
        if let Task::Read(read) = task {
            core.done(Done::Read(read, page(vec![entry(&order, 1, 1, None)])), later);
        }
    }
    assert_eq!(versions(&core.next_batch()), [1]);
    assert_eq!(versions(&core.next_batch()), NOTHING);
}
