//! Everything about RabbitMQ: the queues of a consumer, and one connection that consumes them.

mod queues;
mod session;

pub use queues::{Queues, QueuesError};
pub(crate) use session::{ConsumeSettings, Session};
