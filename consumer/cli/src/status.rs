//! `streambox-consumer status`: how far a consumer is behind, what is parked, what was skipped.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use streambox::EventStore;
use streambox_consumer::{Inbox, Lag, ParkedStream, ParkedStreams, Skip, StreamLag};
use streambox_programs::{Failure, Format, count, iso_8601, now_ms, print, text::one_line};

use crate::{cli::StatusOptions, operator::skip_value};

/// How many of the newest skips are shown.
const SKIPS: u16 = 10;

/// What is shown.
struct Status {
    current_generation: u32,
    /// None without the events table.
    lag: Option<Lag>,
    parked: ParkedStreams,
    parked_streams: u64,
    skips: Vec<Skip>,
}

pub(crate) async fn run(
    inbox: &Inbox,
    store: Option<&EventStore>,
    options: &StatusOptions,
    format: Format,
) -> Result<(), Failure> {
    let categories: BTreeSet<_> = options.categories.iter().cloned().collect();
    let lag = match store {
        Some(store) => Some(inbox.lag(store, &categories, usize::from(options.most)).await?),
        None => None,
    };
    let status = Status {
        current_generation: inbox.current_generation().await?,
        lag,
        parked: inbox.parked(options.most).await?,
        parked_streams: inbox.count_parked().await?,
        skips: inbox.skips(SKIPS).await?,
    };
    let lines = match format {
        Format::Json => vec![value(inbox, &status).to_string()],
        Format::Text => text(inbox, &status).iter().map(|line| one_line(line)).collect(),
    };
    print(&lines).map(|_| ())
}

fn text(inbox: &Inbox, status: &Status) -> Vec<String> {
    let generation = inbox.of_generation();
    let current = match status.current_generation {
        current if current == generation => "the current one".to_owned(),
        current => format!("the current one is {current}"),
    };
    let mut lines = vec![format!("consumer {}, generation {generation}: {current}", inbox.consumer())];
    if let Some(lag) = &status.lag {
        lines.push(match lag.oldest_recorded_at_ms {
            None => format!("lag: none, {} applied to the end", count(lag.streams, "stream is", "streams are")),
            Some(oldest_ms) => format!(
                "lag: {} of {} behind, by {} in all; the oldest end that is not reached is of {}",
                lag.streams_behind,
                count(lag.streams, "stream is", "streams are"),
                count(lag.versions_behind, "version", "versions"),
                iso_8601(oldest_ms)
            ),
        });
        if lag.unreadable_streams > 0 {
            let streams = count(lag.unreadable_streams, "stream", "streams");
            lines.push(format!("unreadable: {streams}; `streambox verify` lists all that is wrong"));
        }
        lines.extend(lag.furthest.iter().map(|behind| {
            format!(
                "  {}: at version {}, {} behind version {} of {}",
                behind.stream_id,
                behind.applied_version,
                behind.versions_behind,
                behind.last_public_version,
                iso_8601(behind.last_recorded_at_ms)
            )
        }));
    }
    lines.push(format!("parked: {}", count(status.parked_streams, "stream", "streams")));
    lines.extend(status.parked.streams.iter().map(|parked| {
        format!(
            "  {}: at version {}, since {}, tried {}, next at {}{}: {}",
            parked.stream_id,
            parked.position.version,
            iso_8601(parked.parked_since_ms),
            count(u64::from(parked.attempts), "time", "times"),
            iso_8601(parked.retry_at_ms),
            if parked.retry_at_ms <= now_ms() { " (now)" } else { "" },
            parked.reason
        )
    }));
    if status.parked.has_more {
        lines.push("  and more: a higher --most shows them".to_owned());
    }
    lines.extend(status.skips.iter().map(|skip| {
        format!(
            "skipped: {} of stream {} at {} by {}: {}",
            if skip.first == skip.version {
                format!("version {}", skip.version)
            } else {
                format!("versions {} to {}", skip.first, skip.version)
            },
            skip.stream_id,
            iso_8601(skip.at_ms),
            skip.by,
            skip.reason
        )
    }));
    lines
}

fn value(inbox: &Inbox, status: &Status) -> Value {
    json!({
        "table": inbox.table(),
        "consumer": inbox.consumer(),
        "generation": inbox.of_generation(),
        "current_generation": status.current_generation,
        "taken_at": iso_8601(now_ms()),
        "lag": status.lag.as_ref().map(lag_value),
        "parked_streams": status.parked_streams,
        "parked": status.parked.streams.iter().map(parked_value).collect::<Vec<_>>(),
        "skips": status.skips.iter().map(|skip| skip_value(skip, true)).collect::<Vec<_>>(),
    })
}

fn lag_value(lag: &Lag) -> Value {
    let stream = |behind: &StreamLag| {
        json!({
            "stream": behind.stream_id.as_str(),
            "versions_behind": behind.versions_behind,
            "applied_version": behind.applied_version,
            "last_public_version": behind.last_public_version,
            "last_recorded_at": iso_8601(behind.last_recorded_at_ms),
        })
    };
    json!({
        "streams": lag.streams,
        "streams_behind": lag.streams_behind,
        "versions_behind": lag.versions_behind,
        "oldest_recorded_at": lag.oldest_recorded_at_ms.map(iso_8601),
        "unreadable_streams": lag.unreadable_streams,
        "furthest": lag.furthest.iter().map(stream).collect::<Vec<_>>(),
    })
}

fn parked_value(parked: &ParkedStream) -> Value {
    json!({
        "stream": parked.stream_id.as_str(),
        "applied_version": parked.position.version,
        "latest_version": parked.latest_version,
        "parked_since": iso_8601(parked.parked_since_ms),
        "retry_at": iso_8601(parked.retry_at_ms),
        "attempts": parked.attempts,
        "reason": parked.reason,
    })
}
