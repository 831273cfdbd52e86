//! What a decision can ask for beside events, the version that a command expects, and commands that come at the same time.

use std::{collections::HashSet, time::Duration};

use streambox::{
    Error, EventStore,
    ExpectedVersion::{Any, NoStream},
    Invalid, NewEvent, Uuid,
    aggregate::{CommandContext, Decision, ExecuteError, Repository},
};
use streambox_tests::{
    engine::{TestTable, stream},
    orders::{Order, OrderEvent, fill, orders},
};
use tokio::task::JoinSet;

use crate::append::transaction::{own_table, reserve};

type Never = std::convert::Infallible;

fn added(items: u64) -> OrderEvent {
    OrderEvent::ItemsAdded { items }
}

fn note() -> NewEvent {
    NewEvent::json("Noted", &"order-1").expect("it is valid")
}

#[tokio::test]
async fn a_decision_sees_state_and_version_and_returns_a_value() {
    let table = TestTable::create().await;
    let repository = orders(&table).build();
    fill(&repository, "1", [3]).await;
    let saved = repository
        .execute("1", |order| Ok::<_, Never>(Decision::new([added(1)]).returning((order.version(), order.items))))
        .await
        .unwrap();
    assert_eq!((saved.returned, saved.loaded.version()), (Some((3, 3)), 4));
    // A value without events: a question.
    let asked =
        repository.execute("1", |order| Ok::<_, Never>(Decision::new([]).returning(order.items))).await.unwrap();
    assert_eq!((asked.returned, asked.appended), (Some(4), None));
}

#[tokio::test]
async fn g1_what_a_decision_asks_for_is_stored_together_or_not_at_all() {
    let table = TestTable::create().await;
    let emails = own_table(&table).await;
    let repository = orders(&table).build();
    let (log, command) = (stream("log-1"), CommandContext::new().with_id(Uuid::new_v4()));
    let register = |id: &'static str, expected| {
        let reservation = reserve(&emails, "ann@example.org", id);
        let decision = Decision::new([added(3)]).item(reservation).append(&log, expected, [note()]);
        move |_: &streambox::aggregate::Loaded<Order>| Ok::<_, Never>(decision.clone())
    };

    let saved = repository.execute_with("1", &command, register("1", Any)).await.unwrap();
    assert_eq!((saved.loaded.version(), saved.others.len()), (1, 1));
    assert_eq!(saved.others[0].position.stream(), &log);
    let repeat = repository.execute_with("1", &command, register("1", Any)).await.unwrap();
    assert!(repeat.appended.unwrap().already_stored && repeat.returned.is_none());

    // The address is taken.
    let refused = repository.execute("2", register("2", Any)).await.unwrap_err();
    assert!(matches!(refused, ExecuteError::Store(Error::ItemRefused(_))), "{refused}");
    // The other stream is elsewhere: to decide again would change nothing.
    let mut decisions = 0;
    let elsewhere = repository.execute("2", |_| {
        decisions += 1;
        Ok::<_, Never>(Decision::new([added(3)]).append(&log, NoStream, [note()]))
    });
    let ExecuteError::Conflict(conflict) = elsewhere.await.unwrap_err() else { panic!("the stream is there") };
    assert_eq!((conflict.current.stream(), conflict.current.version(), decisions), (&log, 1, 1));
    assert_eq!(repository.load("2").await.unwrap().version(), 0);
    assert_eq!(table.store.read(&log).await.unwrap().events.len(), 1);
}

#[tokio::test]
async fn items_without_an_event_are_refused_before_anything_is_sent() {
    let table = TestTable::create().await;
    let emails = own_table(&table).await;
    let repository = orders(&table).build();
    repository.load("1").await.unwrap();
    let decide = |_: &_| Ok::<_, Never>(Decision::new([]).item(reserve(&emails, "ann@example.org", "1")));
    let error = repository.execute("1", decide).await.unwrap_err();
    assert!(matches!(error, ExecuteError::Store(Error::Invalid(Invalid::NoEvents))), "{error}");
    assert_eq!(table.items().await, 0);
}

#[tokio::test]
async fn a_command_that_expects_a_version_conflicts_at_any_other_and_a_repeat_is_recognised_first() {
    let table = TestTable::create().await;
    let repository = orders(&table).build();
    fill(&repository, "1", [3]).await;
    let command = CommandContext::new().with_id(Uuid::new_v4()).expecting(3);
    let saved = repository.execute_with("1", &command, |order| order.add(1)).await.unwrap();
    let etag = saved.appended.unwrap().position.version();
    assert_eq!(etag, 4);

    let repeat = repository.execute_with("1", &command, |order| order.add(1)).await.unwrap();
    assert_eq!((repeat.appended.unwrap().position.version(), repeat.attempts), (etag, 0));

    let stale = CommandContext::new().expecting(3);
    let error = repository.execute_with("1", &stale, |_| -> Result<Vec<OrderEvent>, Never> { panic!("decided") });
    let ExecuteError::Conflict(conflict) = error.await.unwrap_err() else { panic!("it is at another version") };
    assert_eq!(conflict.to_string(), "stream order-1 is at version 4, expected version 3");
    let loaded = repository.load("1").await.unwrap();
    let error = repository.save_with(&loaded, &stale, [added(1)]).await.unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error}");
    assert_eq!(repository.load("1").await.unwrap().version(), 4);
}

/// One load and one append each: none of them meets another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commands_of_one_process_on_one_stream_take_turns_and_cost_two_requests_each() {
    let table = TestTable::create().await;
    let repository = orders(&table).build();
    let mut commands = JoinSet::new();
    for _ in 0..32 {
        let repository = repository.clone();
        commands.spawn(async move { repository.execute("1", |order| order.add(1)).await.unwrap().appended.unwrap() });
    }
    let versions: HashSet<_> = commands.join_all().await.iter().map(|appended| appended.position.version()).collect();
    assert_eq!(versions, (1..=32).collect());
    assert_eq!(repository.stats().conflicts, 0);
    let requests = table.wire.take().len();
    assert!(requests <= 2 * 32, "{requests} requests");
}

/// Four processes with eight commands each at the same time, again and again. Which process is first is chance, so that with the default
/// attempts about one command in 200 is given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn g2_commands_of_four_processes_on_one_stream_are_all_carried_out() {
    let table = TestTable::create().await;
    let mut commands = JoinSet::new();
    for _ in 0..4 {
        let store = EventStore::builder(table.client(), &table.name).operation_timeout(Duration::from_hours(1)).build();
        let repository = Repository::<Order>::builder(store).execute_attempts(1_000).build();
        for _ in 0..8 {
            let repository = repository.clone();
            commands.spawn(async move {
                for _ in 0..4 {
                    repository.execute("1", |order| order.add(1)).await.unwrap();
                }
            });
        }
    }
    commands.join_all().await;
    assert_eq!(orders(&table).build().load("1").await.unwrap().version(), 128);
}

#[tokio::test]
async fn g1_two_aggregates_change_together_and_caches_snapshots_and_counters_follow() {
    let table = TestTable::create().await;
    let build = || orders(&table).snapshot_when(|_| true).build();
    let (from, to) = (build(), build());
    fill(&from, "1", [5]).await;
    // An older one is not written over a newer one.
    from.snapshots_settled().await;
    let command = CommandContext::new().with_id(Uuid::new_v4());
    let (one, two) = (from.load("1").await.unwrap(), to.load("2").await.unwrap());
    let begin = || from.transaction(&one, &command, [added(1)]).unwrap().and(&to, &two, [added(2)]).unwrap();
    table.wire.take();
    let committed = begin().commit().await.unwrap();
    assert_eq!(committed.appends.iter().map(|append| append.position.version()).collect::<Vec<_>>(), [6, 1]);
    from.snapshots_settled().await;
    to.snapshots_settled().await;
    assert_eq!((from.stats().snapshots_taken, to.stats().snapshots_taken), (2, 1));
    let (six, one_more) = (from.load("1").await.unwrap(), to.load("2").await.unwrap());
    assert_eq!((six.items, one_more.items), (6, 2));
    assert_eq!((from.stats().cold_loads, to.stats().cold_loads), (1, 1), "the caches have it");

    // A repeat at the same place, and one by a process that has loaded what the first has stored.
    assert!(begin().commit().await.unwrap().already_stored);
    let again = from.transaction(&six, &command, [added(1)]).unwrap().and(&to, &two, [added(2)]).unwrap();
    let again = again.commit().await.unwrap();
    assert!(again.already_stored);
    assert_eq!((from.stats().repeats, to.stats().repeats), (2, 2));
    assert_eq!(again.appends.iter().map(|append| append.position.version()).collect::<Vec<_>>(), [6, 1]);

    // Somebody else was first at the second aggregate: nothing is stored, and it counts there.
    let stale = from.transaction(&six, &CommandContext::new(), [added(1)]).unwrap().and(&to, &two, [added(2)]).unwrap();
    let Error::Conflict(conflict) = stale.commit().await.unwrap_err() else { panic!("it is at version 1") };
    assert_eq!(conflict.current.stream().as_str(), "order-2");
    assert_eq!((from.stats().conflicts, to.stats().conflicts), (0, 1));
    assert_eq!(from.load("1").await.unwrap().version(), 6);
}

#[tokio::test]
async fn an_aggregate_of_another_table_is_refused_before_anything_is_sent() {
    let (table, other) = (TestTable::create().await, TestTable::create().await);
    let (here, there) = (orders(&table).build(), orders(&other).build());
    let (one, two) = (here.load("1").await.unwrap(), there.load("2").await.unwrap());
    let transaction = here.transaction(&one, &CommandContext::new(), [added(1)]).unwrap();
    let error = transaction.and(&there, &two, [added(2)]).unwrap_err();
    assert!(matches!(error, Error::Invalid(Invalid::PositionOfOtherTable { .. })), "{error}");
    assert_eq!((table.items().await, other.items().await), (0, 0));
}

#[tokio::test]
async fn a_transaction_without_events_is_nothing_to_do() {
    let table = TestTable::create().await;
    let repository = orders(&table).build();
    let loaded = repository.load("1").await.unwrap();
    table.wire.take();
    let nothing = repository.transaction(&loaded, &CommandContext::new(), []).unwrap().commit().await.unwrap();
    assert!(nothing.appends.is_empty() && !nothing.already_stored);
    assert!(table.wire.take().is_empty(), "nothing is sent");
}
