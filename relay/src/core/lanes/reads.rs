//! The reads of the lanes, within the bounds of requests and memory, and their answers.

use std::collections::{BTreeMap, VecDeque};

use streambox::{StreamId, outbox::Predecessor};
use tokio::time::Instant;

use super::{
    super::{
        bounds::{Bounds, Jitter},
        lane::{Cause, Lane, Step},
        size::{MAX_ENTRY_BYTES, MAX_EVENTS_BYTES},
        task::{Answer, Read},
    },
    Lanes,
};
use crate::text::shell_word;

/// After this many failed visibility checks in a row a stream halts: about 20 seconds. A
/// transaction is half visible for milliseconds.
const MAX_VISIBILITY_CHECKS: u32 = 10;

impl Lanes {
    /// The next read to do, while there is room for its answer. A read that completes entries that are held goes first: it
    /// makes room.
    pub(in crate::core) fn next_read(&mut self) -> Option<Read> {
        if self.reads_under_way >= self.bounds.max_reads {
            return None;
        }
        let read = match front_read(&mut self.to_complete, &self.open, &self.bounds) {
            // If nothing can be published, everything that is held waits for this read.
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

    /// Takes the answer to a read.
    pub(in crate::core) fn answered(&mut self, read: &Read, answer: Answer, jitter: &mut Jitter, now: Instant) {
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
                // Another attempt costs one check, not as many again.
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
            // The first entry of a halted stream is enough to see whether the stream can continue.
            let limit = if lane.is_retry() { 1 } else { bounds.entries_per_read };
            Some(Read::Pending { stream, from, limit })
        }
        Step::ReadEvents { from, last, previous } => Some(Read::Events { stream, from, last, previous }),
        Step::CheckVisibility { last } => Some(Read::VisibilityCheck { stream, last }),
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
    let Read::VisibilityCheck { stream, last } = read else { return String::new() };
    let before = format!("the append before, with the public version {last},");
    match seen {
        Predecessor::Missing => format!(
            "{before} is missing: neither its event nor its pending entry is in the table, so it is unknown whether it was \
             published. Restore it, or give it up together with this entry: streambox-relay skip {} {version} \
             --give-up-previous --reason TEXT",
            shell_word(stream.as_str()),
        ),
        _ => format!("{before} is pending or being written, but no Query shows its pending entry"),
    }
}
