//! A program whose set-up is incomplete: without credentials, a Region, the table, its index, its keys, a permission. It prints one
//! sentence that says what to do, and exits with the code of bad configuration.

use std::{
    collections::HashMap,
    ffi::OsStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_sdk_dynamodb::{
    primitives::{DateTime, DateTimeFormat as Format},
    types::{
        AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
        ScalarAttributeType,
    },
};
use nix::sys::signal::Signal;
use serde_json::Value;
use streambox::ExpectedVersion;
use streambox_programs::Role;
use streambox_tests::{
    broker::{Inbox, shared_broker_url},
    cloudformation::Template,
    engine::{REGION, TestTable, event, stream},
    http::{Answer, ask},
    iam::{Policy, table_arn},
    metering::Metering,
    programs::{Finished, Process, run, run_with},
    proxy::{PRINCIPAL, Passage, Proxy, Refusal},
    unique,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::Mutex,
};

const URL: Option<&str> = Some("amqp://127.0.0.1:1/");
const BAD_CONFIGURATION: Option<i32> = Some(78);

/// Verifies that it has ended as badly configured, with one sentence that has all these words.
fn assert_told(finished: &Finished, words: &[&str]) {
    assert_eq!(finished.code(), BAD_CONFIGURATION, "{}", finished.stderr);
    let told: Vec<_> = finished.stderr.lines().filter(|line| line.starts_with("streambox")).collect();
    let [sentence] = told.as_slice() else { panic!("one sentence, and it comes last:\n{}", finished.stderr) };
    assert_eq!(finished.stderr.lines().last(), Some(*sentence));
    assert!(!finished.stderr.contains("aws_config"), "it says it once:\n{}", finished.stderr);
    for word in words {
        assert!(sentence.contains(word), "{word:?} is missing in:\n{sentence}");
    }
}

/// A metadata service of an instance: it answers with this, or never. Also how often it was asked.
async fn metadata_service(answer: Option<&'static str>) -> (String, Arc<Mutex<u32>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("a bound address"));
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            *count.lock().await += 1;
            if let Some(answer) = answer {
                let mut request = [0; 4_096];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(answer.as_bytes()).await;
            }
            held.push(socket);
        }
    });
    (url, asked)
}

/// Runs a program with nothing in its environment but these, and with the search for credentials as users have it.
async fn told_by(name: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Finished {
    let search = [("AWS_EC2_METADATA_DISABLED", "false")];
    let variables: Vec<_> = search.iter().chain(variables).map(|&(name, value)| (name, OsStr::new(value))).collect();
    run_with(name, None, None, &variables, arguments).await
}

const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_credentials_it_is_said_what_to_give_after_a_search_that_is_bounded() {
    let table = TestTable::create().await;
    let ((silent, asked), (forbidding, _)) = (metadata_service(None).await, metadata_service(Some(FORBIDDEN)).await);
    let relay = ["run", "--amqp-url", "amqp://127.0.0.1:1/"];
    for (name, arguments) in [("streambox", &["read", "order-1"][..]), ("streambox-relay", &relay)] {
        for metadata in [
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", silent.as_str()),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", forbidding.as_str()),
        ] {
            let variables = [("AWS_ENDPOINT_URL_DYNAMODB", table.url()), ("AWS_REGION", "eu-west-1"), metadata];
            let finished = told_by(name, &variables, arguments).await;
            assert_told(&finished, &["there are no credentials", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "role"]);
            assert!(!finished.stderr.contains("AWS_REGION"), "the Region is there: {}", finished.stderr);
        }
    }
    let asked = *asked.lock().await;
    assert!((2..=4).contains(&asked), "each program gives up soon, it asked {asked} times");
}

#[tokio::test]
async fn a_region_and_an_end_point_that_are_missing_or_wrong_are_named_alone() {
    let table = TestTable::create().await;
    let keys =
        [("AWS_ACCESS_KEY_ID", "local"), ("AWS_SECRET_ACCESS_KEY", "local"), ("AWS_EC2_METADATA_DISABLED", "true")];
    let read = async |variables: &[(&str, &str)]| {
        let variables: Vec<_> = keys.iter().chain(variables).copied().collect();
        told_by("streambox", &variables, &["read", "order-1"]).await
    };
    assert_told(&read(&[("AWS_ENDPOINT_URL_DYNAMODB", table.url())]).await, &["no Region is set: set AWS_REGION"]);
    assert_told(&read(&[]).await, &["no Region is set: set AWS_REGION"]);
    let no_scheme = [("AWS_ENDPOINT_URL_DYNAMODB", "localhost:8000"), ("AWS_REGION", "eu-west-1")];
    assert_told(&read(&no_scheme).await, &["AWS_ENDPOINT_URL_DYNAMODB", "with its scheme"]);
}

#[tokio::test]
async fn without_certificates_of_authorities_http_works_and_https_says_what_to_install() {
    let table = TestTable::create().await;
    table.fill(&stream("order-1"), 1).await;
    let base = [
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
        ("AWS_REGION", REGION),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("SSL_CERT_FILE", "/nonexistent"),
    ];
    let relay = ["run", "--amqp-url", "amqp://127.0.0.1:1/"];
    let told = ["no certificates of authorities", "ca-certificates", "SSL_CERT_FILE"];
    let token = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(token.path(), "a token").expect("it can be written");
    for (name, arguments) in [("streambox", &["read", "order-1"][..]), ("streambox-relay", &relay)] {
        assert_told(&told_by(name, &base, arguments).await, &told);
        // Credentials, too, may be asked for over HTTPS.
        let role = [
            ("AWS_REGION", REGION),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("SSL_CERT_FILE", "/nonexistent"),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/relay"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.path().to_str().expect("UTF-8")),
        ];
        assert_told(&told_by(name, &role, arguments).await, &told);
    }
    let at_table = [("AWS_ENDPOINT_URL_DYNAMODB", table.url()), ("STREAMBOX_TABLE", &table.name)];
    let variables: Vec<_> = base.into_iter().chain(at_table).collect();
    let read = told_by("streambox", &variables, &["read", "order-1"]).await;
    assert_eq!(read.code(), Some(0), "{}", read.stderr);
    let status = told_by("streambox-relay", &variables, &["status", "--no-wait"]).await;
    assert_eq!(status.code(), Some(0), "{}", status.stderr);
}

#[tokio::test]
async fn an_end_point_that_is_set_and_empty_is_not_set() {
    let table = TestTable::create().await;
    table.fill(&stream("order-1"), 1).await;
    let base = [
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
        ("AWS_REGION", REGION),
        ("STREAMBOX_TABLE", &table.name),
        ("AWS_ENDPOINT_URL", table.url()),
        ("AWS_ENDPOINT_URL_DYNAMODB", ""),
    ];
    let read = told_by("streambox", &base, &["read", "order-1"]).await;
    assert_eq!(read.code(), Some(0), "{}", read.stderr);
    // AWS itself: without authorities nothing is sent there.
    let nowhere = [("AWS_ENDPOINT_URL", ""), ("SSL_CERT_FILE", "/nonexistent")];
    let variables: Vec<_> = base.into_iter().chain(nowhere).collect();
    let refused = told_by("streambox", &variables, &["read", "order-1"]).await;
    assert_told(&refused, &["no certificates of authorities"]);
}

/// Credentials that are asked for over an end point, too, which the SDK does not take empty.
#[tokio::test]
async fn an_end_point_that_is_empty_for_credentials_is_told() {
    let token = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(token.path(), "a token").expect("it can be written");
    let config = tempfile::NamedTempFile::new().expect("a temporary file");
    let role =
        "[profile role]\nendpoint_url =\nrole_arn = arn:aws:iam::123456789012:role/relay\nsource_profile = keys\n";
    let keys = "[profile keys]\naws_access_key_id = local\naws_secret_access_key = local\n";
    std::fs::write(config.path(), format!("{role}{keys}")).expect("it can be written");
    let path = |file: &tempfile::NamedTempFile| file.path().to_str().expect("UTF-8").to_owned();
    let (token, config) = (path(&token), path(&config));
    let base = [("AWS_REGION", "eu-west-1"), ("AWS_EC2_METADATA_DISABLED", "true"), ("SSL_CERT_FILE", "/nonexistent")];
    for variables in [
        &[
            ("AWS_ENDPOINT_URL", ""),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/relay"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
        ][..],
        &[("AWS_CONFIG_FILE", &config), ("AWS_PROFILE", "role")],
    ] {
        let variables: Vec<_> = base.iter().chain(variables).copied().collect();
        for (name, arguments) in [
            ("streambox", &["read", "order-1"][..]),
            ("streambox-relay", &["run", "--amqp-url", "amqp://127.0.0.1:1/"]),
        ] {
            assert_told(&told_by(name, &variables, arguments).await, &["AWS_ENDPOINT_URL", "set and empty: unset it"]);
        }
    }
}

#[tokio::test]
async fn credentials_of_people_work_and_what_they_need_is_told() {
    let table = TestTable::create().await;
    table.fill(&stream("order-1"), 1).await;
    let home = tempfile::tempdir().expect("a temporary directory");
    let config = home.path().join("config");
    let profiles = r#"
[profile process]
credential_process = echo '{ "Version": 1, "AccessKeyId": "local", "SecretAccessKey": "local" }'
[profile broken]
credential_process = sh -c 'echo nobody is logged in >&2; exit 1'
[profile sso]
sso_session = people
sso_account_id = 123456789012
sso_role_name = reader
[sso-session people]
sso_region = eu-west-1
sso_start_url = https://people.example.com/start
[profile login]
login_session = arn:aws:iam::123456789012:user/ann
"#;
    std::fs::write(&config, profiles).expect("it can be written");
    let (config, home) = (config.to_str().expect("UTF-8"), home.path().to_str().expect("UTF-8"));
    let read = async |profile: &str| {
        let variables = [
            ("HOME", home),
            ("AWS_CONFIG_FILE", config),
            ("AWS_PROFILE", profile),
            ("AWS_REGION", REGION),
            ("AWS_ENDPOINT_URL_DYNAMODB", table.url()),
            ("STREAMBOX_TABLE", table.name.as_str()),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        let told = told_by("streambox", &variables, &["read", "order-1"]).await;
        (told, told_by("streambox-relay", &variables, &["status", "--no-wait"]).await)
    };
    let (streambox, relay) = read("process").await;
    assert_eq!((streambox.code(), relay.code()), (Some(0), Some(0)), "{}{}", streambox.stderr, relay.stderr);
    for (profile, told) in [
        ("broken", &["credential_process", "run it by hand", "nobody is logged in"][..]),
        ("sso", &["log in (`aws sso login`", "AWS_PROFILE"]),
        ("login", &["`aws login`", "AWS_PROFILE"]),
    ] {
        let (streambox, relay) = read(profile).await;
        assert_told(&streambox, told);
        assert_told(&relay, told);
    }
}

#[tokio::test]
async fn a_table_that_is_not_there_is_named_with_the_region_that_was_looked_in() {
    let table = TestTable::create().await;
    let missing =
        ["no table orders-eu in Region us-east-1", "AWS_REGION", "infra/table.yaml", "streambox table create"];
    for arguments in [&["read", "order-1"][..], &["append", "order-1", "--type", "Placed", "--data", "1"], &["verify"]]
    {
        let arguments = arguments.iter().chain(&["--table", "orders-eu"]);
        assert_told(&run("streambox", Some(&table), None, arguments).await, &missing);
    }
    for command in ["run", "drain"] {
        assert_told(&run("streambox-relay", Some(&table), URL, [command, "--table", "orders-eu"]).await, &missing);
    }
    let status = run("streambox-relay", Some(&table), None, ["status", "--table", "orders-eu"]).await;
    assert_told(&status, &missing);
}

/// A table by hand, with these keys and perhaps the index.
async fn create(table: &TestTable, name: &str, keys: [&str; 2], has_index: bool) {
    let attribute = |name: &str, kind| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().expect("a name and a type")
    };
    let schema = |names: [&str; 2]| {
        let roles = names.into_iter().zip([KeyType::Hash, KeyType::Range]);
        roles
            .map(|(name, role)| KeySchemaElement::builder().attribute_name(name).key_type(role).build().expect("a key"))
            .collect::<Vec<_>>()
    };
    let mut request = table.client().create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    request = request.set_key_schema(Some(schema(keys)));
    for key in keys {
        request = request.attribute_definitions(attribute(key, ScalarAttributeType::S));
    }
    if has_index {
        if keys[0] != "stream_id" {
            request = request.attribute_definitions(attribute("stream_id", ScalarAttributeType::S));
        }
        request = request.attribute_definitions(attribute("pending_since", ScalarAttributeType::N));
        let projection = Projection::builder().projection_type(ProjectionType::KeysOnly).build();
        let index = GlobalSecondaryIndex::builder()
            .index_name("outbox")
            .set_key_schema(Some(schema(["stream_id", "pending_since"])))
            .projection(projection)
            .build();
        request = request.global_secondary_indexes(index.expect("an index"));
    }
    request.send().await.expect("the engine creates tables");
}

#[tokio::test]
async fn a_table_without_its_index_is_told_by_whoever_needs_it() {
    let table = TestTable::create().await;
    let name = unique("bare");
    create(&table, &name, ["stream_id", "entity"], false).await;
    let at = |arguments: &[&str]| -> Vec<String> {
        arguments.iter().chain(&["--table", name.as_str()]).map(|&argument| argument.to_owned()).collect()
    };
    let told = [name.as_str(), "no index `outbox`", "infra/table.yaml", "streambox table check"];
    assert_told(&run("streambox-relay", Some(&table), URL, at(&["run"])).await, &told);
    assert_told(&run("streambox-relay", Some(&table), URL, at(&["drain"])).await, &told);
    assert_told(&run("streambox-relay", Some(&table), None, at(&["status", "--no-wait"])).await, &told);
    // Appends go on meanwhile: they need no index.
    let append = at(&["append", "order-1", "--type", "Placed", "--data", "1"]);
    assert_eq!(run("streambox", Some(&table), None, append).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_a_relay_that_starts_while_the_index_is_being_built_waits_for_it_and_publishes() {
    let (engine, url) = (TestTable::create().await, shared_broker_url());
    let proxy = Proxy::start(engine.url()).await;
    let table = engine.through(proxy.url());
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    // Before DynamoDB begins to fill the index, and while it does.
    for (order, says) in [
        ("order-1", "The table does not have the specified index: outbox"),
        ("order-2", "Cannot read from backfilling global secondary index: outbox"),
    ] {
        engine.fill(&stream(order), 1).await;
        proxy.set_gatekeeper(move |operation, _| {
            if operation == "Scan" { Passage::Refuse(Refusal::Invalid(says)) } else { Passage::Forward }
        });
        proxy.set_fault(|exchange| {
            if exchange.operation == "DescribeTable" {
                exchange.answer["Table"]["GlobalSecondaryIndexes"][0]["IndexStatus"] = "CREATING".into();
            }
        });
        let arguments = ["run", "--exchange", inbox.exchange(), "--poll-interval-ms", "50", "--retry-delay-ms", "50"];
        let mut relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
        let waits = relay.log_line("read again until").await;
        assert!(waits.contains("being built") || waits.contains("backfilling"), "{waits}");
        proxy.behave();
        inbox.next().await;
        table.wait_for_nothing_pending().await;
        relay.signal(Signal::SIGTERM);
        assert_eq!(relay.finish().await.code(), Some(0));
    }
    inbox.close().await.unwrap();
}

/// An AWS whose clock is an hour ahead: it refuses what was signed by another time. Also by which times requests were signed, in
/// seconds since the epoch.
async fn an_hour_ahead() -> (String, Arc<Mutex<Vec<i64>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("a bound address"));
    let signed = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&signed);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = vec![0; 16_384];
            let read = socket.read(&mut request).await.unwrap_or_default();
            let request = String::from_utf8_lossy(&request[..read]).to_ascii_lowercase();
            let Some((_, at)) = request.split_once("x-amz-date: ") else { continue };
            let at = at.split_whitespace().next().expect("a time").to_ascii_uppercase();
            let [year, month, day] = [&at[..4], &at[4..6], &at[6..8]];
            let [hour, minute, second] = [&at[9..11], &at[11..13], &at[13..15]];
            let time = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
            times.lock().await.push(DateTime::from_str(&time, Format::DateTime).expect("a time").secs());
            let date =
                DateTime::from(SystemTime::now() + Duration::from_hours(1)).fmt(Format::HttpDate).expect("a time");
            let body = format!(
                r#"{{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"Signature expired: {at} is now earlier than another time"}}"#
            );
            let answer = format!(
                "HTTP/1.1 400 Bad Request\r\ndate: {date}\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (url, signed)
}

#[tokio::test]
async fn g6_a_clock_that_is_an_hour_wrong_is_not_corrected_but_told() {
    let (url, signed) = an_hour_ahead().await;
    let now = || DateTime::from(SystemTime::now()).secs();
    let started = now();
    let variables = [
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL_DYNAMODB", url.as_str()),
    ];
    let append = ["append", "order-1", "--type", "Placed", "--data", "1", "--expect", "none"];
    let relay = ["run", "--amqp-url", "amqp://127.0.0.1:1/"];
    for (name, arguments) in
        [("streambox", &["read", "order-1"][..]), ("streambox", &append), ("streambox-relay", &relay)]
    {
        let finished = told_by(name, &variables, arguments).await;
        assert_told(&finished, &["this machine's clock is wrong", "Signature expired", "NTP"]);
    }
    let signed = signed.lock().await;
    assert!(
        signed.len() >= 3 && signed.iter().all(|at| (started..=now()).contains(at)),
        "{signed:?} from {started} on"
    );
}

#[tokio::test]
async fn a_table_of_other_keys_is_told_by_readers_writers_and_the_relay() {
    let table = TestTable::create().await;
    let name = unique("foreign");
    create(&table, &name, ["pk", "sk"], true).await;
    let at = |arguments: &[&str]| -> Vec<String> {
        arguments.iter().chain(&["--table", name.as_str()]).map(|&argument| argument.to_owned()).collect()
    };
    let told = [name.as_str(), "other keys than `stream_id` and `entity`", "infra/table.yaml"];
    assert_told(&run("streambox", Some(&table), None, at(&["read", "order-1"])).await, &told);
    let append = at(&["append", "order-1", "--type", "Placed", "--data", "1", "--expect", "none"]);
    // MiniStack finds keys that are not there equal, and says that.
    if Metering::of_tests() != Metering::MiniStack {
        assert_told(&run("streambox", Some(&table), None, append).await, &told);
    }
    assert_told(&run("streambox-relay", Some(&table), URL, at(&["run"])).await, &told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_missing_is_told_with_its_action_its_resource_and_the_policy_that_grants_it() {
    const QUERY: Refusal = Refusal::Denied { action: "dynamodb:Query", resource: "table/orders" };
    const SCAN: Refusal = Refusal::Denied { action: "dynamodb:Scan", resource: "table/orders" };
    const INDEX: Refusal = Refusal::Denied { action: "dynamodb:Scan", resource: "table/orders/index/outbox" };
    const PUT: Refusal = Refusal::Denied { action: "dynamodb:PutItem", resource: "table/orders" };
    const DESCRIBE: Refusal = Refusal::Denied { action: "dynamodb:DescribeTable", resource: "table/orders" };
    const CREATE: Refusal = Refusal::Denied { action: "dynamodb:CreateTable", resource: "table/orders" };
    let engine = TestTable::create().await;
    engine.fill(&stream("order-1"), 1).await;
    let proxy = Proxy::start(engine.url()).await;
    let table = engine.through(proxy.url());
    let append: &[&str] = &["append", "order-2", "--type", "Placed", "--data", "1", "--expect", "none"];
    let cases = [
        ("streambox", append, "TransactWriteItems", PUT, "WriterPolicy"),
        ("streambox", &["read", "order-1"], "Query", QUERY, "ReaderPolicy"),
        ("streambox", &["streams"], "Scan", SCAN, "ReaderPolicy"),
        ("streambox", &["export"], "Scan", SCAN, "ReaderPolicy"),
        ("streambox", &["verify"], "Scan", SCAN, "OperatorPolicy"),
        ("streambox", &["table", "check"], "DescribeTable", DESCRIBE, "OperatorPolicy"),
        ("streambox", &["table", "create"], "CreateTable", CREATE, "infra/table.yaml"),
        ("streambox-relay", &["run"], "Scan", INDEX, "RelayPolicy"),
        ("streambox-relay", &["run"], "Query", QUERY, "RelayPolicy"),
        ("streambox-relay", &["drain"], "Query", QUERY, "RelayPolicy"),
        ("streambox-relay", &["status"], "Scan", INDEX, "OperatorPolicy"),
        ("streambox-relay", &["skip", "order-1", "1", "--reason", "x"], "TransactWriteItems", PUT, "OperatorPolicy"),
        ("streambox-relay", &["replay", "--stream", "order-1"], "Query", QUERY, "OperatorPolicy"),
    ];
    for (name, arguments, denied, refusal, policy) in cases {
        proxy.set_gatekeeper(
            move |operation, _| {
                if operation == denied { Passage::Refuse(refusal) } else { Passage::Forward }
            },
        );
        let finished = run(name, Some(&table), URL, arguments).await;
        let Refusal::Denied { action, resource } = refusal else { panic!("every case is one of a permission") };
        let permission = format!("{PRINCIPAL} lacks the permission {action} on {resource}");
        assert_told(&finished, &[&permission, policy]);
    }
}

#[test]
fn every_policy_that_an_error_names_is_there_and_grants_what_it_is_named_for() {
    let exports = HashMap::from([("streambox-table-TableArn".to_owned(), table_arn("orders"))]);
    let needed = [
        (Role::Writer, &["PutItem", "Query", "GetItem", "Scan"][..]),
        (Role::Reader, &["Query", "GetItem", "Scan", "DescribeTable"]),
        (Role::Relay, &["Scan", "Query", "GetItem", "BatchWriteItem", "PutItem", "DeleteItem"]),
        (Role::Operator, &["Scan", "Query", "GetItem", "PutItem", "DeleteItem", "DescribeTable"]),
    ];
    for (role, action) in needed.iter().flat_map(|(role, actions)| actions.iter().map(|action| (*role, *action))) {
        let action = format!("dynamodb:{action}");
        let policy = role.policy(&action).unwrap_or_else(|| panic!("no policy grants {action} to {role:?}"));
        let resource = Template::read("roles.yaml").stack(&[], &exports).resource(policy);
        let grants = Policy::of(&resource["Properties"]["PolicyDocument"]).grants();
        assert!(grants.iter().any(|(_, granted)| *granted == action), "{policy} does not grant {action}");
    }
}

/// Asks until the answer is as it should be.
async fn until(address: &str, is_so: impl Fn(&Answer) -> bool) -> Answer {
    let reached = async {
        loop {
            let answer = ask(address, "GET", "/readyz").await;
            if is_so(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(streambox_tests::PATIENCE, reached).await.expect("the answer comes to it")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_a_permission_that_is_withdrawn_from_a_running_relay_is_told_waited_for_and_nothing_is_lost() {
    const DENIED: Refusal = Refusal::Denied { action: "dynamodb:BatchWriteItem", resource: "table/orders" };
    let (engine, url) = (TestTable::create().await, shared_broker_url());
    let proxy = Proxy::start(engine.url()).await;
    let table = engine.through(proxy.url());
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    let arguments =
        ["run", "--exchange", inbox.exchange(), "--poll-interval-ms", "50", "--heartbeat-interval-ms", "100"];
    let mut relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    let log: Value = serde_json::from_str(&relay.log_line("status page at http://").await).expect("JSON");
    let at = log["address"].as_str().expect("the address").to_owned();
    until(&at, |answer| answer.status == 200).await;

    proxy.set_gatekeeper(
        |operation, _| {
            if operation == "BatchWriteItem" { Passage::Refuse(DENIED) } else { Passage::Forward }
        },
    );
    engine.store.append(&stream("order-1"), ExpectedVersion::NoStream, (1..=3).map(event)).await.unwrap();
    inbox.receive_distinct(3).await;
    let told = "lacks the permission dynamodb:BatchWriteItem on table/orders";
    relay.logs(told).await;
    let refused = until(&at, |answer| answer.status == 503).await;
    assert!(refused.body.contains(told) && refused.body.contains("RelayPolicy"), "{}", refused.body);
    assert_eq!(ask(&at, "GET", "/livez").await.status, 200, "no reason to restart it");
    // The table shows it, too, with one of the next heartbeats.
    let last_error = loop {
        let status = run("streambox-relay", Some(&engine), None, ["status", "--format", "json"]).await;
        let status: Value = serde_json::from_str(&status.stdout).expect("one JSON object");
        if let Some(error) = status["workers"][0]["last_error"].as_str() {
            break error.to_owned();
        }
    };
    assert!(last_error.contains(told) && last_error.contains("RelayPolicy"), "{last_error}");

    proxy.behave();
    table.wait_for_nothing_pending().await;
    until(&at, |answer| answer.status == 200).await;
    relay.signal(Signal::SIGTERM);
    let finished = relay.finish().await;
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let tally = inbox.receive_rest().await.unwrap();
    assert_eq!((tally.distinct(), tally.duplicates()), (3, 0), "what is confirmed is not published again meanwhile");
    inbox.close().await.unwrap();
}
