//! A relay: the real core, and what its process is going through.

use streambox::{StreamId, outbox::WorkerId};
use streambox_relay::core::{Core, DEFAULT_WORKER_TIMEOUT};

use super::{queue::Happening, scenario::Ms};

pub(super) struct Worker {
    pub(super) number: usize,
    pub(super) life: u32,
    pub(super) core: Core,
    pub(super) is_dead: bool,
    id: Option<WorkerId>,
    /// What has happened to it while it stood still.
    held: Vec<Happening>,
    paused_at: Option<Ms>,
    /// When it wakes next, if nothing else happens.
    pub(super) wakes_at: Option<Ms>,
}

impl Worker {
    pub(super) fn new(number: usize, life: u32, core: Core, id: Option<WorkerId>) -> Self {
        Self { number, life, core, is_dead: false, id, held: Vec::new(), paused_at: None, wakes_at: None }
    }

    /// Its name in the group, while it takes part.
    pub(super) fn id(&self) -> Option<&WorkerId> {
        self.id.as_ref().filter(|_| !self.is_dead && !self.core.is_finished())
    }

    /// Whether it holds nothing and has nothing to do. A dead one has nothing.
    pub(super) fn is_idle(&self) -> bool {
        let core = &self.core;
        let holds = core.open_streams() + core.deletes_waiting() + core.buffered_bytes();
        self.is_dead || (holds == 0 && !self.is_paused())
    }

    /// Whether it sees these streams as halted, and no others.
    pub(super) fn halts(&self, streams: &[StreamId]) -> bool {
        self.core.halts().map(|(stream, _)| stream).eq(streams)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused_at.is_some()
    }

    pub(super) fn pause(&mut self, now: Ms) {
        self.paused_at.get_or_insert(now);
    }

    /// Keeps what it will learn when it resumes.
    pub(super) fn hold(&mut self, what: Happening) {
        self.held.push(what);
    }

    /// Resumes. Returns what has come meanwhile, and whether its group has taken it for dead.
    pub(super) fn resume(&mut self, now: Ms) -> (Vec<Happening>, bool) {
        let stood_still_ms = now - self.paused_at.take().unwrap_or(now);
        let is_zombie = u128::from(stood_still_ms) > DEFAULT_WORKER_TIMEOUT.as_millis();
        (std::mem::take(&mut self.held), is_zombie)
    }
}
