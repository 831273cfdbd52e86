//! Brings a stack up, or finds it running, and says how to reach it; ends it.

use std::{fmt::Write as _, path::Path, time::Duration};

use crate::{
    Outcome, dynamodb::Dynamodb, probe::Url, rabbitmq::Rabbitmq, rabbitmq::remove, say, service::Service, variable,
    wait_until,
};

const GIVEN_SERVICE_TIMEOUT: Duration = Duration::from_secs(5);

const BROKER: &str = "STREAMBOX_AMQP_URL";
const ENDPOINT: &str = "AWS_ENDPOINT_URL_DYNAMODB";

/// The URLs that an earlier `up` has printed: with it, a later one knows which settings are not the user's own. Joined by a character
/// that no shell has to quote.
const OURS: &str = "STREAMBOX_LOCALSTACK_URLS";

/// Starts what is missing, and waits until both services answer. Returns the settings: lines `export NAME=value`.
pub(crate) fn up(state: &Path) -> Outcome<String> {
    let (own_broker, own_endpoint) = (given(BROKER), given(ENDPOINT));
    let broker = if own_broker.is_empty() { Rabbitmq::of(state).start()? } else { check_broker(&own_broker)? };
    let endpoint = if own_endpoint.is_empty() { Dynamodb::of(state).start()? } else { check_endpoint(&own_endpoint)? };
    let regions = [variable("AWS_REGION"), variable("AWS_DEFAULT_REGION"), "us-east-1".to_owned()];
    let region = regions.into_iter().find(|region| !region.is_empty()).unwrap_or_default();
    let started: Vec<_> = [(&own_broker, &broker), (&own_endpoint, &endpoint)]
        .into_iter()
        .filter_map(|(own, url)| own.is_empty().then_some(url.as_str()))
        .collect();
    let mut settings = vec![(BROKER, broker.as_str()), (ENDPOINT, &endpoint), ("AWS_REGION", &region)];
    // Real credentials are never sent to a stand-in, and those for the user's own endpoint stay.
    if own_endpoint.is_empty() || !has_credentials() {
        settings.extend([("AWS_ACCESS_KEY_ID", "local"), ("AWS_SECRET_ACCESS_KEY", "local")]);
        settings.push(("AWS_EC2_METADATA_DISABLED", "true"));
    }
    let started = started.join("+");
    settings.push((OURS, &started));
    let mut lines = String::new();
    for (name, value) in settings {
        let _ = writeln!(lines, "export {name}={}", quoted(value));
    }
    say("RabbitMQ and DynamoDB answer.");
    Ok(lines)
}

/// Ends everything that [`up()`] has started, and removes the state directory. A broker or an endpoint of the user's own is left alone.
/// Returns whether all went well: the one service goes even if the other can't.
pub(crate) fn down(state: &Path) -> bool {
    let of = |name| Service { name, state: state.to_owned() };
    let outcomes = ["dynamodb", "rabbitmq", "system"].map(|name| remove(&of(name)));
    { outcomes.iter() }.filter_map(|outcome| outcome.as_ref().err()).for_each(say);
    outcomes.iter().all(Result::is_ok)
}

/// The value of a variable, unless an earlier `up` put it there, maybe of a stack that is gone.
fn given(name: &str) -> String {
    let value = variable(name);
    let is_ours = variable(OURS).split('+').any(|url| url == value);
    if is_ours { String::new() } else { value }
}

/// The messages name host and port alone: the URL holds a password.
fn check_broker(url: &str) -> Outcome<String> {
    let broker = Url::parse(url);
    let broker = broker.ok_or(format!("{BROKER} is not a URL such as amqp://user:password@host:5672/%2f."))?;
    // There is no TLS here.
    let answers = || if broker.scheme == "amqps" { broker.is_open() } else { broker.amqp_answers() };
    if wait_until(GIVEN_SERVICE_TIMEOUT, answers) {
        return Ok(url.to_owned());
    }
    let Url { host, port, .. } = broker;
    Err(format!("no RabbitMQ answers at {host}:{port}, which {BROKER} names. Unset it to have one started."))
}

fn check_endpoint(url: &str) -> Outcome<String> {
    let endpoint = Url::parse(url);
    let endpoint =
        endpoint.ok_or(format!("{ENDPOINT} is '{url}'; it has to be a URL such as http://127.0.0.1:8000."))?;
    // Whatever it answers, it is there: it may want better credentials than ours.
    let is_http = |line: String| line.starts_with("HTTP/");
    let answers = || {
        if endpoint.scheme == "https" { endpoint.is_open() } else { endpoint.dynamodb_status().is_some_and(is_http) }
    };
    let is_there = wait_until(GIVEN_SERVICE_TIMEOUT, answers);
    is_there
        .then(|| url.to_owned())
        .ok_or(format!("nothing answers at {url}, which {ENDPOINT} names. Unset it to have a DynamoDB started."))
}

/// Whether the AWS SDK would find credentials of the user's.
fn has_credentials() -> bool {
    let variables = [
        "AWS_ACCESS_KEY_ID",
        "AWS_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    let is_file = |(name, default): (&str, &str)| {
        let (named, home) = (variable(name), variable("HOME"));
        if named.is_empty() { Path::new(&home).join(default).exists() } else { Path::new(&named).exists() }
    };
    let files = [("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"), ("AWS_CONFIG_FILE", ".aws/config")];
    variables.iter().any(|name| !variable(name).is_empty()) || files.into_iter().any(is_file)
}

/// As a shell reads it.
fn quoted(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-+.:/@%,=".contains(&byte);
    if !value.is_empty() && value.bytes().all(is_plain) {
        value.to_owned()
    } else if value.is_empty() {
        "''".to_owned()
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_quoted_where_a_shell_would_read_something_else() {
        let url = "amqp://guest:guest@127.0.0.1:5672/%2f";
        for (value, shown) in [(url, url), ("", "''"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("$(x)", "'$(x)'")] {
            assert_eq!(quoted(value), shown);
        }
    }
}
