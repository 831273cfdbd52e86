//! `streambox append`: one event.

use std::{
    fs::File,
    io::{self, Read},
};

use serde_json::json;
use streambox::{
    Error, EventStore, ExpectedVersion, Metadata, NewEvent, StreamId, Uuid, limits::MAX_TRANSACTION_BYTES,
};
use streambox_programs::{Failure, iso_8601};

use crate::{
    cli::{AppendOptions, Format},
    line::BYTE_ORDER_MARK,
    output::print_done,
};

pub(crate) async fn run(store: &EventStore, options: &AppendOptions, format: Format) -> Result<(), Failure> {
    let stream = StreamId::new(&options.stream)?;
    let mut event = NewEvent::from_json_text(&options.event_type, data(&options.data)?.trim())?;
    if let Some(metadata) = &options.metadata {
        event = event.with_metadata(Metadata::from_json_text(metadata)?);
    }
    if options.private {
        event = event.private();
    }
    event.check_for(&stream)?;
    let append_id = options.append_id.unwrap_or_else(Uuid::new_v4);
    let appended = match store.append_with_id(append_id, &stream, options.expect.clone(), [event]).await {
        Ok(appended) => appended,
        Err(error) => return Err(failure(error, append_id, options)),
    };
    let event_id = appended.event_ids().next().expect("an append has an event");
    let (version, recorded_at, units) =
        (appended.first_version, iso_8601(appended.recorded_at_ms), appended.write_units);
    let ids = format!("event id {event_id}, append id {append_id}");
    let done = if appended.already_stored {
        format!("{stream} version {version} was stored before, at {recorded_at}: {ids}")
    } else {
        format!("{stream} version {version} stored at {recorded_at}: {ids} ({units} write units)")
    };
    let stored = json!({
        "stream": stream.as_str(),
        "version": version,
        "type": options.event_type,
        "event_id": event_id.to_string(),
        "append_id": append_id.to_string(),
        "recorded_at": recorded_at,
        "already_stored": appended.already_stored,
        "write_units": units,
    });
    print_done(format, &stored, &done)
}

fn failure(error: Error, append_id: Uuid, options: &AppendOptions) -> Failure {
    let advice = match &error {
        Error::Conflict(conflict) => format!(
            ". Nothing was stored: read {} and decide again, or --expect {}",
            conflict.current.stream(),
            match conflict.current.version() {
                0 => "none".to_owned(),
                version => version.to_string(),
            }
        ),
        // At its end an append is recognised only as long as it is the newest.
        Error::Unavailable { outcome_unknown: true, .. }
            if matches!(options.expect, ExpectedVersion::Any | ExpectedVersion::StreamExists) =>
        {
            format!(
                " (--append-id {append_id}), unless another event has been appended behind it meanwhile: `streambox read {} \
             --backward --limit 1` shows the newest",
                options.stream
            )
        }
        Error::Unavailable { outcome_unknown: true, .. } => format!(" (--append-id {append_id})"),
        _ => String::new(),
    };
    Failure::from(error).followed_by(&advice)
}

/// The payload's text, from the source that the option names.
fn data(option: &str) -> Result<String, Failure> {
    let (name, input): (_, Box<dyn Read>) = match option.strip_prefix('@') {
        Some(path) => {
            let file = File::open(path).map_err(|error| Failure::new(format!("{path} can't be opened: {error}")))?;
            (path, Box::new(file))
        }
        None if option == "-" => ("standard input", Box::new(io::stdin())),
        None => return Ok(option.to_owned()),
    };
    let mut text = String::new();
    // One byte more than can be stored: what is too long is refused, and not held in memory.
    match input.take(MAX_TRANSACTION_BYTES as u64 + 1).read_to_string(&mut text) {
        Ok(bytes) if bytes > MAX_TRANSACTION_BYTES => {
            Err(Failure::new(format!("{name} is too long: a payload has less than {MAX_TRANSACTION_BYTES} bytes")))
        }
        Ok(_) if text.starts_with(BYTE_ORDER_MARK) => Err(Failure::new(format!(
            "{name} begins with a byte order mark, which JSON does not have: save it without"
        ))),
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::new(format!("{name} can't be read: {error}"))),
    }
}
