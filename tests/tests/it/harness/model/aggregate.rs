//! Repositories with snapshots and caches of every kind against the plain fold of what was decided.
//!
//! A snapshot or a cache is never the truth: whatever they are set to, whatever becomes of them, each load is what the events
//! say, and each decision is made on that.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::join_all;
use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};
use streambox::{
    EventStore, ExpectedVersion, NewEvent, Uuid,
    aggregate::{
        Aggregate as _, CacheSettings, CommandContext, EveryEvents, ExecuteError, Loaded, Never, OnDemand, Repository,
        Saved,
    },
};
use streambox_tests::{
    engine::{TestTable, stream},
    orders::{Order, OrderEvent, Refusal},
    wire::Wire,
};

use super::{
    Sequence,
    world::{Result, failed, fast_client},
};

const ORDERS: usize = 2;
const REPOSITORIES: usize = 3;
const SHARED_IDS: u8 = 3;
const MAX_STEPS: usize = 24;
/// Longer than any test.
const STALENESS: Duration = Duration::from_hours(1);

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Execute {
        repository: usize,
        order: usize,
        deed: Deed,
        lost_answers: u8,
    },
    /// By all repositories at the same time.
    Race {
        order: usize,
        deeds: Vec<Deed>,
    },
    Load {
        repository: usize,
        order: usize,
    },
    /// By a service that knows no repository.
    Append {
        order: usize,
        events: u8,
    },
    Snapshot {
        repository: usize,
        order: usize,
    },
    Damage {
        order: usize,
        damage: Damage,
    },
    /// The process ends and another one begins.
    Restart {
        repository: usize,
        settings: Settings,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Deed {
    /// Commands with the same id are the same.
    id: Option<u8>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// This many events whose content depends on the state.
    Add(u8),
    Ship,
}

/// What becomes of a stored snapshot.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Damage {
    Lost,
    Body,
    Version,
    AheadOfTheStream,
    OfAnotherSchema,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// After this many events; 0: on demand; none: neither taken nor used.
    snapshots: Option<u64>,
    cache: CacheKind,
}

#[derive(Clone, Copy, Debug)]
enum CacheKind {
    Off,
    OneEntry,
    Default,
    Stale,
}

/// Settings of the repositories, whether commands are recognised for ever, and what happens.
pub(crate) type Run = (Vec<Settings>, bool, Sequence<Step>);

pub(crate) fn sequence() -> impl Strategy<Value = Run> {
    (vec(settings(), REPOSITORIES), any::<bool>(), vec(step(), 1..=MAX_STEPS).prop_map(Sequence))
}

fn settings() -> impl Strategy<Value = Settings> {
    let cache = prop_oneof![
        1 => Just(CacheKind::Off),
        1 => Just(CacheKind::OneEntry),
        2 => Just(CacheKind::Default),
        1 => Just(CacheKind::Stale),
    ];
    (prop::option::weighted(0.8, 0..6_u64), cache).prop_map(|(snapshots, cache)| Settings { snapshots, cache })
}

fn step() -> impl Strategy<Value = Step> {
    let (repository, order) = (0..REPOSITORIES, 0..ORDERS);
    let damage = prop_oneof![
        Just(Damage::Lost),
        Just(Damage::Body),
        Just(Damage::Version),
        Just(Damage::AheadOfTheStream),
        Just(Damage::OfAnotherSchema)
    ];
    prop_oneof![
        8 => (repository.clone(), order.clone(), deed(), prop_oneof![4 => Just(0_u8), 1 => 1..4_u8]).prop_map(
            |(repository, order, deed, lost_answers)| Step::Execute { repository, order, deed, lost_answers }
        ),
        2 => (order.clone(), vec(deed(), 2..=REPOSITORIES)).prop_map(|(order, deeds)| Step::Race { order, deeds }),
        4 => (repository.clone(), order.clone()).prop_map(|(repository, order)| Step::Load { repository, order }),
        2 => (order.clone(), 1..4_u8).prop_map(|(order, events)| Step::Append { order, events }),
        1 => (repository.clone(), order.clone()).prop_map(|(repository, order)| Step::Snapshot { repository, order }),
        2 => (order, damage).prop_map(|(order, damage)| Step::Damage { order, damage }),
        1 => (repository, settings()).prop_map(|(repository, settings)| Step::Restart { repository, settings }),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    let kind = prop_oneof![12 => (0..5_u8).prop_map(Kind::Add), 1 => Just(Kind::Ship)];
    (prop::option::weighted(0.4, 0..SHARED_IDS), kind).prop_map(|(id, kind)| Deed { id, kind })
}

impl Deed {
    /// The decision. What it adds depends on the state, so that one made on another state is seen.
    fn decide(self, state: &Order) -> std::result::Result<Vec<OrderEvent>, Refusal> {
        match self.kind {
            Kind::Add(events) => {
                let items = state.digest % 7 + 1;
                state.add(items)?;
                Ok(vec![OrderEvent::ItemsAdded { items }; events.into()])
            }
            Kind::Ship => Ok(state.ship()?.into_iter().collect()),
        }
    }

    fn command(self, for_ever: bool) -> CommandContext {
        let Some(id) = self.id else { return CommandContext::new() };
        let id = Uuid::from_u128(1 + u128::from(id));
        if for_ever { CommandContext::new().with_id_for_ever(id) } else { CommandContext::new().with_id(id) }
    }
}

struct World {
    table: TestTable,
    processes: Vec<Process>,
    for_ever: bool,
    orders: Vec<Line>,
}

struct Process {
    wire: Wire,
    repository: Repository<Order>,
    settings: Settings,
    /// The version that it has last seen of each order.
    seen: [u64; ORDERS],
}

/// What has happened to an order.
#[derive(Default)]
struct Line {
    /// Each append: its id if the command had one, and its events.
    appends: Vec<(Option<u8>, Vec<OrderEvent>)>,
}

impl Line {
    fn events(&self) -> impl Iterator<Item = &OrderEvent> {
        self.appends.iter().flat_map(|(_, events)| events)
    }

    fn version(&self) -> u64 {
        self.events().count() as u64
    }

    fn state_at(&self, version: u64) -> Order {
        let mut state = Order::default();
        for (event, _) in self.events().zip(0..version) {
            state.apply(event);
        }
        state
    }

    fn state(&self) -> Order {
        self.state_at(u64::MAX)
    }

    /// First and last version of the append of a command.
    fn append_of(&self, id: u8) -> Option<(u64, u64)> {
        let mut last = 0;
        for (of, events) in &self.appends {
            let first = last + 1;
            last += events.len() as u64;
            if *of == Some(id) {
                return Some((first, last));
            }
        }
        None
    }
}

pub(crate) async fn play((settings, for_ever, Sequence(steps)): Run) -> Result {
    let table = TestTable::create().await;
    let processes = settings.into_iter().map(|settings| Process::start(&table, settings, for_ever)).collect();
    let mut world = World { table, processes, for_ever, orders: (0..ORDERS).map(|_| Line::default()).collect() };
    for step in steps {
        world.step(&step).await.map_err(|error| TestCaseError::fail(format!("{step:?}: {error}")))?;
        world.check().await.map_err(|error| TestCaseError::fail(format!("after {step:?}: {error}")))?;
    }
    // What was still being written is there now.
    for process in &world.processes {
        process.repository.snapshots_settled().await;
    }
    for order in 0..ORDERS {
        for repository in 0..REPOSITORIES {
            world.load(repository, order).await?;
        }
    }
    world.check().await
}

impl Process {
    fn start(table: &TestTable, settings: Settings, for_ever: bool) -> Self {
        let wire = Wire::new();
        let store = EventStore::new(fast_client(table, &wire), &table.name);
        let builder = match settings.snapshots {
            None => Repository::builder(store).snapshots(Never),
            Some(0) => Repository::builder(store).snapshots(OnDemand),
            Some(every) => Repository::builder(store).snapshots(EveryEvents(every)),
        };
        let builder = match settings.cache {
            CacheKind::Off => builder.cache(None),
            CacheKind::OneEntry => builder.cache(CacheSettings::new().entries(1)),
            CacheKind::Default => builder,
            CacheKind::Stale => builder.cache(CacheSettings::new().staleness(STALENESS)),
        };
        // Else the window covers all that a run has.
        let builder = if for_ever { builder.deduplication_window(2) } else { builder };
        Self { wire, repository: builder.build(), settings, seen: [0; ORDERS] }
    }

    /// A load is what the events say: all of them, unless the repository may answer with what it has seen before.
    fn compare(&mut self, order: usize, line: &Line, loaded: &Loaded<Order>) -> Result {
        let version = loaded.version();
        let may_be_old = matches!(self.settings.cache, CacheKind::Stale);
        let oldest = if may_be_old { self.seen[order] } else { line.version() };
        prop_assert!((oldest..=line.version()).contains(&version), "version {version} of {}", line.version());
        prop_assert_eq!(loaded.state(), &line.state_at(version));
        self.seen[order] = version;
        Ok(())
    }
}

type Answer = std::result::Result<Saved<Order>, ExecuteError<Refusal>>;

impl World {
    async fn step(&mut self, step: &Step) -> Result {
        match *step {
            Step::Execute { repository, order, deed, lost_answers } => {
                let process = &self.processes[repository];
                process.wire.lose_answers("TransactWriteItems", lost_answers.into());
                let answer = execute(&process.repository, order, deed, self.for_ever).await;
                process.wire.clear_faults();
                self.settle(repository, order, deed, answer)
            }
            Step::Race { order, ref deeds } => self.race(order, deeds).await,
            Step::Load { repository, order } => self.load(repository, order).await,
            Step::Append { order, events } => self.append(order, events).await,
            Step::Snapshot { repository, order } => {
                self.processes[repository].repository.snapshot(order).await.map(drop).map_err(failed)
            }
            Step::Damage { order, damage } => {
                // What is being written would come after it.
                for process in &self.processes {
                    process.repository.snapshots_settled().await;
                }
                self.damage(order, damage).await;
                Ok(())
            }
            Step::Restart { repository, settings } => {
                // An end in order: what is being written may as well be lost, but not come later.
                self.processes[repository].repository.snapshots_settled().await;
                self.processes[repository] = Process::start(&self.table, settings, self.for_ever);
                Ok(())
            }
        }
    }

    /// What the repository says that a command has led to, against the model.
    fn settle(&mut self, repository: usize, order: usize, deed: Deed, answer: Answer) -> Result {
        let (line, process) = (&mut self.orders[order], &mut self.processes[repository]);
        if let Some((first, last)) = deed.id.and_then(|id| line.append_of(id)) {
            let saved = answer.map_err(|error| TestCaseError::fail(format!("a repeat fails: {error:?}")))?;
            let appended = saved.appended.as_ref().expect("the first one has appended");
            prop_assert!(appended.already_stored, "carried out before");
            prop_assert_eq!((appended.first_version, appended.position.version()), (first, last));
            return process.compare(order, line, &saved.loaded);
        }
        match (deed.decide(&line.state()), answer) {
            (Err(refusal), Err(ExecuteError::Rejected(rejected))) => prop_assert_eq!(refusal, rejected),
            (Ok(events), Ok(saved)) => {
                prop_assert_eq!(saved.appended.is_some(), !events.is_empty());
                if !events.is_empty() {
                    line.appends.push((deed.id, events));
                }
                process.compare(order, line, &saved.loaded)?;
                prop_assert_eq!(saved.loaded.version(), line.version());
            }
            (expected, answer) => {
                return Err(TestCaseError::fail(format!("{expected:?} became {answer:?}")));
            }
        }
        Ok(())
    }

    async fn race(&mut self, order: usize, deeds: &[Deed]) -> Result {
        // The same command at the same time is in a race with itself: which of the two has carried it out is open.
        let mut ids: Vec<_> = deeds.iter().filter_map(|deed| deed.id).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() < deeds.iter().filter(|deed| deed.id.is_some()).count() {
            return Ok(());
        }
        let for_ever = self.for_ever;
        let racing = deeds
            .iter()
            .zip(&self.processes)
            .map(|(deed, process)| execute(&process.repository, order, *deed, for_ever));
        let answers = join_all(racing).await;
        let (mut appended, others): (Vec<_>, Vec<_>) =
            deeds.iter().zip(answers).enumerate().partition(|(_, (_, answer))| place(answer).is_some());
        appended.sort_by_key(|(_, (_, answer))| place(answer));
        let line = &mut self.orders[order];
        let mut states = vec![line.state()];
        for (repository, (deed, answer)) in appended {
            let events = deed.decide(&line.state()).unwrap_or_default();
            let (first, last) = place(&answer).expect("it has appended");
            prop_assert_eq!((first, last), (line.version() + 1, line.version() + events.len() as u64));
            line.appends.push((deed.id, events));
            states.push(line.state());
            self.processes[repository].seen[order] = last;
        }
        // Who has appended nothing has decided on one of the states that there were.
        for (_, (deed, answer)) in others {
            let is_explained = match (&answer, deed.id.and_then(|id| line.append_of(id))) {
                (Ok(saved), Some((first, _))) => {
                    saved.appended.as_ref().is_some_and(|append| append.first_version == first)
                }
                (Ok(_), None) => states.iter().any(|state| deed.decide(state).is_ok_and(|events| events.is_empty())),
                (Err(ExecuteError::Rejected(why)), None) => {
                    states.iter().any(|state| deed.decide(state) == Err(why.clone()))
                }
                (Err(_), _) => false,
            };
            prop_assert!(is_explained, "{deed:?} became {answer:?}");
        }
        Ok(())
    }

    async fn load(&mut self, repository: usize, order: usize) -> Result {
        let process = &mut self.processes[repository];
        let loaded = process.repository.load(order).await.map_err(failed)?;
        process.compare(order, &self.orders[order], &loaded)
    }

    async fn append(&mut self, order: usize, events: u8) -> Result {
        let events = vec![OrderEvent::ItemsAdded { items: 5 }; events.into()];
        let data = serde_json::json!({ "items": 5 });
        let new = events.iter().map(|_| NewEvent::json("ItemsAdded", &data).expect("valid JSON"));
        let id = stream(&format!("order-{order}"));
        self.table.store.append(&id, ExpectedVersion::Any, new).await.map_err(failed)?;
        self.orders[order].appends.push((None, events));
        Ok(())
    }

    async fn damage(&self, order: usize, damage: Damage) {
        let id = stream(&format!("order-{order}"));
        let number = |number: u32| AttributeValue::N(number.to_string());
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let (attribute, value) = match damage {
            Damage::Lost => return self.table.delete(&id, "snapshot").await,
            Damage::Body => ("body", text("{")),
            Damage::Version => ("version", text("7")),
            Damage::AheadOfTheStream => ("version", number(1_000_000)),
            Damage::OfAnotherSchema => ("schema_version", number(99)),
        };
        self.table.set(&id, "snapshot", attribute, value).await;
    }

    /// What is stored is what was decided.
    async fn check(&self) -> Result {
        for (order, line) in self.orders.iter().enumerate() {
            let history = self.table.store.read(&stream(&format!("order-{order}"))).await.map_err(failed)?;
            let stored = history.events.iter().map(|event| {
                let data: serde_json::Value = event.payload().expect("JSON");
                serde_json::from_value(serde_json::json!({ "type": event.event_type, "data": data })).expect("an event")
            });
            let stored: Vec<OrderEvent> = stored.collect();
            prop_assert_eq!(stored, line.events().cloned().collect::<Vec<_>>());
        }
        let appends: usize = self.orders.iter().map(|line| line.appends.len()).sum();
        prop_assert_eq!(self.table.pending().await, appends as u64);
        Ok(())
    }
}

/// The versions that a command has appended just now.
fn place(answer: &Answer) -> Option<(u64, u64)> {
    let appended = answer.as_ref().ok()?.appended.as_ref().filter(|append| !append.already_stored)?;
    Some((appended.first_version, appended.position.version()))
}

async fn execute(repository: &Repository<Order>, order: usize, deed: Deed, for_ever: bool) -> Answer {
    repository.execute_with(order, &deed.command(for_ever), |state| deed.decide(state)).await
}
