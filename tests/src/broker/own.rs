//! A broker of a test's own: a container in container mode, else one of the local stack.

use std::{path::PathBuf, process::Command};

use streambox_localstack::{
    ports::free_port,
    rabbitmq::{HASH_EXCHANGES, Rabbitmq},
};
use tokio::task::spawn_blocking;

use crate::{
    containers::{self, AMQPS_PORT, File},
    mode::Mode,
    reaper::{self, Charge},
    tls::{Authority, Identity},
    unique,
};

/// Where a broker in a container finds its configuration.
const CONFIGURATION: &str = "/etc/rabbitmq/conf.d/90-streambox.conf";
const AUTHORITY: &str = "/etc/rabbitmq/streambox-authority.pem";
const CERTIFICATE: &str = "/etc/rabbitmq/streambox-certificate.pem";
const KEY: &str = "/etc/rabbitmq/streambox-key.pem";

/// Logins by client certificate.
const PLUGIN: &str = "rabbitmq_auth_mechanism_ssl";

/// A broker of a test's own, which can be stopped and started. It is gone with the value, or with the process.
#[derive(Debug)]
pub struct OwnBroker {
    url: String,
    tls_port: Option<u16>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Of the local stack, and its state directory.
    LocalStack(Box<Rabbitmq>, PathBuf),
    Container(containers::Rabbitmq),
}

impl OwnBroker {
    /// Starts a broker.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start() -> Self {
        match Mode::of_tests() {
            Mode::Containers => Self::in_container(vec![]).await,
            Mode::Embedded | Mode::Endpoint { .. } => Self::in_local_stack(None).await,
        }
    }

    /// Starts a broker that speaks TLS as well, on [`tls_port`](Self::tls_port), to clients that show a certificate of
    /// `authority`; such a certificate can be the login. Outside of container mode it is a node of the system's package.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start_with_tls(authority: &Authority, server: &Identity) -> Self {
        let files = [authority.certificate(), &server.certificate, &server.key];
        if *Mode::of_tests() == Mode::Containers {
            let [authority, certificate, key] = files.map(|file| std::fs::read(file).expect("a file can be read"));
            let configuration = tls_configuration(&format!("default = {AMQPS_PORT}"), [AUTHORITY, CERTIFICATE, KEY]);
            return Self::in_container(vec![
                (CONFIGURATION, configuration.into_bytes()),
                (containers::PLUGINS, format!("[{HASH_EXCHANGES},{PLUGIN}].\n").into_bytes()),
                (AUTHORITY, authority),
                (CERTIFICATE, certificate),
                (KEY, key),
            ])
            .await;
        }
        let port = free_port().expect("a free port");
        let files = files.map(|file| file.to_str().expect("the path is UTF-8"));
        Self::in_local_stack(Some((tls_configuration(&format!("1 = 127.0.0.1:{port}"), files), port))).await
    }

    async fn in_container(files: Vec<File>) -> Self {
        let broker = containers::Rabbitmq::of_a_test(files).await;
        Self { url: broker.url(), tls_port: Some(broker.tls_port()), place: Place::Container(broker) }
    }

    async fn in_local_stack(tls: Option<(String, u16)>) -> Self {
        let directory = std::env::temp_dir().join(unique("streambox-broker"));
        std::fs::create_dir(&directory).expect("a directory");
        reaper::charge(&Charge::Broker(directory.clone()));
        let mut broker = Rabbitmq::of(&directory);
        let tls_port = tls.map(|(configuration, port)| {
            let path = directory.join("tls.conf");
            std::fs::write(&path, configuration).expect("a file can be written");
            broker.configuration = Some(path);
            PLUGIN.clone_into(&mut broker.plugins);
            port
        });
        let url = control(&broker, Rabbitmq::start).await;
        Self { url, tls_port, place: Place::LocalStack(Box::new(broker), directory) }
    }

    /// Runs `rabbitmqctl` on it.
    ///
    /// # Panics
    /// If that fails.
    pub async fn ctl(&self, arguments: &[&str]) {
        match &self.place {
            Place::Container(broker) => broker.ctl(arguments).await,
            Place::LocalStack(broker, _) => {
                let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
                control(broker, move |broker| succeed(&mut broker.ctl(&arguments)?)).await;
            }
        }
    }

    /// Its URL, the same after each restart.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it speaks TLS.
    ///
    /// # Panics
    /// If it was started without.
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        self.tls_port.expect("it was started with TLS")
    }

    /// Stops it in an orderly way.
    ///
    /// # Panics
    /// If that fails.
    pub async fn stop(&self) {
        match &self.place {
            Place::Container(broker) => broker.stop().await,
            Place::LocalStack(broker, _) => control(broker, |broker| broker.stop(false)).await,
        }
    }

    /// Kills it.
    ///
    /// # Panics
    /// If that fails.
    pub async fn kill(&self) {
        match &self.place {
            Place::Container(broker) => broker.kill().await,
            Place::LocalStack(broker, _) => control(broker, |broker| broker.stop(true)).await,
        }
    }

    /// Starts it again, with what it had stored.
    ///
    /// # Panics
    /// If it does not start, or at another place.
    pub async fn start_again(&self) {
        match &self.place {
            Place::Container(broker) => broker.start_again().await,
            Place::LocalStack(broker, _) => {
                assert_eq!(control(broker, Rabbitmq::start).await, self.url, "the broker comes back where it was");
            }
        }
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        match &self.place {
            Place::Container(broker) => broker.remove(),
            Place::LocalStack(_, directory) => reaper::remove(&Charge::Broker(directory.clone())),
        }
    }
}

fn tls_configuration(listener: &str, [authority, certificate, key]: [&str; 3]) -> String {
    format!(
        "listeners.ssl.{listener}\n\
         ssl_options.cacertfile = {authority}\n\
         ssl_options.certfile = {certificate}\n\
         ssl_options.keyfile = {key}\n\
         ssl_options.verify = verify_peer\n\
         ssl_options.fail_if_no_peer_cert = true\n\
         ssl_cert_login_from = common_name\n\
         auth_mechanisms.1 = PLAIN\n\
         auth_mechanisms.2 = EXTERNAL\n"
    )
}

/// Does something with a broker of the local stack, which takes its time.
async fn control<T: Send + 'static>(
    broker: &Rabbitmq,
    action: impl FnOnce(&Rabbitmq) -> Result<T, String> + Send + 'static,
) -> T {
    let broker = broker.clone();
    let outcome = spawn_blocking(move || action(&broker)).await.expect("nothing panics there");
    outcome.unwrap_or_else(|problem| panic!("{problem}"))
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let messages = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or_else(|| format!("{command:?} failed:\n{messages}"))
}
