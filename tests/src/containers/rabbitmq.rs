//! RabbitMQ in a container.

use lapin::{Connection, ConnectionProperties};
use streambox_localstack::rabbitmq::HASH_EXCHANGES;
use testcontainers::{ContainerRequest, CopyTargetOptions, GenericImage, ImageExt as _};

use super::{Container, Outcome, on_runtime, told};

const AMQP_PORT: u16 = 5672;
/// Where a broker in a container listens for TLS, if configured to.
pub(crate) const AMQPS_PORT: u16 = 5671;

/// The Erlang VM reserves memory for every file that it may open, gigabytes if there is no limit. An engine can only lower its own.
const MAX_OPEN_FILES: i64 = 16_384;

/// Where a broker in a container finds the plugins that it enables.
pub(crate) const PLUGINS: &str = "/etc/rabbitmq/enabled_plugins";

/// A file in a container: its path, and what is in it.
pub(crate) type File = (&'static str, Vec<u8>);

/// A handle of a broker in a container.
#[derive(Clone, Debug)]
pub(crate) struct Rabbitmq(Container);

impl Rabbitmq {
    /// Starts one with more files, for its configuration.
    pub(super) async fn start(mut files: Vec<File>) -> Outcome<Self> {
        if files.iter().all(|(path, _)| *path != PLUGINS) {
            files.push((PLUGINS, format!("[{HASH_EXCHANGES}].\n").into_bytes()));
        }
        let prepare = |request: ContainerRequest<GenericImage>| {
            let request = request.with_ulimit("nofile", MAX_OPEN_FILES, Some(MAX_OPEN_FILES));
            files.iter().fold(request, |request, (path, content)| {
                // The broker's user has to be able to read them.
                request.with_copy_to(CopyTargetOptions::new(*path).with_mode(0o644), content.clone())
            })
        };
        let broker = Self(Container::start("STREAMBOX_RABBITMQ_IMAGE", &[AMQP_PORT, AMQPS_PORT], prepare).await?);
        broker.wait_until_ready().await?;
        Ok(broker)
    }

    /// As [`start`](Self::start), from a test.
    pub(crate) async fn of_a_test(files: Vec<File>) -> Self {
        on_runtime(|| Self::start(files)).await
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.0.port(AMQP_PORT))
    }

    /// The port on this machine where TLS is spoken, if the broker is configured to.
    pub(crate) fn tls_port(&self) -> u16 {
        self.0.port(AMQPS_PORT)
    }

    /// An open port proves nothing: Docker's proxy accepts connections before the broker listens. So we log in.
    async fn wait_until_ready(&self) -> Outcome<()> {
        let url = self.url();
        let login = async || {
            let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
            connection.close(200, "ready".into()).await
        };
        self.0.wait_until(async || login().await.map_err(|error| told(&error))).await
    }

    pub(crate) async fn ctl(&self, arguments: &[&str]) {
        let command = ["rabbitmqctl"].iter().chain(arguments).map(|&argument| argument.to_owned()).collect();
        let broker = self.clone();
        on_runtime(async move || broker.0.run(command).await).await;
    }

    pub(crate) async fn stop(&self) {
        let broker = self.clone();
        on_runtime(async move || broker.0.stop().await).await;
    }

    pub(crate) async fn kill(&self) {
        let broker = self.clone();
        on_runtime(async move || broker.0.kill().await).await;
    }

    pub(crate) async fn start_again(&self) {
        let broker = self.clone();
        on_runtime(async move || {
            broker.0.start_again().await?;
            broker.wait_until_ready().await
        })
        .await;
    }

    pub(crate) fn remove(&self) {
        self.0.remove();
    }
}
