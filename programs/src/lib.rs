//! What the programs `streambox` and `streambox-relay` share. An internal helper of the two: its interface changes whenever they
//! need it.
//!
//! - [`Failure`]: how a command fails, with an exit code and a sentence. [`sentence()`], [`Chain`]: errors as people read them.
//!   [`Role`]: who a program is to the table.
//! - [`stop_signal`]: Ctrl-C and SIGTERM.
//! - [`replace_file`], [`remove_file`]: files that keep how far a program has come.
//! - [`text`]: characters that can't be seen are escaped. [`iso_8601`], [`now_ms`]: times. [`LogLine`]: lines of a log.

mod clock;
mod failure;
mod file;
mod log;
mod role;
mod sentence;
mod stop;
pub mod text;

pub use clock::{iso_8601, now_ms};
pub use failure::{BAD_CONFIGURATION, FAILED, Failure, SOFTWARE, USAGE};
pub use file::{remove_file, replace_file};
pub use log::{LogLine, colors};
pub use role::Role;
pub use sentence::{Chain, sentence};
pub use stop::stop_signal;
