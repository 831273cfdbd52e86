//! Commands: decide, append, and again where another writer was first.

use std::time::Duration;

use streambox::{
    Error, EventStore, Metadata, Uuid,
    aggregate::{CacheSettings, CommandContext, ExecuteError, OnDemand, Repository},
};
use streambox_tests::{
    engine::{TestTable, client, stream},
    metering::Metering,
    orders::{Order, OrderEvent, Refusal, fill, orders},
    wire::Wire,
};
use tokio::{runtime::Handle, task::JoinSet, task::block_in_place};

fn added(items: u64) -> OrderEvent {
    OrderEvent::ItemsAdded { items }
}

/// A repository as another process has it.
fn another(table: &TestTable) -> Repository<Order> {
    Repository::builder(table.another().0).cache(None).build()
}

async fn types(store: &EventStore, id: &str) -> Vec<String> {
    let history = store.read(&stream(id)).await.expect("the stream loads");
    history.events.into_iter().map(|event| event.event_type).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_conflict_the_decision_is_made_again_on_the_new_state_and_only_the_tail_is_read() {
    for cached in [true, false] {
        let table = TestTable::create().await;
        let repository = if cached { orders(&table).build() } else { orders(&table).cache(None).build() };
        let other = another(&table);
        fill(&other, "1", [3]).await;
        table.wire.take();

        let mut seen = Vec::new();
        let saved = repository
            .execute("1", |order| {
                if seen.is_empty() {
                    // Another writer is quicker than this decision.
                    block_in_place(|| Handle::current().block_on(other.execute("1", |order| order.add(5)))).unwrap();
                }
                seen.push(order.items);
                order.add(1)
            })
            .await
            .unwrap();

        assert_eq!(seen, [3, 8], "cached: {cached}");
        assert_eq!((saved.attempts, saved.loaded.state().items, saved.loaded.version()), (2, 9, 5));
        let sent = table.wire.take();
        let operations: Vec<_> = sent.iter().map(|exchange| exchange.operation.as_str()).collect();
        // The load; the refused append, and where the stream is; the tail; the append.
        assert_eq!(operations, ["Query", "TransactWriteItems", "Query", "Query", "TransactWriteItems"]);
        let tail = sent[3].answer["Items"].as_array().unwrap();
        assert_eq!(tail.len(), 2, "one event is new, behind the one that the state ends with");
        assert_eq!(repository.stats().conflicts, 1);
        assert_eq!(other.load("1").await.unwrap().state(), saved.loaded.state());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_that_conflicts_each_time_ends_at_the_bound_with_the_last_conflict() {
    let table = TestTable::create().await;
    let repository = orders(&table).execute_attempts(3).build();
    let other = another(&table);
    let mut decisions = 0;
    let error = repository
        .execute("1", |order| {
            decisions += 1;
            block_in_place(|| Handle::current().block_on(other.execute("1", |order| order.add(1)))).unwrap();
            order.add(1)
        })
        .await
        .unwrap_err();
    let ExecuteError::Contended { attempts: 3, conflict } = error else { panic!("{error}") };
    assert_eq!((decisions, conflict.current.version()), (3, 3), "the others' events, none of ours");
    assert_eq!(types(&table.store, "order-1").await.len(), 3);
}

#[tokio::test]
async fn a_rejection_comes_out_as_it_is_and_nothing_to_do_is_no_append() {
    let table = TestTable::create().await;
    let repository = orders(&table).build();
    let error = repository.execute("1", |order| order.ship()).await.unwrap_err();
    assert!(matches!(error, ExecuteError::Rejected(Refusal::Empty)), "{error}");
    assert_eq!(table.items().await, 0);

    fill(&repository, "1", [1]).await;
    let shipped = repository.execute("1", |order| order.ship()).await.unwrap();
    assert_eq!((shipped.loaded.version(), shipped.attempts), (2, 1));
    table.wire.take();
    let again = repository.execute("1", |order| order.ship()).await.unwrap();
    assert!(again.appended.is_none() && again.loaded.version() == 2);
    assert_eq!(table.wire.take_costs(), [("Query".to_owned(), Metering::of_tests().read(1.0))]);
}

#[tokio::test]
async fn an_error_of_the_store_is_told_from_a_rejection() {
    let table = TestTable::create().await;
    let elsewhere = Repository::<Order>::new(EventStore::new(table.client(), "no-such-table"));
    let error = elsewhere.execute("1", |order| order.ship()).await.unwrap_err();
    assert!(matches!(error, ExecuteError::Store(Error::Configuration { .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn g2_executes_that_race_on_one_aggregate_all_count() {
    let table = TestTable::create().await;
    let mut writers = JoinSet::new();
    for writer in 0..6 {
        let repository = Repository::<Order>::builder(table.another().0).execute_attempts(1_000);
        let repository = if writer % 2 == 0 { repository.build() } else { repository.cache(None).build() };
        writers.spawn(async move {
            for _ in 0..10 {
                repository.execute("1", |order| order.add(1)).await.unwrap();
            }
            repository.stats().conflicts
        });
    }
    let conflicts: u64 = writers.join_all().await.into_iter().sum();
    assert!(conflicts > 0, "the writers met");
    let order = orders(&table).build().load("1").await.unwrap();
    assert_eq!((order.state().items, order.version()), (60, 60));
}

#[tokio::test]
async fn a_rejection_or_silence_on_a_stale_state_is_made_sure_of() {
    let table = TestTable::create().await;
    let day = CacheSettings::new().staleness(Duration::from_hours(24));
    let repository = orders(&table).cache(day).build();
    let other = another(&table);
    assert_eq!(repository.load("1").await.unwrap().version(), 0);
    other.execute("1", |order| order.add(2)).await.unwrap();
    assert_eq!(repository.load("1").await.unwrap().version(), 0, "stale, as allowed");

    let shipped = repository.execute("1", |order| order.ship()).await.unwrap();
    assert_eq!((shipped.loaded.version(), shipped.attempts), (2, 2), "not rejected as empty");

    // A rejection that stands: one more request has made sure of it.
    table.wire.take();
    let error = repository.execute("1", |order| order.add(1)).await.unwrap_err();
    assert!(matches!(error, ExecuteError::Rejected(Refusal::Shipped)), "{error}");
    assert_eq!(table.wire.take_costs(), [("Query".to_owned(), Metering::of_tests().read(1.0))]);
}

#[tokio::test]
async fn g3_a_command_that_comes_twice_is_carried_out_once_whatever_has_followed() {
    let table = TestTable::create().await;
    let command = CommandContext::new().with_id(Uuid::new_v4()).with_metadata(Metadata::new().with("by", "message-1"));
    let first = orders(&table).build().execute_with("1", &command, |order| order.add(2)).await.unwrap();
    fill(&another(&table), "1", [1; 20]).await;

    for repository in [orders(&table).build(), another(&table), orders(&table).snapshot_when(|_| true).build()] {
        let repeat = repository
            .execute_with("1", &command, |_| -> Result<Vec<OrderEvent>, Refusal> { panic!("decided again") })
            .await
            .unwrap();
        assert_eq!((first.version(), repeat.version()), (1, 1), "where the command has led to, whatever has followed");
        let (repeated, first) = (repeat.appended.unwrap(), first.appended.as_ref().unwrap());
        assert!(repeated.already_stored && repeat.attempts == 0);
        assert_eq!((repeated.first_version, &repeated.position), (first.first_version, &first.position));
        assert_eq!(repeated.recorded_at_ms, first.recorded_at_ms);
        assert_eq!(repeat.loaded.version(), 21, "the aggregate is as it is now");
        assert_eq!(repository.stats().repeats, 1);
    }
    let other = orders(&table).build().execute_with("2", &command, |order| order.add(1)).await.unwrap();
    assert!(!other.appended.unwrap().already_stored, "another stream is another place");
}

#[tokio::test]
async fn g9_whether_a_repeat_is_recognised_depends_on_the_window_alone() {
    let table = TestTable::create().await;
    let id = Uuid::new_v4();
    let plain = another(&table);
    let execute = |repository: Repository<Order>| async move {
        let command = CommandContext::new().with_id(id);
        repository.execute_with("1", &command, |order| order.add(2)).await.unwrap().appended.unwrap().already_stored
    };
    assert!(!execute(plain.clone()).await);
    fill(&plain, "1", [1; 29]).await;
    // The command's event is the 30th from the end: recognised in a window of 30, however the state was come by.
    let kinds = |window: u64| {
        let builder = || orders(&table).deduplication_window(window);
        [builder().cache(None).build(), builder().build(), builder().cache(None).snapshots(OnDemand).build()]
    };
    for repository in kinds(30) {
        repository.load("1").await.unwrap();
        assert!(execute(repository).await);
    }
    plain.snapshot("1").await.unwrap();
    // A backlog fills the first request of a load.
    table.publish_all(&stream("order-1")).await;
    for repository in kinds(30) {
        repository.load("1").await.unwrap();
        table.wire.take();
        assert!(execute(repository).await);
        let operations: Vec<_> = table.wire.take().into_iter().map(|exchange| exchange.operation).collect();
        assert!(operations.iter().all(|operation| operation == "Query") && operations.len() <= 2, "{operations:?}");
    }
    // Outside of it, it is a new command: each of these appends one event.
    for repository in kinds(29) {
        repository.load("1").await.unwrap();
        assert!(!execute(repository.clone()).await);
        fill(&plain, "1", [1; 29]).await;
    }
    let everything = orders(&table).deduplication_window(u64::MAX).build();
    assert!(execute(everything).await);
}

#[tokio::test]
async fn g3_a_command_whose_answer_is_lost_is_found_stored_when_it_comes_again() {
    let table = TestTable::create().await;
    let wire = Wire::new();
    let impatient = EventStore::builder(client(table.url(), Some(&wire)), &table.name)
        .operation_timeout(Duration::from_secs(2))
        .build();
    let command = CommandContext::new().with_id(Uuid::new_v4());
    wire.lose_answers("TransactWriteItems", u32::MAX);
    let impatient = Repository::<Order>::new(impatient);
    let error = impatient.execute_with("1", &command, |order| order.add(2)).await.unwrap_err();
    assert!(matches!(error, ExecuteError::Store(Error::Unavailable { outcome_unknown: true, .. })), "{error}");
    let repeat = orders(&table).build().execute_with("1", &command, |order| order.add(2)).await.unwrap();
    assert!(repeat.appended.unwrap().already_stored);
    assert_eq!((repeat.loaded.state().items, repeat.loaded.version()), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn g3_one_command_in_many_processes_at_once_is_stored_once() {
    let table = TestTable::create().await;
    let command = CommandContext::new().with_id(Uuid::new_v4());
    let mut processes = JoinSet::new();
    for process in 0..8 {
        let (repository, command) = (another(&table), command.clone());
        // Each decides for itself, and differently; what the first has stored counts.
        processes.spawn(async move {
            let saved = repository.execute_with("1", &command, |order| order.add(process + 1)).await.unwrap();
            (saved.loaded.state().items, saved.appended.unwrap().already_stored)
        });
    }
    let results = processes.join_all().await;
    let order = another(&table).load("1").await.unwrap();
    assert_eq!(order.version(), 1);
    assert!(results.iter().all(|(items, _)| *items == order.state().items), "{results:?}");
    assert_eq!(results.iter().filter(|(_, already_stored)| !already_stored).count(), 1);
}

#[tokio::test]
async fn g3_a_saved_command_is_recognised_wherever_the_aggregate_was_loaded() {
    let table = TestTable::create().await;
    let repository = orders(&table).build();
    let command = CommandContext::new().with_id(Uuid::new_v4());
    let empty = repository.load("1").await.unwrap();
    repository.save_with(&empty, &command, [added(2)]).await.unwrap();
    let repeat = repository.save_with(&empty, &command, [added(9)]).await.unwrap();
    assert!(repeat.appended.unwrap().already_stored);
    assert_eq!(repeat.loaded.state().items, 2, "what is stored, not what was asked for");
    let other = CommandContext::new().with_id(Uuid::new_v4());
    let error = repository.save_with(&empty, &other, [added(2)]).await.unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error}");

    // Loaded anew, behind what the command has stored; without a cache it is read for the purpose.
    for repository in [repository, another(&table)] {
        let loaded = repository.load("1").await.unwrap();
        let repeat = repository.save_with(&loaded, &command, [added(9)]).await.unwrap();
        let appended = repeat.appended.unwrap();
        assert!(appended.already_stored && appended.first_version == 1 && repeat.returned.is_none());
    }
    assert_eq!(types(&table.store, "order-1").await.len(), 1);
}

/// A consumer that deduplicates by the message id must not take one event for another.
#[tokio::test]
async fn two_events_never_share_an_id_though_two_appends_do() {
    let table = TestTable::create().await;
    let repository = orders(&table).deduplication_window(0).build();
    let command = CommandContext::new().with_id(Uuid::new_v4());
    for _ in 0..2 {
        let loaded = repository.load("1").await.unwrap();
        let saved = repository.save_with(&loaded, &command, [added(1), added(1)]).await.unwrap();
        assert!(!saved.appended.unwrap().already_stored, "it lies outside of the window");
    }
    let history = table.store.read(&stream("order-1")).await.unwrap();
    let ids: std::collections::HashSet<_> = history.events.iter().map(streambox::RecordedEvent::event_id).collect();
    assert_eq!((history.events.len(), ids.len()), (4, 4));
}
