//! Runs a command that tests, in the mode that `STREAMBOX_TEST_MODE` chooses.

use std::{os::unix::process::CommandExt as _, process::Command};

use crate::{Outcome, docker, run::run, variable};

/// Chooses the mode.
const MODE: &str = "STREAMBOX_TEST_MODE";
const ENGINE: &str = "STREAMBOX_TEST_DYNAMODB_URL";

/// Runs the command, and says in a line in which mode, and why.
pub(crate) fn test(command: &[String]) -> Outcome<u8> {
    let mode = variable(MODE);
    match mode.as_str() {
        "" | "embedded" => on_embedded(&mode, command),
        "dynamodb-local" => on_dynamodb_local(command),
        "containers" => on_containers(command),
        _ => Err(format!("{MODE} is '{mode}'; it can be embedded, dynamodb-local, containers or empty.")),
    }
}

fn on_embedded(mode: &str, command: &[String]) -> Outcome<u8> {
    let engine = variable(ENGINE);
    if engine.is_empty() {
        let why = if mode.is_empty() { "is empty" } else { "says so" };
        let others = docker::engine().map_or_else(|problem| format!(", but not here: {problem}"), |()| String::new());
        announce(&format!(
            "embedded, since {MODE} {why}: DynamoDB in the test process, RabbitMQ of the local stack; containers (LocalStack and \
             RabbitMQ) is the other{others}"
        ));
    } else {
        announce(&format!("at {engine}, since {ENGINE} names it"));
    }
    run(command)
}

fn on_dynamodb_local(command: &[String]) -> Outcome<u8> {
    announce(&format!("dynamodb-local, since {MODE} says so: AWS's DynamoDB Local and RabbitMQ of the local stack"));
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let with_engine = format!("{ENGINE}=$AWS_ENDPOINT_URL_DYNAMODB exec \"$@\"");
    let mut run = Command::new(this);
    // An end point of the user's own is not meant.
    run.env_remove("AWS_ENDPOINT_URL_DYNAMODB").env("STREAMBOX_DYNAMODB", "dynamodb-local");
    Err(run.args(["run", "/bin/sh", "-c", &with_engine, "sh"]).args(command).exec().to_string())
}

fn on_containers(command: &[String]) -> Outcome<u8> {
    docker::engine().map_err(|problem| format!("{MODE}=containers asks for containers, but {problem}."))?;
    announce(&format!(
        "containers, since {MODE} says so: {} and {}, which the tests start; embedded is the other, without Docker",
        docker::image("STREAMBOX_LOCALSTACK_IMAGE"),
        docker::image("STREAMBOX_RABBITMQ_IMAGE")
    ));
    let error = Command::new(&command[0]).args(&command[1..]).exec();
    Err(format!("{} cannot be started: {error}.", command[0]))
}

fn announce(mode: &str) {
    eprintln!("tests: mode {mode}");
}
