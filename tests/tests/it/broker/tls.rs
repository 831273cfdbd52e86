//! `amqps`: authorities, client certificates, and the messages if something is wrong with them.

use std::path::Path;

use nix::sys::signal::Signal;
use streambox_tests::{
    broker::{Inbox, OwnBroker, shared_broker_url},
    engine::{TestTable, stream},
    programs::{Finished, Process, run},
    tls::{Authority, Identity, TlsFront},
    unique,
};

const LONG: i32 = 2090;
const LONG_AGO: i32 = 2020;

fn text(path: &Path) -> &str {
    path.to_str().expect("the path is UTF-8")
}

/// The flags for an authority and, if there is one, a client certificate.
fn flags<'a>(authority: &'a Authority, client: Option<&'a Identity>) -> Vec<&'a str> {
    let mut flags = vec!["--amqp-ca-file", text(authority.certificate())];
    if let Some(client) = client {
        flags.extend(["--amqp-cert-file", text(&client.certificate), "--amqp-key-file", text(&client.key)]);
    }
    flags
}

async fn drain(table: &TestTable, url: &str, exchange: &str, flags: &[&str]) -> Finished {
    let arguments = ["drain", "--exchange", exchange].into_iter().chain(flags.iter().copied());
    run("streambox-relay", Some(table), Some(url), arguments).await
}

/// Verifies that it ends at once as badly configured, and says why.
fn assert_refused(finished: &Finished, words: &[&str]) {
    assert_eq!(finished.code(), Some(78), "{}", finished.stderr);
    for word in words {
        assert!(finished.stderr.contains(word), "{word:?} is missing in:\n{}", finished.stderr);
    }
}

/// Host and port of the broker that all tests share.
fn shared_address() -> String {
    let uri = streambox_relay::broker::parse_url(&shared_broker_url()).expect("a valid URL");
    format!("{}:{}", uri.authority.host, uri.authority.port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_with_tls_takes_a_client_that_shows_its_certificate_and_no_other() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let broker = OwnBroker::start_with_tls(&ours, &ours.issue("localhost", LONG)).await;
    // A user without a password: the certificate alone says who it is.
    broker.ctl(&["add_user", "relay", "unused"]).await;
    broker.ctl(&["clear_password", "relay"]).await;
    broker.ctl(&["set_permissions", "relay", ".*", ".*", ".*"]).await;
    let table = TestTable::create().await;
    table.fill(&stream("order-1"), 3).await;
    let mut inbox = Inbox::open(broker.url(), &unique("events")).await.unwrap();
    let client = ours.issue("relay", LONG);
    let url = format!("amqps://localhost:{}/%2f?auth_mechanism=external", broker.tls_port());

    let refused = drain(&table, &url, inbox.exchange(), &flags(&theirs, Some(&client))).await;
    assert_refused(&refused, &["authority that is not trusted", text(theirs.certificate())]);
    let refused = drain(&table, &url, inbox.exchange(), &flags(&ours, None)).await;
    assert_refused(&refused, &["client certificate", "--amqp-cert-file"]);
    let stranger = theirs.issue("relay", LONG);
    let refused = drain(&table, &url, inbox.exchange(), &flags(&ours, Some(&stranger))).await;
    assert_refused(&refused, &["does not accept the client certificate", text(&stranger.certificate)]);
    let expired = ours.issue("relay", LONG_AGO);
    let refused = drain(&table, &url, inbox.exchange(), &flags(&ours, Some(&expired))).await;
    assert_refused(&refused, &["client certificate", text(&expired.certificate), "has expired: renew it"]);
    let refused = drain(&table, &url, inbox.exchange(), &[]).await;
    assert_refused(&refused, &["authority that is not trusted", "--amqp-ca-file"]);

    let drained = drain(&table, &url, inbox.exchange(), &flags(&ours, Some(&client))).await;
    assert_eq!(drained.code(), Some(0), "{}", drained.stderr);
    assert_eq!(inbox.receive_rest().await.unwrap().distinct(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_the_broker_that_is_not_good_is_told_in_a_sentence() {
    let authority = Authority::new("ours");
    let table = TestTable::create().await;
    // Without anything to publish, a drain is done before it needs the broker.
    table.fill(&stream("order-1"), 1).await;
    let good = authority.issue("localhost", LONG);
    let front = TlsFront::start(&good, &shared_address()).await;
    let url = |scheme: &str, host: &str, port: u16| format!("{scheme}://guest:open-sesame@{host}:{port}/%2f");
    let trust = flags(&authority, None);

    front.change(&authority.issue("localhost", LONG_AGO));
    let refused = drain(&table, &url("amqps", "localhost", front.port()), "unused", &trust).await;
    assert_refused(&refused, &["has expired", "renew"]);
    assert!(!refused.stderr.contains("open-sesame"), "{}", refused.stderr);
    front.change(&good);
    let refused = drain(&table, &url("amqps", "127.0.0.1", front.port()), "unused", &trust).await;
    assert_refused(&refused, &["not for the name \"127.0.0.1\""]);
    // TLS to a port that speaks none.
    let shared = streambox_relay::broker::parse_url(&shared_broker_url()).unwrap();
    let refused = drain(&table, &url("amqps", "localhost", shared.authority.port), "unused", &trust).await;
    assert_refused(&refused, &["does not speak TLS"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_are_renewed_on_disk_are_used_from_the_next_connection_on() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let table = TestTable::create().await;
    let shared = shared_broker_url();
    let mut inbox = Inbox::open(&shared, &unique("events")).await.unwrap();
    let front = TlsFront::start(&old.issue("localhost", LONG), &shared_address()).await;
    let credentials = streambox_relay::broker::parse_url(&shared).unwrap().authority.userinfo;
    let url = format!("amqps://{}:{}@localhost:{}/%2f", credentials.username, credentials.password, front.port());
    let directory = tempfile::tempdir().unwrap();
    let trusted = directory.path().join("trusted.pem");
    std::fs::copy(old.certificate(), &trusted).unwrap();
    let arguments = ["run", "--exchange", inbox.exchange(), "--amqp-ca-file", text(&trusted)];
    let mut relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    table.fill(&stream("order-1"), 1).await;
    inbox.receive_distinct(1).await;

    // The broker is renewed first: a running relay says what is wrong, and keeps trying.
    front.change(&new.issue("localhost", LONG));
    relay.logs("authority that is not trusted").await;
    table.fill(&stream("order-2"), 1).await;
    std::fs::copy(new.certificate(), &trusted).unwrap();
    inbox.receive_distinct(2).await;

    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.finish().await.code(), Some(0));
    inbox.close().await.unwrap();
}

#[tokio::test]
async fn files_that_tls_cannot_use_are_named_before_anything_is_connected() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (client, other) = (ours.issue("relay", LONG), theirs.issue("other", LONG));
    let table = TestTable::create().await;
    let directory = tempfile::tempdir().unwrap();
    let nonsense = directory.path().join("nonsense.pem");
    std::fs::write(&nonsense, "no certificate").unwrap();
    let url = "amqps://guest:open-sesame@localhost:1/%2f";
    let cases = [
        (vec!["--amqp-ca-file", text(&nonsense)], vec!["--amqp-ca-file", text(&nonsense), "BEGIN CERTIFICATE"]),
        (vec!["--amqp-ca-file", "/no/such.pem"], vec!["--amqp-ca-file", "/no/such.pem", "can't be read"]),
        (
            vec!["--amqp-cert-file", text(&client.certificate), "--amqp-key-file", text(&client.certificate)],
            vec!["--amqp-cert-file", "client key", "BEGIN PRIVATE KEY"],
        ),
        (
            vec!["--amqp-cert-file", text(&client.certificate), "--amqp-key-file", text(&other.key)],
            vec!["--amqp-cert-file", text(&client.certificate), text(&other.key)],
        ),
    ];
    for (flags, words) in cases {
        assert_refused(&drain(&table, url, "unused", &flags).await, &words);
    }
    // Half of an identity is a mistake on the command line.
    let finished = drain(&table, url, "unused", &["--amqp-cert-file", text(&client.certificate)]).await;
    assert_eq!(finished.code(), Some(2), "{}", finished.stderr);
}
