//! The whole system from containers, once.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    HERE, Outcome,
    docker::{self, COMPOSE_TIMEOUT, Compose},
    ports::free_port,
    run::run_own,
    say,
    service::{Service, state_directory},
    succeeds, variable, wait_until,
};

const BUILD_TIMEOUT: Duration = Duration::from_hours(1);
const HEALTHY_TIMEOUT: Duration = Duration::from_mins(3);
const DEMO_TIMEOUT: Duration = Duration::from_hours(2);
const BUILT_IMAGE: &str = "streambox-relay:local";
const IMAGE_VARIABLE: &str = "STREAMBOX_RELAY_IMAGE";

/// Builds the relay's image, starts LocalStack, RabbitMQ and the relay, imports an event log, consumes it, and takes everything
/// down.
pub(crate) fn system(file: &str) -> Outcome<u8> {
    let file = std::fs::canonicalize(file).ok().filter(|path| std::fs::File::open(path).is_ok());
    let file = file.ok_or("there is no such file that can be read.".to_owned())?;
    if !Path::new(HERE).join("../infra/table.yaml").exists() {
        return Err("there is no infra/table.yaml to deploy.".to_owned());
    }
    Compose::find().map_err(|problem| format!("this needs containers, but {problem}."))?;
    for variable in ["STREAMBOX_RABBITMQ_IMAGE", "STREAMBOX_LOCALSTACK_IMAGE"] {
        docker::fetch(&docker::image(variable)).map_err(|problem| format!("{problem}."))?;
    }
    run_own(&["system-steps", &file.to_string_lossy()])
}

struct System {
    service: Service,
    compose: Compose,
    settings: Vec<(&'static str, String)>,
}

/// The steps, in the process that a signal ends: whatever it has started is removed by its parent's guard.
pub(crate) fn steps(file: &str) -> Outcome<()> {
    let service = Service { name: "system", state: state_directory()? };
    let _lock = service.lock()?;
    let image = variable(IMAGE_VARIABLE);
    // The ports are this stack's own: nothing is in the way of another one.
    let settings = vec![
        ("STREAMBOX_RABBITMQ_PORT", free_port()?.to_string()),
        ("STREAMBOX_LOCALSTACK_PORT", free_port()?.to_string()),
        ("STREAMBOX_RELAY_PORT", free_port()?.to_string()),
        ("STREAMBOX_TABLE", "streambox".to_owned()),
        (IMAGE_VARIABLE, if image.is_empty() { BUILT_IMAGE.to_owned() } else { image.clone() }),
    ];
    let system = System { service, compose: Compose::find()?, settings };
    if image.is_empty() {
        say("building the relay's image");
        if !system.run(BUILD_TIMEOUT, &["build", "relay"]) {
            return Err("the relay's image cannot be built.".to_owned());
        }
    } else {
        docker::fetch(&image).map_err(|problem| format!("{problem}."))?;
    }
    system.service.record("mode", "docker")?;
    system.go(file).inspect_err(|_| {
        system.run(COMPOSE_TIMEOUT, &["logs", "--tail", "15", "table", "relay"]);
    })
}

impl System {
    fn go(&self, file: &str) -> Outcome<()> {
        say("starting LocalStack, RabbitMQ and the relay");
        if !self.run(COMPOSE_TIMEOUT, &["up", "--detach", "--no-build"]) {
            return Err("the containers do not start; if an earlier attempt was cut short, try again.".to_owned());
        }
        let health = || self.relay("{{.State.Health.Status}}");
        if !wait_until(HEALTHY_TIMEOUT, || health() == "healthy" || self.relay("{{.State.Status}}") == "exited") {
            return Err(format!("the relay is not healthy within {} seconds.", HEALTHY_TIMEOUT.as_secs()));
        }
        if health() != "healthy" {
            return Err("the relay has ended.".to_owned());
        }
        self.publish(file)?;
        // Told to stop, it finishes what it is at, and ends well.
        say("stopping the relay");
        self.run(COMPOSE_TIMEOUT, &["stop", "relay"]);
        let code = self.relay("{{.State.ExitCode}}");
        (code == "0").then_some(()).ok_or(format!("the relay ended with {code}."))
    }

    fn publish(&self, file: &str) -> Outcome<()> {
        let [rabbitmq, localstack] = [&self.settings[0].1, &self.settings[1].1];
        let profile = Some(variable("STREAMBOX_PROFILE")).filter(|name| !name.is_empty()).unwrap_or("dev".to_owned());
        let mut demo = Command::new("cargo");
        demo.current_dir(Path::new(HERE).join(".."))
            .args(["run", "--quiet", "--all-features", "--profile", &profile, "--bin", "streambox-demo", "--"])
            .args(["--relay-runs", file])
            .envs([("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", "local"), ("AWS_SECRET_ACCESS_KEY", "local")])
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ENDPOINT_URL_DYNAMODB", format!("http://127.0.0.1:{localstack}"))
            .env("STREAMBOX_AMQP_URL", format!("amqp://guest:guest@127.0.0.1:{rabbitmq}/%2f"))
            .env("STREAMBOX_TABLE", "streambox");
        let done = crate::bounded(demo.stdout(Stdio::inherit()), DEMO_TIMEOUT)?;
        done.status.success().then_some(()).ok_or("not everything has come through.".to_owned())
    }

    /// Compose, with every service.
    fn run(&self, limit: Duration, arguments: &[&str]) -> bool {
        let arguments: Vec<_> = ["--profile", "relay"].iter().chain(arguments).copied().collect();
        let settings = self.settings.iter().map(|(name, value)| (name, value));
        succeeds(self.compose.command(&self.service, &arguments).envs(settings), limit)
    }

    fn relay(&self, format: &str) -> String {
        docker::inspect(&docker::container(&self.service, "relay"), format)
    }
}
