//! A RabbitMQ broker of its own for a state directory: a container, or a node of the system's package.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Uid};

use crate::{
    HERE, Outcome,
    docker::{self, Compose},
    is_program, ports,
    probe::Url,
    say,
    service::{Service, write},
    succeeds, variable, wait_until,
};

const START_TIMEOUT: Duration = Duration::from_mins(2);
const STOP_TIMEOUT: Duration = Duration::from_mins(1);
const KILL_INSTALL_AFTER: Duration = Duration::from_mins(40);
const START_ATTEMPTS: u32 = 3;
/// The plugin whose exchanges spread streams over the queues of several consumers. A container has it by `compose.yaml`.
pub const HASH_EXCHANGES: &str = "rabbitmq_consistent_hash_exchange";

const NODE: &str = "streambox@localhost";

/// Where packages put the server itself; Debian's `/usr/sbin/rabbitmq-server` is a wrapper that insists on a user. The last two are
/// Homebrew's.
const DIRECTORIES: [&str; 3] =
    ["/usr/lib/rabbitmq/bin", "/opt/homebrew/opt/rabbitmq/sbin", "/usr/local/opt/rabbitmq/sbin"];

const IMAGE_VARIABLE: &str = "STREAMBOX_RABBITMQ_IMAGE";
const PORT_VARIABLE: &str = "STREAMBOX_RABBITMQ_PORT";

/// The broker of a state directory.
#[derive(Clone, Debug)]
pub struct Rabbitmq {
    service: Service,
    /// `docker`, `system`, or empty for whichever there is: of a broker that has not been started before.
    kind: String,
    /// Of a system node: a file whose lines are added to `rabbitmq.conf`.
    pub configuration: Option<PathBuf>,
    /// Of a system node: plugins to enable beside [`HASH_EXCHANGES`], separated by commas.
    pub plugins: String,
}

impl Rabbitmq {
    /// The broker of a state directory, with the settings of the environment.
    #[must_use]
    pub fn of(state: &Path) -> Self {
        Self {
            service: Service { name: "rabbitmq", state: state.to_owned() },
            kind: variable("STREAMBOX_RABBITMQ"),
            configuration: env::var_os("STREAMBOX_RABBITMQ_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from),
            plugins: variable("STREAMBOX_RABBITMQ_PLUGINS"),
        }
    }

    /// Starts it, or starts it again, with the same port and data. Returns its URL.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(&self) -> Outcome<String> {
        let _lock = self.service.lock()?;
        match self.service.recorded("mode").as_str() {
            "docker" => self.start_container()?,
            "system" => self.start_node()?,
            _ => self.start_first()?,
        }
        self.url()
    }

    fn start_first(&self) -> Outcome<()> {
        match self.kind.as_str() {
            "docker" => self
                .start_in_docker()?
                .map_err(|problem| format!("STREAMBOX_RABBITMQ=docker asks for a container, but {problem}.")),
            "system" => self.start_from_system(),
            "" => match self.start_in_docker()? {
                Ok(()) => Ok(()),
                Err(problem) => {
                    say(format!("{problem}: RabbitMQ comes from the system's package."));
                    self.start_from_system()
                }
            },
            kind => Err(format!("STREAMBOX_RABBITMQ is '{kind}'; it can be docker, system or empty.")),
        }
    }

    /// Its URL.
    ///
    /// # Errors
    /// If it has never been started.
    pub fn url(&self) -> Outcome<String> {
        match self.service.port() {
            0 => Err(self.never_started()),
            port => Ok(format!("amqp://guest:guest@127.0.0.1:{port}/%2f")),
        }
    }

    fn never_started(&self) -> String {
        format!("no RabbitMQ has been started in {}.", self.service.state.display())
    }

    /// Ends it in an orderly way, or kills it. Port and data are kept.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(&self, is_hard: bool) -> Outcome<()> {
        let service = &self.service;
        let _lock = service.lock()?;
        match service.recorded("mode").as_str() {
            "docker" if is_hard => {
                // Of a container that does not run, compose says nothing, and Docker that it is an error.
                Compose::of(service)?.run(service, &["kill", "-s", "SIGKILL", "rabbitmq"]);
            }
            "docker" => {
                let is_stopped = Compose::of(service)?.run(service, &["stop", "rabbitmq"]);
                return is_stopped.then_some(()).ok_or("RabbitMQ's container does not stop.".to_owned());
            }
            "system" if is_hard => service.end()?,
            "system" => self.stop_node()?,
            _ => service.remove_state(),
        }
        Ok(())
    }

    /// Ends it and deletes everything.
    ///
    /// # Errors
    /// If it does not end.
    pub fn remove(&self) -> Outcome<()> {
        remove(&self.service)
    }

    /// `rabbitmqctl` on it.
    ///
    /// # Errors
    /// If it has never been started.
    pub fn ctl(&self, arguments: &[String]) -> Outcome<Command> {
        let mut command = match self.service.recorded("mode").as_str() {
            "docker" => {
                Compose::of(&self.service)?;
                let mut command = Command::new("docker");
                command.args(["exec", &docker::container(&self.service, "rabbitmq"), "rabbitmqctl"]);
                command
            }
            "system" => {
                let mut command = self.in_node_environment(&programs().join("rabbitmqctl"));
                command.args(["--node", NODE]);
                command
            }
            _ => return Err(self.never_started()),
        };
        command.args(arguments);
        Ok(command)
    }

    // --- as a container ---

    /// The inner error says why it cannot be a container; nothing is left of the attempt then.
    fn start_in_docker(&self) -> Outcome<Outcome<()>> {
        let service = &self.service;
        if self.configuration.is_some() || !self.plugins.is_empty() {
            return Ok(
                Err("STREAMBOX_RABBITMQ_CONFIG and STREAMBOX_RABBITMQ_PLUGINS are for a system node".to_owned()),
            );
        }
        let compose =
            match Compose::find().and_then(|compose| docker::fetch(&docker::image(IMAGE_VARIABLE)).map(|()| compose)) {
                Ok(compose) => compose,
                Err(problem) => return Ok(Err(problem)),
            };
        service.record_port(PORT_VARIABLE)?;
        service.record("mode", "docker")?;
        say(format!("starting RabbitMQ's container on port {}", service.port()));
        if compose.run(service, &["up", "--detach", "--no-recreate", "rabbitmq"]) {
            return self.wait_for_container(&compose).map(Ok);
        }
        compose.down(service);
        for name in ["mode", "port"] {
            let _ = fs::remove_file(service.file(name));
        }
        Ok(Err("a Docker engine answers, but the container cannot be started".to_owned()))
    }

    fn start_container(&self) -> Outcome<()> {
        let service = &self.service;
        let compose = Compose::of(service)?;
        if docker::inspect(&docker::container(service, "rabbitmq"), "{{.State.Running}}") != "true" {
            self.require_own_port()?;
        }
        if !compose.run(service, &["up", "--detach", "--no-recreate", "rabbitmq"]) {
            return Err("RabbitMQ's container does not start.".to_owned());
        }
        self.wait_for_container(&compose)
    }

    /// The port is one that this broker has had before, and keeps.
    fn require_own_port(&self) -> Outcome<()> {
        let what_helps = "end it, or `localstack/rabbitmq remove` and start anew, without the data";
        self.service.require_free(self.service.port(), what_helps)
    }

    fn wait_for_container(&self, compose: &Compose) -> Outcome<()> {
        if wait_until(START_TIMEOUT, || self.answers()) {
            return Ok(());
        }
        compose.run(&self.service, &["logs", "--tail", "15", "rabbitmq"]);
        Err(format!("RabbitMQ's container does not answer within {} seconds.", START_TIMEOUT.as_secs()))
    }

    fn answers(&self) -> bool {
        self.url().ok().and_then(|url| Url::parse(&url)).is_some_and(|url| url.amqp_answers())
    }

    // --- as a node of the system's package ---

    fn start_from_system(&self) -> Outcome<()> {
        if !is_program(&programs().join("rabbitmq-server")) {
            install()?;
        }
        self.service.record_port(PORT_VARIABLE)?;
        self.service.record("mode", "system")?;
        self.start_node()
    }

    fn start_node(&self) -> Outcome<()> {
        if self.node_answers() {
            return Ok(());
        }
        // What is left of a node that does not answer, epmd at least.
        self.service.end()?;
        for attempt in 1..=START_ATTEMPTS {
            self.require_own_port()?;
            self.launch_node()?;
            wait_until(START_TIMEOUT, || self.node_answers() || self.service.is_without(is_of_node));
            if self.node_answers() {
                return Ok(());
            }
            self.service.end()?;
            // Another program may have taken one of the node's two other ports; they are new each time.
            say(format!("RabbitMQ did not start (attempt {attempt} of {START_ATTEMPTS})."));
        }
        self.service.show_log("log/node.log");
        self.service.show_log("log/broker.log");
        Err("RabbitMQ from the system's package does not start.".to_owned())
    }

    fn node_answers(&self) -> bool {
        self.answers() && self.service.listens(self.service.port())
    }

    fn launch_node(&self) -> Outcome<()> {
        let service = &self.service;
        let port = service.port();
        say(format!("starting RabbitMQ on port {port}"));
        service.record("epmd-port", &ports::free_port()?.to_string())?;
        service.record("dist-port", &ports::free_port()?.to_string())?;
        for name in ["home", "data", "log"] {
            let directory = service.file(name);
            fs::create_dir_all(&directory)
                .map_err(|error| format!("cannot create {}: {error}.", directory.display()))?;
        }
        let mut configuration = format!("listeners.tcp.1 = 127.0.0.1:{port}\n");
        if let Some(path) = &self.configuration {
            configuration += &fs::read_to_string(path).map_err(|error| {
                format!("{}, which STREAMBOX_RABBITMQ_CONFIG names, cannot be read: {error}.", path.display())
            })?;
        }
        write(&service.file("rabbitmq.conf"), &configuration)?;
        let plugins: Vec<_> = [HASH_EXCHANGES, &self.plugins].into_iter().filter(|name| !name.is_empty()).collect();
        write(&service.file("enabled_plugins"), &format!("[{}].\n", plugins.join(",")))?;
        // They exist, so that RabbitMQ does not look for them in /etc/rabbitmq.
        write(&service.file("rabbitmq-env.conf"), "")?;
        write(&service.file("advanced.config"), "[].\n")?;
        let server = self.in_node_environment(&programs().join("rabbitmq-server"));
        service.start(&server, "log/node.log", "log/node.log")
    }

    /// Everything is set: a variable of the user's, or a file in /etc/rabbitmq, must not make this node another one. The cookie is in
    /// HOME. The node listens on loopback alone.
    fn in_node_environment(&self, program: &Path) -> Command {
        let file = |name| self.service.file(name);
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            let is_of_rabbitmq =
                ["RABBITMQ_", "ERL_"].iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()));
            if is_of_rabbitmq || name == "NOTIFY_SOCKET" {
                command.env_remove(name);
            }
        }
        command
            .env("LANG", "C.UTF-8")
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.service.recorded("epmd-port"))
            .env("RABBITMQ_NODENAME", NODE)
            .env("RABBITMQ_USE_LONGNAME", "false")
            .env("RABBITMQ_DIST_PORT", self.service.recorded("dist-port"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            .envs([
                ("HOME", file("home")),
                ("ERL_CRASH_DUMP", file("log/crash.dump")),
                ("RABBITMQ_CONF_ENV_FILE", file("rabbitmq-env.conf")),
                ("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf")),
                ("RABBITMQ_CONFIG_FILES", file("conf.d")),
                ("RABBITMQ_ADVANCED_CONFIG_FILE", file("advanced.config")),
                ("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins")),
                ("RABBITMQ_MNESIA_BASE", file("data")),
                ("RABBITMQ_SCHEMA_DIR", file("schema")),
                ("RABBITMQ_GENERATED_CONFIG_DIR", file("config")),
                ("RABBITMQ_PLUGINS_EXPAND_DIR", file("plugins")),
                ("RABBITMQ_LOG_BASE", file("log")),
                ("RABBITMQ_LOGS", file("log/broker.log")),
            ]);
        command
    }

    fn stop_node(&self) -> Outcome<()> {
        // The virtual machine alone: without its helper processes it could not end in an orderly way.
        let is_machine = |name: &str| name.starts_with("beam");
        self.service.members().iter().filter(|it| is_machine(&it.name)).for_each(|it| it.signal(Signal::SIGTERM));
        if !wait_until(STOP_TIMEOUT, || self.service.is_without(is_of_node)) {
            say(format!("RabbitMQ did not stop within {} seconds and is killed.", STOP_TIMEOUT.as_secs()));
        }
        self.service.end()
    }
}

/// epmd, Erlang's port mapper, lives on after the node that started it.
fn is_of_node(member: &crate::service::Member) -> bool {
    !member.name.starts_with("epmd")
}

fn programs() -> PathBuf {
    let found = DIRECTORIES.iter().map(Path::new).find(|directory| is_program(&directory.join("rabbitmq-server")));
    found.unwrap_or(Path::new(DIRECTORIES[0])).to_owned()
}

fn install() -> Outcome<()> {
    let script = Path::new(HERE).join("install-rabbitmq");
    // Homebrew refuses to run as root, and needs not.
    let needs_root = !Uid::effective().is_root() && crate::find_program("brew").is_none();
    let mut command = if needs_root {
        let may_be_root = Command::new("sudo").args(["-n", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
        if !may_be_root.is_ok_and(|status| status.success()) {
            return Err(
                "RabbitMQ is not installed, and only root can do that: install the package rabbitmq-server, or start \
                        Docker, or set STREAMBOX_AMQP_URL."
                    .to_owned(),
            );
        }
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "bash"]).arg(script);
        sudo
    } else {
        let mut bash = Command::new("bash");
        bash.arg(script);
        bash
    };
    if !succeeds(&mut command, KILL_INSTALL_AFTER) {
        return Err("RabbitMQ could not be installed.".to_owned());
    }
    let installed = is_program(&programs().join("rabbitmq-server"));
    installed
        .then_some(())
        .ok_or(format!("RabbitMQ is installed, but there is no rabbitmq-server in {}.", DIRECTORIES.join(", ")))
}

/// Ends a service, however it was started, and deletes everything.
pub(crate) fn remove(service: &Service) -> Outcome<()> {
    if !service.directory().exists() {
        return Ok(());
    }
    let _lock = service.lock()?;
    if ["docker", "localstack"].contains(&service.recorded("mode").as_str()) && !Compose::of(service)?.down(service) {
        return Err(format!("the containers of {} cannot be removed.", service.directory().display()));
    }
    service.end()?;
    service.remove_state();
    Ok(())
}
