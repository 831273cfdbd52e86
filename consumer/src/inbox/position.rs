//! How far a stream is applied.

use streambox::{Error, StreamId};

use super::{
    Inbox, ParkedStream,
    schema::{Fields, Item},
};
use crate::Position;

/// An item of a stream: its position, and the mark if it is parked.
pub(super) struct Standing {
    pub(super) position: Position,
    pub(super) parked: Option<ParkedStream>,
}

impl Standing {
    pub(super) fn read(stream: &StreamId, item: Option<&Item>) -> Result<Self, Error> {
        let Some(item) = item else { return Ok(Self { position: Position::default(), parked: None }) };
        let fields = Fields::new(stream, item);
        let position = fields.position().map_err(Error::from)?;
        Ok(Self { position, parked: ParkedStream::read(stream, position, &fields)? })
    }
}

impl Inbox {
    /// How far a stream is applied; version 0 if nothing is. One request, strongly consistent: one read unit.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: the item is not one that an inbox writes. [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB
    /// answers.
    pub async fn position(&self, stream: &StreamId) -> Result<Position, Error> {
        Ok(self.standing(stream).await?.position)
    }

    /// Whether and why a stream is parked. Costs what [`position`](Self::position) does.
    ///
    /// # Errors
    /// As [`position`](Self::position).
    pub async fn parked_stream(&self, stream: &StreamId) -> Result<Option<ParkedStream>, Error> {
        Ok(self.standing(stream).await?.parked)
    }

    pub(super) async fn standing(&self, stream: &StreamId) -> Result<Standing, Error> {
        let item = self.item("read the position", stream.as_str(), self.position_key(stream)).await?;
        Standing::read(stream, item.as_ref())
    }

    /// One item, strongly consistent.
    pub(super) async fn item(&self, operation: &'static str, subject: &str, key: Item) -> Result<Option<Item>, Error> {
        let mut request = self.request(operation, subject);
        request.count_attempt();
        let get = self.client.get_item().table_name(&*self.table).set_key(Some(key)).consistent_read(true);
        let output = get
            .return_consumed_capacity(aws_sdk_dynamodb::types::ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| request.failed(error))?;
        Ok(output.item)
    }
}
