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
//! # Stability
//!
//! The interface is what this page shows. The crate has more modules, which are public for the program and for tests, and change without
//! notice; so do clap's traits, which the program needs of [`MessageFormat`], [`TlsFiles`] and [`Unroutable`].
//!
//! # Features
//!
//! - `credentials`, on by default: profiles of people's credentials, for the program. A service that runs the relay itself can do
//!   without.
//! - `opentelemetry`: traces, exported over OTLP.

#![cfg_attr(docsrs, feature(doc_cfg))]

// The program's parts; ARCHITECTURE.md says what each is.
#[doc(hidden)]
pub mod broker;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod core;
#[doc(hidden)]
pub mod emf;
mod failure;
mod flag_values;
#[doc(hidden)]
pub mod http;
#[doc(hidden)]
pub mod lines;
#[doc(hidden)]
pub mod metrics;
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod relay;
#[doc(hidden)]
pub mod replay;
mod service;
#[doc(hidden)]
pub mod status;
#[doc(hidden)]
pub mod telemetry;
#[doc(hidden)]
pub mod text;
#[cfg(feature = "opentelemetry")]
#[doc(hidden)]
pub mod traces;
#[doc(hidden)]
pub mod view;

pub use broker::{MessageFormat, Refusal, TlsFiles, Unroutable};
pub use config::BadConfiguration;
pub use model::HaltedStream;
pub use relay::{RelayError, RunSummary};
#[doc(hidden)]
pub use relay::{RelaySettings, Until, run, run_observed};
pub use service::{Relay, RelayBuilder, RelayStatus};
#[doc(hidden)]
pub use streambox_programs::Chain;
#[doc(hidden)]
pub use telemetry::Telemetry;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
