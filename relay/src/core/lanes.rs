//! The streams that are worked on: which is read and which is published next, within the bounds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lru::LruCache;
use streambox::{
    StreamId,
    outbox::{PendingKey, Predecessor},
};
use tokio::time::Instant;

use super::{
    bounds::{Bounds, Jitter},
    halts::{Halt, Halts, Permission},
    lane::{Cause, Lane, MAX_ENTRY_BYTES, MAX_EVENTS_BYTES, Step},
    suspects::Suspects,
    task::{Answer, Isolation, Outcome, Outgoing, Read},
};
use crate::text::shell_word;

/// After this many failed visibility checks in a row a stream halts: about 20 seconds. A
/// transaction is half visible for milliseconds.
const MAX_VISIBILITY_CHECKS: u32 = 10;

/// What became of a stream that a scan has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// A lane was opened for it.
    Admitted,
    /// A lane was opened for another attempt: it is halted until something of it is confirmed.
    Retried,
    /// It has a lane already.
    UnderWay,
    /// It is halted, and its next attempt is not due yet, or enough halted streams are being tried.
    Halted,
    /// All lanes are taken. Ask again later.
    NoRoom,
}

/// Something that whoever watches the relay may want to know at once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A stream is halted, or another attempt to go on with it has failed.
    Halted {
        /// The stream.
        stream: StreamId,
        /// Why, and what comes next.
        halt: Halt,
    },
    /// A stream that was halted goes on, or has nothing pending any more, or is another worker's now.
    Resumed {
        /// The stream.
        stream: StreamId,
    },
    /// Other workers are alive than before.
    Members,
    /// Another worker runs under this one's id.
    DuplicateId,
}

#[derive(Debug)]
pub(super) struct Lanes {
    bounds: Bounds,
    open: BTreeMap<StreamId, Lane>,
    /// Streams whose lane holds nothing and waits for its entries.
    to_read: VecDeque<StreamId>,
    /// Streams whose lane holds entries and waits for what is missing to publish them.
    to_complete: VecDeque<StreamId>,
    /// Streams whose lane has an event to publish.
    to_publish: VecDeque<StreamId>,
    /// Streams whose event is published alone, by how far it is kept apart.
    to_publish_alone: VecDeque<StreamId>,
    to_publish_apart: VecDeque<StreamId>,
    /// Events that the shell has under way, each on a channel or on a connection to itself.
    alone_under_way: usize,
    apart_under_way: usize,
    suspects: Suspects,
    /// Streams whose read has failed, by the time of the next attempt.
    resting: BTreeSet<(Instant, StreamId)>,
    /// Events that the shell has under way.
    in_flight: usize,
    /// Reads that the shell has under way, and the bytes that they may bring.
    reads_under_way: usize,
    reserved_bytes: usize,
    /// Bytes of the events in all lanes.
    buffered_bytes: usize,
    /// Whether a stream waits for a lane.
    is_crowded: bool,
    /// What was published last of streams whose lane is gone. It is a fact that stays one, whoever works on the stream
    /// meanwhile: everything up to there has reached the broker. It only ever saves a visibility check.
    remembered: LruCache<StreamId, u64>,
    halts: Halts,
    notices: Vec<Notice>,
}

impl Lanes {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            open: BTreeMap::new(),
            to_read: VecDeque::new(),
            to_complete: VecDeque::new(),
            to_publish: VecDeque::new(),
            to_publish_alone: VecDeque::new(),
            to_publish_apart: VecDeque::new(),
            alone_under_way: 0,
            apart_under_way: 0,
            suspects: Suspects::default(),
            resting: BTreeSet::new(),
            in_flight: 0,
            reads_under_way: 0,
            reserved_bytes: 0,
            buffered_bytes: 0,
            is_crowded: false,
            remembered: LruCache::sparse(bounds.remembered_streams),
            halts: Halts::new(bounds.remembered_halts),
            notices: Vec::new(),
            bounds,
        }
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    pub(super) fn contains(&self, stream: &StreamId) -> bool {
        self.open.contains_key(stream)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn halts(&self) -> &Halts {
        &self.halts
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    pub(super) fn reads_under_way(&self) -> usize {
        self.reads_under_way
    }

    pub(super) fn notify(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    pub(super) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// A scan says that a stream has something pending. A halted one is tried at most `max_attempts` times, if that is said.
    pub(super) fn found(&mut self, stream: &StreamId, max_attempts: Option<u32>, now: Instant) -> Admission {
        self.is_crowded = false;
        if let Some(lane) = self.open.get(stream) {
            return if lane.is_retry() { Admission::Halted } else { Admission::UnderWay };
        }
        let Permission::Now(retry) = self.halts.found(stream, max_attempts, now) else { return Admission::Halted };
        // However many are halted, there is room for the others.
        let most_retries = self.bounds.max_suspects.min(self.bounds.max_streams).div_ceil(2);
        if retry.is_some() && self.open.values().filter(|lane| lane.is_retry()).count() >= most_retries {
            return Admission::Halted;
        }
        if self.open.len() >= self.bounds.max_streams {
            self.is_crowded = true;
            return Admission::NoRoom;
        }
        let published_through = self.remembered.pop(stream).unwrap_or(0);
        self.open.insert(stream.clone(), Lane::new(published_through, retry));
        self.to_read.push_back(stream.clone());
        if retry.is_some() { Admission::Retried } else { Admission::Admitted }
    }

    /// A scan has come to the end of the index.
    pub(super) fn scanned_all(&mut self) {
        for stream in self.halts.scanned_all(|stream| self.open.contains_key(stream)) {
            self.notify(Notice::Resumed { stream });
        }
    }

    /// Lets go of the streams that another worker looks after now, as soon as nothing of them is under way.
    pub(super) fn release(&mut self, is_foreign: impl Fn(&StreamId) -> bool, now: Instant) {
        for stream in self.halts.release(&is_foreign) {
            self.notify(Notice::Resumed { stream });
        }
        let foreign: Vec<_> = self.open.keys().filter(|stream| is_foreign(stream)).cloned().collect();
        for stream in foreign {
            self.open.get_mut(&stream).expect("a lane that was just there").release();
            self.advance(&stream, now);
        }
    }

    /// The next read to do, while there is room for what it may bring. What completes the entries that are held goes
    /// first: it makes room.
    pub(super) fn next_read(&mut self) -> Option<Read> {
        if self.reads_under_way >= self.bounds.max_reads {
            return None;
        }
        let read = match front_read(&mut self.to_complete, &self.open, &self.bounds) {
            // Where nothing can be published, all that is held waits for just this one.
            Some(read) if self.has_room(&read) || self.is_stuck() => {
                self.to_complete.pop_front();
                read
            }
            _ => {
                let read = front_read(&mut self.to_read, &self.open, &self.bounds)?;
                let holds_nothing = self.buffered_bytes == 0 && self.is_stuck();
                if !holds_nothing && !self.has_room(&read) {
                    return None;
                }
                self.to_read.pop_front();
                read
            }
        };
        self.open.get_mut(read.stream()).expect("the lane that was just asked").begin_read();
        self.reads_under_way += 1;
        self.reserved_bytes += reserve_of(&read);
        Some(read)
    }

    /// Whether nothing is under way, and nothing could be, that makes room.
    fn is_stuck(&self) -> bool {
        let is_publishing = self.in_flight > 0
            || [&self.to_publish, &self.to_publish_alone, &self.to_publish_apart]
                .into_iter()
                .any(|queue| !queue.is_empty());
        self.reads_under_way == 0 && !is_publishing
    }

    fn has_room(&self, read: &Read) -> bool {
        self.buffered_bytes + self.reserved_bytes + reserve_of(read) <= self.bounds.max_buffered_bytes
    }

    /// What a read has brought.
    pub(super) fn answered(&mut self, read: &Read, answer: Answer, jitter: &mut Jitter, now: Instant) {
        self.reads_under_way -= 1;
        self.reserved_bytes -= reserve_of(read);
        let stream = read.stream();
        let lane = self.open.get_mut(stream).expect("a lane stays while a read of it is under way");
        let held = lane.bytes();
        let rest = match answer {
            Answer::Pending(page) => {
                lane.take_pending(page);
                None
            }
            Answer::Events(events) => {
                lane.take_events(events);
                None
            }
            Answer::VisibilityCheck(Predecessor::Published) => {
                lane.previous_is_published();
                None
            }
            Answer::VisibilityCheck(seen) => {
                let version = lane.front();
                let attempts = lane.previous_is_not_published();
                // The next attempt costs one look, not as many again.
                if attempts >= MAX_VISIBILITY_CHECKS || lane.is_retry() {
                    lane.halt(Cause { version, reason: unpublished(read, seen, version) });
                    None
                } else {
                    Some(self.bounds.visibility_delay(attempts))
                }
            }
            Answer::Failed => Some(self.bounds.delay(lane.fail())),
            Answer::Unreadable(reason) => {
                let version = match read {
                    Read::Events { from, .. } => *from,
                    Read::Pending { .. } | Read::VisibilityCheck { .. } => lane.front(),
                };
                lane.halt(Cause { version, reason });
                None
            }
        };
        self.buffered_bytes = self.buffered_bytes + lane.bytes() - held;
        match rest {
            Some(delay) => _ = self.resting.insert((now + jitter.shorten(delay), stream.clone())),
            None => self.advance(stream, now),
        }
    }

    /// The next batch: at most one event of each stream.
    pub(super) fn next_batch(&mut self) -> Vec<Outgoing> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < self.bounds.max_batch_events
            && let Some(stream) = self.to_publish.pop_front()
        {
            let Some(lane) = self.open.get_mut(&stream) else { continue };
            if lane.step(self.bounds.settle_window) != Step::Publish {
                continue;
            }
            let Some(event) = lane.next_event() else { continue };
            // It may have become suspect while it waited.
            if self.suspects.words(&stream, event).is_some() {
                lane.isolate(Isolation::Channel);
                self.to_publish_alone.push_back(stream);
                continue;
            }
            bytes += event.payload.len();
            if bytes > self.bounds.max_batch_bytes && !batch.is_empty() {
                self.to_publish.push_front(stream);
                break;
            }
            if let Some(event) = lane.take_off() {
                batch.push(Outgoing { stream, event });
            }
        }
        self.in_flight += batch.len();
        batch
    }

    /// The next event to publish alone. Those with a connection to themselves go one at a time.
    pub(super) fn next_alone(&mut self) -> Option<(Outgoing, Isolation)> {
        loop {
            let (queue, isolation) = if self.apart_under_way == 0 && !self.to_publish_apart.is_empty() {
                (&mut self.to_publish_apart, Isolation::Connection)
            } else if self.alone_under_way < self.bounds.max_suspects {
                (&mut self.to_publish_alone, Isolation::Channel)
            } else {
                return None;
            };
            let stream = queue.pop_front()?;
            let Some(lane) = self.open.get_mut(&stream) else { continue };
            if lane.step(self.bounds.settle_window) == Step::Publish
                && let Some(event) = lane.take_off()
            {
                *self.under_way_with(isolation) += 1;
                self.in_flight += 1;
                return Some((Outgoing { stream, event }, isolation));
            }
        }
    }

    /// An event that was published alone has come back.
    pub(super) fn published_alone(&mut self, isolation: Isolation) {
        *self.under_way_with(isolation) -= 1;
    }

    fn under_way_with(&mut self, isolation: Isolation) -> &mut usize {
        match isolation {
            Isolation::Channel => &mut self.alone_under_way,
            Isolation::Connection => &mut self.apart_under_way,
        }
    }

    /// Events that are published alone, each on a channel or on a connection to itself.
    pub(super) fn alone_under_way(&self) -> usize {
        self.alone_under_way + self.apart_under_way
    }

    /// What became of an event of a batch. Returns the entry that is now published as a whole.
    pub(super) fn published(&mut self, outgoing: &Outgoing, outcome: Outcome, now: Instant) -> Option<PendingKey> {
        self.in_flight -= 1;
        let (stream, version) = (&outgoing.stream, outgoing.event.version);
        let lane = self.open.get_mut(stream).expect("a lane stays while an event of it is in flight");
        let held = lane.bytes();
        let is_confirmed = outcome == Outcome::Confirmed;
        let mut first = None;
        match outcome {
            Outcome::Confirmed => {
                self.suspects.confirmed(stream, &outgoing.event);
                first = lane.confirmed();
            }
            Outcome::Unknown => lane.publish_again(),
            Outcome::Suspect(_) => lane.suspect(),
            Outcome::Refused(reason) => lane.halt(Cause { version, reason }),
            Outcome::Poison(reason) => {
                self.suspects.refused(stream, &outgoing.event, &reason);
                lane.halt(Cause { version, reason });
            }
        }
        self.buffered_bytes = self.buffered_bytes + lane.bytes() - held;
        if is_confirmed && self.halts.resolve(stream) {
            self.notify(Notice::Resumed { stream: stream.clone() });
        }
        self.advance(stream, now);
        first.map(|first| PendingKey { stream_id: stream.clone(), first })
    }

    /// A confirmed entry was deleted.
    pub(super) fn deleted(&mut self, key: &PendingKey, now: Instant) {
        let lane = self.open.get_mut(&key.stream_id).expect("a lane stays until its entries are deleted");
        lane.deleted(key.first);
        // Any other step is on its way already.
        if lane.step(self.bounds.settle_window) == Step::Close {
            self.close(&key.stream_id, now);
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.resting.first().map(|(at, _)| *at)
    }

    /// Wakes the lanes that have rested for long enough.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some((at, _)) = self.resting.first()
            && *at <= now
            && let Some((_, stream)) = self.resting.pop_first()
        {
            self.open.get_mut(&stream).expect("a lane stays while it rests").rested();
            self.advance(&stream, now);
        }
    }

    /// Puts a lane where its next step is taken.
    fn advance(&mut self, stream: &StreamId, now: Instant) {
        let lane = self.open.get_mut(stream).expect("a lane that was just dealt with");
        let mut step = lane.step(self.bounds.settle_window);
        if self.is_crowded && matches!(step, Step::ReadPending { from } if from > 1) {
            lane.leave_rest();
            step = lane.step(self.bounds.settle_window);
        }
        match step {
            Step::ReadPending { .. } => self.to_read.push_back(stream.clone()),
            Step::ReadEvents { .. } | Step::CheckVisibility { .. } => self.to_complete.push_back(stream.clone()),
            Step::Publish => self.publish(stream, now),
            Step::Wait => {}
            Step::Close => self.close(stream, now),
        }
    }

    /// Puts a lane where its next event is published: in a batch, or alone.
    fn publish(&mut self, stream: &StreamId, now: Instant) {
        let most_known = self.bounds.max_suspects.div_ceil(2);
        let lane = self.open.get_mut(stream).expect("a lane that was just dealt with");
        if lane.isolation().is_none()
            && let Some(event) = lane.next_event()
            && let Some(words) = self.suspects.words(stream, event)
        {
            if self.alone_under_way + self.to_publish_alone.len() >= most_known {
                let reason = format!(
                    "not published: {most_known} events or more are being published one by one, and of the last event \
                     with the same routing key or of this size it was said: {words}"
                );
                let held = lane.bytes();
                lane.halt(Cause { version: event.version, reason });
                self.buffered_bytes = self.buffered_bytes + lane.bytes() - held;
                self.advance(stream, now);
                return;
            }
            lane.isolate(Isolation::Channel);
        }
        let queue = match lane.isolation() {
            None => &mut self.to_publish,
            Some(Isolation::Channel) => &mut self.to_publish_alone,
            Some(Isolation::Connection) => &mut self.to_publish_apart,
        };
        queue.push_back(stream.clone());
    }

    fn close(&mut self, stream: &StreamId, now: Instant) {
        let Some(lane) = self.open.remove(stream) else { return };
        self.buffered_bytes -= lane.bytes();
        if lane.published_through() > 0 {
            self.remembered.put(stream.clone(), lane.published_through());
        }
        let is_released = lane.is_released();
        match lane.into_halt() {
            Some((cause, attempt)) if !is_released => {
                let halt = self.halts.put(stream, cause, attempt, &self.bounds, now);
                self.notify(Notice::Halted { stream: stream.clone(), halt });
            }
            _ => {
                if self.halts.resolve(stream) {
                    self.notify(Notice::Resumed { stream: stream.clone() });
                }
            }
        }
    }
}

/// The read of the first lane of a queue that still waits for one; those that do not are taken out.
fn front_read(queue: &mut VecDeque<StreamId>, open: &BTreeMap<StreamId, Lane>, bounds: &Bounds) -> Option<Read> {
    loop {
        let stream = queue.front()?;
        if let Some(read) = open.get(stream).and_then(|lane| read_of(stream, lane, bounds)) {
            return Some(read);
        }
        queue.pop_front();
    }
}

fn read_of(stream: &StreamId, lane: &Lane, bounds: &Bounds) -> Option<Read> {
    let stream = stream.clone();
    match lane.step(bounds.settle_window) {
        Step::ReadPending { from } => {
            // Of a stream that is halted the first entry is enough to see whether it goes on.
            let limit = if lane.is_retry() { 1 } else { bounds.entries_per_read };
            Some(Read::Pending { stream, from, limit })
        }
        Step::ReadEvents { from, last } => Some(Read::Events { stream, from, last }),
        Step::CheckVisibility { first } => Some(Read::VisibilityCheck { stream, first }),
        _ => None,
    }
}

fn reserve_of(read: &Read) -> usize {
    match read {
        Read::Pending { limit, .. } => usize::from(*limit) * MAX_ENTRY_BYTES,
        Read::Events { .. } => MAX_EVENTS_BYTES,
        Read::VisibilityCheck { .. } => 0,
    }
}

fn unpublished(read: &Read, seen: Predecessor, version: u64) -> String {
    let Read::VisibilityCheck { stream, first } = read else { return String::new() };
    let before = format!("the append before, which begins at version {first},");
    match seen {
        Predecessor::Missing => format!(
            "{before} is missing: neither its event nor its pending entry is in the table, so nobody can tell whether it was \
             published. Restore it, or give it up together with this entry: streambox-relay skip {} {version} \
             --give-up-previous --reason TEXT",
            shell_word(stream.as_str()),
        ),
        _ => format!("{before} is pending or being written, but no Query shows its pending entry"),
    }
}
