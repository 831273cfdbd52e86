//! Up to which place of the scan everything is applied.

use std::collections::VecDeque;

/// The events that were read and are not all applied, in the order in which they were read, and the places between them from which the scan
/// could resume.
#[derive(Debug)]
pub(super) struct Window<T> {
    /// The number of the first event in `is_applied`.
    first: u64,
    is_applied: VecDeque<bool>,
    /// Places, each with the number of the event behind it.
    places: VecDeque<(u64, T)>,
}

impl<T> Window<T> {
    pub(super) fn new() -> Self {
        Self { first: 0, is_applied: VecDeque::new(), places: VecDeque::new() }
    }

    /// An event was read. Returns its number.
    pub(super) fn push(&mut self) -> u64 {
        self.is_applied.push_back(false);
        self.next() - 1
    }

    fn next(&self) -> u64 {
        self.first + self.is_applied.len() as u64
    }

    /// The scan could resume behind the event that was read last.
    pub(super) fn mark(&mut self, place: T) {
        self.places.push_back((self.next(), place));
    }

    /// An event is applied, or needs no more to be.
    pub(super) fn applied(&mut self, number: u64) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(is_applied) = index.and_then(|index| self.is_applied.get_mut(index)) {
            *is_applied = true;
        }
        while self.is_applied.front() == Some(&true) {
            self.is_applied.pop_front();
            self.first += 1;
        }
    }

    /// The last place before which everything is applied, if it was not returned before.
    pub(super) fn reached(&mut self) -> Option<T> {
        let mut reached = None;
        while self.places.front().is_some_and(|(next, _)| *next <= self.first) {
            reached = self.places.pop_front().map(|(_, place)| place);
        }
        reached
    }

    /// How many events are held.
    pub(super) fn len(&self) -> usize {
        self.is_applied.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_place_is_reached_when_everything_before_it_is_applied() {
        let mut window = Window::new();
        window.mark("start");
        assert_eq!(window.reached(), Some("start"), "there is nothing before it");
        let numbers: Vec<_> = (0..4).map(|_| window.push()).collect();
        window.mark("four");
        window.push();
        window.mark("five");
        for number in [3, 1, 0] {
            window.applied(numbers[number]);
            assert_eq!(window.reached(), None);
        }
        assert_eq!(window.len(), 3);
        window.applied(numbers[2]);
        assert_eq!((window.reached(), window.reached(), window.len()), (Some("four"), None, 1));
    }

    proptest! {
        /// Whatever the order in which they are applied: no place too early, the last one at the end.
        #[test]
        fn no_place_is_reached_before_what_stands_before_it(
            order in Just((0..30_u64).collect::<Vec<_>>()).prop_shuffle(),
            marks in proptest::collection::btree_set(0..=30_u64, 1..8),
        ) {
            let mut window = Window::new();
            for number in 0..=30 {
                if marks.contains(&number) {
                    window.mark(number);
                }
                if number < 30 {
                    prop_assert_eq!(window.push(), number);
                }
            }
            let mut left = order.clone();
            for number in order {
                left.retain(|other| *other != number);
                window.applied(number);
                if let Some(place) = window.reached() {
                    prop_assert!(left.iter().all(|number| *number >= place), "{} too early: {:?}", place, left);
                }
            }
            prop_assert!(window.places.is_empty() && window.len() == 0);
        }
    }
}
