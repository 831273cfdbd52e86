//! From stored events to state: upcast, decode, apply.

use std::marker::PhantomData;

use super::{Aggregate, DecodeError, DomainEvent as _, UnknownEvent, UnknownEvents, Upcasters};
use crate::{
    error::{Corrupt, Error, Invalid},
    event::{NewEvent, RecordedEvent},
};

/// How the history of `A` is read.
#[derive(Debug)]
pub(crate) struct Replay<A> {
    upcasters: Upcasters,
    aggregate: PhantomData<fn() -> A>,
}

impl<A: Aggregate> Replay<A> {
    pub(crate) fn new() -> Self {
        Self { upcasters: A::upcasters(), aggregate: PhantomData }
    }

    /// The typed events that a stored one means: usually one.
    pub(crate) fn decode(&self, event_type: &str, payload: &str) -> Result<Vec<A::Event>, DecodeError> {
        let upcasted = self
            .upcasters
            .upcast(event_type, payload)
            .map_err(|error| DecodeError::Payload(format!("upcaster: {error}")))?;
        let is_ignored = |event: &Result<A::Event, DecodeError>| {
            A::UNKNOWN_EVENTS == UnknownEvents::Ignore && matches!(event, Err(DecodeError::UnknownType))
        };
        let decoded = upcasted.iter().map(|(event_type, payload)| A::Event::decode(event_type, payload));
        decoded.filter(|event| !is_ignored(event)).collect()
    }

    /// Applies a recorded event.
    pub(crate) fn apply(&self, state: &mut A, event: &RecordedEvent) -> Result<(), Error> {
        let events = self.decode(&event.event_type, &event.payload).map_err(|error| unreadable(event, &error))?;
        for event in &events {
            state.apply(event);
        }
        Ok(())
    }

    /// What the event will be when it is read, before it is sent: what can't be read back is refused.
    pub(crate) fn read_back(&self, new: &NewEvent) -> Result<Vec<A::Event>, Invalid> {
        self.decode(new.event_type(), new.payload_text()).map_err(|error| Invalid::Payload {
            event_type: new.event_type().to_owned(),
            why: format!("it could not be read back: {error}"),
        })
    }
}

fn unreadable(event: &RecordedEvent, error: &DecodeError) -> Error {
    let (stream, version, event_type) = (event.stream_id.clone(), event.version, event.event_type.clone());
    match error {
        DecodeError::UnknownType => UnknownEvent { stream, version, event_type }.into(),
        DecodeError::Payload(why) => {
            let what = format!("the payload of this {event_type} does not decode: {why}");
            Corrupt { stream, at: format!("version {version}"), what }.into()
        }
    }
}
