//! Appends to several streams, and items of the caller's own, in one DynamoDB transaction.

use aws_sdk_dynamodb::types::TransactWriteItem;
use uuid::Uuid;

use super::{Appended, Part, commit::commit};
use crate::{
    error::Error,
    event::NewEvent,
    stream::{ExpectedVersion, StreamId},
    table::Table,
};

/// A transaction that is being put together: appends to one or more streams, and items of the caller's own in tables of the
/// caller's own. All of it is stored, or nothing.
///
/// The own items make more than an event atomic with it: a reservation that makes a value unique, a read model that is never
/// behind, a row of a table that another system reads. Each is a `TransactWriteItem` of the SDK: a put, an update, a delete
/// or a condition check. In sum a transaction has at most 100 items and 4 MB; it is never split.
///
/// ```no_run
/// # async fn example(store: streambox::EventStore) -> Result<(), Box<dyn std::error::Error>> {
/// use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
/// use streambox::{Error, ExpectedVersion::NoStream, NewEvent, StreamId};
///
/// let customer = StreamId::new("customer-7")?;
/// let registered = NewEvent::json("CustomerRegistered", &serde_json::json!({ "email": "ann@example.org" }))?;
/// let reservation = Put::builder()
///     .table_name("emails")
///     .item("email", AttributeValue::S("ann@example.org".to_owned()))
///     .item("customer", AttributeValue::S(customer.to_string()))
///     .condition_expression("attribute_not_exists(email)")
///     .build()?;
///
/// let committed = store
///     .transaction()
///     .append(&customer, NoStream, [registered])
///     .item(TransactWriteItem::builder().put(reservation).build())
///     .commit()
///     .await;
/// match committed {
///     Err(Error::ItemRefused(refused)) if refused.position == 0 => println!("this address is taken"),
///     committed => println!("customer-7 is at version {}", committed?.appends[0].position.version()),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is stored before `commit`"]
pub struct Transaction {
    table: Table,
    append_id: Uuid,
    parts: Vec<Part>,
    items: Vec<TransactWriteItem>,
}

/// What a transaction has done.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Committed {
    /// The results of its appends, in the order in which they were added.
    pub appends: Vec<Appended>,
    /// Whether the very same transaction had been stored before; then this repeats the first result.
    pub already_stored: bool,
    /// The capacity units that the write consumed; 0 if nothing was written by this call.
    pub write_units: f64,
}

impl Committed {
    pub(crate) fn of(appends: Vec<Appended>) -> Self {
        // The same of all appends.
        let (already_stored, write_units) =
            appends.first().map_or((false, 0.0), |append| (append.already_stored, append.write_units));
        Self { appends, already_stored, write_units }
    }
}

impl Transaction {
    pub(crate) fn new(table: Table) -> Self {
        Self { table, append_id: Uuid::new_v4(), parts: Vec::new(), items: Vec::new() }
    }

    /// The same transaction under an append id of the caller's choice: all its appends carry it, and a repeat of the whole
    /// transaction is recognised by it, as with [`EventStore::append_with_id`](crate::EventStore::append_with_id). Where it is, the own items are not written
    /// again either.
    pub fn with_id(mut self, append_id: Uuid) -> Self {
        self.append_id = append_id;
        self
    }

    /// Adds an append. A stream may have one append in a transaction.
    pub fn append(
        mut self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Self {
        self.parts.push(Part::new(stream, expected, events));
        self
    }

    /// Adds an item of the caller's own, which must be in another table than the store's. If its condition does not hold,
    /// the whole transaction is refused with [`Error::ItemRefused`], which names it by its place among the own items.
    pub fn item(self, item: TransactWriteItem) -> Self {
        self.items([item])
    }

    /// Adds items of the caller's own, as [`item`](Self::item) does.
    pub fn items(mut self, items: impl IntoIterator<Item = TransactWriteItem>) -> Self {
        self.items.extend(items);
        self
    }

    /// Stores it: one transaction, all or nothing. Requests and units are those of its appends; an own item costs what it
    /// costs in any transaction, 2 write units for each KB.
    ///
    /// A repeat under the same append id is recognised as long as one of its appends is recognised; the other appends of it
    /// are then looked for, backward from their streams' ends if they are expected at [`ExpectedVersion::Any`] or
    /// [`ExpectedVersion::StreamExists`].
    ///
    /// # Errors
    /// - [`Error::Conflict`]: one of the streams is elsewhere; the error says which and where. Nothing was written.
    /// - [`Error::ItemRefused`]: the condition of an own item does not hold. Nothing was written.
    /// - [`Error::Invalid`]: over a limit, a stream twice, an own item in the store's table. Nothing was sent.
    /// - [`Error::Unavailable`], [`Error::Configuration`], [`Error::Corrupt`]: as with [`EventStore::append`](crate::EventStore::append).
    pub async fn commit(self) -> Result<Committed, Error> {
        let Self { table, append_id, mut parts, items } = self;
        Ok(Committed::of(commit(&table, append_id, &mut parts, &items).await?))
    }
}
