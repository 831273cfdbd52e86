//! Everything about RabbitMQ: the queues of a consumer, and one connection that consumes them.

mod queues;
mod refusal;
mod session;

pub use queues::{QueueDifference, Queues, QueuesCheck, QueuesError};
pub use session::{ConsumeSettings, Delivery, Session};
