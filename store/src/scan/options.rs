//! What is scanned, and how.

use super::token::ScanToken;
use crate::{
    error::{Error, Invalid},
    limits::MAX_SCAN_SEGMENTS,
    stream::{StreamId, excerpt},
};

/// Segments that are read at the same time, unless set otherwise.
pub const DEFAULT_SCAN_SEGMENTS: u16 = 4;

/// What a scan of the table reads: all streams in [`DEFAULT_SCAN_SEGMENTS`] segments, strongly consistent, unless said
/// otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanOptions {
    pub(crate) segments: u16,
    pub(super) category: Option<String>,
    pub(super) is_consistent: bool,
    pub(super) page_items: Option<u32>,
    pub(super) token: Option<ScanToken>,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self { segments: DEFAULT_SCAN_SEGMENTS, category: None, is_consistent: true, page_items: None, token: None }
    }
}

impl ScanOptions {
    /// Everything, as by default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads this many segments at the same time, at most [`MAX_SCAN_SEGMENTS`]: faster, and consuming the table's capacity
    /// faster. The order of the streams depends on it.
    #[must_use]
    pub fn segments(self, segments: u16) -> Self {
        Self { segments, ..self }
    }

    /// Only the streams of this category: what stands before the first `-` of their ids. The others are left out by
    /// DynamoDB, but read, and paid for, all the same.
    #[must_use]
    pub fn category(self, category: impl Into<String>) -> Self {
        Self { category: Some(category.into()), ..self }
    }

    /// Reads with eventual consistency: at half the units. What was appended a moment ago may be missing, but never in the
    /// middle of a stream.
    #[must_use]
    pub fn eventually_consistent(self) -> Self {
        Self { is_consistent: false, ..self }
    }

    /// Most items that one request reads; without it, 1 MB of them. Smaller pages spread the consumption of capacity.
    #[must_use]
    pub fn page_items(self, items: u32) -> Self {
        Self { page_items: Some(items.max(1)), ..self }
    }

    /// Resumes where another scan's [`token`](super::EventScan::token) was taken: of the same number of segments and the
    /// same category.
    #[must_use]
    pub fn resume(self, token: ScanToken) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Checks the options of what can't resume.
    pub(crate) fn check_from_start(&self, what: &str) -> Result<(), Error> {
        self.check()?;
        match self.token {
            Some(_) => Err(Invalid::ScanToken { why: format!("{what} begins at the beginning") }.into()),
            None => Ok(()),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let Self { segments, category, token, .. } = self;
        if !(1..=MAX_SCAN_SEGMENTS).contains(segments) {
            return Err(Invalid::Segments { limit: MAX_SCAN_SEGMENTS, segments: *segments }.into());
        }
        let is_category = |name: &str| !name.contains('-') && StreamId::new(format!("{name}-id")).is_ok();
        if let Some(category) = category.as_ref().filter(|name| !is_category(name)) {
            return Err(Invalid::Category { category: excerpt(category) }.into());
        }
        match token {
            Some(token) => token.check_for(*segments, category.as_deref()),
            None => Ok(()),
        }
    }
}
