//! A PostgreSQL server of a test's own, from the system's package.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};
use streambox_localstack::ports::free_port;
use tempfile::TempDir;

/// Names the directory with `initdb` and `postgres`, if it is not `/usr/lib/postgresql/*/bin`, where Debian has them.
pub const POSTGRES_VARIABLE: &str = "STREAMBOX_TEST_POSTGRES";

/// Where Debian and Ubuntu have a directory for each version.
const PACKAGE: &str = "/usr/lib/postgresql";

/// Who may own a server if root runs the tests, as in a container: it refuses to be root.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// A server with a data directory of its own. It ends with the value, or with the thread that has started it.
#[derive(Debug)]
pub struct PostgresServer {
    port: u16,
    server: Child,
    _data: TempDir,
}

impl PostgresServer {
    /// Starts a server. If the programs are not there, this prints so and returns none; in CI it panics.
    ///
    /// # Panics
    /// If they are not there though the variable `CI` is set, or the server does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            let missing =
                format!("there is no PostgreSQL: install the package `postgresql`, or set {POSTGRES_VARIABLE}");
            assert!(std::env::var_os("CI").is_none(), "{missing}");
            eprintln!("SKIPPED: {missing}");
            return None;
        };
        let directory = tempfile::Builder::new().prefix("streambox-postgres-").tempdir().expect("a directory");
        let owner = geteuid().is_root().then(|| {
            let user = USERS.into_iter().find_map(|name| User::from_name(name).ok()?);
            let user = user.expect("there is a user that is not root: postgres or nobody");
            chown(directory.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("root may");
            user
        });
        let program = |name: &str| as_owner(owner.as_ref(), &programs.join(name), directory.path());
        let data = directory.path().join("data");
        let mut initdb = program("initdb");
        // Nothing of it is to survive the test.
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--pgdata"]);
        let output = initdb.arg(&data).output().expect("setpriv is there");
        assert!(output.status.success(), "initdb failed:\n{}", String::from_utf8_lossy(&output.stderr));

        let port = free_port().expect("a free port");
        let mut postgres = program("postgres");
        postgres.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "log_destination=stderr"]
        {
            postgres.args(["-c", setting]);
        }
        let mut server = postgres.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("setpriv is there");
        let mut log = BufReader::new(server.stderr.take().expect("it is piped")).lines();
        let mut said = Vec::new();
        let is_ready = log.by_ref().map_while(Result::ok).any(|line| {
            said.push(line);
            said.last().is_some_and(|line| line.contains("ready to accept connections"))
        });
        assert!(is_ready, "PostgreSQL does not start:\n{}", said.join("\n"));
        // Who does not read it stops the server when the pipe is full.
        thread::spawn(move || log.for_each(drop));
        Some(Self { port, server, _data: directory })
    }

    /// Where it is, for a client.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // An immediate shutdown, of its own processes as well.
        if let Ok(pid) = i32::try_from(self.server.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
        }
        let _ = self.server.wait();
    }
}

/// The directory of the programs: the newest version's.
fn programs() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(POSTGRES_VARIABLE) {
        return Some(named.into());
    }
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = std::fs::read_dir(PACKAGE).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let newest = versions.filter(|path| path.join("bin/initdb").is_file()).max_by_key(|path| number(path))?;
    Some(newest.join("bin"))
}

/// A program under an account that may own a server, which ends when the test does, however that ends.
fn as_owner(owner: Option<&User>, program: &Path, directory: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]).current_dir(directory).stdin(Stdio::null());
    if let Some(user) = owner {
        command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid)).arg("--clear-groups");
    }
    command.arg(program).env("LC_ALL", "C");
    command
}
