//! `streambox-relay replay`: events of the past, published once more.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use streambox::{EventStore, Uuid};
use streambox_programs::{Failure, replace_file, stop_signal};
use streambox_relay::{
    Chain,
    config::{BadConfiguration, Format, ReplayOptions},
    replay::{Position, ReplayError, ReplaySettings, Replayed, replay},
};

use crate::output::{print_json, print_line};

/// From one line of the log about the progress to the next.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Returns whether the replay has come to its end.
pub(crate) async fn run(store: &EventStore, options: &ReplayOptions) -> Result<bool, Failure> {
    let mut settings = options.settings()?;
    let position = begin(store.table(), options, &settings)?;
    settings.broker.form.replay = Some(position.replay.clone());
    if position.is_done {
        tracing::info!(replay = position.replay, "the replay was done before");
    } else {
        tracing::info!(replay = position.replay, of = %settings.of, published = position.published, "the replay begins");
    }
    let stop = stop_signal()?;
    let mut last = position.clone();
    let mut reported = Instant::now();
    let keep = |position: &Position| {
        last = position.clone();
        if reported.elapsed() >= PROGRESS_INTERVAL {
            reported = Instant::now();
            tracing::info!(published = last.published, left_out = last.left_out, "the replay continues");
        }
        options.state.as_deref().map_or(Ok(()), |file| write(file, position))
    };
    let replayed = match replay(store, settings, position, stop, keep).await {
        Ok(replayed) => replayed,
        Err(error) => {
            let way = way_on(options.state.as_deref());
            let message = format!("{}; {} events were published{way}", Chain(&error), last.confirmed());
            return Err(match error {
                ReplayError::Store(error @ streambox::Error::Configuration { .. }) => Failure::from(error),
                ReplayError::Broker(refusal) => Failure::configuration(&refusal),
                _ => Failure::new(message),
            });
        }
    };
    print(&replayed, options);
    Ok(replayed.done)
}

/// The position in the state file, or the beginning.
fn begin(table: &str, options: &ReplayOptions, settings: &ReplaySettings) -> Result<Position, Failure> {
    let id = options.id.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
    let beginning = Position::beginning(table, settings, id);
    let Some(file) = &options.state else { return Ok(beginning) };
    let refuse = |why: String| BadConfiguration::new("--state", file.display().to_string(), why);
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Better now than after the first events.
            write(file, &beginning).map_err(|error| refuse(format!("it can't be written: {error}")))?;
            return Ok(beginning);
        }
        Err(error) => return Err(refuse(format!("it can't be read: {error}")).into()),
    };
    let advice = "choose another file for another replay";
    let position: Position = text.trim_end().parse().map_err(|why| refuse(format!("{why}; {advice}")))?;
    position.check_for(&beginning).map_err(|why| refuse(format!("{why}; {advice}")))?;
    if let Some(id) = options.id.as_ref().filter(|id| **id != position.replay) {
        return Err(refuse(format!("it is of the replay {}, --id is {id}; {advice}", position.replay)).into());
    }
    Ok(position)
}

fn write(file: &Path, position: &Position) -> io::Result<()> {
    replace_file(file, format!("{position}\n").as_bytes())
}

fn way_on(state: Option<&Path>) -> String {
    match state {
        Some(file) => format!("; the same command resumes from {}", file.display()),
        None => "; with --state it could resume from here".to_owned(),
    }
}

fn print(replayed: &Replayed, options: &ReplayOptions) {
    match options.common.format {
        Format::Json => print_json(replayed),
        Format::Text => {
            let Replayed { replay, published, repeats, left_out, seconds, .. } = replayed;
            let end = match way_on(options.state.as_deref()) {
                _ if replayed.done => String::new(),
                way if *repeats == 0 => way,
                way => format!("{way}, and publishes {repeats} of these once more"),
            };
            print_line(&format!(
                "replay {replay}: published {published} events, left out {left_out}, in {seconds:.1} s{end}"
            ));
        }
    }
}
