//! The manifests for Kubernetes start a relay as its command line has it, as shut off as a task of `relay.yaml`, and kustomize finds
//! everything that they name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{CommandFactory as _, Parser as _};
use serde_json::{Value, json};
use streambox_relay::config::{Cli, Command};
use streambox_tests::{cloudformation::Template, yaml};

use super::{find, list, relay, text};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/kubernetes").join(name)
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A file of a directory, as a value.
fn manifest(directory_name: &str, file: &str) -> Value {
    yaml::parse(&read(&directory(directory_name).join(file)))
}

fn pod() -> Value {
    manifest("base", "stateful-set.yaml")["spec"]["template"]["spec"].clone()
}

fn container() -> Value {
    pod()["containers"][0].clone()
}

/// `settings.env`.
fn settings() -> BTreeMap<String, String> {
    let file = read(&directory("base").join("settings.env"));
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once('=').map(|(name, value)| (name.into(), value.into())).expect(line)).collect()
}

/// What the pod's environment comes to on a command line, with an example of what only a cluster knows.
fn command_line(settings: &BTreeMap<String, String>) -> Vec<String> {
    let mut line = vec!["streambox-relay".to_owned()];
    line.extend(list(&container()["args"]).iter().map(|word| text(word).to_owned()));
    let mut variables = settings.clone();
    for variable in list(&container()["env"]) {
        let example = variable["value"].as_str().unwrap_or("amqps://user:password@host/%2f");
        variables.insert(text(&variable["name"]).to_owned(), example.to_owned());
    }
    let cli = Cli::command();
    let run = cli.find_subcommand("run").expect("there is `run`");
    for (name, value) in
        variables.iter().filter(|(name, _)| !["AWS_REGION", "POD_NAME", "POD_NAMESPACE"].contains(&name.as_str()))
    {
        let argument = run.get_arguments().find(|argument| argument.get_env().is_some_and(|env| env == name.as_str()));
        let flag = argument.and_then(|argument| argument.get_long());
        let flag = flag.unwrap_or_else(|| panic!("`run` does not know {name}"));
        line.extend([format!("--{flag}"), value.clone()]);
    }
    line
}

#[test]
fn the_pod_is_started_as_the_relays_command_line_has_it_and_as_a_task_on_fargate() {
    let settings = settings();
    let line = command_line(&settings);
    let cli = Cli::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    let Command::Run(run) = cli.command else { panic!("{line:?} is not `run`") };
    let run = run.settings().unwrap_or_else(|error| panic!("{line:?}: {error}"));
    let stop = container_grace();
    assert!(
        stop >= run.drain_timeout + Duration::from_secs(10),
        "behind what is in flight: closing, leaving the group"
    );

    // The same settings as a task's, with the same values; the pod's metrics are for Prometheus instead of CloudWatch.
    let mut task = relay::settings();
    assert!(task.remove("STREAMBOX_EMF_NAMESPACE").is_some() && task.remove("STREAMBOX_EMF_INTERVAL").is_some());
    assert!(task.remove("AWS_REGION").is_some());
    let mut pod = settings;
    assert_eq!(pod.remove("STREAMBOX_HTTP").as_deref(), Some("0.0.0.0:9090"));
    assert_eq!(pod, task);
}

fn container_grace() -> Duration {
    Duration::from_secs(pod()["terminationGracePeriodSeconds"].as_u64().expect("a number"))
}

#[test]
fn a_pod_can_change_nothing_of_itself_and_its_broker_is_in_no_manifest() {
    let (pod, container) = (pod(), container());
    assert_eq!(
        (&pod["securityContext"]["runAsNonRoot"], &pod["securityContext"]["runAsUser"]),
        (&json!(true), &json!(65532))
    );
    assert_eq!(pod["automountServiceAccountToken"], false);
    let security = &container["securityContext"];
    assert_eq!(
        (&security["readOnlyRootFilesystem"], &security["allowPrivilegeEscalation"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
    let variables = list(&container["env"]);
    let url = variables.iter().find(|variable| variable["name"] == "STREAMBOX_AMQP_URL").expect("there is a broker");
    assert_eq!(url["valueFrom"]["secretKeyRef"], json!({ "name": "streambox-relay-broker", "key": "url" }));
    for (name, file) in files() {
        assert!(!file.contains("amqp://") && !file.contains("amqps://") && !file.contains("kind: Secret"), "{name}");
    }
    let guide = super::GUIDE;
    assert!(guide.contains("create secret generic streambox-relay-broker") && guide.contains("--from-file=url="));
}

#[test]
fn probes_metrics_and_the_way_in_are_the_port_that_the_relay_serves_on() {
    let container = container();
    for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"], json!({ "path": path, "port": "metrics" }), "{probe}");
    }
    let port = container["ports"][0]["containerPort"].clone();
    assert_eq!(settings()["STREAMBOX_HTTP"].rsplit(':').next(), Some(port.to_string().as_str()));
    let service = manifest("base", "service.yaml");
    assert_eq!(service["metadata"]["annotations"]["prometheus.io/port"], port.to_string());
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "metrics");
    let ways_in = manifest("base", "network-policy.yaml")["spec"]["ingress"].clone();
    assert_eq!(list(&ways_in).len(), 1);
    assert_eq!(ways_in[0]["ports"], json!([{ "protocol": "TCP", "port": "metrics" }]));
}

#[test]
fn everything_finds_the_pods_by_their_label_and_each_other_by_name() {
    let set = manifest("base", "stateful-set.yaml");
    let label = set["spec"]["template"]["metadata"]["labels"].clone();
    assert_eq!(set["spec"]["selector"]["matchLabels"], label);
    assert_eq!(manifest("base", "service.yaml")["spec"]["selector"], label);
    assert_eq!(manifest("base", "network-policy.yaml")["spec"]["podSelector"]["matchLabels"], label);
    assert_eq!(manifest("base", "disruption-budget.yaml")["spec"]["selector"]["matchLabels"], label);
    let spread = list(&pod()["topologySpreadConstraints"]).to_vec();
    assert!(spread.len() == 2 && spread.iter().all(|one| one["labelSelector"]["matchLabels"] == label));
    assert_eq!(manifest("base", "service.yaml")["metadata"]["name"], set["spec"]["serviceName"]);
    assert_eq!(manifest("base", "service-account.yaml")["metadata"]["name"], pod()["serviceAccountName"]);
    assert_eq!(
        manifest("base", "kustomization.yaml")["configMapGenerator"][0]["name"],
        container()["envFrom"][0]["configMapRef"]["name"]
    );
    // Its own name in the group, from what no other pod has.
    let id = list(&container()["env"]).iter().find(|variable| variable["name"] == "STREAMBOX_WORKER_ID").cloned();
    assert_eq!(id.expect("a name")["value"], "$(POD_NAMESPACE).$(POD_NAME)");
}

/// Every file of the manifests.
fn files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for name in ["base", "example", "example-keda"] {
        for entry in fs::read_dir(directory(name)).expect("a directory") {
            let path = entry.expect("a file").path();
            files.push((path.display().to_string(), read(&path)));
        }
    }
    files
}

/// What kustomize finds itself wherever it is installed (`infra/lint` builds each directory with it): this finds a file that nothing lists.
#[test]
fn every_manifest_is_listed_and_every_patch_has_its_target() {
    for name in ["base", "example", "example-keda"] {
        let kustomization = manifest(name, "kustomization.yaml");
        let resources = list(&kustomization["resources"]).iter().map(|resource| text(resource).to_owned());
        let (others, listed): (BTreeSet<_>, BTreeSet<_>) = resources.partition(|resource| resource.starts_with("../"));
        assert!(
            others.iter().all(|other| directory(name).join(other).join("kustomization.yaml").is_file()),
            "{others:?}"
        );
        let entries = fs::read_dir(directory(name)).expect("a directory");
        let there = entries.map(|entry| entry.expect("a file").file_name().into_string().expect("a name"));
        let there: BTreeSet<_> =
            there.filter(|file| !["kustomization.yaml", "settings.env"].contains(&file.as_str())).collect();
        assert_eq!(listed, there, "{name}");
        for target in find(&kustomization["patches"], &mut |value| value.get("target").cloned()) {
            let mut base = list(&manifest("base", "kustomization.yaml")["resources"]).to_vec().into_iter();
            let is_target = |file: Value| {
                let resource = manifest("base", text(&file));
                resource["kind"] == target["kind"] && resource["metadata"]["name"] == target["name"]
            };
            assert!(base.any(is_target), "{name}: {target}");
        }
        // A setting that an overlay changes is one that there is.
        for literals in find(&kustomization["configMapGenerator"], &mut |value| value.get("literals").cloned()) {
            for literal in list(&literals) {
                let name = text(literal).split('=').next().expect("a name");
                assert!(name == "AWS_REGION" || settings().contains_key(name), "{name}");
            }
        }
    }
}

#[test]
fn keda_scales_as_relay_yaml_does() {
    let scaled = manifest("example-keda", "scaled-object.yaml")["spec"].clone();
    let relay = Template::read("relay.yaml");
    let default = |name: &str| relay.value()["Parameters"][name]["Default"].clone();
    assert_eq!((&scaled["minReplicaCount"], &scaled["maxReplicaCount"]), (&default("MinTasks"), &default("MaxTasks")));
    let trigger = &scaled["triggers"][0];
    assert_eq!(text(&trigger["metadata"]["threshold"]), default("BacklogPerTask").to_string());
    let table = &settings()["STREAMBOX_TABLE"];
    assert_eq!(trigger["metadata"]["query"], format!("max(streambox_relay_pending_entries{{table=\"{table}\"}})"));
    let set = manifest("base", "stateful-set.yaml");
    assert_eq!(
        scaled["scaleTargetRef"],
        json!({ "apiVersion": set["apiVersion"], "kind": set["kind"], "name": set["metadata"]["name"] })
    );
    assert_eq!(set["spec"]["replicas"], scaled["minReplicaCount"]);
    let policies =
        relay.value()["Resources"]["FollowBacklog"]["Properties"]["TargetTrackingScalingPolicyConfiguration"].clone();
    let behavior = &scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"];
    assert_eq!(behavior["scaleDown"]["stabilizationWindowSeconds"], policies["ScaleInCooldown"]);
}
