//! Typed events, commands, snapshots and the cache.

mod cache;
mod decision;
mod events;
mod execute;
mod for_ever;
mod snapshot;
mod tune;
