//! The requests to DynamoDB, one function for each task of the core.

use streambox::{
    Error,
    outbox::{Outbox, PendingKey, ScanCursor, ScanPage, WorkerId, WorkerRow},
};

use crate::{
    chain::Chain,
    core::{Answer, Done, IndexPage, Read, WorkerBeat},
    telemetry::Request,
};

/// Index keys that one scan asks for: about 100 KB, 13 read units.
pub const SCAN_LIMIT: u16 = 1_000;

/// What a request has brought.
pub(super) struct Answered {
    pub(super) done: Done,
    pub(super) failures: Vec<Failure>,
}

/// A request that has failed and will be made again.
pub(super) struct Failure {
    pub(super) request: Request,
    pub(super) text: String,
}

impl Failure {
    fn of(request: Request, error: &Error) -> Self {
        Self { request, text: Chain(error).to_string() }
    }
}

impl Answered {
    fn with(done: Done, failure: Option<Failure>) -> Self {
        Self { done, failures: failure.into_iter().collect() }
    }
}

/// Reads a page. Returns also where the scan goes on: where it was, if it failed.
pub(super) async fn scan(outbox: &Outbox, cursor: Option<ScanCursor>) -> (Answered, Option<ScanCursor>) {
    match outbox.scan(cursor.clone(), SCAN_LIMIT).await {
        Ok(ScanPage { streams, oldest_pending_since_ms, next, .. }) => {
            let page = IndexPage { streams, oldest_pending_since_ms, has_more: next.is_some() };
            (Answered::with(Done::Scanned(Some(page)), None), next)
        }
        Err(error) => (Answered::with(Done::Scanned(None), Some(Failure::of(Request::Scan, &error))), cursor),
    }
}

pub(super) async fn read(outbox: &Outbox, read: Read) -> Answered {
    let answer = match &read {
        Read::Pending { stream, from, limit } => outbox.pending(stream, *from, *limit).await.map(Answer::Pending),
        Read::Events { stream, from, last } => outbox.events(stream, *from, *last).await.map(Answer::Events),
        Read::Predecessor { stream, first } => outbox.predecessor(stream, *first).await.map(Answer::Predecessor),
    };
    match answer {
        Ok(answer) => Answered::with(Done::Read(read, answer), None),
        Err(Error::Corrupt(corrupt)) => Answered::with(Done::Read(read, Answer::Unreadable(corrupt.to_string())), None),
        Err(error) => Answered::with(Done::Read(read, Answer::Failed), Some(Failure::of(Request::Read, &error))),
    }
}

pub(super) async fn delete(outbox: &Outbox, asked: Vec<PendingKey>) -> Answered {
    match outbox.delete(&asked).await {
        Ok(left) => Answered::with(Done::Deleted { asked, left }, None),
        Err(error) => {
            let left = asked.clone();
            Answered::with(Done::Deleted { asked, left }, Some(Failure::of(Request::Delete, &error)))
        }
    }
}

/// Writes the own row, then reads those of all: also where the first failed, to know the others at least.
pub(super) async fn beat(outbox: &Outbox, row: &WorkerRow) -> Answered {
    let put = outbox.put_worker(row).await;
    let rows = outbox.workers().await;
    let mut failures: Vec<_> = put.err().iter().map(|error| Failure::of(Request::Heartbeat, error)).collect();
    let beats = match rows {
        Ok(rows) => Some(rows.into_iter().map(|row| WorkerBeat { id: row.id, beat: row.beat }).collect()),
        Err(error) => {
            failures.push(Failure::of(Request::Workers, &error));
            None
        }
    };
    Answered { done: Done::Beaten(beats), failures }
}

pub(super) async fn forget(outbox: &Outbox, id: &WorkerId) -> Answered {
    let failure = outbox.remove_worker(id).await.err().map(|error| Failure::of(Request::Heartbeat, &error));
    Answered::with(Done::Forgotten, failure)
}

pub(super) async fn leave(outbox: &Outbox, id: &WorkerId) -> Answered {
    let failure = outbox.remove_worker(id).await.err().map(|error| Failure::of(Request::Heartbeat, &error));
    Answered::with(Done::Left, failure)
}
