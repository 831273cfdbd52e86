//! The commands, by their names.

use std::{
    io::{Write as _, stdout},
    os::unix::process::CommandExt as _,
    path::Path,
    process::ExitCode,
};

use crate::{
    HERE, Outcome,
    docker::{self, Compose},
    dynamodb::{self, Dynamodb},
    rabbitmq::Rabbitmq,
    run::{guard, run},
    say,
    service::state_directory,
    system::{steps, system},
    test_mode::test,
    up::{down, up},
};

const WRONG_USAGE: u8 = 2;

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    command(&words, &arguments).map_or_else(
        |problem| {
            say(problem);
            ExitCode::FAILURE
        },
        ExitCode::from,
    )
}

fn command(words: &[&str], arguments: &[String]) -> Outcome<u8> {
    let state = state_directory()?;
    let (broker, endpoint) = (Rabbitmq::of(&state), Dynamodb::of(&state));
    match words {
        ["up"] => print(&up(&state)?),
        ["down"] => Ok(u8::from(!down(&state))),
        ["run", _, ..] => run(&arguments[1..]),
        ["test", _, ..] => test(&arguments[1..]),
        ["system"] => system(&Path::new(HERE).join("orders.ndjson").to_string_lossy()),
        ["system", file] => system(file),
        ["rabbitmq", "start"] => print(&line(&broker.start()?)),
        ["rabbitmq", "stop"] => done(broker.stop(false)),
        ["rabbitmq", "stop", "--hard"] => done(broker.stop(true)),
        ["rabbitmq", "remove"] => done(broker.remove()),
        ["rabbitmq", "url"] => print(&line(&broker.url()?)),
        ["rabbitmq", "ctl", _, ..] => {
            Err(format!("rabbitmqctl cannot be started: {}.", broker.ctl(&arguments[2..])?.exec()))
        }
        ["dynamodb", "start"] => print(&line(&endpoint.start()?)),
        ["dynamodb", "remove"] => done(endpoint.remove()),
        ["dynamodb", "java"] => {
            print(&line(&dynamodb::java().map_err(|problem| format!("{problem}."))?.to_string_lossy()))
        }
        ["dynamodb", "fetch"] => print(&line(&dynamodb::fetch()?.to_string_lossy())),
        ["docker", "engine"] => done(docker::engine()),
        ["docker", "compose"] => done(Compose::find().map(drop)),
        // The program's own.
        ["guard", directory] => Ok(u8::from(!guard(Path::new(directory)))),
        ["system-steps", file] => done(steps(file)),
        _ => {
            say(format!("usage: {}", usage(words.first().copied())));
            Ok(WRONG_USAGE)
        }
    }
}

fn usage(command: Option<&str>) -> &'static str {
    match command {
        Some("up") => "eval \"$(localstack/up)\"",
        Some("down") => "localstack/down",
        Some("run") => "localstack/run COMMAND [ARG...]",
        Some("test") => "localstack/test COMMAND [ARG...]",
        Some("system") => "localstack/system [FILE]",
        Some("rabbitmq") => "localstack/rabbitmq start | stop [--hard] | remove | url | ctl ARG...",
        Some("dynamodb") => "localstack/dynamodb start | remove | java | fetch",
        Some("docker") => "localstack/docker engine | compose",
        _ => "streambox-localstack up | down | run | test | system | rabbitmq | dynamodb | docker",
    }
}

fn done(outcome: Outcome<()>) -> Outcome<u8> {
    outcome.map(|()| 0)
}

fn line(text: &str) -> String {
    format!("{text}\n")
}

/// Without a reader there is nobody to print for.
fn print(text: &str) -> Outcome<u8> {
    let written = stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush());
    written.map(|()| 0).map_err(|error| format!("the result cannot be printed: {error}."))
}
