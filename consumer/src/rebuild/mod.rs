//! Fills a projection from the table.
//!
//! One scan of the table hands out one stream after the other. The events of a stream are applied one after the other, those of different
//! streams at the same time. How far everything is applied is known at all times: a token, from which another rebuild resumes.
//!
//! - `run.rs`: the loop: what is read, what is applied, what has come of it.
//! - `apply.rs`: one event, until it is applied or given up.
//! - `park.rs`: a stream that is left to the retries of consumers.
//! - `window.rs`: up to which place of the scan everything is applied.
//! - `keep.rs`: how far it is, kept in an inbox.
//! - `progress.rs`, `error.rs`: what a caller sees of it.

mod apply;
mod error;
mod keep;
mod park;
mod progress;
mod run;
mod window;

use std::{collections::BTreeSet, fmt, time::Duration};

use streambox::{DEFAULT_SCAN_SEGMENTS, EventStore, ScanOptions, ScanToken};

use self::{apply::Attempts, keep::Keeper, run::Run};
pub use self::{
    apply::REBUILD_APPLY_ATTEMPTS,
    error::{RebuildError, StreamProblem},
    progress::{MAX_REPORTED_PROBLEMS, RebuildReport, RebuildStatus},
    run::{MAX_HELD_BYTES, MAX_HELD_EVENTS},
};
use crate::{Inbox, Projection};

/// Streams whose events are applied at the same time, unless set otherwise.
pub const DEFAULT_REBUILD_CONCURRENCY: usize = 16;

/// Streams that a rebuild leaves parked before it ends with an error, unless set otherwise. If more can't be applied, it is not because of
/// their events.
pub const DEFAULT_MAX_PARKED_STREAMS: u64 = 100;

/// Fills a projection with the events of the table, from the first one on: a new generation of it, one that was emptied, or one that has
/// missed events, for example since its queue was purged. What is applied already is left out, so a rebuild can be repeated.
///
/// ```no_run
/// # async fn example<P: streambox_consumer::Projection>(
/// #     store: &streambox::EventStore,
/// #     projection: &P,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// use streambox_consumer::Rebuild;
///
/// let report = Rebuild::new(store, projection)
///     .category("order")
///     .on_progress(|status| println!("{} events, resume from {}", status.events, status.token))
///     .run()
///     .await?;
/// for problem in &report.problems {
///     eprintln!("{problem}");
/// }
/// # Ok(())
/// # }
/// ```
///
/// **Order.** The events of a stream are applied in their order, each after the one before it is stored. Different streams are
/// applied at the same time, [`concurrency`](Self::concurrency) of them, as futures of the one that [`run`](Self::run) returns.
///
/// **Others may work meanwhile.** Writers append, and a consumer of the same generation applies what comes. What is appended behind the
/// scan is not applied by the rebuild: a queue has to collect it, bound *before* the rebuild begins.
///
/// **An event that can't be applied** parks its stream, if the projection names an [inbox](Projection::inbox), and the rebuild goes on with
/// all others: a consumer of the same generation retries the stream from the events table, however long it takes. So does it with a stream that
/// is parked already, after one attempt. The [report](RebuildReport::problems) names both. Without an inbox, or after
/// [`max_parked_streams`](Self::max_parked_streams), the rebuild ends with an error.
///
/// **Cost.** The table is read once: one read unit for each 4 KB, the items included that are not events, and the streams of other
/// categories. The projection is asked for one position a stream, and for another one each time that somebody else was faster, or
/// an attempt has failed. After a failed attempt one read unit of the inbox; to park a stream 2 write units, and 1 for each batch of its
/// later events.
///
/// **Memory.** At most [`MAX_HELD_EVENTS`] events or [`MAX_HELD_BYTES`] of payload wait to be applied, and two pages of 1 MB in each
/// segment were read ahead. A stream that is longer than that is for a while the only one that is applied.
///
/// **Interruption.** To stop, drop the future: what is stored is stored. Resume with the last token that
/// [`on_progress`](Self::on_progress) has shown, or without one, which reads the table again and applies nothing twice.
/// [`keep_progress`](Self::keep_progress) keeps the token in an inbox.
#[must_use = "a rebuild does nothing before it runs"]
pub struct Rebuild<'a, P> {
    store: &'a EventStore,
    projection: &'a P,
    categories: BTreeSet<String>,
    segments: u16,
    concurrency: usize,
    attempts: Attempts,
    max_parked_streams: u64,
    is_consistent: bool,
    page_items: Option<u32>,
    token: Option<ScanToken>,
    kept_in: Option<&'a Inbox>,
    expected_events: Option<u64>,
    on_progress: Box<dyn FnMut(&RebuildStatus) + Send + 'a>,
}

impl<'a, P: Projection> Rebuild<'a, P> {
    /// A rebuild of `projection` with all events of the table that are not private.
    pub fn new(store: &'a EventStore, projection: &'a P) -> Self {
        Self {
            store,
            projection,
            categories: BTreeSet::new(),
            segments: DEFAULT_SCAN_SEGMENTS,
            concurrency: DEFAULT_REBUILD_CONCURRENCY,
            attempts: Attempts::default(),
            max_parked_streams: DEFAULT_MAX_PARKED_STREAMS,
            is_consistent: true,
            page_items: None,
            token: None,
            kept_in: None,
            expected_events: None,
            on_progress: Box::new(|_| ()),
        }
    }

    /// Only the streams of this category, and of those that are named by other calls. Costs what all of them cost: see
    /// [`ScanOptions::category`].
    pub fn category(mut self, category: impl Into<String>) -> Self {
        self.categories.insert(category.into());
        self
    }

    /// Segments of the table that are read at the same time, [`DEFAULT_SCAN_SEGMENTS`] by default, at most
    /// [`MAX_SCAN_SEGMENTS`](streambox::MAX_SCAN_SEGMENTS). Each needs memory for two pages of 1 MB.
    pub fn segments(self, segments: u16) -> Self {
        Self { segments, ..self }
    }

    /// Streams whose events are applied at the same time: at least 1, [`DEFAULT_REBUILD_CONCURRENCY`] by default.
    pub fn concurrency(self, streams: usize) -> Self {
        Self { concurrency: streams.max(1), ..self }
    }

    /// How often it is tried to apply an event before its stream is parked, or the rebuild ends with an error: at least once,
    /// [`REBUILD_APPLY_ATTEMPTS`] by default. The delays between the attempts grow from 0.1 to 5 seconds. What was read behind the event
    /// is applied meanwhile, as much as is [held](MAX_HELD_EVENTS).
    pub fn apply_attempts(self, attempts: u32) -> Self {
        Self { attempts: Attempts { most: attempts.max(1), ..self.attempts }, ..self }
    }

    /// The longest that the projection may take for one event, or for one position; then the attempt counts as failed. A minute by default.
    pub fn apply_timeout(self, timeout: Duration) -> Self {
        Self { attempts: Attempts { timeout, ..self.attempts }, ..self }
    }

    /// How many streams this run leaves parked, those included that were parked before it; the next one that can't be applied ends it with
    /// [`RebuildError::Apply`], so that a broken handler does not park every stream. [`DEFAULT_MAX_PARKED_STREAMS`] by default; 0: it ends at
    /// the first event that can't be applied.
    pub fn max_parked_streams(self, streams: u64) -> Self {
        Self { max_parked_streams: streams, ..self }
    }

    /// Reads with eventual consistency: at half the units. What was appended a moment ago may be missing, which the queue brings.
    pub fn eventually_consistent(self) -> Self {
        Self { is_consistent: false, ..self }
    }

    /// Most items that one request reads; without it, 1 MB of them. Smaller pages spread the consumption of capacity.
    pub fn page_items(self, items: u32) -> Self {
        Self { page_items: Some(items), ..self }
    }

    /// Resumes where another rebuild of the same projection and generation was, with the same number of segments and the same categories. The
    /// token of a rebuild of one category, or of all, is refused by another one; of several categories, it does not know which.
    pub fn resume(self, token: ScanToken) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Keeps the token in an inbox of the generation that is rebuilt ([`Inbox::rebuild_progress`]), and resumes from the one that is there:
    /// a process that is started again continues where another one was. A rebuild that has come to its end reads nothing then. To begin
    /// again, or with another number of segments or other categories, store `RebuildProgress::default()` by
    /// [`Inbox::set_rebuild_progress`] before.
    ///
    /// One read unit of the inbox, and one write unit every two seconds and at the end. If that fails, it is logged, and the next
    /// run begins at an earlier place.
    pub fn keep_progress(self, inbox: &'a Inbox) -> Self {
        Self { kept_in: Some(inbox), ..self }
    }

    /// How many events there are to see, if that is known, for example from the [report](RebuildReport::events) of another generation's
    /// rebuild: for [`RebuildStatus::percent`].
    pub fn expected_events(self, events: u64) -> Self {
        Self { expected_events: Some(events), ..self }
    }

    /// Calls `on_progress` each time that the token has moved on, about every [hundred events](RebuildStatus), and at the end. It has to
    /// return soon: nothing is read or applied meanwhile.
    pub fn on_progress(self, on_progress: impl FnMut(&RebuildStatus) + Send + 'a) -> Self {
        Self { on_progress: Box::new(on_progress), ..self }
    }

    /// Runs until every event of the scan is applied, or left to the retries of its parked stream.
    ///
    /// An attempt to apply an event that fails, panics or takes too long is repeated: [`apply_attempts`](Self::apply_attempts).
    ///
    /// # Errors
    /// [`RebuildError`]: the table can't be read, or an event can't be applied and its stream can't be parked; what was applied before stays, and
    /// the error has the token to resume from. A stream that is damaged or parked stops only itself, and is in the
    /// [report](RebuildReport::problems).
    pub async fn run(mut self) -> Result<RebuildReport, RebuildError> {
        let mut options = ScanOptions::new().segments(self.segments);
        if !self.is_consistent {
            options = options.eventually_consistent();
        }
        if let Some(items) = self.page_items {
            options = options.page_items(items);
        }
        // DynamoDB filters by one category alone; all of them are read in any case.
        for category in &self.categories {
            let checked = self.store.scan_events(&ScanOptions::new().category(category.as_str()));
            checked.map_err(RebuildError::Settings)?;
        }
        if let (Some(category), 1) = (self.categories.first(), self.categories.len()) {
            options = options.category(category.as_str());
        }
        let keeper = match self.kept_in {
            Some(inbox) => Some(Keeper::open(inbox).await.map_err(RebuildError::Settings)?),
            None => None,
        };
        self.token = self.token.or_else(|| keeper.as_ref()?.token());
        if let Some(token) = &self.token {
            options = options.resume(token.clone());
        }
        let scan = self.store.scan_events(&options).map_err(RebuildError::Settings)?;
        Run::new(self, keeper).over(scan).await
    }
}

impl<P> fmt::Debug for Rebuild<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rebuild")
            .field("categories", &self.categories)
            .field("segments", &self.segments)
            .field("concurrency", &self.concurrency)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}
