//! Everything about RabbitMQ: how an event becomes a message, and how messages are published.
//!
//! - `message`: an event as a message (names and contents are those of [`streambox::message`]); `form`: other forms of it, and other
//!   places for it.
//! - `publisher`: a task that publishes batches; `alone`: tasks that publish single events, because what they were published with
//!   broke off. `submission`: what is handed to them.
//! - `session`: one connection with one channel, the batch barrier; `opening`: how the channel is opened.
//! - `failure`: the meaning of an error of publishing, as a sentence; `state`: the state of a publisher, for observers.
//!
//! The connections themselves are those of the crate `streambox-amqp`.

mod alone;
mod failure;
mod form;
mod message;
mod opening;
mod publisher;
mod session;
mod state;
mod submission;

use std::time::Duration;

pub use alone::Alone;
pub(crate) use form::replay_ended;
pub use form::{DEFAULT_CLOUDEVENTS_SOURCE, MessageForm, MessageFormat};
pub use message::{Message, Unpublishable};
pub use publisher::{Publisher, start};
pub use state::{PublisherState, UNROUTABLE_RUN, Unroutables};
pub use streambox_amqp::{
    CONNECT_TIMEOUT_MS, Link, MAX_FRAME_MAX, MAX_HEARTBEAT_SECONDS, MIN_CHANNEL_MAX, MIN_FRAME_MAX, NOT_SHOWN, Refusal,
    TlsError, TlsFiles, parse_url, refusal_at_start, without_password,
};
pub use submission::PublisherEnded;

use clap::Args;
use lapin::{protocol::AMQPError, types::ShortString, uri::AMQPUri};
use streambox_amqp::{ConnectionError, Endpoint, Purpose};

use crate::flag_values::{DURATION, duration, shown};

/// Where and how to publish.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BrokerSettings {
    /// The broker, and the files for TLS.
    pub endpoint: Endpoint,
    /// The topic exchange. It is declared, durable, if it does not exist.
    pub exchange: ShortString,
    /// What to do with a message that no queue takes.
    pub unroutable: Unroutable,
    /// The form of messages, and a queue that they may go to instead.
    pub form: MessageForm,
    /// The longest times for messages.
    pub timeouts: Timeouts,
}

impl BrokerSettings {
    /// A broker and an exchange, and the defaults of everything else.
    #[must_use]
    pub fn new(uri: AMQPUri, exchange: ShortString) -> Self {
        let (unroutable, form, timeouts) = (Unroutable::default(), MessageForm::default(), Timeouts::default());
        Self { endpoint: Endpoint::new(uri), exchange, unroutable, form, timeouts }
    }

    /// The exchange that messages go to: the default one, if they go to one queue.
    fn destination(&self) -> ShortString {
        if self.form.queue.is_some() { ShortString::default() } else { self.exchange.clone() }
    }
}

impl Purpose for BrokerSettings {
    type Counts = Unroutables;
    const OWNER: &'static str = "the relay";
    const CONNECTION_NAME: &'static str = "streambox-relay";

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn meaning(&self, error: &AMQPError) -> Option<ConnectionError> {
        failure::meaning(error, self)
    }
}

/// The longest times that a connection may take for messages; then it is cut, and the next one is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Broker")]
pub struct Timeouts {
    /// To write one message of a batch: it begins anew with each that is written. A broker that has run out of memory or disk
    /// stops reading. No time counts while it reports that it is blocked; the same holds for `confirm`.
    #[arg(skip = Timeouts::default().publish)]
    pub publish: Duration,

    /// The longest time without a confirm while some are due. Then the connection is dropped, and each event of the batch is published
    /// alone: one that is still not confirmed halts its stream. The time does not count while the broker reports that it is blocked.
    #[arg(id = "confirm_timeout", long = "confirm-timeout", env = "STREAMBOX_CONFIRM_TIMEOUT", value_name = DURATION, default_value = shown(Timeouts::default().confirm), value_parser = duration(100..=3_600_000))]
    pub confirm: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { publish: Duration::from_secs(15), confirm: Duration::from_secs(30) }
    }
}

/// What to do with a message that the exchange can't route to any queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[non_exhaustive]
pub enum Unroutable {
    /// Halt its stream until a queue is bound: nothing is lost by a missing binding.
    #[default]
    Halt,
    /// Take it as published: for pub/sub without a required consumer.
    Accept,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_never_show_the_password() {
        let settings = BrokerSettings::new(parse_url("amqp://relay:secret@h/%2f").unwrap(), "streambox".into());
        let text = format!("{settings:?} {settings:#?}");
        assert!(text.contains("relay") && !text.contains("secret"), "{text}");
    }
}
