//! The example `reservations`, whole: the service as a process, the relay, RabbitMQ and the read model.

use std::ffi::OsStr;

use aws_sdk_dynamodb::types::AttributeValue;
use lapin::{Connection, ConnectionProperties, options::QueueDeleteOptions};
use nix::sys::signal::Signal;
use serde_json::json;
use streambox_tests::{
    PATIENCE,
    broker::shared_broker_url,
    engine::TestTable,
    http::{Answer, send},
    items,
    programs::{Process, run},
    unique,
};
use tokio::time::timeout;

/// A service, its table and its part of the broker.
struct Setting {
    table: TestTable,
    url: String,
    exchange: String,
    queue: String,
    own: String,
}

impl Setting {
    async fn new() -> Self {
        let (exchange, queue, own) = (unique("events"), unique("free-seats"), unique("reservations"));
        Self { table: TestTable::create().await, url: shared_broker_url(), exchange, queue, own }
    }

    /// The service, whose queue is bound, and its address.
    async fn start(&self) -> (Process, String) {
        self.start_with(&[]).await
    }

    async fn start_with(&self, more: &[(&str, &str)]) -> (Process, String) {
        let variables = [
            ("RESERVATIONS_CREATE_TABLES", "1"),
            ("RESERVATIONS_INBOX", &format!("{}-inbox", self.own)),
            ("RESERVATIONS_HTTP", "127.0.0.1:0"),
            ("RESERVATIONS_QUEUE", &self.queue),
            ("RESERVATIONS_TABLE", &self.own),
            ("STREAMBOX_EXCHANGE", &self.exchange),
        ];
        let variables = variables.iter().chain(more).map(|(name, value)| (*name, OsStr::new(*value)));
        let variables: Vec<_> = variables.collect();
        let (table, url) = (Some(&self.table), Some(self.url.as_str()));
        let mut service = Process::start_with("reservations", table, url, &variables, [""; 0]);
        let line = service.log_line("listening on ").await;
        service.logs("the projection follows").await;
        (service, line.replace("listening on ", ""))
    }

    async fn relay(&self) {
        let arguments = ["drain", "--exchange", &self.exchange];
        let done = run("streambox-relay", Some(&self.table), Some(&self.url), arguments).await;
        assert_eq!(done.code(), Some(0), "{}", done.stderr);
    }

    /// What a relay that was killed before it deleted its entries leaves: everything is published once more.
    async fn restore(&self, entries: Vec<items::Item>) {
        for entry in entries {
            items::put(&self.table, entry).await;
        }
        self.relay().await;
    }

    async fn pending_entries(&self) -> Vec<items::Item> {
        let scan = self.table.client().scan().table_name(&self.table.name).consistent_read(true);
        let scan = scan.filter_expression("begins_with(entity, :pending)");
        let found = scan.expression_attribute_values(":pending", AttributeValue::S("pending#".to_owned())).send();
        found.await.expect("the engine answers").items.unwrap_or_default()
    }

    async fn delete_queues(&self) {
        let connection =
            Connection::connect(&self.url, ConnectionProperties::default()).await.expect("the broker answers");
        let channel = connection.create_channel().await.expect("the broker answers");
        for queue in [self.queue.clone(), format!("{}.dead", self.queue)] {
            channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("the broker answers");
        }
        connection.close(200, "done".into()).await.expect("the broker answers");
    }
}

async fn reserve(address: &str, concert: &str, email: &str, headers: &[(&str, &str)]) -> Answer {
    let headers: Vec<_> = [("Content-Type", "application/json")].into_iter().chain(headers.iter().copied()).collect();
    let (path, body) = (format!("/concerts/{concert}/reservations"), json!({ "email": email }).to_string());
    send(address, "POST", &path, &headers, &body).await
}

/// Waits until the read model says so. A table gives no signal, so it is asked again and again.
async fn wait_for_free_seats(address: &str, concert: &str, free: &str) {
    let path = format!("/concerts/{concert}/free-seats");
    let mut last = String::new();
    let reached = async {
        while last != free {
            last = send(address, "GET", &path, &[], "").await.body;
        }
    };
    let in_time = timeout(PATIENCE, reached).await;
    assert!(in_time.is_ok(), "{last} seats of concert {concert} are free, not {free}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_service_reserves_a_seat_once_and_its_read_model_counts_it_once() {
    let setting = Setting::new().await;
    let (service, address) = setting.start().await;
    for concert in ["1", "2"] {
        let headers = [("Content-Type", "application/json")];
        let announced = send(&address, "PUT", &format!("/concerts/{concert}"), &headers, "{\"seats\":10}").await;
        assert_eq!((announced.status, announced.header("etag")), (204, Some("\"1\"")));
    }

    let with_key = [("Idempotency-Key", "checkout-9"), ("If-Match", "\"1\"")];
    let first = reserve(&address, "1", "ann@example.org", &with_key).await;
    assert_eq!((first.status, first.header("etag"), first.body.as_str()), (200, Some("\"2\""), "{\"seat\":1}"));
    assert_eq!(reserve(&address, "1", "bob@example.org", &[]).await.status, 200);
    // A repeat is recognised before the version is compared.
    let repeat = reserve(&address, "1", "ann@example.org", &with_key).await;
    assert_eq!((repeat.status, repeat.header("etag"), &repeat.body), (200, Some("\"2\""), &first.body));
    assert_eq!(reserve(&address, "1", "eve@example.org", &[("If-Match", "\"2\"")]).await.status, 412);
    assert_eq!(reserve(&address, "2", "ann@example.org", &[]).await.status, 409);
    let of = |concert: &str| streambox_tests::engine::stream(&format!("concert-{concert}"));
    assert_eq!(setting.table.store.position(&of("1")).await.unwrap().version(), 3);
    assert_eq!(setting.table.store.position(&of("2")).await.unwrap().version(), 1);

    let entries = setting.pending_entries().await;
    assert_eq!(entries.len(), 4);
    setting.relay().await;
    wait_for_free_seats(&address, "1", "8").await;
    wait_for_free_seats(&address, "2", "10").await;
    setting.restore(entries).await;
    // Behind everything that came twice.
    let released = send(&address, "DELETE", "/concerts/1/reservations/1", &[("If-Match", "\"3\"")], "").await;
    assert_eq!((released.status, released.header("etag")), (204, Some("\"4\"")));
    setting.relay().await;
    wait_for_free_seats(&address, "1", "9").await;

    // What comes while the service is away waits for it.
    service.signal(Signal::SIGTERM);
    let ended = service.finish().await;
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    let (service, address) = setting.start().await;
    assert_eq!(reserve(&address, "2", "ann@example.org", &[]).await.status, 200);
    setting.relay().await;
    wait_for_free_seats(&address, "2", "9").await;
    service.kill().await;
    setting.delete_queues().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_service_publishes_by_itself_with_the_relay_inside() {
    let setting = Setting::new().await;
    let (service, address) = setting.start_with(&[("RESERVATIONS_RELAY", "1")]).await;
    let headers = [("Content-Type", "application/json")];
    assert_eq!(send(&address, "PUT", "/concerts/1", &headers, "{\"seats\":10}").await.status, 204);
    assert_eq!(reserve(&address, "1", "ann@example.org", &[]).await.status, 200);
    wait_for_free_seats(&address, "1", "9").await;
    service.signal(Signal::SIGTERM);
    let ended = service.finish().await;
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    // The stop deletes what was confirmed.
    assert_eq!(setting.pending_entries().await, []);
    setting.delete_queues().await;
}
