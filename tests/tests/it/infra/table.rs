//! `table.yaml` and `inbox.yaml` are the tables that the libraries expect.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use streambox::{create_table, testing::EmbeddedDynamoDb};
use streambox_consumer::create_inbox_table;
use streambox_tests::{cloudformation::Template, engine::client, wire::Wire};

/// What of a table is its definition, and not its operator's choice.
fn definition(table: &Value) -> Value {
    let mut definition: Map<String, Value> = table.as_object().expect("a table").clone();
    definition.retain(|name, _| {
        [
            "TableName",
            "AttributeDefinitions",
            "KeySchema",
            "GlobalSecondaryIndexes",
            "LocalSecondaryIndexes",
            "BillingMode",
        ]
        .contains(&name.as_str())
    });
    if let Some(attributes) = definition["AttributeDefinitions"].as_array_mut() {
        attributes.sort_by_key(|attribute| attribute["AttributeName"].to_string());
    }
    for index in definition["GlobalSecondaryIndexes"].as_array_mut().into_iter().flatten() {
        index.as_object_mut().expect("an index").remove("ContributorInsightsSpecification");
    }
    Value::Object(definition)
}

fn table(parameters: &[(&str, &str)]) -> Value {
    Template::read("table.yaml").stack(parameters, &HashMap::new()).resource("Table")
}

#[tokio::test]
async fn the_template_and_the_library_define_the_same_table() {
    let engine = EmbeddedDynamoDb::start().await;
    let wire = Wire::new();
    create_table(&client(engine.url(), Some(&wire)), "events").await.unwrap();
    let sent = wire.take().into_iter().find(|exchange| exchange.operation == "CreateTable").unwrap();

    let templated = table(&[("TableName", "events")]);
    assert_eq!(definition(&templated["Properties"]), definition(&sent.request));
}

#[tokio::test]
async fn the_template_and_the_library_define_the_same_inbox() {
    let engine = EmbeddedDynamoDb::start().await;
    let wire = Wire::new();
    create_inbox_table(&client(engine.url(), Some(&wire)), "inbox").await.unwrap();
    let sent = wire.take().into_iter().find(|exchange| exchange.operation == "CreateTable").unwrap();

    let templated = inbox(&[("TableName", "inbox")]);
    assert_eq!(definition(&templated["Properties"]), definition(&sent.request));
}

fn inbox(parameters: &[(&str, &str)]) -> Value {
    Template::read("inbox.yaml").stack(parameters, &HashMap::new()).resource("Table")
}

#[test]
fn a_table_is_protected_by_default() {
    for table in [table(&[]), inbox(&[])] {
        assert_eq!((&table["DeletionPolicy"], &table["UpdateReplacePolicy"]), (&json!("Retain"), &json!("Retain")));
        let properties = &table["Properties"];
        assert_eq!(properties["DeletionProtectionEnabled"], true);
        assert_eq!(properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"], true);
        // An event is for ever, and so is a position: nothing may expire.
        assert_eq!(properties.get("TimeToLiveSpecification"), None);
        for insights in [properties, &properties["GlobalSecondaryIndexes"][0]] {
            let expected = json!({ "Enabled": true, "Mode": "THROTTLED_KEYS" });
            assert_eq!(insights["ContributorInsightsSpecification"], expected);
        }
    }
}

#[test]
fn choices_reach_the_table() {
    let parameters = [
        ("DeletionProtection", "false"),
        ("KmsKeyArn", "arn:aws:kms:us-east-1:111122223333:key/1"),
        ("MaxWriteUnits", "500"),
        ("ThrottledKeys", "false"),
    ];
    for chosen in [table(&parameters), inbox(&parameters)] {
        let properties = &chosen["Properties"];
        assert_eq!(properties["DeletionProtectionEnabled"], false);
        assert_eq!(properties["SSESpecification"]["KMSMasterKeyId"], "arn:aws:kms:us-east-1:111122223333:key/1");
        assert_eq!(properties["ContributorInsightsSpecification"]["Enabled"], false);
        for capped in [properties, &properties["GlobalSecondaryIndexes"][0]] {
            assert_eq!(capped["OnDemandThroughput"], json!({ "MaxWriteRequestUnits": "500" }));
        }
    }
}

/// The rates of appends that capacity can be bought for.
fn rates() -> Vec<u64> {
    let parameter = Template::read("table.yaml").value()["Parameters"]["AppendsPerSecond"].clone();
    let all = parameter["AllowedValues"].as_array().expect("a list");
    all.iter().map(|rate| rate.as_u64().expect("a number")).filter(|rate| *rate > 0).collect()
}

#[test]
fn provisioned_capacity_is_for_a_rate_of_appends_and_never_less_than_they_take() {
    let template = Template::read("table.yaml");
    let obeys = |parameters: &[(&str, &str)]| template.stack(parameters, &HashMap::new()).obeys_rules();
    assert!(obeys(&[]), "on demand nothing is bought");
    assert!(!obeys(&[("BillingMode", "PROVISIONED")]), "a live table would be throttled to the least there is");
    for rate in rates() {
        let text = rate.to_string();
        let chosen = [("BillingMode", "PROVISIONED"), ("AppendsPerSecond", text.as_str())];
        assert!(obeys(&chosen));
        let properties = &table(&chosen)["Properties"];
        let index = &properties["GlobalSecondaryIndexes"][0];
        let units =
            |of: &Value, kind: &str| of["ProvisionedThroughput"][format!("{kind}CapacityUnits")].as_u64().unwrap();
        // `docs/costs.md`: an append to published and deleted takes 5 write units of the table and 2 of the index. At 70 % in use.
        let in_use = |units: u64| units * 70 / 100;
        assert!(in_use(units(properties, "Write")) >= 5 * rate && in_use(units(index, "Write")) >= 2 * rate, "{rate}");
        // A look of the relay and a cached load each, and as much for cold loads; two relays that look at four partitions.
        assert!(in_use(units(properties, "Read")) >= 4 * rate && in_use(units(index, "Read")) >= 8, "{rate}");
    }
    // What CloudFormation looks up for a table on demand would not throttle either.
    let units = &template.value()["Mappings"]["Units"];
    assert_eq!(units["0"], units["10"]);
    assert_eq!(units.as_object().unwrap().len(), rates().len() + 1);
}

#[test]
fn provisioned_capacity_is_scaled_of_table_and_index_both_ways() {
    let template = Template::read("table.yaml");
    let of_kind = |parameters: &[(&str, &str)], kind: &str| -> Vec<Value> {
        let resources = template.stack(parameters, &HashMap::new()).resources();
        resources.into_iter().map(|(_, resource)| resource).filter(|resource| resource["Type"] == kind).collect()
    };
    let (target, policy) =
        ("AWS::ApplicationAutoScaling::ScalableTarget", "AWS::ApplicationAutoScaling::ScalingPolicy");
    assert_eq!((of_kind(&[], target).len(), of_kind(&[], policy).len()), (0, 0));
    let on_demand = table(&[]);
    assert_eq!(on_demand["Properties"].get("ProvisionedThroughput"), None);

    let provisioned = [("BillingMode", "PROVISIONED"), ("AppendsPerSecond", "100"), ("MaxWriteUnits", "9")];
    let properties = &table(&provisioned)["Properties"];
    assert_eq!(properties.get("OnDemandThroughput"), None, "a limit on demand is none of provisioned capacity");

    for target in of_kind(&provisioned, target) {
        let capacity = |most: &str| target["Properties"][most].as_u64().unwrap();
        assert_eq!(capacity("MaxCapacity"), 4 * capacity("MinCapacity"), "{target}");
    }
    let scaled: Vec<_> = of_kind(&provisioned, target)
        .iter()
        .map(|target| {
            let of = &target["Properties"];
            format!("{} {}", of["ResourceId"].as_str().unwrap(), of["ScalableDimension"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        scaled,
        [
            "table/<Table>/index/outbox dynamodb:index:ReadCapacityUnits",
            "table/<Table>/index/outbox dynamodb:index:WriteCapacityUnits",
            "table/<Table> dynamodb:table:ReadCapacityUnits",
            "table/<Table> dynamodb:table:WriteCapacityUnits",
        ]
    );
    // Each target has a policy that follows its own use.
    for policy in of_kind(&provisioned, policy) {
        let of = &policy["Properties"];
        let target = of["ScalingTargetId"].as_str().unwrap();
        let metric =
            of["TargetTrackingScalingPolicyConfiguration"]["PredefinedMetricSpecification"]["PredefinedMetricType"]
                .as_str()
                .unwrap();
        let kind = if target.contains("Read") { "Read" } else { "Write" };
        assert_eq!(metric, format!("DynamoDB{kind}CapacityUtilization"), "{target}");
    }
    assert_eq!(of_kind(&provisioned, policy).len(), 4);
}
