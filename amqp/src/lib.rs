//! A connection to RabbitMQ that is watched, cut and opened again, for ever: what the crates `streambox-relay` and `streambox-consumer`
//! share. An internal helper of the two: its interface changes whenever they need it.
//!
//! - [`Endpoint`]: where a connection leads to. [`Purpose`]: who opens it and what for, which errors and log lines name.
//! - [`Connector`]: opens connections for one task, again and again. [`WatchedConnection`]: one of them; whether it is alive, and whether
//!   the broker takes messages.
//! - [`ConnectionError`], [`Refusal`]: why a connection was given up, as a sentence.
//! - [`ConnectionState`], [`Status`]: what a connection is doing, for observers.
//! - [`parse_url`]: the broker's URL. [`TlsFiles`]: the files of TLS.
//!
//! # Features
//!
//! - `clap`: the flags that name the files of TLS, for programs.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod connector;
mod endpoint;
mod failure;
mod link;
mod retry;
mod state;
mod tls;
mod url;
mod watched;

pub use connector::Connector;
pub use endpoint::Endpoint;
pub use failure::{ConnectionError, Purpose, Refusal};
pub use retry::LONGEST_RECONNECT_DELAY;
pub use state::{ConnectionState, Link, Status, refusal_at_start};
pub use tls::{TlsError, TlsFiles};
pub use url::{
    CONNECT_TIMEOUT_MS, MAX_FRAME_MAX, MAX_HEARTBEAT_SECONDS, MIN_CHANNEL_MAX, MIN_FRAME_MAX, NOT_SHOWN, parse_url,
    without_password,
};
pub use watched::{CONFIRMING, WatchedConnection};
