//! Events that are part of the history and not for publication.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};
use streambox::{
    ExpectedVersion::{self, At, NoStream},
    aggregate::{Aggregate, DomainEvent, Repository, TaggedJson},
    testing::Given,
};
use streambox_tests::{
    broker::{Inbox, shared_broker_url},
    engine::{TestTable, event, stream},
    metering::{Metering, Put},
    programs::run,
    unique,
};

#[tokio::test]
async fn an_append_of_private_events_writes_no_pending_entry_and_costs_2n() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    let events = || (1..=3).map(|number| event(number).private());

    let appended = table.store.append(&order, NoStream, events()).await.unwrap();

    let units = Metering::of_tests().transaction(&[Put::EVENT; 3]);
    assert_eq!(table.wire.take_costs(), [("TransactWriteItems".to_owned(), units)]);
    assert_eq!((table.items().await, table.pending().await), (3, 0));
    let history = table.store.read(&order).await.unwrap();
    assert!(history.events.iter().all(|event| event.is_private));
    assert_eq!(history.position, appended.position);
    let repeat = table.store.append_with_id(appended.append_id, &order, ExpectedVersion::Any, events()).await.unwrap();
    assert!(repeat.already_stored);
    assert_eq!(repeat.position, appended.position);
}

#[tokio::test]
async fn g6_an_entry_names_the_last_public_version_before_it_whoever_reads_the_end() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    let public = table.store.append(&order, NoStream, [event(1)]).await.unwrap();
    let private = table.store.append(&order, At(public.position), [event(2).private()]).await.unwrap();

    // By the position of the append, by the stream's end, and by a load.
    table.store.append(&order, At(private.position), [event(3).private(), event(4)]).await.unwrap();
    table.store.append(&order, ExpectedVersion::Any, [event(5).private()]).await.unwrap();
    let history = table.store.read(&order).await.unwrap();
    table.store.append(&order, At(history.position), [event(6)]).await.unwrap();

    let entries = table.store.outbox().pending(&order, 1, 10).await.unwrap().entries;
    let seen: Vec<_> = entries
        .iter()
        .map(|entry| (entry.first, entry.last, entry.public.clone(), entry.previous.map(|previous| previous.version)))
        .collect();
    assert_eq!(seen, [(1, 1, None, None), (4, 4, None, Some(1)), (6, 6, None, Some(4))]);
}

#[tokio::test]
async fn g3_g6_a_repeat_of_private_and_public_events_gives_the_same_position_wherever_it_is_expected() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    let events = || [event(1), event(2).private(), event(3), event(4).private()];
    let first = table.store.append(&order, NoStream, events()).await.unwrap();
    for expected in [NoStream, ExpectedVersion::Exact(0), ExpectedVersion::Any] {
        let repeat = table.store.append_with_id(first.append_id, &order, expected, events()).await.unwrap();
        assert_eq!((repeat.already_stored, &repeat.position), (true, &first.position));
    }
    // Another writer's, at a place that is taken: the position in its conflict is as good.
    let error = table.store.append(&order, NoStream, [event(1)]).await.unwrap_err();
    let streambox::Error::Conflict(conflict) = error else { panic!("{error}") };
    assert_eq!(conflict.current, first.position);
    table.store.append(&order, At(conflict.current), [event(5)]).await.unwrap();
    let entries = table.store.outbox().pending(&order, 1, 10).await.unwrap().entries;
    assert_eq!(entries[1].previous.map(|previous| previous.version), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relay_publishes_public_events_alone_small_and_large() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    for (id, bytes) in [("order-1", 10), ("order-2", 5_000)] {
        let text = "x".repeat(bytes);
        let events = (1..=6).map(|number| {
            let event = streambox::NewEvent::json("Counted", &(number, &text)).unwrap();
            if number % 2 == 0 { event.private() } else { event }
        });
        table.store.append(&stream(id), NoStream, events).await.unwrap();
    }
    let drained =
        run("streambox-relay", Some(&table), Some(&shared_broker_url()), ["drain", "--exchange", inbox.exchange()])
            .await;
    assert_eq!(drained.code(), Some(0), "{}", drained.stderr);
    let mut received = Vec::new();
    for _ in 0..6 {
        let message = inbox.next().await;
        received.push((message.event.stream_id.to_string(), message.event.version));
    }
    received.sort();
    let expected = ["order-1", "order-2"].iter().flat_map(|id| [1, 3, 5].map(|version| ((*id).to_owned(), version)));
    assert_eq!(received, expected.collect::<Vec<_>>());
    assert_eq!((inbox.receive_rest().await.unwrap().received(), table.pending().await), (6, 0));
    inbox.close().await.unwrap();
}

#[derive(PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum ClaimEvent {
    Filed { cents: u64 },
    RiskScored { percent: u8 },
}

impl DomainEvent for ClaimEvent {
    type Codec = TaggedJson;
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Claim {
    cents: u64,
    risk_percent: u8,
}

impl Aggregate for Claim {
    type Event = ClaimEvent;
    const CATEGORY: &'static str = "claim";

    fn apply(&mut self, event: &ClaimEvent) {
        match event {
            ClaimEvent::Filed { cents } => self.cents = *cents,
            ClaimEvent::RiskScored { percent } => self.risk_percent = *percent,
        }
    }

    fn is_private(event: &ClaimEvent) -> bool {
        matches!(event, ClaimEvent::RiskScored { .. })
    }
}

#[tokio::test]
async fn an_aggregate_says_which_of_its_events_are_private() {
    let table = TestTable::create().await;
    let claims = Repository::<Claim>::new(table.store.clone());
    let score = |claim: &Claim| {
        Ok::<_, std::convert::Infallible>([ClaimEvent::RiskScored {
            percent: if claim.cents > 1_000 { 80 } else { 5 },
        }])
    };
    let filed = claims.execute("1", |_| Ok::<_, std::convert::Infallible>([ClaimEvent::Filed { cents: 5_000 }]));
    filed.await.unwrap();
    let scored = claims.execute("1", |order| score(order)).await.unwrap();

    assert_eq!(scored.loaded.state().risk_percent, 80);
    let decision = || Given::events([ClaimEvent::Filed { cents: 5_000 }]).when(|claim| score(claim));
    decision().then_private([ClaimEvent::RiskScored { percent: 80 }]);
    let said = catch_unwind(AssertUnwindSafe(|| _ = decision().then_private([]))).expect_err("the check fails");
    let said = said.downcast::<String>().expect("a formatted message");
    assert!(said.contains("other private events") && said.contains("+     RiskScored"), "{said}");
    let history = table.store.read(&stream("claim-1")).await.unwrap();
    assert_eq!(history.events.iter().map(|event| event.is_private).collect::<Vec<_>>(), [false, true]);
    assert_eq!(table.pending().await, 1, "the score is not for publication");
}
