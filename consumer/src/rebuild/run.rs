//! The loop: what is read, what is applied, what has come of it.

use std::collections::{BTreeSet, HashMap, VecDeque};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use streambox::{Corrupt, Error, EventScan, EventStore, RecordedEvent, ScanToken, StreamId, message::Received};

use super::{
    Rebuild, RebuildError, RebuildReport, RebuildStatus, StreamProblem,
    apply::{Attempts, GivenUp, Outcome, apply},
    keep::{Keeper, Place},
    park::{Mark, cover},
    window::Window,
};
use crate::{Noted, Position, Projection, failure::sentence};

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
    /// Whether an event is being applied, or the mark written.
    is_under_way: bool,
    /// Not known before the first event is applied, and not while one is.
    position: Option<Position>,
    /// Nothing more of it is applied.
    is_given_up: bool,
    /// Its events are left to the retries of consumers.
    mark: Option<Mark>,
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

/// What something that a lane has begun has come to.
enum Step {
    /// An event is applied or given up.
    Applied(Held, Result<(Position, Outcome), GivenUp>),
    /// The mark of a stream covers everything up to a version, or there is none any more.
    Noted(StreamId, u64, Result<Noted, Error>),
}

pub(super) struct Run<'a, P> {
    store: &'a EventStore,
    projection: &'a P,
    categories: BTreeSet<String>,
    concurrency: usize,
    apply_attempts: Attempts,
    max_parked_streams: u64,
    expected_events: Option<u64>,
    on_progress: Box<dyn FnMut(&RebuildStatus) + Send + 'a>,
    keeper: Option<Keeper<'a>>,

    current: Option<Current>,
    lanes: HashMap<StreamId, Lane>,
    /// Streams with a waiting event of which none is being applied, each once.
    ready: VecDeque<StreamId>,
    steps: FuturesUnordered<BoxFuture<'a, Step>>,
    window: Window<Place>,
    held_bytes: usize,
    rows_since_token: u64,
    /// Everything up to here is applied.
    reached: Option<Place>,
    report: RebuildReport,
}

impl<'a, P: Projection> Run<'a, P> {
    pub(super) fn new(rebuild: Rebuild<'a, P>, keeper: Option<Keeper<'a>>) -> Self {
        Self {
            store: rebuild.store,
            projection: rebuild.projection,
            categories: rebuild.categories,
            concurrency: rebuild.concurrency,
            apply_attempts: rebuild.attempts,
            max_parked_streams: rebuild.max_parked_streams,
            expected_events: rebuild.expected_events,
            on_progress: rebuild.on_progress,
            keeper,
            current: None,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            steps: FuturesUnordered::new(),
            window: Window::new(),
            held_bytes: 0,
            rows_since_token: 0,
            reached: rebuild.token.map(|token| Place { token, events: 0, streams: 0 }),
            report: RebuildReport::default(),
        }
    }

    pub(super) async fn over(mut self, scan: EventScan) -> Result<RebuildReport, RebuildError> {
        let done = self.work(scan).await;
        self.show();
        self.keep(done.is_ok()).await;
        done.map(|()| self.report)
    }

    async fn work(&mut self, mut scan: EventScan) -> Result<(), RebuildError> {
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
                        // The stream that the scan is in is counted when it is at its end.
                        let streams = self.report.streams.saturating_sub(u64::from(end.is_none()));
                        self.window.mark(Place { token: scan.token(), events: self.report.events, streams });
                    }
                }
                else => break,
            }
            self.show();
            if self.keeper.as_ref().is_some_and(Keeper::is_due) {
                self.keep(false).await;
            }
        }
        match end {
            Some(Err(source)) => Err(RebuildError::Read { token: self.token(), source }),
            _ => Ok(()),
        }
    }

    async fn keep(&mut self, is_complete: bool) {
        if let (Some(keeper), Some(place)) = (&mut self.keeper, &self.reached) {
            keeper.store(place, is_complete).await;
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
        if lane.waiting.is_empty() && !lane.is_under_way {
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
        let is_done = self.lanes.get(stream).is_some_and(|lane| lane.waiting.is_empty() && !lane.is_under_way);
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

    /// Begins to apply what waits, or to leave it to retries, as much as may be at the same time.
    fn start(&mut self) {
        while self.steps.len() < self.concurrency
            && let Some(stream) = self.ready.pop_front()
        {
            let Some(lane) = self.lanes.get_mut(&stream) else { continue };
            // What is known to be applied needs no attempt.
            while let (Some(position), Some(next)) = (lane.position, lane.waiting.front())
                && next.event.version < position.version
                && let Some(held) = lane.waiting.pop_front()
            {
                self.report.already_applied += 1;
                self.held_bytes -= held.event.payload.len();
                self.window.applied(held.number);
            }
            if let (Some(mark), Some(newest), Some(inbox)) = (&lane.mark, lane.waiting.back(), self.projection.inbox())
            {
                let (mark, through) = (mark.clone(), newest.event.version);
                lane.is_under_way = true;
                let step = async move {
                    let noted = cover(inbox, &stream, mark, through).await;
                    Step::Noted(stream, through, noted)
                };
                self.steps.push(step.boxed());
            } else if let Some(held) = lane.waiting.pop_front() {
                let (projection, position, attempts) = (self.projection, lane.position, self.apply_attempts);
                lane.is_under_way = true;
                let step = async move {
                    let result = apply(projection, position, &held.event, attempts).await;
                    Step::Applied(held, result)
                };
                self.steps.push(step.boxed());
            } else {
                self.remove_if_done(&stream);
            }
        }
    }

    fn finish(&mut self, step: Step) -> Result<(), RebuildError> {
        match step {
            Step::Applied(held, Ok((position, outcome))) => self.applied(held, position, &outcome),
            Step::Applied(held, Err(given_up)) => self.failed(held, given_up),
            Step::Noted(stream_id, through, Ok(noted)) => {
                self.noted(&stream_id, through, noted);
                Ok(())
            }
            Step::Noted(stream_id, _, Err(source)) => {
                Err(RebuildError::Park { stream_id, token: self.token(), source })
            }
        }
    }

    /// Takes what has come of an event.
    fn applied(&mut self, held: Held, position: Position, outcome: &Outcome) -> Result<(), RebuildError> {
        let Held { number, event } = held;
        let (stream_id, version) = (event.stream_id, event.version);
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
        lane.position = Some(position);
        if *outcome == Outcome::OtherHistory {
            lane.is_given_up = true;
            self.drop_through(&stream_id, u64::MAX);
        }
        self.go_on(stream_id);
        Ok(())
    }

    /// An event can't be applied: its stream is left to retries, or the rebuild ends.
    fn failed(&mut self, held: Held, given_up: GivenUp) -> Result<(), RebuildError> {
        let GivenUp { attempts, source, is_parked } = given_up;
        let (stream_id, version) = (held.event.stream_id.clone(), held.event.version);
        let parked_streams = self.report.parked_streams;
        if self.projection.inbox().is_none() || parked_streams >= self.max_parked_streams {
            let token = self.token();
            return Err(RebuildError::Apply { stream_id, version, attempts, parked_streams, token, source });
        }
        let reason = sentence(&*source);
        self.report.parked_streams += 1;
        self.report.note(StreamProblem::Parked { stream_id: stream_id.clone(), reason: reason.clone() });
        if let Some(lane) = self.lanes.get_mut(&stream_id) {
            lane.mark = Some(if is_parked { Mark::Written } else { Mark::Missing(reason) });
            lane.position = None;
            lane.waiting.push_front(held);
        }
        self.go_on(stream_id);
        Ok(())
    }

    /// The mark of a stream covers everything up to a version; or a consumer has brought the stream up to date, and it is applied again.
    fn noted(&mut self, stream: &StreamId, through: u64, noted: Noted) {
        let Some(lane) = self.lanes.get_mut(stream) else { return };
        match noted {
            Noted::Noted => {
                lane.mark = Some(Mark::Written);
                self.drop_through(stream, through);
            }
            Noted::NotParked => lane.mark = None,
        }
        self.go_on(stream.clone());
    }

    /// The events of a stream up to a version are not applied by this run.
    fn drop_through(&mut self, stream: &StreamId, version: u64) {
        let Some(lane) = self.lanes.get_mut(stream) else { return };
        while let Some(held) = lane.waiting.pop_front_if(|held| held.event.version <= version) {
            self.held_bytes -= held.event.payload.len();
            self.window.applied(held.number);
        }
    }

    /// Nothing of a stream is under way any more.
    fn go_on(&mut self, stream: StreamId) {
        let Some(lane) = self.lanes.get_mut(&stream) else { return };
        lane.is_under_way = false;
        if lane.waiting.is_empty() {
            self.remove_if_done(&stream);
        } else {
            // Before others: what was read first is to be applied first, so that the token moves on.
            self.ready.push_front(stream);
        }
    }

    fn show(&mut self) {
        if let Some(place) = self.window.reached() {
            let waiting = self.window.len() as u64;
            (self.on_progress)(&self.report.status(self.expected_events, waiting, place.token.clone()));
            self.reached = Some(place);
        }
    }

    fn token(&mut self) -> Option<Box<ScanToken>> {
        self.show();
        self.reached.as_ref().map(|place| Box::new(place.token.clone()))
    }
}
