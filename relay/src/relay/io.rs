//! The requests to DynamoDB, one function for each task of the core.

use std::sync::Arc;

use streambox::{
    Corrupt, Error,
    outbox::{Outbox, PendingKey, ScanCursor, ScanPage, WorkerId, WorkerRow},
};
use streambox_programs::{Role, sentence};

use crate::{
    core::{Answer, Done, IndexPage, Read, WorkerBeat},
    model::Request,
};

/// Index keys that one scan asks for: about 100 KB, 13 read units.
pub const SCAN_LIMIT: u16 = 1_000;

/// A request to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Scan,
    Pending,
    Events,
    VisibilityCheck,
    Delete,
    Heartbeat,
    Workers,
    RemoveWorker,
}

impl Step {
    /// The kind that it is counted as.
    pub(super) fn request(self) -> Request {
        match self {
            Self::Scan => Request::Scan,
            Self::Pending | Self::Events | Self::VisibilityCheck => Request::Read,
            Self::Delete => Request::Delete,
            Self::Heartbeat | Self::RemoveWorker => Request::Heartbeat,
            Self::Workers => Request::Workers,
        }
    }

    fn of(read: &Read) -> Self {
        match read {
            Read::Pending { .. } => Self::Pending,
            Read::Events { .. } => Self::Events,
            Read::VisibilityCheck { .. } => Self::VisibilityCheck,
        }
    }
}

/// The result of requests.
pub(super) struct Answered {
    pub(super) done: Done,
    /// The requests that were made, each with its failure if it failed.
    pub(super) steps: Vec<(Step, Option<Failure>)>,
}

/// A request that has failed and will be made again.
pub(super) struct Failure {
    pub(super) text: String,
    /// Whether an operator has to correct something first.
    pub(super) is_refusal: bool,
}

impl Failure {
    fn of(error: &Error) -> Self {
        Self { text: sentence(error, Role::Relay), is_refusal: matches!(error, Error::Configuration { .. }) }
    }
}

impl Answered {
    fn of(step: Step, done: Done) -> Self {
        Self { done, steps: vec![(step, None)] }
    }

    fn failed(step: Step, done: Done, error: &Error) -> Self {
        Self { done, steps: vec![(step, Some(Failure::of(error)))] }
    }
}

/// Reads a page. Also returns where the scan continues (where it was, if it failed), and the page's items that are not pending
/// entries.
pub(super) async fn scan(
    outbox: &Outbox,
    cursor: Option<ScanCursor>,
) -> (Answered, Option<ScanCursor>, Option<Vec<Corrupt>>) {
    match outbox.scan(cursor.clone(), SCAN_LIMIT).await {
        Ok(ScanPage { streams, strays, pending_since_ms, next, .. }) => {
            let page = IndexPage { streams, pending_since_ms, has_more: next.is_some() };
            (Answered::of(Step::Scan, Done::Scanned(Some(page))), next, Some(strays))
        }
        Err(error) => (Answered::failed(Step::Scan, Done::Scanned(None), &error), cursor, None),
    }
}

/// `stray`: an item of the stream that the index shows and no read of its pending entries does. It halts the stream after them.
pub(super) async fn read(outbox: &Outbox, read: Read, stray: Option<Corrupt>) -> Answered {
    let step = Step::of(&read);
    let answer = match &read {
        Read::Pending { stream, from, limit } => outbox.pending(stream, *from, *limit).await.map(|mut page| {
            if !page.has_more {
                page.unreadable = page.unreadable.or(stray);
            }
            Answer::Pending(page)
        }),
        Read::Events { stream, from, last, previous } => {
            let events = outbox.events(stream, *from, *last, *previous).await;
            events.map(|events| Answer::Events(events.into_iter().map(Arc::new).collect()))
        }
        Read::VisibilityCheck { stream, last } => outbox.predecessor(stream, *last).await.map(Answer::VisibilityCheck),
    };
    match answer {
        Ok(answer) => Answered::of(step, Done::Read(read, answer)),
        Err(Error::Corrupt(corrupt)) => Answered::of(step, Done::Read(read, Answer::Unreadable(corrupt.to_string()))),
        Err(error) => Answered::failed(step, Done::Read(read, Answer::Failed), &error),
    }
}

pub(super) async fn delete(outbox: &Outbox, asked: Vec<PendingKey>) -> Answered {
    match outbox.delete(&asked).await {
        Ok(left) => Answered::of(Step::Delete, Done::Deleted { asked, left }),
        Err(error) => {
            let left = asked.clone();
            Answered::failed(Step::Delete, Done::Deleted { asked, left }, &error)
        }
    }
}

/// Writes this worker's row, then reads all rows, even if the write failed.
pub(super) async fn beat(outbox: &Outbox, row: &WorkerRow) -> Answered {
    let put = outbox.put_worker(row).await.map_err(|error| Failure::of(&error));
    let rows = outbox.workers().await.map_err(|error| Failure::of(&error));
    let (beats, unread) = match rows {
        Ok(rows) => (Some(rows.into_iter().map(|row| WorkerBeat { id: row.id, beat: row.beat }).collect()), None),
        Err(failure) => (None, Some(failure)),
    };
    Answered { done: Done::Beaten(beats), steps: vec![(Step::Heartbeat, put.err()), (Step::Workers, unread)] }
}

pub(super) async fn forget(outbox: &Outbox, id: &WorkerId) -> Answered {
    remove(outbox, id, Done::Forgotten).await
}

pub(super) async fn leave(outbox: &Outbox, id: &WorkerId) -> Answered {
    remove(outbox, id, Done::Left).await
}

async fn remove(outbox: &Outbox, id: &WorkerId, done: Done) -> Answered {
    match outbox.remove_worker(id).await {
        Ok(()) => Answered::of(Step::RemoveWorker, done),
        Err(error) => Answered::failed(Step::RemoveWorker, done, &error),
    }
}
