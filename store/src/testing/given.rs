//! Given, when, then: one decision of an aggregate, without I/O.

use std::fmt::Debug;

use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use crate::aggregate::{Aggregate, Decision, DomainEvent, IntoDecision, Loaded, Replay};

/// An aggregate in the state that a history has given it.
#[derive(Clone, Debug)]
#[must_use = "a state alone checks nothing: continue with `when`"]
pub struct Given<A> {
    state: A,
    version: u64,
}

impl<A: Aggregate> Given<A> {
    /// A stream without events.
    pub fn nothing() -> Self {
        Self { state: A::default(), version: 0 }
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
            given.version += 1;
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
            given.version += 1;
        }
        given
    }

    /// This very state, at version 0.
    pub fn state(state: A) -> Self {
        Self { state, version: 0 }
    }

    /// The same state at this version.
    pub fn at_version(self, version: u64) -> Self {
        Self { version, ..self }
    }

    /// Makes one decision, as [`Repository::execute`](crate::aggregate::Repository::execute) does; the aggregate's id is `given`.
    ///
    /// # Panics
    /// If an event that was decided on can't be stored, or does not decode again.
    #[track_caller]
    pub fn when<D, E>(self, decide: impl FnOnce(&Loaded<A>) -> Result<D, E>) -> Outcome<A, E, D::Value>
    where
        D: IntoDecision<A::Event>,
    {
        let Self { mut state, version } = self;
        let decision = decide(&Loaded::given(state.clone(), version)).map(IntoDecision::into_decision);
        let replay = Replay::<A>::new();
        let events = decision.iter().flat_map(Decision::events);
        for event in events.flat_map(|event| read_back(&replay, event)) {
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
pub struct Outcome<A: Aggregate, E, T = ()> {
    state: A,
    decision: Result<Decision<A::Event, T>, E>,
}

impl<A: Aggregate, E, T> Outcome<A, E, T> {
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
            Ok(decision) if decision.events() == expected => self,
            Ok(decision) => panic!("other events than expected\n{}", difference(&expected, &decision.events())),
            Err(error) => panic!("rejected, but events were expected\n{}", difference(&expected, error)),
        }
    }

    /// Checks which of these events are not for publication: see [`Aggregate::is_private`].
    ///
    /// # Panics
    /// If others are, or the decision was rejected; the message shows the difference.
    #[track_caller]
    pub fn then_private(&self, expected: impl IntoIterator<Item = A::Event>) -> &Self
    where
        A::Event: Debug + PartialEq,
        E: Debug,
    {
        let expected: Vec<_> = expected.into_iter().collect();
        match &self.decision {
            Ok(decision) => {
                let private = decision.events().iter().filter(|event| A::is_private(event)).collect::<Vec<_>>();
                let is_expected = private.iter().copied().eq(&expected);
                assert!(is_expected, "other private events than expected\n{}", difference(&expected, &private));
                self
            }
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
    #[expect(clippy::needless_pass_by_value, reason = "it takes what `then` takes: values")]
    pub fn then_error(&self, expected: E) -> &Self
    where
        A::Event: Debug,
        E: Debug + PartialEq,
    {
        match &self.decision {
            Err(error) if *error == expected => self,
            Err(error) => panic!("another error than expected\n{}", difference(&expected, error)),
            Ok(decision) => {
                panic!("events, but an error was expected\n{}", difference(&expected, &decision.events()))
            }
        }
    }

    /// Checks the value that the decision returns.
    ///
    /// # Panics
    /// If it is another one, or the decision was rejected; the message shows the difference.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "it takes what `then` takes: values")]
    pub fn then_returned(&self, expected: T) -> &Self
    where
        E: Debug,
        T: Debug + PartialEq,
    {
        match &self.decision {
            Ok(decision) if *decision.value() == expected => self,
            Ok(decision) => panic!("another value than expected\n{}", difference(&expected, decision.value())),
            Err(error) => panic!("rejected, but a value was expected\n{}", difference(&expected, error)),
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
    pub fn into_decision(self) -> Result<Decision<A::Event, T>, E> {
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
