//! One container: started on ports of its own, asked until it is ready, stopped, started again.

use std::{
    error::Error,
    io,
    mem::ManuallyDrop,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use streambox_localstack::ports::free_port;
use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, Image as _, ImageExt as _,
    bollard::models::{HostConfig, PortBinding},
    core::{ExecCommand, IntoContainerPort as _, client::docker_client_instance},
    runners::AsyncRunner as _,
};
use tokio::time::{sleep, timeout};

use super::{Outcome, image, told};
use crate::{
    PATIENCE,
    mode::MODE_VARIABLE,
    reaper::{self, Charge},
    unique,
};

/// How often a container is started when other programs take its ports.
const START_ATTEMPTS: u32 = 3;

/// From one question whether a container is ready to the next.
const READY_INTERVAL: Duration = Duration::from_millis(100);
/// The longest that an answer to it may take.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a container has to end in an orderly way.
const STOP_TIMEOUT_S: i32 = 60;
/// Lines of the log shown for a container that does not start.
const LOG_LINES: usize = 15;

/// A handle of a container. It lives until it is removed.
#[derive(Clone, Debug)]
pub(super) struct Container {
    name: String,
    /// Ports of the container, and where they are published on the loopback interface: the same after a restart.
    ports: Vec<(u16, u16)>,
    /// Its own `drop` would remove it, and asks for a runtime.
    inner: Arc<ManuallyDrop<ContainerAsync<GenericImage>>>,
}

impl Container {
    /// Starts a container of the image that `variable` names, fetched if it is missing, with what `prepare` adds.
    pub(super) async fn start(
        variable: &str,
        ports: &[u16],
        prepare: impl Fn(ContainerRequest<GenericImage>) -> ContainerRequest<GenericImage>,
    ) -> Outcome<Self> {
        check_engine().await?;
        let (image, tag) = image::named(variable);
        let image = ports.iter().fold(GenericImage::new(image, tag), |image, port| image.with_exposed_port(port.tcp()));
        let mut attempt = 1;
        loop {
            let published = ports.iter().map(|port| Ok((*port, free_port()?)));
            let ports = published.collect::<Outcome<Vec<_>>>()?;
            let (name, published) = (unique("streambox-test"), ports.clone());
            let request = prepare(image.clone().into())
                .with_container_name(&name)
                .with_host_config_modifier(move |host| publish(host, &published));
            // Reported before it exists, so that at no moment nobody knows of it.
            reaper::charge(&Charge::Container(name.clone()));
            let error = match request.start().await {
                Ok(inner) => return Ok(Self { name, ports, inner: Arc::new(ManuallyDrop::new(inner)) }),
                Err(error) => told(&error),
            };
            reaper::remove(&Charge::Container(name));
            let is_port_taken = ["already allocated", "already in use"].iter().any(|words| error.contains(words));
            if !is_port_taken || attempt == START_ATTEMPTS {
                return Err(format!(
                    "no container of {}:{} can be started: {error}. Fetch the image, or name another one with {variable}",
                    image.name(),
                    image.tag(),
                ));
            }
            attempt += 1;
        }
    }

    /// Where a port of the container is published.
    pub(super) fn port(&self, port: u16) -> u16 {
        let published = self.ports.iter().find(|(inside, _)| *inside == port);
        published.expect("the port is one that it was started with").1
    }

    /// Asks until the answer is good. A container that ends meanwhile never will be ready.
    pub(super) async fn wait_until<T>(&self, answer: impl AsyncFn() -> Outcome<T>) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let problem = match timeout(READY_TIMEOUT, answer()).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(problem)) => problem,
                Err(_) => "it does not answer".to_owned(),
            };
            let is_running = self.inner.is_running().await.map_err(|error| told(&error))?;
            if !is_running || Instant::now() > deadline {
                let (name, log) = (&self.name, self.log().await);
                reaper::remove(&Charge::Container(name.clone()));
                return Err(format!(
                    "the container {name} does not become ready: {problem}. The end of its log:\n{log}"
                ));
            }
            // A server that comes up gives no signal: it is asked again, without keeping it from coming up.
            sleep(READY_INTERVAL).await;
        }
    }

    async fn log(&self) -> String {
        let output = [self.inner.stdout_to_vec().await, self.inner.stderr_to_vec().await];
        let lines = output.into_iter().flatten().flat_map(|output| {
            let text = String::from_utf8_lossy(&output).into_owned();
            let lines: Vec<_> = text.lines().rev().take(LOG_LINES).map(str::to_owned).collect();
            lines.into_iter().rev()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Runs a command in it, which has to succeed.
    pub(super) async fn run(&self, command: Vec<String>) -> Outcome<()> {
        let told = |error| format!("{command:?} can't be run in the container {}: {}", self.name, told(&error));
        let mut run = self.inner.exec(ExecCommand::new(&command)).await.map_err(told)?;
        // The end of the output is the end of the command.
        let output = [run.stdout_to_vec().await.map_err(told)?, run.stderr_to_vec().await.map_err(told)?].concat();
        match run.exit_code().await.map_err(told)? {
            Some(0) => Ok(()),
            code => Err(format!("{command:?} failed with {code:?}:\n{}", String::from_utf8_lossy(&output))),
        }
    }

    /// Stops it in an orderly way.
    pub(super) async fn stop(&self) -> Outcome<()> {
        self.inner.stop_with_timeout(Some(STOP_TIMEOUT_S)).await.map_err(|error| told(&error))
    }

    /// Kills it.
    pub(super) async fn kill(&self) -> Outcome<()> {
        let docker = docker_client_instance().await.map_err(|error| told(&error))?;
        docker.kill_container(&self.name, None).await.map_err(|error| told(&error))
    }

    /// Starts it again, with what it had stored.
    pub(super) async fn start_again(&self) -> Outcome<()> {
        self.inner.start().await.map_err(|error| told(&error))
    }

    /// Has it removed, with what it had stored.
    pub(super) fn remove(&self) {
        reaper::remove(&Charge::Container(self.name.clone()));
    }
}

fn publish(host: &mut HostConfig, ports: &[(u16, u16)]) {
    let binding = |port: u16| {
        vec![PortBinding { host_ip: Some(Ipv4Addr::LOCALHOST.to_string()), host_port: Some(port.to_string()) }]
    };
    host.publish_all_ports = Some(false);
    host.port_bindings =
        Some(ports.iter().map(|(inside, port)| (format!("{inside}/tcp"), Some(binding(*port)))).collect());
}

/// That a Docker engine answers, and this user may use it.
async fn check_engine() -> Outcome<()> {
    let embedded = format!("or leave {MODE_VARIABLE} empty: without containers the tests are the same");
    let problem = match docker_client_instance().await {
        Ok(docker) => match docker.ping().await {
            Ok(_) => return Ok(()),
            Err(error) if is_permission(&error) => {
                return Err(format!(
                    "{MODE_VARIABLE} is containers, but this user may not use the Docker engine: join the group `docker` and log in again, \
                     {embedded}"
                ));
            }
            Err(error) => told(&error),
        },
        Err(error) => told(&error),
    };
    Err(format!(
        "{MODE_VARIABLE} is containers, but no Docker engine answers ({problem}): start one, let DOCKER_HOST name it, {embedded}"
    ))
}

fn is_permission(error: &(dyn Error + 'static)) -> bool {
    let is_one = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    error.downcast_ref::<io::Error>().is_some_and(is_one) || error.source().is_some_and(is_permission)
}
