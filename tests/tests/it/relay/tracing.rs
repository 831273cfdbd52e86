//! Traces: the publishing of an event continues the trace in which it was appended.

use std::{ffi::OsStr, sync::Arc};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use lapin::types::AMQPValue;
use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use streambox::{
    ExpectedVersion::{Any, NoStream},
    Metadata, NewEvent,
};
use streambox_tests::{
    PATIENCE,
    broker::{Inbox, shared_broker_url},
    engine::{TestTable, event, stream},
    http::{ask, without_table},
    programs::{Process, run, run_with},
    tls::{Authority, TlsFront},
    unique,
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A collector that keeps what it gets.
struct Collector {
    url: String,
    exports: mpsc::UnboundedReceiver<ExportTraceServiceRequest>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let (sender, exports) = mpsc::unbounded_channel();
        let sender = Arc::new(sender);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let sender = Arc::clone(&sender);
                let service = service_fn(move |request: Request<Incoming>| {
                    let sender = Arc::clone(&sender);
                    async move {
                        assert_eq!(request.uri().path(), "/v1/traces");
                        let body = request.into_body().collect().await?.to_bytes();
                        let _ = sender.send(ExportTraceServiceRequest::decode(body).expect("an export of spans"));
                        Ok::<_, hyper::Error>(Response::new(Full::<hyper::body::Bytes>::default()))
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, exports }
    }

    /// Waits for this many spans.
    async fn spans(&mut self, count: usize) -> Vec<Span> {
        let mut spans = Vec::new();
        while spans.len() < count {
            let export = timeout(PATIENCE, self.exports.recv()).await.expect("spans are exported");
            let export = export.expect("the collector runs");
            for resource in export.resource_spans {
                let service =
                    resource.resource.expect("a resource").attributes.into_iter().find(|one| one.key == "service.name");
                let name = service.and_then(|one| one.value?.value);
                assert_eq!(name, Some(Value::StringValue("streambox-relay".to_owned())));
                spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        spans
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

fn text(span: &Span, name: &str) -> Option<String> {
    match span.attributes.iter().find(|one| one.key == name)?.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

fn traced(event_type: &str, flags: &str) -> NewEvent {
    let traceparent = format!("00-{TRACE}-{PARENT}-{flags}");
    let metadata = Metadata::new().with(Metadata::TRACEPARENT, traceparent).with(Metadata::TRACESTATE, "vendor=x");
    NewEvent::json(event_type, &1).expect("a valid event").with_metadata(metadata)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_an_event_continues_the_trace_in_which_it_was_appended() {
    let (table, url, mut collector) = (TestTable::create().await, shared_broker_url(), Collector::start().await);
    let mut inbox = Inbox::bound(&url, &unique("events"), "order.#").await.unwrap();
    table
        .store
        .append(&stream("order-1"), NoStream, [traced("Sampled", "01"), traced("Unsampled", "00"), event(3)])
        .await
        .unwrap();
    table.store.append(&stream("permit-1"), NoStream, [traced("Unroutable", "01")]).await.unwrap();
    let arguments = ["run", "--exchange", inbox.exchange(), "--otlp-endpoint", &collector.url];
    let mut relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    relay.logs("permit.Unroutable").await;
    let message = inbox.next().await;
    inbox.receive_distinct(3).await;
    relay.signal(Signal::SIGTERM);
    let stopped = relay.finish().await;
    assert_eq!(stopped.code(), Some(0), "{}", stopped.stderr);

    // The appender's context reaches the consumer unchanged.
    let headers = message.properties.headers().as_ref().unwrap().inner();
    let header = |name: &str| headers.get(name).and_then(AMQPValue::as_long_string).map(ToString::to_string);
    assert_eq!(header("traceparent"), Some(format!("00-{TRACE}-{PARENT}-01")));
    assert_eq!(header("tracestate").as_deref(), Some("vendor=x"));

    let spans = collector.spans(2).await;
    for span in &spans {
        assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
        assert_eq!((span.kind(), span.trace_state.as_str()), (SpanKind::Producer, "vendor=x"));
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
        assert_eq!(text(span, "messaging.system").as_deref(), Some("rabbitmq"));
    }
    let of = |event_type: &str| {
        let key = spans.iter().find(|span| {
            text(span, "messaging.rabbitmq.destination.routing_key").is_some_and(|key| key.ends_with(event_type))
        });
        key.unwrap_or_else(|| panic!("no span of {event_type}: {spans:?}"))
    };
    let sampled = of("order.Sampled");
    assert_eq!(sampled.name, format!("publish {}", inbox.exchange()));
    assert_eq!(
        text(sampled, "messaging.message.id"),
        message.properties.message_id().as_ref().map(ToString::to_string)
    );
    assert_eq!(
        (text(sampled, "streambox.stream_id").as_deref(), text(sampled, "streambox.version").as_deref()),
        (Some("order-1"), Some("1"))
    );
    let refused = of("permit.Unroutable").status.as_ref().unwrap();
    assert!(refused.code() == StatusCode::Error && refused.message.contains("no queue takes"), "{refused:?}");
    assert!(!spans.iter().any(|span| text(span, "streambox.version").as_deref() == Some("2")), "not sampled: no span");
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_go_over_https_to_a_collector_that_a_trusted_authority_vouches_for() {
    let (table, url, mut collector) = (TestTable::create().await, shared_broker_url(), Collector::start().await);
    let (authority, stranger) = (Authority::new("trusted"), Authority::new("stranger"));
    let front = TlsFront::start(&authority.issue("localhost", 2100), collector.url.trim_start_matches("http://")).await;
    let endpoint = format!("https://localhost:{}", front.port());
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    table.store.append(&stream("order-1"), NoStream, [traced("Sampled", "01")]).await.unwrap();
    // One relay after the other publishes an event: the first trusts nobody that the collector knows.
    for trusted in [&stranger, &authority] {
        let more = traced("Sampled", "01");
        table.store.append(&stream("order-2"), Any, [more]).await.unwrap();
        let arguments = ["drain", "--exchange", inbox.exchange(), "--otlp-endpoint", &endpoint];
        let trust = [("SSL_CERT_FILE", trusted.certificate().as_os_str())];
        let drained = run_with("streambox-relay", Some(&table), Some(&url), &trust, arguments).await;
        assert_eq!(drained.code(), Some(0), "{}", drained.stderr);
    }
    assert_eq!(inbox.receive_rest().await.unwrap().distinct(), 3);
    let spans = collector.spans(1).await;
    assert_eq!(
        (spans.len(), text(&spans[0], "streambox.stream_id"), text(&spans[0], "streambox.version")),
        (1, Some("order-2".to_owned()), Some("2".to_owned())),
        "of the relay that trusts the collector's authority alone"
    );
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_holds_up_nothing_and_what_it_misses_is_counted_and_told_once() {
    const SPANS: usize = 40;
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    for number in 0..SPANS {
        let event = traced("Sampled", "01");
        table.store.append(&stream(&format!("order-{number}")), NoStream, [event]).await.unwrap();
    }
    let away = "http://127.0.0.1:1";
    let arguments = ["run", "--exchange", inbox.exchange(), "--otlp-endpoint", away, "--log-format", "json"];
    // The queue has less room than there are spans, and each export takes some of them.
    let small = ["OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY"];
    let small: Vec<_> = small.into_iter().zip(["16", "4", "10"].map(OsStr::new)).collect();
    let mut relay = Process::start_with("streambox-relay", Some(&table), Some(&url), &small, arguments);
    let line = relay.log_line("status page at http://").await;
    let log: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let address = log["address"].as_str().expect("the address").to_owned();
    inbox.receive_distinct(SPANS as u64).await;
    let lost = format!("streambox_relay_spans_lost_total {SPANS}\n");
    let all_lost = async { while !without_table(&ask(&address, "GET", "/metrics").await.body).contains(&lost) {} };
    timeout(PATIENCE, all_lost).await.expect("every span is counted as lost");
    relay.signal(Signal::SIGTERM);
    let stopped = relay.finish().await;
    assert_eq!(stopped.code(), Some(0), "{}", stopped.stderr);
    assert_eq!(stopped.stderr.matches("spans are lost").count(), 1, "{}", stopped.stderr);
    assert!(stopped.stderr.contains(&format!("\"spans\":{SPANS}")), "{}", stopped.stderr);
    inbox.close().await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_is_bad_configuration() {
    for endpoint in ["ftp://collector", "localhost:4318", "no url", "", "http://u:hunter2@collector", "u:hunter2@h"] {
        let arguments = ["run", "--table", "none", "--otlp-endpoint", endpoint];
        let ended = run("streambox-relay", None, Some("amqp://127.0.0.1"), arguments).await;
        assert_eq!(ended.code(), Some(78), "{endpoint:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("--otlp-endpoint (STREAMBOX_OTLP_ENDPOINT)"), "{}", ended.stderr);
        assert!(ended.stderr.contains("allowed is a URL such as"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
}
