//! The table's definition: creating it for development, and comparing a live one with what the library expects. In the
//! cloud, a template creates it.

mod check;
mod create;
mod events;
mod identity;
mod name;

pub(crate) use check::is_being_built;
pub use check::{TableCheck, TableDifference, TableNote, check_table};
pub use create::{CREATE_TABLE_TIMEOUT, TableCreation, create_table};
pub(crate) use identity::identity;
pub use name::table_name;
