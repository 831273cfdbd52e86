//! Repeats a call until there is a result: find the appends' places, send the request, see whose the items are that were there.

use aws_sdk_dynamodb::types::TransactWriteItem;
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::timeout_at;
use uuid::Uuid;

use super::{
    Appended, Part,
    call::{Call, conflict},
    check::check,
    locate::Located,
    owner::Owner,
    send::Answer,
};
use crate::{
    error::Error,
    hook::StoredAppend,
    observe::{self, Operation},
    table::Table,
};

/// Stores appends and items of the caller's own, all or nothing, and returns the results of the appends.
pub(crate) fn commit<'a>(
    table: &'a Table,
    append_id: Uuid,
    parts: &'a mut [Part],
    own: &'a [TransactWriteItem],
) -> BoxFuture<'a, Result<Vec<Appended>, Error>> {
    let subject = subject(parts);
    let operation = if parts.len() == 1 && own.is_empty() { Operation::Append } else { Operation::Transaction };
    let watch = table.watch(operation, &subject);
    let run = async move {
        table.add_trace_context(parts.iter_mut().flat_map(|part| &mut part.events));
        check(table, append_id, parts, own)?;
        let results = Call::new(table, append_id, parts, own, &subject).run().await?;
        for (part, appended) in parts.iter().zip(&results) {
            table.stored(&StoredAppend {
                stream: &part.stream,
                first_version: appended.first_version,
                last_version: appended.position.version(),
                has_public_events: part.has_entry(),
            });
        }
        Ok(results)
    };
    watch.over(run).boxed()
}

fn subject(parts: &[Part]) -> String {
    parts.iter().map(|part| part.stream.as_str()).collect::<Vec<_>>().join(", ")
}

/// The results of a call whose items are known to be stored, wherever they stand. `found`: those that the caller knows, one for each
/// append.
pub(crate) async fn stored_before(
    table: &Table,
    append_id: Uuid,
    parts: &[Part],
    found: impl IntoIterator<Item = Option<Appended>>,
) -> Result<Vec<Appended>, Error> {
    let subject = subject(parts);
    let call = Call::new(table, append_id, parts, &[], &subject);
    let mut results = Vec::with_capacity(parts.len());
    for ((part, append), found) in parts.iter().enumerate().zip(found) {
        results.push(match found {
            Some(appended) => appended,
            None => call.repeated(call.search(part, append).await?).await?,
        });
    }
    Ok(results)
}

impl Call<'_> {
    async fn run(mut self) -> Result<Vec<Appended>, Error> {
        let mut backoff = Self::backoff();
        loop {
            let positions = match self.locate().await? {
                Located::At(positions) => positions,
                Located::StoredBefore(stored) => return self.stored_before(vec![stored]).await,
            };
            let existing = match self.send(&positions).await? {
                Answer::Stored(results) => return Ok(results),
                Answer::Exist(existing) => existing,
            };
            let taken = match self.owner(&positions, existing).await? {
                Owner::Ours(stored) => return self.stored_before(stored).await,
                Owner::Others(taken) => taken,
            };
            let is_final = |&part: &usize| !self.parts[part].expected.is_end();
            if let Some(part) = taken.iter().copied().find(is_final) {
                let append = &self.parts[part];
                let current = match self.end(&append.stream).await? {
                    Some(end) => self.behind(end).await?,
                    None => positions[part].clone(),
                };
                return Err(conflict(append, current));
            }
            if let Some(&part) = taken.first() {
                let append = &self.parts[part];
                observe::conflict(append.stream.as_str(), &append.expected, positions[part].version() + 1);
            }
            // Nothing of ours is there, and the place is taken for ever.
            self.outcome_unknown = false;
            if timeout_at(self.deadline, backoff.wait()).await.is_err() {
                return Err(self.operation.busy());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        EventStore, behavior_version,
        event::NewEvent,
        read::EventReader,
        stream::{ExpectedVersion, StreamId},
    };

    /// A future of the SDK has more than ten kilobytes, and whoever holds it as it is holds it several times.
    #[test]
    fn the_futures_that_append_and_read_are_small_since_each_call_copies_its_own() {
        let config = aws_sdk_dynamodb::Config::builder().behavior_version(behavior_version()).build();
        let table = EventStore::new(aws_sdk_dynamodb::Client::from_conf(config), "events").table;
        let stream = StreamId::new("order-1").unwrap();
        let parts = [Part::new(&stream, ExpectedVersion::Any, [NewEvent::from_json_text("A", "{}").unwrap()])];
        let call = Call::new(&table, Uuid::nil(), &parts, &[], "order-1");
        let mut reader = EventReader::beginning_with(table.clone(), stream.clone(), 1);

        let bytes = (size_of_val(&call.run()), size_of_val(&reader.fetch()));

        assert!(bytes.0 <= 4_096 && bytes.1 <= 1_024, "{bytes:?}");
    }
}
