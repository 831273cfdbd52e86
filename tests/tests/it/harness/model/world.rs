//! Plays a sequence on real stores and on the model, and compares.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_dynamodb::config::retry::{RetryConfig, RetryPartition};
use futures_util::{TryStreamExt as _, future::join_all};
use proptest::{prop_assert, prop_assert_eq, test_runner::TestCaseError};
use streambox::{
    Appended, Client, Error, EventStore, ExpectedVersion, NewEvent, ReadOptions, RecordedEvent, StreamId,
    StreamPosition, Uuid,
};
use streambox_tests::{
    engine::{TestTable, client, stream},
    wire::{Refusal, Wire},
};

use super::{
    Sequence,
    history::{History, Outcome, Place, Stored},
    steps::{self, Expected, Fault, Id, Read, STORES, STREAMS, Step},
    table,
};

pub(crate) type Result<T = ()> = std::result::Result<T, TestCaseError>;

pub(crate) const EVENT_TYPE: &str = "Happened";
const TRANSACTION: &str = "TransactWriteItems";
/// Enough for a transaction to be carried out, and no more than has to be waited where all its answers are lost.
const IMPATIENCE: Duration = Duration::from_millis(60);

struct World {
    table: TestTable,
    processes: Vec<Process>,
    streams: Vec<Line>,
    seen: table::Seen,
    /// Makes ids and payloads distinct.
    counter: u64,
}

/// A process, as far as the store can tell.
struct Process {
    store: EventStore,
    /// The same store for a caller who does not wait.
    impatient: EventStore,
    wire: Wire,
}

/// A stream, and what is known about it outside the store.
struct Line {
    id: StreamId,
    history: History,
    /// Every position that the store has handed out, by its version.
    positions: BTreeMap<u64, StreamPosition>,
}

/// An append, made of a step.
struct Call {
    id: Uuid,
    expected: ExpectedVersion,
    place: Place,
    /// Payload, and whether it is private.
    events: Vec<(String, bool)>,
}

pub(crate) async fn play(Sequence(steps): Sequence<Step>) -> Result {
    let mut world = World::create().await;
    for step in &steps {
        world.step(step).await.map_err(|error| TestCaseError::fail(format!("{step:?}: {error}")))?;
        world.check_table().await.map_err(|error| TestCaseError::fail(format!("after {step:?}: {error}")))?;
    }
    Ok(())
}

/// A client for which many answers are lost: the SDK is not to wait for a second each time, nor to use up the allowance for
/// retries that the other tests have.
pub(crate) fn fast_client(table: &TestTable, wire: &Wire) -> Client {
    let retries = RetryConfig::standard().with_initial_backoff(Duration::from_millis(1));
    let config = client(table.url(), Some(wire)).config().to_builder();
    Client::from_conf(config.retry_config(retries).retry_partition(RetryPartition::new("model")).build())
}

impl Process {
    fn start(table: &TestTable) -> Self {
        let wire = Wire::new();
        let client = fast_client(table, &wire);
        let impatient = EventStore::builder(client.clone(), &table.name).operation_timeout(IMPATIENCE).build();
        Self { store: EventStore::new(client, &table.name), impatient, wire }
    }
}

impl Line {
    fn new(id: StreamId) -> Self {
        let start = StreamPosition::start(id.clone());
        Self { id, history: History::default(), positions: BTreeMap::from([(0, start)]) }
    }

    /// A position is the same whichever call returns it.
    fn learn(&mut self, position: &StreamPosition) -> Result {
        let known = self.positions.entry(position.version()).or_insert_with(|| position.clone());
        prop_assert_eq!(&*known, position);
        Ok(())
    }

    /// The newest position but `age`.
    fn position(&self, age: u8) -> &StreamPosition {
        let age = usize::from(age).min(self.positions.len() - 1);
        self.positions.values().nth_back(age).expect("the start is known")
    }

    /// What the store says after an append, against the model. `twice`: the append may have been carried out by an earlier call
    /// whose answer was lost.
    fn settle(&mut self, call: &Call, answer: std::result::Result<Appended, Error>, twice: bool) -> Result {
        let outcome = self.history.outcome(call.id, call.place, call.events.len());
        match (outcome, answer) {
            (Outcome::Stored { first, last }, Ok(appended)) => {
                prop_assert_eq!((appended.append_id, appended.first_version), (call.id, first));
                prop_assert_eq!((appended.position.version(), appended.position.stream()), (last, &self.id));
                prop_assert!(twice || !appended.already_stored, "stored for the first time");
                prop_assert_eq!(appended.already_stored, appended.write_units == 0.0);
                self.history.store(call.id, &call.events, appended.recorded_at_ms);
                self.learn(&appended.position)
            }
            (Outcome::StoredBefore(append), Ok(appended)) => {
                prop_assert!(appended.already_stored, "stored before");
                prop_assert_eq!((appended.append_id, appended.first_version), (append.id, append.first));
                prop_assert_eq!(appended.position.version(), append.last);
                prop_assert_eq!((appended.recorded_at_ms, appended.write_units), (append.recorded_at_ms, 0.0));
                self.learn(&appended.position)
            }
            (Outcome::Conflict { current }, Err(Error::Conflict(conflict))) => {
                prop_assert_eq!(conflict.current.version(), current);
                prop_assert_eq!(&conflict.expected, &call.expected);
                self.learn(&conflict.current)
            }
            (outcome, answer) => Err(TestCaseError::fail(format!("{outcome:?} became {answer:?}"))),
        }
    }

    fn compare(&self, events: &[RecordedEvent], versions: impl Iterator<Item = u64>) -> Result {
        let expected: Vec<_> = versions.map(|version| (version, self.history.event(version))).collect();
        prop_assert_eq!(events.len(), expected.len());
        for (event, (version, stored)) in events.iter().zip(expected) {
            let append = stored.expect("a version of the history").append;
            let is = Stored { payload: event.payload.clone(), is_private: event.is_private, append };
            prop_assert_eq!((event.version, Some(&is)), (version, stored));
            prop_assert_eq!((&event.stream_id, event.event_type.as_str()), (&self.id, EVENT_TYPE));
            prop_assert_eq!(
                (event.append.id, event.append.first, event.append.last),
                (append.id, append.first, append.last)
            );
            prop_assert_eq!(event.recorded_at_ms, append.recorded_at_ms);
        }
        Ok(())
    }
}

impl World {
    async fn create() -> Self {
        let table = TestTable::create().await;
        let processes = (0..STORES).map(|_| Process::start(&table)).collect();
        let streams = (0..STREAMS).map(|number| Line::new(stream(&format!("order-{number}")))).collect();
        Self { table, processes, streams, seen: table::Seen::default(), counter: 0 }
    }

    async fn step(&mut self, step: &Step) -> Result {
        match step {
            Step::Append { store, stream, append, fault } => self.append(*store, *stream, append, *fault).await,
            Step::Race { stream, appends } => self.race(*stream, appends).await,
            Step::Read { store, stream, read } => self.read(*store, *stream, *read).await,
            Step::Publish { store, stream, entries } => self.publish(*store, *stream, *entries).await,
        }
    }

    async fn check_table(&mut self) -> Result {
        let streams = self.streams.iter().map(|line| (&line.id, &line.history));
        table::check(&self.table, streams, &mut self.seen).await
    }

    /// Makes the call that a step means now.
    fn call(&mut self, stream: usize, append: &steps::Append) -> Call {
        self.counter += 1;
        let line = &self.streams[stream];
        let end = line.history.version();
        let (expected, place) = match append.expected {
            Expected::Any => (ExpectedVersion::Any, Place::Anywhere),
            Expected::StreamExists => (ExpectedVersion::StreamExists, Place::BehindSome),
            Expected::NoStream => (ExpectedVersion::NoStream, Place::Behind(0)),
            Expected::Exact(distance) => {
                let version = end.saturating_add_signed(distance.into());
                (ExpectedVersion::Exact(version), Place::Behind(version))
            }
            Expected::At(age) => {
                let position = line.position(age);
                (ExpectedVersion::At(position.clone()), Place::Behind(position.version()))
            }
        };
        let id = match append.id {
            Id::Shared(number) => Uuid::from_u128(1 + u128::from(number)),
            Id::Fresh => Uuid::from_u128(1_000 + u128::from(self.counter)),
        };
        // A repeat of an append comes with other payloads: none of them is ever to be seen.
        let payload = |(number, event): (usize, &steps::Event)| {
            let text = "x".repeat(event.payload_bytes);
            (format!(r#"{{"call":{},"number":{number},"text":"{text}"}}"#, self.counter), event.is_private)
        };
        Call { id, expected, place, events: append.events.iter().enumerate().map(payload).collect() }
    }

    async fn append(&mut self, store: usize, stream: usize, append: &steps::Append, fault: Fault) -> Result {
        let call = self.call(stream, append);
        let (process, line) = (&self.processes[store], &mut self.streams[stream]);
        let mut twice = false;
        match fault {
            Fault::None => {}
            Fault::LoseAnswers(times) => process.wire.lose_answers(TRANSACTION, times.into()),
            Fault::RefuseForConflict(times) => {
                process.wire.refuse(TRANSACTION, Refusal::TransactionConflict, times.into());
            }
            Fault::Throttle(times) => process.wire.refuse(TRANSACTION, Refusal::Throttled, times.into()),
            Fault::LoseAnswersUntilTimeout => {
                process.wire.lose_answers(TRANSACTION, u32::MAX);
                let answer = call.send(&process.impatient, &line.id).await;
                process.wire.clear_faults();
                match answer {
                    Err(Error::Unavailable { .. }) => twice = true,
                    // A read has decided it.
                    answer => return line.settle(&call, answer, false),
                }
            }
        }
        let answer = call.send(&process.store, &line.id).await;
        process.wire.clear_faults();
        line.settle(&call, answer, twice)
    }

    /// Whatever the order in which the appends came, there must be one that explains all answers.
    async fn race(&mut self, stream: usize, appends: &[steps::Append]) -> Result {
        let calls: Vec<_> = appends.iter().map(|append| self.call(stream, append)).collect();
        let line = &mut self.streams[stream];
        let sent = calls.iter().zip(&self.processes).map(|(call, process)| call.send(&process.store, &line.id));
        let answers = join_all(sent).await;
        let (mut stored, others): (Vec<_>, Vec<_>) = calls
            .iter()
            .zip(answers)
            .partition(|(_, answer)| answer.as_ref().is_ok_and(|appended| !appended.already_stored));
        stored.sort_by_key(|(_, answer)| answer.as_ref().map_or(0, |appended| appended.first_version));
        let mut states = vec![line.history.clone()];
        for (call, answer) in stored {
            line.settle(call, answer, false)?;
            states.push(line.history.clone());
        }
        for (call, answer) in others {
            let outcomes: Vec<_> =
                states.iter().map(|state| state.outcome(call.id, call.place, call.events.len())).collect();
            let is_explained = match &answer {
                Ok(appended) => outcomes.iter().any(|outcome| {
                    matches!(outcome, Outcome::StoredBefore(append) if (append.first, append.last)
                        == (appended.first_version, appended.position.version()))
                }),
                // Where the stream is then is read after the refusal.
                Err(Error::Conflict(conflict)) => {
                    let refused = outcomes.iter().position(|outcome| matches!(outcome, Outcome::Conflict { .. }));
                    let current = conflict.current.version();
                    refused.is_some_and(|refused| states[refused..].iter().any(|state| state.version() == current))
                }
                Err(_) => false,
            };
            prop_assert!(is_explained, "{answer:?} is none of {outcomes:?}");
        }
        Ok(())
    }

    async fn read(&mut self, store: usize, stream: usize, read: Read) -> Result {
        let (process, line) = (&self.processes[store], &mut self.streams[stream]);
        let (store, id, end) = (&process.store, line.id.clone(), line.history.version());
        let collect = async |options: ReadOptions| store.read_stream(&id, options).try_collect::<Vec<_>>().await;
        let limited = |options: ReadOptions, limit: Option<u8>| match limit {
            Some(limit) => options.limit(limit.into()),
            None => options,
        };
        let most = |limit: Option<u8>| limit.map_or(usize::MAX, usize::from);
        match read {
            Read::Whole | Read::WholeWithLateEvent(_) => {
                if let Read::WholeWithLateEvent(age) = read {
                    let late = end.saturating_sub(age.into());
                    // An append of one event at the end is seen or not: nothing shows that it is missing.
                    if line.history.event(late).is_some_and(|event| event.append.first < end) {
                        process.wire.hide(&table::event_key(late), 1);
                    }
                }
                let history = store.read(&id).await.map_err(failed)?;
                process.wire.clear_faults();
                line.compare(&history.events, 1..=end)?;
                prop_assert_eq!(history.position.version(), end);
                line.learn(&history.position)
            }
            Read::Forward { from, limit } => {
                let from = u64::from(from);
                let events =
                    collect(limited(ReadOptions::forward().from_version(from), limit)).await.map_err(failed)?;
                line.compare(&events, (from.max(1)..=end).take(most(limit)))
            }
            Read::Backward { from, limit } => {
                let options =
                    from.map_or(ReadOptions::backward(), |from| ReadOptions::backward().from_version(from.into()));
                let events = collect(limited(options, limit)).await.map_err(failed)?;
                let top = from.map_or(end, |from| end.min(from.into()));
                line.compare(&events, (1..=top).rev().take(most(limit)))
            }
            Read::Behind(age) => {
                let position = line.position(age).clone();
                let mut reader = store.reader_from(position.clone());
                let mut events = Vec::new();
                while let Some(page) = reader.next_page().await.map_err(failed)? {
                    events.extend(page);
                }
                line.compare(&events, position.version() + 1..=end)?;
                line.learn(reader.position())
            }
            Read::Event(version) => {
                let event = store.event(&id, version.into()).await.map_err(failed)?;
                let there = (1..=end).contains(&version.into()).then_some(version.into());
                line.compare(event.as_slice(), there.into_iter())
            }
            Read::Position => {
                let position = store.position(&id).await.map_err(failed)?;
                prop_assert_eq!(position.version(), end);
                prop_assert_eq!(store.exists(&id).await.map_err(failed)?, end > 0);
                line.learn(&position)
            }
        }
    }

    async fn publish(&mut self, store: usize, stream: usize, entries: u16) -> Result {
        let (outbox, line) = (self.processes[store].store.outbox(), &mut self.streams[stream]);
        let page = outbox.pending(&line.id, 1, entries).await.map_err(failed)?;
        let published = line.history.pending.len().min(entries.into());
        let last: Vec<_> = page.entries.iter().map(|entry| entry.last).collect();
        prop_assert!(page.unreadable.is_none(), "{:?}", page.unreadable);
        prop_assert_eq!(&last, &line.history.pending[..published]);
        let keys: Vec<_> = page.entries.iter().map(streambox::outbox::PendingEntry::key).collect();
        let left = outbox.delete(&keys).await.map_err(failed)?;
        prop_assert_eq!(left, vec![]);
        line.history.pending.drain(..published);
        Ok(())
    }
}

impl Call {
    async fn send(&self, store: &EventStore, stream: &StreamId) -> std::result::Result<Appended, Error> {
        let events = self.events.iter().map(|(payload, is_private)| {
            let event = NewEvent::from_json_text(EVENT_TYPE, payload).expect("valid JSON");
            if *is_private { event.private() } else { event }
        });
        store.append_with_id(self.id, stream, self.expected.clone(), events).await
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn failed(error: Error) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}
