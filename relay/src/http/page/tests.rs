use streambox_programs::now_ms;

use super::*;
use crate::model::{Backlog, Request, RequestFailure, ago};

fn connection(link: Link, last_error: Option<&str>) -> PublisherState {
    let mut connection = PublisherState::new(link);
    connection.last_error = last_error.map(str::to_owned);
    connection
}

fn well() -> View {
    let mut view = View { connections: vec![connection(Link::Connected, None)], ..View::default() };
    (view.taken_at_ms, view.relay.backlog) = (now_ms(), Some(Backlog::empty(ago(0))));
    view
}

fn halt(stream: &str, reason: &str) -> HaltedStream {
    HaltedStream { stream: stream.to_owned(), version: 7, reason: reason.to_owned(), ..HaltedStream::default() }
}

fn failure(text: &str) -> RequestFailure {
    RequestFailure::new(Request::Read, text.to_owned())
}

/// As a view, but for some changes.
fn with(view: &View, change: impl FnOnce(&mut View)) -> View {
    let mut view = view.clone();
    change(&mut view);
    view
}

/// An oldest entry of this age, which could be published, of many streams.
fn old(view: &mut View, seconds: i64) {
    let since_ms = Some(view.taken_at_ms - seconds * 1_000);
    let backlog = view.relay.backlog.as_mut().expect("there is one");
    (backlog.entries, backlog.workable_streams) = (9_000, 500);
    (backlog.oldest_pending_since_ms, backlog.oldest_workable_since_ms) = (since_ms, since_ms);
}

/// Samples of the last two minutes, with so many pending entries at the beginning and at the end.
fn history(first: u64, last: u64) -> Vec<Sample> {
    let sample = |at_ms, entries| Sample {
        at_ms,
        entries: Some(entries),
        oldest_age_seconds: 0.0,
        published_per_second: 0.0,
        halted_streams: 0,
    };
    vec![sample(0, first), sample(60_000, first), sample(120_000, last)]
}

#[test]
fn more_relays_are_the_advice_only_if_they_would_help() {
    let advice = |view: &View| verdict(view).advice;
    let more = "start more relays";
    let behind = with(&well(), |view| {
        old(view, 90);
        view.history = history(9_000, 9_000);
    });
    assert!(advice(&behind).contains(more), "{}", advice(&behind));
    let young = with(&behind, |view| view.history.clear());
    assert!(advice(&young).contains("Within a minute"), "{}", advice(&young));
    let catching_up = with(&behind, |view| view.history = history(9_000, 4_000));
    assert!(advice(&catching_up).contains("catches up"), "{}", advice(&catching_up));
    let few = with(&behind, |view| view.relay.backlog.as_mut().unwrap().workable_streams = 3);
    assert!(advice(&few).contains("of 3 streams only"), "{}", advice(&few));
    let throttled = with(&behind, |view| view.relay.last_error = Some(failure("throttled")));
    assert!(advice(&throttled).contains("requests to DynamoDB fail: throttled"), "{}", advice(&throttled));
    // What is old is halted, or another worker's.
    let foreign = |view: &mut View| {
        view.relay.backlog.as_mut().unwrap().oldest_workable_since_ms = Some(view.taken_at_ms - 200);
    };
    let alone = with(&behind, foreign);
    assert_eq!(verdict(&alone).level, Level::GOOD);
    let shared = with(&alone, |view| view.relay.workers = vec!["a".to_owned(), "b".to_owned()]);
    assert_eq!(verdict(&shared).title, "An entry of another worker is 1 min 30 s old");
    let blocked = with(&behind, |view| view.connections.push(connection(Link::Blocked, None)));
    let refused = with(&behind, |view| view.relay.refused = vec![failure("the permission is missing")]);
    let halted = with(&behind, |view| view.relay.halted_streams = 1);
    for view in [young, catching_up, few, throttled, alone, shared, blocked, refused, halted] {
        assert!(!advice(&view).contains(more), "{}", advice(&view));
    }
}

#[test]
fn the_worst_stands_at_the_top_with_what_to_do() {
    let title = |view: &View| verdict(view).title;
    let mut view = well();
    assert_eq!(verdict(&view).level, Level::GOOD);
    old(&mut view, 61);
    assert_eq!(
        (verdict(&view).level, title(&view).as_str()),
        (Level::WARNING, "Behind: the oldest entry is 1 min 1 s old")
    );
    // From here on each state is added to those before, and is worse.
    view.connections.push(connection(Link::Connecting, Some("refused")));
    assert_eq!(title(&view), "1 of 2 connections to the broker is down");
    view.unroutable_run = 412;
    assert_eq!(title(&view), "The last 412 events reached no queue");
    view.relay.halted_streams = 1;
    assert_eq!(title(&view), "1 stream is halted");
    view.not_ready = vec!["the table was read last 1 min 0 s ago".to_owned()];
    view.relay.last_error = Some(failure("access denied"));
    assert_eq!(title(&view), "The table can't be read");
    assert!(verdict(&view).advice.contains("access denied"));
    view.relay.refused = vec![failure("the permission is missing")];
    assert_eq!(title(&view), "DynamoDB refuses a request");
    assert!(verdict(&view).advice.starts_with("the permission is missing. The relay tries again"));
    view.connections = vec![connection(Link::Connecting, Some("refused"))];
    assert_eq!(title(&view), "No connection to the broker");
    assert!(verdict(&view).advice.contains("refused"));
    let silent = with(&view, |view| {
        (view.connections, view.relay.unanswered_since) = (vec![connection(Link::Connected, None)], Some(ago(61)));
    });
    assert_eq!(title(&silent), "The broker confirms nothing");
    let mut full = connection(Link::Blocked, None);
    full.blocked_because = Some("low on disk".to_owned());
    view.connections = vec![connection(Link::Connected, None), full];
    assert_eq!(title(&view), "The broker takes no messages");
    assert!(verdict(&view).advice.contains("low on disk"));
    let young = with(&well(), |view| view.connections = vec![connection(Link::Connecting, None)]);
    assert_eq!((verdict(&young).level, title(&young).as_str()), (Level::WARNING, "Connecting to the broker"));
    view.is_stopping = true;
    assert_eq!(title(&view), "The relay is stopping");
    view.not_live = Some("the loop stands still".to_owned());
    assert_eq!(title(&view), "The relay is stuck");
}

#[test]
fn what_is_wrong_stands_with_since_when_and_who_else_sees_it() {
    let mut view = with(&well(), |view| {
        view.taken_at_ms = 1_700_000_090_000;
        view.about.table = "my orders".to_owned();
        (view.relay.halted_streams, view.relay.halted) = (2, vec![halt("order-1", "a"), halt("order-2", "b")]);
        (view.relay.halted[0].since_ms, view.relay.halted[1].since_ms) = (1_700_000_060_000, 1_700_000_000_000);
    });
    let (since, others) =
        ("For 1 min 30 s, since 2023-11-14T22:13:20.000Z", "streambox-relay status --table 'my orders'".to_owned());
    assert!(page(&view).contains(since) && !page(&view).contains(&others), "{}", page(&view));
    view.relay.workers = vec!["a".to_owned(), "b".to_owned()];
    assert!(page(&view).contains(&others) && page(&view).contains("One of 2 workers"), "{}", page(&view));
    (view.relay.halted_streams, view.relay.halted) = (0, Vec::new());
    assert!(!page(&view).contains("One of 2 workers") && !page(&view).contains("since 20"), "{}", page(&view));
    view.connections = vec![connection(Link::Connecting, Some("refused")), connection(Link::Connecting, None)];
    (view.connections[0].since, view.connections[1].since) = (ago(3_700), ago(65));
    assert!(page(&view).contains("For 1 min 5 s, since"), "there was a connection until then: {}", page(&view));
}

#[test]
fn what_comes_from_outside_is_text_wherever_it_stands() {
    let evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>\u{202e}&amp;";
    let mut view = well();
    let mut blocked = connection(Link::Blocked, Some(evil));
    blocked.blocked_because = Some(evil.to_owned());
    view.connections = vec![blocked, connection(Link::Connecting, Some(evil))];
    (view.about.table, view.about.exchange, view.about.worker) =
        (evil.to_owned(), evil.to_owned(), Some(evil.to_owned()));
    (view.relay.workers, view.relay.last_error) = (vec![evil.to_owned()], Some(failure(evil)));
    (view.relay.halted_streams, view.relay.halted) = (1, vec![halt(evil, evil)]);
    for view in [with(&view, |view| view.not_live = Some(evil.to_owned())), view] {
        let page = page(&view);
        // The page's own script is the only one.
        assert_eq!(page.matches("<script").count(), 1, "{page}");
        assert!(!page.contains("<img") && !page.contains("\"><img") && !page.contains('\u{202e}'), "{page}");
        assert!(page.contains("&lt;script&gt;alert('x')&lt;/script&gt;&quot;&gt;&lt;img"), "{page}");
        assert!(page.contains("&amp;amp;") && page.contains("\\u202e"), "{page}");
    }
}

#[test]
fn a_halted_stream_is_named_with_version_reason_and_since_when() {
    let mut view = well();
    view.taken_at_ms = 1_700_000_090_000;
    let halt = HaltedStream {
        since_ms: 1_700_000_000_000,
        attempts: 3,
        retry_at_ms: Some(1_700_000_102_000),
        ..halt("permit-1", "no queue takes it")
    };
    (view.relay.halted_streams, view.relay.halted) = (3, vec![halt]);
    let page = page(&view);
    for part in [
        "permit-1",
        ">7<",
        "no queue takes it",
        "1 min 30 s",
        "2023-11-14T22:13:20.000Z",
        "3 times",
        "again in 12 s",
        "And 2 more",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn streams_that_share_a_reason_stand_together_and_only_some_of_them_are_shown_at_once() {
    let mut halted: Vec<_> = (0..40).map(|number| halt(&format!("order-{number}"), "no queue takes it")).collect();
    halted.insert(1, halt("permit-1", "the item is damaged"));
    let page = page(&with(&well(), |view| (view.relay.halted_streams, view.relay.halted) = (41, halted)));
    assert_eq!(page.matches("no queue takes it").count(), 1, "{page}");
    assert!(page.contains("<b>40 streams</b> no queue takes it") && page.contains("the item is damaged"), "{page}");
    assert!(page.contains("<summary>35 more</summary>"), "{page}");
    let first = page.find("order-4<").expect("the fifth is shown");
    assert!(first < page.find("<summary>35").unwrap() && page.find("order-5<") > page.find("<summary>35"), "{page}");
}

#[test]
fn a_stream_id_of_any_length_takes_a_line_and_the_command_has_all_of_it() {
    let long = format!("order-{}-end", "x".repeat(2_000));
    let awkward = "order-it's a \"Zoë\"\u{202e}";
    let page = page(&with(&well(), |view| {
        view.about.table = "orders".to_owned();
        (view.relay.halted_streams, view.relay.halted) = (2, vec![halt(&long, "a"), halt(awkward, "b")]);
    }));
    assert!(page.contains("xxx-end</summary>") && page.contains("<summary>order-xxx"), "{page}");
    let command = format!("streambox-relay skip {long} 7 --table orders --reason 'WHY'</code>");
    assert!(page.contains(&command), "{page}");
    let quoted = "skip $'order-it\\'s a &quot;Zoë&quot;\\xe2\\x80\\xae' 7";
    assert!(page.contains(quoted) && !page.contains('\u{202e}'), "{page}");
}

#[test]
fn thousands_stand_apart() {
    assert_eq!([1, 1_000, 1_234_567].map(grouped), ["1", "1\u{202f}000", "1\u{202f}234\u{202f}567"]);
}
