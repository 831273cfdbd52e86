//! A DynamoDB emulator of its own for a state directory.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    HERE, Outcome,
    docker::{self, Compose},
    fetch, find_program, is_program, printed,
    probe::Url,
    rabbitmq, say,
    service::Service,
    variable, wait_until,
};

/// Java takes some seconds if the processors are busy.
const PROGRAM_START_TIMEOUT: Duration = Duration::from_mins(1);
const CONTAINER_START_TIMEOUT: Duration = Duration::from_mins(2);
const JAVA_TIMEOUT: Duration = Duration::from_secs(30);

/// What DynamoDB Local asks for.
const JAVA_VERSION_MIN: u32 = 17;

const IMAGE_VARIABLE: &str = "STREAMBOX_LOCALSTACK_IMAGE";
const PORT_VARIABLE: &str = "STREAMBOX_LOCALSTACK_PORT";

/// The DynamoDB of a state directory.
#[derive(Clone, Debug)]
pub(crate) struct Dynamodb(Service);

impl Dynamodb {
    /// The DynamoDB of a state directory.
    pub(crate) fn of(state: &Path) -> Self {
        Self(Service { name: "dynamodb", state: state.to_owned() })
    }

    /// Starts it, or finds it running. Returns its URL.
    pub(crate) fn start(&self) -> Outcome<String> {
        let _lock = self.0.lock()?;
        let kinds = [self.0.recorded("mode"), variable("STREAMBOX_DYNAMODB"), "embedded".to_owned()];
        let kind = kinds.into_iter().find(|kind| !kind.is_empty()).unwrap_or_default();
        match kind.as_str() {
            "embedded" => self.start_embedded()?,
            "dynamodb-local" => self.start_dynamodb_local()?,
            "ministack" => self.start_ministack()?,
            "localstack" => self.start_container()?,
            _ => {
                return Err(format!(
                    "STREAMBOX_DYNAMODB is '{kind}'; it can be embedded, dynamodb-local, ministack, localstack or empty."
                ));
            }
        }
        Ok(self.0.recorded("url"))
    }

    /// Ends it and deletes everything.
    pub(crate) fn remove(&self) -> Outcome<()> {
        rabbitmq::remove(&self.0)
    }

    fn answers(&self) -> bool {
        Url::parse(&self.0.recorded("url")).is_some_and(|url| url.dynamodb_answers())
    }

    /// Whether it is there and answers; ended otherwise.
    fn still_runs(&self, name: &str) -> Outcome<bool> {
        if self.0.has_ended() {
            return Ok(false);
        }
        if self.answers() {
            return Ok(true);
        }
        say(format!("{name} does not answer; it is started anew, and empty."));
        self.0.end()?;
        Ok(false)
    }

    /// Waits until the program that was started answers.
    fn wait_for(&self, name: &str, is_ours: impl Fn() -> bool) -> Outcome<()> {
        wait_until(PROGRAM_START_TIMEOUT, || self.answers() || self.0.has_ended());
        if self.answers() && is_ours() {
            return Ok(());
        }
        self.0.show_log("log");
        Err(format!("{name} does not start."))
    }

    /// Starts a program that prints its URL, with the port that the system chose, and nothing else.
    fn start_program(&self, name: &str, command: &Command) -> Outcome<()> {
        let _ = fs::remove_file(self.0.file("url"));
        self.0.start(command, "log", "url")?;
        self.wait_for(name, || true)
    }

    fn start_embedded(&self) -> Outcome<()> {
        const NAME: &str = "the embedded DynamoDB";
        if self.still_runs(NAME)? {
            return Ok(());
        }
        let program = build()?;
        self.0.record("mode", "embedded")?;
        // It may run for days. The tests have engines of their own, which keep tokens.
        self.start_program(NAME, Command::new(program).args(["--listen", "127.0.0.1:0", "--stay-quick"]))
    }

    /// AWS's own, in Java.
    fn start_dynamodb_local(&self) -> Outcome<()> {
        const NAME: &str = "DynamoDB Local";
        if self.still_runs(NAME)? {
            return Ok(());
        }
        let java = java()
            .map_err(|problem| format!("STREAMBOX_DYNAMODB=dynamodb-local asks for DynamoDB Local, but {problem}."))?;
        let home = fetch::dynamodb_local()?;
        self.0.record("mode", "dynamodb-local")?;
        say("starting DynamoDB Local");
        let mut library = std::ffi::OsString::from("-Djava.library.path=");
        library.push(home.join("DynamoDBLocal_lib"));
        let mut command = Command::new(java);
        command.arg(library).arg("-cp").arg(home.join("DynamoDBLocal.jar"));
        // One database for all credentials, as in a table's account.
        command.arg(Path::new(HERE).join("DynamoDbLocal.java")).args(["-inMemory", "-sharedDb", "-disableTelemetry"]);
        self.start_program(NAME, &command)
    }

    /// DynamoDB and CloudFormation, in Python.
    fn start_ministack(&self) -> Outcome<()> {
        const NAME: &str = "MiniStack";
        if self.still_runs(NAME)? {
            return Ok(());
        }
        let program = fetch::ministack()?;
        self.0.record("mode", "ministack")?;
        self.choose_port()?;
        let port = self.0.port();
        say(format!("starting MiniStack on port {port}"));
        // By itself it listens on every interface, writes into /tmp, and looks for containers of its own.
        let mut command = Command::new(program);
        command.envs([("BIND_HOST", "127.0.0.1"), ("DOCKER_HOST", "unix:///nonexistent"), ("LOG_LEVEL", "WARNING")]);
        command.env("GATEWAY_PORT", port.to_string()).env("TMPDIR", self.0.directory());
        command.env("SERVICES", "dynamodb,cloudformation,iam,cloudwatch,ecr");
        self.0.start(&command, "log", "log")?;
        self.wait_for(NAME, || self.0.listens(port))
    }

    fn choose_port(&self) -> Outcome<()> {
        self.0.record_port(PORT_VARIABLE)?;
        self.0.record("url", &format!("http://127.0.0.1:{}", self.0.port()))
    }

    fn start_container(&self) -> Outcome<()> {
        let compose =
            Compose::find().and_then(|compose| docker::fetch(&docker::image(IMAGE_VARIABLE)).map(|()| compose));
        let compose =
            compose.map_err(|problem| format!("STREAMBOX_DYNAMODB=localstack asks for a container, but {problem}."))?;
        if self.0.port() == 0 {
            self.choose_port()?;
        }
        self.0.record("mode", "localstack")?;
        say(format!("starting LocalStack's container on port {}", self.0.port()));
        if !compose.run(&self.0, &["up", "--detach", "--no-recreate", "localstack"]) {
            return Err("LocalStack's container does not start.".to_owned());
        }
        if wait_until(CONTAINER_START_TIMEOUT, || self.answers()) {
            return Ok(());
        }
        compose.run(&self.0, &["logs", "--tail", "15", "localstack"]);
        Err(format!("LocalStack does not answer within {} seconds.", CONTAINER_START_TIMEOUT.as_secs()))
    }
}

/// Builds the embedded engine: the program's path. The flags are those of every other build of the workspace: with fewer features Cargo
/// would build the AWS SDK a second time.
fn build() -> Outcome<PathBuf> {
    let profile = Some(variable("STREAMBOX_PROFILE")).filter(|name| !name.is_empty()).unwrap_or("dev".to_owned());
    if !["dev", "release"].contains(&profile.as_str()) {
        return Err(format!("STREAMBOX_PROFILE is '{profile}'; it can be dev, release or empty."));
    }
    say(format!("building the embedded DynamoDB (profile {profile})"));
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--workspace", "--all-features", "--bin", "embedded-dynamodb", "--profile", &profile]);
    cargo.args(["--message-format", "json-render-diagnostics"]).current_dir(Path::new(HERE).join(".."));
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(|error| {
        format!(
            "there is no cargo to build the embedded DynamoDB with ({error}): install Rust (https://rustup.rs), or set \
             STREAMBOX_DYNAMODB=localstack or AWS_ENDPOINT_URL_DYNAMODB."
        )
    })?;
    if !output.status.success() {
        return Err("the embedded DynamoDB cannot be built.".to_owned());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut paths = messages.split("\"executable\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    let path = paths.find(|path| path.ends_with("/embedded-dynamodb"));
    path.map(PathBuf::from).ok_or("cargo names no program that it built.".to_owned())
}

/// The directory of DynamoDB Local, fetched if it is not there.
pub(crate) fn fetch() -> Outcome<PathBuf> {
    fetch::dynamodb_local()
}

/// The Java that DynamoDB Local would run on. It has to be a JDK, since it compiles `DynamoDbLocal.java`.
pub(crate) fn java() -> Outcome<PathBuf> {
    let wanted =
        format!("a JDK of version {JAVA_VERSION_MIN} or newer (Debian's package openjdk-17-jdk-headless, for example)");
    let home = env::var_os("JAVA_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let (java, place) = match &home {
        Some(home) => {
            let java = home.join("bin/java");
            (is_program(&java).then_some(java), format!(" in JAVA_HOME, which is {}", home.display()))
        }
        None => (find_program("java"), String::new()),
    };
    let java = java.ok_or(format!("there is no java{place}: install {wanted}"))?;
    let modules =
        printed(Command::new(&java).arg("--list-modules").stderr(Stdio::null()), JAVA_TIMEOUT).unwrap_or_default();
    let version = modules
        .split("jdk.compiler@")
        .nth(1)
        .and_then(|rest| rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse::<u32>().ok());
    let is_it = version.is_some_and(|version| version >= JAVA_VERSION_MIN);
    is_it.then_some(()).ok_or(format!("{} is not {wanted}", java.display()))?;
    Ok(java)
}
