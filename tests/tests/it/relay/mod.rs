//! The relay: order, crashes, groups, DynamoDB's faults, halted streams, replays, and consumers behind it.

mod consumer;
mod crash;
mod damaged_items;
mod dynamodb_faults;
mod group;
mod halt;
mod in_service;
mod message;
mod replay;
mod skip;
mod tracing;
mod worker_rows;
