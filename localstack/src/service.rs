//! A service of a state directory: its records, its lock, its processes.

use std::{
    env,
    fs::{self, File, TryLockError},
    io::{BufRead as _, BufReader},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use crate::{HERE, Outcome, POLL_INTERVAL, ports, say, variable, wait_until};

/// Names the state directory.
pub(crate) const STATE_VARIABLE: &str = "STREAMBOX_STATE_DIR";

/// In the environment of each process of a service, and so of the processes that it starts (RabbitMQ starts epmd). Unlike the id of
/// a process in a file, it never comes to mean somebody else's process.
const MARK: &str = "STREAMBOX_SERVICE";

/// A lock is held for as long as another command builds or installs.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_mins(30);
const KILL_TIMEOUT: Duration = Duration::from_secs(15);
const LOG_LINES: usize = 15;

/// More open files than this make the Erlang VM reserve gigabytes for its tables. Descriptors that the caller has left open are
/// closed, since a reader of them would wait for the service's end.
const CLEAN_START: &str = r#"
limit=$(ulimit -n)
if [ "$limit" = unlimited ] || [ "$limit" -gt 65536 ]; then ulimit -n 65536; fi
exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
exec "$@""#;

/// The state directory that the environment names.
pub(crate) fn state_directory() -> Outcome<PathBuf> {
    let named = env::var_os(STATE_VARIABLE).filter(|value| !value.is_empty());
    let directory = named.map_or_else(|| Path::new(HERE).join(".state"), PathBuf::from);
    std::path::absolute(&directory).map_err(|error| format!("{} has no absolute path: {error}.", directory.display()))
}

/// A service of a state directory.
#[derive(Clone, Debug)]
pub struct Service {
    /// `rabbitmq`, `dynamodb` or `system`.
    pub name: &'static str,
    /// The state directory, of all services of the stack.
    pub state: PathBuf,
}

/// A process of a service.
#[derive(Debug)]
pub struct Member {
    /// Its id.
    pub pid: Pid,
    /// The program's name, as the system has it.
    pub name: String,
}

impl Member {
    pub(crate) fn signal(&self, signal: Signal) {
        // It may have ended.
        let _ = kill(self.pid, signal);
    }
}

impl Service {
    /// Its directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.state.join(self.name)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// What is recorded under a name; empty if nothing is.
    pub(crate) fn recorded(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default().trim_end().to_owned()
    }

    pub(crate) fn record(&self, name: &str, value: &str) -> Outcome<()> {
        write(&self.file(name), &format!("{value}\n"))
    }

    /// The recorded port, or 0.
    pub(crate) fn port(&self) -> u16 {
        self.recorded("port").parse().unwrap_or_default()
    }

    /// Records the port that the user wants, or a free one.
    pub(crate) fn record_port(&self, name: &str) -> Outcome<()> {
        let wanted = variable(name);
        let port = if wanted.is_empty() {
            ports::free_port()?
        } else {
            let port = wanted.parse().ok().filter(|port| *port > 0 && !wanted.starts_with(['0', '+']));
            let port = port.ok_or(format!("{name} is '{wanted}'; it has to be a port, or empty for a free one."))?;
            self.require_free(port, &format!("{name} names another one, or a free one if it is empty"))?;
            port
        };
        self.record("port", &port.to_string())
    }

    pub(crate) fn require_free(&self, port: u16, what_helps: &str) -> Outcome<()> {
        let name = self.name;
        let taken = format!("port {port}, where {name} is to listen, is taken by another program: {what_helps}.");
        ports::is_free(port).then_some(()).ok_or(taken)
    }

    /// One command at a time works on a service. The lock is on the directory, so nothing is left behind; a command that waited while
    /// another one removed the directory sees that the path is another directory now.
    pub(crate) fn lock(&self) -> Outcome<File> {
        let directory = self.directory();
        loop {
            fs::create_dir_all(&directory).map_err(|error| {
                format!("cannot create {} ({error}); {STATE_VARIABLE} can name another directory.", directory.display())
            })?;
            let Ok(file) = File::open(&directory) else { continue };
            lock(&file, &directory)?;
            let is_same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
            if file.metadata().is_ok_and(|locked| fs::metadata(&directory).is_ok_and(|there| is_same(locked, there))) {
                return Ok(file);
            }
        }
    }

    /// Removes its directory, and the state directory if no other service is in it.
    pub(crate) fn remove_state(&self) {
        let _ = fs::remove_dir_all(self.directory());
        let _ = fs::remove_dir(&self.state);
    }

    /// Its processes.
    pub(crate) fn members(&self) -> Vec<Member> {
        members_marked(|mark| mark == self.directory().as_os_str().as_encoded_bytes())
    }

    /// Asked twice: for a moment, a process that starts another program has no environment to show.
    pub(crate) fn is_without(&self, is_meant: impl Fn(&Member) -> bool) -> bool {
        let is_there = || self.members().iter().any(&is_meant);
        !is_there() && {
            sleep(POLL_INTERVAL);
            !is_there()
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.is_without(|_| true)
    }

    /// Whether one of its processes listens on the port: somebody else's program may have been faster, and would answer as well.
    pub(crate) fn listens(&self, port: u16) -> bool {
        let listening = listeners::get_process_by_port(port, listeners::Protocol::TCP);
        let is_it = |pid: u32| self.members().iter().any(|member| u32::try_from(member.pid.as_raw()) == Ok(pid));
        listening.is_ok_and(|process| is_it(process.pid))
    }

    /// Starts a process, out of reach of the terminal's Ctrl-C. It bears the mark when this returns. What it prints comes into the
    /// files: errors into `log`, the rest into `output`.
    pub(crate) fn start(&self, command: &Command, log: &str, output: &str) -> Outcome<()> {
        use std::os::unix::process::CommandExt as _;
        let open = |name| {
            let opened = File::options().create(true).append(true).open(self.file(name));
            opened.map_err(|error| format!("{} cannot be written: {error}.", self.file(name).display()))
        };
        let program = command.get_program();
        let mut clean = Command::new("/bin/sh");
        clean.args(["-c", CLEAN_START, "sh"]).arg(program).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => clean.env(name, value),
                None => clean.env_remove(name),
            };
        }
        clean
            .env(MARK, self.directory())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(open(output)?)
            .stderr(open(log)?);
        let mut child = clean.spawn().map_err(|error| format!("{} cannot be started: {error}.", program.display()))?;
        // Where the caller lives on, its end is waited for.
        thread::spawn(move || child.wait());
        Ok(())
    }

    /// Kills its processes. Repeated, since a process may have started another one meanwhile.
    pub(crate) fn end(&self) -> Outcome<()> {
        let is_done = wait_until(KILL_TIMEOUT, || {
            self.members().iter().for_each(|member| member.signal(Signal::SIGKILL));
            self.has_ended()
        });
        is_done.then_some(()).ok_or_else(|| {
            let pids: Vec<_> = self.members().iter().map(|member| member.pid.to_string()).collect();
            format!("processes {} do not end.", pids.join(" "))
        })
    }

    /// Shows the end of a file.
    pub(crate) fn show_log(&self, name: &str) {
        let Ok(file) = File::open(self.file(name)) else { return };
        let lines: Vec<_> = BufReader::new(file).lines().map_while(Result::ok).collect();
        if !lines.is_empty() {
            say(format!("the end of {}:", self.file(name).display()));
            lines[lines.len().saturating_sub(LOG_LINES)..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The processes whose mark, the directory of a service, is meant.
#[must_use]
pub fn members_marked(is_meant: impl Fn(&[u8]) -> bool) -> Vec<Member> {
    let mut system = System::new();
    let with_environment = ProcessRefreshKind::nothing().with_environ(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, with_environment);
    let is_member = |process: &&sysinfo::Process| {
        let marks = process
            .environ()
            .iter()
            .filter_map(|entry| entry.as_encoded_bytes().strip_prefix(MARK.as_bytes())?.strip_prefix(b"="));
        process.thread_kind().is_none() && { marks }.any(&is_meant)
    };
    let member = |process: &sysinfo::Process| Member {
        pid: Pid::from_raw(process.pid().as_u32().cast_signed()),
        name: process.name().to_string_lossy().into_owned(),
    };
    system.processes().values().filter(is_member).map(member).collect()
}

/// Locks a file, which is in `directory` or is it.
pub(crate) fn lock(file: &File, directory: &Path) -> Outcome<()> {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    let directory = directory.display();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(POLL_INTERVAL),
            Err(TryLockError::WouldBlock) => {
                let seconds = LOCK_TIMEOUT.as_secs();
                return Err(format!("another command has been at work in {directory} for {seconds} seconds; gave up."));
            }
            Err(TryLockError::Error(error)) => return Err(format!("{directory} cannot be locked: {error}.")),
        }
    }
}

pub(crate) fn write(path: &Path, text: &str) -> Outcome<()> {
    fs::write(path, text).map_err(|error| format!("{} cannot be written: {error}.", path.display()))
}
