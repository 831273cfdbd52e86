//! `relay.yaml` starts a relay as its command line has it, shut off from the network.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use clap::{CommandFactory as _, Parser as _};
use serde_json::{Value, json};
use streambox_relay::config::{Cli, Command};
use streambox_tests::{
    cloudformation::Template,
    iam::{Access, Policy},
};

use super::{exports, find, list, needed, text};

const OWN_BROKER: (&str, &str) =
    ("AmqpUrlSecretArn", "arn:aws:secretsmanager:us-east-1:111122223333:secret:broker-AbCdEf");

fn resources(more: &[(&str, &str)]) -> Vec<(String, Value)> {
    let template = Template::read("relay.yaml");
    let parameters: Vec<_> = needed(&template).into_iter().chain(more.iter().copied()).collect();
    template.stack(&parameters, &exports()).resources()
}

fn resource(name: &str, more: &[(&str, &str)]) -> Value {
    resources(more).into_iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("no {name}")).1
}

fn container(more: &[(&str, &str)]) -> Value {
    resource("TaskDefinition", more)["Properties"]["ContainerDefinitions"][0].clone()
}

/// What the container's environment comes to on a command line: its command, and each variable by its flag.
fn command_line(container: &Value) -> Vec<String> {
    let cli = Cli::command();
    let run = cli.find_subcommand("run").expect("there is `run`");
    let command = list(&container["Command"]).iter();
    let mut line: Vec<_> = command.map(|word| text(word).to_owned()).collect();
    line.insert(0, "streambox-relay".to_owned());
    let variables = list(&container["Environment"]).iter();
    let secrets = list(&container["Secrets"]).iter();
    let secrets = secrets.map(|secret| json!({ "Name": secret["Name"], "Value": "amqps://user:password@host/%2f" }));
    for variable in variables.cloned().chain(secrets) {
        let (name, value) = (text(&variable["Name"]), text(&variable["Value"]));
        if name == "AWS_REGION" {
            continue;
        }
        let argument = run.get_arguments().find(|argument| argument.get_env().is_some_and(|env| env == name));
        let flag = argument.and_then(|argument| argument.get_long());
        let flag = flag.unwrap_or_else(|| panic!("`run` does not know {name}"));
        line.extend([format!("--{flag}"), value.to_owned()]);
    }
    line
}

/// The settings of a task, with the defaults of the template.
pub(super) fn settings() -> BTreeMap<String, String> {
    let variables = list(&container(&[OWN_BROKER])["Environment"]).to_vec();
    variables.iter().map(|one| (text(&one["Name"]).to_owned(), text(&one["Value"]).to_owned())).collect()
}

/// Settings of `run` that the template leaves to the program, whose defaults suit almost everybody: bounds, timeouts, certificates of
/// one's own, traces. A pod has two of them (`HTTP`, `WORKER_ID`).
const LEFT_TO_THE_PROGRAM: [&str; 22] = [
    "STREAMBOX_AMQP_CA_FILE",
    "STREAMBOX_AMQP_CERT_FILE",
    "STREAMBOX_AMQP_KEY_FILE",
    "STREAMBOX_BATCH_EVENTS",
    "STREAMBOX_BATCH_KIB",
    "STREAMBOX_CLOUDEVENTS_SOURCE",
    "STREAMBOX_CONFIRM_TIMEOUT",
    "STREAMBOX_CONNECT_TIMEOUT",
    "STREAMBOX_HEARTBEAT_INTERVAL",
    "STREAMBOX_HTTP",
    "STREAMBOX_MAX_BUFFERED_MIB",
    "STREAMBOX_MAX_READS",
    "STREAMBOX_MAX_RETRY_DELAY",
    "STREAMBOX_MAX_STREAMS",
    "STREAMBOX_MAX_SUSPECTS",
    "STREAMBOX_OTLP_ENDPOINT",
    "STREAMBOX_PUBLISHERS",
    "STREAMBOX_REMEMBERED_STREAMS",
    "STREAMBOX_RETRY_DELAY",
    "STREAMBOX_SETTLE_WINDOW",
    "STREAMBOX_WORKER_ID",
    "STREAMBOX_WORKER_TIMEOUT",
];

#[test]
fn every_setting_of_the_relay_is_listed_or_left_to_it_on_purpose() {
    let cli = Cli::command();
    let run = cli.find_subcommand("run").expect("there is `run`");
    let known: BTreeSet<_> = run.get_arguments().filter_map(|argument| argument.get_env()).collect();
    let known: BTreeSet<_> = known.into_iter().map(|name| name.to_str().expect("a name").to_owned()).collect();
    let listed = settings().into_keys().filter(|name| name != "AWS_REGION");
    let others = ["STREAMBOX_AMQP_URL"].into_iter().chain(LEFT_TO_THE_PROGRAM).map(str::to_owned);
    assert_eq!(listed.chain(others).collect::<BTreeSet<_>>(), known);
}

#[test]
fn the_task_is_started_as_the_relays_command_line_has_it() {
    let choices: [&[(&str, &str)]; 3] = [
        &[OWN_BROKER],
        &[("BrokerStack", "streambox-broker"), ("Unroutable", "accept"), ("MessageFormat", "cloudevents")],
        &[OWN_BROKER, ("LogLevel", "trace"), ("Exchange", "events"), ("MetricsNamespace", "Team/Orders")],
    ];
    for choice in choices {
        let line = command_line(&container(choice));
        let cli = Cli::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        let Command::Run(run) = cli.command else { panic!("{line:?} is not `run`") };
        run.settings().unwrap_or_else(|error| panic!("{line:?}: {error}"));
    }
}

#[test]
fn a_setting_that_the_template_does_not_choose_has_the_programs_default() {
    let cli = Cli::command();
    let run = cli.find_subcommand("run").expect("there is `run`");
    let settings = settings();
    let defaults = ["EXCHANGE", "UNROUTABLE", "MESSAGE_FORMAT", "POLL_INTERVAL", "BUSY_POLL_INTERVAL", "DRAIN_TIMEOUT"];
    for name in defaults.map(|name| format!("STREAMBOX_{name}")) {
        let argument = run.get_arguments().find(|argument| argument.get_env().is_some_and(|env| env == name.as_str()));
        let default = argument.unwrap_or_else(|| panic!("`run` does not know {name}")).get_default_values();
        assert_eq!(default, [settings[&name].as_str()], "{name}");
    }
}

#[test]
fn a_task_is_killed_only_after_the_time_that_the_relay_takes_to_stop() {
    let container = container(&[OWN_BROKER]);
    let cli = Cli::try_parse_from(command_line(&container)).unwrap();
    let Command::Run(run) = cli.command else { panic!("not `run`") };
    let stop = Duration::from_secs(container["StopTimeout"].as_u64().unwrap());
    // Behind what is in flight: closing the connections, and leaving the group.
    assert!(stop >= run.settings().unwrap().drain_timeout + Duration::from_secs(10));
    assert!(stop <= Duration::from_mins(2), "Fargate allows no more");
}

#[test]
fn the_health_check_is_a_command_of_the_relay() {
    let check = container(&[OWN_BROKER])["HealthCheck"]["Command"].clone();
    let words: Vec<_> = check.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(words[0], "CMD", "no shell is needed");
    Cli::try_parse_from(&words[1..]).unwrap_or_else(|error| panic!("{words:?}: {error}"));
}

#[test]
fn a_task_has_no_way_in_and_can_change_nothing_of_itself() {
    for choice in [OWN_BROKER, ("BrokerStack", "streambox-broker")] {
        let container = container(&[choice]);
        assert_eq!(container["ReadonlyRootFilesystem"], true);
        assert_eq!(container["LinuxParameters"]["Capabilities"]["Drop"], json!(["ALL"]));
        assert!(!container["User"].as_str().unwrap().starts_with('0'));
        assert_eq!(container.get("PortMappings"), None);
        for (name, resource) in resources(&[choice]) {
            let ways_in = find(&resource, &mut |value| value.get("SecurityGroupIngress").cloned());
            assert!(ways_in.is_empty() && resource["Type"] != "AWS::EC2::SecurityGroupIngress", "{name}");
        }
    }
}

#[test]
fn ecs_may_do_what_it_needs_to_start_a_task_and_no_more() {
    let key = ("AmqpUrlKeyArn", "arn:aws:kms:us-east-1:111122223333:key/1");
    let repository = ("RepositoryArn", "arn:aws:ecr:us-east-1:111122223333:repository/streambox-relay");
    let role = resource("ExecutionRole", &[OWN_BROKER, key, repository]);
    let policy = Policy::of(&role["Properties"]["Policies"][0]["PolicyDocument"]);
    let container = container(&[OWN_BROKER, key, repository]);
    let log = container["LogConfiguration"]["Options"].clone();
    let stream = format!(
        "arn:aws:logs:us-east-1:111122223333:log-group:{}:log-stream:{}/{}/0123456789abcdef",
        text(&log["awslogs-group"]),
        text(&log["awslogs-stream-prefix"]),
        text(&container["Name"])
    );
    let secret = text(&container["Secrets"][0]["ValueFrom"]).to_owned();
    let needed = [
        ("logs:CreateLogStream", stream.as_str()),
        ("logs:PutLogEvents", &stream),
        ("secretsmanager:GetSecretValue", &secret),
        ("kms:Decrypt", key.1),
        ("ecr:GetAuthorizationToken", "*"),
        ("ecr:BatchCheckLayerAvailability", repository.1),
        ("ecr:BatchGetImage", repository.1),
        ("ecr:GetDownloadUrlForLayer", repository.1),
    ];
    for (action, resource) in needed {
        let access = Access { action: action.to_owned(), resource: resource.to_owned(), ..Access::default() };
        assert!(policy.allows(&access).is_some(), "{access:?}");
    }
    let granted: BTreeSet<_> = policy.grants().into_iter().map(|(_, action)| action).collect();
    assert_eq!(granted, needed.map(|(action, _)| action.to_owned()).into());
    // Without a key and a repository there is no permission for them.
    let role = resource("ExecutionRole", &[OWN_BROKER]);
    assert_eq!(Policy::of(&role["Properties"]["Policies"][0]["PolicyDocument"]).grants().len(), 3);
}

#[test]
fn there_is_one_broker() {
    let template = Template::read("relay.yaml");
    for (more, is_right) in [
        (vec![OWN_BROKER], true),
        (vec![("BrokerStack", "streambox-broker")], true),
        (vec![], false),
        (vec![OWN_BROKER, ("BrokerStack", "streambox-broker")], false),
    ] {
        let parameters: Vec<_> = needed(&template).into_iter().chain(more.clone()).collect();
        assert_eq!(template.stack(&parameters, &exports()).obeys_rules(), is_right, "{more:?}");
    }
    let by_stack = container(&[("BrokerStack", "streambox-broker")]);
    assert_eq!(by_stack["Secrets"][0]["ValueFrom"], "<broker-AmqpUrlSecretArn>");
    assert_eq!(container(&[OWN_BROKER])["Secrets"][0]["ValueFrom"], OWN_BROKER.1);
}
