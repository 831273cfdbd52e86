//! Given, when, then: one decision of an aggregate, without I/O.

use std::fmt::Debug;

use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use crate::aggregate::{Aggregate, DomainEvent, Replay};

/// An aggregate in the state that a history has given it.
#[derive(Clone, Debug)]
#[must_use = "a state alone checks nothing: continue with `when`"]
pub struct Given<A> {
    state: A,
}

impl<A: Aggregate> Given<A> {
    /// A stream without events.
    pub fn nothing() -> Self {
        Self { state: A::default() }
    }

    /// A history of these events, each of which has been stored and read back (in memory).
    ///
    /// # Panics
    /// If an event can't be stored, or does not decode again.
    #[track_caller]
    pub fn events(events: impl IntoIterator<Item = A::Event>) -> Self {
        let replay = Replay::<A>::new();
        let mut given = Self::nothing();
        for event in events {
            for event in read_back(&replay, &event) {
                given.state.apply(&event);
            }
        }
        given
    }

    /// A history as it stands in a table, type and payload: events of old shapes go through the aggregate's upcasters.
    ///
    /// # Panics
    /// If an event does not decode, or is unknown and that is an error.
    #[track_caller]
    pub fn stored<T: AsRef<str>>(events: impl IntoIterator<Item = (T, Value)>) -> Self {
        let replay = Replay::<A>::new();
        let mut given = Self::nothing();
        for (event_type, payload) in events {
            let event_type = event_type.as_ref();
            match replay.decode(event_type, &payload.to_string()) {
                Ok(events) => events.iter().for_each(|event| given.state.apply(event)),
                Err(error) => panic!("the stored event {event_type} can't be read: {error}"),
            }
        }
        given
    }

    /// This very state.
    pub fn state(state: A) -> Self {
        Self { state }
    }

    /// Runs one decision.
    ///
    /// # Panics
    /// If an event that was decided on can't be stored, or does not decode again.
    #[track_caller]
    pub fn when<I, E>(self, decide: impl FnOnce(&A) -> Result<I, E>) -> Outcome<A, E>
    where
        I: IntoIterator<Item = A::Event>,
    {
        let Self { mut state } = self;
        let decision = decide(&state).map(|events| events.into_iter().collect::<Vec<_>>());
        let replay = Replay::<A>::new();
        for event in decision.iter().flatten().flat_map(|event| read_back(&replay, event)) {
            state.apply(&event);
        }
        Outcome { state, decision }
    }
}

/// What the event is after it has been stored: what only memory holds is lost.
#[track_caller]
fn read_back<A: Aggregate>(replay: &Replay<A>, event: &A::Event) -> Vec<A::Event> {
    let stored = event.encode().unwrap_or_else(|error| panic!("the event can't be stored: {error}"));
    replay
        .decode(stored.event_type(), stored.payload_text())
        .unwrap_or_else(|error| panic!("the event {} can't be read back: {error}", stored.event_type()))
}

/// The outcome of a decision. Each check returns the outcome again, for the next one.
#[derive(Debug)]
pub struct Outcome<A: Aggregate, E> {
    state: A,
    decision: Result<Vec<A::Event>, E>,
}

impl<A: Aggregate, E> Outcome<A, E> {
    /// Checks that the decision was for exactly these events.
    ///
    /// # Panics
    /// If it was not; the message shows the difference.
    #[track_caller]
    pub fn then(&self, expected: impl IntoIterator<Item = A::Event>) -> &Self
    where
        A::Event: Debug + PartialEq,
        E: Debug,
    {
        let expected: Vec<_> = expected.into_iter().collect();
        match &self.decision {
            Ok(events) if *events == expected => self,
            Ok(events) => panic!("other events than expected\n{}", difference(&expected, events)),
            Err(error) => panic!("rejected, but events were expected\n{}", difference(&expected, error)),
        }
    }

    /// Checks that there was nothing to do: no event and no error.
    ///
    /// # Panics
    /// If there was; the message shows it.
    #[track_caller]
    pub fn then_nothing(&self) -> &Self
    where
        A::Event: Debug + PartialEq,
        E: Debug,
    {
        self.then([])
    }

    /// Checks that the decision was rejected with this error.
    ///
    /// # Panics
    /// If it was not; the message shows the difference.
    #[track_caller]
    pub fn then_error(&self, expected: &E) -> &Self
    where
        A::Event: Debug,
        E: Debug + PartialEq,
    {
        match &self.decision {
            Err(error) if error == expected => self,
            Err(error) => panic!("another error than expected\n{}", difference(expected, error)),
            Ok(events) => panic!("events, but an error was expected\n{}", difference(expected, events)),
        }
    }

    /// Checks the state that the decision leads to; the one before it, if it was rejected.
    #[track_caller]
    pub fn then_state(&self, check: impl FnOnce(&A)) -> &Self {
        check(&self.state);
        self
    }

    /// The decision itself, for checks of another kind.
    ///
    /// # Errors
    /// The error that the decision was rejected with.
    pub fn into_decision(self) -> Result<Vec<A::Event>, E> {
        self.decision
    }
}

/// Both, line by line: `-` was expected, `+` is there instead.
fn difference(expected: &impl Debug, actual: &impl Debug) -> String {
    let (expected, actual) = (format!("{expected:#?}\n"), format!("{actual:#?}\n"));
    let diff = TextDiff::from_lines(&expected, &actual);
    let lines = diff.iter_all_changes().map(|change| {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => ' ',
        };
        format!("{sign} {change}")
    });
    std::iter::once("- expected, + actual\n".to_owned()).chain(lines).collect()
}
