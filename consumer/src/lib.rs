//! Consumes the events of a [`streambox`] event store from RabbitMQ: each event takes effect once, in stream order, although a message
//! may come more than once, late, or not at all.
//!
//! The queue is a hint, the table is the truth. A message carries its stream, its version and the version of the public event before it.
//! The consumer knows the last version of each stream whose effect is stored, because effect and version are stored in one transaction
//! (a [`Projection`] does that, or an [`Inbox`] for effects in DynamoDB):
//!
//! - A version that is not above the last one is dropped.
//! - An event whose previous version is not above the last one is next, and is applied.
//! - Anything else is a gap. What is missing is read from the store; without a store, the stream waits for it.
//!
//! An event that can't be applied parks its stream and no other.

#![cfg_attr(docsrs, feature(doc_cfg))]

// Sessions, for tests; the queues are shown below.
#[doc(hidden)]
pub mod broker;
mod catch_up;
mod consumer;
#[doc(hidden)]
pub mod core;
mod failure;
mod feed;
mod handler;
mod inbox;
mod metrics;
mod misconfiguration;
mod projection;
mod rebuild;
mod retry;
mod shell;
mod status;
mod store;
mod telemetry;
mod work;

pub use broker::{QueueDifference, Queues, QueuesCheck, QueuesError};
pub use consumer::{Consumer, ConsumerBuilder, ConsumerError};
pub use handler::{Context, Handler, HandlerError};
pub use inbox::{
    ApplyError, Deleting, DueStream, Generation, Inbox, InboxProjection, Lag, MAX_CONSUMER_NAME_BYTES, MAX_OWN_ITEMS,
    MAX_REASON_BYTES, Noted, ParkedStream, ParkedStreams, RebuildProgress, Skip, SkipRequest, Skipping, StreamLag,
    WaitError, check_inbox_table, consumer_name, create_inbox_table,
};
pub use misconfiguration::BadConfiguration;
pub use projection::{Applied, Position, Projection};
pub use rebuild::{
    DEFAULT_MAX_PARKED_STREAMS, DEFAULT_REBUILD_CONCURRENCY, MAX_HELD_BYTES, MAX_HELD_EVENTS, MAX_REPORTED_PROBLEMS,
    REBUILD_APPLY_ATTEMPTS, Rebuild, RebuildError, RebuildReport, RebuildStatus, StreamProblem,
};
pub use status::{ConsumerStatus, WaitingStream};
pub use streambox_amqp::TlsFiles;

/// The code in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
