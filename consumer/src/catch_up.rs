//! Whether a consumer has handled what its queues had at a moment.
//!
//! 1. The queues have no message that no consumer has: they are asked on a connection of its own.
//! 2. What they gave to this consumer before has come: the broker answers a request on the consumer's channel behind its deliveries.
//! 3. All of that is acknowledged.
//!
//! If the connection is lost before the end, its messages are in the queues again, and it begins anew.

use tokio::sync::oneshot;

use crate::core::DeliveryId;

/// Those who wait until everything is handled that was delivered before they asked.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    last_id: u64,
    waiting: Vec<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    /// Everything up to this delivery has to be handled; not known before everything has come.
    through: Option<DeliveryId>,
    /// Whether it is handled, or was lost with its connection.
    answer: oneshot::Sender<bool>,
}

impl Waiters {
    /// Somebody waits. Returns the number under which the connection is asked whether everything has come.
    pub(crate) fn add(&mut self, answer: oneshot::Sender<bool>) -> u64 {
        self.last_id += 1;
        self.waiting.push(Waiter { id: self.last_id, through: None, answer });
        self.last_id
    }

    /// For everybody up to this number everything has come, the last of it as this delivery.
    pub(crate) fn has_come(&mut self, id: u64, last: DeliveryId) {
        for waiter in self.waiting.iter_mut().filter(|waiter| waiter.id <= id) {
            waiter.through.get_or_insert(last);
        }
    }

    /// The connection is lost.
    pub(crate) fn lost(&mut self) {
        for waiter in self.waiting.drain(..) {
            // Who has asked may be gone.
            let _ = waiter.answer.send(false);
        }
    }

    /// Answers those for whom everything is handled, if this is the first delivery that is not.
    pub(crate) fn answer(&mut self, first_open: Option<DeliveryId>) {
        let is_handled =
            |waiter: &mut Waiter| waiter.through.is_some_and(|last| first_open.is_none_or(|first| first > last));
        for waiter in self.waiting.extract_if(.., is_handled) {
            let _ = waiter.answer.send(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(waiters: &mut Waiters) -> (u64, oneshot::Receiver<bool>) {
        let (answer, answered) = oneshot::channel();
        (waiters.add(answer), answered)
    }

    #[test]
    fn everything_is_handled_when_all_has_come_and_nothing_of_it_is_open() {
        let mut waiters = Waiters::default();
        let (id, mut answered) = wait(&mut waiters);
        waiters.answer(None);
        assert!(answered.try_recv().is_err(), "there may be deliveries on the way");
        waiters.has_come(id, 7);
        waiters.answer(Some(7));
        let (later, mut another) = wait(&mut waiters);
        waiters.has_come(later, 9);
        assert!(answered.try_recv().is_err());
        waiters.answer(Some(8));
        assert_eq!(answered.try_recv(), Ok(true), "what came later does not count");
        assert!(another.try_recv().is_err());
        waiters.answer(None);
        assert_eq!(another.try_recv(), Ok(true));
    }

    #[test]
    fn a_lost_connection_is_an_answer_and_one_that_was_asked_for_before_it_is_none_for_those_who_come_later() {
        let mut waiters = Waiters::default();
        let (before, mut lost) = wait(&mut waiters);
        waiters.lost();
        assert_eq!(lost.try_recv(), Ok(false));
        let (_, mut answered) = wait(&mut waiters);
        waiters.has_come(before, 3);
        waiters.answer(None);
        assert!(answered.try_recv().is_err());
    }
}
