//! `streambox import`: many streams at the same time, each stream's lines in order, nothing twice.
//!
//! A thread reads ahead; here the lines are sorted into queues, one a stream. A queue has at most one batch in flight, so its
//! order is kept; as many queues as allowed work at the same time. Memory is bounded by the window of lines that wait, and
//! some hundred bytes for each stream of the file.

mod batch;
mod source;
mod summary;

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    path::Path,
    pin::{Pin, pin},
    time::Instant,
};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use streambox::{Error, EventStore, StreamId, StreamPosition};
use streambox_programs::Failure;
use tokio::{sync::mpsc, task::JoinSet};

use self::{
    batch::{Progress, Stopped, Tally, take_batch},
    source::Chunk,
    summary::{End, LeftOut},
};
use crate::{
    cli::{Format, ImportOptions},
    line::Line,
};

/// Lines that wait, all streams together: at this number, or at this many bytes, reading pauses.
const WINDOW_LINES: usize = 4_096;
const WINDOW_BYTES: usize = 16 * 1024 * 1024;

/// Lines that are being appended, all streams together: if events are large, fewer streams are imported at the same time, so
/// that on a slow link each append is in time. On any link, this is more than a table accepts in a second.
const RUNNING_BYTES: usize = 8 * 1024 * 1024;

pub(crate) async fn run(
    store: &EventStore,
    options: &ImportOptions,
    format: Format,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let name = if options.file == Path::new("-") { "standard input".into() } else { options.file.to_string_lossy() };
    // Shown on a terminal only, on standard error.
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}  {msg}  {elapsed}");
    let progress = ProgressBar::no_length().with_style(style.expect("a valid template"));
    let chunks = source::read_ahead(&options.file, &progress)
        .map_err(|error| Failure::new(format!("{name} can't be opened: {error}")))?;
    let started = Instant::now();
    let mut import = Import::default();
    let end = import.run(store, options, &progress, chunks, pin!(stop)).await;
    progress.finish_and_clear();
    let (streams, is_complete) = (import.queues.len(), matches!(end, End::Complete));
    let printed =
        summary::print(&name, import.totals, streams, started.elapsed(), is_complete, import.left_out.lines, format);
    import.left_out.list(&name);
    end.result(&name, &import.left_out).and(printed)
}

#[derive(Default)]
struct Import {
    queues: HashMap<StreamId, Queue>,
    /// Queues with lines that wait and no batch in flight, in the order in which they became ready.
    ready: VecDeque<StreamId>,
    waiting_lines: usize,
    waiting_bytes: usize,
    running_bytes: usize,
    running: JoinSet<Done>,
    totals: Tally,
    left_out: LeftOut,
}

struct Queue {
    waiting: VecDeque<Line>,
    /// Away while a batch is in flight.
    progress: Option<Progress>,
    /// Whether its lines can't be imported.
    is_stopped: bool,
}

struct Done {
    stream: StreamId,
    progress: Progress,
    lines: u64,
    bytes: usize,
    tally: Tally,
    result: Result<(), Stopped>,
}

impl Import {
    async fn run(
        &mut self,
        store: &EventStore,
        options: &ImportOptions,
        progress: &ProgressBar,
        mut chunks: mpsc::Receiver<Chunk>,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> End {
        let max_running = usize::from(options.concurrency);
        let mut end = None;
        loop {
            // Behind the end of the file, a bad line included, what was read before is still imported; behind a failure
            // or an interruption only the batches in flight are finished.
            let starts = end.as_ref().is_none_or(End::lets_the_lines_before_in);
            while starts && self.running.len() < max_running && self.running_bytes < RUNNING_BYTES {
                let Some(stream) = self.ready.pop_front() else { break };
                self.start(stream, store, options.events_per_append.into());
            }
            if self.running.is_empty()
                && (self.ready.is_empty() || !starts)
                && let Some(end) = end
            {
                return end;
            }
            let has_room = self.waiting_lines < WINDOW_LINES && self.waiting_bytes < WINDOW_BYTES;
            tokio::select! {
                () = &mut stop, if starts => end = Some(End::Interrupted),
                chunk = chunks.recv(), if end.is_none() && has_room => match chunk {
                    Some(Ok(lines)) => self.sort(lines),
                    Some(Err(unreadable)) => end = Some(End::Unreadable(unreadable)),
                    None => end = Some(End::Complete),
                },
                Some(done) = self.running.join_next(), if !self.running.is_empty() => {
                    let finished = self.finish(done.expect("a batch neither panics nor is cancelled"));
                    let events = HumanCount(self.totals.appended + self.totals.already_there);
                    progress.set_message(format!("{events} events of {} streams", HumanCount(self.queues.len() as u64)));
                    if let Err((line, error)) = finished
                        && end.as_ref().is_none_or(End::lets_the_lines_before_in)
                    {
                        end = Some(End::Stopped(line, error));
                    }
                }
            }
        }
    }

    fn sort(&mut self, lines: Vec<Line>) {
        for line in lines {
            let stream = line.stream.clone();
            let queue = self.queues.entry(stream.clone()).or_insert_with(|| Queue {
                waiting: VecDeque::new(),
                progress: Some(Progress { position: StreamPosition::start(stream.clone()), is_end: false }),
                is_stopped: false,
            });
            if queue.is_stopped {
                self.left_out.lines += 1;
                continue;
            }
            self.waiting_lines += 1;
            self.waiting_bytes += line.bytes;
            if queue.waiting.is_empty() && queue.progress.is_some() {
                self.ready.push_back(stream);
            }
            queue.waiting.push_back(line);
        }
    }

    fn start(&mut self, stream: StreamId, store: &EventStore, events_per_append: usize) {
        let queue = self.queues.get_mut(&stream).expect("a ready queue exists");
        let mut progress = queue.progress.take().expect("a ready queue has no batch in flight");
        let batch = take_batch(&mut queue.waiting, events_per_append);
        let (lines, bytes) = (batch.len(), batch.iter().map(|line| line.bytes).sum::<usize>());
        self.waiting_lines -= lines;
        self.waiting_bytes -= bytes;
        self.running_bytes += bytes;
        let store = store.clone();
        self.running.spawn(async move {
            let mut tally = Tally::default();
            let result = batch::import(&store, &mut progress, &batch, &mut tally).await;
            Done { stream, progress, lines: lines as u64, bytes, tally, result }
        });
    }

    /// The error is one that ends the import.
    fn finish(&mut self, done: Done) -> Result<(), (u64, Error)> {
        self.running_bytes -= done.bytes;
        self.totals.appended += done.tally.appended;
        self.totals.already_there += done.tally.already_there;
        self.totals.appends += done.tally.appends;
        self.totals.write_units += done.tally.write_units;
        let queue = self.queues.get_mut(&done.stream).expect("a running queue exists");
        queue.progress = Some(done.progress);
        let result = match done.result {
            Ok(()) => Ok(()),
            Err(Stopped::All { line, error }) => Err((line, error)),
            Err(Stopped::Stream { line, why }) => {
                queue.is_stopped = true;
                self.waiting_lines -= queue.waiting.len();
                self.waiting_bytes -= queue.waiting.iter().map(|line| line.bytes).sum::<usize>();
                let of_batch = done.lines - done.tally.appended - done.tally.already_there;
                self.left_out.add(line, why, of_batch + queue.waiting.len() as u64);
                queue.waiting.clear();
                Ok(())
            }
        };
        if queue.waiting.is_empty() {
            // Most streams are short: unused memory is freed.
            queue.waiting.shrink_to_fit();
        } else {
            self.ready.push_back(done.stream);
        }
        result
    }
}
