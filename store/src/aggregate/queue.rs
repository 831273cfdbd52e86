//! Commands of one process on one stream take their turns, instead of racing each other through DynamoDB.
//!
//! A turn covers a command from load to append. Who comes first is served first. Nothing depends on it: another process, or
//! another repository, races as before, and the version decides.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    time::timeout,
};

use crate::stream::StreamId;

/// Most commands that wait for their turn on one stream. Beyond that a command is refused at once, so that a stream that is
/// too slow for its load can't fill the memory.
pub const MAX_QUEUED_COMMANDS: usize = 1_000;

/// The streams on which commands are carried out.
#[derive(Debug, Default)]
pub(super) struct Queues(Mutex<HashMap<StreamId, Queue>>);

#[derive(Debug, Default)]
struct Queue {
    lock: Arc<AsyncMutex<()>>,
    /// Commands that wait or have their turn.
    commands: usize,
}

/// The turn of one command. The next one begins when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _guard: OwnedMutexGuard<()>,
    _place: Place<'a>,
}

/// A place in a queue. The stream is forgotten with the last one.
#[derive(Debug)]
struct Place<'a> {
    queues: &'a Queues,
    stream: &'a StreamId,
}

impl Queues {
    /// Waits for the turn. None if too many wait already, or if it does not come within `limit`.
    pub(super) async fn turn<'a>(&'a self, stream: &'a StreamId, limit: Duration) -> Option<Turn<'a>> {
        let (place, lock) = self.enter(stream)?;
        let guard = timeout(limit, lock.lock_owned()).await.ok()?;
        Some(Turn { _guard: guard, _place: place })
    }

    fn enter<'a>(&'a self, stream: &'a StreamId) -> Option<(Place<'a>, Arc<AsyncMutex<()>>)> {
        let mut queues = self.queues();
        let queue = queues.entry(stream.clone()).or_default();
        // One has its turn.
        if queue.commands > MAX_QUEUED_COMMANDS {
            return None;
        }
        queue.commands += 1;
        Some((Place { queues: self, stream }, Arc::clone(&queue.lock)))
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<StreamId, Queue>> {
        // Nothing that can panic is done while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queues = self.queues.queues();
        if let Some(queue) = queues.get_mut(self.stream) {
            queue.commands -= 1;
            if queue.commands == 0 {
                queues.remove(self.stream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Poll};

    use super::*;

    const LIMIT: Duration = Duration::from_hours(1);

    fn polled<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }

    fn streams(queues: &Queues) -> usize {
        queues.0.lock().unwrap().len()
    }

    #[tokio::test]
    async fn turns_come_in_the_order_of_asking_and_a_stream_without_commands_is_forgotten() {
        let (queues, stream, other) =
            (Queues::default(), StreamId::new("order-1").unwrap(), StreamId::new("order-2").unwrap());
        let first = queues.turn(&stream, LIMIT).await.unwrap();
        let (mut second, mut third) = (pin!(queues.turn(&stream, LIMIT)), pin!(queues.turn(&stream, LIMIT)));
        assert!(polled(second.as_mut()).is_pending() && polled(third.as_mut()).is_pending());
        drop(queues.turn(&other, LIMIT).await.unwrap());
        assert_eq!(streams(&queues), 1, "the other stream's commands are done");
        drop(first);
        assert!(polled(third.as_mut()).is_pending());
        let Poll::Ready(Some(second)) = polled(second.as_mut()) else { panic!("it is its turn") };
        drop(second);
        let Poll::Ready(Some(third)) = polled(third.as_mut()) else { panic!("it is its turn") };
        drop(third);
        assert_eq!(streams(&queues), 0);
    }

    #[tokio::test]
    async fn a_command_that_is_given_up_while_it_waits_leaves_nothing_behind() {
        let (queues, stream) = (Queues::default(), StreamId::new("order-1").unwrap());
        let first = queues.turn(&stream, LIMIT).await.unwrap();
        let mut second = Box::pin(queues.turn(&stream, LIMIT));
        assert!(polled(second.as_mut()).is_pending());
        drop(first);
        assert_eq!(streams(&queues), 1);
        drop(second);
        assert_eq!(streams(&queues), 0);
    }

    #[tokio::test]
    async fn a_turn_that_does_not_come_and_one_too_many_are_refused() {
        let (queues, stream) = (Queues::default(), StreamId::new("order-1").unwrap());
        let _first = queues.turn(&stream, LIMIT).await.unwrap();
        assert!(queues.turn(&stream, Duration::ZERO).await.is_none());
        let mut waiting: Vec<_> = (0..MAX_QUEUED_COMMANDS).map(|_| Box::pin(queues.turn(&stream, LIMIT))).collect();
        assert!(waiting.iter_mut().all(|turn| polled(turn.as_mut()).is_pending()));
        let mut one_more = pin!(queues.turn(&stream, LIMIT));
        assert!(matches!(polled(one_more.as_mut()), Poll::Ready(None)));
        waiting.pop();
        assert!(polled(pin!(queues.turn(&stream, LIMIT)).as_mut()).is_pending());
    }
}
