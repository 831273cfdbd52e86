//! A model of the database of the effects: positions, effects and marks, an index of what is due that lags, and a restore.

use std::collections::BTreeMap;

use streambox::Uuid;
use streambox_consumer::{Applied, Position, core::RetryAt};

use super::{
    super::scenario::Ms,
    store::{EventNumber, event_id},
};

/// What is noted of a parked stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) retry_at: RetryAt,
    pub(super) attempts: u32,
    pub(super) latest_version: u64,
    pub(super) reason: String,
}

/// All that is stored of a stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Item {
    pub(super) position: Position,
    pub(super) effects: Vec<EventNumber>,
    pub(super) mark: Option<Mark>,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    items: BTreeMap<u8, Item>,
    /// What the index was at each change of it.
    index: BTreeMap<u8, Vec<(Ms, Option<RetryAt>)>>,
}

impl Inbox {
    pub(super) fn item(&self, stream: u8) -> Item {
        self.items.get(&stream).cloned().unwrap_or_default()
    }

    fn change(&mut self, stream: u8, now: Ms, change: impl FnOnce(&mut Item)) {
        let item = self.items.entry(stream).or_default();
        change(item);
        let retry_at = item.mark.as_ref().map(|mark| mark.retry_at);
        let changes = self.index.entry(stream).or_default();
        if changes.last().and_then(|(_, last)| *last) != retry_at {
            changes.push((now, retry_at));
        }
    }

    /// Stores an effect and moves the position, in one transaction.
    pub(super) fn apply(&mut self, stream: u8, event: EventNumber, version: u64, last: u64, now: Ms) -> Applied {
        if self.item(stream).position.version != last {
            return Applied::Moved;
        }
        self.set_position(stream, version, Some(event_id(event)), now);
        self.add_effect(stream, event, now);
        Applied::Stored
    }

    pub(super) fn set_position(&mut self, stream: u8, version: u64, event_id: Option<Uuid>, now: Ms) {
        self.change(stream, now, |item| item.position = Position { version, event_id });
    }

    pub(super) fn add_effect(&mut self, stream: u8, event: EventNumber, now: Ms) {
        self.change(stream, now, |item| item.effects.push(event));
    }

    /// Parks a stream, or says that it has failed again.
    pub(super) fn park(&mut self, stream: u8, reason: &str, latest_version: u64, retry_at: RetryAt, now: Ms) {
        self.change(stream, now, |item| {
            let before = item.mark.take();
            item.mark = Some(Mark {
                retry_at,
                attempts: before.as_ref().map_or(1, |mark| mark.attempts),
                latest_version: before.map_or(0, |mark| mark.latest_version).max(latest_version),
                reason: reason.to_owned(),
            });
        });
    }

    /// Whether it is parked.
    pub(super) fn note_latest(&mut self, stream: u8, version: u64, now: Ms) -> bool {
        let mut is_parked = false;
        self.change(stream, now, |item| {
            if let Some(mark) = &mut item.mark {
                mark.latest_version = mark.latest_version.max(version);
                is_parked = true;
            }
        });
        is_parked
    }

    pub(super) fn claim(&mut self, stream: u8, seen: RetryAt, next: RetryAt, now: Ms) -> Option<Mark> {
        let mut claimed = None;
        self.change(stream, now, |item| {
            if let Some(mark) = item.mark.as_mut().filter(|mark| mark.retry_at == seen) {
                (mark.retry_at, mark.attempts) = (next, mark.attempts + 1);
                claimed = Some(mark.clone());
            }
        });
        claimed
    }

    /// Removes the mark, or returns the version that it needs.
    pub(super) fn unpark(&mut self, stream: u8, last: u64, now: Ms) -> Option<u64> {
        let latest = self.item(stream).mark.map(|mark| mark.latest_version).filter(|latest| *latest > last);
        if latest.is_none() {
            self.remove_mark(stream, now);
        }
        latest
    }

    pub(super) fn remove_mark(&mut self, stream: u8, now: Ms) {
        self.change(stream, now, |item| item.mark = None);
    }

    /// Moves the position behind an event, as `skip.rs` of the consumer does.
    pub(super) fn skip(&mut self, stream: u8, version: u64, id: Option<Uuid>, clock: RetryAt, now: Ms) {
        self.set_position(stream, version, id, now);
        self.change(stream, now, |item| {
            item.mark = item.mark.take().filter(|mark| mark.latest_version > version);
            if let Some(mark) = &mut item.mark {
                (mark.retry_at, mark.attempts) = (clock, 0);
            }
        });
    }

    /// What the index showed so long ago of the streams that are due.
    pub(super) fn due(&self, clock: RetryAt, shown_at: Ms) -> Vec<(u8, RetryAt)> {
        let shown = self.index.iter().filter_map(|(stream, changes)| {
            let (_, retry_at) = changes.iter().rev().find(|(at, _)| *at <= shown_at)?;
            retry_at.map(|retry_at| (*stream, retry_at))
        });
        let mut due: Vec<_> = shown.filter(|(_, retry_at)| *retry_at <= clock).collect();
        due.sort_by_key(|(_, retry_at)| *retry_at);
        due
    }

    pub(super) fn snapshot(&self) -> BTreeMap<u8, Item> {
        self.items.clone()
    }

    /// Returns to what it was. Returns the streams that have lost effects by it.
    pub(super) fn restore(&mut self, snapshot: &BTreeMap<u8, Item>, now: Ms) -> Vec<u8> {
        let mut changed = Vec::new();
        for stream in self.items.keys().copied().collect::<Vec<_>>() {
            let then = snapshot.get(&stream).cloned().unwrap_or_default();
            if self.item(stream).effects != then.effects {
                changed.push(stream);
            }
            self.change(stream, now, |item| *item = then);
        }
        changed
    }
}
