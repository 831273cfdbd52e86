//! Streams and tables that are read: in part, in whole, damaged, and at a known cost.

mod gaps;
mod partial;
mod scan;
