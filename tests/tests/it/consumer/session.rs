//! Sessions: messages come in order, also after a session that has ended in the middle, and the reason of an end is told by what to do.

use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, QueueDeleteOptions},
};
use streambox::message::MessageError;
use streambox_amqp::{ConnectionError, Link};
use streambox_consumer::{TlsFiles, broker::Session};
use streambox_tests::{
    PATIENCE,
    broker::{OwnBroker, shared_broker_url},
};
use tokio::time::timeout;

use super::broker::{Sessions, channel, event, messages, next, publish, queues, versions, wait_for_messages};

/// Less than is in the queue, so that a cancelled consumer would get its messages behind the rest.
const PREFETCH: u16 = 10;
const AHEAD: u64 = PREFETCH as u64;

#[tokio::test]
async fn c2_what_a_dropped_session_had_not_acknowledged_comes_again_in_order() {
    let (queues, url) = (queues(), shared_broker_url());
    queues.declare(&url, TlsFiles::default()).await.unwrap();
    publish(&url, &queues, "order-1", 1..=30).await;
    let mut sessions = Sessions::of(&url, &queues, PREFETCH);
    for acknowledged in [0, 2, 4, 6, 8] {
        let mut session = sessions.open().await;
        let [first, second] = [next(&mut session).await, next(&mut session).await];
        assert_eq!([&first, &second].map(|one| event(one).version), [acknowledged + 1, acknowledged + 2]);
        session.ack([first.tag, second.tag]).await.unwrap();
        // The last of them come only after the broker has got both acknowledgements.
        let rest = versions(&mut session, AHEAD).await;
        assert_eq!(rest, (acknowledged + 3..=acknowledged + 2 + AHEAD).collect::<Vec<_>>());
        drop(session);
    }
    let mut session = sessions.open().await;
    assert_eq!(versions(&mut session, AHEAD).await, (11..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn c2_what_a_closed_session_had_not_acknowledged_comes_again_in_order() {
    let (queues, url) = (queues(), shared_broker_url());
    queues.declare(&url, TlsFiles::default()).await.unwrap();
    publish(&url, &queues, "order-1", 1..=30).await;
    let mut sessions = Sessions::of(&url, &queues, PREFETCH);
    for _ in 0..5 {
        let mut session = sessions.open().await;
        assert_eq!(versions(&mut session, 5).await, [1, 2, 3, 4, 5]);
        session.close().await;
    }
    let mut session = sessions.open().await;
    assert_eq!(versions(&mut session, AHEAD).await, (1..=AHEAD).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_acknowledged_message_is_gone_and_a_rejected_one_is_a_dead_letter() {
    let (queues, url) = (queues(), shared_broker_url());
    queues.declare(&url, TlsFiles::default()).await.unwrap();
    let name = queues.name();
    let (connection, channel) = channel(&url).await;
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    channel.basic_publish("".into(), name.into(), options, b"hello", properties).await.unwrap();
    wait_for_messages(&url, name, 1).await;
    publish(&url, &queues, "order-1", 1..=1).await;

    let mut session = Sessions::of(&url, &queues, PREFETCH).open().await;
    let no_event = next(&mut session).await;
    assert_eq!(no_event.message, Err(MessageError::NotAnEvent));
    session.reject(no_event.tag).await.unwrap();
    let counted = next(&mut session).await;
    assert_eq!((event(&counted).version, event(&counted).payload.as_str()), (1, "{}"));
    session.ack([counted.tag]).await.unwrap();
    wait_for_messages(&url, &queues.dead_letters(), 1).await;
    session.close().await;
    assert_eq!(messages(&url, name).await, Some(0));
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test]
async fn c2_a_second_session_takes_over_in_order_when_the_first_has_ended() {
    let (queues, url) = (queues(), shared_broker_url());
    queues.declare(&url, TlsFiles::default()).await.unwrap();
    let mut first = Sessions::of(&url, &queues, PREFETCH).open().await;
    let mut second = Sessions::of(&url, &queues, PREFETCH).open().await;
    publish(&url, &queues, "order-1", 1..=30).await;
    assert_eq!(versions(&mut first, AHEAD).await, (1..=AHEAD).collect::<Vec<_>>());
    drop(first);
    // If the second one had got anything meanwhile, it would begin in the middle.
    assert_eq!(versions(&mut second, AHEAD).await, (1..=AHEAD).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_deleted_queue_ends_the_session_and_the_next_one_is_refused_with_what_to_do() {
    let (queues, url) = (queues(), shared_broker_url());
    queues.declare(&url, TlsFiles::default()).await.unwrap();
    let mut sessions = Sessions::of(&url, &queues, PREFETCH);
    let mut session = sessions.open().await;
    let (connection, channel) = channel(&url).await;
    channel.queue_delete(queues.name().into(), QueueDeleteOptions::default()).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
    let error = timeout(PATIENCE, session.next()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains(queues.name()) && error.to_string().contains("deleted"), "{error}");
    drop(session);

    let mut state = sessions.connector.status.subscribe();
    let refused = async { state.wait_for(|state| state.refusal.is_some()).await.unwrap().clone() };
    let state = tokio::select! {
        session = sessions.connector.connect(Session::open) => panic!("a session of no queue: {}", session.is_some()),
        state = timeout(PATIENCE, refused) => state.unwrap(),
    };
    let refusal = state.refusal.unwrap().to_string();
    assert!(refusal.contains("streambox-consumer queues declare") && refusal.contains(queues.name()), "{refusal}");
}

#[tokio::test]
async fn a_connection_that_an_operator_ends_is_reported_with_the_reason_and_opened_again() {
    let own = OwnBroker::start().await;
    let queues = queues();
    queues.declare(own.url(), TlsFiles::default()).await.unwrap();
    publish(own.url(), &queues, "order-1", 1..=30).await;
    let mut sessions = Sessions::of(own.url(), &queues, PREFETCH);
    let mut session = sessions.open().await;
    versions(&mut session, 3).await;
    own.ctl(&["close_all_connections", "maintenance"]).await;
    let error = timeout(PATIENCE, ended(&mut session)).await.unwrap();
    assert!(matches!(&error, ConnectionError::Forced(_)) && error.to_string().contains("maintenance"), "{error}");
    drop(session);

    let mut session = sessions.open().await;
    assert_eq!(versions(&mut session, AHEAD).await, (1..=AHEAD).collect::<Vec<_>>());
    let state = sessions.connector.status.subscribe();
    assert_eq!((state.borrow().link, state.borrow().reconnects), (Link::Connected, 1));

    own.kill().await;
    timeout(PATIENCE, ended(&mut session)).await.unwrap();
    drop(session);
    own.start_again().await;
    let mut session = sessions.open().await;
    assert_eq!(versions(&mut session, AHEAD).await, (1..=AHEAD).collect::<Vec<_>>());
    session.close().await;
}

async fn ended(session: &mut Session) -> ConnectionError {
    loop {
        if let Err(error) = session.next().await {
            return error;
        }
    }
}

#[tokio::test]
async fn each_consumer_has_priorities_of_its_own_at_partitions_and_none_at_a_single_queue() {
    let broker = OwnBroker::start().await;
    // A test is what the broker matches: the arguments of all its consumers.
    let all = "As = [proplists:get_value(arguments, C) || C <- rabbit_amqqueue:consumers_all(<<\"/\">>)], ";
    let single = queues();
    single.declare(broker.url(), TlsFiles::default()).await.unwrap();
    let session = Sessions::of(broker.url(), &single, PREFETCH).open().await;
    broker.ctl(&["eval", &format!("{all}[[]] = As.")]).await;
    session.close().await;

    let partitions = queues().partitions(16).unwrap();
    partitions.declare(broker.url(), TlsFiles::default()).await.unwrap();
    let mut of_one = Sessions::with_seed(broker.url(), &partitions, PREFETCH, 1);
    let mut of_another = Sessions::with_seed(broker.url(), &partitions, PREFETCH, 2);
    let (one, another) = (of_one.open().await, of_another.open().await);
    // Of those of 32 consumers few are the same.
    let distinct = "32 = length(As), Ps = [P || [{<<\"x-priority\">>, _, P}] <- As], 32 = length(Ps), \
                    true = length(lists:usort(Ps)) > 24.";
    broker.ctl(&["eval", &format!("{all}{distinct}")]).await;
    another.close().await;
    // A process that connects again has the same.
    let again = of_one.open().await;
    let same = "Ps = [P || [{<<\"x-priority\">>, _, P}] <- As], 32 = length(Ps), true = length(lists:usort(Ps)) =< 16.";
    broker.ctl(&["eval", &format!("{all}{same}")]).await;
    one.close().await;
    again.close().await;
}
