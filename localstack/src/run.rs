//! Runs a command with a stack that is there for it alone.

use std::{
    env, fs,
    fs::File,
    io::{IsTerminal as _, Write as _, stderr, stdin},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::{Pid, getpgrp, tcgetpgrp},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    iterator::Signals,
};

use crate::{Outcome, say, service::STATE_VARIABLE, up::down};

/// Reads the settings and becomes the command.
const WITH_SETTINGS: &str = r#". "$0" && exec "$@""#;

enum Event {
    Signal(Signal),
    Ended(ExitStatus),
}

/// A command in a directory of its own, which a [guard] removes with the stack in it.
struct Run {
    directory: PathBuf,
    guard: Child,
    sender: Sender<Event>,
    events: Receiver<Event>,
    signal: Option<Signal>,
}

/// Runs a command with a stack. Returns its status, which is not 0 after a signal.
pub(crate) fn run(command: &[String]) -> Outcome<u8> {
    let mut run = Run::new("streambox-run.")?;
    let outcome = run.with_stack(command);
    run.clean_up(outcome)
}

/// Runs a command of this program with a state directory that is removed afterwards, with what is in it.
pub(crate) fn run_own(arguments: &[&str]) -> Outcome<u8> {
    let mut run = Run::new("streambox-system.")?;
    let outcome = this_program().and_then(|mut command| run.wait_for(command.args(arguments).stdin(Stdio::null())));
    run.clean_up(outcome)
}

/// Removes the directory of a run with the stack in it when standard input ends: a pipe from the process of the run, which the system
/// closes with it at the latest. So nothing is left behind, however that process ends. If it was killed, its command is ended as well.
/// Returns whether all went well.
pub(crate) fn guard(directory: &Path) -> bool {
    let is_running =
        stdin().lines().map_while(Result::ok).last().and_then(|pid| pid.parse().ok()).filter(|pid| *pid > 0);
    if let Some(pid) = is_running.map(Pid::from_raw) {
        let _ = killpg(pid, Signal::SIGTERM).or_else(|_| kill(pid, Signal::SIGTERM));
    }
    let state = state_in(directory);
    if !down(&state) {
        let state = state.display();
        say(format!("not everything could be taken down: {STATE_VARIABLE}={state} localstack/down tries again."));
        return false;
    }
    let _ = fs::remove_dir_all(directory);
    true
}

fn state_in(directory: &Path) -> PathBuf {
    directory.join("state")
}

fn this_program() -> Outcome<Command> {
    env::current_exe().map(Command::new).map_err(|error| format!("this program does not find itself: {error}."))
}

impl Run {
    fn new(prefix: &str) -> Outcome<Self> {
        let (sender, events) = channel();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT]).map_err(|error| error.to_string())?;
        let from_signals = sender.clone();
        thread::spawn(move || {
            for signal in signals.forever().filter_map(|signal| Signal::try_from(signal).ok()) {
                if from_signals.send(Event::Signal(signal)).is_err() {
                    return;
                }
            }
        });
        let directory = tempfile::Builder::new().prefix(prefix).tempdir();
        let directory = directory.map_err(|error| format!("no temporary directory: {error}."))?.keep();
        let mut guard = this_program()?;
        guard.arg("guard").arg(&directory).process_group(0).stdin(Stdio::piped()).stdout(stderr());
        let guard = guard.spawn().map_err(|error| format!("the guard cannot be started: {error}."))?;
        Ok(Self { directory, guard, sender, events, signal: None })
    }

    fn with_stack(&mut self, command: &[String]) -> Outcome<u8> {
        let settings = self.directory.join("settings");
        let output = File::create(&settings).map_err(|error| error.to_string())?;
        let status = self.wait_for(this_program()?.arg("up").stdin(Stdio::null()).stdout(output))?;
        match (self.signal, status) {
            (None, 0) => {}
            (None, _) => return Err("the stack did not come up, so the command was not run.".to_owned()),
            (Some(_), _) => return Ok(status),
        }
        self.wait_for(Command::new("/bin/sh").args(["-c", WITH_SETTINGS]).arg(&settings).args(command))
    }

    /// Runs a command to its end and passes signals on to it.
    fn wait_for(&mut self, command: &mut Command) -> Outcome<u8> {
        // If Ctrl-C is meant for us, the command stays in our group, to be able to read from the terminal. Otherwise a signal reaches
        // it, and what it started, once: from us.
        let shares_terminal =
            stdin().is_terminal() && tcgetpgrp(stdin()).is_ok_and(|foreground| foreground == getpgrp());
        if !shares_terminal {
            command.process_group(0);
        }
        // The command's commands mean this stack.
        command.env(STATE_VARIABLE, state_in(&self.directory));
        let mut child = command
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}.", command.get_program().display()))?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let sender = self.sender.clone();
        thread::spawn(move || child.wait().map(|status| sender.send(Event::Ended(status))));
        let pass_on = |signal| {
            // Ctrl-C has reached it already; a second one might cut its orderly end short.
            if !shares_terminal {
                let _ = killpg(pid, signal);
            } else if signal != Signal::SIGINT && signal != Signal::SIGQUIT {
                let _ = kill(pid, signal);
            }
        };
        self.report_to_guard(pid);
        self.signal.into_iter().for_each(pass_on);
        loop {
            match self.events.recv().map_err(|error| error.to_string())? {
                Event::Signal(signal) => {
                    self.signal = Some(signal);
                    pass_on(signal);
                }
                Event::Ended(status) => {
                    self.report_to_guard(Pid::from_raw(0));
                    return Ok(self.status_of(status));
                }
            }
        }
    }

    /// Reports which command runs, if any.
    fn report_to_guard(&mut self, command: Pid) {
        let _ = { self.guard.stdin.as_mut() }.map(|pipe| writeln!(pipe, "{command}"));
    }

    /// A command that a signal has stopped has not done all of its work, even if it exits with 0.
    fn status_of(&self, status: ExitStatus) -> u8 {
        let of_signal = |number: i32| 128 + u8::try_from(number).unwrap_or_default();
        match (status.code(), self.signal) {
            (Some(0), Some(signal)) => of_signal(signal as i32),
            (Some(code), _) => u8::try_from(code).unwrap_or(1),
            (None, _) => of_signal(status.signal().unwrap_or_default()),
        }
    }

    /// Has the guard remove everything. Signals do not reach it.
    fn clean_up(mut self, outcome: Outcome<u8>) -> Outcome<u8> {
        drop(self.guard.stdin.take());
        let is_clean = self.guard.wait().is_ok_and(|status| status.success());
        match outcome {
            Ok(0) if !is_clean => Ok(1),
            outcome => outcome,
        }
    }
}
