//! The program's settings: flags, each with an environment variable, checked before anything is begun.
//!
//! [`cli`] has the commands and their flags; [`validate`] turns them into settings, or reports what is wrong.
//! [`observability`] has both for what a running relay shows.

pub mod cli;
mod error;
pub mod observability;
pub mod validate;

pub use cli::{
    BrokerOptions, Cli, Command, CommonOptions, Format, GroupOptions, HealthOptions, LogFormat, RelayOptions, ReplayOf,
    ReplayOptions, RunOptions, SkipOptions, StatusOptions, WorkOptions,
};
pub use error::BadConfiguration;
pub use observability::{Asked, EmfOptions, HttpOption};

#[cfg(feature = "opentelemetry")]
pub use observability::TraceOption;

#[cfg(test)]
mod tests;
