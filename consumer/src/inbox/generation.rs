//! Generations: which one readers use, and how far another one is rebuilt.

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity, ReturnValue};
use streambox::{Error, ScanToken, StreamId};

use super::{
    Inbox,
    schema::{self, CONSUMERS_PARTITION, EVENTS, Fields, GENERATION, IS_COMPLETE, SCAN_TOKEN, STREAMS},
    write::Updated,
};

/// How far a generation is rebuilt by a scan of the events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RebuildProgress {
    /// Where the scan resumes; none before its first page.
    pub token: Option<ScanToken>,
    /// How many events it has read.
    pub events: u64,
    /// How many streams it has read to their ends.
    pub streams: u64,
    /// Whether it is at its end.
    pub is_complete: bool,
}

impl Inbox {
    /// The generation that readers of the projection use: 1 until another one is switched to. One request, strongly consistent: one
    /// read unit. A reader asks now and then, not for each request of its own.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: the item is not one that an inbox writes. [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB
    /// answers.
    pub async fn current_generation(&self) -> Result<u32, Error> {
        let key = schema::key(CONSUMERS_PARTITION, &self.consumer);
        let item = self.item("read the current generation", &self.consumer, key).await?;
        let number = item.as_ref().map(|item| Fields::new(&partition(), item).number::<u32>(GENERATION)).transpose()?;
        Ok(number.unwrap_or(0).max(1))
    }

    /// Switches readers to a generation; back to an earlier one, too, whose positions and effects are still there. Returns the one before.
    /// 1 write unit.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers; repeating it is harmless.
    pub async fn switch_generation(&self, to: u32) -> Result<u32, Error> {
        let update = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(schema::key(CONSUMERS_PARTITION, &self.consumer)))
            .update_expression(format!("SET {GENERATION} = :to"))
            .expression_attribute_values(":to", schema::number(to.max(1)))
            .return_values(ReturnValue::UpdatedOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let updated = self.update(self.request("switch the generation", &self.consumer), update).await?;
        let before = match &updated {
            Updated::Done(output) => output.attributes(),
            Updated::Refused(item) => item.as_ref(),
        };
        let before = before.map(|item| Fields::new(&partition(), item).number::<u32>(GENERATION)).transpose()?;
        Ok(before.unwrap_or(0).max(1))
    }

    /// How far this generation is rebuilt; none if no rebuild of it has begun. One read unit for each 4 KB, mostly one.
    ///
    /// # Errors
    /// As [`current_generation`](Self::current_generation).
    pub async fn rebuild_progress(&self) -> Result<Option<RebuildProgress>, Error> {
        let item = self.item("read the progress of a rebuild", &self.key, self.rebuild_item_key()).await?;
        let Some(item) = item else { return Ok(None) };
        let partition = partition();
        let fields = Fields::new(&partition, &item);
        let token = fields.text(SCAN_TOKEN)?;
        let token = if token.is_empty() { None } else { Some(token.parse::<ScanToken>()?) };
        let (events, streams) = (fields.number(EVENTS)?, fields.number(STREAMS)?);
        Ok(Some(RebuildProgress { token, events, streams, is_complete: fields.flag(IS_COMPLETE) }))
    }

    /// Stores how far this generation is rebuilt, in place of what was stored before. One write unit for each KB, mostly one.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers; repeating it is harmless.
    pub async fn set_rebuild_progress(&self, progress: &RebuildProgress) -> Result<(), Error> {
        let mut request = self.request("store the progress of a rebuild", &self.key);
        request.count_attempt();
        let mut item = self.rebuild_item_key();
        item.extend([
            (EVENTS.to_owned(), schema::number(progress.events)),
            (STREAMS.to_owned(), schema::number(progress.streams)),
            (IS_COMPLETE.to_owned(), AttributeValue::Bool(progress.is_complete)),
        ]);
        item.extend(progress.token.as_ref().map(|token| (SCAN_TOKEN.to_owned(), AttributeValue::S(token.to_string()))));
        let put = self.client.put_item().table_name(&*self.table).set_item(Some(item));
        put.return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| request.failed(error))?;
        Ok(())
    }

    fn rebuild_item_key(&self) -> schema::Item {
        schema::key(CONSUMERS_PARTITION, &schema::rebuild_key(&self.key))
    }
}

/// What an error about an item of a consumer names.
fn partition() -> StreamId {
    StreamId::stored(CONSUMERS_PARTITION)
}
