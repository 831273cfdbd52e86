//! Why a connection was given up, in sentences that say what to do.

use std::{error::Error as _, io, time::Duration};

use lapin::{
    ErrorKind,
    protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError},
};
use rustls::{AlertDescription, CertificateError};

use super::BrokerSettings;

/// The broker refuses the settings until an operator changes a setting of the relay or a permission of the broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

/// Why a connection was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("{0}")]
    Refused(Refusal),
    /// The broker has closed the channel or the connection, for a reason that it named.
    #[error("{0}")]
    Named(String),
    #[error("{0}")]
    Failed(String),
    /// The operator ends connections, or the node goes down.
    #[error("{0}")]
    Forced(String),
    #[error("{what} took longer than {limit:?}")]
    Slow { what: &'static str, limit: Duration },
    #[error(
        "the broker has confirmed nothing for {limit:?}: a queue that messages go to does not answer (a quorum queue \
         without a majority of its nodes, or one that is overloaded)"
    )]
    Unconfirmed { limit: Duration },
    #[error("the broker has closed the connection")]
    Closed,
    /// The channel or the connection was closed before. lapin reports the reason by an event of its own, at about the same time.
    #[error("{0}")]
    ClosedBefore(String),
    #[error("the broker did not confirm in confirm mode")]
    NotConfirmed,
    /// The relay stops, and the broker takes nothing at the moment.
    #[error("the relay stops while the broker takes no messages")]
    Stopped,
}

impl ConnectionError {
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal.clone()),
            _ => None,
        }
    }

    /// Whether it may be the answer to one of the messages that were under way; `any_confirmed` of them were.
    ///
    /// A message that is never confirmed shows only by the time. If a connection ends without a reason, a message may have ended
    /// it only if the broker was working: if nothing was confirmed, no message is at fault.
    pub(super) fn may_be_of_a_message(&self, any_confirmed: bool) -> bool {
        match self {
            Self::Refused(_) | Self::Named(_) | Self::Unconfirmed { .. } => true,
            Self::Stopped | Self::Forced(_) => false,
            Self::Failed(_) | Self::Slow { .. } | Self::Closed | Self::ClosedBefore(_) | Self::NotConfirmed => {
                any_confirmed
            }
        }
    }

    /// Whether the connection would have ended whatever was published.
    pub(super) fn is_nobodys_fault(&self) -> bool {
        matches!(self, Self::Stopped | Self::Forced(_))
    }

    /// The meaning of an error of lapin's.
    pub(super) fn from_lapin(error: &lapin::Error, settings: &BrokerSettings) -> Self {
        let (uri, address) = (&settings.uri, settings.address());
        match error.kind() {
            ErrorKind::ProtocolError(error) => from_broker(error, settings),
            ErrorKind::IOError(error) => from_io(error, settings),
            ErrorKind::InvalidProtocolVersion(version) => {
                Self::refused(format!("what answers at {address} speaks AMQP {version}; RabbitMQ speaks 0-9-1"))
            }
            ErrorKind::ParsingError(_) if uri.scheme == lapin::uri::AMQPScheme::AMQP => Self::Failed(format!(
                "what answers at {address} does not speak AMQP; if TLS is spoken there, use amqps://"
            )),
            ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_) => {
                Self::ClosedBefore(format!("the connection to {address} has been closed ({error})"))
            }
            ErrorKind::MissingHeartbeatError => Self::Failed(format!("{address} has sent nothing for two heartbeats")),
            // A password could stand in none of them, see the tests.
            _ => Self::Failed(error.to_string()),
        }
    }

    fn refused(why: String) -> Self {
        Self::Refused(Refusal(why))
    }
}

/// The broker's own words go along: they name what was refused.
fn from_broker(error: &AMQPError, settings: &BrokerSettings) -> ConnectionError {
    let (uri, address, said) = (&settings.uri, settings.address(), error.get_message().as_str());
    let (user, exchange) = (&uri.authority.userinfo.username, settings.exchange.as_str());
    match error.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) if said.contains("access to topic") => {
            ConnectionError::refused(format!(
                "user {user:?} may not publish with this routing key: its topic permissions of exchange {exchange:?} in \
                 vhost {:?} do not cover it ({said})",
                uri.vhost,
            ))
        }
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) if said.contains("exchange") => {
            ConnectionError::refused(format!(
                "user {user:?} may not use exchange {exchange:?} of vhost {:?}: it needs the permission to write to it, and to \
             configure it where it does not exist yet ({said})",
                uri.vhost,
            ))
        }
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => ConnectionError::refused(format!(
            "the broker at {address} refuses the login of user {user:?}: check user and password of --amqp-url ({said})",
        )),
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) if said.contains("inequivalent arg") => {
            ConnectionError::refused(inequivalent(exchange, said))
        }
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) if settings.form.queue.is_some() => {
            let queue = settings.form.queue.as_ref().map_or("", |queue| queue.as_str());
            ConnectionError::refused(format!(
                "there is no queue {queue:?} in vhost {:?}: declare it first ({said})",
                uri.vhost
            ))
        }
        // Beside an unknown vhost and a missing permission, a limit of connections: that one may pass.
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) if !said.contains("limit") => ConnectionError::refused(format!(
            "user {user:?} can't use vhost {:?} at {address}: check that it exists (`amqp://host` without a path, or with /%2f, \
             is the default one) and that the user has permissions in it ({said})",
            uri.vhost,
        )),
        AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED) => {
            ConnectionError::Forced(format!("the broker at {address} says: {said}"))
        }
        _ => ConnectionError::Named(format!("the broker at {address} says: {said}")),
    }
}

/// How the exchange differs from the one that is needed. RabbitMQ compares type, durability, auto-deletion and internal use
/// in this order, then the arguments, and names the first difference.
fn inequivalent(exchange: &str, said: &str) -> String {
    let is = |argument: &str| said.contains(&format!("inequivalent arg '{argument}'"));
    let what = if is("type") {
        "has another type than topic, so that it would route otherwise than bindings by category and event type expect"
    } else if is("durable") {
        "is not durable, so that it and its bindings would be gone when the broker restarts"
    } else if is("auto_delete") {
        "is deleted with its last binding"
    } else if is("internal") {
        "is internal: the broker lets no client publish to it"
    } else {
        "differs from a durable topic exchange"
    };
    format!("exchange {exchange:?} {what}: name another exchange with --exchange ({said})")
}

fn from_io(error: &io::Error, settings: &BrokerSettings) -> ConnectionError {
    let address = settings.address();
    let inner = error.get_ref();
    if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return from_tls(tls, settings);
    }
    if let Some(file) = inner.and_then(|inner| inner.downcast_ref::<super::TlsError>()) {
        let source = file.source().map(|source| format!(": {source}")).unwrap_or_default();
        return ConnectionError::refused(format!("{file}{source}"));
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectionError::Failed(format!("nothing listens at {address}")),
        io::ErrorKind::TimedOut => {
            ConnectionError::Slow { what: "connecting (name, TCP, TLS)", limit: settings.connect_timeout() }
        }
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
            ConnectionError::Failed(format!("{address} has closed the connection without a word"))
        }
        _ => ConnectionError::Failed(format!("the connection to {address} has failed: {error}")),
    }
}

fn from_tls(error: &rustls::Error, settings: &BrokerSettings) -> ConnectionError {
    use rustls::Error;
    let (address, host) = (settings.address(), &settings.uri.authority.host);
    let trusted = match &settings.tls.authorities {
        Some(path) => format!("those in --amqp-ca-file {}", path.display()),
        None => "those of this system; name others with --amqp-ca-file".to_owned(),
    };
    let which = settings.tls.certificate.as_ref().map_or_else(String::new, |path| format!(" {}", path.display()));
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => ConnectionError::refused(format!(
            "the certificate of {address} comes from an authority that is not trusted; trusted are {trusted}"
        )),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            ConnectionError::refused(format!("the certificate of {address} has expired: renew it there ({error})"))
        }
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            ConnectionError::refused(format!(
                "the certificate of {address} is not valid yet: check the clocks ({error})"
            ))
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => ConnectionError::refused(format!(
            "the certificate of {address} is not for the name {host:?}: use a name that stands in it ({error})"
        )),
        Error::InvalidCertificate(_) => {
            ConnectionError::refused(format!("the certificate of {address} is not accepted: {error}"))
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => ConnectionError::refused(format!(
            "{address} asks for a client certificate: name it with --amqp-cert-file and --amqp-key-file"
        )),
        Error::AlertReceived(AlertDescription::CertificateExpired) => ConnectionError::refused(format!(
            "the client certificate{which} has expired: renew it ({address} says: {error})"
        )),
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => ConnectionError::refused(format!("{address} does not accept the client certificate{which}: {error}")),
        Error::InvalidMessage(_) => ConnectionError::refused(format!(
            "what answers at {address} does not speak TLS: use its TLS port, or amqp://"
        )),
        _ => ConnectionError::Failed(format!("TLS with {address} has failed: {error}")),
    }
}
