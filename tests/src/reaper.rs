//! Removes what tests have started, whatever becomes of the test process: after a panic, Ctrl-C, SIGKILL.
//!
//! What all tests of a process share is never dropped, and a process that is killed drops nothing at all. So a process of its own,
//! `test-reaper`, is informed of what there is. It reads from a pipe, which the system closes with the test process at the latest, and
//! then removes what is left. It is in a process group of its own, which a terminal's Ctrl-C does not reach.

use std::{
    collections::BTreeSet,
    fmt,
    io::{BufRead, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    str::FromStr,
    sync::{LazyLock, Mutex},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::built::program;

/// For so long after the test process's end it is looked for containers that its last request may still bring about.
const LATE: Duration = Duration::from_secs(5);
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Something to remove.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Charge {
    /// A container, by its name.
    Container(String),
    /// A broker of the local stack, by its state directory.
    Broker(PathBuf),
}

/// Whether something was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Done,
    /// It is not there: not yet, or not any more.
    Missing,
}

impl fmt::Display for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => write!(f, "container {name}"),
            Self::Broker(directory) => write!(f, "broker {}", directory.display()),
        }
    }
}

impl FromStr for Charge {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(' ') {
            Some(("container", name)) => Ok(Self::Container(name.to_owned())),
            Some(("broker", directory)) => Ok(Self::Broker(directory.into())),
            _ => Err(format!("{text:?} is nothing that can be removed")),
        }
    }
}

/// Has something removed at the end of this process.
///
/// # Panics
/// If the reaper can't be started, or is gone.
pub fn charge(charge: &Charge) {
    tell('+', charge);
}

/// Has it removed now.
///
/// # Panics
/// As [`charge()`].
pub fn remove(charge: &Charge) {
    tell('-', charge);
}

fn tell(sign: char, charge: &Charge) {
    static REAPER: LazyLock<Mutex<Child>> = LazyLock::new(|| {
        let mut command = Command::new(program("test-reaper"));
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null());
        Mutex::new(command.spawn().expect("the reaper starts"))
    });
    let mut reaper = REAPER.lock().expect("nobody panics while telling");
    let pipe = reaper.stdin.as_mut().expect("it reads from a pipe");
    writeln!(pipe, "{sign}{charge}").expect("the reaper lives as long as the tests");
}

/// What the reaper does: takes charge of what it reads about, and removes it on request, or at the end of the input.
///
/// # Errors
/// Those of reading. What can't be removed is reported on standard error.
pub fn run(input: impl BufRead, mut remove: impl FnMut(&Charge) -> Result<Removal, String>) -> std::io::Result<()> {
    let mut charges = BTreeSet::new();
    for line in input.lines() {
        let line = line?;
        match (line.get(..1), line.get(1..).unwrap_or_default().parse::<Charge>()) {
            (Some("+"), Ok(charge)) => _ = charges.insert(charge),
            (Some("-"), Ok(charge)) => {
                charges.remove(&charge);
                report(&charge, remove(&charge));
            }
            _ => eprintln!("test-reaper: does not understand {line:?}"),
        }
    }
    let deadline = Instant::now() + LATE;
    loop {
        charges.retain(|charge| report(charge, remove(charge)) == Some(Removal::Missing));
        if charges.is_empty() || Instant::now() > deadline {
            return Ok(());
        }
        // Of a container that is about to be there, Docker gives no sign that could be waited for without asking.
        sleep(RETRY_INTERVAL);
    }
}

fn report(charge: &Charge, removal: Result<Removal, String>) -> Option<Removal> {
    removal.map_err(|problem| eprintln!("test-reaper: the {charge} can't be removed: {problem}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_at_the_end_is_removed_also_if_it_comes_late() {
        let (mut removed, mut asked) = (vec![], 0);
        let input = "+container a\n+broker /tmp/b c\n+container late\n-container a\n";
        run(input.as_bytes(), |charge| {
            if *charge == Charge::Container("late".to_owned()) {
                asked += 1;
                if asked < 3 {
                    return Ok(Removal::Missing);
                }
            }
            removed.push(charge.to_string());
            Ok(Removal::Done)
        })
        .unwrap();
        assert_eq!(removed, ["container a", "broker /tmp/b c", "container late"]);
    }
}
