//! What an append stores and refuses, alone or in a transaction, and what it costs.

mod causation;
mod compression;
mod hook;
mod limits;
mod lost_answer;
mod positions;
mod private;
pub(crate) mod transaction;
mod writers;
