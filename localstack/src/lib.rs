//! The local stack: a RabbitMQ and a DynamoDB for developers, the demo and the tests, with or without Docker.
//!
//! A state directory is a stack of its own; any number of them can run at once. The programs of this package start, find and end the
//! services of one. Nothing is kept in memory: the state directory holds the kind and the port of each service, and a process
//! belongs to a service by a mark in its environment. `README.md` describes the commands.

mod commands;
pub mod docker;
mod dynamodb;
mod fetch;
pub mod ports;
pub mod probe;
pub mod rabbitmq;
mod run;
pub mod service;
mod system;
mod test_mode;
mod up;

pub use commands::main;

use std::{
    env,
    fmt::Display,
    path::Path,
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// The result of a step, or a sentence that says what is wrong and what to do.
pub type Outcome<T> = Result<T, String>;

/// The directory of this package: the compose file, the hooks, the scripts.
pub const HERE: &str = env!("CARGO_MANIFEST_DIR");

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Prints a message for a person.
pub(crate) fn say(message: impl Display) {
    eprintln!("localstack: {message}");
}

/// The value of a variable, or nothing if it is empty.
pub(crate) fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// Repeats `condition` until it holds; `false` if it does not in time.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        sleep(POLL_INTERVAL);
    }
    true
}

/// Runs a command that is killed when its time is over. Its output, if it is piped, has to fit into a pipe.
///
/// # Errors
/// If it can't be started.
pub(crate) fn bounded(command: &mut Command, limit: Duration) -> Outcome<Output> {
    let spawned = command.stdin(Stdio::null()).spawn();
    let mut child = spawned.map_err(|error| format!("{} cannot be run: {error}.", command.get_program().display()))?;
    if !wait_until(limit, || !matches!(child.try_wait(), Ok(None))) {
        let _ = child.kill();
    }
    child.wait_with_output().map_err(|error| format!("a command that was started cannot be waited for: {error}."))
}

/// As [`bounded`], of a command whose output is for people.
pub(crate) fn succeeds(command: &mut Command, limit: Duration) -> bool {
    bounded(command.stdout(std::io::stderr()), limit).is_ok_and(|output| output.status.success())
}

/// As [`bounded`], of a command that prints something: that, if it succeeds.
pub(crate) fn printed(command: &mut Command, limit: Duration) -> Option<String> {
    let output = bounded(command.stdout(Stdio::piped()), limit).ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Where a program is, of those in `PATH`.
pub(crate) fn find_program(name: &str) -> Option<std::path::PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| is_program(path))
}

pub(crate) fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
