//! What the programs `streambox`, `streambox-relay` and `streambox-consumer` share. An internal helper of the three: its interface changes
//! whenever they need it.
//!
//! - [`Failure`]: how a command fails, with an exit code and a sentence. [`sentence()`], [`Chain`]: errors as people read them.
//!   [`Role`]: who a program is to the table.
//! - [`stop_signal`]: Ctrl-C and SIGTERM. [`user_at_host`]: who gives an operator's word.
//! - [`print_completions`], [`write_man_pages`]: commands that each program has. [`help`]: what its help has to have.
//! - [`replace_file`], [`remove_file`]: files that keep how far a program has come.
//! - [`text`]: characters that can't be seen are escaped. [`iso_8601`], [`now_ms`]: times.
//! - [`print()`], [`print_done`], [`note`], [`Format`]: what a program prints. [`start_log`], [`LogLine`]: what it logs.

mod clock;
mod command_line;
mod failure;
mod file;
pub mod help;
mod log;
mod output;
mod role;
mod sentence;
mod stop;
pub mod text;
mod user;

pub use clock::{iso_8601, now_ms};
pub use command_line::{CompletionsOptions, ManOptions, print_completions, write_man_pages};
pub use failure::{BAD_CONFIGURATION, FAILED, Failure, SOFTWARE, USAGE};
pub use file::{remove_file, replace_file};
pub use log::{LogLine, colors, has_colors, log_filter, start_log};
pub use output::{Format, Reader, count, note, print, print_done};
pub use role::Role;
pub use sentence::{Chain, sentence};
pub use stop::stop_signal;
pub use user::user_at_host;
