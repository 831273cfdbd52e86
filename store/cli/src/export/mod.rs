//! `streambox export`: events as lines that `import` reads.
//!
//! - `source.rs`: where the events come from; `sink.rs`: where their lines go.
//! - `checkpoint.rs`: the file that lies beside the export until it is complete.
//! - `damage.rs`: damaged streams.

mod checkpoint;
mod damage;
mod sink;
mod source;

use std::{
    collections::HashSet,
    future::Future,
    path::Path,
    pin::{Pin, pin},
    time::{Duration, Instant},
};

use indicatif::{HumanCount, ProgressBar};
use serde_json::json;
use streambox::{EventStore, RecordedEvent, StreamId};
use streambox_programs::Failure;

use self::{
    checkpoint::{Checkpoint, Content, Cursor, Progress, Selected, begin_anew},
    sink::Sink,
    source::Source,
};
use crate::{
    cli::{ExportOptions, Format},
    output::{count, print_done, spinner},
};

/// A checkpoint is written after the first event, and then after this many events: what a crash costs.
const CHECKPOINT_EVENTS: u64 = 2_000;
/// The progress is updated after this many events.
const PROGRESS_EVENTS: u64 = 500;

/// Why an export ends before its last event.
enum Stop {
    Interrupted,
    Store(streambox::Error),
    /// The reader of standard output has closed it.
    ReaderHasGone,
    /// The last checkpoint holds: an event may have been taken whose line is not in the file.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

pub(crate) async fn run(
    store: &EventStore,
    options: &ExportOptions,
    format: Format,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let has_gzip_name = options.output.as_deref().and_then(Path::extension).is_some_and(|name| name == "gz");
    let gzip = options.gzip || has_gzip_name;
    let selected = Selected::new(store, options, gzip).await?;
    let (sink, progress) = open(store, options, &selected, gzip).await?;
    let source = Source::new(store, &options.selection, &progress.cursor)?;
    let mut export = Export { store, options, source, sink, selected, progress };
    let started = Instant::now();
    let end = export.run(pin!(stop)).await;
    export.close(&end)?;
    // The events have standard output for themselves.
    if let Some(file) = &options.output {
        export.print_summary(file, started.elapsed(), end.is_ok(), format)?;
    }
    export.result(end)
}

/// Where the lines go, and how far they have come.
async fn open(
    store: &EventStore,
    options: &ExportOptions,
    selected: &Selected,
    gzip: bool,
) -> Result<(Sink, Progress), Failure> {
    if let (true, Some(file)) = (options.resume, &options.output) {
        let Checkpoint { progress, content, .. } = Checkpoint::read(file, selected)?;
        return Ok((Sink::resume(file, gzip, content)?, progress));
    }
    if let Some(stream) = &options.selection.stream
        && !store.exists(&StreamId::new(stream)?).await?
    {
        return Err(Failure::new(format!("table {} has no stream {stream}: nothing was exported", store.table())));
    }
    let progress = Progress::default();
    let Some(file) = &options.output else { return Ok((Sink::stdout(gzip), progress)) };
    if file.exists() {
        return Err(sink::exists(file));
    }
    // In this order, a crash leaves nothing that can't be resumed, and no checkpoint of another export beside a new file.
    let checkpoint = Checkpoint::new(selected.clone(), progress.clone(), Content::nothing());
    checkpoint.write(file).map_err(|error| sink::unwritable(&error, file))?;
    Ok((Sink::create(file, gzip)?, progress))
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
    async fn run(&mut self, mut stop: Pin<&mut impl Future<Output = ()>>) -> Result<(), Stop> {
        let spinner = spinner();
        let end = match self.find_damaged(&spinner, stop.as_mut()).await {
            Ok(left_out) => self.write_all(&spinner, stop, &left_out).await,
            Err(end) => Err(end),
        };
        spinner.finish_and_clear();
        end
    }

    /// With `--leave-out-damaged`, the streams that are left out. Whether a stream is whole is known only at its end, so everything
    /// is read once before a line is written.
    async fn find_damaged(
        &mut self,
        spinner: &ProgressBar,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<HashSet<String>, Stop> {
        if !self.options.leave_out_damaged {
            return Ok(HashSet::new());
        }
        if !self.progress.is_surveyed {
            let mut source = Source::new(self.store, &self.options.selection, &Cursor::Start)?;
            let mut damaged = Vec::new();
            let mut events = 0_u64;
            while let Some(next) = source.next(stop.as_mut(), &damaged).await? {
                if let Err(damage) = next {
                    damage::add(&mut damaged, damage, "it is left out")?;
                }
                events += 1;
                if events.is_multiple_of(PROGRESS_EVENTS) {
                    spinner.set_message(format!("looking for damaged streams: {} events", HumanCount(events)));
                }
            }
            (self.progress.damaged, self.progress.is_surveyed) = (damaged, true);
            self.write_checkpoint(Content::nothing())?;
        }
        Ok(self.progress.damaged.iter().map(|damage| damage.stream.clone()).collect())
    }

    async fn write_all(
        &mut self,
        spinner: &ProgressBar,
        mut stop: Pin<&mut impl Future<Output = ()>>,
        left_out: &HashSet<String>,
    ) -> Result<(), Stop> {
        while let Some(next) = self.source.next(stop.as_mut(), &self.progress.damaged).await? {
            match next {
                Ok((event, line)) if !left_out.contains(event.stream_id.as_str()) => self.write(&event, &line)?,
                Err(damage) if !self.options.leave_out_damaged => {
                    damage::add(&mut self.progress.damaged, damage, "what comes before it is exported")?;
                }
                Err(damage) if !left_out.contains(&damage.stream) => {
                    let anew = self.options.output.as_deref().map_or("repeat the command".to_owned(), begin_anew);
                    return Err(Failure::new(format!("{damage}: it was damaged while the export ran; {anew}")).into());
                }
                _ => {}
            }
            let Progress { events, streams, .. } = &self.progress;
            if events.is_multiple_of(PROGRESS_EVENTS) {
                spinner.set_message(format!("{} events of {} streams", HumanCount(*events), HumanCount(*streams)));
            }
        }
        Ok(())
    }

    fn write(&mut self, event: &RecordedEvent, line: &str) -> Result<(), Stop> {
        self.sink.write(line)?;
        let progress = &mut self.progress;
        progress.events += 1;
        if progress.stream.as_deref() != Some(event.stream_id.as_str()) {
            progress.streams += 1;
            progress.stream = Some(event.stream_id.as_str().to_owned());
        }
        if progress.events == 1 || progress.events.is_multiple_of(CHECKPOINT_EVENTS) {
            self.checkpoint()?;
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), Failure> {
        let Some(content) = self.sink.sync()? else { return Ok(()) };
        self.progress.cursor = self.source.cursor();
        self.write_checkpoint(content)
    }

    fn write_checkpoint(&self, content: Content) -> Result<(), Failure> {
        let Some(file) = &self.options.output else { return Ok(()) };
        let checkpoint = Checkpoint::new(self.selected.clone(), self.progress.clone(), content);
        checkpoint.write(file).map_err(|error| sink::unwritable(&error, &Checkpoint::path(file)))
    }

    /// What was written stays, and so does the checkpoint, unless nothing is left to resume.
    fn close(&mut self, end: &Result<(), Stop>) -> Result<(), Failure> {
        match end {
            Ok(()) => {
                self.sink.sync()?;
                let removed = self.options.output.as_deref().map_or(Ok(()), Checkpoint::remove);
                removed.map_err(|error| sink::unwritable(&error, &Checkpoint::path(self.sink.name())))
            }
            Err(Stop::Interrupted | Stop::Store(_)) if self.progress.is_surveyed || !self.options.leave_out_damaged => {
                self.checkpoint()
            }
            Err(_) => Ok(()),
        }
    }

    /// Whether every stream in the file is whole.
    fn is_whole(&self) -> bool {
        self.progress.damaged.is_empty() || self.options.leave_out_damaged
    }

    /// Events and streams are those in the file, the ones of interrupted runs before included; time and read units are those of
    /// this run; `damaged` are the streams that are not in the file, or not whole. Scripts read the JSON.
    fn print_summary(&self, file: &Path, elapsed: Duration, is_at_end: bool, format: Format) -> Result<(), Failure> {
        let Progress { events, streams, damaged, .. } = &self.progress;
        let (file, seconds, read_units) = (file.to_string_lossy(), elapsed.as_secs_f64(), self.source.read_units());
        let complete = is_at_end && self.is_whole();
        let summary = json!({
            "file": file, "events": events, "streams": streams, "damaged": damaged, "seconds": seconds,
            "read_units": read_units, "complete": complete,
        });
        let done = format!("{file}: {events} events of {streams} streams; {read_units} read units; {seconds:.1} s");
        print_done(format, &summary, &done)
    }

    fn result(&self, end: Result<(), Stop>) -> Result<(), Failure> {
        let resume = match &self.options.output {
            Some(_) => "; the same command with --resume resumes it".to_owned(),
            None => format!("; {} events were written; with -o FILE an export can be resumed", self.progress.events),
        };
        Err(match end {
            Ok(()) if self.is_whole() => return Ok(()),
            Ok(()) => Failure::new(format!(
                "{} damaged: {} has their events before the damage, and all other streams whole. `streambox verify` lists all that \
                 is wrong; an export with --leave-out-damaged has whole streams alone",
                count(self.progress.damaged.len() as u64, "stream is", "streams are"),
                self.sink.name().display(),
            )),
            Err(Stop::ReaderHasGone) => return Ok(()),
            Err(Stop::Interrupted) => Failure::new("interrupted".to_owned() + &resume),
            Err(Stop::Store(error)) => Failure::from(error).followed_by(&resume),
            Err(Stop::Failed(failure)) => failure,
        })
    }
}
