use super::*;

const SECOND: Duration = Duration::from_secs(1);
const STREAMS: u32 = 2_000;

fn id(name: &str) -> WorkerId {
    WorkerId::new(name).unwrap()
}

fn group(name: &str, now: Instant) -> Group {
    Group::new(GroupSettings::new(id(name)), now)
}

fn rows(beats: &[(&str, u64)]) -> Vec<WorkerBeat> {
    beats.iter().map(|(name, beat)| WorkerBeat { id: id(name), beat: *beat }).collect()
}

fn live(group: &Group) -> Vec<&str> {
    group.live().map(WorkerId::as_str).collect()
}

/// Writes the next beat and reads these rows, one interval after the last time.
fn beat(group: &mut Group, now: &mut Instant, others: &[(&str, u64)]) -> Change {
    *now += 5 * SECOND;
    let beat = group.next_beat(&mut Jitter::new(1), *now).expect("it is time");
    let mut rows = rows(others);
    rows.push(WorkerBeat { id: group.me().clone(), beat });
    group.beaten(Some(rows), *now)
}

/// Who each stream belongs to in a group of these.
fn owners(names: &[&str]) -> Vec<String> {
    let mut group = group(names[0], Instant::now());
    group.beaten(Some(rows(&names.iter().map(|name| (*name, 1)).collect::<Vec<_>>())), Instant::now());
    (0..STREAMS).map(|stream| group.owner(&format!("order-{stream}")).unwrap().to_string()).collect()
}

#[test]
fn a_stream_belongs_to_exactly_one_and_all_members_agree() {
    let names = ["a", "b", "c"];
    for stream in 0..STREAMS {
        let stream = StreamId::new(format!("order-{stream}")).unwrap();
        let owns = |me: &&&str| {
            let mut group = group(me, Instant::now());
            group.beaten(Some(rows(&[("a", 1), ("b", 1), ("c", 1)])), Instant::now());
            group.owns(&stream)
        };
        assert_eq!(names.iter().filter(owns).count(), 1, "{stream}");
    }
}

#[test]
fn a_join_and_a_leave_move_only_the_streams_that_they_must() {
    let names: Vec<_> = (0..8).map(|number| format!("relay-{number}")).collect();
    let mut names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut before = owners(&names);
    for joins in ["relay-8", "relay-9", "another"] {
        names.push(joins);
        let after = owners(&names);
        for (old, new) in before.iter().zip(&after) {
            assert!(new == old || new == joins, "a stream went from {old} to {new}, who was there before");
        }
        before = after;
    }
    while names.len() > 1 {
        let leaves = names.remove(names.len() / 2);
        let after = owners(&names);
        for (old, new) in before.iter().zip(&after) {
            assert!(new == old || old == leaves, "a stream went from {old}, who is still there, to {new}");
        }
        before = after;
    }
}

#[test]
fn the_shares_are_about_equal() {
    let names = ["a", "b", "c", "d"];
    let owners = owners(&names);
    for name in names {
        let share = owners.iter().filter(|owner| *owner == name).count();
        assert!((350..650).contains(&share), "{name} has {share} of {STREAMS}");
    }
}

#[test]
fn the_weights_are_the_same_in_every_version_of_the_program() {
    assert_eq!(seed(&id("relay-1")), 4_274_912_447_493_611_755);
    assert_eq!(weight("order-4711", seed(&id("relay-1"))), 17_499_272_808_490_205_435);
}

#[test]
fn before_the_first_read_a_worker_is_alone_and_after_a_failed_one_the_known_members_stay() {
    let mut now = Instant::now();
    let mut group = group("a", now);
    assert_eq!((live(&group), group.read_at()), (vec!["a"], None));
    group.next_beat(&mut Jitter::new(1), now);
    assert_eq!(group.beaten(None, now), Change::default());
    assert_eq!((live(&group), group.read_at()), (vec!["a"], None));
    let change = beat(&mut group, &mut now, &[("b", 1)]);
    assert!(change.members && live(&group) == ["a", "b"]);
    now += 3_600 * SECOND;
    group.next_beat(&mut Jitter::new(1), now);
    assert_eq!(group.beaten(None, now), Change::default());
    assert_eq!(live(&group), ["a", "b"]);
}

#[test]
fn a_worker_is_gone_when_its_beat_has_stood_still_for_the_timeout_and_not_before() {
    let mut now = Instant::now();
    let mut group = group("a", now);
    for still in 0..3 {
        beat(&mut group, &mut now, &[("b", 7)]);
        assert_eq!(live(&group), ["a", "b"], "for {still} intervals");
    }
    assert!(beat(&mut group, &mut now, &[("b", 7)]).members, "the timeout of 15 s is over");
    assert_eq!(live(&group), ["a"]);
    // It comes back, with a lower beat: it was started anew.
    assert!(beat(&mut group, &mut now, &[("b", 1)]).members);
    assert_eq!(live(&group), ["a", "b"]);
}

#[test]
fn a_worker_whose_row_was_removed_is_gone_at_once() {
    let mut now = Instant::now();
    let mut group = group("a", now);
    beat(&mut group, &mut now, &[("b", 1), ("c", 1)]);
    assert!(beat(&mut group, &mut now, &[("c", 2)]).members);
    assert_eq!(live(&group), ["a", "c"]);
}

#[test]
fn after_an_outage_or_a_pause_the_others_are_not_dead_before_they_could_write() {
    let mut now = Instant::now();
    let mut group = group("a", now);
    beat(&mut group, &mut now, &[("b", 7)]);
    now += 3_600 * SECOND;
    beat(&mut group, &mut now, &[("b", 7)]);
    assert_eq!(live(&group), ["a", "b"], "an hour without a read counts as two intervals");
    beat(&mut group, &mut now, &[("b", 7)]);
    assert_eq!(live(&group), ["a"], "it has not written since");
}

#[test]
fn one_of_the_live_workers_removes_the_row_of_one_that_is_gone() {
    let mut now = Instant::now();
    let mut groups = [group("a", now), group("b", now)];
    let mut removed = Vec::new();
    for beats in 1..=13 {
        let began = now;
        for (group, other) in groups.iter_mut().zip(["b", "a"]) {
            now = began;
            let change = beat(group, &mut now, &[("ghost", 1), (other, beats)]);
            removed.extend(change.forget.into_iter().map(|id| (beats, id.to_string())));
        }
    }
    // It has stood still since the first beat, for the timeout of 15 seconds.
    assert_eq!(removed.first(), Some(&(4, "ghost".to_owned())));
    assert_eq!(removed.len(), 10, "one of the two asks for it, with each heartbeat, until the row is gone");
}

#[test]
fn a_worker_whose_row_was_removed_while_it_stood_still_is_alive_again_with_its_next_beat() {
    let mut now = Instant::now();
    let mut group = group("a", now);
    for _ in 0..4 {
        beat(&mut group, &mut now, &[("b", 7)]);
    }
    assert_eq!(live(&group), ["a"]);
    assert_eq!(beat(&mut group, &mut now, &[]), Change::default(), "its row is gone, too");
    assert!(beat(&mut group, &mut now, &[("b", 8)]).members);
    assert_eq!(live(&group), ["a", "b"]);
}

#[test]
fn an_id_that_is_used_twice_is_noticed_once() {
    let now = Instant::now();
    let mut group = group("a", now);
    let mut change = |beat_in_row: u64, at: Instant| {
        group.next_beat(&mut Jitter::new(1), at).expect("it is time");
        group.beaten(Some(rows(&[("a", beat_in_row)])), at).duplicate_id
    };
    assert!(!change(1, now));
    assert!(change(77, now + 5 * SECOND), "another process has written the row");
    assert!(!change(78, now + 10 * SECOND));
}

#[test]
fn one_heartbeat_is_under_way_at_a_time() {
    let now = Instant::now();
    let (mut group, mut jitter) = (group("a", now), Jitter::new(1));
    assert_eq!(group.next_beat(&mut jitter, now), Some(1));
    assert_eq!((group.next_beat(&mut jitter, now + 60 * SECOND), group.next_due()), (None, None));
    group.beaten(Some(rows(&[("a", 1)])), now + 60 * SECOND);
    assert_eq!(group.next_beat(&mut jitter, now + 60 * SECOND), Some(2));
    group.beaten(Some(rows(&[("a", 2)])), now + 60 * SECOND);
    let due = group.next_due().unwrap() - (now + 60 * SECOND);
    assert!(due <= 5 * SECOND && due >= 3 * SECOND, "an interval, less the jitter: {due:?}");
    assert_eq!(group.next_beat(&mut jitter, now + 61 * SECOND), None);
}
