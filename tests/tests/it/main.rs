//! The promises of streambox, each on real parts: a DynamoDB engine, RabbitMQ, the programs as processes.
//!
//! A folder is an area, a file in it a situation; a test that carries a promise bears its number: `g3_…` (`docs/guarantees.md`),
//! `u2_…` (UPGRADES.md). `tests/PROMISES.md` lists them.

mod aggregate;
mod append;
mod broker;
mod consumer;
mod harness;
mod infra;
mod operations;
mod read;
mod relay;
mod upgrade;
