//! Everything about RabbitMQ: how an event becomes a message, and how messages are published.

mod cloudevents;
mod form;
mod message;
mod publisher;
mod session;
mod state;

pub use cloudevents::{CLOUDEVENTS_CONTENT_TYPE, MAX_CLOUDEVENTS_VERSION};
pub use form::{DEFAULT_CLOUDEVENTS_SOURCE, MessageForm, MessageFormat, REPLAY_HEADER};
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
    /// What form messages have, and where else they go.
    pub form: MessageForm,
}

impl BrokerSettings {
    /// The exchange that messages go to: the default one, where they go to one queue.
    fn destination(&self) -> ShortString {
        if self.form.queue.is_some() { ShortString::default() } else { self.exchange.clone() }
    }
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
