//! What it means that the broker refuses queues, and what to do.

use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPSoftError};
use streambox_amqp::{ConnectionError, Endpoint};

/// Whether the broker does not know a type of exchanges. By the words: RabbitMQ 3.10 refuses it as an invalid command, 4.3 as a failed
/// precondition, which mostly is something else.
pub(super) fn lacks_exchange_type(error: &AMQPError) -> bool {
    error.get_message().as_str().contains("exchange type")
}

/// The meaning of an error that is about queues.
pub(super) fn meaning(error: &AMQPError, endpoint: &Endpoint, name: &str) -> Option<ConnectionError> {
    let (uri, said) = (&endpoint.uri, error.get_message().as_str());
    let user = &uri.authority.userinfo.username;
    let why = match error.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => format!(
            "a queue of consumer {name:?} does not exist in vhost {:?}: declare it first, by `streambox-consumer queues declare` or by \
             `ConsumerBuilder::declare_queues` ({said})",
            uri.vhost,
        ),
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) if said.contains("queue") || said.contains("exchange") => {
            format!(
                "user {user:?} may not use what consumer {name:?} needs in vhost {:?}: to consume it needs the permission to read the queue, to \
             declare it also those to configure and to write ({said})",
                uri.vhost,
            )
        }
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) if said.contains("inequivalent arg") => format!(
            "what consumer {name:?} needs is there with other properties: delete it when it is empty, or choose another name ({said})"
        ),
        _ if lacks_exchange_type(error) => format!(
            "the broker has no exchanges of the type x-consistent-hash, which partitions need: run \
             `rabbitmq-plugins enable rabbitmq_consistent_hash_exchange` ({said})"
        ),
        _ => return None,
    };
    Some(ConnectionError::refused(why))
}
