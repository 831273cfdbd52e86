//! Measuring: a stream grows, and is loaded at each length from snapshots at several distances.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{TuneReport, TuneRow, TuneSettings, recommend::recommend};
use crate::{
    EventStore, ExpectedVersion, StreamId, StreamPosition,
    aggregate::{Aggregate, DomainEvent as _, Replay},
    error::{Corrupt, Error, Invalid},
    event::NewEvent,
    json,
    limits::{MAX_BATCH_DELETES, MAX_EVENTS_PER_APPEND},
    outbox::PendingEntry,
    read::EventReader,
    snapshot::{NewSnapshot, SnapshotWrite},
};

/// How many pending entries are read at a time, to be deleted.
const PENDING_PAGE: u16 = 100;

/// Where between two snapshots the loads are measured: their mean is that of all places.
const PLACES: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// Measures what snapshots of `A` cost and save. `next` makes the event of a version, from 1 on, of the state before
/// it: make events as they will come in production.
///
/// Writes a stream of its own into `store`'s table, and publishes nothing: the pending entries are deleted. Give it a
/// table of its own.
///
/// # Errors
/// [`Error::Invalid`]: an event or the state can't be stored, or the settings have no length. [`Error::Unavailable`]
/// and [`Error::Configuration`] as DynamoDB answers.
pub async fn tune<A>(
    store: &EventStore,
    settings: &TuneSettings,
    next: impl FnMut(u64, &A) -> A::Event,
) -> Result<TuneReport, Error>
where
    A: Aggregate + Serialize + DeserializeOwned,
{
    let stream = StreamId::new(format!("{}-tune-{}", A::CATEGORY, Uuid::new_v4().simple()))?;
    let mut bench = Bench {
        store,
        replay: Replay::new(),
        settings,
        next,
        state: A::default(),
        position: StreamPosition::start(stream),
        stored: None,
    };
    let mut rows = Vec::new();
    for &length in &settings.lengths {
        bench.grow(length).await?;
        rows.extend(bench.measure().await?);
    }
    let recommendation = recommend(&rows, settings).ok_or(Error::from(Invalid::NoEvents))?;
    Ok(TuneReport { category: A::CATEGORY, rows, recommendation, settings: settings.clone() })
}

struct Bench<'a, A, F> {
    store: &'a EventStore,
    replay: Replay<A>,
    settings: &'a TuneSettings,
    next: F,
    state: A,
    position: StreamPosition,
    /// The version of the stream's snapshot.
    stored: Option<u64>,
}

/// What loads have cost: their mean.
#[derive(Clone, Copy, Default)]
struct Loads {
    read_units: f64,
    time: Duration,
}

impl<A, F> Bench<'_, A, F>
where
    A: Aggregate + Serialize + DeserializeOwned,
    F: FnMut(u64, &A) -> A::Event,
{
    fn stream(&self) -> &StreamId {
        self.position.stream()
    }

    /// Appends events until the stream has this length, as if a relay had published them all.
    async fn grow(&mut self, length: u64) -> Result<(), Error> {
        while self.position.version() < length {
            let first = self.position.version() + 1;
            let last = length.min(first + MAX_EVENTS_PER_APPEND as u64 - 1);
            let events = (first..=last).map(|version| self.event(version)).collect::<Result<Vec<_>, _>>()?;
            let at = ExpectedVersion::At(self.position.clone());
            self.position = Box::pin(self.store.append(self.stream(), at, events)).await?.position;
        }
        let outbox = self.store.outbox();
        loop {
            let page = outbox.pending(self.stream(), 1, PENDING_PAGE).await?;
            let keys: Vec<_> = page.entries.iter().map(PendingEntry::key).collect();
            for keys in keys.chunks(MAX_BATCH_DELETES) {
                let mut left = outbox.delete(keys).await?;
                while !left.is_empty() {
                    left = outbox.delete(&left).await?;
                }
            }
            if !page.has_more {
                return Ok(());
            }
        }
    }

    fn event(&mut self, version: u64) -> Result<NewEvent, Error> {
        let new = (self.next)(version, &self.state).encode()?;
        for event in self.replay.read_back(&new)? {
            self.state.apply(&event);
        }
        Ok(new)
    }

    /// The rows of the length that the stream has now.
    async fn measure(&mut self) -> Result<Vec<TuneRow>, Error> {
        let events = self.position.version();
        let intervals: Vec<_> = self.settings.intervals.iter().copied().filter(|&every| every <= events).collect();
        let states = self.states(intervals.iter().flat_map(|&every| tails(every)).map(|tail| events - tail)).await?;
        let body = text(&self.state)?;
        let row = |interval: Option<u64>, write_units: f64, loads: Loads| TuneRow {
            events,
            interval,
            state_bytes: body.len(),
            write_units_per_snapshot: write_units,
            read_units_per_load: loads.read_units,
            load: loads.time,
            dollars_per_million_events: self.dollars(interval, write_units, loads.read_units),
        };
        let without = self.repeat(false).await?;
        let mut rows = vec![row(None, 0.0, without)];
        let mut stored = self.stored;
        for every in intervals {
            let (mut write_units, mut loads) = (0.0, Vec::new());
            for tail in tails(every) {
                let version = events - tail;
                let Some((append_id, state)) = states.get(&version) else { continue };
                let new = NewSnapshot::new(version, *append_id, A::SCHEMA_VERSION, state);
                write_units = self.store_snapshot(new, &mut stored).await?;
                loads.push(self.repeat(true).await?);
            }
            rows.push(row(Some(every), write_units, mean(&loads)));
        }
        self.stored = stored;
        Ok(rows)
    }

    /// The append's id and the state at each of these versions.
    async fn states(&self, versions: impl Iterator<Item = u64>) -> Result<BTreeMap<u64, (Uuid, String)>, Error> {
        let mut bodies: BTreeMap<u64, (Uuid, String)> =
            versions.filter(|&version| version > 0).map(|at| (at, <_>::default())).collect();
        let mut state = A::default();
        let mut reader = self.store.reader(self.stream());
        while let Some(page) = reader.next_page().await? {
            for event in page {
                self.replay.apply(&mut state, &event)?;
                if let Some(body) = bodies.get_mut(&event.version) {
                    *body = (event.append.id, text(&state)?);
                }
            }
        }
        Ok(bodies)
    }

    /// Puts a snapshot in place of the one before, and returns what it has cost.
    async fn store_snapshot(&self, new: NewSnapshot, stored: &mut Option<u64>) -> Result<f64, Error> {
        let new = NewSnapshot { replaces: *stored, ..new };
        match self.store.write_snapshot(self.stream(), &new).await? {
            SnapshotWrite::Stored { write_units } => {
                *stored = Some(new.version);
                Ok(write_units)
            }
            SnapshotWrite::Superseded => {
                let what = "somebody else writes snapshots of it".to_owned();
                Err(Corrupt { stream: self.stream().clone(), at: "snapshot".to_owned(), what }.into())
            }
        }
    }

    /// Loads the aggregate as often as the settings say.
    async fn repeat(&self, from_snapshot: bool) -> Result<Loads, Error> {
        let (mut times, mut read_units) = (Vec::new(), 0.0);
        for _ in 0..self.settings.loads {
            let began = Instant::now();
            read_units = if from_snapshot { self.load_from_snapshot().await? } else { self.load().await? };
            times.push(began.elapsed());
        }
        times.sort_unstable();
        Ok(Loads { read_units, time: times[times.len() / 2] })
    }

    async fn load(&self) -> Result<f64, Error> {
        let mut state = A::default();
        let mut reader: EventReader = self.store.reader(self.stream());
        while let Some(page) = reader.next_page().await? {
            page.iter().try_for_each(|event| self.replay.apply(&mut state, event))?;
        }
        Ok(reader.read_units())
    }

    async fn load_from_snapshot(&self) -> Result<f64, Error> {
        let mut state = None;
        let mut load = self
            .store
            .load_snapshot(self.stream(), |snapshot| {
                state = serde_json::from_str::<A>(&snapshot.body).ok();
                state.is_some()
            })
            .await?;
        let mut state = state.unwrap_or_default();
        while let Some(page) = load.next_page().await? {
            page.iter().try_for_each(|event| self.replay.apply(&mut state, event))?;
        }
        Ok(load.read_units())
    }

    fn dollars(&self, interval: Option<u64>, write_units: f64, read_units: f64) -> f64 {
        let prices = &self.settings.prices;
        #[expect(clippy::cast_precision_loss, reason = "an interval is far below 2^52")]
        let per_event = interval.map_or(0.0, |every| write_units / every as f64);
        per_event * prices.write_units + self.settings.cold_loads_per_event * read_units * prices.read_units
    }
}

/// How many events have come after the last snapshot, at several places between two of them.
fn tails(every: u64) -> impl Iterator<Item = u64> {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an interval is far below 2^52"
    )]
    PLACES.into_iter().map(move |place| ((every - 1) as f64 * place).round() as u64)
}

fn mean(loads: &[Loads]) -> Loads {
    let count = u32::try_from(loads.len()).unwrap_or(u32::MAX).max(1);
    let read_units = loads.iter().map(|loads| loads.read_units).sum::<f64>() / f64::from(count);
    Loads { read_units, time: loads.iter().map(|loads| loads.time).sum::<Duration>() / count }
}

fn text<A: Serialize>(state: &A) -> Result<String, Error> {
    json::to_text(state).map_err(|error| {
        Invalid::Payload { event_type: std::any::type_name::<A>().to_owned(), why: error.to_string() }.into()
    })
}
