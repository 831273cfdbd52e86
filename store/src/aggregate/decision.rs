//! What a decision asks for: events, and what is stored in the same transaction.

use aws_sdk_dynamodb::types::TransactWriteItem;

use crate::{
    append::Part,
    event::NewEvent,
    stream::{ExpectedVersion, StreamId},
};

/// What a decision asks for: events of its aggregate, items of the caller's own and appends to other streams in the same
/// transaction, and a value for the caller.
///
/// Where events are all, a list, an array or an `Option` of them does: see [`IntoDecision`].
///
/// ```
/// # use aws_sdk_dynamodb::types::TransactWriteItem;
/// # use streambox::aggregate::Decision;
/// # enum OrderEvent { Placed { total_cents: u64 } }
/// # fn place(reservation: TransactWriteItem) -> Decision<OrderEvent, u64> {
/// let total_cents = 4990;
/// Decision::new([OrderEvent::Placed { total_cents }]).item(reservation).returning(total_cents)
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "return it from the decision"]
pub struct Decision<E, T = ()> {
    pub(super) events: Vec<E>,
    pub(super) appends: Vec<Part>,
    pub(super) items: Vec<TransactWriteItem>,
    pub(super) value: T,
}

impl<E> Decision<E> {
    /// Events of the aggregate, in order. None: there is nothing to do, and nothing is sent.
    pub fn new(events: impl IntoIterator<Item = E>) -> Self {
        Self { events: events.into_iter().collect(), appends: Vec::new(), items: Vec::new(), value: () }
    }
}

impl<E, T> Decision<E, T> {
    /// Adds an item of the caller's own in another table than the store's, as [`Transaction::item`](crate::Transaction::item) does.
    pub fn item(self, item: TransactWriteItem) -> Self {
        self.items([item])
    }

    /// Adds items of the caller's own, as [`item`](Self::item) does.
    pub fn items(mut self, items: impl IntoIterator<Item = TransactWriteItem>) -> Self {
        self.items.extend(items);
        self
    }

    /// Adds an append to another stream, as [`Transaction::append`](crate::Transaction::append) does. The decision is not made again if that stream
    /// is not where it is expected: the caller has read it, and reads it again.
    pub fn append(
        mut self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Self {
        self.appends.push(Part::new(stream, expected, events));
        self
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> &[E] {
        &self.events
    }

    /// The items of the caller's own that are to be in the same transaction.
    #[must_use]
    pub fn own_items(&self) -> &[TransactWriteItem] {
        &self.items
    }

    /// The value for the caller.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Returns a value to the caller of [`execute`](super::Repository::execute), in [`Saved::returned`](super::Saved::returned).
    pub fn returning<U>(self, value: U) -> Decision<E, U> {
        let Self { events, appends, items, value: _ } = self;
        Decision { events, appends, items, value }
    }
}

/// What a decision may return: a [`Decision`], or anything that iterates over events (a `Vec`, an array, an `Option`).
pub trait IntoDecision<E> {
    /// The value for the caller; `()` if there are only events.
    type Value;

    /// The same as a [`Decision`].
    fn into_decision(self) -> Decision<E, Self::Value>;
}

impl<E, T> IntoDecision<E> for Decision<E, T> {
    type Value = T;

    fn into_decision(self) -> Self {
        self
    }
}

impl<E, I: IntoIterator<Item = E>> IntoDecision<E> for I {
    type Value = ();

    fn into_decision(self) -> Decision<E> {
        Decision::new(self)
    }
}
