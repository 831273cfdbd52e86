//! A core that replays: history as the source of the lanes.

use std::sync::Arc;

use super::*;

fn replaying(window_events: usize, page_events: usize, now: Instant) -> Core {
    let settings = HistorySettings { bounds: Bounds::default(), rate: 1_000_000, window_events, page_events };
    let mut core = Core::replaying(&settings, 1, now);
    core.set_ready_publishers(2);
    core
}

/// Events by stream and version; version 0 is left out.
fn history(events: &[(u32, u64)], has_more: bool) -> Done {
    let event = |(id, version): &(u32, u64)| {
        let event = OutboxEvent::new(*version, Uuid::nil(), "Placed", "{}");
        (*version > 0).then(|| Outgoing { stream: stream(*id), event: Arc::new(event) })
    };
    Done::History(Some(HistoryPage { events: events.iter().map(event).collect(), has_more }))
}

/// The batch that is published next.
fn batch(core: &mut Core, now: &mut Instant) -> Vec<Outgoing> {
    core.set_ready_publishers(1);
    // The rate is high, and not endless.
    *now += MS;
    match core.next_task(*now) {
        Some(Task::Publish(batch)) => batch,
        task => panic!("{task:?} is no batch"),
    }
}

fn sent(batch: &[Outgoing]) -> Vec<(&str, u64)> {
    batch.iter().map(|outgoing| (outgoing.stream.as_str(), outgoing.event.version)).collect()
}

fn confirm(core: &mut Core, batch: Vec<Outgoing>, now: Instant) {
    let outcomes = vec![Outcome::Confirmed; batch.len()];
    core.done(Done::Published(batch, outcomes), now);
}

#[test]
fn g6_streams_are_replayed_side_by_side_each_with_one_event_in_flight() {
    let mut now = Instant::now();
    let mut core = replaying(100, 50, now);
    assert!(matches!(core.next_task(now), Some(Task::History { most: 50 })));
    core.done(history(&[(1, 1), (1, 2), (2, 1), (1, 3)], false), now);
    for expected in [&[("order-1", 1), ("order-2", 1)][..], &[("order-1", 2)], &[("order-1", 3)]] {
        let batch = batch(&mut core, &mut now);
        assert_eq!(sent(&batch), expected);
        assert!(core.next_task(now + MS).is_none(), "nothing more before the confirm");
        confirm(&mut core, batch, now);
    }
    assert!(matches!(core.next_task(now + MS), Some(Task::HistoryEnd)) && !core.is_finished());
    core.done(history(&[], false), now);
    assert!(core.is_finished() && core.position().is_done);
}

#[test]
fn a_position_moves_with_what_is_confirmed_and_never_past_what_is_not() {
    let mut now = Instant::now();
    let mut core = replaying(100, 50, now);
    core.next_task(now);
    core.done(history(&[(1, 1), (1, 2), (2, 1), (1, 3), (1, 0)], false), now);
    let position = |core: &Core| {
        let HistoryPosition { published, left_out, ahead, .. } = core.position();
        (published, left_out, ahead)
    };
    let first = batch(&mut core, &mut now);
    core.done(Done::Published(first, vec![Outcome::Unknown, Outcome::Confirmed]), now);
    assert_eq!(position(&core), (0, 0, 1), "what is before it is not confirmed");
    for (expected, version) in [((1, 0, 1), 1), ((3, 0, 0), 2), ((4, 1, 0), 3)] {
        let batch = batch(&mut core, &mut now);
        assert_eq!(sent(&batch), [("order-1", version)]);
        confirm(&mut core, batch, now);
        assert_eq!(position(&core), expected);
    }
}

#[test]
fn no_more_than_a_window_is_read_before_the_position_is_kept() {
    let mut now = Instant::now();
    let mut core = replaying(4, 2, now);
    for events in [[(1, 1), (2, 1)], [(3, 1), (4, 1)]] {
        assert!(matches!(core.next_task(now), Some(Task::History { most: 2 })));
        core.done(history(&events, true), now);
    }
    let first = batch(&mut core, &mut now);
    assert_eq!((first.len(), core.read_ahead()), (4, 4));
    core.done(
        Done::Published(first, vec![Outcome::Confirmed, Outcome::Unknown, Outcome::Confirmed, Outcome::Confirmed]),
        now,
    );
    let second = batch(&mut core, &mut now);
    assert_eq!(core.position(), HistoryPosition { published: 1, ahead: 2, ..HistoryPosition::default() });
    confirm(&mut core, second, now);
    let Some(Task::Keep(position)) = core.next_task(now) else { panic!("half a window is published") };
    assert_eq!(position.passed(), 4);
    assert!(core.next_task(now).is_none(), "nothing is read before that is kept");
    core.done(Done::Kept, now);
    assert!(matches!(core.next_task(now), Some(Task::History { most: 2 })));
    core.done(history(&[(1, 2)], true), now);
    assert!(matches!(core.next_task(now), Some(Task::History { most: 2 })));
    let last = batch(&mut core, &mut now);
    confirm(&mut core, last, now);
    assert!(core.next_task(now).is_none());
    let later = now + Duration::from_secs(1);
    assert!(core.next_due().is_some_and(|due| due <= later));
    assert!(matches!(core.next_task(later), Some(Task::Keep(_))), "a second after it was kept last");
}

#[test]
fn an_event_that_is_refused_again_and_again_ends_the_replay_and_holds_up_no_other_stream() {
    let mut now = Instant::now();
    let mut core = replaying(100, 50, now);
    core.next_task(now);
    core.done(history(&[(1, 1), (2, 1), (2, 2), (2, 3), (2, 4)], false), now);
    for attempt in 1..=MAX_ATTEMPTS {
        let both = batch(&mut core, &mut now);
        let outcome = |outgoing: &Outgoing| match outgoing.stream.as_str() {
            "order-1" => Outcome::Refused("no queue".to_owned()),
            _ => Outcome::Confirmed,
        };
        let outcomes: Vec<_> = both.iter().map(outcome).collect();
        assert!(outcomes.len() == 2 && core.given_up().is_none());
        core.done(Done::Published(both, outcomes), now);
        if attempt < MAX_ATTEMPTS {
            let other = batch(&mut core, &mut now);
            assert_eq!(sent(&other), [("order-2", u64::from(attempt) + 1)], "the other goes on alone");
            core.done(Done::Published(other, vec![Outcome::Unknown]), now);
            now += Duration::from_mins(1);
        }
    }
    let given_up = core.given_up().map(|(stream, halt)| (stream.as_str(), halt.version));
    assert_eq!(given_up, Some(("order-1", 1)));
    assert!(core.next_task(now + MS).is_none() && core.is_finished());
    assert_eq!(core.position(), HistoryPosition { ahead: 3, ..HistoryPosition::default() });
}

#[test]
fn an_event_like_a_refused_one_is_tried_however_many_there_are() {
    let mut now = Instant::now();
    let mut core = replaying(512, 256, now);
    core.next_task(now);
    core.done(history(&(1..=256).map(|id| (id, 1)).collect::<Vec<_>>(), true), now);
    assert!(matches!(core.next_task(now), Some(Task::History { .. })));
    let first = batch(&mut core, &mut now);
    let suspects = vec![Outcome::Suspect("ACCESS_REFUSED".to_owned()); first.len()];
    core.done(Done::Published(first, suspects), now);
    now += MS;
    let Some(Task::PublishAlone(outgoing, isolation)) = core.next_task(now) else {
        panic!("a suspect is published alone")
    };
    core.done(Done::PublishedAlone(outgoing, isolation, Outcome::Poison("ACCESS_REFUSED".to_owned())), now);
    core.done(history(&(257..=512).map(|id| (id, 1)).collect::<Vec<_>>(), false), now);
    now += MS;
    let mut alone = 0;
    while let Some(task) = core.next_task(now) {
        assert!(matches!(task, Task::PublishAlone(..)), "{task:?}");
        alone += 1;
        now += MS;
    }
    assert_eq!((alone, core.halted_streams()), (511, 1));
}

#[test]
fn a_read_that_fails_is_made_again_after_a_rest() {
    let now = Instant::now();
    let mut core = replaying(100, 50, now);
    assert!(matches!(core.next_task(now), Some(Task::History { .. })));
    core.done(Done::History(None), now);
    assert!(core.next_task(now).is_none());
    let due = core.next_due().expect("it is made again");
    assert!(due > now && matches!(core.next_task(due), Some(Task::History { .. })));
}
