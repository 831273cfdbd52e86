//! Moves the position of a stream, with the effect of an event in the same transaction: prepare, send, translate.

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::transact_write_items::TransactWriteItemsError,
    types::{CancellationReason, ReturnConsumedCapacity, TransactWriteItem, Update},
};
use streambox::{Error, ItemRefused, StreamId, Uuid, limits::MAX_TRANSACTION_ITEMS, message::Received};

use super::{
    Inbox,
    schema::{self, Item, LAST_EVENT_ID, LAST_VERSION, POSITION_BYTES},
    write::Updated,
};
use crate::Applied;

/// Most items that the effect of an event may have: the items of a transaction less the position.
pub const MAX_OWN_ITEMS: usize = MAX_TRANSACTION_ITEMS - 1;

const OPERATION: &str = "apply an event";

/// A move of a position: from a version, to an event.
#[derive(Clone, Copy, Debug)]
struct Move {
    from: u64,
    to: u64,
    event_id: Uuid,
}

impl Move {
    /// What is set, and nothing else: a parked stream stays parked.
    fn update() -> String {
        format!("SET {LAST_VERSION} = :version, {LAST_EVENT_ID} = :id")
    }

    fn condition(self) -> String {
        // A parked stream of which nothing has been applied has an item without a version.
        match self.from {
            0 => format!("attribute_not_exists({LAST_VERSION})"),
            _ => format!("{LAST_VERSION} = :last"),
        }
    }

    fn values(self) -> Item {
        let mut values = Item::from([
            (":version".to_owned(), schema::number(self.to)),
            (":id".to_owned(), schema::bytes(self.event_id)),
        ]);
        if self.from > 0 {
            values.insert(":last".to_owned(), schema::number(self.from));
        }
        values
    }
}

/// What the reasons of a cancelled transaction say, whose first item is the position.
#[derive(Debug, PartialEq)]
enum Cancelled {
    /// The position is another one.
    Moved,
    /// An item of the handler's was refused by its own condition.
    ItemRefused { position: usize, item: Option<Item> },
    /// By another reason.
    Otherwise,
}

fn judge(reasons: &[CancellationReason]) -> Cancelled {
    let failed = |reason: &CancellationReason| reason.code() == Some("ConditionalCheckFailed");
    match reasons.iter().position(failed) {
        Some(0) => Cancelled::Moved,
        Some(at) => {
            let item = reasons[at].item().filter(|item| !item.is_empty()).cloned();
            Cancelled::ItemRefused { position: at - 1, item }
        }
        None => Cancelled::Otherwise,
    }
}

fn reasons(error: &SdkError<TransactWriteItemsError>) -> &[CancellationReason] {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => cancelled.cancellation_reasons(),
        _ => &[],
    }
}

impl Inbox {
    /// Stores the effect of an event and its version as the position of its stream, in one transaction, if the position is still
    /// `last_version` (0: there is none). What a [`Projection`](crate::Projection) does; [`projection`](Self::projection) makes
    /// one of a handler.
    ///
    /// Without items one `UpdateItem` of 1 write unit; with items one `TransactWriteItems` of 2 write units, and 2 for each KB of each
    /// item. A repeat after a lost answer is [`Applied::Moved`] or [`Applied::Stored`]: in either case the position says that the effect is
    /// stored. A stream that is parked stays parked.
    ///
    /// # Errors
    /// - [`Error::ItemRefused`]: the condition of an item does not hold, and the position is `last_version`. Nothing was written. One
    ///   read unit more.
    /// - [`Error::Invalid`]: more than [`MAX_OWN_ITEMS`], more than 4 MB, or an item in the inbox's own table. Nothing was sent.
    /// - [`Error::Unavailable`], [`Error::Busy`], [`Error::Configuration`]: as DynamoDB answers; of items of the handler the error says which.
    pub async fn apply(
        &self,
        event: &Received,
        last_version: u64,
        items: Vec<TransactWriteItem>,
    ) -> Result<Applied, Error> {
        let step = Move { from: last_version, to: event.version, event_id: event.event_id };
        if items.is_empty() {
            self.move_alone(&event.stream_id, step).await
        } else {
            self.move_with(&event.stream_id, step, items).await
        }
    }

    async fn move_alone(&self, stream: &StreamId, step: Move) -> Result<Applied, Error> {
        let update = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(self.position_key(stream)))
            .update_expression(Move::update())
            .condition_expression(step.condition())
            .set_expression_attribute_values(Some(step.values()))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        match self.update(self.request(OPERATION, stream.as_str()), update).await? {
            Updated::Done(_) => Ok(Applied::Stored),
            Updated::Refused(_) => Ok(Applied::Moved),
        }
    }

    async fn move_with(&self, stream: &StreamId, step: Move, own: Vec<TransactWriteItem>) -> Result<Applied, Error> {
        let mut request = self.request(OPERATION, stream.as_str());
        request.check_items(&own, 1, POSITION_BYTES)?;
        let mut items = Vec::with_capacity(own.len() + 1);
        items.push(self.move_item(stream, step));
        items.extend(own);
        let transaction = self
            .client
            .transact_write_items()
            .set_transact_items(Some(items))
            .client_request_token(Uuid::new_v4().to_string())
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let Err(error) = self.transact(&mut request, &transaction).await? else { return Ok(Applied::Stored) };
        match judge(reasons(&error)) {
            Cancelled::Moved => Ok(Applied::Moved),
            // Whether DynamoDB names each condition that does not hold, it does not promise.
            Cancelled::ItemRefused { .. } if self.position(stream).await?.version != step.from => Ok(Applied::Moved),
            Cancelled::ItemRefused { position, item } => Err(ItemRefused::new(position, item).into()),
            Cancelled::Otherwise => {
                let is_table_there = async { self.position(stream).await.is_ok() };
                let own = transaction.get_transact_items().as_deref().unwrap_or_default().get(1..).unwrap_or_default();
                Err(request.transaction_failed(error, 1, own, is_table_there).await)
            }
        }
    }

    fn move_item(&self, stream: &StreamId, step: Move) -> TransactWriteItem {
        let update = Update::builder()
            .table_name(&*self.table)
            .set_key(Some(self.position_key(stream)))
            .update_expression(Move::update())
            .condition_expression(step.condition())
            .set_expression_attribute_values(Some(step.values()))
            .build()
            .expect("an update has a table, a key and an expression");
        TransactWriteItem::builder().update(update).build()
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;

    fn reasons(codes: &[&str]) -> Vec<CancellationReason> {
        codes.iter().map(|code| CancellationReason::builder().code(*code).build()).collect()
    }

    #[test]
    fn the_first_event_of_a_stream_needs_that_there_is_no_version_and_a_later_one_the_last() {
        let first = Move { from: 0, to: 1, event_id: Uuid::from_u128(1) };
        assert_eq!(first.condition(), "attribute_not_exists(last_version)");
        assert_eq!(first.values().len(), 2, "an unused value is an error");
        let later = Move { from: 3, to: 5, ..first };
        assert_eq!(
            (later.condition().as_str(), &later.values()[":last"]),
            ("last_version = :last", &AttributeValue::N("3".to_owned()))
        );
        assert_eq!(Move::update(), "SET last_version = :version, last_event_id = :id");
    }

    #[test]
    fn a_position_that_moved_decides_whatever_else_there_is() {
        assert_eq!(judge(&reasons(&["ConditionalCheckFailed", "ConditionalCheckFailed"])), Cancelled::Moved);
        assert_eq!(judge(&reasons(&["ConditionalCheckFailed", "ValidationError"])), Cancelled::Moved);
        let refused = judge(&reasons(&["None", "None", "ConditionalCheckFailed"]));
        assert_eq!(refused, Cancelled::ItemRefused { position: 1, item: None });
        for codes in [vec!["TransactionConflict", "None"], vec!["None", "ValidationError"], vec![]] {
            assert_eq!(judge(&reasons(&codes)), Cancelled::Otherwise, "{codes:?}");
        }
    }
}
