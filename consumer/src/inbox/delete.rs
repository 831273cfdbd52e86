//! A generation that nobody uses any more is removed.

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use streambox::Error;

use super::{
    Inbox,
    schema::{self, CONSUMER, Item, STREAM_ID},
};

/// How many positions are deleted at the same time.
const CONCURRENT_DELETES: usize = 32;

/// The outcome of [`Inbox::delete_generation`].
///
/// Exhaustive: it is deleted, or it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleting {
    /// No position of it is left. This many were deleted now, those of parked streams included.
    Done {
        /// How many.
        positions: u64,
    },
    /// It is the current generation. From the time that it was seen to be, nothing was deleted.
    IsCurrent,
}

impl Inbox {
    /// Deletes all positions of a generation of this consumer, with the marks of parked streams, and how far it is rebuilt. The record of what was
    /// skipped in it stays. The current generation is not deleted; nor are the effects of any, which are the handler's.
    ///
    /// **Stop the generation's consumers before.** One that runs finds no position, reads each stream from its beginning, and applies
    /// everything once more. After that the generation can't be switched to, until it is filled anew.
    ///
    /// It can be dropped and repeated: what is deleted is gone, and the table is read from the beginning again.
    ///
    /// Costs a scan of the whole inbox, since a position is found by its stream and not by its generation: half a read unit for each 4 KB,
    /// those of other consumers and generations included, and one for the current generation with each MB; then one write unit for each position, one
    /// more if its stream is parked. Up to 32 positions are deleted at the same time. The scan is eventually consistent: it may miss
    /// what was written a second ago.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers. A part may be deleted then; repeat it.
    pub async fn delete_generation(&self, generation: u32) -> Result<Deleting, Error> {
        let of = self.clone().generation(generation);
        let (mut positions, mut from, mut is_first) = (0, None, true);
        loop {
            if self.current_generation().await? == of.generation {
                return Ok(Deleting::IsCurrent);
            }
            if std::mem::take(&mut is_first) {
                // Before the positions: a rebuild that resumed from its token would leave out what is before it.
                of.delete(of.rebuild_item_key()).await?;
            }
            let mut request = of.request("find the positions of a generation", &of.key);
            request.count_attempt();
            let page = of
                .client
                .scan()
                .table_name(&*of.table)
                .filter_expression(format!("{CONSUMER} = :consumer"))
                .expression_attribute_values(":consumer", schema::text(&of.key))
                .projection_expression(format!("{STREAM_ID}, {CONSUMER}"))
                .set_exclusive_start_key(from)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .map_err(|error| request.failed(error))?;
            let keys = page.items.unwrap_or_default();
            positions += keys.len() as u64;
            let deletes = keys.into_iter().map(|key| of.delete(key));
            let _: Vec<()> = stream::iter(deletes).buffer_unordered(CONCURRENT_DELETES).try_collect().await?;
            match page.last_evaluated_key {
                Some(key) if !key.is_empty() => from = Some(key),
                _ => return Ok(Deleting::Done { positions }),
            }
        }
    }

    async fn delete(&self, key: Item) -> Result<(), Error> {
        let mut request = self.request("delete a position", &self.key);
        request.count_attempt();
        let delete = self.client.delete_item().table_name(&*self.table).set_key(Some(key));
        let deleted = delete.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await;
        deleted.map(|_| ()).map_err(|error| request.failed(error))
    }
}
