//! The templates of `infra`: they say what the programs do, they fit together, and they can be deployed.

mod broker;
mod deployed;
mod kubernetes;
mod monitoring;
mod policies;
mod prometheus;
mod relay;
mod table;
mod terraform;

use std::{collections::HashMap, path::Path};

use serde_json::Value;
use streambox_tests::{cloudformation::Template, iam::table_arn};

/// What the stacks before export, with the names that the guide gives them.
fn exports() -> HashMap<String, String> {
    let own = |name: &str| (format!("streambox-{name}"), format!("<{name}>"));
    let names = ["broker-AmqpUrlSecretArn", "broker-ClientSecurityGroupId", "roles-RelayPolicyArn"];
    let mut exports: HashMap<_, _> = names.map(own).into();
    exports.insert("streambox-table-TableName".to_owned(), "streambox".to_owned());
    exports.insert("streambox-table-TableArn".to_owned(), table_arn("streambox"));
    exports.insert("streambox-inbox-TableArn".to_owned(), table_arn("streambox-inbox"));
    exports
}

/// Values for the parameters that have no default.
fn needed(template: &Template) -> Vec<(&str, &str)> {
    let values = [
        ("VpcId", "vpc-1"),
        ("SubnetIds", "subnet-1,subnet-2"),
        ("Image", "111122223333.dkr.ecr.us-east-1.amazonaws.com/streambox-relay:0.1.0"),
    ];
    let is_needed = |name: &str| template.section("Parameters").any(|(found, _)| found == name);
    values.into_iter().filter(|(name, _)| is_needed(name)).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

/// Every value below `value` that `wanted` takes.
fn find<T>(value: &Value, wanted: &mut impl FnMut(&Value) -> Option<T>) -> Vec<T> {
    let mut found: Vec<T> = wanted(value).into_iter().collect();
    match value {
        Value::Array(list) => found.extend(list.iter().flat_map(|value| find(value, wanted)).collect::<Vec<_>>()),
        Value::Object(map) => found.extend(map.values().flat_map(|value| find(value, wanted)).collect::<Vec<_>>()),
        _ => {}
    }
    found
}

#[test]
fn every_parameter_says_what_it_is_and_what_is_allowed() {
    for template in Template::all() {
        for (name, parameter) in template.section("Parameters") {
            let whose = format!("{}: {name}", template.name);
            assert!(
                parameter["Description"].as_str().is_some_and(|text| text.ends_with('.')),
                "{whose} has no description"
            );
            let is_bounded = ["AllowedPattern", "MaxValue"].iter().any(|bound| parameter.get(bound).is_some());
            assert!(
                !is_bounded || parameter["ConstraintDescription"].is_string(),
                "{whose} does not say what it can be"
            );
            let kind = parameter["Type"].as_str().unwrap();
            let bounds = ["AllowedPattern", "AllowedValues", "MinValue", "MaxLength"];
            let is_free = kind == "String" && bounds.iter().all(|bound| parameter.get(bound).is_none());
            assert!(!is_free, "{whose} can be anything");
        }
    }
}

#[test]
fn everything_that_one_template_imports_another_one_exports() {
    let templates = Template::all();
    let mut exported = HashMap::new();
    let all = exports();
    for template in &templates {
        exported.extend(template.stack(&needed(template), &all).exports());
    }
    let mut imports = 0;
    for template in &templates {
        // With every stack by its name in the guide.
        let stacks = template.section("Parameters").filter(|(name, _)| name.ends_with("Stack"));
        let stacks =
            stacks.map(|(name, _)| (name, format!("streambox-{}", name.trim_end_matches("Stack").to_lowercase())));
        let stacks: Vec<_> = stacks.collect();
        for name in find(template.value(), &mut |value| value.get("Fn::ImportValue").cloned()) {
            let mut name = name["Fn::Sub"].as_str().expect("an import is named by its stack").to_owned();
            for (parameter, stack) in &stacks {
                name = name.replace(&format!("${{{parameter}}}"), stack);
            }
            assert!(exported.contains_key(&name), "{} imports {name}, and nothing exports it", template.name);
            imports += 1;
        }
    }
    assert!(imports > 0);
}

#[test]
fn no_image_that_has_a_tag_expires_since_a_relay_may_run_it() {
    let template = Template::read("repository.yaml");
    let repository = template.stack(&[("UntaggedDays", "7")], &exports()).resource("Repository");
    let policy = text(&repository["Properties"]["LifecyclePolicy"]["LifecyclePolicyText"]).to_owned();
    let policy: Value = serde_json::from_str(&policy).unwrap_or_else(|error| panic!("{error}: {policy}"));
    let rules = list(&policy["rules"]);
    assert!(rules.iter().all(|rule| rule["selection"]["tagStatus"] == "untagged"), "{policy}");
    assert_eq!(rules[0]["selection"]["countNumber"], 7);
}

#[test]
fn the_guide_builds_the_image_from_bases_by_digest_and_lists_what_is_in_it() {
    let dockerfile = include_str!("../../../../relay/Dockerfile");
    let build = GUIDE.split("docker buildx build ").nth(1).and_then(|rest| rest.split("--push").next());
    let build = build.expect("the guide builds the image").replace("\\\n", " ");
    assert!(build.contains("--sbom=true") && build.contains("--provenance="), "{build}");
    let given: Vec<_> = build.split("--build-arg ").skip(1).filter_map(|rest| rest.split_once('=')).collect();
    for (name, _) in &given {
        assert!(dockerfile.lines().any(|line| line.starts_with(&format!("ARG {name}"))), "{name}");
    }
    // Every base is one of them.
    let bases = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM "));
    for base in bases {
        let name = base.split(' ').next().expect("an image").trim_matches(['$', '{', '}']);
        assert!(given.iter().any(|(given, value)| *given == name && value.starts_with("\"$(pinned ")), "{base}");
    }
}

/// After a restore the table is one that no stack has made, and exports nothing.
#[test]
fn policies_relay_alarms_and_dashboard_can_be_of_a_restored_table() {
    let mut others = exports();
    others.retain(|name, _| !name.starts_with("streambox-table"));
    let restored = ("TableName", "streambox-restored");
    let resources = |name: &str, more: &[(&str, &str)]| {
        let template = Template::read(name);
        let parameters: Vec<_> = needed(&template).into_iter().chain([restored]).chain(more.iter().copied()).collect();
        template.stack(&parameters, &others).resources()
    };
    for (name, policy) in resources("roles.yaml", &[]) {
        let arns = find(&policy["Properties"]["PolicyDocument"], &mut |value| value.get("Resource").cloned());
        let table = table_arn("streambox-restored");
        let is_its = |arn: &Value| *arn == table || *arn == format!("{table}/index/outbox");
        assert!(!arns.is_empty() && arns.iter().all(is_its), "{name}: {arns:?}");
    }
    let relay = resources("relay.yaml", &[("BrokerStack", "streambox-broker")]);
    let named = |value: &Value| (value["Name"] == "STREAMBOX_TABLE").then(|| value["Value"].clone());
    let tables: Vec<_> = relay.iter().flat_map(|(_, resource)| find(resource, &mut |value| named(value))).collect();
    assert_eq!(tables, ["streambox-restored"]);
    let watching = [relay, resources("monitoring.yaml", &[])].concat();
    let dimension = |value: &Value| {
        let is_table = value["Name"] == "Table" || value["Name"] == "TableName";
        (is_table && value.get("Value").is_some()).then(|| value["Value"].clone())
    };
    let looked_at: Vec<_> =
        watching.iter().flat_map(|(_, resource)| find(resource, &mut |value| dimension(value))).collect();
    assert!(looked_at.len() > 10 && looked_at.iter().all(|table| table == "streambox-restored"), "{looked_at:?}");
    let (_, dashboard) = watching.iter().find(|(name, _)| name == "Dashboard").expect("a dashboard");
    let body = text(&dashboard["Properties"]["DashboardBody"]);
    assert!(body.contains("\"streambox-restored\"") && !body.contains("\"streambox\""), "{body}");
}

const GUIDE: &str = include_str!("../../../../infra/README.md");

#[test]
fn the_guide_has_every_parameter_with_its_default() {
    for template in Template::all() {
        let heading = format!("### `{}`\n", template.name);
        let (_, section) = GUIDE.split_once(&heading).unwrap_or_else(|| panic!("the guide has no {heading}"));
        let section = section.split_once("\n### ").map_or(section, |(section, _)| section);
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        let cells = rows.map(|row| row.split('|').map(|cell| cell.trim().replace('`', "")).collect::<Vec<_>>());
        let mut told: Vec<_> = cells.map(|cells| (cells[0].clone(), cells[1].clone())).collect();
        let default = |parameter: &Value| match parameter.get("Default") {
            None => "needed".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let parameters = template.section("Parameters").map(|(name, value)| (name.to_owned(), default(value)));
        told.sort();
        let mut there: Vec<_> = parameters.collect();
        there.sort();
        assert_eq!(told, there, "{}", template.name);
    }
}

#[test]
fn what_the_guides_commands_name_is_there() {
    let words = GUIDE.split("```sh").skip(1).filter_map(|block| block.split("```").next());
    let text: String = words.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let (mut deployments, mut outputs) = (0, 0);
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once("--template-file infra/") {
            let template = Template::read(rest.split(' ').next().expect("a file"));
            let stack = format!("--stack-name streambox-{} ", template.name.trim_end_matches(".yaml"));
            assert!(line.contains(&stack), "{line}");
            let makes_policies = template.text.contains("AWS::IAM::");
            assert_eq!(line.contains("CAPABILITY_IAM"), makes_policies, "{line}");
            let given = rest.split_once("--parameter-overrides ").map_or("", |(_, given)| given);
            let given: Vec<_> = given.split_whitespace().filter_map(|word| word.split_once('=')).collect();
            let needed = template.section("Parameters").filter(|(_, value)| value.get("Default").is_none());
            assert!(needed.map(|(name, _)| name).all(|name| given.iter().any(|(given, _)| *given == name)), "{line}");
            for (name, _) in given.iter().filter(|(name, _)| !name.contains('"')) {
                assert!(template.section("Parameters").any(|(known, _)| known == *name), "{name}: {line}");
            }
            deployments += 1;
        }
        for call in line.split("$(output streambox-").skip(1) {
            let call = call.split(')').next().expect("a call");
            let (template, output) = call.split_once(' ').expect("a stack and an output");
            let template = Template::read(&format!("{template}.yaml"));
            assert!(template.section("Outputs").any(|(known, _)| known == output), "{call}");
            outputs += 1;
        }
    }
    assert_eq!((deployments, outputs > 0), (Template::all().len(), true));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let paths = text.split_whitespace().filter(|word| word.starts_with("infra/"));
    assert!(paths.clone().all(|path| root.join(path).exists()), "{:?}", paths.collect::<Vec<_>>());
}
