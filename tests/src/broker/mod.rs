//! RabbitMQ: where it is, one of a test's own, and an inbox that receives what is published.

mod inbox;
mod own;

pub use inbox::{BoundQueue, Inbox, Message, remove};
pub use own::OwnBroker;

use crate::{containers, mode::Mode};

/// Names a broker.
pub const BROKER_VARIABLE: &str = "STREAMBOX_AMQP_URL";

/// The broker that the tests share.
///
/// # Panics
/// If none is named, or the one in a container does not start.
#[must_use]
pub fn shared_broker_url() -> String {
    match Mode::of_tests() {
        Mode::Containers => containers::rabbitmq_url().to_owned(),
        Mode::Embedded | Mode::Endpoint { .. } => named_broker_url(),
    }
}

/// The broker that is named.
///
/// # Panics
/// If none is.
#[must_use]
pub fn named_broker_url() -> String {
    std::env::var(BROKER_VARIABLE).unwrap_or_else(|_| {
        panic!(
            "{BROKER_VARIABLE} is not set, so there is no RabbitMQ to test against: run `make test`, or \
             `eval \"$(localstack/up)\"` before `cargo test --workspace --all-features`"
        )
    })
}
