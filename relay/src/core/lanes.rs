//! The streams that are worked on: which of them have a lane, and which step each lane takes next. `reads` and `publishing`
//! take the steps, within the bounds.

mod publishing;
mod reads;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lru::LruCache;
use streambox::{StreamId, outbox::PendingKey};
use tokio::time::Instant;

use super::{
    bounds::Bounds,
    halts::{Halt, Halts, Permission},
    lane::{Lane, Step},
    suspects::Suspects,
};

/// What the lanes do with a stream that a scan has found.
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

/// Something that an observer of the relay may want to know at once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A stream is halted, or another attempt to publish it has failed.
    Halted {
        /// The stream.
        stream: StreamId,
        /// Why, and what comes next.
        halt: Halt,
    },
    /// A halted stream continues, or has nothing pending any more, or is another worker's now.
    Resumed {
        /// The stream.
        stream: StreamId,
    },
    /// The live workers of the group have changed.
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
    /// Streams whose event is published alone, by its isolation.
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
    /// Whether a lane was closed that a scan had found under way.
    look_again: bool,
    /// The last published version of streams whose lane is closed. It stays true whichever worker publishes the stream
    /// meanwhile: everything up to it has reached the broker. It only ever saves a visibility check.
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
            look_again: false,
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

    /// A scan has found a pending entry of a stream. A halted one is tried at most `max_attempts` times, if that is set.
    pub(super) fn found(&mut self, stream: &StreamId, max_attempts: Option<u32>, now: Instant) -> Admission {
        self.is_crowded = false;
        if let Some(lane) = self.open.get_mut(stream) {
            lane.found_again();
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

    /// An entry of a stream was just committed: if the stream has a lane, that reads once more. Whether it has one.
    pub(super) fn committed(&mut self, stream: &StreamId, now: Instant) -> bool {
        let Some(lane) = self.open.get_mut(stream) else { return false };
        let was_waiting = lane.step(self.bounds.settle_window) == Step::Wait;
        lane.committed();
        // It waited for deletes alone. Whatever else it waits for puts it into a queue.
        if was_waiting && lane.step(self.bounds.settle_window) != Step::Wait {
            self.advance(stream, now);
        }
        true
    }

    /// Whether a lane was closed since the last call that a scan had found under way: there may be entries that it has not read.
    pub(super) fn take_look_again(&mut self) -> bool {
        std::mem::take(&mut self.look_again)
    }

    /// Releases the streams that another worker owns now, as soon as nothing of them is under way.
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

    /// A confirmed entry was deleted.
    pub(super) fn deleted(&mut self, key: &PendingKey, now: Instant) {
        let lane = self.open.get_mut(&key.stream_id).expect("a lane stays until its entries are deleted");
        lane.deleted(key.last);
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

    /// Puts a lane into the queue for its next step.
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

    fn close(&mut self, stream: &StreamId, now: Instant) {
        let Some(lane) = self.open.remove(stream) else { return };
        self.buffered_bytes -= lane.bytes();
        if lane.published_through() > 0 {
            self.remembered.put(stream.clone(), lane.published_through());
        }
        self.look_again |= lane.was_found_again();
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
