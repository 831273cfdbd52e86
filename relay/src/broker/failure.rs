//! What the broker's refusals mean to who publishes, in sentences that say what to do.

use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPSoftError};
use streambox_amqp::ConnectionError;

use super::BrokerSettings;

/// Whether an error may be the answer to one of the messages that were under way; `any_confirmed` of them were.
///
/// A message that is never confirmed shows only by the time. If a connection ends without a reason, a message may have ended
/// it only if the broker was working: if nothing was confirmed, no message is at fault.
pub(super) fn may_be_of_a_message(error: &ConnectionError, any_confirmed: bool) -> bool {
    match error {
        ConnectionError::Refused(_) | ConnectionError::Named(_) | ConnectionError::Unconfirmed { .. } => true,
        ConnectionError::Stopped { .. } | ConnectionError::Forced(_) => false,
        ConnectionError::Failed(_)
        | ConnectionError::Slow { .. }
        | ConnectionError::Closed
        | ConnectionError::ClosedBefore(_)
        | ConnectionError::NotConfirmed => any_confirmed,
    }
}

/// The meaning of an error that is about publishing. The broker's own words go along: they name what was refused.
pub(super) fn meaning(error: &AMQPError, settings: &BrokerSettings) -> Option<ConnectionError> {
    let (uri, said) = (&settings.endpoint.uri, error.get_message().as_str());
    let (user, exchange) = (&uri.authority.userinfo.username, settings.exchange.as_str());
    let AMQPErrorKind::Soft(kind) = error.kind() else { return None };
    let why = match kind {
        AMQPSoftError::ACCESSREFUSED if said.contains("access to topic") => format!(
            "user {user:?} may not publish with this routing key: its topic permissions of exchange {exchange:?} in \
             vhost {:?} do not cover it ({said})",
            uri.vhost,
        ),
        AMQPSoftError::ACCESSREFUSED if said.contains("exchange") => format!(
            "user {user:?} may not use exchange {exchange:?} of vhost {:?}: it needs the permission to write to it, and to \
             configure it where it does not exist yet ({said})",
            uri.vhost,
        ),
        AMQPSoftError::PRECONDITIONFAILED if said.contains("inequivalent arg") => inequivalent(exchange, said),
        AMQPSoftError::NOTFOUND if settings.form.queue.is_some() => {
            let queue = settings.form.queue.as_ref().map_or("", |queue| queue.as_str());
            format!("there is no queue {queue:?} in vhost {:?}: declare it first ({said})", uri.vhost)
        }
        _ => return None,
    };
    Some(ConnectionError::refused(why))
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
