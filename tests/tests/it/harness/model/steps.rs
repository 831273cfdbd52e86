//! What can happen, at random. Everything is relative to the state that the sequence has come to, so that a step keeps its sense
//! when those before it are left out.

use proptest::{collection::vec, prelude::*};

use super::Sequence;

pub(crate) const STREAMS: usize = 3;
/// Stores that work on them, each another process.
pub(crate) const STORES: usize = 3;
/// Append ids that are used again and again.
const SHARED_IDS: u8 = 5;
const MAX_STEPS: usize = 24;
const MAX_EVENTS: usize = 5;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Append {
        store: usize,
        stream: usize,
        append: Append,
        fault: Fault,
    },
    /// Several appends to one stream, all at the same time.
    Race {
        stream: usize,
        appends: Vec<Append>,
    },
    Read {
        store: usize,
        stream: usize,
        read: Read,
    },
    /// A relay has published that many entries of a stream, and deletes them.
    Publish {
        store: usize,
        stream: usize,
        entries: u16,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Append {
    pub(crate) id: Id,
    pub(crate) expected: Expected,
    pub(crate) events: Vec<Event>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Id {
    Fresh,
    /// One that other appends use, too: a repeat if it goes to the same place.
    Shared(u8),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    Any,
    StreamExists,
    NoStream,
    /// So far from the stream's end.
    Exact(i8),
    /// A position that the store has handed out: the newest, the one before …
    At(u8),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) is_private: bool,
    pub(crate) payload_bytes: usize,
}

/// What happens to the requests of an append.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    None,
    /// It is carried out, and the answer is lost, that many times.
    LoseAnswers(u8),
    /// The answers are lost for as long as the caller waits; then the caller repeats the append.
    LoseAnswersUntilTimeout,
    /// Another transaction is said to be under way, that many times.
    RefuseForConflict(u8),
    /// Capacity is said to be short, that many times.
    Throttle(u8),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Read {
    Whole,
    /// While one of its events shows only the second time. Counted from the end.
    WholeWithLateEvent(u8),
    Forward {
        from: u8,
        limit: Option<u8>,
    },
    Backward {
        from: Option<u8>,
        limit: Option<u8>,
    },
    /// The events behind a position that the store has handed out.
    Behind(u8),
    Event(u8),
    Position,
}

pub(crate) fn sequence() -> impl Strategy<Value = Sequence<Step>> {
    vec(step(), 1..=MAX_STEPS).prop_map(Sequence)
}

fn step() -> impl Strategy<Value = Step> {
    let (store, stream) = (0..STORES, 0..STREAMS);
    prop_oneof![
        10 => (store.clone(), stream.clone(), append(), fault())
            .prop_map(|(store, stream, append, fault)| Step::Append { store, stream, append, fault }),
        2 => (stream.clone(), vec(append(), 2..=4)).prop_map(|(stream, appends)| Step::Race { stream, appends }),
        5 => (store.clone(), stream.clone(), read())
            .prop_map(|(store, stream, read)| Step::Read { store, stream, read }),
        2 => (store, stream, 1..=3_u16)
            .prop_map(|(store, stream, entries)| Step::Publish { store, stream, entries }),
    ]
}

fn append() -> impl Strategy<Value = Append> {
    (id(), expected(), vec(event(), 1..=MAX_EVENTS)).prop_map(|(id, expected, events)| Append { id, expected, events })
}

fn id() -> impl Strategy<Value = Id> {
    prop_oneof![2 => Just(Id::Fresh), 1 => (0..SHARED_IDS).prop_map(Id::Shared)]
}

fn expected() -> impl Strategy<Value = Expected> {
    prop_oneof![
        3 => Just(Expected::Any),
        1 => Just(Expected::StreamExists),
        1 => Just(Expected::NoStream),
        3 => (-4..=1_i8).prop_map(Expected::Exact),
        3 => Just(Expected::At(0)),
        2 => (0..4_u8).prop_map(Expected::At),
    ]
}

/// Copied into the pending entry, or too large for that.
fn event() -> impl Strategy<Value = Event> {
    (prop::bool::weighted(0.25), prop_oneof![4 => Just(20_usize), 1 => Just(400), 1 => Just(3_000)])
        .prop_map(|(is_private, payload_bytes)| Event { is_private, payload_bytes })
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        12 => Just(Fault::None),
        3 => (1..=4_u8).prop_map(Fault::LoseAnswers),
        1 => Just(Fault::LoseAnswersUntilTimeout),
        1 => (1..=3_u8).prop_map(Fault::RefuseForConflict),
        1 => (1..=4_u8).prop_map(Fault::Throttle),
    ]
}

fn read() -> impl Strategy<Value = Read> {
    prop_oneof![
        2 => Just(Read::Whole),
        4 => prop_oneof![Just(0), 0..4_u8].prop_map(Read::WholeWithLateEvent),
        2 => (0..12_u8, prop::option::of(0..6_u8)).prop_map(|(from, limit)| Read::Forward { from, limit }),
        2 => (prop::option::of(0..12_u8), prop::option::of(0..6_u8))
            .prop_map(|(from, limit)| Read::Backward { from, limit }),
        1 => (0..4_u8).prop_map(Read::Behind),
        1 => (0..12_u8).prop_map(Read::Event),
        1 => Just(Read::Position),
    ]
}
