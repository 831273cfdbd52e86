//! `streambox-relay skip`: an operator's word that an entry is not to be published.

use serde::Serialize;
use streambox::{
    EventStore,
    outbox::{Skip, SkipRequest, SkipTarget, Skipping},
};
use streambox_programs::{Failure, user_at_host};
use streambox_relay::{
    config::{Format, SkipOptions},
    text::{iso_8601, one_line},
};

use crate::output::{print_json, print_line};

/// Returns whether the entry is skipped.
pub(crate) async fn run(store: &EventStore, options: &SkipOptions) -> Result<bool, Failure> {
    let by = options.by.clone().unwrap_or_else(user_at_host);
    let target = options.target.clone();
    let request = SkipRequest::new(&options.stream, target, &by, &options.reason);
    let request = if options.give_up_previous { request.giving_up_previous() } else { request };
    let skipping = store.outbox().skip(&request).await?;
    match &skipping {
        Skipping::Done(skip) => {
            tracing::warn!(stream = %skip.stream_id, first = skip.first, last = skip.last, key = skip.key,
                gave_up_previous = skip.gave_up_previous, by, reason = skip.reason, "a pending entry is skipped");
            print(skip, false, options.common.format);
            Ok(true)
        }
        Skipping::DoneBefore(skip) => {
            print(skip, true, options.common.format);
            Ok(true)
        }
        Skipping::NotFirst { first: (first, last) } => Err(Failure::new(format!(
            "an earlier entry of stream {} is pending, {}: only the first can be skipped",
            options.stream,
            versions(*first, *last),
        ))),
        Skipping::PreviousMissing { entry: (first, last), previous } => Err(Failure::new(format!(
            "stream {}: the entry of {} is not skipped, because the append before it is missing. Its last public version is {previous}, \
             and neither that event nor its pending entry is in the table: somebody has deleted it, and it is unknown whether its \
             events were published. To give it up together with this entry, repeat the command with --give-up-previous; that is \
             recorded, too",
            options.stream,
            versions(*first, *last),
        ))),
        Skipping::NotPending { pending, has_more } => {
            Err(Failure::new(not_pending(&options.stream, &options.target, pending, *has_more)))
        }
        _ => Err(Failure::new("this program does not know the answer of the store; use programs of one version")),
    }
}

#[derive(Serialize)]
struct Printed<'a> {
    stream: &'a str,
    first_version: Option<u64>,
    last_version: u64,
    key: Option<&'a str>,
    gave_up_previous: Option<u64>,
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
        key: skip.key.as_deref(),
        gave_up_previous: skip.gave_up_previous,
        skipped_at: iso_8601(skip.at_ms),
        by: &skip.by,
        reason: &skip.reason,
        skipped_before,
    };
    match format {
        Format::Json => print_json(&printed),
        Format::Text => print_line(&one_line(&format!(
            "{}: stream {}, {}{} at {} by {}: {}",
            if skipped_before { "skipped before" } else { "skipped" },
            printed.stream,
            skip.key.clone().unwrap_or_else(|| versions(skip.first, skip.last)),
            skip.gave_up_previous
                .map_or_else(String::new, |last| format!(", given up what was before, up to version {last}")),
            printed.skipped_at,
            skip.by,
            skip.reason,
        ))),
    }
}

fn versions(first: Option<u64>, last: u64) -> String {
    match first {
        Some(first) if first == last => format!("version {last}"),
        Some(first) => format!("versions {first} to {last}"),
        None => format!("version {last} and an unknown number before it"),
    }
}

fn not_pending(stream: &str, target: &SkipTarget, pending: &[(Option<u64>, u64)], has_more: bool) -> String {
    let entries: Vec<_> = pending.iter().map(|(first, last)| versions(*first, *last)).collect();
    let there = match (entries.as_slice(), has_more) {
        ([], _) => "nothing of the stream is".to_owned(),
        (entries, false) => format!("these are: {}", entries.join("; ")),
        (entries, true) => format!("these are, and more behind them: {}", entries.join("; ")),
    };
    let target = match target {
        SkipTarget::Version(version) => format!("version {version}"),
        SkipTarget::Key(key) => format!("the item {key}"),
    };
    format!("{target} of stream {stream} is not pending; {there}")
}
