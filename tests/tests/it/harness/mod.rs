//! What the harness itself promises, random and simulated runs, and that the documents are true.

mod api;
mod documents;
mod examples;
mod imports;
mod model;
mod own_broker;
mod packaging;
mod readme;
mod send;
mod served;
mod simulated_consumer;
mod simulator;
mod testing;
