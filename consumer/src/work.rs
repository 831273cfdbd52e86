//! Carries out the tasks of the core that are requests.

use std::{error::Error, sync::Arc, time::Duration};

use streambox::EventStore;

use crate::{
    Noted, Projection,
    core::{Claimed, Done, Task},
    failure::{guarded, sentence},
    store,
};

/// Most parked streams that are found at once.
const MAX_DUE: u16 = 100;

/// What requests need.
pub(crate) struct Work<P> {
    pub(crate) projection: P,
    pub(crate) store: Option<EventStore>,
    /// The longest that a projection may take for one event.
    pub(crate) apply_timeout: Duration,
}

impl<P: Projection> Work<P> {
    /// Carries out a request; none if the task is not one.
    pub(crate) async fn perform(self: Arc<Self>, task: Task) -> Option<Done> {
        let inbox = self.projection.inbox();
        Some(match (task, &self.store, inbox) {
            (Task::ReadPosition(stream), ..) => {
                let position = self.guarded(self.projection.position(&stream)).await;
                Done::ReadPosition(stream, position)
            }
            (Task::Apply(event, last_version), ..) => {
                let applied = self.guarded(self.projection.apply(&event, last_version)).await;
                Done::Applied(event, applied)
            }
            (Task::ReadStore(stream, after, last), Some(store), _) => {
                let page = store::read_page(store, &stream, after, last).await;
                Done::ReadStore(stream, page.map_err(|error| sentence(&error)))
            }
            (Task::CheckHistory(stream, position), Some(store), _) => {
                let is_the_same = store::has(store, &stream, position).await;
                Done::CheckedHistory(stream, is_the_same.map_err(|error| sentence(&error)))
            }
            (Task::Park(stream, parking), _, Some(inbox)) => {
                let retry_at = inbox.later_ms(parking.retry_in);
                tracing::warn!(%stream, reason = parking.reason, retry_in = ?parking.retry_in, "a stream can't be applied: it is parked");
                let parked = inbox.park(&stream, &parking.reason, parking.latest_version, retry_at).await;
                Done::Parked(stream, parking, parked.map_err(|error| sentence(&error)))
            }
            (Task::NoteLatest(stream, version), _, Some(inbox)) => {
                let noted = inbox.note_latest(&stream, version).await;
                let is_parked = noted.map(|noted| noted == Noted::Noted);
                Done::NotedLatest(stream, version, is_parked.map_err(|error| sentence(&error)))
            }
            (Task::Claim(stream, seen, retry_in), _, Some(inbox)) => {
                let parked = inbox.claim(&stream, seen, inbox.later_ms(retry_in)).await;
                let claimed = parked.map(|parked| {
                    parked.map(|parked| Claimed { attempts: parked.attempts, latest_version: parked.latest_version })
                });
                Done::Claimed(stream, claimed.map_err(|error| sentence(&error)))
            }
            (Task::Unpark(stream, last_version), _, Some(inbox)) => {
                let latest_version = inbox.unpark(&stream, last_version).await;
                if let Ok(None) = latest_version {
                    tracing::info!(%stream, last_version, "a stream that was parked is up to date again");
                }
                Done::Unparked(stream, latest_version.map_err(|error| sentence(&error)))
            }
            (Task::FindDue, _, Some(inbox)) => {
                let due = inbox.due(inbox.now_ms(), MAX_DUE).await;
                let due = due.map(|due| due.into_iter().map(|due| (due.stream_id, due.retry_at_ms)).collect());
                Done::FoundDue(due.map_err(|error| sentence(&error)))
            }
            (Task::Acknowledge(_) | Task::Reject(_) | Task::Reopen, ..) => return None,
            (task, ..) => unreachable!("the core has been told that this is missing: {task:?}"),
        })
    }

    /// A projection's answer, within its time.
    async fn guarded<T, E: Error>(&self, answer: impl Future<Output = Result<T, E>>) -> Result<T, String> {
        guarded(self.apply_timeout, answer).await.map_err(|failure| sentence(&failure))
    }
}
