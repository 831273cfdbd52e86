//! `streambox export`: events as lines that `import` takes back.

mod checkpoint;
mod sink;

use std::{
    future::Future,
    path::Path,
    time::{Duration, Instant},
};

use futures_util::TryStreamExt as _;
use indicatif::HumanCount;
use serde::Serialize;
use streambox::{EventScan, EventStore, EventStream, ReadOptions, RecordedEvent, StreamId};

use self::{
    checkpoint::{Checkpoint, Cursor, Selected},
    sink::Sink,
};
use crate::{
    cli::{ExportOptions, Format},
    failure::{FAILED, Failure, exit_code, sentence},
    line,
    output::{print, spinner},
};

/// A checkpoint is written each time so many events have been: what a crash costs.
const CHECKPOINT_EVENTS: u64 = 10_000;

const TICK: Duration = Duration::from_millis(100);
/// The progress is renewed each time so many events have been written.
const PROGRESS_EVENTS: u64 = 500;

pub(crate) async fn run(
    store: &EventStore,
    options: &ExportOptions,
    format: Format,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let selected = Selected::new(&options.selection, options.gzip || has_gzip_name(options.output.as_deref()))?;
    let checkpoint = match &options.output {
        Some(file) if options.resume => Some(Checkpoint::read(file, &selected)?),
        _ => None,
    };
    let source = Source::new(store, options, checkpoint.as_ref())?;
    let sink = Sink::open(options.output.as_deref(), selected.gzip, checkpoint.as_ref().map(|at| at.bytes))?;
    let (events, streams) = checkpoint.map_or((0, 0), |at| (at.events, at.streams));
    let mut export = Export { source, sink, selected, events, streams, stream: None };
    let started = Instant::now();
    let end = export.run(stop).await;
    export.close(&end)?;
    // The events have standard output for themselves.
    if let Some(file) = &options.output {
        export.report(file, started.elapsed(), &end).print(format)?;
    }
    export.result(options.output.as_deref(), end)
}

fn has_gzip_name(file: Option<&Path>) -> bool {
    file.and_then(Path::extension).is_some_and(|extension| extension == "gz")
}

enum Source {
    Scan(Box<EventScan>),
    Stream { events: EventStream, version: u64 },
}

impl Source {
    fn new(store: &EventStore, options: &ExportOptions, checkpoint: Option<&Checkpoint>) -> Result<Self, Failure> {
        let selection = &options.selection;
        let Some(stream) = &selection.stream else {
            let mut scan = selection.scan.options();
            if let Some(Cursor::Scan(token)) = checkpoint.map(|at| &at.cursor) {
                scan = scan.resume(token.clone());
            }
            return Ok(Self::Scan(Box::new(store.scan_events(&scan)?)));
        };
        let version = match checkpoint.map(|at| &at.cursor) {
            Some(Cursor::Version(version)) => *version,
            _ => 0,
        };
        let part = ReadOptions::forward().from_version(version.saturating_add(1));
        Ok(Self::Stream { events: store.read_stream(&StreamId::new(stream)?, part), version })
    }

    async fn next(&mut self) -> Result<Option<RecordedEvent>, streambox::Error> {
        match self {
            Self::Scan(scan) => scan.try_next().await,
            Self::Stream { events, version } => {
                let event = events.try_next().await?;
                *version = event.as_ref().map_or(*version, |event| event.version);
                Ok(event)
            }
        }
    }

    fn cursor(&self) -> Cursor {
        match self {
            Self::Scan(scan) => Cursor::Scan(scan.token()),
            Self::Stream { version, .. } => Cursor::Version(*version),
        }
    }

    fn read_units(&self) -> f64 {
        match self {
            Self::Scan(scan) => scan.read_units(),
            Self::Stream { events, .. } => events.read_units(),
        }
    }
}

enum End {
    Complete,
    Interrupted,
    Store(streambox::Error),
    /// An event that can't be a line.
    Unwritable(String),
    /// Whoever reads standard output has had enough.
    ReaderHasGone,
    Output(Failure),
}

struct Export {
    source: Source,
    sink: Sink,
    selected: Selected,
    events: u64,
    streams: u64,
    /// The stream that was written last.
    stream: Option<StreamId>,
}

impl Export {
    async fn run(&mut self, stop: impl Future<Output = ()>) -> End {
        let progress = spinner();
        progress.enable_steady_tick(TICK);
        let mut stop = std::pin::pin!(stop);
        let end = loop {
            let next = tokio::select! {
                biased;
                () = &mut stop => break End::Interrupted,
                next = self.source.next() => next,
            };
            let written = match next {
                Ok(Some(event)) => self.write(&event),
                Ok(None) => break End::Complete,
                Err(error) => break End::Store(error),
            };
            if let Err(end) = written {
                break end;
            }
            if self.events.is_multiple_of(PROGRESS_EVENTS) {
                let (events, streams) = (HumanCount(self.events), HumanCount(self.streams));
                progress.set_message(format!("{events} events of {streams} streams"));
            }
        };
        progress.finish_and_clear();
        end
    }

    fn write(&mut self, event: &RecordedEvent) -> Result<(), End> {
        let line = line::text(event).map_err(End::Unwritable)?;
        self.sink.write(&line).map_err(sink::end)?;
        self.events += 1;
        if self.stream.as_ref() != Some(&event.stream_id) {
            self.streams += 1;
            self.stream = Some(event.stream_id.clone());
        }
        if self.events.is_multiple_of(CHECKPOINT_EVENTS) { self.checkpoint().map_err(End::Output) } else { Ok(()) }
    }

    fn checkpoint(&mut self) -> Result<(), Failure> {
        let Some(bytes) = self.sink.settle()? else { return Ok(()) };
        let selected = self.selected.clone();
        let (cursor, events, streams) = (self.source.cursor(), self.events, self.streams);
        self.sink.keep(&Checkpoint { selected, cursor, events, streams, bytes })
    }

    /// What was written stays, and where to go on as well, unless there is nothing left.
    fn close(&mut self, end: &End) -> Result<(), Failure> {
        match end {
            End::Complete => {
                self.sink.settle()?;
                self.sink.forget()
            }
            // An event that was taken and is not written would be lost behind the cursor: the last checkpoint holds.
            End::Unwritable(_) | End::ReaderHasGone | End::Output(_) => Ok(()),
            End::Interrupted | End::Store(_) => self.checkpoint(),
        }
    }

    fn report(&self, file: &Path, elapsed: Duration, end: &End) -> Report {
        Report {
            file: file.display().to_string(),
            events: self.events,
            streams: self.streams,
            seconds: elapsed.as_secs_f64(),
            read_units: self.source.read_units(),
            complete: matches!(end, End::Complete),
        }
    }

    fn result(&self, file: Option<&Path>, end: End) -> Result<(), Failure> {
        let go_on = match file {
            Some(_) => "the same command with --resume goes on".to_owned(),
            None => format!("{} events were written; with -o FILE an export can go on where it was", self.events),
        };
        let (code, what) = match end {
            End::Complete | End::ReaderHasGone => return Ok(()),
            End::Output(failure) => return Err(failure),
            End::Interrupted => (FAILED, "interrupted".to_owned()),
            End::Store(error) => (exit_code(&error), sentence(&error)),
            End::Unwritable(what) => (FAILED, format!("{what}; `streambox verify` lists all that is wrong")),
        };
        Err(Failure { code, message: format!("{what}; {go_on}") })
    }
}

/// What an export has done; its JSON is read by scripts.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    /// Lines of the file: those of the runs before it that were gone on with included.
    events: u64,
    streams: u64,
    seconds: f64,
    read_units: f64,
    complete: bool,
}

impl Report {
    fn print(&self, format: Format) -> Result<(), Failure> {
        let text = match format {
            Format::Json => serde_json::to_string(self).expect("a report is plain data"),
            Format::Text => format!(
                "{}: {} events of {} streams; {} read units; {:.1} s",
                self.file, self.events, self.streams, self.read_units, self.seconds
            ),
        };
        print(|out| writeln!(out, "{text}")).map(|_| ())
    }
}
