use super::*;
use crate::http::{BacklogView, FailureView};

fn connected() -> ConnectionView {
    ConnectionView { state: "connected", for_seconds: 5.0, reconnects: 0, last_error: None, blocked_because: None }
}

fn well() -> View {
    View { connections: vec![connected()], backlog: Some(BacklogView::default()), ..View::default() }
}

fn halt(stream: &str, reason: &str) -> HaltedView {
    HaltedView {
        stream: stream.to_owned(),
        version: 7,
        reason: reason.to_owned(),
        for_seconds: 90.0,
        attempts: 3,
        retry_in_seconds: 12.0,
    }
}

/// An oldest entry of this age, which could be published, of many streams.
fn old(age: f64) -> BacklogView {
    let (oldest_age_seconds, oldest_workable_age_seconds) = (Some(age), Some(age));
    let (entries, workable_streams) = (9_000, 500);
    BacklogView { entries, workable_streams, oldest_age_seconds, oldest_workable_age_seconds, ..BacklogView::default() }
}

/// Samples of the last two minutes, with so many pending entries at the beginning and at the end.
fn history(first: u64, last: u64) -> Vec<crate::http::Sample> {
    let sample = |at_ms, entries| crate::http::Sample {
        at_ms,
        entries: Some(entries),
        oldest_age_seconds: 0.0,
        published_per_second: 0.0,
        halted_streams: 0,
    };
    vec![sample(0, first), sample(60_000, first), sample(120_000, last)]
}

#[test]
fn more_relays_are_the_advice_only_where_they_would_help() {
    let advice = |view: &View| verdict(view).advice;
    let more = "start more relays";
    let behind = View { backlog: Some(old(90.0)), history: history(9_000, 9_000), ..well() };
    assert!(advice(&behind).contains(more), "{}", advice(&behind));
    let young = View { history: Vec::new(), ..behind.clone() };
    assert!(advice(&young).contains("Within a minute"), "{}", advice(&young));
    let catching_up = View { history: history(9_000, 4_000), ..behind.clone() };
    assert!(advice(&catching_up).contains("catches up"), "{}", advice(&catching_up));
    let few = BacklogView { workable_streams: 3, ..old(90.0) };
    let few = View { backlog: Some(few), ..behind.clone() };
    assert!(advice(&few).contains("of 3 streams only"), "{}", advice(&few));
    let error = FailureView { request: "read", text: "throttled".to_owned(), seconds_ago: 5.0 };
    let throttled = View { last_error: Some(error), ..behind.clone() };
    assert!(advice(&throttled).contains("requests to DynamoDB fail: throttled"), "{}", advice(&throttled));
    // What is old is halted, or another worker's.
    let foreign = Some(BacklogView { oldest_workable_age_seconds: Some(0.2), ..old(90.0) });
    let alone = View { backlog: foreign.clone(), ..behind.clone() };
    assert_eq!(verdict(&alone).level, Level::Good);
    let shared = View { backlog: foreign, workers: vec!["a".to_owned(), "b".to_owned()], ..behind.clone() };
    assert_eq!(verdict(&shared).title, "An entry of another worker is 1 min 30 s old");
    let blocked = ConnectionView { state: "blocked", ..connected() };
    let blocked = View { connections: vec![connected(), blocked], ..behind.clone() };
    let refused = FailureView { request: "delete", text: "the permission is missing".to_owned(), seconds_ago: 1.0 };
    let refused = View { refused: vec![refused], ..behind.clone() };
    let halted = View { halted_streams: 1, ..behind };
    for view in [young, catching_up, few, throttled, alone, shared, blocked, refused, halted] {
        assert!(!advice(&view).contains(more), "{}", advice(&view));
    }
}

#[test]
fn the_worst_stands_at_the_top_with_what_to_do() {
    let title = |view: &View| verdict(view).title;
    assert_eq!(verdict(&well()).level, Level::Good);
    let behind = View { backlog: Some(old(61.0)), ..well() };
    assert_eq!(
        (verdict(&behind).level, title(&behind).as_str()),
        (Level::Warning, "Behind: the oldest entry is 1 min 1 s old")
    );
    let down = ConnectionView { state: "connecting", last_error: Some("refused".to_owned()), ..connected() };
    let behind = View { connections: vec![connected(), down], ..behind };
    assert_eq!(title(&behind), "1 of 2 connections to the broker is down");
    let behind = View { unroutable_run: 412, ..behind };
    assert_eq!(title(&behind), "The last 412 events reached no queue");
    let halted = View { halted_streams: 1, ..behind };
    assert_eq!(title(&halted), "1 stream is halted");
    let not_ready = vec!["the table was read last 1 min 0 s ago".to_owned()];
    let error = FailureView { request: "scan", text: "access denied".to_owned(), seconds_ago: 1.0 };
    let blind = View { not_ready, last_error: Some(error), ..halted };
    assert_eq!(title(&blind), "The table can't be read");
    assert!(verdict(&blind).advice.contains("access denied"));
    let error = FailureView { request: "delete", text: "the permission is missing".to_owned(), seconds_ago: 1.0 };
    let blind = View { refused: vec![error], ..blind };
    assert_eq!(title(&blind), "DynamoDB refuses a request");
    assert!(verdict(&blind).advice.starts_with("the permission is missing. The relay tries again"));
    let lost = ConnectionView { state: "connecting", last_error: Some("refused".to_owned()), ..connected() };
    let lost = View { connections: vec![lost], ..blind };
    assert_eq!(title(&lost), "No connection to the broker");
    assert!(verdict(&lost).advice.contains("refused"));
    let silent = View { connections: vec![connected()], unanswered_for_seconds: Some(61.0), ..lost.clone() };
    assert_eq!(title(&silent), "The broker confirms nothing");
    let full = ConnectionView { state: "blocked", blocked_because: Some("low on disk".to_owned()), ..connected() };
    let blocked = View { connections: vec![connected(), full], ..lost };
    assert_eq!(title(&blocked), "The broker takes no messages");
    assert!(verdict(&blocked).advice.contains("low on disk"));
    let young = View { connections: vec![ConnectionView { state: "connecting", ..connected() }], ..well() };
    assert_eq!((verdict(&young).level, title(&young).as_str()), (Level::Warning, "Connecting to the broker"));
    let stopping = View { is_stopping: true, ..blocked };
    assert_eq!(title(&stopping), "The relay is stopping");
    let stuck = View { not_live: Some("the loop stands still".to_owned()), ..stopping };
    assert_eq!(title(&stuck), "The relay is stuck");
}

#[test]
fn what_comes_from_outside_is_text_wherever_it_stands() {
    let evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>\u{202e}&amp;";
    let connection = ConnectionView {
        state: "blocked",
        last_error: Some(evil.to_owned()),
        blocked_because: Some(evil.to_owned()),
        ..connected()
    };
    let view = View {
        table: evil.to_owned(),
        exchange: evil.to_owned(),
        worker: Some(evil.to_owned()),
        workers: vec![evil.to_owned()],
        halted_streams: 1,
        halted: vec![halt(evil, evil)],
        connections: vec![connection],
        not_live: Some(evil.to_owned()),
        last_error: Some(FailureView { request: "scan", text: evil.to_owned(), seconds_ago: 1.0 }),
        ..View::default()
    };
    for view in [View { not_live: None, ..view.clone() }, view] {
        let page = html(&view);
        // The page's own script is the only one.
        assert_eq!(page.matches("<script").count(), 1, "{page}");
        assert!(!page.contains("<img") && !page.contains("alert('x')") && !page.contains('\u{202e}'), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&gt;&lt;img"), "{page}");
        assert!(page.contains("&amp;amp;"), "{page}");
    }
}

#[test]
fn a_halted_stream_is_named_with_version_reason_and_since_when() {
    let mut view = well();
    (view.halted_streams, view.halted) = (3, vec![halt("permit-1", "no queue takes it")]);
    view.taken_at_ms = 1_700_000_090_000;
    let page = html(&view);
    for part in
        ["permit-1", ">7<", "no queue takes it", "1 min 30 s", "2023-11-14T22:13:20.000Z", "3 times", "And 2 more"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn streams_that_share_a_reason_stand_together_and_only_some_of_them_are_shown_at_once() {
    let mut halted: Vec<_> = (0..40).map(|number| halt(&format!("order-{number}"), "no queue takes it")).collect();
    halted.insert(1, halt("permit-1", "the item is damaged"));
    let page = html(&View { halted_streams: 41, halted, ..well() });
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
    let view = View {
        table: "orders".to_owned(),
        halted_streams: 2,
        halted: vec![halt(&long, "a"), halt(awkward, "b")],
        ..well()
    };
    let page = html(&view);
    assert!(page.contains("xxx-end</summary>") && page.contains("<summary>order-xxx"), "{page}");
    let command = format!("streambox-relay skip {long} 7 --table orders --reason &#39;WHY&#39;</code>");
    assert!(page.contains(&command), "{page}");
    let quoted = "skip $&#39;order-it\\&#39;s a &quot;Zoë&quot;\\xe2\\x80\\xae&#39; 7";
    assert!(page.contains(quoted) && !page.contains('\u{202e}'), "{page}");
}

#[test]
fn thousands_stand_apart() {
    assert_eq!([1, 1_000, 1_234_567].map(grouped), ["1", "1\u{202f}000", "1\u{202f}234\u{202f}567"]);
}
