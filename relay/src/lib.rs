//! The relay of streambox: publishes pending events to RabbitMQ, at least once and in stream order, and deletes each
//! pending entry when everything in it is confirmed.
//!
//! - [`core`]: what to do next, as pure decisions.
//! - [`relay`]: the shell around it, which does the I/O.
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
pub mod status;
pub mod telemetry;
pub mod text;
#[cfg(feature = "opentelemetry")]
pub mod traces;
pub mod view;

pub use relay::{RelayError, RelaySettings, RunSummary, Until, run, run_observed};
pub use streambox_programs::Chain;
pub use telemetry::Telemetry;
