//! Which append with a pending entry is the newest at each place of a stream. A private event names it, and so does the next
//! pending entry, for the order of publication.

use crate::{
    event::{AppendRange, RecordedEvent},
    stream::Previous,
};

/// The walk through a stream's events.
#[derive(Debug)]
pub(super) struct Newest {
    before: Known,
    /// The append whose events are coming, and how many of them have come.
    append: Option<(AppendRange, u64)>,
    /// That append, if an event of it is public.
    public: Option<Previous>,
    /// What its private events name.
    named: Vec<(u64, Option<Previous>)>,
}

/// The newest append with an entry, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Yes(Option<Previous>),
    /// Behind an event that is missing or can't be read.
    No,
}

impl Default for Newest {
    fn default() -> Self {
        Self { before: Known::Yes(None), append: None, public: None, named: Vec::new() }
    }
}

impl Newest {
    /// Takes the next event. Where it ends its append: the private events of that append which name another than they should,
    /// with what is wrong.
    pub(super) fn event(&mut self, event: &RecordedEvent) -> Vec<(u64, String)> {
        let append = event.append;
        let seen = match self.append.take() {
            Some((same, seen)) if same == append => seen + 1,
            None => 1,
            // The end of the append before has not come.
            Some(_) => {
                self.forget();
                1
            }
        };
        if event.is_private {
            self.named.push((event.version, event.newest_entry));
        } else {
            self.public = event.newest_entry;
        }
        if event.version < append.last {
            self.append = Some((append, seen));
            return Vec::new();
        }
        let is_whole = seen == append.last - append.first + 1;
        self.before = match self.public.take() {
            Some(own) => Known::Yes(Some(own)),
            None if is_whole => self.before,
            None => Known::No,
        };
        let named = std::mem::take(&mut self.named);
        let Known::Yes(newest) = self.before else { return Vec::new() };
        named
            .into_iter()
            .filter(|(_, named)| *named != newest)
            .map(|(version, named)| (version, wrongly_named(named, newest)))
            .collect()
    }

    /// An event is missing, or can't be read.
    pub(super) fn forget(&mut self) {
        *self = Self { before: Known::No, ..Self::default() };
    }
}

/// The fault if `named` is named and `newest` is right.
pub(super) fn wrongly_named(named: Option<Previous>, newest: Option<Previous>) -> String {
    format!(
        "it names {} as the newest earlier append with a pending entry; the newest is {}",
        text(named),
        text(newest)
    )
}

fn text(append: Option<Previous>) -> String {
    append.map_or("none".to_owned(), |append| {
        format!("the one at version {}, recorded at {} ms", append.first, append.recorded_at_ms)
    })
}
