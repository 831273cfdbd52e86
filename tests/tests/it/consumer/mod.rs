//! The consumer: each event takes effect once, in order.

mod effects;
mod inbox;
mod rebuild;
