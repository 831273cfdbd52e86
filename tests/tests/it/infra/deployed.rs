//! The templates that an engine with CloudFormation takes, deployed there: `make test-cloudformation`.

use std::collections::HashMap;

use serde_json::Value;
use streambox::check_table;
use streambox_tests::{
    cloudformation::{Template, deploy, elements, query},
    engine::{TestTable, tables_are_stacks},
    inboxes::InboxTable,
    unique,
};

/// A table on the engine, if that runs CloudFormation.
async fn table() -> Option<TestTable> {
    if !tables_are_stacks() {
        eprintln!("skipped: the engine runs no CloudFormation; `make test-cloudformation` brings one that does");
        return None;
    }
    Some(TestTable::create().await)
}

#[tokio::test]
async fn a_table_of_the_template_is_what_the_library_expects() {
    let Some(table) = table().await else { return };
    let check = check_table(&table.client(), &table.name).await.unwrap();
    assert_eq!(check.differences, []);

    let described = table.client().describe_table().table_name(&table.name).send().await.unwrap().table.unwrap();
    assert_eq!(described.deletion_protection_enabled(), Some(false), "it was told so");
}

#[tokio::test]
async fn the_other_stacks_find_the_tables_and_the_policies_are_stored_as_they_are_read_here() {
    let Some(table) = table().await else { return };
    let endpoint = table.url();
    // Its stack has its name.
    let inbox = InboxTable::create(&table).await;
    let template = Template::read("roles.yaml");
    let parameters = [("TableStack", table.name.as_str()), ("InboxStack", inbox.name.as_str())];
    let roles = deploy(endpoint, &unique("roles"), &template, &parameters).await;
    deploy(endpoint, &unique("monitoring"), &Template::read("monitoring.yaml"), &[("TableStack", &table.name)]).await;
    // Of a table that no stack has made there is nothing to import.
    let restored =
        [("TableStack", "none"), ("TableName", table.name.as_str()), ("InboxTableName", inbox.name.as_str())];
    deploy(endpoint, &unique("roles"), &template, &restored).await;
    deploy(endpoint, &unique("monitoring"), &Template::read("monitoring.yaml"), &restored[..2]).await;
    deploy(endpoint, &unique("repository"), &Template::read("repository.yaml"), &[("RepositoryName", &unique("r"))])
        .await;

    let mut exports = HashMap::new();
    for name in [&table.name, &inbox.name] {
        let described = table.client().describe_table().table_name(name).send().await.unwrap().table.unwrap();
        exports.insert(format!("{name}-TableArn"), described.table_arn().unwrap().to_owned());
    }
    let stack = template.stack(&parameters, &exports);
    let policies = stack.resources().into_iter().filter(|(_, resource)| resource["Type"] == "AWS::IAM::ManagedPolicy");
    let names: Vec<_> = policies.map(|(name, _)| name).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    for name in &names {
        let arn = &roles.outputs[&format!("{name}Arn")];
        let form = [("Action", "GetPolicyVersion"), ("PolicyArn", arn.as_str()), ("VersionId", "v1")];
        let form: Vec<_> = form.map(|(field, value)| (field.to_owned(), value)).into();
        let answer = query(endpoint, "iam", "2010-05-08", &form).await;
        let document = decoded(&elements(&answer, "Document")[0]);
        let stored: Value = serde_json::from_str(&document).unwrap_or_else(|error| panic!("{error}: {document}"));
        assert_eq!(stored, stack.resource(name)["Properties"]["PolicyDocument"], "{name}");
    }
}

/// IAM encodes its documents as parts of URLs.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two digits"));
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).expect("a text")
}
