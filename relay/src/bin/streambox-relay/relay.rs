//! `streambox-relay run` and `drain`.

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use streambox_programs::{Failure, SOFTWARE, stop_signal};
use streambox_relay::{
    Chain, RelaySettings, RunSummary, Telemetry, Until,
    config::{BadConfiguration, Format, RelayOptions, RunOptions},
    emf::{self, Emf},
    http::{self, Show as _, Watch},
    lines::Lines,
    metrics::{Losses, Metrics},
    run_observed,
    telemetry::Observer,
    text::one_line,
    view::About,
};
use tokio::{
    net::TcpListener,
    task::{JoinError, JoinSet},
};

use crate::{
    logs::Log,
    output::{json, print_line},
    store,
    traces::Traces,
};

pub(crate) async fn run(options: &RunOptions, log: &Log) -> Result<bool, Failure> {
    let settings = options.settings()?;
    let emf = options.emf.settings()?;
    let lines = Lines::to("standard output", io::stdout(), emf::WAITING_LINES)
        .map_err(|error| Failure::new(format!("a thread can't be started: {error}")))?;
    let traces = Traces::start(&options.relay)?;
    let losses = Losses { log_lines: log.dropped(), spans: traces.lost() };
    let metrics = Arc::new(Metrics::new(losses));
    let emf = emf.map(|settings| Arc::new(Emf::new(settings, Arc::clone(&metrics))));
    let mut observers: Vec<Arc<dyn Observer>> = vec![Arc::clone(&metrics) as _];
    observers.extend(traces.observer());
    let telemetry = Telemetry::new(observers);
    let watch = Arc::new(Watch::new(about(&options.relay, &settings), telemetry.clone(), metrics));
    // The status page and the metrics, as long as the relay runs.
    let mut beside = JoinSet::new();
    if let Some(address) = options.http.address()? {
        let (listener, shown) = (listen(address).await?, Arc::clone(&watch));
        beside.spawn(http::serve(listener, Arc::clone(&shown)));
        beside.spawn(async move { shown.keep_history().await });
    }
    if let Some(emf) = emf.clone() {
        let (shown, lines) = (Arc::clone(&watch), lines.clone());
        beside.spawn(async move { emf.keep_writing(|| shown.view(), &lines).await });
    }
    let stop = stop_signal()?;
    let stop = async {
        stop.await;
        watch.stopping();
    };
    let published = tokio::select! {
        published = publish(&options.relay, settings, &telemetry, Until::Stopped, stop) => published,
        Some(ended) = beside.join_next() => Err(cannot_show(&ended)),
    };
    beside.abort_all();
    traces.shut_down().await;
    let report = published?;
    let last = emf.map(|emf| emf.last_line(&watch.view()));
    // A reader that does not read does not keep the relay from ending.
    lines.finish(last.into_iter().chain([shown(&report, options.relay.common.format)])).await;
    Ok(true)
}

/// The status page or the metrics have ended unexpectedly.
fn cannot_show(ended: &Result<(), JoinError>) -> Failure {
    let how = ended.as_ref().err().map_or_else(|| "it ended".to_owned(), ToString::to_string);
    Failure::with_code(SOFTWARE, format!("the status page or the metrics (--http, --emf-namespace) have failed: {how}"))
}

/// Returns whether nothing is pending any more.
pub(crate) async fn drain(options: &RelayOptions) -> Result<bool, Failure> {
    let (settings, stop) = (options.settings()?, stop_signal()?);
    let traces = Traces::start(options)?;
    let telemetry = Telemetry::new(traces.observer().into_iter().collect());
    let published = publish(options, settings, &telemetry, Until::Drained, stop).await;
    traces.shut_down().await;
    let report = published?;
    print_line(&shown(&report, options.common.format));
    Ok(report.drained)
}

fn about(options: &RelayOptions, settings: &RelaySettings) -> About {
    About {
        table: options.common.table.clone(),
        exchange: options.broker.exchange.clone(),
        worker: settings.group.as_ref().map(|group| group.id.to_string()),
        poll_interval: settings.poll_interval,
        longest_delay: settings.bounds.longest_delay,
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let why = format!("{}; choose another port, or `off`", Chain(&error));
        BadConfiguration::new("--http (STREAMBOX_HTTP)", address.to_string(), why)
    })?;
    let local = listener.local_addr().map_or_else(|_| address.to_string(), |address| address.to_string());
    tracing::info!(address = local, "status page at http://{local}/");
    Ok(listener)
}

async fn publish(
    options: &RelayOptions,
    settings: RelaySettings,
    telemetry: &Telemetry,
    until: Until,
    stop: impl Future<Output = ()>,
) -> Result<RunSummary, Failure> {
    let store = store(&options.common).await;
    tracing::info!(table = options.common.table, exchange = options.broker.exchange, "the relay starts");
    Ok(run_observed(&store, settings, telemetry, until, stop).await?)
}

fn shown(report: &RunSummary, format: Format) -> String {
    match format {
        Format::Json => json(report),
        Format::Text => summary(report),
    }
}

fn summary(report: &RunSummary) -> String {
    let mut lines = vec![format!(
        "published {} events, deleted {} pending entries in {:.1} s ({:.0} events/s until the last confirm); {}",
        report.published,
        report.entries_deleted,
        report.seconds,
        report.events_per_second,
        if report.drained { "nothing is pending" } else { "entries may be pending" },
    )];
    lines.extend(report.halted.iter().map(|(stream, reason)| one_line(&format!("halted: stream {stream}, {reason}"))));
    lines.join("\n")
}
