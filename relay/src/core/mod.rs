//! What to do next: pure decisions, no I/O, no clock of its own.
//!
//! The shell tells the core what it has found, read, published and deleted; the core answers what to read, publish and
//! delete next. A stream that is being worked on has a *lane*. The rules that keep the promises:
//!
//! - A lane publishes one event at a time, in version order, and the next one only after the broker has confirmed it.
//! - An entry's deletion is asked for only after every event of it was confirmed.
//! - Before an entry is published the append before it must be settled: published by this relay, too old to be still
//!   becoming visible, or proved published by a serializable read.
//! - An event that can't be published halts its own stream and no other.
//! - Lanes, reads under way and bytes held are bounded.

mod lane;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use lru::LruCache;
use streambox::{
    StreamId,
    limits::MAX_BATCH_DELETES,
    outbox::{OutboxEvent, PendingKey, PendingPage, Predecessor},
};
use tokio::time::Instant;

use self::lane::{Lane, Progress, Step};

/// Streams whose last published version is remembered after their lane is gone, so that the next entry needs no proof.
const REMEMBERED_STREAMS: NonZeroUsize = NonZeroUsize::new(10_000).expect("10,000 is not zero");

/// Halted streams that are remembered. Beyond that the oldest is forgotten: it is simply tried anew.
const REMEMBERED_HALTS: NonZeroUsize = NonZeroUsize::new(10_000).expect("10,000 is not zero");

/// A transaction is half visible for milliseconds.
const FIRST_SETTLE_DELAY: Duration = Duration::from_millis(20);

/// What one read of events may bring: a page of DynamoDB.
const PAGE_BYTES: usize = 1024 * 1024;

/// What an entry has at the most when it carries a copy of its events.
const ENTRY_BYTES: usize = streambox::limits::MAX_INLINE_ENTRY_BYTES;

/// The core's bounds and delays.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Streams that are worked on at the same time.
    pub max_streams: usize,
    /// Reads under way at the same time.
    pub max_reads: usize,
    /// Events in one batch.
    pub max_batch_events: usize,
    /// Bytes of events that are held, those that reads under way may bring included.
    pub max_buffered_bytes: usize,
    /// Pending entries that one read asks for.
    pub entries_per_read: u16,
    /// Appends to a stream that are this close, by the times that their writers gave them, need proof that the earlier
    /// one was published.
    pub settle_window: Duration,
    /// The first delay after a failure. It doubles with each further one.
    pub first_delay: Duration,
    /// The longest delay after a failure.
    pub longest_delay: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_streams: 512,
            max_reads: 32,
            max_batch_events: 256,
            max_buffered_bytes: 32 * 1024 * 1024,
            entries_per_read: 64,
            settle_window: Duration::from_secs(10),
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_mins(1),
        }
    }
}

/// What became of a stream that a scan has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A lane was opened for it.
    Admitted,
    /// It has a lane already.
    UnderWay,
    /// It is halted, and its next attempt is not due yet.
    Halted,
    /// All lanes are taken. Ask again later.
    NoRoom,
}

/// A read that the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The pending entries from a version on.
    Pending {
        /// The stream.
        stream: StreamId,
        /// The first version to look for.
        from: u64,
        /// How many entries at most.
        limit: u16,
    },
    /// One page of the events of an entry that carries no copy of them.
    Events {
        /// The stream.
        stream: StreamId,
        /// The next version that is needed.
        from: u64,
        /// The entry's last version.
        last: u64,
    },
    /// Proof that an append was published.
    Predecessor {
        /// The stream.
        stream: StreamId,
        /// The append's first version.
        first: u64,
    },
}

/// What a read has brought.
#[derive(Debug)]
pub enum Answer {
    /// To [`Read::Pending`].
    Pending(PendingPage),
    /// To [`Read::Events`].
    Events(Vec<OutboxEvent>),
    /// To [`Read::Predecessor`].
    Predecessor(Predecessor),
    /// The read can't succeed as the table is: the stream halts.
    Unreadable(String),
    /// The read failed and may succeed later.
    Failed,
}

/// An event on its way to the broker.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its stream.
    pub stream: StreamId,
    /// The event.
    pub event: Arc<OutboxEvent>,
}

/// What the broker said of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has taken responsibility for the message.
    Confirmed,
    /// It can't or won't take this message: a reason for the operator.
    Refused(String),
    /// Nothing was said: the connection broke. The message may have arrived.
    Unknown,
}

/// A stream that can't go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    /// Why, for the operator.
    pub reason: String,
    /// When it halted first.
    pub since: Instant,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again.
    retry_at: Instant,
    /// What was published of the entry that it halted at.
    progress: Option<Progress>,
    /// Whether a scan has found it since the last pass ended.
    is_still_pending: bool,
}

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events that the broker confirmed.
    pub published: u64,
    /// Entries that were deleted.
    pub deleted: u64,
}

/// The decisions of one relay.
#[derive(Debug)]
pub struct Core {
    bounds: Bounds,
    /// The streams that are worked on.
    lanes: HashMap<StreamId, Lane>,
    /// Streams whose lane waits for a read.
    to_read: VecDeque<StreamId>,
    /// Streams whose lane has an event to publish.
    to_publish: VecDeque<StreamId>,
    /// Confirmed entries.
    to_delete: VecDeque<PendingKey>,
    /// Streams whose read has failed, by the time of the next attempt.
    resting: BTreeSet<(Instant, StreamId)>,
    /// Deletes that DynamoDB did not get to wait until then.
    deletes_rest_until: Option<Instant>,
    /// Deletes that failed in a row.
    failed_deletes: u32,
    /// Reads that the shell has under way, and the bytes that they may bring.
    reads_under_way: usize,
    reserved_bytes: usize,
    /// Bytes of the events in all lanes.
    buffered_bytes: usize,
    /// Deletes that the shell has under way.
    deletes_under_way: usize,
    /// What was published last of streams whose lane is gone. Only ever spares a proof.
    remembered: LruCache<StreamId, u64>,
    halted: LruCache<StreamId, Halt>,
    totals: Totals,
}

impl Core {
    /// A relay that has nothing to do yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            lanes: HashMap::new(),
            to_read: VecDeque::new(),
            to_publish: VecDeque::new(),
            to_delete: VecDeque::new(),
            resting: BTreeSet::new(),
            deletes_rest_until: None,
            failed_deletes: 0,
            reads_under_way: 0,
            reserved_bytes: 0,
            buffered_bytes: 0,
            deletes_under_way: 0,
            remembered: LruCache::new(REMEMBERED_STREAMS),
            halted: LruCache::new(REMEMBERED_HALTS),
            totals: Totals::default(),
        }
    }

    /// What has been done so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The halted streams.
    pub fn halts(&self) -> impl Iterator<Item = (&StreamId, &Halt)> {
        self.halted.iter()
    }

    /// Whether no stream is being worked on.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether no confirmed entry waits for its deletion.
    #[must_use]
    pub fn has_deleted_all(&self) -> bool {
        self.to_delete.is_empty() && self.deletes_under_way == 0
    }

    /// A scan says that a stream has something pending.
    pub fn found(&mut self, stream: &StreamId, now: Instant) -> Found {
        if self.lanes.contains_key(stream) {
            return Found::UnderWay;
        }
        let mut progress = None;
        if let Some(halt) = self.halted.peek_mut(stream) {
            halt.is_still_pending = true;
            progress = halt.progress;
            if now < halt.retry_at {
                return Found::Halted;
            }
        }
        if self.lanes.len() >= self.bounds.max_streams {
            return Found::NoRoom;
        }
        let published_through = self.remembered.pop(stream).unwrap_or(0);
        self.lanes.insert(stream.clone(), Lane::new(published_through, progress));
        self.to_read.push_back(stream.clone());
        Found::Admitted
    }

    /// A scan has come to the end of the index. Halted streams that it did not find have nothing pending any more.
    pub fn scanned_all(&mut self) {
        let gone: Vec<_> = self
            .halted
            .iter()
            .filter(|(stream, halt)| !halt.is_still_pending && !self.lanes.contains_key(*stream))
            .map(|(stream, _)| stream.clone())
            .collect();
        for stream in gone {
            self.halted.pop(&stream);
        }
        for (_, halt) in &mut self.halted {
            halt.is_still_pending = false;
        }
    }

    /// The next read to do, while there is room for what it may bring.
    pub fn next_read(&mut self) -> Option<Read> {
        while self.reads_under_way < self.bounds.max_reads {
            let stream = self.to_read.front()?.clone();
            let Some(read) = self.lanes.get(&stream).and_then(|lane| self.read_of(&stream, lane)) else {
                self.to_read.pop_front();
                continue;
            };
            let reserve = self.reserve_of(&read);
            let held = self.buffered_bytes + self.reserved_bytes;
            // One read is always allowed: what is held may wait for just this one.
            if self.reads_under_way > 0 && held + reserve > self.bounds.max_buffered_bytes {
                return None;
            }
            self.to_read.pop_front();
            self.reads_under_way += 1;
            self.reserved_bytes += reserve;
            return Some(read);
        }
        None
    }

    fn read_of(&self, stream: &StreamId, lane: &Lane) -> Option<Read> {
        let stream = stream.clone();
        match lane.step(self.bounds.settle_window) {
            Step::ReadPending { from } => Some(Read::Pending { stream, from, limit: self.bounds.entries_per_read }),
            Step::ReadEvents { from, last } => Some(Read::Events { stream, from, last }),
            Step::Prove { first } => Some(Read::Predecessor { stream, first }),
            _ => None,
        }
    }

    fn reserve_of(&self, read: &Read) -> usize {
        match read {
            Read::Pending { .. } => usize::from(self.bounds.entries_per_read) * ENTRY_BYTES,
            Read::Events { .. } => PAGE_BYTES,
            Read::Predecessor { .. } => 0,
        }
    }

    /// What a read has brought.
    pub fn answered(&mut self, read: &Read, answer: Answer, now: Instant) {
        self.reads_under_way -= 1;
        self.reserved_bytes -= self.reserve_of(read);
        let (Read::Pending { stream, .. } | Read::Events { stream, .. } | Read::Predecessor { stream, .. }) = read;
        let Some(lane) = self.lanes.get_mut(stream) else { return };
        let held = lane.bytes();
        match answer {
            Answer::Pending(page) => lane.take_pending(page),
            Answer::Events(events) => lane.take_events(events),
            Answer::Predecessor(Predecessor::Published) => lane.predecessor_is_published(),
            // Its entry will show up in the next Query, from the start.
            Answer::Predecessor(Predecessor::Pending) => lane.restart(),
            Answer::Predecessor(_) => {
                let at = now + lane.fail(FIRST_SETTLE_DELAY, self.bounds.longest_delay);
                self.resting.insert((at, stream.clone()));
                return;
            }
            Answer::Failed => {
                let at = now + lane.fail(self.bounds.first_delay, self.bounds.longest_delay);
                self.resting.insert((at, stream.clone()));
                return;
            }
            Answer::Unreadable(reason) => lane.halt(reason),
        }
        self.buffered_bytes = self.buffered_bytes + lane.bytes() - held;
        self.advance(stream, now);
    }

    /// The next batch: at most one event of each stream.
    pub fn next_batch(&mut self) -> Vec<Outgoing> {
        let mut batch = Vec::new();
        while batch.len() < self.bounds.max_batch_events
            && let Some(stream) = self.to_publish.pop_front()
        {
            if let Some(event) = self.lanes.get_mut(&stream).and_then(Lane::take_off) {
                batch.push(Outgoing { stream, event });
            }
        }
        batch
    }

    /// What became of an event of a batch.
    pub fn published(&mut self, stream: &StreamId, version: u64, outcome: Outcome, now: Instant) {
        let Some(lane) = self.lanes.get_mut(stream) else { return };
        let held = lane.bytes();
        match outcome {
            Outcome::Confirmed => {
                self.totals.published += 1;
                if self.halted.pop(stream).is_some() {
                    tracing::info!(%stream, version, "the stream goes on");
                }
                if let Some(first) = lane.confirmed() {
                    self.to_delete.push_back(PendingKey { stream_id: stream.clone(), first });
                }
            }
            Outcome::Unknown => lane.publish_again(),
            Outcome::Refused(reason) => lane.halt(format!("version {version}: {reason}")),
        }
        self.buffered_bytes = self.buffered_bytes + lane.bytes() - held;
        self.advance(stream, now);
    }

    /// The next confirmed entries to delete, at most 25.
    pub fn next_deletes(&mut self, now: Instant) -> Vec<PendingKey> {
        if self.deletes_rest_until.is_some_and(|until| now < until) {
            return Vec::new();
        }
        let count = self.to_delete.len().min(MAX_BATCH_DELETES);
        self.deletes_under_way += count;
        self.to_delete.drain(..count).collect()
    }

    /// How many confirmed entries wait for their deletion.
    #[must_use]
    pub fn deletes_waiting(&self) -> usize {
        self.to_delete.len()
    }

    /// What became of a batch of deletes: `left` were not done, all others were.
    pub fn deleted(&mut self, asked: &[PendingKey], left: Vec<PendingKey>, now: Instant) {
        self.deletes_under_way -= asked.len();
        self.totals.deleted += (asked.len() - left.len()) as u64;
        if left.is_empty() {
            self.failed_deletes = 0;
        } else {
            let delay = lane::delay(self.failed_deletes, self.bounds.first_delay, self.bounds.longest_delay);
            self.deletes_rest_until = Some(now + delay);
            self.failed_deletes += 1;
        }
        for key in asked.iter().filter(|key| !left.contains(key)) {
            let Some(lane) = self.lanes.get_mut(&key.stream_id) else { continue };
            lane.deleted();
            // Any other step is on its way already.
            if lane.step(self.bounds.settle_window) == Step::Close {
                self.close(&key.stream_id, now);
            }
        }
        self.to_delete.extend(left);
    }

    /// The time of the next thing that waits.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let resting = self.resting.first().map(|(at, _)| *at);
        resting.into_iter().chain(self.deletes_rest_until).min()
    }

    /// Wakes what is due.
    pub fn wake(&mut self, now: Instant) {
        if self.deletes_rest_until.is_some_and(|until| until <= now) {
            self.deletes_rest_until = None;
        }
        while let Some((at, _)) = self.resting.first()
            && *at <= now
            && let Some((_, stream)) = self.resting.pop_first()
        {
            self.to_read.push_back(stream);
        }
    }

    /// Puts a lane where its next step is taken.
    fn advance(&mut self, stream: &StreamId, now: Instant) {
        let Some(lane) = self.lanes.get(stream) else { return };
        match lane.step(self.bounds.settle_window) {
            Step::ReadPending { .. } | Step::ReadEvents { .. } | Step::Prove { .. } => {
                self.to_read.push_back(stream.clone());
            }
            Step::Publish => self.to_publish.push_back(stream.clone()),
            Step::Wait => {}
            Step::Close => self.close(stream, now),
        }
    }

    fn close(&mut self, stream: &StreamId, now: Instant) {
        let Some(lane) = self.lanes.remove(stream) else { return };
        self.buffered_bytes -= lane.bytes();
        if let Some(reason) = lane.halted() {
            let (since, attempts) = self.halted.peek(stream).map_or((now, 0), |halt| (halt.since, halt.attempts));
            let retry_at = now + lane::delay(attempts, self.bounds.first_delay, self.bounds.longest_delay);
            tracing::error!(%stream, reason, attempts = attempts + 1, "the stream is halted and will be tried again");
            let halt = Halt {
                reason: reason.to_owned(),
                since,
                attempts: attempts + 1,
                retry_at,
                progress: lane.progress(),
                is_still_pending: true,
            };
            self.halted.put(stream.clone(), halt);
        } else {
            self.halted.pop(stream);
        }
        if lane.published_through() > 0 {
            self.remembered.put(stream.clone(), lane.published_through());
        }
    }
}

#[cfg(test)]
mod tests;
