//! Repeats a call until there is a result: find the appends' places, send the request, see whose the items are that were there.

use aws_sdk_dynamodb::types::TransactWriteItem;
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{
    Appended, Part,
    call::{Call, conflict},
    check::check,
    locate::Located,
    owner::Owner,
    send::Answer,
};
use crate::{error::Error, stream::ExpectedVersion, table::Table};

/// Stores appends and items of the caller's own, all or nothing, and returns the results of the appends.
pub(super) fn commit<'a>(
    table: &'a Table,
    append_id: Uuid,
    parts: &'a mut [Part],
    own: &'a [TransactWriteItem],
) -> BoxFuture<'a, Result<Vec<Appended>, Error>> {
    let run = async move {
        table.add_trace_context(parts.iter_mut().flat_map(|part| &mut part.events));
        check(table, append_id, parts, own)?;
        let subject = parts.iter().map(|part| part.stream.as_str()).collect::<Vec<_>>().join(", ");
        let call = Call {
            table,
            append_id,
            parts,
            own,
            deadline: Instant::now() + table.operation_timeout(),
            operation: table.operation("append", &subject),
            outcome_unknown: false,
        };
        call.run().await
    };
    // A request of the SDK is a large and deeply nested future, and callers hold theirs in their own.
    run.boxed()
}

impl Call<'_> {
    async fn run(mut self) -> Result<Vec<Appended>, Error> {
        let mut backoff = self.backoff();
        loop {
            let positions = match self.locate().await? {
                Located::At(positions) => positions,
                Located::StoredBefore(stored) => return self.stored_before(stored).await,
            };
            let existing = match self.send(&positions).await? {
                Answer::Stored(results) => return Ok(results),
                Answer::Exist(existing) => existing,
            };
            let taken = match self.owner(&positions, existing).await? {
                Owner::Ours(stored) => return self.stored_before(stored).await,
                Owner::Others(taken) => taken,
            };
            let is_final = |&part: &usize| self.parts[part].expected != ExpectedVersion::Any;
            if let Some(part) = taken.into_iter().find(is_final) {
                let append = &self.parts[part];
                let end = self.end(&append.stream).await?;
                let current = end.map_or_else(|| positions[part].clone(), |end| self.behind(&end));
                return Err(conflict(append, current));
            }
            // Nothing of ours is there, and the place is taken for ever.
            self.outcome_unknown = false;
            if timeout_at(self.deadline, backoff.wait()).await.is_err() {
                return Err(self.operation.busy());
            }
        }
    }
}
