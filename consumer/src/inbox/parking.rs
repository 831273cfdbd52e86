//! The mark of a stream that is parked: an event of it can't be applied, and its messages are acknowledged all the same.
//!
//! Each message up to `latest_version` may have been acknowledged, so the mark stays until the position is there. It is written by
//! several consumers at once, each on a condition; the highest version wins.

use aws_sdk_dynamodb::{
    operation::update_item::builders::UpdateItemFluentBuilder,
    types::{ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use streambox::{Error, StreamId};

use super::{
    Inbox, ParkedStream,
    position::Standing,
    schema::{self, ATTEMPTS, LATEST_VERSION, PARKED_SINCE, REASON, RETRY_AT},
    write::Updated,
};

/// The attributes of a mark.
pub(super) const MARK: [&str; 5] = [PARKED_SINCE, RETRY_AT, ATTEMPTS, REASON, LATEST_VERSION];

/// Most bytes that are kept of the reason why a stream is parked. A longer one is cut.
pub const MAX_REASON_BYTES: usize = 500;

/// How often a mark is written if others change it meanwhile. It changes twice at most: it is removed, and set again.
const PARK_ATTEMPTS: u32 = 8;

/// The outcome of [`Inbox::note_latest`].
///
/// Exhaustive: it is parked or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// The stream stays parked until this version is applied: its message can be acknowledged.
    Noted,
    /// The stream is not parked. Nothing is written; treat the message as any other.
    NotParked,
}

/// The beginning of a reason, at the end of a character.
fn bounded(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

impl Inbox {
    /// Parks a stream, or says of one that is parked that it failed again: why, and when it is tried again (milliseconds since the Unix
    /// epoch). Afterwards the messages of the stream up to `latest_version` can be acknowledged.
    ///
    /// A stream that is parked keeps its time, its attempts ([`claim`](Self::claim) counts them) and a higher
    /// `latest_version`. The first attempt counts as one. Of the reason the first [`MAX_REASON_BYTES`] are kept.
    ///
    /// 1 write unit, 1 more for the index, and 1 if it was in it with another time. If the mark has a higher `latest_version`, 1
    /// unit more.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Busy`], [`Error::Configuration`] as DynamoDB answers. It may be parked then; repeating it
    /// is harmless.
    pub async fn park(
        &self,
        stream: &StreamId,
        reason: &str,
        latest_version: u64,
        retry_at_ms: i64,
    ) -> Result<(), Error> {
        let request = self.request("park", stream.as_str());
        let common = || {
            self.update_of(stream)
                .expression_attribute_values(":since", schema::number(self.now_ms()))
                .expression_attribute_values(":retry", schema::number(retry_at_ms))
                .expression_attribute_values(":reason", schema::text(bounded(reason)))
                .expression_attribute_values(":one", schema::number(1))
        };
        let set = format!(
            "SET {PARKED_SINCE} = if_not_exists({PARKED_SINCE}, :since), {RETRY_AT} = :retry, {REASON} = :reason, \
             {ATTEMPTS} = if_not_exists({ATTEMPTS}, :one)"
        );
        for _ in 0..PARK_ATTEMPTS {
            let highest = common()
                .update_expression(format!("{set}, {LATEST_VERSION} = :latest"))
                .condition_expression(format!("attribute_not_exists({LATEST_VERSION}) OR {LATEST_VERSION} <= :latest"))
                .expression_attribute_values(":latest", schema::number(latest_version));
            if let Updated::Done(_) = self.update(request, highest).await? {
                return Ok(());
            }
            let again = common()
                .update_expression(&set)
                .condition_expression(format!("{LATEST_VERSION} > :latest"))
                .expression_attribute_values(":latest", schema::number(latest_version));
            if let Updated::Done(_) = self.update(request, again).await? {
                return Ok(());
            }
        }
        Err(request.busy())
    }

    /// Says that a parked stream has a message of this version: afterwards it can be acknowledged, since the stream stays
    /// parked until the version is applied.
    ///
    /// 1 write unit, whatever the outcome.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers. Don't acknowledge the message then.
    pub async fn note_latest(&self, stream: &StreamId, version: u64) -> Result<Noted, Error> {
        let update = self
            .update_of(stream)
            .update_expression(format!("SET {LATEST_VERSION} = :version"))
            .condition_expression(format!("{LATEST_VERSION} < :version"))
            .expression_attribute_values(":version", schema::number(version))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match self.update(self.request("note a version", stream.as_str()), update).await? {
            Updated::Done(_) => Ok(Noted::Noted),
            // There is a mark of this version or a higher one. It may be this very one, whose answer was lost.
            Updated::Refused(Some(item)) if item.contains_key(LATEST_VERSION) => Ok(Noted::Noted),
            Updated::Refused(_) => Ok(Noted::NotParked),
        }
    }

    /// Takes a due stream, so that no other consumer tries it at the same time: its next time, if this one ends without a
    /// word, is `new_retry_at_ms`. `seen_retry_at_ms` is what [`due`](Self::due) says; none if it is not that any more.
    ///
    /// 1 write unit, and 2 for the index; 1 if it is refused.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers; [`Error::Corrupt`] if the item is not one that an inbox writes.
    pub async fn claim(
        &self,
        stream: &StreamId,
        seen_retry_at_ms: i64,
        new_retry_at_ms: i64,
    ) -> Result<Option<ParkedStream>, Error> {
        let update = self
            .update_of(stream)
            .update_expression(format!("SET {RETRY_AT} = :new ADD {ATTEMPTS} :one"))
            .condition_expression(format!("{RETRY_AT} = :seen"))
            .expression_attribute_values(":new", schema::number(new_retry_at_ms))
            .expression_attribute_values(":seen", schema::number(seen_retry_at_ms))
            .expression_attribute_values(":one", schema::number(1))
            .return_values(ReturnValue::AllNew);
        match self.update(self.request("claim", stream.as_str()), update).await? {
            Updated::Done(output) => Ok(Standing::read(stream, output.attributes())?.parked),
            Updated::Refused(_) => Ok(None),
        }
    }

    /// Removes the mark of a stream of which everything up to `last_version` is applied, and returns none. Otherwise returns the
    /// version up to which messages have been acknowledged meanwhile: read on from the store and try again.
    ///
    /// 1 write unit, and 1 for the index; 1 if it is refused.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers.
    pub async fn unpark(&self, stream: &StreamId, last_version: u64) -> Result<Option<u64>, Error> {
        let update = self
            .update_of(stream)
            .update_expression(format!("REMOVE {}", MARK.join(", ")))
            .condition_expression(format!("{LATEST_VERSION} <= :last"))
            .expression_attribute_values(":last", schema::number(last_version))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match self.update(self.request("unpark", stream.as_str()), update).await? {
            Updated::Done(_) => Ok(None),
            // Without a mark it was unparked before, maybe by this very one, whose answer was lost.
            Updated::Refused(item) => {
                let parked = Standing::read(stream, item.as_ref())?.parked;
                Ok(parked.map(|parked| parked.latest_version))
            }
        }
    }

    /// An operator's word: a parked stream is to be tried now. `false`: it is not parked.
    ///
    /// 1 write unit, and 2 for the index; 1 if it is not parked.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers.
    pub async fn retry(&self, stream: &StreamId) -> Result<bool, Error> {
        let update = self
            .update_of(stream)
            .update_expression(format!("SET {RETRY_AT} = :now"))
            .condition_expression(format!("attribute_exists({RETRY_AT})"))
            .expression_attribute_values(":now", schema::number(self.now_ms()));
        let updated = self.update(self.request("retry", stream.as_str()), update).await?;
        Ok(matches!(updated, Updated::Done(_)))
    }

    fn update_of(&self, stream: &StreamId) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(self.position_key(stream)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_at_the_end_of_a_character() {
        assert_eq!(bounded("no"), "no");
        let long = format!("{}äb", "a".repeat(MAX_REASON_BYTES - 1));
        assert_eq!(bounded(&long), "a".repeat(MAX_REASON_BYTES - 1));
        assert_eq!(bounded(&"ab".repeat(MAX_REASON_BYTES)).len(), MAX_REASON_BYTES);
    }
}
