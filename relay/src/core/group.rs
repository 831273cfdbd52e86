//! A group of relays without leases: who is alive, and whose stream is whose.
//!
//! # Source of truth
//! The pending entries in the table, and nothing else. What this module computes is a hint about who had better work on
//! a stream; no promise rests on it. Every worker publishes the pending entries of a stream in order, the next event
//! only after the one before was confirmed, and deletes only what was confirmed. So two workers on one stream cost
//! duplicates, and none on a stream costs time until the next one looks. Neither loses an event or changes the order of
//! first deliveries: whichever worker delivers version 5 first has had version 4 confirmed, by itself or by the worker that
//! deleted its entry.
//!
//! # State
//! Each worker keeps one row in the table and nobody else writes it: `beat` changes with each heartbeat. It is put
//! without a condition, so a healthy group makes no write that DynamoDB refuses. With each heartbeat a worker reads all
//! rows. To the reader a peer is
//!
//! - *alive* when its row appears, and whenever its beat has changed;
//! - *gone* when its beat has stood still for the timeout, or when its row is not there any more (SIGTERM removes it).
//!
//! The row of a worker that is gone is removed at once, without a condition, by the live worker that its id belongs to. If
//! that worker still lives, its next heartbeat puts the row there again. So a row that stays is that of a live worker, and a
//! worker that starts, which has seen no beat stand still yet and takes every row for alive, finds no rows of the dead. The
//! exception is a death that nobody outlived for the timeout: those rows count until the new worker has seen them stand
//! still for that long.
//!
//! Of the live workers, itself always included, the one with the highest weight for a stream works on it: XXH3-64 of
//! the stream id, seeded by XXH3-64 of the worker id (rendezvous hashing). The weights do not depend on who else is
//! there, so a worker that joins takes streams from each of the others and one that goes leaves its own to them; no
//! other stream moves.
//!
//! # Trust window
//! A change reaches every worker within one heartbeat interval, a death within the timeout and one interval. Until then
//! two workers may work on a stream, or none. A worker that joins begins at once: to wait until all have seen it would
//! turn the duplicates of one interval into a delay of one interval.
//!
//! Time is the reader's own monotonic clock, and no clock is compared with another one's. It counts only while it
//! reads: two reads that are far apart, because DynamoDB was away or this process was stopped, count as
//! [`LONGEST_GAP_INTERVALS`] intervals. So after an outage nobody takes the others for dead before they had a chance to
//! write.
//!
//! # Failures
//! - *A worker dies* (SIGKILL, power): its streams rest for the timeout, then the others have them, and its row is removed.
//! - *All die, and others start under new names*: the streams of the dead rest for the timeout.
//! - *A worker is stopped and goes on* (SIGSTOP, a paused machine): it continues with what it held. That was published by
//!   others meanwhile, so it publishes late duplicates, deletes what is gone already, and is alive again to all with its next
//!   heartbeat, which puts its row back.
//! - *Heartbeats can't be written*: the others take this worker for dead, it continues: duplicates.
//! - *Rows can't be read*: the last known members stay; before the first read a worker is alone.
//! - *Two workers under one id*: both work on the same share. Each sees a beat in its row that it has not written, and
//!   logs an error.
//! - *Two groups by mistake, or a relay outside of any*: duplicates.
//! - *A clock is set*: nothing happens, wall clocks take no part.

use std::{collections::BTreeMap, time::Duration};

use streambox::{StreamId, outbox::WorkerId};
use tokio::time::Instant;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{bounds::Jitter, task::WorkerBeat};

/// The time from one heartbeat to the next, unless set otherwise. In a month a worker makes 520,000 of them, each one
/// write unit and one read unit (two beyond four workers, and so on): 0.40 dollars on demand.
pub const DEFAULT_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// How long a beat must stand still before its worker is gone, unless set otherwise.
pub const DEFAULT_WORKER_TIMEOUT: Duration = Duration::from_secs(15);

/// The fewest intervals of a timeout: one heartbeat that comes late or is lost does not mean a death.
pub const LEAST_TIMEOUT_INTERVALS: u32 = 2;

/// The most that two reads far apart count for, in intervals.
pub const LONGEST_GAP_INTERVALS: u32 = 2;

/// A worker's place in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// The worker's own name: no two that run at the same time may have the same one.
    pub id: WorkerId,
    /// The time from one heartbeat to the next.
    pub heartbeat_interval: Duration,
    /// How long a beat must stand still before its worker is gone: at least [`LEAST_TIMEOUT_INTERVALS`] intervals.
    pub timeout: Duration,
}

impl GroupSettings {
    /// The defaults, under a name.
    #[must_use]
    pub fn new(id: WorkerId) -> Self {
        Self { id, heartbeat_interval: DEFAULT_HEARTBEAT_INTERVAL, timeout: DEFAULT_WORKER_TIMEOUT }
    }
}

/// One worker's view of its group.
#[derive(Debug)]
pub(super) struct Group {
    settings: GroupSettings,
    /// The last beat that this worker has begun to write.
    beat: u64,
    is_beating: bool,
    next_beat_at: Instant,
    read_at: Option<Instant>,
    /// The rows of the others.
    peers: BTreeMap<WorkerId, Peer>,
    /// The live workers by their ids, this one included, each with the seed of its weights.
    live: Vec<(WorkerId, u64)>,
    /// The row of this worker that another one has written.
    is_duplicate: bool,
}

#[derive(Debug)]
struct Peer {
    beat: u64,
    /// For how long the beat has stood still.
    still_for: Duration,
}

/// What a read of the rows has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Whether the live workers have changed.
    pub(super) members: bool,
    /// Whether it was noticed just now that another worker uses this one's id.
    pub(super) duplicate_id: bool,
    /// Rows of workers that are gone, which this one removes.
    pub(super) forget: Vec<WorkerId>,
}

impl Group {
    pub(super) fn new(settings: GroupSettings, now: Instant) -> Self {
        let live = vec![(settings.id.clone(), seed(&settings.id))];
        Self {
            settings,
            beat: 0,
            is_beating: false,
            next_beat_at: now,
            read_at: None,
            peers: BTreeMap::new(),
            live,
            is_duplicate: false,
        }
    }

    pub(super) fn me(&self) -> &WorkerId {
        &self.settings.id
    }

    pub(super) fn live(&self) -> impl ExactSizeIterator<Item = &WorkerId> {
        self.live.iter().map(|(id, _)| id)
    }

    pub(super) fn read_at(&self) -> Option<Instant> {
        self.read_at
    }

    /// Whether this worker is to work on a stream.
    pub(super) fn owns(&self, stream: &StreamId) -> bool {
        self.owner(stream.as_str()) == Some(&self.settings.id)
    }

    fn owner(&self, key: &str) -> Option<&WorkerId> {
        self.live.iter().max_by_key(|(id, seed)| (weight(key, *seed), id)).map(|(id, _)| id)
    }

    /// The next beat to write, if it is time.
    pub(super) fn next_beat(&mut self, jitter: &mut Jitter, now: Instant) -> Option<u64> {
        if self.is_beating || now < self.next_beat_at {
            return None;
        }
        self.is_beating = true;
        self.next_beat_at = now + jitter.shorten(self.settings.heartbeat_interval);
        self.beat += 1;
        Some(self.beat)
    }

    pub(super) fn is_beating(&self) -> bool {
        self.is_beating
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        (!self.is_beating).then_some(self.next_beat_at)
    }

    /// Takes what all rows show, after this worker's own was written; none if they could not be read.
    pub(super) fn beaten(&mut self, rows: Option<Vec<WorkerBeat>>, now: Instant) -> Change {
        self.is_beating = false;
        let Some(rows) = rows else { return Change::default() };
        let longest_gap = self.settings.heartbeat_interval.saturating_mul(LONGEST_GAP_INTERVALS);
        let gap = self.read_at.map_or(Duration::ZERO, |read_at| (now - read_at).min(longest_gap));
        self.read_at = Some(now);
        let mut change = Change::default();
        let mut peers = BTreeMap::new();
        for row in rows {
            if row.id == self.settings.id {
                let is_duplicate = row.beat != self.beat;
                change.duplicate_id = is_duplicate && !self.is_duplicate;
                self.is_duplicate = is_duplicate;
                continue;
            }
            let still_for = match self.peers.get(&row.id) {
                Some(peer) if peer.beat == row.beat => peer.still_for + gap,
                _ => Duration::ZERO,
            };
            peers.insert(row.id, Peer { beat: row.beat, still_for });
        }
        self.peers = peers;
        let is_alive = |peer: &Peer| peer.still_for < self.settings.timeout;
        let mut live: Vec<_> = self.peers.iter().filter(|(_, peer)| is_alive(peer)).map(|(id, _)| id.clone()).collect();
        live.push(self.settings.id.clone());
        live.sort_unstable();
        change.members = !live.iter().eq(self.live());
        if change.members {
            self.live = live.into_iter().map(|id| (id.clone(), seed(&id))).collect();
        }
        let gone = self.peers.iter().filter(|(_, peer)| !is_alive(peer));
        // One of the live workers does it.
        change.forget =
            gone.map(|(id, _)| id).filter(|id| self.owner(id.as_str()) == Some(self.me())).cloned().collect();
        change
    }
}

fn seed(id: &WorkerId) -> u64 {
    xxh3_64(id.as_str().as_bytes())
}

/// The weight of a worker for a stream. Every version of the program has to compute the same.
fn weight(key: &str, seed: u64) -> u64 {
    xxh3_64_with_seed(key.as_bytes(), seed)
}

#[cfg(test)]
#[path = "tests/group.rs"]
mod tests;
