//! `streambox-relay run` and `drain`.

use std::{future::Future, net::SocketAddr, sync::Arc};

use streambox_relay::{
    Chain, RelaySettings, Report, Telemetry, Until,
    config::{BadConfiguration, Format, RelayOptions, RunOptions},
    http::{self, About, Metrics, Watch},
    run_observed,
};
use tokio::net::TcpListener;

use crate::{
    failure::{Failure, print_json, print_line},
    stop, store,
    traces::Traces,
};

pub(crate) async fn run(options: &RunOptions) -> Result<bool, Failure> {
    let settings = options.settings()?;
    let metrics = Arc::new(Metrics::new());
    let traces = Traces::start(&options.relay)?;
    let telemetry = Telemetry::new(traces.observer_beside(Arc::clone(&metrics) as _));
    let watch = Arc::new(Watch::new(about(&options.relay, &settings), telemetry.clone(), metrics));
    let serving = match options.http.address()? {
        Some(address) => {
            let (listener, shown) = (listen(address).await?, Arc::clone(&watch));
            Some(tokio::spawn(async move {
                tokio::join!(http::serve(listener, Arc::clone(&shown)), shown.keep_history());
            }))
        }
        None => None,
    };
    let stop = stop::signal()?;
    let stop = async move {
        stop.await;
        watch.stopping();
    };
    let published = publish(&options.relay, settings, &telemetry, Until::Stopped, stop).await;
    if let Some(serving) = serving {
        serving.abort();
    }
    traces.shut_down().await;
    published?;
    Ok(true)
}

/// Returns whether nothing is pending any more.
pub(crate) async fn drain(options: &RelayOptions) -> Result<bool, Failure> {
    let (settings, stop) = (options.settings()?, stop::signal()?);
    let traces = Traces::start(options)?;
    let telemetry = traces.observer().map_or_else(Telemetry::default, Telemetry::new);
    let published = publish(options, settings, &telemetry, Until::Drained, stop).await;
    traces.shut_down().await;
    Ok(published?.drained)
}

fn about(options: &RelayOptions, settings: &RelaySettings) -> About {
    About {
        table: options.table.table.clone(),
        exchange: options.broker.exchange.clone(),
        poll_interval: settings.poll_interval,
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = http::bind(address).await.map_err(|error| BadConfiguration {
        setting: "--http (STREAMBOX_HTTP)",
        value: address.to_string(),
        why: format!("{}; choose another port, or `off`", Chain(&error)),
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
) -> Result<Report, Failure> {
    let store = store(&options.table).await;
    tracing::info!(table = options.table.table, exchange = options.broker.exchange, "the relay starts");
    let report = run_observed(&store, settings, telemetry, until, stop).await?;
    match options.format {
        Format::Json => print_json(&report),
        Format::Text => print_line(&summary(&report)),
    }
    Ok(report)
}

fn summary(report: &Report) -> String {
    let mut lines = vec![format!(
        "published {} events, deleted {} pending entries in {:.1} s ({:.0} events/s until the last confirm); {}",
        report.published,
        report.entries_deleted,
        report.seconds,
        report.events_per_second,
        if report.drained { "nothing is pending" } else { "entries may be pending" },
    )];
    lines.extend(report.halted.iter().map(|(stream, reason)| format!("halted: stream {stream}, {reason}")));
    lines.join("\n")
}
