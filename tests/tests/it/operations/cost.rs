//! What things cost: requests and capacity units, as `docs/costs.md` says it.
//!
//! Where DynamoDB Local counts otherwise than AWS does, [`Metering`] says by how much.

use std::{future::ready, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use streambox::{
    ExpectedVersion::{Any, At, Exact, NoStream, StreamExists},
    NewEvent,
    outbox::PendingKey,
};
use streambox_relay::{
    RelaySettings, Telemetry, Until,
    broker::BrokerSettings,
    core::{Answer, Bounds, Core, CoreSettings, Done, IndexPage, Outcome, Read, Task},
    run_observed,
};
use streambox_tests::{
    engine::{TestTable, event, stream},
    metering::{Metering, Put},
};
use tokio::time::Instant;

fn costs(expected: &[(&str, f64)]) -> Vec<(String, f64)> {
    expected.iter().map(|(operation, units)| ((*operation).to_owned(), *units)).collect()
}

#[tokio::test]
async fn an_append_is_one_request_of_2n_plus_3_write_units() {
    let table = TestTable::create().await;
    let mut at = NoStream;
    for events in [1, 10, 99] {
        let (order, units) = (stream("order-1"), Metering::of_tests().append(events));
        let appended = table.store.append(&order, at, (1..=events as u64).map(event)).await.unwrap();
        assert_eq!(table.wire.take_costs(), costs(&[("TransactWriteItems", units)]), "{events} events");
        assert!((appended.write_units - units).abs() < 1e-9, "the caller is told");
        at = At(appended.position);
    }
}

#[tokio::test]
async fn expected_versions_from_outside_cost_one_read_of_the_end() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.fill(&order, 100).await;
    table.wire.take();
    for expected in [Any, StreamExists, Exact(102)] {
        table.store.append(&order, expected, [event(1)]).await.unwrap();
        let append = Metering::of_tests().append(1);
        assert_eq!(table.wire.take_costs(), costs(&[("Query", 1.0), ("TransactWriteItems", append)]));
    }
}

#[tokio::test]
async fn a_conflict_costs_the_refused_write_and_one_read_of_the_end() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.fill(&order, 2).await;
    table.wire.take();
    table.store.append(&order, NoStream, [event(1)]).await.unwrap_err();
    let sent: Vec<_> = table.wire.take().into_iter().map(|exchange| exchange.operation).collect();
    assert_eq!(sent, ["TransactWriteItems", "Query"]);
}

#[tokio::test]
async fn a_pending_entry_is_one_index_page_one_query_and_one_delete() {
    let table = TestTable::create().await;
    let (order, outbox) = (stream("order-1"), table.store.outbox());
    table.fill(&order, 1).await;
    table.wire.take();

    let found = outbox.scan(None, 1_000).await.unwrap();
    assert_eq!(found.streams, std::slice::from_ref(&order));
    let pending = outbox.pending(&order, 1, 64).await.unwrap();
    assert!(pending.entries[0].events.is_some(), "a small append's entry carries its events: no further read");
    let left = outbox.delete(&[pending.entries[0].key()]).await.unwrap();

    assert_eq!(left, []);
    assert_eq!(table.wire.take_costs(), costs(&[("Scan", 0.5), ("Query", 1.0), ("BatchWriteItem", 2.0)]));
    assert_eq!(table.pending().await, 0);
}

#[tokio::test]
async fn deletes_go_25_in_a_request() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.fill(&order, 25).await;
    table.wire.take();
    let keys: Vec<_> = (1..=25).map(|last| PendingKey { stream_id: order.clone(), last }).collect();
    table.store.outbox().delete(&keys).await.unwrap();
    assert_eq!(table.wire.take_costs(), costs(&[("BatchWriteItem", 50.0)]));
}

#[tokio::test]
async fn an_idle_poll_is_half_a_read_unit() {
    let table = TestTable::create().await;
    let page = table.store.outbox().scan(None, 1_000).await.unwrap();
    assert!(page.streams.is_empty() && page.next.is_none());
    assert_eq!(table.wire.take_costs(), costs(&[("Scan", Metering::of_tests().empty_read(0.5))]));
}

/// A relay in virtual time: its decisions and the requests that they make, each answered at once, and a broker that confirms
/// everything at once.
struct RelayInVirtualTime {
    core: Core,
    now: Instant,
}

impl RelayInVirtualTime {
    /// With the intervals that the program has by default.
    fn start() -> Self {
        let settings = CoreSettings {
            bounds: Bounds::default(),
            poll_interval: Duration::from_millis(500),
            busy_poll_interval: Duration::from_millis(25),
            until: Until::Stopped,
            group: None,
        };
        let now = Instant::now();
        Self { core: Core::new(settings, 1, now), now }
    }

    /// Lets time pass. Returns how often it has looked at the index meanwhile, and the read units of that.
    async fn run_for(&mut self, table: &TestTable, time: Duration) -> (usize, f64) {
        let (outbox, end) = (table.store.outbox(), self.now + time);
        table.wire.take();
        while self.now < end {
            self.core.set_ready_publishers(1);
            while let Some(task) = self.core.next_task(self.now) {
                let done = match task {
                    Task::Scan { .. } => {
                        let page = outbox.scan(None, 1_000).await.expect("the engine answers");
                        let (streams, pending_since_ms) = (page.streams, page.pending_since_ms);
                        Done::Scanned(Some(IndexPage { streams, pending_since_ms, has_more: page.next.is_some() }))
                    }
                    Task::Read(read) => {
                        let Read::Pending { stream, from, limit } = &read else { panic!("{read:?}") };
                        let answer =
                            Answer::Pending(outbox.pending(stream, *from, *limit).await.expect("the engine answers"));
                        Done::Read(read, answer)
                    }
                    Task::Publish(batch) => {
                        let outcomes = vec![Outcome::Confirmed; batch.len()];
                        Done::Published(batch, outcomes)
                    }
                    Task::Delete(asked) => {
                        let left = outbox.delete(&asked).await.expect("the engine answers");
                        Done::Deleted { asked, left }
                    }
                    task => panic!("{task:?}"),
                };
                self.core.done(done, self.now);
                self.core.set_ready_publishers(1);
            }
            self.now = self.core.next_due().expect("it looks again").min(end);
        }
        let looks: Vec<_> = table.wire.take_costs().into_iter().filter(|(operation, _)| operation == "Scan").collect();
        (looks.len(), looks.iter().map(|(_, units)| units).sum())
    }
}

#[tokio::test]
async fn an_idle_relay_looks_twice_a_second_for_half_a_read_unit() {
    let (table, mut relay) = (TestTable::create().await, RelayInVirtualTime::start());
    for minute in 1..=2 {
        let (looks, units) = relay.run_for(&table, Duration::from_mins(1)).await;
        let expected = 120.0 * Metering::of_tests().empty_read(0.5);
        assert!(looks == 120 && (units - expected).abs() < 1e-9, "minute {minute}: {looks} looks, {units} read units");
    }
}

#[tokio::test]
async fn an_event_costs_at_most_ten_looks_more_and_under_load_less_than_half_a_read_unit() {
    let (table, mut relay) = (TestTable::create().await, RelayInVirtualTime::start());
    // An event alone, after a minute of silence.
    relay.run_for(&table, Duration::from_mins(1)).await;
    table.store.append(&stream("order-0"), NoStream, [event(1)]).await.unwrap();
    let (looks, units) = relay.run_for(&table, Duration::from_mins(1)).await;
    assert!((121..=130).contains(&looks) && units <= 65.0, "{looks} looks, {units} read units");
    assert_eq!(relay.core.totals().published, 1);

    // 100 events a second, each in another stream.
    let (mut looks, mut units) = (0, 0.0);
    for number in 1..=100 {
        table.store.append(&stream(&format!("order-{number}")), NoStream, [event(1)]).await.unwrap();
        let (more, read) = relay.run_for(&table, Duration::from_millis(10)).await;
        (looks, units) = (looks + more, units + read);
    }
    assert!((20..=40).contains(&looks), "after the first one a look every 25 ms: {looks}");
    assert!(units / 100.0 <= 0.5, "{units} read units for 100 events");
    relay.run_for(&table, Duration::from_secs(1)).await;
    assert_eq!((relay.core.totals().published, table.pending().await), (101, 0));
}

#[tokio::test]
async fn a_relay_that_starts_looks_at_the_index_and_at_the_table_once() {
    let table = TestTable::create().await;
    let settings = RelaySettings {
        // It is stopped before it needs one.
        broker: BrokerSettings::new("amqp://127.0.0.1:1".parse().unwrap(), "events".into()),
        publishers: 1,
        poll_interval: Duration::from_mins(1),
        busy_poll_interval: Duration::from_mins(1),
        drain_timeout: Duration::ZERO,
        bounds: Bounds::default(),
        group: None,
    };
    let telemetry = Telemetry::default();
    run_observed(&table.store, settings, &telemetry, Until::Stopped, ready(())).await.expect("the table is there");
    let empty = |units| Metering::of_tests().empty_read(units);
    let costs_of_start = costs(&[("Scan", empty(0.5)), ("Query", empty(1.0))]);
    assert!(table.wire.take_costs().starts_with(&costs_of_start));
}

#[tokio::test]
async fn a_large_append_has_an_entry_of_one_unit_and_its_events_are_read_once() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    let text = "x".repeat(4_000);
    let large = NewEvent::json("Grown", &text).unwrap();
    let appended = table.as_text().append(&order, NoStream, [large]).await.unwrap();
    // Five units of 1 KB for the event, one for the entry, both doubled by the transaction, and the index.
    let units = Metering::of_tests().transaction(&[Put::event_of(5.0), Put::ENTRY]);
    assert!((appended.write_units - units).abs() < 1e-9, "{}", appended.write_units);
    table.wire.take();

    let outbox = table.store.outbox();
    let pending = outbox.pending(&order, 1, 64).await.unwrap();
    assert!(pending.entries[0].events.is_none());
    let events = outbox.events(&order, 1, 1, None).await.unwrap();
    assert_eq!(events[0].payload, format!("\"{text}\""));
    assert_eq!(table.wire.take_costs(), costs(&[("Query", 1.0), ("Query", Metering::of_tests().read(2.0))]));
}

/// An event whose type and payload have this many bytes together.
fn of_bytes(bytes: usize) -> NewEvent {
    let payload_bytes = bytes - "Counted".len();
    NewEvent::from_json_text("Counted", format!("\"{}\"", "x".repeat(payload_bytes - 2))).expect("JSON")
}

#[tokio::test]
async fn around_an_event_there_are_at_most_110_bytes_and_1_000_of_300_bytes_cost_101_read_units() {
    const EVENTS: usize = 1_000;
    let table = TestTable::create().await;
    let order = stream("order-1");
    let mut at = NoStream;
    for _ in 0..EVENTS {
        at = At(table.as_text().append(&order, at, [of_bytes(300)]).await.unwrap().position);
    }
    let item = table.client().get_item().table_name(&table.name);
    let item = item.key("stream_id", AttributeValue::S("order-1".to_owned()));
    let item = item.key("entity", AttributeValue::S(format!("event#{EVENTS:020}"))).send().await.unwrap().item.unwrap();
    let values = item.values().map(|value| match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(digits) => digits.len().div_ceil(2) + 1,
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        other => panic!("an event has no {other:?}"),
    });
    let bytes = item.keys().map(String::len).chain(values).sum::<usize>();
    let ours = bytes - 300 - order.as_str().len();
    assert!(ours <= 110, "{ours} bytes beside type, payload and stream id: {item:?}");

    let history = table.store.read(&order).await.unwrap();
    assert_eq!(history.events.len(), EVENTS);
    assert!(history.read_units <= 101.0, "{}", history.read_units);
}

#[tokio::test]
async fn a_pending_entry_has_room_for_a_copy_of_an_event_of_600_bytes() {
    let table = TestTable::create().await;
    let order = stream("order-4711-of-a-customer-with-a-long-name");
    let first = table.store.append(&order, NoStream, [event(1)]).await.unwrap();
    table.as_text().append(&order, At(first.position), [of_bytes(600)]).await.unwrap();
    let pending = table.store.outbox().pending(&order, 1, 64).await.unwrap();
    assert!(pending.entries[1].previous.is_some() && pending.entries[1].events.is_some(), "{pending:?}");
}

#[tokio::test]
async fn a_page_that_the_library_can_not_read_itself_is_asked_for_once_more_and_named_by_the_sdks_reading() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.fill(&order, 3).await;
    table.wire.take();
    assert_eq!(table.store.read(&order).await.unwrap().events.len(), 3);
    assert_eq!(table.wire.take_costs().len(), 1, "a sound page is read at once");

    table.set(&order, "event#00000000000000000001", "payload", AttributeValue::L(vec![])).await;
    table.wire.take();
    let error = table.store.read(&order).await.unwrap_err();
    assert!(error.to_string().contains("event#00000000000000000001: payload is not a text"), "{error}");
    let sent: Vec<_> = table.wire.take().into_iter().map(|exchange| exchange.operation).collect();
    assert_eq!(sent, ["Query", "Query"], "the page, and once more");
}
