//! What RabbitMQ refuses: logins, virtual hosts, exchanges; and an alarm that makes it take nothing.

use lapin::{
    Connection, ConnectionProperties, ExchangeKind,
    options::ExchangeDeclareOptions,
    types::{AMQPValue, FieldTable},
};
use nix::sys::signal::Signal;
use streambox_tests::{
    broker::{Inbox, OwnBroker, shared_broker_url},
    engine::{TestTable, stream},
    programs::{Finished, Process, run},
    unique,
};

const PASSWORD: &str = "open-sesame";

fn url(broker: &OwnBroker, user: &str, password: &str, vhost: &str) -> String {
    let uri = streambox_relay::broker::parse_url(broker.url()).expect("a valid URL");
    format!("amqp://{user}:{password}@{}:{}/{vhost}", uri.authority.host, uri.authority.port)
}

/// Verifies that it ends at once as badly configured, and says why, without a password.
fn assert_refused(finished: &Finished, words: &[&str]) {
    assert_eq!(finished.code(), Some(78), "{}", finished.stderr);
    for word in words {
        assert!(finished.stderr.contains(word), "{word:?} is missing in:\n{}", finished.stderr);
    }
    for password in ["wrong-password", PASSWORD] {
        assert!(!finished.stderr.contains(password), "{}", finished.stderr);
    }
}

async fn declare(
    url: &str,
    exchange: &str,
    kind: ExchangeKind,
    options: ExchangeDeclareOptions,
    arguments: FieldTable,
) -> lapin::Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.exchange_declare(exchange.into(), kind, options, arguments).await?;
    connection.close(200, "done".into()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rabbitmq_refuses_at_the_start_is_bad_configuration_and_told_in_a_sentence() {
    let broker = OwnBroker::start().await;
    broker.ctl(&["add_user", "relay", PASSWORD]).await;
    broker.ctl(&["add_vhost", "closed"]).await;
    // It may write to some exchanges, and configure none.
    broker.ctl(&["set_permissions", "relay", "^$", "^events-.*", "^$"]).await;
    let table = TestTable::create().await;
    table.fill(&stream("order-1"), 2).await;
    let run = async |url: String, exchange: &str| {
        run("streambox-relay", Some(&table), Some(&url), ["run", "--exchange", exchange]).await
    };

    let refused = run(url(&broker, "relay", "wrong-password", "%2f"), "events-x").await;
    assert_refused(&refused, &["refuses the login of user \"relay\"", "--amqp-url"]);
    let refused = run(url(&broker, "relay", PASSWORD, "unknown"), "events-x").await;
    assert_refused(&refused, &["vhost \"unknown\"", "not found"]);
    let refused = run(url(&broker, "relay", PASSWORD, "closed"), "events-x").await;
    assert_refused(&refused, &["vhost \"closed\"", "permissions"]);
    let refused = run(url(&broker, "relay", PASSWORD, "%2f"), "events-x").await;
    assert_refused(&refused, &["exchange \"events-x\"", "permission", "configure"]);
    let (none, durable) = (FieldTable::default(), ExchangeDeclareOptions { durable: true, ..Default::default() });
    let transient = ExchangeDeclareOptions::default();
    let auto_delete = ExchangeDeclareOptions { auto_delete: true, ..durable };
    let internal = ExchangeDeclareOptions { internal: true, ..durable };
    for (exchange, kind, options, words) in [
        ("fanout", ExchangeKind::Fanout, durable, "another type than topic"),
        ("transient", ExchangeKind::Topic, transient, "not durable"),
        ("passing", ExchangeKind::Topic, auto_delete, "deleted with its last binding"),
        ("internal", ExchangeKind::Topic, internal, "lets no client publish"),
    ] {
        declare(broker.url(), exchange, kind, options, none.clone()).await.unwrap();
        let refused = run(broker.url().to_owned(), exchange).await;
        assert_refused(&refused, &[&format!("exchange \"{exchange}\""), words, "--exchange"]);
        assert!(!refused.stderr.contains("delete it"), "deleting is never the advice: {}", refused.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_with_an_alternate_exchange_is_used_as_it_is() {
    let (table, url) = (TestTable::create().await, shared_broker_url());
    table.fill(&stream("order-1"), 2).await;
    let (exchange, others) = (unique("events"), unique("others"));
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("alternate-exchange".into(), AMQPValue::LongString(others.as_str().into()));
    declare(&url, &exchange, ExchangeKind::Topic, durable, arguments).await.unwrap();
    // What no queue of the one takes goes to the other.
    let mut inbox = Inbox::open(&url, &others).await.unwrap();
    let drained =
        streambox_tests::programs::run("streambox-relay", Some(&table), Some(&url), ["drain", "--exchange", &exchange])
            .await;
    assert_eq!(drained.code(), Some(0), "{}", drained.stderr);
    assert_eq!(inbox.receive_rest().await.unwrap().distinct(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_of_somebody_elses_is_enough_and_a_permission_that_is_withdrawn_is_waited_for() {
    let broker = OwnBroker::start().await;
    broker.ctl(&["add_user", "relay", PASSWORD]).await;
    // It may write to some exchanges, and configure none.
    broker.ctl(&["set_permissions", "relay", "^$", "^events-.*", "^$"]).await;
    let table = TestTable::create().await;
    table.fill(&stream("order-1"), 2).await;
    // Its owner has made the exchange.
    let mut inbox = Inbox::open(broker.url(), &unique("events")).await.unwrap();
    let arguments = ["run", "--exchange", inbox.exchange()];
    let url = url(&broker, "relay", PASSWORD, "%2f");
    let mut relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    inbox.receive_distinct(2).await;

    broker.ctl(&["set_permissions", "relay", "^$", "^$", "^$"]).await;
    // A channel remembers what it was allowed.
    broker.ctl(&["close_all_user_connections", "relay", "rights"]).await;
    table.fill(&stream("order-2"), 2).await;
    relay.logs("it needs the permission to write to it").await;
    broker.ctl(&["set_permissions", "relay", "^$", "^events-.*", "^$"]).await;
    inbox.receive_distinct(4).await;
    relay.signal(Signal::SIGTERM);
    let finished = relay.finish().await;
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(!finished.stderr.contains(PASSWORD), "{}", finished.stderr);
    assert_eq!(inbox.receive_rest().await.unwrap().order_violations(), []);
}

#[tokio::test]
async fn an_address_of_the_status_page_that_is_taken_is_bad_configuration_and_told_in_a_sentence() {
    let table = TestTable::create().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = run("streambox-relay", Some(&table), Some("amqp://127.0.0.1:1"), ["run", "--http", &address]).await;
    assert_refused(&refused, &["--http (STREAMBOX_HTTP)", &address, "in use", "choose another port, or `off`"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_an_alarm_that_blocks_publishers_is_waited_out() {
    const STREAMS: u64 = 10;
    let broker = OwnBroker::start().await;
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(broker.url(), &unique("events")).await.unwrap();
    let arguments = ["run", "--exchange", inbox.exchange(), "--publishers", "2", "--confirm-timeout-ms", "200"];
    let mut relay = Process::start("streambox-relay", Some(&table), Some(broker.url()), arguments);
    relay.logs("connected to the broker").await;

    broker.ctl(&["set_vm_memory_high_watermark", "0"]).await;
    for number in 0..STREAMS {
        table.fill(&stream(&format!("order-{number}")), 3).await;
    }
    relay.logs("the broker takes no messages").await;
    // Seconds go by here, many confirm timeouts.
    broker.ctl(&["set_vm_memory_high_watermark", "0.9"]).await;
    inbox.receive_distinct(STREAMS * 3).await;

    relay.signal(Signal::SIGTERM);
    let finished = relay.finish().await;
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let tally = inbox.receive_rest().await.unwrap();
    assert_eq!((tally.distinct(), tally.order_violations()), (STREAMS * 3, [].as_slice()));
    assert_eq!(table.pending().await, 0);
    assert!(!finished.stderr.contains("no connection to the broker"), "it has reconnected:\n{}", finished.stderr);
}
