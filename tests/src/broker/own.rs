//! A broker of a test's own: a container in container mode, else one of the local stack.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use tokio::process::Command;

use crate::{
    containers::{AMQPS_PORT, File, Rabbitmq},
    mode::Mode,
    reaper::{self, Charge},
    tls::{Authority, Identity},
    unique,
};

/// Where a broker in a container finds its configuration.
const CONFIGURATION: &str = "/etc/rabbitmq/conf.d/90-streambox.conf";
const PLUGINS: &str = "/etc/rabbitmq/enabled_plugins";
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
    /// Of the local stack, by its state directory.
    LocalStack(PathBuf),
    Container(Rabbitmq),
}

impl OwnBroker {
    /// Starts a broker.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start() -> Self {
        match Mode::of_tests() {
            Mode::Containers => Self::in_container(vec![]).await,
            Mode::Embedded | Mode::Endpoint { .. } => Self::in_local_stack(&[], None).await,
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
                (PLUGINS, format!("[{PLUGIN}].\n").into_bytes()),
                (AUTHORITY, authority),
                (CERTIFICATE, certificate),
                (KEY, key),
            ])
            .await;
        }
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.local_addr().expect("a bound address").port()
        };
        let files = files.map(|file| file.to_str().expect("the path is UTF-8"));
        let configuration = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(configuration.path(), tls_configuration(&format!("1 = 127.0.0.1:{port}"), files))
            .expect("a file can be written");
        let configuration = configuration.path().to_str().expect("the path is UTF-8");
        let settings = [("STREAMBOX_RABBITMQ_CONFIG", configuration), ("STREAMBOX_RABBITMQ_PLUGINS", PLUGIN)];
        Self::in_local_stack(&settings, Some(port)).await
    }

    async fn in_container(files: Vec<File>) -> Self {
        let broker = Rabbitmq::of_a_test(files).await;
        Self { url: broker.url(), tls_port: Some(broker.tls_port()), place: Place::Container(broker) }
    }

    async fn in_local_stack(settings: &[(&str, &str)], tls_port: Option<u16>) -> Self {
        let directory = std::env::temp_dir().join(unique("streambox-broker"));
        std::fs::create_dir(&directory).expect("a directory");
        reaper::charge(&Charge::Broker(directory.clone()));
        let output = command(&directory, &["start"]).envs(settings.iter().copied()).output();
        let url = printed(&["start"], &output.await.expect("localstack/rabbitmq runs"));
        Self { url, tls_port, place: Place::LocalStack(directory) }
    }

    /// Runs `rabbitmqctl` on it.
    ///
    /// # Panics
    /// If that fails.
    pub async fn ctl(&self, arguments: &[&str]) {
        match &self.place {
            Place::Container(broker) => broker.ctl(arguments).await,
            Place::LocalStack(directory) => {
                let arguments: Vec<_> = ["ctl"].iter().chain(arguments).copied().collect();
                control(directory, &arguments).await;
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
            Place::LocalStack(directory) => _ = control(directory, &["stop"]).await,
        }
    }

    /// Kills it.
    ///
    /// # Panics
    /// If that fails.
    pub async fn kill(&self) {
        match &self.place {
            Place::Container(broker) => broker.kill().await,
            Place::LocalStack(directory) => _ = control(directory, &["stop", "--hard"]).await,
        }
    }

    /// Starts it again, with what it had stored.
    ///
    /// # Panics
    /// If it does not start, or at another place.
    pub async fn start_again(&self) {
        match &self.place {
            Place::Container(broker) => broker.start_again().await,
            Place::LocalStack(directory) => {
                assert_eq!(control(directory, &["start"]).await, self.url, "the broker comes back where it was");
            }
        }
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        match &self.place {
            Place::Container(broker) => broker.remove(),
            Place::LocalStack(directory) => reaper::remove(&Charge::Broker(directory.clone())),
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

/// The program that starts, stops and removes brokers of the local stack.
#[must_use]
pub fn control_program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../localstack/rabbitmq")
}

fn command(state: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(control_program());
    command.args(arguments).env("STREAMBOX_STATE_DIR", state).stdin(Stdio::null());
    command
}

async fn control(state: &Path, arguments: &[&str]) -> String {
    printed(arguments, &command(state, arguments).output().await.expect("localstack/rabbitmq runs"))
}

fn printed(arguments: &[&str], output: &Output) -> String {
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "localstack/rabbitmq {arguments:?} failed:\n{messages}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
