//! Containers, by Docker's own programs.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{HERE, Outcome, find_program, printed, say, service::Service, succeeds};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
const PULL_TIMEOUT: Duration = Duration::from_mins(15);
pub(crate) const COMPOSE_TIMEOUT: Duration = Duration::from_mins(3);

/// What compose starts.
const COMPOSE_FILE: &str = include_str!("../compose.yaml");

/// That a Docker engine answers.
///
/// # Errors
/// The reason, as a part of a sentence.
pub fn engine() -> Outcome<()> {
    if find_program("docker").is_none() {
        return Err("there is no docker command".to_owned());
    }
    let mut command = Command::new("docker");
    command.args(["version", "--format", "{{.Server.Version}}"]).stdout(Stdio::piped());
    let answer = crate::bounded(command.stderr(Stdio::piped()), ANSWER_TIMEOUT)?;
    if answer.status.success() {
        return Ok(());
    }
    let words = [answer.stdout, answer.stderr].concat();
    Err(if String::from_utf8_lossy(&words).contains("permission denied") {
        "this user may not use the Docker engine (join the group `docker` and log in again)".to_owned()
    } else {
        "no Docker engine answers".to_owned()
    })
}

/// Docker's compose, of whichever generation.
#[derive(Debug)]
pub(crate) struct Compose(&'static [&'static str]);

impl Compose {
    /// Finds it, and that a Docker engine answers. The error is a part of a sentence.
    pub(crate) fn find() -> Outcome<Self> {
        engine()?;
        // Without the plugin Docker explains its help.
        if printed(Command::new("docker").args(["compose", "version"]).stderr(Stdio::null()), ANSWER_TIMEOUT).is_some()
        {
            Ok(Self(&["docker", "compose"]))
        } else if find_program("docker-compose").is_some() {
            Ok(Self(&["docker-compose"]))
        } else {
            Err("a Docker engine answers, but neither `docker compose` nor `docker-compose` is there".to_owned())
        }
    }

    /// For a service that was started with Docker, and can't be ended without.
    pub(crate) fn of(service: &Service) -> Outcome<Self> {
        Self::find().map_err(|problem| {
            let (name, state) = (service.name, service.state.display());
            format!("the {name} container of {state} was started with Docker, and now {problem}.")
        })
    }

    /// A command of compose. The published port is the recorded one, so that it outlives a restart.
    pub(crate) fn command(&self, service: &Service, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.0[0]);
        command.args(&self.0[1..]).args(["-p", &project(service), "-f"]).arg(Path::new(HERE).join("compose.yaml"));
        let port = service.recorded("port");
        if !port.is_empty() {
            command.env("STREAMBOX_RABBITMQ_PORT", &port).env("STREAMBOX_LOCALSTACK_PORT", &port);
        }
        command.args(arguments);
        command
    }

    pub(crate) fn run(&self, service: &Service, arguments: &[&str]) -> bool {
        succeeds(&mut self.command(service, arguments), COMPOSE_TIMEOUT)
    }

    pub(crate) fn down(&self, service: &Service) -> bool {
        self.run(service, &["down", "--volumes", "--remove-orphans", "--timeout", "0"])
    }
}

/// A compose project for each service and state directory: stacks do not meet, and the end of one takes only its own containers,
/// volumes and network.
#[must_use]
pub fn project(service: &Service) -> String {
    let directory = service.directory();
    let hash = xxhash_rust::xxh3::xxh3_64(directory.as_os_str().as_encoded_bytes());
    format!("streambox-{}-{hash:016x}", service.name)
}

/// The id of the container of one of compose's services; empty if there is none.
pub(crate) fn container(service: &Service, of: &str) -> String {
    let project = format!("label=com.docker.compose.project={}", project(service));
    let of = format!("label=com.docker.compose.service={of}");
    let mut command = Command::new("docker");
    command.args(["ps", "--all", "--quiet", "--filter", &project, "--filter", &of]);
    printed(&mut command, ANSWER_TIMEOUT).unwrap_or_default()
}

/// What `docker inspect` says of a container, in a format; empty if there is none.
pub(crate) fn inspect(container: &str, format: &str) -> String {
    let mut command = Command::new("docker");
    command.args(["inspect", "--format", format, container]).stderr(Stdio::null());
    printed(&mut command, ANSWER_TIMEOUT).unwrap_or_default()
}

/// The image that a variable names, or the compose file's default.
///
/// # Panics
/// If the compose file has no default for it.
#[must_use]
pub fn image(variable: &str) -> String {
    let default = || {
        let (_, rest) = COMPOSE_FILE.split_once(&format!("${{{variable}:-")).expect("the compose file has a default");
        rest.split('}').next().unwrap_or_default().to_owned()
    };
    env::var(variable).ok().filter(|image| !image.is_empty()).unwrap_or_else(default)
}

/// Fetches an image, unless it is there.
pub(crate) fn fetch(image: &str) -> Outcome<()> {
    let mut look = Command::new("docker");
    look.args(["image", "inspect", image]).stdout(Stdio::piped()).stderr(Stdio::null());
    if printed(look.args(["--format", "{{.Id}}"]), ANSWER_TIMEOUT).is_some() {
        return Ok(());
    }
    say(format!("fetching the image {image}"));
    let is_fetched = succeeds(Command::new("docker").args(["pull", "--quiet", image]), PULL_TIMEOUT);
    is_fetched.then_some(()).ok_or(format!("a Docker engine answers, but the image {image} cannot be fetched"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compose_file_says_what_is_used_by_default() {
        assert!(image("STREAMBOX_RABBITMQ_IMAGE").starts_with("rabbitmq:4"));
        assert!(image("STREAMBOX_LOCALSTACK_IMAGE").starts_with("localstack/localstack:"));
    }
}
