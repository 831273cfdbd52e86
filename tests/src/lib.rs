//! What the tests, the demo and the benchmarks of streambox share: real parts to run against, and faults to put between
//! them.
//!
//! - [`mode`]: what the tests run on.
//! - [`basics`]: what every test begins with.
//! - [`built`]: the programs of this workspace.
//! - [`engine`]: a DynamoDB for each test, with a table of its own.
//! - [`served`]: the embedded engine as a process, to measure on.
//! - [`without_tokens`]: what keeps the embedded engine quick for a long time.
//! - [`containers`]: RabbitMQ and LocalStack, started by the tests themselves.
//! - [`reaper`]: removes what tests have started, whatever becomes of them.
//! - [`orders`]: an aggregate to test with.
//! - [`wire`]: what goes over the wire to DynamoDB: counted, and altered on purpose.
//! - [`metering`]: how each engine counts capacity units.
//! - [`amqp`]: a broker that misbehaves on purpose.
//! - [`broker`]: RabbitMQ: where it is, one of a test's own, and an inbox that receives what is published.
//! - [`browser`]: a headless Chromium.
//! - [`cloudformation`]: the templates of `infra`, resolved or deployed.
//! - [`yaml`]: the files of `infra` as values.
//! - [`postgres`]: a PostgreSQL server of a test's own.
//! - [`prometheus`]: a real Prometheus that scrapes a relay.
//! - [`emf`]: what CloudWatch demands of metrics in a log.
//! - [`http`]: a plain HTTP client.
//! - [`iam`]: what IAM is asked, and what a policy answers.
//! - [`inboxes`]: the inbox of a consumer, and events as it receives them.
//! - [`items`]: items as they stand in a table, put there past the library.
//! - [`copies`]: many streams with the items of one.
//! - [`memory`]: the memory of a process.
//! - [`fault`]: what can go wrong between a program and DynamoDB.
//! - [`proxy`]: the way of a process to DynamoDB, with faults on it.
//! - [`slow_link`]: a slow way to a broker; [`far_link`]: one on which answers arrive later.
//! - [`tally`]: what was received: distinct, duplicates, order.
//! - [`tls`]: certificates, and TLS before a broker.
//! - [`sim`]: the decisions of relays, simulated by seeds.
//! - [`programs`]: the programs `streambox` and `streambox-relay` as processes.

pub mod amqp;
pub mod basics;
pub mod broker;
pub mod browser;
pub mod built;
pub mod cloudformation;
pub mod containers;
pub mod copies;
#[cfg(doctest)]
mod documents;
pub mod effects;
pub mod emf;
pub mod engine;
pub mod far_link;
pub mod fault;
pub mod http;
pub mod iam;
pub mod inboxes;
pub mod items;
pub mod memory;
pub mod metering;
pub mod mode;
pub mod orders;
pub mod postgres;
pub mod programs;
pub mod prometheus;
pub mod proxy;
pub mod reaper;
pub mod served;
pub mod sim;
pub mod slow_link;
pub mod tally;
pub mod tls;
pub mod wire;
pub mod without_tokens;
pub mod yaml;

use std::time::Duration;

/// The longest that a test waits for anything. It does not measure speed: what takes this long will not happen any more.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// A name that nothing else has: for a table, an exchange, a queue.
#[must_use]
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", streambox::Uuid::new_v4().simple())
}
