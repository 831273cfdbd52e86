//! The promises of streambox, each on real parts: a DynamoDB engine, RabbitMQ, the programs as processes.
//!
//! A file is a situation; a test that carries a guarantee bears its number (`g3_…`: README, "Guarantees").

mod aggregate;
mod append;
mod broker_faults;
mod broker_restart;
mod cache;
mod cli;
mod compression;
mod consumer;
mod cost;
mod dynamodb_faults;
mod emf;
mod examples;
mod execute;
mod halt;
mod health;
mod limits;
mod load;
mod message;
mod model;
mod observe;
mod private;
mod programs;
mod read;
mod readme;
mod refusals;
mod relay_crash;
mod relay_group;
mod replay;
mod scan;
mod setup;
mod simulator;
mod skip;
mod snapshot;
mod status;
mod status_page;
mod telemetry;
mod testing;
mod tls;
mod trace;
mod traces;
mod transaction;
mod tune;
mod worker_rows;
mod writers;
