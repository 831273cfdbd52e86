//! Everything about RabbitMQ: how an event becomes a message, and how messages are published.
//!
//! - `message`: an event as a message (names and contents are those of [`streambox::message`]); `form`: other forms of it, and other
//!   places for it.
//! - `publisher`: a task that publishes batches; `alone`: tasks that publish single events, because what they were published with
//!   broke off. `submission`: what is handed to them; `connector`: opens connections for them, again and again.
//! - `session`: one connection with one channel, the batch barrier; `opening`: how both are opened; `health`: whether they are
//!   alive.
//! - `link`, `tls`: the socket, which can be cut, and TLS.
//! - `failure`: the meaning of an error, as a sentence; `state`: the state of a publisher, for observers.
//! - `url`: the broker's URL.

mod alone;
mod connector;
mod failure;
mod form;
mod health;
mod link;
mod message;
mod opening;
mod publisher;
mod session;
mod state;
mod submission;
mod tls;
mod url;

use std::{fmt, time::Duration};

pub use alone::Alone;
pub use failure::Refusal;
pub(crate) use form::replay_ended;
pub use form::{DEFAULT_CLOUDEVENTS_SOURCE, MessageForm, MessageFormat};
pub use message::{Message, Unpublishable};
pub use publisher::{Publisher, start};
pub use state::{Link, PublisherState, UNROUTABLE_RUN, refusal_at_start};
pub use submission::PublisherEnded;
pub use tls::{TlsError, TlsFiles};
pub use url::{
    CONNECT_TIMEOUT_MS, MAX_FRAME_MAX, MAX_HEARTBEAT_SECONDS, MIN_CHANNEL_MAX, MIN_FRAME_MAX, NOT_SHOWN, parse_url,
    without_password,
};

use clap::Args;
use lapin::{types::ShortString, uri::AMQPUri};

use crate::flag_values::{DURATION, duration, shown};

/// Where and how to publish.
#[derive(Clone)]
#[non_exhaustive]
pub struct BrokerSettings {
    /// The broker: host, credentials, virtual host.
    pub uri: AMQPUri,
    /// The topic exchange. It is declared, durable, if it does not exist.
    pub exchange: ShortString,
    /// What to do with a message that no queue takes.
    pub unroutable: Unroutable,
    /// The form of messages, and a queue that they may go to instead.
    pub form: MessageForm,
    /// The files for TLS (`amqps`).
    pub tls: TlsFiles,
    /// The longest times.
    pub timeouts: Timeouts,
}

impl BrokerSettings {
    /// A broker and an exchange, and the defaults of everything else.
    #[must_use]
    pub fn new(uri: AMQPUri, exchange: ShortString) -> Self {
        let (unroutable, tls, timeouts) = (Unroutable::default(), TlsFiles::default(), Timeouts::default());
        Self { uri, exchange, unroutable, form: MessageForm::default(), tls, timeouts }
    }

    /// The exchange that messages go to: the default one, if they go to one queue.
    fn destination(&self) -> ShortString {
        if self.form.queue.is_some() { ShortString::default() } else { self.exchange.clone() }
    }

    fn address(&self) -> String {
        let (host, port) = (&self.uri.authority.host, self.uri.authority.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The URL's own parameter comes first.
    fn connect_timeout(&self) -> Duration {
        self.uri.query.connection_timeout.map_or(self.timeouts.connect, Duration::from_millis)
    }
}

impl fmt::Debug for BrokerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        f.debug_struct("BrokerSettings")
            .field("address", &self.address())
            .field("user", &self.uri.authority.userinfo.username)
            .field("vhost", &self.uri.vhost)
            .field("exchange", &self.exchange)
            .field("unroutable", &self.unroutable)
            .field("form", &self.form)
            .field("tls", &self.tls)
            .field("timeouts", &self.timeouts)
            .finish()
    }
}

/// The longest times that a connection may take for something; then it is cut, and the next one is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Broker")]
pub struct Timeouts {
    /// The longest time to connect: name, TCP, TLS and AMQP's handshake; also to open the channel, which includes confirms and the
    /// exchange.
    #[arg(id = "connect_timeout", long = "connect-timeout", env = "STREAMBOX_CONNECT_TIMEOUT", value_name = DURATION, default_value = shown(Timeouts::default().connect), value_parser = duration(CONNECT_TIMEOUT_MS))]
    pub connect: Duration,

    /// To write one message of a batch: it begins anew with each that is written. A broker that has run out of memory or disk
    /// stops reading. No time counts while it reports that it is blocked; the same holds for `confirm`.
    #[arg(skip = Timeouts::default().publish)]
    pub publish: Duration,

    /// The longest time without a confirm while some are due. Then the connection is dropped, and each event of the batch is published
    /// alone: one that is still not confirmed halts its stream. The time does not count while the broker reports that it is blocked.
    #[arg(id = "confirm_timeout", long = "confirm-timeout", env = "STREAMBOX_CONFIRM_TIMEOUT", value_name = DURATION, default_value = shown(Timeouts::default().confirm), value_parser = duration(100..=3_600_000))]
    pub confirm: Duration,

    /// To close the connection in an orderly way.
    #[arg(skip = Timeouts::default().close)]
    pub close: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            publish: Duration::from_secs(15),
            confirm: Duration::from_secs(30),
            close: Duration::from_secs(5),
        }
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
