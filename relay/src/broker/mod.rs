//! Everything about RabbitMQ: how an event becomes a message, and how messages are published.

mod message;
mod publisher;
mod session;
mod state;

pub use message::{Message, RECORDED_AT_HEADER, STREAM_ID_HEADER, Unpublishable, VERSION_HEADER};
pub use publisher::{Publisher, start};
pub use session::{BATCH_CONFIRM_TIMEOUT, BATCH_WRITE_TIMEOUT, CONNECT_TIMEOUT};

pub use state::{Link, PublisherState};

use lapin::{types::ShortString, uri::AMQPUri};

/// Where and how to publish.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// The broker: host, credentials, virtual host.
    pub uri: AMQPUri,
    /// The topic exchange. It is declared, durable, where it does not exist.
    pub exchange: ShortString,
    /// What to do with a message that no queue takes.
    pub unroutable: Unroutable,
}

/// What to do with a message that the exchange can't route to any queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Unroutable {
    /// Halt its stream until somebody listens: nothing is lost by a missing binding.
    #[default]
    Halt,
    /// Take it as published: for pub/sub where nobody need listen.
    Accept,
}
