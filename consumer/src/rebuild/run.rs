//! The loop: what is read, what is applied, what has come of it.

use std::collections::{BTreeSet, HashMap, VecDeque};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use streambox::{Corrupt, Error, EventScan, EventStore, RecordedEvent, ScanToken, StreamId, message::Received};

use super::{
    Rebuild, RebuildError, RebuildReport, RebuildStatus, StreamProblem,
    apply::{Attempts, GivenUp, Outcome, apply},
    window::Window,
};
use crate::{Position, Projection};

/// Most events that a rebuild holds, from the first that is not applied to the last that was read. While there are as many, it reads none.
pub const MAX_HELD_EVENTS: usize = 1_000;

/// Most bytes of payload that wait to be applied, but for the last event's.
pub const MAX_HELD_BYTES: usize = 16 << 20;

/// From one place that a rebuild could resume from to the next.
const EVENTS_PER_TOKEN: u64 = 100;

/// A stream with events that wait or are being applied, or the one that the scan is in.
#[derive(Default)]
struct Lane {
    waiting: VecDeque<Held>,
    is_applying: bool,
    /// Not known before the first event is applied, and not while one is.
    position: Option<Position>,
    /// Nothing more of it is applied.
    is_given_up: bool,
}

struct Held {
    number: u64,
    event: Received,
}

/// The stream that the scan is in.
struct Current {
    stream: StreamId,
    /// The last public version of it that the scan has come to: what the next event calls its previous one.
    last_public: Option<u64>,
}

/// What an attempt to apply an event has come to.
struct Step {
    held: Held,
    result: Result<(Position, Outcome), GivenUp>,
}

pub(super) struct Run<'a, P> {
    store: &'a EventStore,
    projection: &'a P,
    categories: BTreeSet<String>,
    concurrency: usize,
    apply_attempts: Attempts,
    expected_events: Option<u64>,
    on_progress: Box<dyn FnMut(&RebuildStatus) + Send + 'a>,

    current: Option<Current>,
    lanes: HashMap<StreamId, Lane>,
    /// Streams with a waiting event of which none is being applied, each once.
    ready: VecDeque<StreamId>,
    steps: FuturesUnordered<BoxFuture<'a, Step>>,
    window: Window<ScanToken>,
    held_bytes: usize,
    rows_since_token: u64,
    /// Everything up to here is applied.
    reached: Option<ScanToken>,
    report: RebuildReport,
}

impl<'a, P: Projection> Run<'a, P> {
    pub(super) fn new(rebuild: Rebuild<'a, P>) -> Self {
        Self {
            store: rebuild.store,
            projection: rebuild.projection,
            categories: rebuild.categories,
            concurrency: rebuild.concurrency,
            apply_attempts: Attempts::of(rebuild.apply_attempts),
            expected_events: rebuild.expected_events,
            on_progress: rebuild.on_progress,
            current: None,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            steps: FuturesUnordered::new(),
            window: Window::new(),
            held_bytes: 0,
            rows_since_token: 0,
            reached: rebuild.token,
            report: RebuildReport::default(),
        }
    }

    pub(super) async fn over(mut self, mut scan: EventScan) -> Result<RebuildReport, RebuildError> {
        // What ends the scan; none while it goes on.
        let mut end: Option<Result<(), Error>> = None;
        loop {
            self.start();
            let is_full = self.window.len() >= MAX_HELD_EVENTS || self.held_bytes >= MAX_HELD_BYTES;
            tokio::select! {
                Some(step) = self.steps.next(), if !self.steps.is_empty() => self.finish(step)?,
                row = scan.next(), if end.is_none() && !is_full => {
                    match row {
                        Some(Ok(event)) => self.take(event).await?,
                        Some(Err(Error::Corrupt(corrupt))) => self.is_damaged(*corrupt),
                        Some(Err(error)) => end = Some(Err(error)),
                        None => end = Some(Ok(())),
                    }
                    self.report.read_units = scan.read_units();
                    self.rows_since_token += 1;
                    if self.rows_since_token >= EVENTS_PER_TOKEN || end.is_some() {
                        self.rows_since_token = 0;
                        self.window.mark(scan.token());
                    }
                }
                else => break,
            }
            self.show();
        }
        match end {
            Some(Err(source)) => Err(RebuildError::Read { token: self.token(), source }),
            _ => Ok(self.report),
        }
    }

    /// Takes the next event of the scan.
    async fn take(&mut self, event: RecordedEvent) -> Result<(), RebuildError> {
        if !self.is_wanted(&event.stream_id) {
            return Ok(());
        }
        self.report.events += 1;
        let is_new = self.current.as_ref().is_none_or(|current| current.stream != event.stream_id);
        if is_new {
            match self.public_before(&event).await {
                Ok(last_public) => self.enter(event.stream_id.clone(), last_public),
                Err(Error::Corrupt(corrupt)) => {
                    self.enter(event.stream_id.clone(), None);
                    self.lanes.entry(event.stream_id.clone()).or_default().is_given_up = true;
                    self.is_damaged(*corrupt);
                }
                Err(source) => return Err(RebuildError::Read { token: self.token(), source }),
            }
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        let previous_version = current.last_public;
        current.last_public = event.last_public_version();
        if event.is_private {
            self.report.private += 1;
            return Ok(());
        }
        let lane = self.lanes.entry(event.stream_id.clone()).or_default();
        if lane.is_given_up {
            return Ok(());
        }
        let event = Received::from_recorded(event, previous_version);
        if lane.waiting.is_empty() && !lane.is_applying {
            self.ready.push_back(event.stream_id.clone());
        }
        self.held_bytes += event.payload.len();
        lane.waiting.push_back(Held { number: self.window.push(), event });
        Ok(())
    }

    fn is_wanted(&self, stream: &StreamId) -> bool {
        self.categories.is_empty() || self.categories.contains(stream.category())
    }

    /// The last public version before the first event that the scan has of a stream: it is in its middle only if it was resumed there.
    async fn public_before(&self, event: &RecordedEvent) -> Result<Option<u64>, Error> {
        if event.version == 1 {
            return Ok(None);
        }
        let before = event.version - 1;
        match self.store.event(&event.stream_id, before).await? {
            Some(before) => Ok(before.last_public_version()),
            None => Err(Corrupt::new(event.stream_id.clone(), format!("version {before}"), "it is missing").into()),
        }
    }

    /// The scan has come to another stream.
    fn enter(&mut self, stream: StreamId, last_public: Option<u64>) {
        self.report.streams += 1;
        let left = self.current.replace(Current { stream, last_public });
        if let Some(left) = left {
            self.remove_if_done(&left.stream);
        }
    }

    /// Forgets a stream that the scan has left and that has nothing to apply.
    fn remove_if_done(&mut self, stream: &StreamId) {
        let is_current = self.current.as_ref().is_some_and(|current| current.stream == *stream);
        let is_done = self.lanes.get(stream).is_some_and(|lane| lane.waiting.is_empty() && !lane.is_applying);
        if is_done && !is_current {
            self.lanes.remove(stream);
        }
    }

    /// The scan hands out nothing more of a stream. What has come of it before is applied.
    fn is_damaged(&mut self, corrupt: Corrupt) {
        if !self.is_wanted(&corrupt.stream) {
            return;
        }
        self.report.note(corrupt.into());
    }

    /// Begins to apply what waits, as much as may be at the same time.
    fn start(&mut self) {
        while self.steps.len() < self.concurrency
            && let Some(stream) = self.ready.pop_front()
        {
            let Some(lane) = self.lanes.get_mut(&stream) else { continue };
            // What is known to be applied needs no attempt.
            while let (Some(position), Some(next)) = (lane.position, lane.waiting.front())
                && next.event.version < position.version
                && let Some(Held { number, event }) = lane.waiting.pop_front()
            {
                self.report.already_applied += 1;
                self.held_bytes -= event.payload.len();
                self.window.applied(number);
            }
            match lane.waiting.pop_front() {
                Some(held) => {
                    lane.is_applying = true;
                    let (projection, position, attempts) = (self.projection, lane.position, self.apply_attempts);
                    let step = async move {
                        let result = apply(projection, position, &held.event, attempts).await;
                        Step { held, result }
                    };
                    self.steps.push(step.boxed());
                }
                None => self.remove_if_done(&stream),
            }
        }
    }

    /// Takes what has come of an event.
    fn finish(&mut self, step: Step) -> Result<(), RebuildError> {
        let Step { held: Held { number, event }, result } = step;
        let (stream_id, version) = (event.stream_id, event.version);
        let (position, outcome) = match result {
            Ok(done) => done,
            Err(GivenUp { attempts, source }) => {
                return Err(RebuildError::Apply { stream_id, version, attempts, token: self.token(), source });
            }
        };
        match outcome {
            Outcome::Applied => self.report.applied += 1,
            Outcome::AlreadyApplied => self.report.already_applied += 1,
            Outcome::OtherHistory => {
                self.report.note(StreamProblem::OtherHistory { stream_id: stream_id.clone(), version });
            }
            Outcome::Behind => {
                let expected = event.previous_version.unwrap_or(0);
                return Err(RebuildError::Behind { stream_id, position: position.version, expected });
            }
        }
        self.held_bytes -= event.payload.len();
        self.window.applied(number);
        let Some(lane) = self.lanes.get_mut(&stream_id) else { return Ok(()) };
        lane.is_applying = false;
        lane.position = Some(position);
        if outcome == Outcome::OtherHistory {
            lane.is_given_up = true;
            for Held { number, event } in lane.waiting.drain(..) {
                self.held_bytes -= event.payload.len();
                self.window.applied(number);
            }
        }
        if lane.waiting.is_empty() {
            self.remove_if_done(&stream_id);
        } else {
            // Before others: what was read first is to be applied first, so that the token moves on.
            self.ready.push_front(stream_id);
        }
        Ok(())
    }

    fn show(&mut self) {
        if let Some(token) = self.window.reached() {
            let waiting = self.window.len() as u64;
            (self.on_progress)(&self.report.status(self.expected_events, waiting, token.clone()));
            self.reached = Some(token);
        }
    }

    fn token(&mut self) -> Option<Box<ScanToken>> {
        self.show();
        self.reached.clone().map(Box::new)
    }
}
