//! The cache: states by stream, bounded, and how concurrent loads of one stream share their requests.
//!
//! A cached state is where a load begins, never its answer: what has come since is asked for. Loads that wait for one
//! another share an answer only if its request began after they were called; so whatever was appended before a load was
//! called is in it.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use lru::LruCache;

use super::entry::Entry;
use crate::{error::Error, stream::StreamId};

/// How many streams a repository's cache holds, unless set otherwise.
pub const DEFAULT_CACHE_ENTRIES: usize = 1_000;

/// How many bytes the states in a repository's cache have, unless set otherwise.
pub const DEFAULT_CACHE_BYTES: usize = 32 * 1024 * 1024;

/// What an entry takes beside its state, roughly.
const ENTRY_BYTES: usize = 512;

/// The bounds of a repository's cache. The streams that were used last stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    entries: usize,
    bytes: usize,
    staleness: Duration,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self { entries: DEFAULT_CACHE_ENTRIES, bytes: DEFAULT_CACHE_BYTES, staleness: Duration::ZERO }
    }
}

impl CacheSettings {
    /// [`DEFAULT_CACHE_ENTRIES`], [`DEFAULT_CACHE_BYTES`], no staleness.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The most streams.
    #[must_use]
    pub fn entries(self, entries: usize) -> Self {
        Self { entries, ..self }
    }

    /// The most bytes of all states together. A state that has more by itself is not kept.
    ///
    /// A state's bytes are those of its JSON text, measured now and then and estimated in between by the payloads that
    /// have come.
    /// [`weigh`](super::RepositoryBuilder::weigh) counts otherwise.
    #[must_use]
    pub fn bytes(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }

    /// How old a state may be for a load to return it without asking for what is new. Zero by default: every load is
    /// current.
    ///
    /// Age counts from when the last request for the stream began. A decision on a stale state never does harm: it
    /// conflicts, and is made again on the current one; so is one that was a rejection, or for nothing, before it
    /// stands.
    #[must_use]
    pub fn staleness(self, staleness: Duration) -> Self {
        Self { staleness, ..self }
    }
}

pub(crate) struct Cache<A> {
    pub(crate) settings: CacheSettings,
    pub(crate) weigh: Option<Weigh<A>>,
    pub(crate) clock: Clock,
    held: Mutex<Held<A>>,
}

pub(crate) type Weigh<A> = Box<dyn Fn(&A) -> usize + Send + Sync>;
pub(crate) type Clock = Box<dyn Fn() -> Instant + Send + Sync>;

struct Held<A> {
    streams: LruCache<StreamId, Stream<A>>,
    bytes: usize,
}

struct Stream<A> {
    flight: Arc<Flight<A>>,
    entry: Option<Arc<Entry<A>>>,
    /// When the request began by which the entry is known to be current.
    current_at: Option<Instant>,
    bytes: usize,
}

impl<A> Cache<A> {
    pub(crate) fn new(settings: CacheSettings, weigh: Option<Weigh<A>>, clock: Clock) -> Self {
        Self { settings, weigh, clock, held: Mutex::new(Held { streams: LruCache::unbounded(), bytes: 0 }) }
    }

    /// The entry, if it is as new as the settings ask for.
    pub(crate) fn within_staleness(&self, stream: &StreamId) -> Option<Arc<Entry<A>>> {
        if self.settings.staleness.is_zero() {
            return None;
        }
        let mut held = self.lock();
        let stream = held.streams.get(stream)?;
        let age = (self.clock)().saturating_duration_since(stream.current_at?);
        stream.entry.clone().filter(|_| age <= self.settings.staleness)
    }

    pub(crate) fn entry(&self, stream: &StreamId) -> Option<Arc<Entry<A>>> {
        self.lock().streams.get(stream)?.entry.clone()
    }

    pub(crate) fn flight(&self, stream: &StreamId) -> Arc<Flight<A>> {
        let mut held = self.lock();
        let flight = Arc::clone(&held.stream(stream).flight);
        held.shrink(&self.settings);
        flight
    }

    /// Keeps the entry, unless a newer one is there. `current_at`: when a request began that has shown it to be
    /// current.
    pub(crate) fn put(&self, entry: &Arc<Entry<A>>, current_at: Option<Instant>) {
        let bytes = ENTRY_BYTES
            + entry.position.stream().as_str().len()
            + entry.recent.bytes()
            + self.weigh.as_ref().map_or_else(|| entry.size.bytes(), |weigh| weigh(&entry.state));
        let is_kept = bytes <= self.settings.bytes;
        let mut held = self.lock();
        let stream = held.stream(entry.position.stream());
        let version = |entry: &Arc<Entry<A>>| entry.position.version();
        if stream.entry.as_ref().is_some_and(|there| version(there) > version(entry)) {
            return;
        }
        let before = std::mem::replace(&mut stream.bytes, if is_kept { bytes } else { 0 });
        stream.entry = is_kept.then(|| Arc::clone(entry));
        stream.current_at = current_at.or(stream.current_at);
        let after = stream.bytes;
        held.bytes = held.bytes + after - before;
        held.shrink(&self.settings);
    }

    /// Forgets the entry: the table says otherwise.
    pub(crate) fn forget(&self, stream: &StreamId) {
        let mut held = self.lock();
        if let Some(stream) = held.streams.peek_mut(stream) {
            let bytes = std::mem::replace(&mut stream.bytes, 0);
            (stream.entry, stream.current_at) = (None, None);
            held.bytes -= bytes;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held<A>> {
        // Nothing that can panic is done while it is held, but for the user's own `Drop`.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A> Held<A> {
    fn stream(&mut self, stream: &StreamId) -> &mut Stream<A> {
        let new = || Stream { flight: Arc::default(), entry: None, current_at: None, bytes: 0 };
        self.streams.get_or_insert_mut(stream.clone(), new)
    }

    fn shrink(&mut self, to: &CacheSettings) {
        while self.streams.len() > to.entries || self.bytes > to.bytes {
            let Some((_, oldest)) = self.streams.pop_lru() else { return };
            self.bytes -= oldest.bytes;
        }
    }
}

/// The requests for one stream: one at a time, shared by all that wait.
pub(crate) struct Flight<A> {
    /// How many have begun.
    begun: AtomicU64,
    waiting: AtomicUsize,
    /// The newest answer, while somebody waits who may use it.
    latest: tokio::sync::Mutex<Option<Answer<A>>>,
}

struct Answer<A> {
    /// Which request it answers, counted from 1.
    number: u64,
    outcome: Result<Arc<Entry<A>>, Error>,
}

impl<A> Default for Flight<A> {
    fn default() -> Self {
        Self { begun: AtomicU64::new(0), waiting: AtomicUsize::new(0), latest: tokio::sync::Mutex::new(None) }
    }
}

impl<A> Flight<A> {
    /// The answer of a request that begins after this was called: another caller's, else that of `request`.
    pub(crate) async fn share(
        &self,
        request: impl Future<Output = Result<Arc<Entry<A>>, Error>>,
    ) -> Result<Arc<Entry<A>>, Error> {
        let begun_before = self.begun.load(SeqCst);
        let waiting = Waiting::enter(&self.waiting);
        let mut latest = self.latest.lock().await;
        drop(waiting);
        if let Some(answer) = latest.as_ref().filter(|answer| answer.number > begun_before) {
            let outcome = answer.outcome.as_ref().map(Arc::clone).map_err(repeated);
            if self.waiting.load(SeqCst) == 0 {
                *latest = None;
            }
            return outcome;
        }
        let number = self.begun.fetch_add(1, SeqCst) + 1;
        let outcome = request.await;
        let copy = || outcome.as_ref().map(Arc::clone).map_err(repeated);
        *latest = (self.waiting.load(SeqCst) > 0).then(|| Answer { number, outcome: copy() });
        outcome
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// The same error for another caller of the same request.
fn repeated(error: &Error) -> Error {
    match error {
        Error::Conflict(conflict) => Error::Conflict(conflict.clone()),
        Error::Invalid(invalid) => Error::Invalid(invalid.clone()),
        Error::Corrupt(corrupt) => Error::Corrupt(corrupt.clone()),
        Error::UnknownEvent(unknown) => Error::UnknownEvent(unknown.clone()),
        Error::Configuration { operation, subject, problem, source } => Error::Configuration {
            operation,
            subject: subject.clone(),
            problem: problem.clone(),
            source: source.to_string().into(),
        },
        Error::Unavailable { operation, subject, attempts, outcome_unknown, source } => Error::Unavailable {
            operation,
            subject: subject.clone(),
            attempts: *attempts,
            outcome_unknown: *outcome_unknown,
            source: source.to_string().into(),
        },
        // A load never ends so.
        Error::Busy { operation, subject, attempts } => {
            Error::Busy { operation, subject: subject.clone(), attempts: *attempts }
        }
        Error::ItemRefused(refused) => Error::ItemRefused(refused.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Poll};

    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        aggregate::{
            entry::{KnownSnapshot, Size},
            recent::RecentAppends,
        },
        stream::StreamPosition,
    };

    fn entry(version: u64) -> Arc<Entry<()>> {
        let stream = StreamId::new("order-1").unwrap();
        Arc::new(Entry {
            state: Arc::new(()),
            position: StreamPosition::before_unread(stream, version),
            recent: RecentAppends::from_version(1),
            snapshot: KnownSnapshot::default(),
            size: Size::default(),
        })
    }

    /// A request that answers when it is told to.
    fn request(version: u64) -> (oneshot::Sender<()>, impl Future<Output = Result<Arc<Entry<()>>, Error>>) {
        let (tell, told) = oneshot::channel();
        (tell, async move {
            let _ = told.await;
            Ok(entry(version))
        })
    }

    fn version(outcome: Poll<Result<Arc<Entry<()>>, Error>>) -> Option<u64> {
        match outcome {
            Poll::Ready(entry) => Some(entry.unwrap().position.version()),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn an_answer_is_shared_by_those_who_asked_before_its_request_began_and_by_no_one_else() {
        let flight = Flight::default();
        let (answer_first, first) = request(1);
        let (answer_second, second) = request(2);
        let (_never, third) = request(3);
        let (_never_either, fourth) = request(4);
        let (mut first, mut second) = (pin!(flight.share(first)), pin!(flight.share(second)));
        let (mut third, mut fourth) = (pin!(flight.share(third)), pin!(flight.share(fourth)));
        // The first begins; the second and the third come while it is under way.
        for waiting in [first.as_mut(), second.as_mut(), third.as_mut()] {
            assert!(futures_poll(waiting).is_pending());
        }
        answer_first.send(()).unwrap();
        assert_eq!(version(futures_poll(first.as_mut())), Some(1));
        // The second begins now; the fourth comes later than that.
        assert!(futures_poll(second.as_mut()).is_pending() && futures_poll(fourth.as_mut()).is_pending());
        answer_second.send(()).unwrap();
        assert_eq!(version(futures_poll(second.as_mut())), Some(2));
        assert_eq!(version(futures_poll(third.as_mut())), Some(2), "asked before the second request began");
        assert_eq!(version(futures_poll(fourth.as_mut())), None, "asked after it");
        assert!(flight.latest.try_lock().is_err(), "its own request is under way");
    }

    #[tokio::test]
    async fn a_request_that_is_given_up_leaves_the_way_to_the_next() {
        let flight = Flight::default();
        let (_never, first) = request(1);
        let (answer, second) = request(2);
        let mut first = Box::pin(flight.share(first));
        let mut second = pin!(flight.share(second));
        assert!(futures_poll(first.as_mut()).is_pending() && futures_poll(second.as_mut()).is_pending());
        drop(first);
        answer.send(()).unwrap();
        assert_eq!(version(futures_poll(second.as_mut())), Some(2));
        assert!(flight.latest.try_lock().unwrap().is_none(), "nobody waits: nothing is kept");
    }

    #[test]
    fn a_newer_entry_stays() {
        let cache = Cache::new(CacheSettings::new(), None, Box::new(Instant::now));
        let stream = StreamId::new("order-1").unwrap();
        for (put, kept) in [(3, 3), (2, 3), (4, 4)] {
            cache.put(&entry(put), None);
            assert_eq!(cache.entry(&stream).unwrap().position.version(), kept);
        }
        let held = cache.lock();
        assert_eq!((held.streams.len(), held.bytes), (1, ENTRY_BYTES + "order-1".len()));
    }

    fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }
}
