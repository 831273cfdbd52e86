//! Which appends a stream ends with: for telling whether a command has been carried out before.

use std::collections::VecDeque;

use uuid::Uuid;

use crate::{
    event::{AppendRange, RecordedEvent},
    stream::Previous,
};

/// The newest appends of a stream, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct RecentAppends {
    /// The first version whose append is known.
    from: u64,
    appends: VecDeque<RecentAppend>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RecentAppend {
    pub(crate) range: AppendRange,
    pub(crate) recorded_at_ms: i64,
    pub(crate) newest_public: Option<Previous>,
}

impl RecentAppends {
    /// None is known; the first to come begins with version `from`.
    pub(crate) fn from_version(from: u64) -> Self {
        Self { from, appends: VecDeque::new() }
    }

    pub(crate) fn push_event(&mut self, event: &RecordedEvent) {
        self.push(RecentAppend {
            range: event.append,
            recorded_at_ms: event.recorded_at_ms,
            newest_public: event.newest_public,
        });
    }

    pub(crate) fn push(&mut self, append: RecentAppend) {
        match self.appends.back_mut() {
            Some(last) if last.range.first > append.range.first => {}
            // A later event of it knows more.
            Some(last) if last.range.first == append.range.first => *last = append,
            _ => self.appends.push_back(append),
        }
    }

    /// Puts what was read of the versions before the known ones in front.
    pub(crate) fn prepend(&mut self, mut older: Self) {
        for append in &self.appends {
            older.push(*append);
        }
        *self = older;
    }

    /// Forgets what lies outside the window of the last events.
    pub(crate) fn trim(&mut self, version: u64, window: u64) {
        let first = first_in_window(version, window);
        while self.appends.front().is_some_and(|append| append.range.last < first) {
            self.appends.pop_front();
        }
        self.from = self.from.max(first);
    }

    /// The versions of the window that are not known.
    pub(crate) fn unknown(&self, version: u64, window: u64) -> Option<std::ops::Range<u64>> {
        let first = first_in_window(version, window);
        (first < self.from).then_some(first..self.from)
    }

    /// The append of this id, if it lies in the window. What lies before it is not reported even if it is known, so that
    /// the answer does not depend on where the load began.
    pub(crate) fn find(&self, id: Uuid, version: u64, window: u64) -> Option<RecentAppend> {
        let first = first_in_window(version, window);
        self.appends
            .iter()
            .rev()
            .take_while(|append| append.range.last >= first)
            .find(|append| append.range.id == id)
            .copied()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.appends.len() * size_of::<RecentAppend>()
    }
}

fn first_in_window(version: u64, window: u64) -> u64 {
    version.saturating_sub(window) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(first: u64, last: u64) -> RecentAppend {
        RecentAppend {
            range: AppendRange { id: Uuid::from_u128(first.into()), first, last },
            recorded_at_ms: 0,
            newest_public: None,
        }
    }

    #[test]
    fn of_an_append_the_last_event_that_was_seen_says_which_version_was_public_last() {
        let at = |version| Some(Previous { version, recorded_at_ms: 0 });
        let seen = |newest_public| RecentAppend { newest_public, ..append(1, 3) };
        let (mut older, mut known) = (RecentAppends::from_version(1), RecentAppends::from_version(2));
        older.push(seen(at(1)));
        known.push(seen(at(1)));
        known.push(seen(at(2)));
        known.prepend(older);
        assert_eq!(known.find(id(1), 3, 3).and_then(|append| append.newest_public), at(2));
        assert_eq!(known.appends.len(), 1);
    }

    fn id(first: u64) -> Uuid {
        Uuid::from_u128(first.into())
    }

    #[test]
    fn an_append_is_found_while_one_of_its_events_is_in_the_window_and_not_beyond() {
        let mut recent = RecentAppends::from_version(1);
        for append in [append(1, 2), append(3, 3), append(4, 6)] {
            recent.push(append);
        }
        for (window, found) in [(u64::MAX, vec![1, 3, 4]), (4, vec![3, 4]), (3, vec![4]), (1, vec![4]), (0, vec![])] {
            let firsts: Vec<_> =
                [1, 3, 4].into_iter().filter(|&first| recent.find(id(first), 6, window).is_some()).collect();
            assert_eq!(firsts, found, "window {window}");
        }
        recent.trim(6, 4);
        assert_eq!((recent.appends.len(), recent.from), (2, 3));
        assert_eq!(recent.unknown(6, 4), None);
        assert_eq!(recent.unknown(6, 5), Some(2..3));
    }

    #[test]
    fn what_is_read_later_of_the_versions_before_comes_first_and_an_append_on_the_border_once() {
        let mut recent = RecentAppends::from_version(5);
        recent.push(append(4, 6));
        assert_eq!(recent.unknown(6, 100), Some(1..5));
        let mut older = RecentAppends::from_version(1);
        for append in [append(1, 2), append(3, 3), append(4, 6)] {
            older.push(append);
        }
        recent.prepend(older);
        assert_eq!(recent.appends, [append(1, 2), append(3, 3), append(4, 6)]);
        assert_eq!(recent.unknown(6, 100), None);
    }
}
