//! `broker.yaml` loses no queue by a change of the stack, and gives the relay a login of its own.

use serde_json::{Value, json};
use streambox_tests::cloudformation::Template;

use super::{exports, find, list, needed, text};

fn resources(more: &[(&str, &str)]) -> Vec<(String, Value)> {
    let template = Template::read("broker.yaml");
    let parameters: Vec<_> = needed(&template).into_iter().chain(more.iter().copied()).collect();
    template.stack(&parameters, &exports()).resources()
}

fn resource(name: &str, more: &[(&str, &str)]) -> Value {
    resources(more).into_iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("no {name}")).1
}

#[test]
fn a_broker_outlives_its_stack_with_what_it_takes_to_reach_it() {
    let kept = [
        "Broker",
        "BrokerSecurityGroup",
        "ClientSecurityGroup",
        "AmqpFromClients",
        "ConsoleFromClients",
        "LoginSecret",
    ];
    for name in kept {
        let resource = resource(name, &[]);
        let policies = (&resource["DeletionPolicy"], &resource["UpdateReplacePolicy"]);
        assert_eq!(policies, (&json!("Retain"), &json!("Retain")), "{name}");
    }
}

/// A change that would need another broker is refused by its name, and a second stack has a name of its own.
#[test]
fn a_broker_has_the_name_of_its_stack_whatever_else_is_chosen() {
    for mode in ["SINGLE_INSTANCE", "CLUSTER_MULTI_AZ"] {
        let broker = resource("Broker", &[("DeploymentMode", mode)]);
        assert_eq!(broker["Properties"]["BrokerName"], "streambox-broker");
    }
    assert_eq!(resource("Broker", &[("BrokerName", "orders")])["Properties"]["BrokerName"], "orders");
}

#[test]
fn the_relay_does_not_log_in_as_the_administrator() {
    let administrator = resource("Broker", &[])["Properties"]["Users"].clone();
    let [administrator] = list(&administrator) else { panic!("Amazon MQ takes one user: {administrator}") };
    let url = text(&resource("AmqpUrlSecret", &[])["Properties"]["SecretString"]).to_owned();
    let login = text(&resource("RelayLoginSecret", &[])["Properties"]["GenerateSecretString"]["SecretStringTemplate"])
        .to_owned();
    let login: Value = serde_json::from_str(&login).unwrap();
    let user = text(&login["username"]);
    assert_ne!(administrator["Username"], user);
    assert!(url.starts_with(&format!("amqps://{user}:{{{{resolve:secretsmanager:<RelayLoginSecret>:")), "{url}");
    // The guide makes that user, and lets it publish alone.
    let guide = super::GUIDE;
    assert!(
        guide.contains(&format!("api PUT users/{user} "))
            && guide.contains(&format!("api PUT permissions/%2F/{user} "))
    );
}

#[test]
fn memory_and_disk_are_watched_by_what_rabbitmq_blocks_at() {
    let broker = resource("Broker", &[])["Properties"]["BrokerName"].clone();
    for (alarm, names) in [
        ("MemoryIsShort", ["RabbitMQMemUsed", "RabbitMQMemLimit"]),
        ("DiskIsShort", ["RabbitMQDiskFree", "RabbitMQDiskFreeLimit"]),
    ] {
        let alarm = resource(alarm, &[("AlarmTopicArn", "arn:aws:sns:us-east-1:111122223333:alarms")]);
        let metrics = find(&alarm, &mut |value| value.get("MetricName").map(|_| value.clone()));
        let found: Vec<_> = metrics.iter().map(|metric| text(&metric["MetricName"])).collect();
        assert_eq!(found, names);
        for metric in &metrics {
            assert_eq!((&metric["Namespace"], &metric["Dimensions"][0]["Value"]), (&json!("AWS/AmazonMQ"), &broker));
        }
        assert_eq!(list(&alarm["Properties"]["AlarmActions"]).len(), 1);
        // One of the three is what the alarm is on.
        let shown = list(&alarm["Properties"]["Metrics"]).iter().filter(|metric| metric["ReturnData"] != false);
        assert_eq!(shown.count(), 1);
    }
}
