//! The programs as processes, with the addresses of their parts and nothing else of this process's environment.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fmt::Write as _,
    io::PipeReader,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::watch,
    time::timeout,
};

pub use crate::built::program;
use crate::{PATIENCE, engine::TestTable};

/// A process, killed with the value.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    stdin: Option<ChildStdin>,
    stdout: Lines,
    stderr: Lines,
    /// A pipe that is held and not read.
    unread: Option<PipeReader>,
}

impl Drop for Process {
    /// If a test fails, prints what the process has logged.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} had logged:\n{}", self.name, self.stderr.text());
        }
    }
}

/// How a process has ended.
#[derive(Debug)]
pub struct Finished {
    /// Its status.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it logged.
    pub stderr: String,
}

impl Finished {
    /// Its exit code; none if a signal has ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

impl Process {
    /// Starts a program with a test's table and, if one is given, a broker.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        table: Option<&TestTable>,
        broker_url: Option<&str>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self::start_at(name, program(name), table, broker_url, &[], arguments)
    }

    /// As [`start`](Self::start), but nobody reads what it prints: its standard output is a pipe that is closed, or one that
    /// is full.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start_unread<A: AsRef<OsStr>>(
        name: &str,
        table: Option<&TestTable>,
        broker_url: Option<&str>,
        arguments: impl IntoIterator<Item = A>,
        is_closed: bool,
    ) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = command(program(name), table, broker_url, arguments);
        command.stdout(writer.try_clone().expect("a pipe"));
        let mut process = Self::follow(name, command);
        if !is_closed {
            // It is never done, until the reader is gone: so the pipe is full.
            std::thread::spawn(move || std::io::Write::write_all(&mut &writer, &vec![b'\n'; 16 << 20]));
            process.unread = Some(reader);
        }
        process
    }

    /// As [`start`](Self::start), with more variables in its environment.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start_with<A: AsRef<OsStr>>(
        name: &str,
        table: Option<&TestTable>,
        broker_url: Option<&str>,
        variables: &[(&str, &OsStr)],
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self::start_at(name, program(name), table, broker_url, variables, arguments)
    }

    /// As [`start`](Self::start), with its standard error where a test wants it.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start_logging_to<A: AsRef<OsStr>>(
        name: &str,
        table: Option<&TestTable>,
        broker_url: Option<&str>,
        arguments: impl IntoIterator<Item = A>,
        stderr: impl Into<Stdio>,
    ) -> Self {
        let mut command = command(program(name), table, broker_url, arguments);
        command.stderr(stderr);
        Self::follow(name, command)
    }

    /// As [`start`](Self::start), with its standard output where a test wants it.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start_printing_to<A: AsRef<OsStr>>(
        name: &str,
        table: Option<&TestTable>,
        arguments: impl IntoIterator<Item = A>,
        stdout: impl Into<Stdio>,
    ) -> Self {
        let mut command = command(program(name), table, None, arguments);
        command.stdout(stdout);
        Self::follow(name, command)
    }

    /// Starts a program that is not this workspace's.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start_other<A: AsRef<OsStr>>(path: PathBuf, arguments: impl IntoIterator<Item = A>) -> Self {
        let name = path.display().to_string();
        Self::start_at(&name, path, None, None, &[], arguments)
    }

    fn start_at<A: AsRef<OsStr>>(
        name: &str,
        path: PathBuf,
        table: Option<&TestTable>,
        broker_url: Option<&str>,
        variables: &[(&str, &OsStr)],
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let mut command = command(path, table, broker_url, arguments);
        command.envs(variables.iter().copied());
        Self::follow(name, command)
    }

    fn follow(name: &str, mut command: Command) -> Self {
        let mut child = command.kill_on_drop(true).spawn().expect("the program starts");
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map_or_else(Lines::none, Lines::follow);
        let stderr = child.stderr.take().map_or_else(Lines::none, Lines::follow);
        Self { child, name: name.to_owned(), stdin, stdout, stderr, unread: None }
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().expect("the process has not ended")
    }

    /// Waits until a line of its log contains `text`.
    ///
    /// # Panics
    /// If it ends before, or the line does not come within [`PATIENCE`].
    pub async fn logs(&mut self, text: &str) {
        self.logs_times(text, 1).await;
    }

    /// Waits until its log contains `text` this many times.
    ///
    /// # Panics
    /// If it ends before, or that does not come within [`PATIENCE`].
    pub async fn logs_times(&mut self, text: &str, times: usize) {
        let found = timeout(PATIENCE, self.stderr.wait_for(text, times)).await;
        let log = || self.stderr.text();
        assert!(matches!(found, Ok(true)), "{} does not log {text:?} {times} times:\n{}", self.name, log());
    }

    /// Waits until its log has named each of these streams as halted.
    ///
    /// # Panics
    /// As [`logs`](Self::logs).
    pub async fn logs_halts_of(&mut self, streams: &[&str]) {
        let names_all = |log: &str| {
            let halted = halted_streams(log);
            streams.iter().all(|stream| halted.contains(*stream))
        };
        let found = timeout(PATIENCE, self.stderr.wait_until(names_all)).await;
        assert!(matches!(found, Ok(true)), "{} does not halt {streams:?}:\n{}", self.name, self.stderr.text());
    }

    /// Waits until it has printed a line that contains `text`.
    ///
    /// # Panics
    /// If it ends before, or the line does not come within [`PATIENCE`].
    pub async fn prints(&mut self, text: &str) {
        let found = timeout(PATIENCE, self.stdout.wait_for(text, 1)).await;
        assert!(matches!(found, Ok(true)), "{} does not print {text:?}:\n{}", self.name, self.stdout.text());
    }

    /// Waits until a line of its log contains `text`, and returns that line.
    ///
    /// # Panics
    /// As [`logs`](Self::logs).
    pub async fn log_line(&mut self, text: &str) -> String {
        self.logs(text).await;
        let log = self.stderr.text();
        log.lines().find(|line| line.contains(text)).expect("it was logged").to_owned()
    }

    /// Writes to its standard input, which stays open until [`finish`](Self::finish).
    ///
    /// # Panics
    /// If it does not take it.
    pub async fn input(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(text.as_bytes()).await.expect("the program reads its standard input");
        stdin.flush().await.expect("the program reads its standard input");
    }

    /// Closes its standard input.
    pub fn end_input(&mut self) {
        drop(self.stdin.take());
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.id()).expect("a process id")), signal)
            .expect("the process takes signals");
    }

    /// Closes its standard input and waits for its end.
    ///
    /// # Panics
    /// If it does not end within [`PATIENCE`].
    pub async fn finish(mut self) -> Finished {
        drop(self.stdin.take());
        self.wait().await
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// If the system does not know it.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child's status").is_some()
    }

    /// Waits for its end, with its standard input as it is.
    ///
    /// # Panics
    /// If it does not end within [`PATIENCE`].
    pub async fn wait(mut self) -> Finished {
        let Ok(status) = timeout(PATIENCE, self.child.wait()).await else {
            panic!("{} does not end:\n{}", self.name, self.stderr.text())
        };
        self.stdout.wait_for_end().await;
        self.stderr.wait_for_end().await;
        Finished { status: status.expect("a child's status"), stdout: self.stdout.text(), stderr: self.stderr.text() }
    }

    /// Ends it with SIGKILL.
    ///
    /// # Panics
    /// If it does not end within [`PATIENCE`].
    pub async fn kill(mut self) -> Finished {
        self.child.start_kill().expect("the process has not been waited for");
        self.finish().await
    }
}

fn command<A: AsRef<OsStr>>(
    path: PathBuf,
    table: Option<&TestTable>,
    broker_url: Option<&str>,
    arguments: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = Command::new(path);
    command.args(arguments).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs(table.map(TestTable::environment).unwrap_or_default());
    // Without a role, a file or a variable the search for credentials would go to the network.
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    // Programs that run at the same time would all want the default port.
    command.env("STREAMBOX_HTTP", "127.0.0.1:0");
    command.envs(broker_url.map(|url| ("STREAMBOX_AMQP_URL", url)));
    command
}

/// Runs a program to its end.
///
/// # Panics
/// If it does not start or does not end.
pub async fn run<A: AsRef<OsStr>>(
    name: &str,
    table: Option<&TestTable>,
    broker_url: Option<&str>,
    arguments: impl IntoIterator<Item = A>,
) -> Finished {
    Process::start(name, table, broker_url, arguments).finish().await
}

/// Runs a program to its end, with more variables in its environment.
///
/// # Panics
/// If it does not start or does not end.
pub async fn run_with<A: AsRef<OsStr>>(
    name: &str,
    table: Option<&TestTable>,
    broker_url: Option<&str>,
    variables: &[(&str, &OsStr)],
    arguments: impl IntoIterator<Item = A>,
) -> Finished {
    Process::start_at(name, program(name), table, broker_url, variables, arguments).finish().await
}

/// Runs an example of the library to its end. It brings its own engine.
///
/// # Panics
/// If it does not start or does not end.
pub async fn run_example(name: &str, arguments: &[&str]) -> Finished {
    Process::start_at(name, program("examples").join(name), None, None, &[], arguments).finish().await
}

/// The streams that a relay's log in JSON names as halted.
///
/// # Panics
/// If a line about a halt is not JSON.
#[must_use]
pub fn halted_streams(log: &str) -> BTreeSet<String> {
    let stream = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("the log is JSON");
        line["stream"].as_str().expect("the line names a stream").to_owned()
    };
    log.lines().filter(|line| line.contains("the stream is halted")).map(stream).collect()
}

/// What a process writes to one of its outputs.
#[derive(Debug)]
struct Lines {
    text: Arc<Mutex<String>>,
    /// How many lines there are; its sender is gone at the end.
    count: watch::Receiver<usize>,
}

impl Lines {
    fn follow(output: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (counter, count) = watch::channel(0);
        let text = Arc::new(Mutex::new(String::new()));
        let all = Arc::clone(&text);
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = writeln!(all.lock().expect("no writer has panicked"), "{line}");
                counter.send_modify(|count| *count += 1);
            }
        });
        Self { text, count }
    }

    /// Of an output that nobody reads.
    fn none() -> Self {
        Self { text: Arc::default(), count: watch::channel(0).1 }
    }

    fn text(&self) -> String {
        self.text.lock().expect("no writer has panicked").clone()
    }

    /// Waits until `text` has come this many times; false if the output ends before.
    async fn wait_for(&mut self, text: &str, times: usize) -> bool {
        self.wait_until(|all| all.matches(text).count() >= times).await
    }

    /// Waits until what has come so far, in whole lines, is as wanted; false if the output ends before.
    async fn wait_until(&mut self, is_so: impl Fn(&str) -> bool) -> bool {
        loop {
            self.count.borrow_and_update();
            if is_so(&self.text()) {
                return true;
            }
            if self.count.changed().await.is_err() {
                return is_so(&self.text());
            }
        }
    }

    async fn wait_for_end(&mut self) {
        while self.count.changed().await.is_ok() {}
    }
}
