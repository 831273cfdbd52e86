//! Traces: the publishing of each event as a span that continues the trace in which the event was appended, exported to an
//! OpenTelemetry collector over OTLP/HTTP.
//!
//! An event whose metadata carry a sampled `traceparent` gets a span of kind *producer* with that context as its parent:
//! from the moment its batch was handed over to its last confirm, once for each attempt. Events without one get none, and
//! cost nothing.
//!
//! The message itself carries the appender's context on, unchanged, whether spans are exported or not: in the words of
//! OpenTelemetry's conventions for messaging, it is the *creation context*, and the relay an intermediary. So a repeat of a
//! message is the same message, and a consumer's span stands beside the relay's under the append that caused both.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanData},
};
use rustls::{ClientConfig, RootCertStore};
use streambox::Metadata;

use crate::{
    core::{Outcome, Outgoing},
    telemetry::Observer,
};

/// The longest that one export may take. Spans that can't be exported are dropped: they never hold up the relay.
pub const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest to wait for the last export when the relay stops.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

const SERVICE: &str = "streambox-relay";

/// Spans that wait to be exported, unless the SDK's own variable `OTEL_BSP_MAX_QUEUE_SIZE` says another number.
pub const WAITING_SPANS: usize = 2_048;

/// Writes the spans. As an [`Observer`] it is called by the relay's own task: a span goes to a bounded queue, whose exporter has
/// a thread of its own. A span that finds no room there, or that the collector does not take, is lost and counted.
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
    exchange: String,
    flow: Arc<Flow>,
}

impl Traces {
    /// Exports to `endpoint`, for example `http://127.0.0.1:4318`; behind `https://` to a collector whose certificate one of the
    /// system's authorities has signed (or one in the file that `SSL_CERT_FILE` names). The SDK's own variables
    /// (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_…`) work as everywhere.
    ///
    /// # Errors
    /// Why no exporter can be made of it, for people: it is not such a URL, or there are no authorities to trust.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start(endpoint: &str, exchange: &str) -> Result<Self, String> {
        let is_https = check(endpoint)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Carrier::new(is_https)?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| error.to_string())?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_attribute(version);
        let resource = match std::env::var_os("OTEL_SERVICE_NAME") {
            Some(_) => resource.build(),
            None => resource.with_service_name(SERVICE).build(),
        };
        let room = std::env::var("OTEL_BSP_MAX_QUEUE_SIZE").ok().and_then(|number| number.trim().parse().ok());
        let flow = Arc::new(Flow::with_room(room.unwrap_or(WAITING_SPANS)));
        let config = BatchConfigBuilder::default().with_max_queue_size(flow.room).build();
        let exporter = Counted { exporter, flow: Arc::clone(&flow) };
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(config).build())
            // The service that began the trace has decided.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)))
            .with_resource(resource)
            .build();
        let tracer = provider.tracer(SERVICE);
        Ok(Self { provider, tracer, propagator: TraceContextPropagator::new(), exchange: exchange.to_owned(), flow })
    }

    /// How many spans were lost, since the start.
    #[must_use]
    pub fn lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.flow.lost)
    }

    /// Exports what is left, within [`SHUTDOWN_TIMEOUT`].
    pub async fn shut_down(&self) {
        let provider = self.provider.clone();
        let done =
            tokio::task::spawn_blocking(move || -> OTelSdkResult { provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT) });
        if let Ok(Err(error)) = done.await {
            self.flow.lose(self.flow.waiting.swap(0, Relaxed), &error);
        }
        let spans = self.flow.lost.load(Relaxed);
        if spans > 0 {
            tracing::warn!(spans, "spans were lost: the collector did not take them");
        }
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").finish_non_exhaustive()
    }
}

impl Observer for Traces {
    fn event_published(&self, outgoing: &Outgoing, outcome: &Outcome, took: Duration) {
        let event = &outgoing.event;
        let Some(parent) = event.metadata.text(Metadata::TRACEPARENT) else { return };
        let headers = Headers { parent, state: event.metadata.text(Metadata::TRACESTATE) };
        let parent = self.propagator.extract_with_context(&Context::new(), &headers);
        if !parent.span().span_context().is_sampled() {
            return;
        }
        if !self.flow.enter() {
            self.flow.lose(1, &"the collector does not take them fast enough");
            return;
        }
        let ended = SystemTime::now();
        let routing_key = format!("{}.{}", outgoing.stream.category(), event.event_type);
        let mut span = self
            .tracer
            .span_builder(format!("publish {}", self.exchange))
            .with_kind(SpanKind::Producer)
            .with_start_time(ended - took)
            .with_attributes([
                KeyValue::new("messaging.system", "rabbitmq"),
                KeyValue::new("messaging.operation.name", "publish"),
                KeyValue::new("messaging.operation.type", "send"),
                KeyValue::new("messaging.destination.name", self.exchange.clone()),
                KeyValue::new("messaging.rabbitmq.destination.routing_key", routing_key),
                KeyValue::new("messaging.message.id", event.event_id.to_string()),
                KeyValue::new("messaging.message.body.size", size(event.payload.len())),
                KeyValue::new("streambox.stream_id", outgoing.stream.to_string()),
                KeyValue::new("streambox.version", size(event.version)),
            ])
            .start_with_context(&self.tracer, &parent);
        match outcome {
            Outcome::Confirmed => {}
            Outcome::Refused(reason) | Outcome::Poison(reason) | Outcome::Suspect(reason) => {
                span.set_status(Status::error(reason.clone()));
            }
            Outcome::Unknown => span.set_status(Status::error("the connection broke: it is published again")),
        }
        span.end_with_timestamp(ended);
    }
}

/// Spans on their way to the collector. What finds no room is not handed over, so that the SDK's own queue, which has as much
/// room, never drops one unseen.
#[derive(Debug)]
struct Flow {
    room: usize,
    waiting: AtomicUsize,
    lost: Arc<AtomicU64>,
    /// Whether that spans are lost was logged, and is still so.
    is_losing: AtomicBool,
}

impl Flow {
    fn with_room(room: usize) -> Self {
        Self {
            room: room.max(1),
            waiting: AtomicUsize::new(0),
            lost: Arc::default(),
            is_losing: AtomicBool::new(false),
        }
    }

    /// Takes room for a span, if there is some.
    fn enter(&self) -> bool {
        self.waiting.fetch_update(Relaxed, Relaxed, |waiting| (waiting < self.room).then_some(waiting + 1)).is_ok()
    }

    /// Gives the room of spans back that were exported, or lost.
    fn leave(&self, count: usize) {
        let _ = self.waiting.fetch_update(Relaxed, Relaxed, |waiting| Some(waiting.saturating_sub(count)));
    }

    /// Counts, and logs it once.
    fn lose(&self, count: usize, why: &dyn fmt::Display) {
        self.lost.fetch_add(count as u64, Relaxed);
        if !self.is_losing.swap(true, Relaxed) {
            tracing::warn!(%why, "spans are lost; they are counted in streambox_relay_spans_lost_total");
        }
    }

    fn exported(&self) {
        // Where there is hardly room the next ones are lost again.
        if self.waiting.load(Relaxed) <= self.room / 2 && self.is_losing.swap(false, Relaxed) {
            tracing::info!(lost = self.lost.load(Relaxed), "spans are exported again");
        }
    }
}

/// The exporter, and what comes of each batch.
#[derive(Debug)]
struct Counted {
    exporter: SpanExporter,
    flow: Arc<Flow>,
}

impl opentelemetry_sdk::trace::SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let exported = self.exporter.export(batch).await;
        self.flow.leave(count);
        match &exported {
            Ok(()) => self.flow.exported(),
            Err(error) => self.flow.lose(count, error),
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

fn size(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// The appender's trace context, from an event's metadata.
struct Headers<'a> {
    parent: Cow<'a, str>,
    state: Option<Cow<'a, str>>,
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            Metadata::TRACEPARENT => Some(&self.parent),
            Metadata::TRACESTATE => self.state.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![Metadata::TRACEPARENT, Metadata::TRACESTATE]
    }
}

/// Whether TLS is needed.
fn check(endpoint: &str) -> Result<bool, String> {
    let url: hyper::Uri = endpoint.parse().map_err(|_| "it is not a URL".to_owned())?;
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("user and password don't belong there: credentials go to OTEL_EXPORTER_OTLP_HEADERS".to_owned());
    }
    match url.scheme_str() {
        Some("http") => Ok(false),
        Some("https") => Ok(true),
        _ => Err("it begins neither with http:// nor with https://".to_owned()),
    }
}

/// Carries exports with the HTTP client that is there already. The exporter's thread is outside of the runtime, so the request
/// is made inside of it.
#[derive(Clone, Debug)]
struct Carrier {
    runtime: tokio::runtime::Handle,
    client: Client<HttpsConnector<HttpConnector>, http_body_util::Full<Bytes>>,
}

impl Carrier {
    fn new(is_https: bool) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if is_https && roots.is_empty() {
            return Err("the system has no certificates of authorities to trust: install its package ca-certificates, or name a \
                        file of them in SSL_CERT_FILE"
                .to_owned());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { runtime: tokio::runtime::Handle::current(), client })
    }
}

#[async_trait::async_trait]
impl HttpClient for Carrier {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        use http_body_util::BodyExt as _;

        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            tokio::time::timeout(EXPORT_TIMEOUT, async move {
                let (head, body) = client.request(request.map(http_body_util::Full::new)).await?.into_parts();
                let body = body.collect().await?.to_bytes();
                Ok::<_, HttpError>(Response::from_parts(head, body))
            })
            .await?
        });
        sent.await?
    }
}
