//! `streambox export`: events as lines that `import` takes back.
//!
//! - `checkpoint.rs`: what lies beside the file until the export is complete; `sink.rs`: the file.
//! - `damage.rs`: damaged streams.

mod checkpoint;
mod damage;
mod sink;

use std::{
    collections::HashSet,
    future::Future,
    path::Path,
    pin::Pin,
    time::{Duration, Instant},
};

use futures_util::TryStreamExt as _;
use indicatif::{HumanCount, ProgressBar};
use serde::Serialize;
use streambox::{EventScan, EventStore, EventStream, ReadOptions, RecordedEvent, StreamId};
use streambox_programs::Failure;

use self::{
    checkpoint::{Checkpoint, Content, Cursor, Progress, Selected},
    damage::Damage,
    sink::Sink,
};
use crate::{
    cli::{ExportOptions, Format},
    line,
    output::{print, spinner},
};

/// A checkpoint is written after the first event, and each time so many events have been: what a crash costs.
const CHECKPOINT_EVENTS: u64 = 2_000;

const TICK: Duration = Duration::from_millis(100);
/// The progress is renewed each time so many events have been read.
const PROGRESS_EVENTS: u64 = 500;

pub(crate) async fn run(
    store: &EventStore,
    options: &ExportOptions,
    format: Format,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let gzip = options.gzip || has_gzip_name(options.output.as_deref());
    let selected = Selected::new(store, options, gzip).await?;
    let (sink, progress) = open(store, options, &selected).await?;
    let source = Source::new(store, options, &progress.cursor)?;
    let mut export = Export { store, options, source, sink, selected, progress };
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

/// Where the lines go, and how far they have come.
async fn open(store: &EventStore, options: &ExportOptions, selected: &Selected) -> Result<(Sink, Progress), Failure> {
    let gzip = selected.gzip;
    if let (true, Some(file)) = (options.resume, &options.output) {
        let Checkpoint { progress, content, .. } = Checkpoint::read(file, selected)?;
        return Ok((Sink::resume(file, gzip, content)?, progress));
    }
    if let Some(stream) = &options.selection.stream
        && !store.exists(&StreamId::new(stream)?).await?
    {
        return Err(Failure::new(format!("table {} has no stream {stream}: nothing was exported", store.table())));
    }
    let progress = Progress::start();
    let Some(file) = &options.output else { return Ok((Sink::stdout(gzip), progress)) };
    if file.exists() {
        return Err(sink::exists(file));
    }
    // In this order, a crash leaves nothing that can't be resumed, and no checkpoint of another export beside a new file.
    let checkpoint = Checkpoint::new(selected.clone(), progress.clone(), Content::nothing());
    checkpoint.write(file).map_err(|error| sink::unwritable(&error, &file.display().to_string()))?;
    Ok((Sink::create(file, gzip)?, progress))
}

enum Source {
    Scan(Box<EventScan>),
    Stream { events: EventStream, version: u64 },
}

impl Source {
    fn new(store: &EventStore, options: &ExportOptions, cursor: &Cursor) -> Result<Self, Failure> {
        let selection = &options.selection;
        let Some(stream) = &selection.stream else {
            let mut scan = selection.scan.options();
            if let Cursor::Scan(token) = cursor {
                scan = scan.resume(token.clone());
            }
            return Ok(Self::Scan(Box::new(store.scan_events(&scan)?)));
        };
        let version = if let Cursor::Version(version) = cursor { *version } else { 0 };
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
    /// Everything was read, but of damaged streams the file has only what comes before the damage.
    Damaged,
    /// A stream was damaged after the search for damaged streams.
    DamagedMeanwhile(Damage),
    TooManyDamaged(usize),
    Interrupted,
    Store(streambox::Error),
    /// Whoever reads standard output has had enough.
    ReaderHasGone,
    Output(Failure),
}

struct Export<'a> {
    store: &'a EventStore,
    options: &'a ExportOptions,
    source: Source,
    sink: Sink,
    selected: Selected,
    progress: Progress,
}

impl Export<'_> {
    async fn run(&mut self, stop: impl Future<Output = ()>) -> End {
        let spinner = spinner();
        spinner.enable_steady_tick(TICK);
        let mut stop = std::pin::pin!(stop);
        let end = match self.find_damaged(&spinner, stop.as_mut()).await {
            Ok(left_out) => self.write_all(&spinner, stop, &left_out).await,
            Err(end) => Err(end),
        };
        spinner.finish_and_clear();
        match end {
            Ok(()) if self.progress.damaged.is_empty() || self.selected.leave_out_damaged => End::Complete,
            Ok(()) => End::Damaged,
            Err(end) => end,
        }
    }

    /// With `--leave-out-damaged`, the streams that are left out. Whether a stream is whole shows at its end, so everything is
    /// read once before a line is written.
    async fn find_damaged(
        &mut self,
        spinner: &ProgressBar,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<HashSet<String>, End> {
        if !self.selected.leave_out_damaged {
            return Ok(HashSet::new());
        }
        if !self.progress.is_surveyed {
            let mut source = Source::new(self.store, self.options, &Cursor::Start).map_err(End::Output)?;
            let mut damaged = Vec::new();
            let mut events = 0_u64;
            while let Some(next) = next(&mut source, stop.as_mut(), last(&damaged)).await? {
                if let Err(damage) = next {
                    damage::add(&mut damaged, damage, "it is left out")?;
                }
                events += 1;
                if events.is_multiple_of(PROGRESS_EVENTS) {
                    spinner.set_message(format!("looking for damaged streams: {} events", HumanCount(events)));
                }
            }
            (self.progress.damaged, self.progress.is_surveyed) = (damaged, true);
            let checkpoint = Checkpoint::new(self.selected.clone(), self.progress.clone(), Content::nothing());
            self.sink.keep(&checkpoint).map_err(End::Output)?;
        }
        Ok(self.progress.damaged.iter().map(|damage| damage.stream.clone()).collect())
    }

    async fn write_all(
        &mut self,
        spinner: &ProgressBar,
        mut stop: Pin<&mut impl Future<Output = ()>>,
        left_out: &HashSet<String>,
    ) -> Result<(), End> {
        while let Some(next) = next(&mut self.source, stop.as_mut(), last(&self.progress.damaged)).await? {
            match next {
                Ok((event, line)) if !left_out.contains(event.stream_id.as_str()) => self.write(&event, &line)?,
                Err(damage) if !self.selected.leave_out_damaged => {
                    damage::add(&mut self.progress.damaged, damage, "what comes before it is exported")?;
                }
                Err(damage) if !left_out.contains(&damage.stream) => return Err(End::DamagedMeanwhile(damage)),
                _ => {}
            }
            if self.progress.events.is_multiple_of(PROGRESS_EVENTS) {
                let (events, streams) = (HumanCount(self.progress.events), HumanCount(self.progress.streams));
                spinner.set_message(format!("{events} events of {streams} streams"));
            }
        }
        Ok(())
    }

    fn write(&mut self, event: &RecordedEvent, line: &str) -> Result<(), End> {
        self.sink.write(line)?;
        let progress = &mut self.progress;
        progress.events += 1;
        if progress.stream.as_deref() != Some(event.stream_id.as_str()) {
            progress.streams += 1;
            progress.stream = Some(event.stream_id.as_str().to_owned());
        }
        let is_due = progress.events == 1 || progress.events.is_multiple_of(CHECKPOINT_EVENTS);
        if is_due { self.checkpoint().map_err(End::Output) } else { Ok(()) }
    }

    fn checkpoint(&mut self) -> Result<(), Failure> {
        let Some(content) = self.sink.settle()? else { return Ok(()) };
        self.progress.cursor = self.source.cursor();
        self.sink.keep(&Checkpoint::new(self.selected.clone(), self.progress.clone(), content))
    }

    /// What was written stays, and the way to resume as well, unless there is nothing left.
    fn close(&mut self, end: &End) -> Result<(), Failure> {
        match end {
            End::Complete | End::Damaged => {
                self.sink.settle()?;
                self.sink.forget()
            }
            // What was taken and is not written would be lost behind the cursor: the last checkpoint holds.
            End::ReaderHasGone | End::Output(_) | End::DamagedMeanwhile(_) | End::TooManyDamaged(_) => Ok(()),
            End::Interrupted | End::Store(_) if self.selected.leave_out_damaged && !self.progress.is_surveyed => Ok(()),
            End::Interrupted | End::Store(_) => self.checkpoint(),
        }
    }

    fn report(&self, file: &Path, elapsed: Duration, end: &End) -> Report {
        let Progress { events, streams, damaged, .. } = &self.progress;
        Report {
            file: file.display().to_string(),
            events: *events,
            streams: *streams,
            damaged: damaged.clone(),
            seconds: elapsed.as_secs_f64(),
            read_units: self.source.read_units(),
            complete: matches!(end, End::Complete),
        }
    }

    fn result(&self, file: Option<&Path>, end: End) -> Result<(), Failure> {
        let events = self.progress.events;
        let resume = match file {
            Some(_) => "the same command with --resume resumes it".to_owned(),
            None => format!("{events} events were written; with -o FILE an export can be resumed"),
        };
        let name = file.map_or("standard output".into(), |file| file.display().to_string());
        let message = match end {
            End::Complete | End::ReaderHasGone => return Ok(()),
            End::Output(failure) => return Err(failure),
            End::Interrupted => format!("interrupted; {resume}"),
            End::Store(error) => return Err(Failure::from(error).followed_by(&format!("; {resume}"))),
            End::Damaged => {
                let count = match self.progress.damaged.len() {
                    1 => "1 stream is damaged".to_owned(),
                    count => format!("{count} streams are damaged"),
                };
                format!(
                    "{count}: {name} has their events before the damage, and all other streams whole. `streambox verify` lists all \
                     that is wrong; an export with --leave-out-damaged has whole streams alone"
                )
            }
            End::DamagedMeanwhile(damage) => {
                let anew = file.map_or("repeat the command".to_owned(), checkpoint::begin_anew);
                format!("{damage}: it was damaged while the export ran; {anew}")
            }
            End::TooManyDamaged(most) => format!(
                "more than {most} streams are damaged: this is not a table to export. `streambox verify` lists what is wrong"
            ),
        };
        Err(Failure::new(message))
    }
}

fn last(damaged: &[Damage]) -> Option<&str> {
    damaged.last().map(|damage| damage.stream.as_str())
}

/// The next event and its line, or the next damaged stream; `None` at the end. The streams come one after the other, so what is to
/// be passed over is at most the rest of the damaged stream that came last.
async fn next(
    source: &mut Source,
    mut stop: Pin<&mut impl Future<Output = ()>>,
    damaged: Option<&str>,
) -> Result<Option<Result<(RecordedEvent, String), Damage>>, End> {
    loop {
        let next = tokio::select! {
            biased;
            () = &mut stop => return Err(End::Interrupted),
            next = source.next() => next,
        };
        return match next {
            Ok(None) => Ok(None),
            Ok(Some(event)) if damaged == Some(event.stream_id.as_str()) => continue,
            Ok(Some(event)) => match event.check() {
                Ok(()) => Ok(Some(line(event))),
                Err(error) => damage::of(error).map(|damage| Some(Err(damage))),
            },
            // It has been named before it came to this.
            Err(streambox::Error::Corrupt(corrupt)) if damaged == Some(corrupt.stream.as_str()) => continue,
            Err(error) => damage::of(error).map(|damage| Some(Err(damage))),
        };
    }
}

fn line(event: RecordedEvent) -> Result<(RecordedEvent, String), Damage> {
    match line::text(&event) {
        Ok(line) => Ok((event, line)),
        Err(what) => Err(Damage::of_event(&event, what)),
    }
}

/// What an export has done; its JSON is read by scripts.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    /// Lines of the file: those of the interrupted runs before included.
    events: u64,
    streams: u64,
    /// Streams that are not in the file, or not whole.
    damaged: Vec<Damage>,
    /// Of this run.
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
