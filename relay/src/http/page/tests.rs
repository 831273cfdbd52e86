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

#[test]
fn the_worst_stands_at_the_top_with_what_to_do() {
    let title = |view: &View| verdict(view).title;
    assert_eq!(verdict(&well()).level, Level::Good);
    let behind = Some(BacklogView { oldest_age_seconds: Some(61.0), ..BacklogView::default() });
    let behind = View { backlog: behind, ..well() };
    assert_eq!(
        (verdict(&behind).level, title(&behind).as_str()),
        (Level::Warning, "The oldest entry is 1 min 1 s old")
    );
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
    let full = ConnectionView { state: "blocked", blocked_because: Some("low on disk".to_owned()), ..connected() };
    let blocked = View { connections: vec![full], ..lost };
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
    assert!(page.contains("streambox-relay skip STREAM VERSION --reason TEXT"), "{page}");
}

#[test]
fn thousands_stand_apart() {
    assert_eq!([1, 1_000, 1_234_567].map(grouped), ["1", "1\u{202f}000", "1\u{202f}234\u{202f}567"]);
}
