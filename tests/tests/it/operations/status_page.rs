//! The status page in a browser: what a person sees, what its script does, and what hostile text does not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use streambox_relay::{
    broker::{Link, PublisherState},
    http::{self, Show},
    metrics::TextFormat,
    model::{Backlog, HaltedStream},
    view::{Sample, View},
};
use streambox_tests::{browser::Browser, http::ask};
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};

/// A relay that always looks the same.
#[derive(Debug)]
struct Still {
    view: View,
    asked: AtomicU64,
    /// After this many answers it says that it is another.
    then: Option<(u64, View)>,
}

impl Show for Still {
    fn view(&self) -> View {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        match &self.then {
            Some((after, then)) if asked >= *after => then.clone(),
            _ => self.view.clone(),
        }
    }

    fn metrics(&self, _format: TextFormat) -> String {
        String::new()
    }
}

struct Served {
    url: String,
    show: Arc<Still>,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(view: View, then: Option<(u64, View)>) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("a bound address"));
    let show = Arc::new(Still { view, asked: AtomicU64::new(0), then });
    let task = tokio::spawn(http::serve(listener, Arc::clone(&show)));
    Served { url, show, task }
}

const NOW_MS: i64 = 1_780_000_000_000;

fn connection(link: Link) -> PublisherState {
    let mut connection = PublisherState::new(link);
    (connection.since, connection.reconnects) = (ago(4_000), 1);
    connection
}

fn ago(seconds: u64) -> Instant {
    Instant::now().checked_sub(Duration::from_secs(seconds)).expect("a machine that runs for a while")
}

/// A quarter of an hour in which a backlog came and went.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number between 0 and 84,000")]
fn history() -> Vec<Sample> {
    let samples = 0..180_u32;
    let sample = |number: u32| {
        let hill = (f64::from(number) / 180.0 * std::f64::consts::PI).sin().powi(6);
        Sample {
            at_ms: NOW_MS - i64::from(179 - number) * 5_000,
            entries: Some((hill * 84_000.0) as u64),
            oldest_age_seconds: hill * 95.0,
            published_per_second: 120.0 + hill * 3_900.0,
            halted_streams: 0,
        }
    };
    samples.map(sample).collect()
}

fn well() -> View {
    let mut view = View { taken_at_ms: NOW_MS, version: "0.1.0", history: history(), ..View::default() };
    let about = &mut view.about;
    (about.table, about.exchange) = ("orders-production".to_owned(), "streambox".to_owned());
    about.worker = Some("relay-7d9c6-x2x4q".to_owned());
    view.connections = vec![connection(Link::Connected), connection(Link::Connected)];
    let relay = &mut view.relay;
    (relay.totals.published, relay.totals.deleted) = (1_284_771, 1_102_390);
    (relay.open_streams, relay.buffered_bytes) = (12, 48_000);
    relay.workers = ["relay-7d9c6-8mzkp", "relay-7d9c6-bq77d", "relay-7d9c6-x2x4q"].map(str::to_owned).to_vec();
    let mut backlog = Backlog::empty(Instant::now());
    (backlog.entries, backlog.own_entries, backlog.workable_streams, backlog.at_least) = (37, 12, 9, false);
    let since_ms = Some(NOW_MS - 400);
    (backlog.oldest_pending_since_ms, backlog.oldest_workable_since_ms) = (since_ms, since_ms);
    relay.backlog = Some(backlog);
    view
}

fn halted(stream: &str, version: u64, reason: &str) -> HaltedStream {
    let mut halted = HaltedStream::default();
    (halted.stream, halted.version, halted.reason) = (stream.to_owned(), version, reason.to_owned());
    (halted.since_ms, halted.attempts, halted.retry_at_ms) = (NOW_MS - 754_000, 17, Some(NOW_MS + 41_000));
    halted
}

fn with_halted() -> View {
    let reason = "no queue takes routing key \"permit.PermitIssued\" of exchange \"streambox\": bind one, or run \
                  with --unroutable accept";
    let damaged = "pending#00000000000000000003: first_version is not a number";
    let halted = vec![halted("permit-2026-000417", 7, reason), halted("order-4711", 3, damaged)];
    let mut view = well();
    (view.relay.halted_streams, view.relay.halted) = (2, halted);
    view
}

/// Everything that is hard to show: many streams for one reason, the longest id, ids that need quotes, long words.
fn with_many_halted() -> View {
    let no_queue = "no queue takes routing key \"permit.PermitIssued\" of exchange \"streambox\": bind one, or run with \
                    --unroutable accept";
    let mut all: Vec<_> = (0..60).map(|number| halted(&format!("permit-2026-{number:06}"), 7, no_queue)).collect();
    let refused = format!(
        "the broker closed the channel: PRECONDITION_FAILED - message size {} is larger than configured max size {}",
        "150000".repeat(20),
        "100000"
    );
    all.insert(1, halted(&format!("invoice-{}-end", "0123456789".repeat(203)), 12, &refused));
    all.insert(2, halted("invoice-it's \"Zoë\" 日本語 \u{202e}", 3, &refused));
    all.insert(3, halted("order-4711", 0, "pending#00000000000000000003: first_version is not a number"));
    let mut view = View { unroutable: 17, ..well() };
    (view.relay.halted_streams, view.relay.halted) = (163, all);
    let backlog = view.relay.backlog.as_mut().expect("there is one");
    (backlog.entries, backlog.halted_entries) = (431, 394);
    view
}

fn lost() -> View {
    let error = "the broker can't be reached at 10.2.0.17:5671: connection refused";
    let mut lost = connection(Link::Connecting);
    (lost.last_error, lost.since) = (Some(error.to_owned()), ago(185));
    View {
        connections: vec![lost.clone(), lost],
        not_ready: vec![format!("there is no connection to the broker: {error}")],
        ..well()
    }
}

fn at_the_start() -> View {
    let mut view = View { version: "0.1.0", taken_at_ms: NOW_MS, ..View::default() };
    (view.about.table, view.about.exchange) = ("streambox".to_owned(), "streambox".to_owned());
    view
}

/// Tries to run in every way that text can.
const EVIL: &str = "order-<img src=x onerror=\"document.documentElement.dataset.pwned=1\">'\"><script>document.documentElement.\
                    dataset.pwned=1</script><svg onload=document.documentElement.dataset.pwned=1></td></table>{{7*7}}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_keeps_itself_up_to_date_and_nothing_is_refused_by_its_policy() {
    let Some(browser) = Browser::find() else { return };
    let served = serve(well(), Some((2, with_halted()))).await;
    let page = browser.open(&served.url, 9_000).await;
    assert!(page.dom.contains("2 streams are halted") && page.dom.contains("permit-2026-000417"), "{}", page.dom);
    assert!(page.dom.contains("<title>✕ 2 streams are halted"), "the tab says so, too: {}", page.dom);
    assert!(served.show.asked.load(Ordering::Relaxed) >= 3, "it has asked again and again");
    assert!(page.dom.contains("class=\"line\" d=\"M"), "there are plots: {}", page.dom);
    assert_eq!(page.console, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_share_a_reason_stand_together_and_what_the_reader_has_opened_stays_open() {
    let Some(browser) = Browser::find() else { return };
    let served = serve(with_many_halted(), None).await;
    let address = served.url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let html = ask(&address, "GET", "/").await.body;
    let closed = browser.open(&served.url, 5_000).await;
    assert!(closed.dom.contains("<b>60 streams</b>") && closed.dom.contains("<summary>55 more</summary>"));
    assert!(!closed.dom.contains("open=\"\""), "{}", closed.dom);
    // A browser opens what the address leads to: here the command of a stream that is not shown at first.
    let (_, behind) = html.split_once("<summary>55 more").expect("a group with more");
    let (_, id) = behind.split_once("id=\"skip-").expect("a command");
    let id = id.split('"').next().expect("an id");
    let asked = served.show.asked.load(Ordering::Relaxed);
    let page = browser.open(&format!("{}#skip-{id}", served.url), 9_000).await;
    assert!(served.show.asked.load(Ordering::Relaxed) >= asked + 3, "the page has replaced itself again and again");
    let (_, details) = page.dom.split_once("<details id=\"more-").expect("a group with more");
    assert!(details.split('>').next().is_some_and(|tag| tag.contains("open")), "{}", page.dom);
    assert_eq!(page.console, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_text_does_not_run() {
    let Some(browser) = Browser::find() else { return };
    let evil = EVIL.to_owned();
    let mut view = with_halted();
    let about = &mut view.about;
    (about.table, about.exchange, about.worker) = (evil.clone(), evil.clone(), Some(evil.clone()));
    (view.relay.workers, view.relay.halted) = (vec![evil.clone()], vec![halted(EVIL, 1, EVIL)]);
    view.connections[0].last_error = Some(evil);
    let served = serve(view, None).await;
    let page = browser.open(&served.url, 5_000).await;
    assert!(page.dom.contains("order-&lt;img src=x onerror="), "it is shown: {}", page.dom);
    assert!(!page.dom.contains("data-pwned"), "it has run: {}", page.dom);
    assert_eq!(page.console, Vec::<String>::new(), "the policy had nothing to refuse");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_answers_no_more_is_said_to() {
    let Some(browser) = Browser::find() else { return };
    let served = serve(well(), None).await;
    // The page, its style sheet, its script and its icon; then nobody is there any more.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let upstream = served.url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let forwarding = tokio::spawn(async move {
        for _ in 0..4 {
            let (mut inbound, _) = listener.accept().await.unwrap();
            let mut outbound = tokio::net::TcpStream::connect(&upstream).await.unwrap();
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await;
            });
        }
    });
    let page = browser.open(&url, 20_000).await;
    forwarding.abort();
    assert!(page.dom.contains("The relay has not answered for"), "{}", page.dom);
    assert!(page.dom.contains("<title>✕ No answer"), "{}", page.dom);
    assert!(page.dom.contains("1\u{202f}284\u{202f}771"), "what was known last still stands there: {}", page.dom);
}

/// For people: `STREAMBOX_SCREENSHOTS=directory cargo test … status_page` leaves a picture of each state there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_state_can_be_drawn_in_light_and_dark_wide_and_narrow() {
    let Some(browser) = Browser::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let directory = std::env::var_os("STREAMBOX_SCREENSHOTS").map_or(directory.path().to_owned(), Into::into);
    // The last one is the page in the documents.
    let (wide, narrow, shown) = ((1_100, 1_800), (390, 2_600), (1_000, 720));
    for (name, view) in [
        ("well", well()),
        ("halted", with_halted()),
        ("many", with_many_halted()),
        ("lost", lost()),
        ("start", at_the_start()),
    ] {
        let served = serve(view, None).await;
        let shots = [
            ("light", wide, false),
            ("dark", wide, true),
            ("narrow", narrow, false),
            ("shown-light", shown, false),
            ("shown-dark", shown, true),
        ];
        for (kind, size, is_dark) in shots {
            if (name == "start" && kind != "light") || (name != "halted" && size == shown) {
                continue;
            }
            let file = directory.join(format!("{name}-{kind}.png"));
            browser.draw(&served.url, &file, size, is_dark).await;
            let bytes = std::fs::metadata(&file).expect("a picture").len();
            assert!(bytes > 10_000, "{}: {bytes} bytes are no picture of a page", file.display());
        }
    }
}

#[tokio::test]
async fn health_and_status_are_answered_and_nothing_else_is() {
    let served = serve(lost(), None).await;
    let address = served.url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let get = async |path: &str| ask(&address, "GET", path).await;
    assert_eq!(get("/livez").await.status, 200);
    let ready = get("/readyz").await;
    assert!(ready.status == 503 && ready.body.contains("connection refused"), "{ready:?}");
    let json: serde_json::Value = serde_json::from_str(&get("/status.json").await.body).unwrap();
    assert_eq!((&json["published"], &json["connections"][0]["state"]), (&1_284_771.into(), &"connecting".into()));
    let page = get("/").await;
    for header in
        ["content-security-policy: default-src 'none'", "x-content-type-options: nosniff", "cache-control: no-store"]
    {
        assert!(page.head.to_lowercase().contains(header), "{header}: {}", page.head);
    }
    assert!(!page.body.contains("https://") && !page.body.contains("http://"), "nothing from elsewhere: {}", page.body);
    let head = ask(&address, "HEAD", "/").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(ask(&address, "POST", "/").await.status, 405);
    assert_eq!(get("/../etc/passwd").await.status, 404);
}
