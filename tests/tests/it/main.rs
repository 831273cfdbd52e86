//! The promises of streambox, each on real parts: a DynamoDB engine, RabbitMQ, the programs as processes.
//!
//! A file is a situation; a test that carries a guarantee bears its number (`g3_…`: README, "Guarantees").

mod aggregate;
mod append;
mod broker_restart;
mod cache;
mod cli;
mod compression;
mod cost;
mod examples;
mod execute;
mod halt;
mod limits;
mod load;
mod message;
mod model;
mod private;
mod programs;
mod read;
mod readme;
mod relay_crash;
mod relay_group;
mod scan;
mod simulator;
mod snapshot;
mod telemetry;
mod testing;
mod trace;
mod transaction;
mod tune;
mod worker_rows;
mod writers;
