//! The faults that are in force at the moment.

use super::scenario::FaultKind;

/// A fault may be in force several times over.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<FaultKind>);

impl Faults {
    pub(super) fn begin(&mut self, kind: FaultKind) {
        self.0.push(kind);
    }

    pub(super) fn end(&mut self, kind: FaultKind) {
        if let Some(place) = self.0.iter().position(|other| *other == kind) {
            self.0.swap_remove(place);
        }
    }

    pub(super) fn has(&self, kind: FaultKind) -> bool {
        self.0.contains(&kind)
    }

    /// Whether a worker that is down has to stay so.
    pub(super) fn keeps_down(&self, worker: usize) -> bool {
        self.0.iter().any(|kind| match kind {
            FaultKind::Crash(number) | FaultKind::Stop(number) => usize::from(*number) == worker,
            _ => false,
        })
    }

    pub(super) fn is_paused(&self, worker: usize) -> bool {
        self.0.iter().any(|kind| matches!(kind, FaultKind::Pause(number) if usize::from(*number) == worker))
    }
}
