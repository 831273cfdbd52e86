//! The program's settings: flags, each with an environment variable, checked before anything is begun.
//!
//! [`grammar`] is what can be said on the command line; [`check`] turns it into settings, or says what is wrong. [`watching`]
//! has both for what a running relay shows.

pub mod check;
pub mod grammar;
pub mod watching;

pub use check::BadConfiguration;
pub use grammar::{
    BrokerOptions, Cli, Command, Format, GroupOptions, LogFormat, LogOptions, RelayOptions, ReplayOf, ReplayOptions,
    RunOptions, SkipOptions, StatusOptions, TableOption, WorkOptions,
};
pub use watching::{Asked, EmfOptions, HealthOptions, HttpOption};

#[cfg(feature = "opentelemetry")]
pub use grammar::TraceOption;

#[cfg(test)]
mod tests;
