//! RabbitMQ and LocalStack in containers, which the tests start by themselves ([`Mode::Containers`](crate::mode::Mode)).
//!
//! One of each is shared by all tests of a process. They listen on the loopback interface alone, so the engine has to be on this
//! machine. The [`reaper`](crate::reaper) removes them, whatever becomes of the process.

mod container;
mod image;
mod rabbitmq;

use std::{
    error::Error,
    sync::{LazyLock, OnceLock},
    thread,
};

use testcontainers::{ContainerRequest, GenericImage, ImageExt as _};
use tokio::{
    runtime::{Builder, Runtime},
    task::spawn_blocking,
};

use container::Container;
pub(crate) use rabbitmq::{AMQPS_PORT, File, PLUGINS, Rabbitmq};

use crate::basics::client;

const LOCALSTACK_PORT: u16 = 4566;

/// What came of something, or a sentence that says why not.
type Outcome<T> = Result<T, String>;

/// A test's own runtime ends with the test; what belongs to containers outlives it.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime can be made")
});

/// The broker that the tests share.
///
/// # Panics
/// If it does not start; the message says why, and what to do.
#[must_use]
pub fn rabbitmq_url() -> &'static str {
    static URL: OnceLock<Outcome<String>> = OnceLock::new();
    shared(&URL, async || Ok(Rabbitmq::start(vec![]).await?.url()))
}

/// The engine that the tests share.
///
/// # Panics
/// If it does not start; the message says why, and what to do.
#[must_use]
pub fn localstack_url() -> &'static str {
    static URL: OnceLock<Outcome<String>> = OnceLock::new();
    shared(&URL, start_localstack)
}

async fn start_localstack() -> Outcome<String> {
    let prepare = |request: ContainerRequest<GenericImage>| {
        let request = request.with_env_var("SERVICES", "dynamodb,cloudformation");
        match std::env::var("LOCALSTACK_AUTH_TOKEN") {
            Ok(token) => request.with_env_var("LOCALSTACK_AUTH_TOKEN", token),
            Err(_) => request,
        }
    };
    let container = Container::start("STREAMBOX_LOCALSTACK_IMAGE", &[LOCALSTACK_PORT], prepare).await?;
    let url = format!("http://127.0.0.1:{}", container.port(LOCALSTACK_PORT));
    let client = client(&url, None);
    container.wait_until(async || client.list_tables().send().await.map_err(|error| told(&error))).await?;
    Ok(url)
}

/// Makes what all tests share: once, from any thread; all of them get a failure.
fn shared(
    url: &'static OnceLock<Outcome<String>>,
    start: impl AsyncFnOnce() -> Outcome<String> + Send + 'static,
) -> &'static str {
    let url = url.get_or_init(|| {
        // A thread that waits for one runtime can't wait for another one.
        let started = thread::spawn(|| RUNTIME.block_on(start())).join();
        started.unwrap_or_else(|_| Err("what starts the containers has panicked".to_owned()))
    });
    url.as_ref().unwrap_or_else(|problem| panic!("{problem}"))
}

/// Does something on the containers' runtime, for a test.
async fn on_runtime<T: Send + 'static>(action: impl AsyncFnOnce() -> Outcome<T> + Send + 'static) -> T {
    let outcome = spawn_blocking(|| RUNTIME.block_on(action())).await.expect("nothing panics there");
    outcome.unwrap_or_else(|problem| panic!("{problem}"))
}

/// An error with its causes.
fn told(error: &dyn Error) -> String {
    streambox_relay::Chain(error).to_string()
}
