//! Why a connection was given up, in sentences that say what to do; and what it was for, on which their meaning depends.

use std::{error::Error as _, fmt, io, time::Duration};

use lapin::{
    ErrorKind,
    protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError},
};
use rustls::{AlertDescription, CertificateError};

use crate::{Endpoint, TlsError};

/// What a connection is for: where it leads to, who opens it, and what the broker's refusals mean there.
pub trait Purpose: fmt::Debug + Send + Sync + 'static {
    /// What is counted beside the state of a connection; `()` if nothing is.
    type Counts: Clone + Default + fmt::Debug + PartialEq + Send + Sync + 'static;

    /// Who opens it, in sentences: "the relay", for example.
    const OWNER: &'static str;

    /// The connection's name at the broker.
    const CONNECTION_NAME: &'static str;

    /// Where it leads to.
    fn endpoint(&self) -> &Endpoint;

    /// The meaning of an error that the broker has named, if it is one of what the connection is used for; none if it is one of any
    /// connection's.
    fn meaning(&self, error: &AMQPError) -> Option<ConnectionError>;
}

/// The broker refuses the settings until an operator changes one of them, or a permission of the broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

/// Why a connection was given up.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The broker refuses, until an operator changes something.
    #[error("{0}")]
    Refused(Refusal),
    /// The broker has closed the channel or the connection, for a reason that it named.
    #[error("{0}")]
    Named(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
    /// The operator ends connections, or the node goes down.
    #[error("{0}")]
    Forced(String),
    /// It took too long.
    #[error("{what} took longer than {limit:?}")]
    Slow {
        /// What was done.
        what: &'static str,
        /// The longest time for it.
        limit: Duration,
    },
    /// Confirms are due, and none came.
    #[error(
        "the broker has confirmed nothing for {limit:?}: a queue that messages go to does not answer (a quorum queue \
         without a majority of its nodes, or one that is overloaded)"
    )]
    Unconfirmed {
        /// The longest time without one.
        limit: Duration,
    },
    /// The connection ended without a reason.
    #[error("the broker has closed the connection")]
    Closed,
    /// The channel or the connection was closed before. lapin reports the reason by an event of its own, at about the same time.
    #[error("{0}")]
    ClosedBefore(String),
    /// What was published in confirm mode got no confirm.
    #[error("the broker did not confirm in confirm mode")]
    NotConfirmed,
    /// It is time to stop, and the broker takes nothing at the moment.
    #[error("{owner} stops while the broker takes no messages")]
    Stopped {
        /// Who stops.
        owner: &'static str,
    },
}

impl ConnectionError {
    /// What the broker refuses, if it does.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal.clone()),
            _ => None,
        }
    }

    /// A refusal, as a sentence that says what to do.
    #[must_use]
    pub fn refused(why: String) -> Self {
        Self::Refused(Refusal(why))
    }

    /// Whether the connection would have ended whatever was sent on it.
    #[must_use]
    pub fn is_nobodys_fault(&self) -> bool {
        matches!(self, Self::Stopped { .. } | Self::Forced(_))
    }

    /// The meaning of an error of lapin's.
    #[must_use]
    pub fn from_lapin(error: &lapin::Error, purpose: &impl Purpose) -> Self {
        let endpoint = purpose.endpoint();
        let address = endpoint.address();
        match error.kind() {
            ErrorKind::ProtocolError(error) => purpose.meaning(error).unwrap_or_else(|| from_broker(error, endpoint)),
            ErrorKind::IOError(error) => from_io(error, endpoint),
            ErrorKind::InvalidProtocolVersion(version) => {
                Self::refused(format!("what answers at {address} speaks AMQP {version}; RabbitMQ speaks 0-9-1"))
            }
            ErrorKind::ParsingError(_) if endpoint.uri.scheme == lapin::uri::AMQPScheme::AMQP => Self::Failed(format!(
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
}

/// The broker's own words go along: they name what was refused.
fn from_broker(error: &AMQPError, endpoint: &Endpoint) -> ConnectionError {
    let (uri, address, said) = (&endpoint.uri, endpoint.address(), error.get_message().as_str());
    let user = &uri.authority.userinfo.username;
    match error.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => ConnectionError::refused(format!(
            "the broker at {address} refuses the login of user {user:?}: check user and password of --amqp-url ({said})",
        )),
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

fn from_io(error: &io::Error, endpoint: &Endpoint) -> ConnectionError {
    let address = endpoint.address();
    let inner = error.get_ref();
    if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return from_tls(tls, endpoint);
    }
    if let Some(file) = inner.and_then(|inner| inner.downcast_ref::<TlsError>()) {
        let source = file.source().map(|source| format!(": {source}")).unwrap_or_default();
        return ConnectionError::refused(format!("{file}{source}"));
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectionError::Failed(format!("nothing listens at {address}")),
        io::ErrorKind::TimedOut => {
            ConnectionError::Slow { what: "connecting (name, TCP, TLS)", limit: endpoint.time_to_connect() }
        }
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
            ConnectionError::Failed(format!("{address} has closed the connection without a word"))
        }
        _ => ConnectionError::Failed(format!("the connection to {address} has failed: {error}")),
    }
}

fn from_tls(error: &rustls::Error, endpoint: &Endpoint) -> ConnectionError {
    use rustls::Error;
    let (address, host) = (endpoint.address(), &endpoint.uri.authority.host);
    let trusted = match &endpoint.tls.authorities {
        Some(path) => format!("those in --amqp-ca-file {}", path.display()),
        None => "those of this system; name others with --amqp-ca-file".to_owned(),
    };
    let which = endpoint.tls.certificate.as_ref().map_or_else(String::new, |path| format!(" {}", path.display()));
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
