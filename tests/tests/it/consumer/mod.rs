//! The consumer: each event takes effect once, in order.

mod inbox;
