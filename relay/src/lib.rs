//! The relay of streambox: publishes pending events to RabbitMQ, at least once and in stream order, and deletes each
//! pending entry when everything in it is confirmed.
//!
//! # Inside of a service
//!
//! The relay is a program, `streambox-relay`, and a [`Relay`] that runs in the process of a service: a member of the group as any
//! other, which is woken right after an append, so that an event is at the broker milliseconds later.
//!
//! ```no_run
//! # async fn example(client: streambox::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use streambox::EventStore;
//! use streambox_relay::Relay;
//!
//! let table = EventStore::new(client.clone(), "streambox");
//! let relay = Relay::builder(table, "amqps://user:password@broker.example:5671/%2f").spawn()?;
//! let store = EventStore::builder(client, "streambox").on_append(relay.waker()).build();
//! // The service appends through `store`. When it ends:
//! relay.stop().await?;
//! # drop(store);
//! # Ok(())
//! # }
//! ```
//!
//! Its log are events of `tracing`; [`Relay::status`] is what it knows of itself, and [`Relay::ended`] resolves if it ends by itself.
//! An append to a stream that is another worker's is published by that one, at its next look. `examples/service_with_relay.rs` is a
//! whole program.
//!
//! # How fast one stream can be
//!
//! At most one event of a stream is in flight: the next one is sent after the broker has confirmed it. So a stream's rate is one event
//! for each time that a confirm takes: about 1,000 events a second at 1 ms, 200 at 5 ms, 50 at 20 ms. Many streams share a batch, and
//! do not wait for each other. DynamoDB has a limit for a stream as well: its partition takes 1,000 write units a second, which is 200
//! events a second, each appended alone (2 units for the event, 2 for its pending entry, 1 to delete that; the index has partitions of
//! its own), and up to 500 where an append has many.
//!
//! # The program's parts
//!
//! They are public for the program and for tests, and are no interface to rely on.
//!
//! - [`core`]: what to do next, as pure decisions.
//! - [`relay`]: the shell around it, which does the I/O.
//! - `service`: the same inside of a service.
//! - [`broker`]: what an event looks like as a message, and how messages are published.
//! - [`model`]: what is known of a relay and its table, as plain data.
//! - [`telemetry`]: what a running relay reports to observers; [`view`]: the same, ready to be shown.
//! - [`metrics`]: every metric; [`emf`]: those for CloudWatch, on standard output.
//! - [`http`]: health, metrics and the status page of a running relay.
//! - [`replay`]: events of the past, published once more.
//! - [`status`]: what the table says about backlog, halted streams, workers and skips.
//! - `traces`, with the feature `opentelemetry`: the publishing of each event as a span.
//! - [`config`]: the program's settings.
//! - [`lines`]: standard output and standard error, which hold nothing up.
//! - [`text`]: how values look to people.
//!
//! # Features
//!
//! - `credentials`, on by default: profiles of people's credentials, for the program. A service that runs the relay itself can do
//!   without.
//! - `opentelemetry`: traces, exported over OTLP.

pub mod broker;
pub mod config;
pub mod core;
pub mod emf;
mod failure;
mod flag_values;
pub mod http;
pub mod lines;
pub mod metrics;
pub mod model;
pub mod relay;
pub mod replay;
mod retry;
mod service;
pub mod status;
pub mod telemetry;
pub mod text;
#[cfg(feature = "opentelemetry")]
pub mod traces;
pub mod view;

pub use broker::{MessageFormat, TlsFiles, Unroutable};
pub use config::BadConfiguration;
pub use model::HaltedStream;
pub use relay::{RelayError, RelaySettings, RunSummary, Until, run, run_observed};
pub use service::{Relay, RelayBuilder, RelayStatus};
pub use streambox_programs::Chain;
pub use telemetry::Telemetry;
