//! What a store calls after a commit.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::stream::StreamId;

/// An append that is stored: its stream and its versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredAppend<'a> {
    /// The stream.
    pub stream: &'a StreamId,
    /// The version of its first event.
    pub first_version: u64,
    /// The version of its last event.
    pub last_version: u64,
    /// Whether any of its events is to be published.
    pub has_public_events: bool,
}

/// A function that is called for each append that is stored.
pub(crate) struct AppendHook(Box<dyn Fn(&StoredAppend<'_>) + Send + Sync>);

impl AppendHook {
    pub(crate) fn new(hook: impl Fn(&StoredAppend<'_>) + Send + Sync + 'static) -> Self {
        Self(Box::new(hook))
    }

    /// Calls it. What was stored stays stored, and its caller is to know it.
    pub(crate) fn call(&self, append: &StoredAppend<'_>) {
        if catch_unwind(AssertUnwindSafe(|| (self.0)(append))).is_err() {
            tracing::error!(stream = %append.stream, "the function that is called after an append has panicked");
        }
    }
}
