//! How many items a page is asked for: fewer after one that did not get through in time.

/// Most items of the first page that is smaller than the 1 MB that DynamoDB gives unasked.
const FIRST_ITEMS: u64 = 64;

/// By what a page becomes smaller.
const DIVISOR: u64 = 8;

/// From this many items on, a page is requested without a limit.
const MAX_ITEMS: u64 = 4_096;

/// How many items the next page is to have at most; unless one has failed, as many as DynamoDB gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageSize(Option<u64>);

impl PageSize {
    /// A page did not get through. Returns whether a smaller one can be asked for.
    pub(crate) fn shrink(&mut self) -> bool {
        let smaller = self.0.map_or(FIRST_ITEMS, |items| (items / DIVISOR).max(1));
        let is_smaller = self.0 != Some(smaller);
        self.0 = Some(smaller);
        is_smaller
    }

    /// A page got through: the next one may be larger.
    pub(crate) fn grow(&mut self) {
        self.0 = self.0.map(|items| items * 2).filter(|items| *items < MAX_ITEMS);
    }

    /// The `Limit` of the request, if no more than `wanted` items are.
    pub(crate) fn limit(self, wanted: Option<u64>) -> Option<i32> {
        let items = self.0.unwrap_or(u64::MAX).min(wanted.unwrap_or(u64::MAX));
        (items < u64::MAX).then(|| i32::try_from(items).unwrap_or(i32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shrinks_to_one_item_and_grows_until_it_has_no_limit() {
        let mut size = PageSize::default();
        assert_eq!((size.limit(None), size.limit(Some(7))), (None, Some(7)));
        let steps: Vec<_> = std::iter::from_fn(|| size.shrink().then(|| size.limit(None).unwrap())).collect();
        assert_eq!(steps, [64, 8, 1]);
        assert_eq!(size.limit(Some(7)), Some(1));
        for _ in 0..11 {
            size.grow();
        }
        assert_eq!(size.limit(None), Some(2_048));
        size.grow();
        assert_eq!(size, PageSize::default());
    }
}
