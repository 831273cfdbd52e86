//! `streambox-relay skip`: an operator's word that an entry is not to be published.

use serde::Serialize;
use streambox::{
    EventStore,
    outbox::{Skip, Skipping},
};
use streambox_relay::{
    config::{Format, SkipOptions},
    text::{iso_8601, one_line},
};

use crate::failure::{Failure, print_json, print_line};

/// Returns whether the entry is skipped.
pub(crate) async fn run(store: &EventStore, options: &SkipOptions) -> Result<bool, Failure> {
    let by = options.by.clone().unwrap_or_else(user_at_host);
    let skipping = store.outbox().skip(&options.stream, options.version, &by, &options.reason).await?;
    match &skipping {
        Skipping::Done(skip) => {
            tracing::warn!(stream = %skip.stream_id, first = skip.first, last = skip.last, by, reason = skip.reason,
                "a pending entry is skipped");
            print(skip, false, options.format);
            Ok(true)
        }
        Skipping::DoneBefore(skip) => {
            print(skip, true, options.format);
            Ok(true)
        }
        Skipping::NotFirst { first: (first, last) } => Err(Failure::new(format!(
            "an earlier entry of stream {} is pending, {}: only the first can be skipped",
            options.stream,
            versions(*first, *last),
        ))),
        Skipping::NotPending { pending, has_more } => {
            Err(Failure::new(not_pending(&options.stream.to_string(), options.version, pending, *has_more)))
        }
        _ => Err(Failure::new("the store has answered what this program does not know; use programs of one version")),
    }
}

fn user_at_host() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
    format!("{}@{}", user.as_deref().unwrap_or("unknown"), host.as_deref().unwrap_or("unknown"))
}

#[derive(Serialize)]
struct Printed<'a> {
    stream: &'a str,
    first_version: u64,
    last_version: Option<u64>,
    skipped_at: String,
    by: &'a str,
    reason: &'a str,
    skipped_before: bool,
}

fn print(skip: &Skip, skipped_before: bool, format: Format) {
    let printed = Printed {
        stream: skip.stream_id.as_str(),
        first_version: skip.first,
        last_version: skip.last,
        skipped_at: iso_8601(skip.at_ms),
        by: &skip.by,
        reason: &skip.reason,
        skipped_before,
    };
    match format {
        Format::Json => print_json(&printed),
        Format::Text => print_line(&one_line(&format!(
            "{}: stream {}, {} at {} by {}: {}",
            if skipped_before { "skipped before" } else { "skipped" },
            printed.stream,
            versions(skip.first, skip.last),
            printed.skipped_at,
            skip.by,
            skip.reason,
        ))),
    }
}

fn versions(first: u64, last: Option<u64>) -> String {
    match last {
        Some(last) if last == first => format!("version {first}"),
        Some(last) => format!("versions {first} to {last}"),
        None => format!("version {first} and an unknown number behind it"),
    }
}

fn not_pending(stream: &str, version: u64, pending: &[(u64, Option<u64>)], has_more: bool) -> String {
    let entries: Vec<_> = pending.iter().map(|(first, last)| versions(*first, *last)).collect();
    let there = match (entries.as_slice(), has_more) {
        ([], _) => "nothing of the stream is".to_owned(),
        (entries, false) => format!("these are: {}", entries.join("; ")),
        (entries, true) => format!("these are, and more behind them: {}", entries.join("; ")),
    };
    format!("version {version} of stream {stream} is not pending; {there}")
}
