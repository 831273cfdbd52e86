//! Removes what the tests have started, at their end: `streambox_tests::reaper`.

use std::{io::stdin, path::Path, process::ExitCode};

use streambox_localstack::rabbitmq::Rabbitmq;
use streambox_tests::reaper::{self, Charge, Removal};
use testcontainers::{
    bollard::{errors::Error, query_parameters::RemoveContainerOptionsBuilder},
    core::client::docker_client_instance,
};
use tokio::runtime::{Builder, Runtime};

const NOT_FOUND: u16 = 404;
/// Somebody else is removing it.
const CONFLICT: u16 = 409;

fn main() -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let outcome = reaper::run(stdin().lock(), |charge| match charge {
        Charge::Container(name) => remove_container(&runtime, name),
        Charge::Broker(directory) => remove_broker(directory),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("test-reaper: {error}");
            ExitCode::FAILURE
        }
    }
}

fn remove_container(runtime: &Runtime, name: &str) -> Result<Removal, String> {
    runtime.block_on(async {
        let docker = docker_client_instance().await.map_err(|error| error.to_string())?;
        let with_its_data = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match docker.remove_container(name, Some(with_its_data)).await {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: CONFLICT, .. }) => Ok(Removal::Done),
            Err(Error::DockerResponseServerError { status_code: NOT_FOUND, .. }) => Ok(Removal::Missing),
            Err(error) => Err(error.to_string()),
        }
    })
}

fn remove_broker(directory: &Path) -> Result<Removal, String> {
    if directory.exists() {
        Rabbitmq::of(directory).remove()?;
        // Without a broker in it, it was left as it was.
        let _ = std::fs::remove_dir_all(directory);
    }
    Ok(Removal::Done)
}
