//! Typed events, commands, snapshots and the cache.

mod cache;
mod events;
mod execute;
mod snapshot;
mod tune;
