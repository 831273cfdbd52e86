//! `streambox-consumer retry` and `skip`: an operator's word.

use serde_json::json;
use streambox::{EventStore, StreamId};
use streambox_consumer::{Inbox, Skip, SkipRequest, Skipping};
use streambox_programs::{Failure, Format, iso_8601, print_done, user_at_host};

use crate::cli::SkipOptions;

pub(crate) async fn retry(inbox: &Inbox, stream: &StreamId, format: Format) -> Result<(), Failure> {
    if !inbox.retry(stream).await? {
        return Err(Failure::new(format!(
            "stream {stream} is not parked by {} in generation {}",
            inbox.consumer(),
            inbox.of_generation()
        )));
    }
    let done = format!("stream {stream} is tried next");
    print_done(format, &json!({ "stream": stream.as_str(), "retried": true }), &done)
}

pub(crate) async fn skip(
    inbox: &Inbox,
    store: Option<&EventStore>,
    options: &SkipOptions,
    format: Format,
) -> Result<(), Failure> {
    let (stream, version) = (&options.stream, options.version);
    let by = options.by.clone().unwrap_or_else(user_at_host);
    let request = SkipRequest::new(stream, version, by, &options.reason);
    match inbox.skip(&request, store).await? {
        Skipping::Done(skip) => print_skip(&skip, false, format),
        Skipping::DoneBefore(skip) => print_skip(&skip, true, format),
        Skipping::Applied(position) => Err(Failure::new(format!(
            "version {version} of stream {stream} is applied: the stream is at version {}",
            position.version
        ))),
        Skipping::NotNext { position, next } => {
            let next = next.map_or_else(
                || "nothing public comes behind it".to_owned(),
                |next| format!("version {next} comes next, and only that can be skipped"),
            );
            Err(Failure::new(format!("stream {stream} is at version {}: {next}", position.version)))
        }
        _ => Err(Failure::new("this program does not know the answer of the inbox; use programs of one version")),
    }
}

fn print_skip(skip: &Skip, skipped_before: bool, format: Format) -> Result<(), Failure> {
    let done = format!(
        "{}: stream {}, {} at {} by {}: {}",
        if skipped_before { "skipped before" } else { "skipped" },
        skip.stream_id,
        if skip.first == skip.version {
            format!("version {}", skip.version)
        } else {
            format!("versions {} to {}", skip.first, skip.version)
        },
        iso_8601(skip.at_ms),
        skip.by,
        skip.reason
    );
    print_done(format, &skip_value(skip, skipped_before), &done)
}

pub(crate) fn skip_value(skip: &Skip, skipped_before: bool) -> serde_json::Value {
    json!({
        "stream": skip.stream_id.as_str(),
        "first_version": skip.first,
        "version": skip.version,
        "skipped_at": iso_8601(skip.at_ms),
        "by": skip.by,
        "reason": skip.reason,
        "skipped_before": skipped_before,
    })
}
