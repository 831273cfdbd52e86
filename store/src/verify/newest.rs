//! Which version is the last public one at each place of a stream. A private event names it, and so does the next pending entry, for
//! the order of publication.

use crate::{event::RecordedEvent, stream::Previous};

/// The walk through a stream's events: the last public version, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Newest {
    Known(Option<Previous>),
    /// Behind an event that is missing or can't be read.
    Unknown,
}

impl Default for Newest {
    fn default() -> Self {
        Self::Known(None)
    }
}

impl Newest {
    /// Takes the next event. If it is private and names another version than it should: what is wrong.
    pub(super) fn event(&mut self, event: &RecordedEvent) -> Option<String> {
        if !event.is_private {
            *self = Self::Known(event.newest_public);
            return None;
        }
        let Self::Known(newest) = *self else { return None };
        (event.newest_public != newest).then(|| wrongly_named(event.newest_public, newest))
    }

    /// An event is missing, or can't be read.
    pub(super) fn forget(&mut self) {
        *self = Self::Unknown;
    }
}

/// The fault if `named` is named and `newest` is right.
pub(super) fn wrongly_named(named: Option<Previous>, newest: Option<Previous>) -> String {
    format!("it names {} as the last public one before it; that is {}", text(named), text(newest))
}

fn text(public: Option<Previous>) -> String {
    public.map_or("none".to_owned(), |public| {
        format!("version {}, recorded at {} ms", public.version, public.recorded_at_ms)
    })
}
