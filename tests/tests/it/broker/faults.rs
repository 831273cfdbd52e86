//! A broker that misbehaves in every way that a script can make it, with the relay as a process before it.
//!
//! Every test ends with everything confirmed, first deliveries in order, and nothing pending.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::sys::signal::Signal;
use streambox_relay::broker::{BrokerSettings, Link};
use streambox_tests::{
    PATIENCE,
    amqp::{Act, Moment, PASSWORD, ScriptedBroker, Seen, obedient},
    engine::{TestTable, stream},
    programs::{Finished, Process, halted_streams},
};

const STREAMS: u64 = 12;
const EVENTS_PER_STREAM: u64 = 4;
const ALL: u64 = STREAMS * EVENTS_PER_STREAM;

/// The stream whose messages a script treats in another way.
const POISON: &str = "order-3";

/// The connections that a relay makes if the first one ends without a word: one more for batches, and one for suspects if
/// anything of its batch was confirmed before. What comes first in a batch has nothing before it.
const CONNECTIONS_WITH_ONE_LOST: std::ops::RangeInclusive<u64> = 2..=3;

/// Far above what a confirm takes, far below a test's patience.
const CONFIRM_TIMEOUT: [&str; 2] = ["--confirm-timeout-ms", "1000"];

async fn filled() -> TestTable {
    let table = TestTable::create().await;
    for number in 0..STREAMS {
        table.fill(&stream(&format!("order-{number}")), EVENTS_PER_STREAM).await;
    }
    table
}

fn relay(table: &TestTable, broker: &ScriptedBroker, more: &[&str]) -> Process {
    let arguments = ["run", "--publishers", "1", "--poll-interval-ms", "50"].iter().chain(more);
    Process::start("streambox-relay", Some(table), Some(&broker.url()), arguments)
}

/// Runs the relay against a script until everything is confirmed, and stops it.
async fn survives(script: impl FnMut(&Moment<'_>) -> Vec<Act> + Send + 'static, more: &[&str]) -> (Seen, Finished) {
    let (table, broker) = (filled().await, ScriptedBroker::start(script).await);
    let relay = relay(&table, &broker, more);
    broker.wait_until(|seen| seen.has_all(ALL)).await;
    finish(relay, &table, &broker).await
}

/// Does one thing at each of these versions of one stream, when it comes for the first time, and is obedient otherwise. Which
/// batch an event is in depends on what was read by then; two versions of a stream are never in the same one.
fn at_versions(acts: impl IntoIterator<Item = (u64, Act)>) -> impl FnMut(&Moment<'_>) -> Vec<Act> + Send + 'static {
    let mut acts = HashMap::<_, _>::from_iter(acts);
    move |moment| match moment {
        Moment::Published(message) if message.stream == POISON => {
            acts.remove(&message.version).map_or_else(|| obedient(moment), |act| vec![act])
        }
        _ => obedient(moment),
    }
}

async fn finish(relay: Process, table: &TestTable, broker: &ScriptedBroker) -> (Seen, Finished) {
    relay.signal(Signal::SIGTERM);
    let finished = relay.finish().await;
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_eq!(table.pending().await, 0, "{}", finished.stderr);
    assert!(!finished.stderr.contains(PASSWORD), "the password is in the log:\n{}", finished.stderr);
    let seen = broker.wait_until(|seen| seen.ended == seen.connections).await;
    assert!(seen.has_all(ALL));
    (seen, finished)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_behaves_gets_every_event_once_and_a_farewell() {
    let (seen, finished) = survives(obedient, &[]).await;
    assert_eq!((seen.messages, seen.connections, seen.farewells), (ALL, 1, 1), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_confirms_that_come_late_and_in_reverse_order_are_told_apart() {
    let script = |moment: &Moment<'_>| match moment {
        Moment::Published(_) => Vec::new(),
        Moment::Idle { open, .. } => {
            open.iter().rev().map(|message| Act::Ack { tag: message.tag, multiple: false }).collect()
        }
        _ => obedient(moment),
    };
    let (seen, _) = survives(script, &[]).await;
    assert_eq!(seen.messages, ALL, "nothing was published twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_one_confirm_for_many_messages_counts_for_each() {
    let script = |moment: &Moment<'_>| match moment {
        Moment::Published(_) => Vec::new(),
        Moment::Idle { .. } => vec![Act::AckAll],
        _ => obedient(moment),
    };
    let (seen, _) = survives(script, &[]).await;
    assert_eq!(seen.messages, ALL, "nothing was published twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_a_confirm_that_never_comes_makes_the_whole_batch_suspect() {
    // The last message of the first batch of several; all others are confirmed.
    let mut kept = None;
    let script = move |moment: &Moment<'_>| match moment {
        Moment::Published(_) => Vec::new(),
        Moment::Idle { open, .. } => {
            if kept.is_none() && open.len() >= 2 {
                kept = open.last().cloned();
            }
            let others = open.iter().filter(|message| Some(*message) != kept.as_ref());
            others.map(|message| Act::Ack { tag: message.tag, multiple: false }).collect()
        }
        _ => obedient(moment),
    };
    let (seen, finished) = survives(script, &CONFIRM_TIMEOUT).await;
    assert_eq!(seen.connections, 3, "one was given up, one is for suspects");
    assert!(finished.stderr.contains("has confirmed nothing for 1s"), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_what_is_refused_is_published_again_before_what_comes_after_it() {
    let mut refused = HashSet::new();
    // Once each, a third of them; some in one nack for many.
    let script = move |moment: &Moment<'_>| match moment {
        Moment::Published(message)
            if message.number % 3 == 0 && refused.insert((message.stream.clone(), message.version)) =>
        {
            vec![Act::Nack { tag: message.tag, multiple: message.number % 2 == 0 }]
        }
        _ => obedient(moment),
    };
    let (seen, finished) = survives(script, &[]).await;
    assert_eq!(seen.connections, 1, "a refusal does not cause a reconnect");
    assert!(finished.stderr.contains("(nack)"), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g7_a_message_that_is_sent_back_halts_its_own_stream_whosever_confirm_it_comes_with() {
    // The last messages of a batch are sent back before the first ones are confirmed, and one confirm is for all of them:
    // lapin attaches the returned messages to other messages' confirms.
    let sent_back = Arc::new(Mutex::new(BTreeSet::new()));
    let script = {
        let sent_back = Arc::clone(&sent_back);
        move |moment: &Moment<'_>| match moment {
            Moment::Published(_) => Vec::new(),
            Moment::Idle { open, .. } if open.len() >= 2 && sent_back.lock().unwrap().is_empty() => {
                let back = &open[open.len().div_ceil(2)..];
                sent_back.lock().unwrap().extend(back.iter().map(|message| message.stream.clone()));
                let mut acts: Vec<_> = back.iter().rev().map(|message| Act::Return { tag: message.tag }).collect();
                acts.push(Act::Ack { tag: open[0].tag, multiple: false });
                acts.push(Act::AckAll);
                acts
            }
            Moment::Idle { .. } => vec![Act::AckAll],
            _ => obedient(moment),
        }
    };
    let (seen, finished) = survives(script, &[]).await;
    let sent_back = sent_back.lock().unwrap().clone();
    assert_eq!(halted_streams(&finished.stderr), sent_back, "{}", finished.stderr);
    assert_eq!(
        (seen.connections, seen.messages),
        (1, ALL + sent_back.len() as u64),
        "only what was sent back was published twice"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_a_channel_that_closes_in_the_middle_of_a_batch_says_nothing_of_its_messages() {
    let close = Act::CloseChannel(404, "NOT_FOUND - no exchange 'streambox' in vhost '/'");
    let (seen, finished) = survives(at_versions([(1, close.clone()), (3, close)]), &[]).await;
    assert_eq!(seen.connections, 4, "three for batches, one for suspects");
    assert!(finished.stderr.contains("no exchange 'streambox'"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("is halted"), "what passes alone was not the reason: {}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_a_connection_that_is_cut_or_closed_in_the_middle_of_a_batch_is_made_anew() {
    let close = Act::CloseConnection(320, "CONNECTION_FORCED - broker forced connection closure");
    let (seen, finished) = survives(at_versions([(1, Act::Reset), (3, close)]), &[]).await;
    // One for suspects, unless nothing was confirmed before the reset, or that has swallowed it.
    assert!([3, 4].contains(&seen.connections), "three for batches, one for suspects: {}", seen.connections);
    assert!(finished.stderr.contains("CONNECTION_FORCED"), "{}", finished.stderr);
    assert!(
        !finished.stderr.contains("is halted"),
        "a broker that ends connections blames nobody: {}",
        finished.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_what_is_no_frame_ends_the_connection() {
    let (seen, _) = survives(at_versions([(2, Act::Babble)]), &[]).await;
    assert!(
        CONNECTIONS_WITH_ONE_LOST.contains(&seen.connections),
        "two for batches, one for suspects: {}",
        seen.connections
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_a_peer_that_has_gone_without_a_word_is_noticed_by_its_heartbeats() {
    let (table, broker) = (filled().await, ScriptedBroker::start(at_versions([(2, Act::Fall)])).await);
    // The confirm timeout is far away.
    let url = format!("{}?heartbeat=1", broker.url());
    let arguments = ["run", "--publishers", "1", "--confirm-timeout-ms", "3600000"];
    let relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    broker.wait_until(|seen| seen.has_all(ALL)).await;
    let (seen, finished) = finish(relay, &table, &broker).await;
    assert!(
        CONNECTIONS_WITH_ONE_LOST.contains(&seen.connections),
        "two for batches, one for suspects: {}",
        seen.connections
    );
    assert!(finished.stderr.contains("two heartbeats"), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_a_blocked_broker_is_waited_for_on_the_same_connection() {
    let is_blocked = Arc::new(AtomicBool::new(true));
    let blocked = Arc::clone(&is_blocked);
    let script = move |moment: &Moment<'_>| match moment {
        Moment::Published(message) if message.number == 3 => vec![Act::Block],
        Moment::Published(message) if message.number < 3 => obedient(moment),
        // What had been on its way is confirmed only after the block has ended.
        Moment::Published(_) => Vec::new(),
        Moment::Idle { .. } if !blocked.load(Ordering::SeqCst) => vec![Act::AckAll],
        _ => obedient(moment),
    };
    let (table, broker) = (filled().await, ScriptedBroker::start(script).await);
    let mut relay = relay(&table, &broker, &CONFIRM_TIMEOUT);
    relay.logs("low on memory").await;
    // Time itself is what must do nothing here: three times the confirm timeout.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let seen = broker.seen();
    assert_eq!((seen.connections, seen.ended), (1, 0), "no new connection while the broker is blocked");
    let concluded = seen.confirmed.distinct();
    assert!(table.pending().await >= ALL - concluded, "nothing more is concluded than was confirmed: {concluded}");

    broker.act(Act::Unblock);
    is_blocked.store(false, Ordering::SeqCst);
    broker.act(Act::AckAll);
    broker.wait_until(|seen| seen.has_all(ALL)).await;
    let (seen, _) = finish(relay, &table, &broker).await;
    assert_eq!((seen.connections, seen.messages), (1, ALL), "nothing was published twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_told_to_stop_does_not_wait_for_a_broker_that_is_blocked() {
    let script = |moment: &Moment<'_>| match moment {
        Moment::Setup { .. } => vec![Act::Proceed, Act::Block],
        _ => obedient(moment),
    };
    let (table, broker) = (filled().await, ScriptedBroker::start(script).await);
    let mut relay = relay(&table, &broker, &["--drain-timeout-ms", "600000"]);
    relay.logs("low on memory").await;
    relay.signal(Signal::SIGTERM);
    let finished = relay.finish().await;
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_eq!(table.pending().await, ALL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_a_handshake_that_stalls_is_given_up_and_leaves_nothing_behind() {
    // Each at another point; the fifth connection is served.
    let script = |moment: &Moment<'_>| match moment {
        Moment::Hello { connection: 1 }
        | Moment::Login { connection: 2 }
        | Moment::Open { connection: 3 }
        | Moment::Setup { connection: 4 } => Vec::new(),
        _ => obedient(moment),
    };
    let (table, broker) = (filled().await, ScriptedBroker::start(script).await);
    let relay = relay(&table, &broker, &["--connect-timeout-ms", "1000"]);
    // The client has cut each of the four: the broker sees their ends although it has never answered.
    let seen = broker.wait_until(|seen| seen.ended == 4 && seen.has_all(ALL)).await;
    assert_eq!(seen.connections, 5);
    // A thread ends after its socket, and gives no signal.
    let only_one_is_left = async {
        while io_threads(&relay) != 1 {
            tokio::task::yield_now().await;
        }
    };
    let ended = tokio::time::timeout(PATIENCE, only_one_is_left).await;
    ended.expect("a thread of the AMQP library is left over for each connection that was given up");
    let (_, finished) = finish(relay, &table, &broker).await;
    assert!(finished.stderr.contains("connecting took longer than 1s"), "{}", finished.stderr);
    assert!(finished.stderr.contains("opening a channel took longer"), "{}", finished.stderr);
}

/// The threads that lapin holds, one for each connection.
fn io_threads(relay: &Process) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", relay.id())).expect("the relay runs");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "lapin-io-loop").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_refused_again_and_again_is_tried_less_and_less_often() {
    let script = |moment: &Moment<'_>| match moment {
        Moment::Published(message) if message.number == 1 => {
            vec![Act::CloseConnection(320, "CONNECTION_FORCED - maintenance")]
        }
        Moment::Open { connection: 2..=5 } => vec![Act::Reset],
        _ => obedient(moment),
    };
    let (seen, finished) = survives(script, &[]).await;
    assert_eq!(seen.connections, 6);
    let delays = finished.stderr.split("\"retry_in_ms\":").skip(1).map(|rest| rest.split([',', '}']).next().unwrap());
    let delays: Vec<u64> = delays.map(|delay| delay.parse().unwrap()).collect();
    // The fifth is 16 times the first, and jitter takes half of it at the most.
    assert!(delays.len() == 5 && delays[4] >= 800, "{delays:?}");
}

/// A broker that refuses one stream's messages in some way until it is healed, with a relay that has to publish all others
/// meanwhile, and the one afterwards.
async fn one_stream_stops(refusal: Vec<Act>, more: &[&str], says: &str) {
    let is_healed = Arc::new(AtomicBool::new(false));
    let healed = Arc::clone(&is_healed);
    let script = move |moment: &Moment<'_>| match moment {
        Moment::Published(message) if message.stream == POISON && !healed.load(Ordering::SeqCst) => refusal.clone(),
        _ => obedient(moment),
    };
    let (table, broker) = (filled().await, ScriptedBroker::start(script).await);
    let mut relay = relay(&table, &broker, more);
    broker.wait_until(|seen| seen.has_all(ALL - EVENTS_PER_STREAM)).await;
    relay.logs("is halted").await;
    is_healed.store(true, Ordering::SeqCst);
    broker.wait_until(|seen| seen.has_all(ALL)).await;
    let (_, finished) = finish(relay, &table, &broker).await;
    assert!(halted_streams(&finished.stderr).iter().eq([POISON]), "{}", finished.stderr);
    let line = finished.stderr.lines().find(|line| line.contains("is halted")).expect("a line names it");
    assert!(line.contains(says), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_a_message_that_closes_its_channel_halts_its_own_stream() {
    one_stream_stops(vec![Act::CloseChannel(406, "PRECONDITION_FAILED - too large")], &[], "PRECONDITION_FAILED").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_a_message_that_closes_its_connection_halts_its_own_stream() {
    one_stream_stops(vec![Act::CloseConnection(501, "FRAME_ERROR - too large")], &[], "FRAME_ERROR").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_a_message_that_cuts_its_connection_halts_its_own_stream() {
    one_stream_stops(vec![Act::Reset], &[], "a connection of its own").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_a_message_that_is_never_confirmed_halts_its_own_stream() {
    one_stream_stops(Vec::new(), &CONFIRM_TIMEOUT, "has confirmed nothing for 1s").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_told_to_stop_does_not_wait_for_a_batch_that_is_blocked() {
    let script = |moment: &Moment<'_>| match moment {
        Moment::Published(message) if message.number == 1 => vec![Act::Block],
        Moment::Published(_) => Vec::new(),
        _ => obedient(moment),
    };
    let (table, broker) = (filled().await, ScriptedBroker::start(script).await);
    let mut relay = relay(&table, &broker, &["--drain-timeout-ms", "600000"]);
    relay.logs("low on memory").await;
    relay.signal(Signal::SIGTERM);
    let finished = relay.finish().await;
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_eq!(table.pending().await, ALL);
    broker.wait_until(|seen| seen.ended == seen.connections).await;
}

/// On one thread, so that the publisher does nothing before the test first awaits.
#[tokio::test]
async fn a_publishers_state_can_be_watched() {
    let broker = ScriptedBroker::start(obedient).await;
    let uri = streambox_relay::broker::parse_url(&broker.url()).unwrap();
    let settings = Arc::new(BrokerSettings::new(uri, "streambox".into()));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let publisher = streambox_relay::broker::start(settings, stopped, Arc::default());
    let mut state = publisher.state();
    assert_eq!((state.borrow().link, state.borrow().was_connected), (Link::Connecting, false));

    let connected = state.wait_for(|state| state.link == Link::Connected).await.unwrap().clone();
    assert_eq!((connected.reconnects, connected.last_error), (0, None));
    broker.act(Act::Block);
    let blocked = state.wait_for(|state| state.link == Link::Blocked).await.unwrap().clone();
    assert_eq!(blocked.blocked_because.as_deref(), Some("low on memory"));
    broker.act(Act::Unblock);
    let unblocked = state.wait_for(|state| state.link == Link::Connected).await.unwrap().clone();
    assert_eq!((unblocked.reconnects, unblocked.blocked_because), (0, None));
    // Idle, so that nothing but the publisher's own care can notice it.
    broker.act(Act::CloseConnection(320, "CONNECTION_FORCED - bye"));
    let lost = state.wait_for(|state| state.last_error.is_some()).await.unwrap().clone();
    assert!(lost.since >= unblocked.since, "{lost:?}");
    let again = state.wait_for(|state| state.reconnects == 1).await.unwrap().clone();
    assert_eq!(again.link, Link::Connected);

    stop.send_replace(true);
    publisher.close().await;
    broker.wait_until(|seen| seen.ended == 2).await;
    assert_eq!(broker.seen().farewells, 1, "the first connection was closed by the broker, the second by us");
}

const LOGIN_REFUSED: Act =
    Act::CloseConnection(403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_refused_at_the_start_is_bad_configuration() {
    let script = |moment: &Moment<'_>| match moment {
        Moment::Login { .. } => vec![LOGIN_REFUSED],
        _ => obedient(moment),
    };
    let (table, broker) = (filled().await, ScriptedBroker::start(script).await);
    for command in ["run", "drain"] {
        let finished = Process::start("streambox-relay", Some(&table), Some(&broker.url()), [command]).finish().await;
        assert_eq!(finished.code(), Some(78), "{}", finished.stderr);
        for part in ["refuses the login of user \"relay\"", "--amqp-url", "ACCESS_REFUSED"] {
            assert!(finished.stderr.contains(part), "{part}: {}", finished.stderr);
        }
        assert!(!finished.stderr.contains(PASSWORD), "{}", finished.stderr);
    }
    assert_eq!(table.pending().await, ALL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_a_login_that_is_refused_later_is_tried_for_ever() {
    // A password that is being changed: the old one does not work any more, the new one not everywhere yet.
    let script = |moment: &Moment<'_>| match moment {
        Moment::Published(message) if message.number == 5 => vec![Act::Reset],
        Moment::Login { connection: 2..=4 } => vec![LOGIN_REFUSED],
        _ => obedient(moment),
    };
    let (seen, finished) = survives(script, &[]).await;
    // One more for suspects, unless the reset has swallowed every confirm that came before it.
    assert!([5, 6].contains(&seen.connections), "{} connections", seen.connections);
    assert!(finished.stderr.contains("refuses the login"), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_in_no_log_however_much_is_logged() {
    let script = |moment: &Moment<'_>| match moment {
        Moment::Published(message) if message.number == 5 => vec![Act::Reset],
        _ => obedient(moment),
    };
    // `finish` looks for it.
    survives(script, &["--log", "trace"]).await;
}
