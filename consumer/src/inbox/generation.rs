//! Generations: which one readers use, and how far others are rebuilt.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity, ReturnValue};
use streambox::{Error, ScanToken, StreamId};

use super::{
    Inbox,
    schema::{
        self, CONSUMER, CONSUMERS_PARTITION, EVENTS, Fields, GENERATION, IS_COMPLETE, Item, SCAN_TOKEN, STREAM_ID,
        STREAMS,
    },
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

/// A generation of a consumer's projection.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Generation {
    /// Its number, from 1.
    pub number: u32,
    /// Whether it is the one that readers use.
    pub is_current: bool,
    /// How far it is rebuilt, if that was kept: [`Rebuild::keep_progress`](crate::Rebuild::keep_progress).
    pub rebuild: Option<RebuildProgress>,
}

impl Inbox {
    /// The generations of this consumer that the inbox knows as such, in the order of their numbers: the current one, and those whose rebuild was kept.
    /// Of any other there may be positions, which are not found without reading the whole table.
    ///
    /// Two requests, strongly consistent: one read unit for the current generation, and one for each 4 KB of what was kept.
    ///
    /// # Errors
    /// As [`current_generation`](Self::current_generation).
    pub async fn generations(&self) -> Result<Vec<Generation>, Error> {
        let current = self.current_generation().await?;
        let mut request = self.request("read the generations", &self.consumer);
        request.count_attempt();
        let prefix = schema::rebuild_prefix(&self.consumer);
        let mut pages = self
            .client
            .query()
            .table_name(&*self.table)
            .consistent_read(true)
            .key_condition_expression(format!("{STREAM_ID} = :consumers AND begins_with({CONSUMER}, :prefix)"))
            .expression_attribute_values(":consumers", schema::text(CONSUMERS_PARTITION))
            .expression_attribute_values(":prefix", schema::text(&prefix))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .into_paginator()
            .items()
            .send();
        let mut generations = BTreeMap::from([(current, None)]);
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| request.failed(error))?;
            let key = item.get(CONSUMER).and_then(|key| key.as_s().ok());
            // What else a newer version may store there is not a generation.
            if let Some(number) = key.and_then(|key| key.strip_prefix(&prefix)?.parse().ok()) {
                generations.insert(number, Some(read_progress(&item)?));
            }
        }
        let generation = |(number, rebuild)| Generation { number, is_current: number == current, rebuild };
        Ok(generations.into_iter().map(generation).collect())
    }

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

    /// Switches readers to a generation, as soon as it is as new as the current one: after its rebuild, when its consumer
    /// [has caught up](crate::Consumer::caught_up). Back to an earlier one, too, whose positions and effects are still there. Returns the one
    /// before. 1 write unit.
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
        item.as_ref().map(read_progress).transpose()
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

    pub(super) fn rebuild_item_key(&self) -> schema::Item {
        schema::key(CONSUMERS_PARTITION, &schema::rebuild_key(&self.key))
    }
}

fn read_progress(item: &Item) -> Result<RebuildProgress, Error> {
    let partition = partition();
    let fields = Fields::new(&partition, item);
    let token = fields.text(SCAN_TOKEN)?;
    let token = if token.is_empty() { None } else { Some(token.parse::<ScanToken>()?) };
    let (events, streams) = (fields.number(EVENTS)?, fields.number(STREAMS)?);
    Ok(RebuildProgress { token, events, streams, is_complete: fields.flag(IS_COMPLETE) })
}

/// What an error about an item of a consumer names.
fn partition() -> StreamId {
    StreamId::stored(CONSUMERS_PARTITION)
}
