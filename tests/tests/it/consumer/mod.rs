//! The consumer: each event takes effect once, in order.

mod broker;
mod demo;
mod effects;
mod generations;
mod inbox;
mod queues;
mod rebuild;
mod rebuild_parked;
mod session;
mod status;
